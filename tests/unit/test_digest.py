"""Digests: what they name, that nothing stops them, and which attacks on the evidence are seen (protocol E15).

`SEEN` names the attacks that end in "NOT VERIFIED", and `UNTOLD` those that end in "verified, not confirmed", or that
no log can show. Attacks on chains alone are of tests/proof/mutations.py.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
import rfc8785

from lockstep.audit.confirmed import Since, Verdict
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError, LockstepError
from tests.support.evidence import AUDITOR, FOLDER, EvidenceWorld, MemoryDigestKey
from tests.support.memory import MemoryAuditLog, MemorySigner
from tests.unit.audit_case import heads

Act = Callable[[EvidenceWorld], object]
GOOD: tuple[Verdict, list[str]] = (Verdict.VERIFIED, [])
NOT_CONFIRMED: tuple[Verdict, list[str]] = (Verdict.NOT_CONFIRMED, [])


@cache
def _begun(hours: int, streams: tuple[str, ...]) -> EvidenceWorld:
    world = EvidenceWorld(*streams)
    world.hours(hours)
    return world


def begun(hours: int, *streams: str) -> EvidenceWorld:
    """A world that has rotated for so many hours."""
    return _begun(hours, streams).copied()


def documents(world: EvidenceWorld, stream: str = "aws") -> list[dict[str, Any]]:
    objects = world.digests[stream].objects
    return [json.loads(objects[name][0])["digest"] for name in sorted(objects)]


def test_a_digest_names_every_chain_the_one_before_and_the_other_clouds() -> None:
    world = EvidenceWorld()
    world.append("aws", "retired")
    world.hours(3)
    log = world.world.audit_logs["aws"]
    *_, before, newest = documents(world)
    assert {f: h["seq"] for f, h in newest["chains"].items()} == {FOLDER: max(log.entries), "retired": 1}
    assert newest["chains"][FOLDER]["at"] == round(log.at(max(log.entries)).timestamp() * 1000)
    assert newest["previous"]["hour"] == before["hour"]
    assert newest["other"]["digest"]["hour"] == newest["hour"]
    assert documents(world, "oci")[-1]["other"]["digest"]["hour"] == before["hour"]
    assert newest["problems"] == []
    last = log.entries.popitem()[0]
    del world.logs["aws"]["retired"]
    world.hours(rotating=False)
    told = ["chain retired is gone", f"chain {FOLDER}: entry {last} is gone, or was written again"]
    assert documents(world)[-1]["problems"] == told, "it says itself what is gone"


def test_the_digest_of_an_hour_is_made_once() -> None:
    """Also by two calls at once."""
    world = begun(2)
    world.until(15)
    folder, calls = world.digests["aws"], list[str]()

    def another(operation: str) -> None:
        if operation == "create" and not calls:
            calls.append(operation)
            world.make("aws")

    folder.faults.before = another
    assert not world.make("aws").problems
    kept = dict(folder.objects)
    assert len(kept) == 3
    assert world.make("aws").chains == 1
    assert folder.objects == kept
    assert world.verified()[0] is not Verdict.NOT_VERIFIED


@pytest.mark.parametrize("error", [AuditLogUnreachableError, AuditLogAccessDeniedError])
@pytest.mark.parametrize("operation", ["folders", "listed", "create", "numbers", "look", "verify"])
def test_all_chains_or_there_is_no_digest(operation: str, error: type[LockstepError]) -> None:
    """Nor does who may not verify MACs make one."""
    world = begun(2)
    world.until(0)
    world.rotate()

    def fail(asked: str) -> None:
        if asked == operation:
            raise error(code="down")

    for ports in (world.digests, world.chains, world.world.audit_logs, world.world.signers):
        ports["aws"].faults.before = fail
    with pytest.raises(error):
        world.make("aws")
    assert len(world.digests["aws"].objects) == 2


def test_a_digest_does_not_wait_for_the_other_cloud() -> None:
    world = begun(2)
    world.digests["oci"].faults.before = Mock(side_effect=AuditLogUnreachableError(code="down"))
    world.until(15)
    made = world.make("aws")
    assert made.confirms
    assert not made.problems
    assert made.unread.startswith("AuditLogUnreachableError")
    assert documents(world)[-1]["other"] == documents(world)[-2]["other"]
    assert world.verified()[0] is Verdict.UNREADABLE


# Honest states. Each is looked at after every hour, by who may verify MACs and by who may not.


def an_entry_that_lands_meanwhile(world: EvidenceWorld) -> None:
    def land(operation: str) -> None:
        if operation == "folders":
            world.append("aws", FOLDER)

    world.chains["aws"].faults.after = land
    world.hours(3)
    world.chains["aws"].faults.after = lambda _: None


def clocks_14_minutes_off(world: EvidenceWorld) -> None:
    for minutes in (14, -14):
        world.append("aws", FOLDER, at=world.world.clock.now() + timedelta(minutes=minutes))
        world.hours(1)


def a_cloud_down_and_a_job_that_fails(world: EvidenceWorld) -> None:
    for down, hours in (("oci", 8), ("aws", 3)):
        for _ in range(hours):
            world.hours(but=down)
            assert world.verified()[1] == []
        assert world.verified() == NOT_CONFIRMED
        world.hours(2)


def key_replaced_in_one_cloud_first(world: EvidenceWorld) -> None:
    world.keys["aws"] = MemoryDigestKey("aws-2")
    new = world.keys["aws"].public_key()
    world.known["aws"]["aws"].append(new)
    for _ in range(2):
        world.hours()
        assert world.verified()[1] == []
    for who in ("oci", AUDITOR):
        world.known[who]["aws"].append(new)
    world.hours(2)


def the_lock_record_is_lost(world: EvidenceWorld) -> None:
    heads(world.world, aws=None, oci=None)
    world.hours(3)


HONEST: tuple[Act, ...] = (
    an_entry_that_lands_meanwhile,
    clocks_14_minutes_off,
    a_cloud_down_and_a_job_that_fails,
    key_replaced_in_one_cloud_first,
    the_lock_record_is_lost,
)


@pytest.mark.parametrize("life", HONEST, ids=lambda life: life.__name__)
def test_an_honest_life_is_verified(life: Act) -> None:
    world = begun(3)
    life(world)
    for macs in (True, False):
        assert world.verified(macs=macs) == GOOD
        assert world.verified(world.newest_confirmed(), macs=macs) == GOOD


def test_a_verification_may_begin_while_both_clouds_rotate() -> None:
    world = EvidenceWorld()
    world.hours(2, rotating=False)
    world.until(5)
    world.make("oci")
    for minute, stream in ((7, "oci"), (9, "aws")):
        world.until(minute)
        world.rotate(stream)
    world.until(15)
    world.make("aws")
    here = Since("aws", f"{world.world.clock.now():%Y-%m-%dT%H}", "")
    world.hours(3)
    assert world.verified() == GOOD
    assert world.verified(here) == GOOD


def test_the_first_day() -> None:
    world = EvidenceWorld()
    assert world.verified() == NOT_CONFIRMED
    world.hours(1, rotating=False)
    assert world.verified() == NOT_CONFIRMED
    world.hours(1)
    assert world.verified() == GOOD


def test_one_cloud_alone_another_one_that_joins_and_one_that_leaves() -> None:
    world = begun(4, "aws")
    assert world.verified() == GOOD
    world.streams = ("aws", "oci")
    assert world.verified() == NOT_CONFIRMED
    world.hours(1)
    assert world.verified() == GOOD
    world.until(0)
    world.rotate("oci")
    world.hours(2)
    assert world.world.audit_logs["oci"].entries
    world.streams = ("aws",)
    assert world.verified() == NOT_CONFIRMED
    world.hours(1)
    assert world.verified() == GOOD, "what OCI rotated is on no record that is read"


def test_hours_without_a_digest_are_named() -> None:
    world = begun(2)
    lacking = [f"{world.world.clock.now() + timedelta(hours=n):%Y-%m-%dT%H}" for n in (1, 2)]
    world.hours(2, but="oci")
    world.hours(1)
    notes = world.verifier().digests["oci"].notes
    assert notes == [f"2 hours have no digest, the last: {', '.join(lacking)}"]


def test_what_is_older_than_the_retention_may_go() -> None:
    world = EvidenceWorld()
    world.append("oci", "retired")
    world.retention = timedelta(hours=10)
    for _ in range(15):
        world.hours()
        oldest = world.world.clock.now() - world.retention
        for stream in world.streams:
            for log in world.logs[stream].values():
                for number in [n for n in log.entries if log.at(n) < oldest]:
                    del log.entries[number]
            folder = world.digests[stream]
            folder.objects = {n: kept for n, kept in folder.objects.items() if kept[1] >= oldest}
        assert world.verified() in (GOOD, NOT_CONFIRMED), world.verified()
    assert world.verified() == GOOD


# Attacks, by name: who can, and after how many hours it is seen at the latest

BEFORE = 8
"""Hours that the world has rotated when an attack begins."""


class Attack(NamedTuple):
    """Something that somebody does to the evidence.

    Attributes:
        by: Who can.
        do: Does it, and lets the time pass as far as the attack has a say in it.
        told: A part of a problem; empty where there is none.
        macs: Whether who verifies may verify MACs. Who may not sees it an hour later.
    """

    by: str
    do: Act
    told: str = ""
    macs: bool = True


def log_of(world: EvidenceWorld, folder: str = FOLDER) -> MemoryAuditLog:
    return world.logs["aws"][folder]


def cut(world: EvidenceWorld) -> None:
    """Remove without a trace what was written in the last hours, as in a bucket that is not locked."""
    since = world.world.clock.now() - timedelta(hours=4)
    log, folder = log_of(world), world.digests["aws"]
    for number in [n for n in log.entries if log.at(n) > since]:
        del log.entries[number]
    folder.objects = {name: kept for name, kept in folder.objects.items() if kept[1] <= since}
    heads(world.world, aws=None)


def signed(document: dict[str, Any], key: MemoryDigestKey, *, signature: str = "") -> bytes:
    """A digest as who holds a key can sign it."""
    canonical = rfc8785.dumps(document)
    place = f"lockstep digest of eu-central-1/locks, {document['stream']}, {document['hour']}: {hash_of(document)}\n"
    made = base64.b64encode(key.sign(hashlib.sha256(place.encode()).digest())).decode()
    return b'{"digest":' + canonical + b',"signature":"' + (signature or made).encode() + b'"}'


def hash_of(document: dict[str, Any]) -> str:
    return hashlib.sha256(rfc8785.dumps(document)).hexdigest()


def newest(world: EvidenceWorld, stream: str = "aws") -> tuple[str, dict[str, Any]]:
    """The name of a cloud's newest digest, and what it says."""
    name = max(n for n in world.digests[stream].objects if n[:1].isdigit())
    document: dict[str, Any] = json.loads(world.digests[stream].objects[name][0])["digest"]
    return name, document


