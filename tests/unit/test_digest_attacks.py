"""Attacks on the evidence, by name: who can, and after how many hours it is seen at the latest (protocol E15).

`SEEN` names what ends in "NOT VERIFIED", `STALE` what ends in "verified, not confirmed", and `UNSEEN` what no log can
show.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import rfc8785

from lockstep.audit.confirmed import Verdict
from lockstep.protocol.model import ChainHead
from tests.support.evidence import FOLDER, EvidenceWorld, MemoryDigestKey
from tests.support.memory import MemoryAuditLog, MemorySigner
from tests.unit.audit_case import heads

BEFORE = 8
"""Hours that the world has rotated when an attack begins."""
Act = Callable[[EvidenceWorld], object]


@dataclass(frozen=True)
class Attack:
    """Something that somebody does to the evidence.

    Attributes:
        by: Who can.
        do: Does it, and lets the time pass as far as the attack has a say in it.
        told: A part of a problem; empty where there is none.
        hours: After how many more hours it is seen.
        macs: Whether who verifies may verify MACs.
    """

    by: str
    do: Act
    told: str = ""
    hours: int = 0
    macs: bool = True


def log_of(world: EvidenceWorld, stream: str = "aws", folder: str = FOLDER) -> MemoryAuditLog:
    return world.logs[stream][folder]


def cut(world: EvidenceWorld, hours: int, stream: str = "aws") -> None:
    """Remove without a trace what was written in the last hours, as in a bucket that is not locked."""
    since = world.world.clock.now() - timedelta(hours=hours)
    log = log_of(world, stream)
    for number in [n for n in log.entries if log.at(n) > since]:
        del log.entries[number]
    folder = world.digests[stream]
    folder.objects = {name: kept for name, kept in folder.objects.items() if kept[1] <= since}
    heads(world.world, **{stream: None})


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


def suppress(world: EvidenceWorld) -> None:
    head = ChainHead(seq=9_999, hash="f" * 64)
    for _ in range(10):
        heads(world.world, aws=head, oci=head)
        world.hours(rotating=False)
    heads(world.world, aws=None, oci=None)


def back_date(world: EvidenceWorld, *, object_too: bool = False) -> None:
    at = world.world.clock.now() - timedelta(hours=6)
    number = world.append("aws", FOLDER, at=at)
    if object_too:
        log_of(world).dates[number] = at


def freeze(world: EvidenceWorld) -> None:
    frozen = dict(world.digests["oci"].objects)
    for _ in range(4):
        world.hours()
        world.digests["oci"].objects = dict(frozen)


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


def cut_the_other(world: EvidenceWorld) -> None:
    world.append("oci", FOLDER)
    world.hours(2)
    cut(world, 4, "oci")


def cut_the_newest(world: EvidenceWorld) -> None:
    world.until(50)
    world.rotate()
    cut(world, 0)
    del log_of(world).entries[max(log_of(world).entries)]


def replay(world: EvidenceWorld) -> None:
    entries, objects = dict(log_of(world).entries), dict(world.digests["aws"].objects)
    world.hours(3)
    log_of(world).entries, world.digests["aws"].objects = entries, objects
    heads(world.world, aws=None)


def delete_everything(world: EvidenceWorld) -> None:
    for stream in world.streams:
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
        del log_of(world, folder="retired").entries[2]


def bridge_of_a_spoiled_digest(world: EvidenceWorld) -> None:
    name, kept = newest(world, "oci")
    at = world.digests["oci"].objects[name][1]
    world.until(5)
    log_of(world, "oci").entries.clear()
    world.append("oci", FOLDER)
    other = newest(world)
    signature = json.loads(world.digests["aws"].objects[other[0]][0])["signature"]
    now = world.world.clock.now()
    new = kept | {
        "began": round(now.timestamp() * 1000),
        "hour": f"{now:%Y-%m-%dT%H}",
        "previous": {"hour": kept["hour"], "hash": hash_of(kept)},
        "other": {"digest": {"hour": other[1]["hour"], "hash": hash_of(other[1])}, "signature": signature},
        "chains": {},
    }
    key = MemoryDigestKey("oci")
    world.digests["oci"].objects = {
        name: (signed(kept, key, signature="AAAA"), at),
        f"{new['hour']}.json": (signed(new, key), now),
    }


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
    "freeze": Attack(OCI, freeze, "is gone"),
    "fast-forward, a digest dated ahead of its object": Attack(ROLE, fast_forward, "minutes from its object"),
    "fork": Attack(ROLE, fork, "go on from the same one"),
    "replace a confirmed digest": Attack(f"{ROLE}, bucket not locked", replace_a_confirmed_one, "is gone"),
    "cut": Attack(AWS, lambda w: cut(w, 4), "oci has confirmed it"),
    "cut in OCI": Attack(OCI, cut_the_other, "aws has confirmed it"),
    "replay after a restore": Attack(AWS, replay, "is gone"),
    "swap of a key, with the past": Attack(AWS, swap_the_key_and_the_past, "is gone"),
    "omit a chain": Attack(ROLE, lambda w: forge(w, chains={}), "which lacks it"),
    "accuse falsely": Attack(
        f"{ROLE} of OCI", lambda w: accuse(w, by_hash=True), "digests oci: the digest of"
    ),
    "accuse by another hour": Attack(
        f"{ROLE} of OCI", lambda w: accuse(w, by_hash=False), "digests oci: the digest of"
    ),
    "order key signs a run": Attack("operator", entry(by="aws-orders"), "MAC that does not match"),
    "run key signs an order": Attack(
        AUDIT, entry(by="aws-key", entry_id="order-1"), "MAC that does not match"
    ),
    "unsigned digest": Attack(AWS, lambda w: put(w, newest(w)[0], b"{}"), "is no digest"),
    "name of the next digest taken": Attack(AWS, squat, "was taken by what is none"),
    "junk names": Attack(PUTS, junk, "objects are no digests"),
    "unsigned object in an entry's place": Attack(
        f"diagnostician, {PUTS}", entry(by="nobodys"), "MAC that does not match"
    ),
    "the same, seen without MACs": Attack(PUTS, entry(by="nobodys"), "entry", hours=1, macs=False),
    "left the plan": Attack(AWS, lambda w: left_the_plan(w, whole=False), "aws: entry 2: is gone"),
    "left the plan, whole": Attack(AWS, lambda w: left_the_plan(w, whole=True), "aws: entry 2: is gone"),
    "bridge of a digest with a spoiled signature": Attack(
        OCI, bridge_of_a_spoiled_digest, "no key of the plan"
    ),
    "an order that is no text": Attack(
        "operator",
        entry(entry_id="order-1", unmapped={"lockstep": {"order": 1, "generation": 9}}),
        "another kind than its event",
    ),
    "an event dated otherwise": Attack(
        AUDIT, entry(entry_id="run-forged", start_time=0), "names another time"
    ),
    "a chain that no digest names": Attack(PUTS, entry("invented", by="nobodys"), "lacks it", 1, macs=False),
    "heads said to be old": Attack(f"{ROLE}, bucket not locked", heads_said_to_be_old, "is gone"),
    "hide by a marker": Attack("who may delete", lambda w: log_of(w).delete(3), "hidden by a delete marker"),
    "rewrite": Attack(
        "who may overwrite",
        lambda w: log_of(w).overwrite(3, log_of(w).entries[3][0]),
        "written more than once",
    ),
}
STALE = {
    "deny, the own digest": Attack(AWS, lambda w: w.hours(4, but="aws")),
    "deny, the other's": Attack(AWS, lambda w: w.hours(4, but="oci")),
    "swap of a key": Attack(AWS, swap_the_key),
    "delete everything": Attack("administrators of both clouds", delete_everything),
}
UNSEEN = {
    "suppress by the lock record": Attack("who may write the lock record", suppress),
    "cut what no digest has named yet": Attack(AWS, cut_the_newest),
    "what was never written": Attack(AUDIT, lambda w: w.hours(rotating=False)),
    "what is forged as of now": Attack(AUDIT, forge_as_of_now),
}


def begun() -> EvidenceWorld:
    world = EvidenceWorld()
    world.hours(BEFORE)
    return world


@pytest.mark.parametrize("name", SEEN)
def test_an_attack_is_seen_until_a_verification_begins_after_it(name: str) -> None:
    """A problem does not grow, and a digest after it is the way past it."""
    attack, world = SEEN[name], begun()
    attack.do(world)
    if attack.hours:
        world.hours(attack.hours, rotating=False)
    verdict, told = world.verified(macs=attack.macs)
    assert verdict is Verdict.NOT_VERIFIED
    assert any(attack.told in problem for problem in told), told
    world.keys["aws"] = MemoryDigestKey("aws")
    world.hours(3)
    _, first = world.verified()
    world.hours(6)
    _, told = world.verified()
    assert len(told) <= len(first) + 1, told
    assert world.verified(world.newest_confirmed()) == (Verdict.VERIFIED, []), told


@pytest.mark.parametrize("name", [*STALE, *UNSEEN])
def test_what_is_kept_from_a_digest_is_not_confirmed_and_what_no_log_can_show_is_verified(name: str) -> None:
    world = begun()
    (STALE | UNSEEN)[name].do(world)
    assert world.verified() == (Verdict.NOT_CONFIRMED if name in STALE else Verdict.VERIFIED, [])


NOT_DIGESTS = (b'"', b"{}", b'{"digest":{},"signature":1}', b'{"digest":{},"signature":"\xc3\xa9"}')


@pytest.mark.parametrize("body", NOT_DIGESTS)
def test_whatever_stands_in_the_place_of_a_digest_stops_nobody(body: bytes) -> None:
    world = begun()
    for stream in world.streams:
        put(world, newest(world, stream)[0], body, stream)
    world.hours(1)
    assert [len(world.digests[stream].objects) for stream in world.streams] == [BEFORE + 1] * 2
    assert world.verified()[0] is Verdict.NOT_VERIFIED


def test_a_signature_that_is_no_base64_is_none() -> None:
    world = begun()
    forge(world, signature="\u00e9")
    world.hours(1)
    assert [len(world.digests[stream].objects) for stream in world.streams] == [BEFORE + 1] * 2
    assert world.verified() == (Verdict.VERIFIED, []), "nobody has confirmed it yet"


def test_an_entry_whose_gap_is_none_stops_neither_digest_nor_verification() -> None:
    world = begun()
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
    for place in range(len(body)):
        put(world, name, changed := WAYS[place % len(WAYS)](body, place))
        assert any(d.problems for d in world.verifier().digests.values()), (place, changed)