def put(world: EvidenceWorld, name: str, body: bytes, stream: str = "aws") -> None:
    """Exchange a digest's bytes."""
    world.digests[stream].objects[name] = (body, world.digests[stream].objects[name][1])


def forge(
    world: EvidenceWorld, stream: str = "aws", *, key: str = "", signature: str = "", **changes: object
) -> None:
    """Put a digest of another content in the place of the newest one."""
    name, document = newest(world, stream)
    put(world, name, signed(document | changes, MemoryDigestKey(key or stream), signature=signature), stream)


def entry(folder: str = FOLDER, *, by: str = "", **fields: Any) -> Act:  # noqa: ANN401 - of any event
    """Somebody appends an entry that is signed with a key."""
    signer = MemorySigner(by) if by else None
    return lambda world: world.append("aws", folder, signer=signer, **fields)


# What each attack does.


def back_date(world: EvidenceWorld, *, object_too: bool = False) -> None:
    at = world.world.clock.now() - timedelta(hours=6)
    number = world.append("aws", FOLDER, at=at)
    if object_too:
        log_of(world).dates[number] = at


def fast_forward(world: EvidenceWorld) -> None:
    name, document = newest(world)
    at = world.digests["aws"].objects[name][1]
    ahead = at + timedelta(hours=3)
    document |= {"hour": f"{ahead:%Y-%m-%dT%H}", "began": round(ahead.timestamp() * 1000)}
    world.digests["aws"].objects[f"{document['hour']}.json"] = signed(document, MemoryDigestKey("aws")), at


def fork(world: EvidenceWorld) -> None:
    _, document = newest(world)
    world.hours()
    forge(world, previous=document["previous"])


def replace_a_confirmed_one(world: EvidenceWorld) -> None:
    world.hours()
    objects = world.digests["aws"].objects
    del objects[max(objects)]
    forge(world, problems=["x"])


def copy_bucket(world: EvidenceWorld) -> None:
    now = world.world.clock.now()
    for log in world.logs["oci"].values():
        log.dates.update(dict.fromkeys(log.entries, now))
    folder = world.digests["oci"]
    folder.objects = {name: (body, now) for name, (body, _) in folder.objects.items()}


def delete_everything(world: EvidenceWorld, *streams: str) -> None:
    for stream in streams or world.streams:
        world.logs[stream].clear()
        world.digests[stream].objects.clear()


def swap_the_key(world: EvidenceWorld) -> None:
    world.keys["aws"] = MemoryDigestKey("attacker")
    world.hours(4)


def swap_the_key_and_the_past(world: EvidenceWorld) -> None:
    world.keys["aws"] = MemoryDigestKey("attacker")
    previous = None
    for name, (body, _) in sorted(world.digests["aws"].objects.items()):
        document = json.loads(body)["digest"] | {"previous": previous, "chains": {}}
        put(world, name, signed(document, world.keys["aws"]))
        previous = {"hour": document["hour"], "hash": hash_of(document)}


def accuse(world: EvidenceWorld, *, by_hash: bool) -> None:
    _, document = newest(world, "oci")
    hour, other = document["hour"], document["other"]
    digest = {"hour": hour, "hash": "a" * 64} if by_hash else other["digest"] | {"hour": hour}
    forge(world, "oci", other=other | {"digest": digest})


def squat(world: EvidenceWorld) -> None:
    now = world.world.clock.now()
    world.digests["aws"].objects[f"{now + timedelta(hours=1):%Y-%m-%dT%H}.json"] = (b"{}", now)
    world.hours()


def junk(world: EvidenceWorld) -> None:
    log, now = log_of(world), world.world.clock.now()
    for number in range(3_000):
        log.entries[BEFORE + 1 + number] = (b"{}", {})
        world.digests["aws"].objects[f"junk-{number}"] = (b"", now)
        folder = f"junk-{number % 50}"
        world.logs["aws"].setdefault(folder, MemoryAuditLog("aws", folder)).plant("x")
    world.hours()
    assert newest(world)[1]["chains"][FOLDER]["seq"] == BEFORE + 3_001, (
        "the next entry steps over, and the digest has it"
    )


def left_the_plan(world: EvidenceWorld, *, whole: bool) -> None:
    for _ in range(2):
        world.append("aws", "retired")
    world.hours()
    if whole:
        del world.logs["aws"]["retired"]
    else:
        del log_of(world, "retired").entries[2]


def spoil_the_signature(world: EvidenceWorld) -> None:
    forge(world, "oci", signature="AAAA")
    world.hours(1)


def heads_said_to_be_old(world: EvidenceWorld) -> None:
    world.rotate()
    world.hours(1)
    _, document = newest(world)
    forge(world, chains={folder: head | {"at": 0} for folder, head in document["chains"].items()})
    del log_of(world).entries[max(log_of(world).entries)]
    heads(world.world, aws=None)


def forge_as_of_now(world: EvidenceWorld) -> None:
    world.append("aws", FOLDER)
    world.hours(rotating=False)


AWS, OCI = "administrator of AWS", "administrator of OCI"
ROLE, PUTS, AUDIT = "digest's role", "who may put objects", "Audit role"
SEEN = {
    "back-date into a gap": Attack(AWS, back_date, "dated more than 15 minutes"),
    "back-date the object too": Attack(
        "the store itself", lambda w: back_date(w, object_too=True), "which lacks it"
    ),
    "fast-forward, a digest dated ahead of its object": Attack(ROLE, fast_forward, "minutes from its object"),
    "fork": Attack(ROLE, fork, "go on from the same one"),
    "replace a confirmed digest": Attack(f"{ROLE}, bucket not locked", replace_a_confirmed_one, "is gone"),
    "cut": Attack(AWS, cut, "oci has confirmed it"),
    "lose a bucket": Attack(OCI, lambda w: delete_everything(w, "oci"), "is gone"),
    "copy a bucket": Attack(OCI, copy_bucket, "minutes from its object"),
    "swap of a key, with the past": Attack(AWS, swap_the_key_and_the_past, "is gone"),
    "omit a chain": Attack(ROLE, lambda w: forge(w, chains={}), "which lacks it"),
    "accuse falsely": Attack(
        f"{ROLE} of OCI", lambda w: accuse(w, by_hash=True), "digests oci: the digest of"
    ),
    "accuse by another hour": Attack(
        f"{ROLE} of OCI", lambda w: accuse(w, by_hash=False), "digests oci: the digest of"
    ),
    "unsigned digest": Attack(AWS, lambda w: put(w, newest(w)[0], b"{}"), "is no digest"),
    "name of the next digest taken": Attack(AWS, squat, "was taken by what is none"),
    "junk names": Attack(PUTS, junk, "objects are no digests"),
    "unsigned object in an entry's place": Attack(
        f"diagnostician, {PUTS}", entry(by="nobodys"), "MAC that does not match"
    ),
    "the same, seen without MACs": Attack(PUTS, entry(by="nobodys"), "entry", macs=False),
    "left the plan": Attack(AWS, lambda w: left_the_plan(w, whole=False), "aws: entry 2: is gone"),
    "left the plan, whole": Attack(AWS, lambda w: left_the_plan(w, whole=True), "aws: entry 2: is gone"),
    "bridge of a digest with a spoiled signature": Attack(OCI, spoil_the_signature, "no key of the plan"),
    "a chain that no digest names": Attack(PUTS, entry("invented", by="nobodys"), "lacks it", macs=False),
    "heads said to be old": Attack(f"{ROLE}, bucket not locked", heads_said_to_be_old, "is gone"),
    "rewrite": Attack(
        "who may overwrite",
        lambda w: log_of(w).overwrite(3, log_of(w).entries[3][0]),
        "written more than once",
    ),
}
STALE, UNSEEN = Verdict.NOT_CONFIRMED, Verdict.VERIFIED
UNTOLD = {
    "deny, the own digest": (STALE, Attack(AWS, lambda w: w.hours(4, but="aws"))),
    "deny, the other's": (STALE, Attack(AWS, lambda w: w.hours(4, but="oci"))),
    "swap of a key": (STALE, Attack(AWS, swap_the_key)),
    "delete everything": (STALE, Attack("administrators of both clouds", delete_everything)),
    "what was never written": (UNSEEN, Attack(AUDIT, lambda w: w.hours(rotating=False))),
    "what is forged as of now": (UNSEEN, Attack(AUDIT, forge_as_of_now)),
}


@pytest.mark.parametrize("name", SEEN)
def test_an_attack_is_seen_until_a_verification_begins_after_it(name: str) -> None:
    """A problem does not grow, and a digest after it is the way past it."""
    attack, world = SEEN[name], begun(BEFORE)
    attack.do(world)
    if not attack.macs:
        world.hours(rotating=False)
    verdict, told = world.verified(macs=attack.macs)
    assert verdict is Verdict.NOT_VERIFIED
    assert any(attack.told in problem for problem in told), told
    world.keys["aws"] = MemoryDigestKey("aws")
    world.hours(3)
    _, first = world.verified()
    world.hours(4)
    _, told = world.verified()
    assert len(told) <= len(first) + 1, told
    assert world.verified(world.newest_confirmed()) == (Verdict.VERIFIED, []), told


@pytest.mark.parametrize(("verdict", "attack"), UNTOLD.values(), ids=UNTOLD)
def test_what_digests_do_not_tell(verdict: Verdict, attack: Attack) -> None:
    """What is kept from a digest is not confirmed, and what no log can show is verified."""
    world = begun(BEFORE)
    attack.do(world)
    assert world.verified() == (verdict, [])


@pytest.mark.parametrize(
    ("act", "stream", "told"),
    [
        (cut, "aws", "is gone, which the other cloud has confirmed"),
        (lambda world: forge(world, "oci", problems=["x"]), "oci", "is not"),
        (lambda world: forge(world, "oci", problems=["x"]), "aws", "does not go on from"),
    ],
)
def test_a_digest_says_itself_what_became_of_the_ones_before(act: Act, stream: str, told: str) -> None:
    world = begun(BEFORE)
    act(world)
    world.hours(1)
    assert told in " ".join(documents(world, stream)[-1]["problems"])


NO_DIGEST = (b'"', b"{}", b'{"digest":{},"signature":1}', b'{"digest":{},"signature":"\xc3\xa9"}')


@pytest.mark.parametrize("body", [*NO_DIGEST, None], ids=str)
def test_whatever_stands_in_the_place_of_a_digest_stops_nobody(body: bytes | None) -> None:
    world = begun(BEFORE)
    for stream in world.streams:
        if body is None:
            forge(world, stream, signature="\u00e9")
        else:
            for name in sorted(world.digests[stream].objects)[-2:]:
                put(world, name, body, stream)
    left = sorted(world.digests["aws"].objects)[-3 if body else -2]
    world.hours(1)
    assert newest(world)[1]["previous"]["hour"] in left
    assert [len(world.digests[stream].objects) for stream in world.streams] == [BEFORE + 1] * 2
    told = Verdict.NOT_VERIFIED if body else Verdict.VERIFIED
    assert world.verified()[0] is told, "what is signed by nobody, nobody has confirmed"


def test_an_entry_whose_gap_is_none_stops_neither_digest_nor_verification() -> None:
    world = begun(BEFORE)
    number, metadata = max(log_of(world).entries) + 1, log_of(world).entries[BEFORE][1]
    chain = json.loads(metadata["chain"]) | {"stepped_over": [], "seq": number}
    log_of(world).entries[number] = (b"{}", {**metadata, "chain": rfc8785.dumps(chain).decode()})
    world.hours(1)
    assert newest(world)[1]["chains"][FOLDER]["seq"] == number + 1
    assert world.verified()[0] is Verdict.NOT_VERIFIED


WAYS: tuple[Callable[[bytes, int], bytes], ...] = (
    lambda body, at: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :],
    lambda body, at: body[:at] + bytes([body[at] ^ 0x20]) + body[at + 1 :],
    lambda body, at: body[:at] + b"0" + body[at:],
    lambda body, at: body[:at] + body[at + 1 :],
    lambda body, at: body[:at],
)
"""Flip a bit, or the case, of a byte; put one before it; leave it out; cut there. They take turns."""


def test_every_byte_of_a_confirmed_digest_counts() -> None:
    world = EvidenceWorld()
    world.hours(3)
    name = sorted(world.digests["aws"].objects)[1]
    body = world.digests["aws"].objects[name][0]
    for place in range(0, len(body), 3):
        put(world, name, changed := WAYS[place % len(WAYS)](body, place))
        assert any(d.problems for d in world.verifier().digests.values()), (place, changed)
    put(world, name, json.dumps(json.loads(body)).encode())
    assert any(d.problems for d in world.verifier().digests.values()), (
        "the same in another spelling is no digest"
    )
