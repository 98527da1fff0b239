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
from tests.support.memory import MemorySigner
from tests.unit.audit_case import heads

BEFORE = 8
"""Hours that the world has rotated when an attack begins."""


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
    do: Callable[[EvidenceWorld], None]
    told: str = ""
    hours: int = 0
    macs: bool = True


def log_of(world: EvidenceWorld, stream: str = "aws") -> Any:  # noqa: ANN401 - a double with its own attributes
    return world.logs[stream][FOLDER]


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


def forge(
    world: EvidenceWorld, stream: str = "aws", *, key: str = "", ahead: int = 0, **changes: object
) -> None:
    """Put a digest of another content in the place of the newest one, or of an hour ahead."""
    name, document = newest(world, stream)
    document |= changes
    at = world.digests[stream].objects[name][1]
    if ahead:
        moment = at + timedelta(hours=ahead)
        name, document["hour"] = f"{moment:%Y-%m-%dT%H}.json", f"{moment:%Y-%m-%dT%H}"
        document["began"] = round(moment.timestamp() * 1000)
    world.digests[stream].objects[name] = (signed(document, MemoryDigestKey(key or stream)), at)


# What each attack does.


def suppress(world: EvidenceWorld) -> None:
    head = ChainHead(seq=9_999, hash="f" * 64)
    for _ in range(10):
        heads(world.world, aws=head, oci=head)
        world.hours(rotating=False)
    heads(world.world, aws=None, oci=None)


def deny_own(world: EvidenceWorld) -> None:
    world.hours(4, but="aws")


def deny_other(world: EvidenceWorld) -> None:
    world.hours(4, but="oci")


def back_date(world: EvidenceWorld) -> None:
    world.append("aws", FOLDER, at=world.world.clock.now() - timedelta(hours=6))


def back_date_the_object(world: EvidenceWorld) -> None:
    number = world.append("aws", FOLDER, at=world.world.clock.now() - timedelta(hours=6))
    log_of(world).dates[number] = world.world.clock.now() - timedelta(hours=6)


def freeze(world: EvidenceWorld) -> None:
    frozen = dict(world.digests["oci"].objects)
    for _ in range(4):
        world.hours()
        world.digests["oci"].objects = dict(frozen)


def fast_forward(world: EvidenceWorld) -> None:
    forge(world, ahead=3)


def fork(world: EvidenceWorld) -> None:
    name, _ = newest(world)
    kept = world.digests["aws"].objects[name]
    world.hours()
    forge(world, previous=json.loads(kept[0])["digest"]["previous"])


def replace_a_confirmed_one(world: EvidenceWorld) -> None:
    world.hours()
    names = sorted(world.digests["aws"].objects)
    _, document = newest(world)
    before = json.loads(world.digests["aws"].objects[names[-2]][0])["digest"]
    at = world.digests["aws"].objects[names[-2]][1]
    world.digests["aws"].objects[names[-2]] = (
        signed(before | {"problems": ["x"]}, MemoryDigestKey("aws")),
        at,
    )
    del world.digests["aws"].objects[names[-1]]
    assert document


def cut_what_is_confirmed(world: EvidenceWorld) -> None:
    cut(world, 4)


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
    folder, previous = world.digests["aws"], None
    for name, (body, at) in sorted(folder.objects.items()):
        document = json.loads(body)["digest"] | {"previous": previous, "chains": {}}
        folder.objects[name] = (signed(document, world.keys["aws"]), at)
        previous = {"hour": document["hour"], "hash": hash_of(document)}


def omit(world: EvidenceWorld) -> None:
    forge(world, chains={})


def accuse(world: EvidenceWorld) -> None:
    _, document = newest(world, "oci")
    forge(world, "oci", other=document["other"] | {"digest": {"hour": document["hour"], "hash": "a" * 64}})


def order_key_signs_a_run(world: EvidenceWorld) -> None:
    world.append("aws", FOLDER, signer=world.world.signers["aws"].orders)


def run_key_signs_an_order(world: EvidenceWorld) -> None:
    world.append("aws", FOLDER, signer=MemorySigner("aws-key"), entry_id="order-1")


def forge_unsigned(world: EvidenceWorld) -> None:
    name, _ = newest(world)
    world.digests["aws"].objects[name] = (b"{}", world.digests["aws"].objects[name][1])


def squat(world: EvidenceWorld) -> None:
    moment = world.world.clock.now() + timedelta(hours=1)
    world.digests["aws"].objects[f"{moment:%Y-%m-%dT%H}.json"] = (b"{}", world.world.clock.now())
    world.hours()


def junk(world: EvidenceWorld) -> None:
    log, now = log_of(world), world.world.clock.now()
    for number in range(3_000):
        log.entries[BEFORE + 1 + number] = (b"{}", {})
        world.digests["aws"].objects[f"junk-{number}"] = (b"", now)
        world.logs["aws"].setdefault(f"junk-{number % 50}", type(log)("aws", f"junk-{number % 50}")).plant(
            "x"
        )
    world.hours()
    assert newest(world)[1]["chains"][FOLDER]["seq"] == BEFORE + 3_001, (
        "the next entry steps over, and the digest has it"
    )


def unsigned(world: EvidenceWorld) -> None:
    world.append("aws", FOLDER, signer=MemorySigner("nobodys"))


def left_the_plan(world: EvidenceWorld) -> None:
    world.append("aws", "retired")
    world.append("aws", "retired")
    world.hours()
    del world.logs["aws"]["retired"].entries[2]


def left_the_plan_whole(world: EvidenceWorld) -> None:
    world.append("aws", "retired")
    world.hours()
    del world.logs["aws"]["retired"]


def hide(world: EvidenceWorld) -> None:
    log_of(world).delete(3)


def rewrite(world: EvidenceWorld) -> None:
    body, _ = log_of(world).entries[3]
    log_of(world).overwrite(3, body)


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


def accuse_by_another_hour(world: EvidenceWorld) -> None:
    _, document = newest(world, "oci")
    forge(
        world,
        "oci",
        other=document["other"] | {"digest": document["other"]["digest"] | {"hour": document["hour"]}},
    )


def order_that_is_no_text(world: EvidenceWorld) -> None:
    world.append("aws", FOLDER, entry_id="order-1", unmapped={"lockstep": {"order": 1, "generation": 9}})


def event_dated_otherwise(world: EvidenceWorld) -> None:
    world.append("aws", FOLDER, entry_id="run-forged", start_time=0)


def chain_without_a_digest(world: EvidenceWorld) -> None:
    world.append("aws", "invented", signer=MemorySigner("nobodys"))


def heads_said_to_be_old(world: EvidenceWorld) -> None:
    world.rotate()
    world.hours(1)
    _, document = newest(world)
    chains = {folder: head | {"at": 0} for folder, head in document["chains"].items()}
    forge(world, chains=chains)
    log = log_of(world)
    del log.entries[max(log.entries)]
    heads(world.world, aws=None)


def write_nothing(world: EvidenceWorld) -> None:
    world.hours(rotating=False)


def forge_as_of_now(world: EvidenceWorld) -> None:
    world.append("aws", FOLDER)
    world.hours(rotating=False)


AWS, OCI = "administrator of AWS", "administrator of OCI"
SEEN = {
    "back-date into a gap": Attack(AWS, back_date, "dated more than 15 minutes"),
    "back-date the object too": Attack("the store itself", back_date_the_object, "which lacks it"),
    "freeze": Attack(OCI, freeze, "is gone"),
    "fast-forward": Attack("digest's role", fast_forward, "minutes from its object"),
    "digest dated ahead of its object": Attack("digest's role", fast_forward, "minutes from its object"),
    "fork": Attack("digest's role", fork, "go on from the same one"),
    "replace a confirmed digest": Attack(
        "digest's role, bucket not locked", replace_a_confirmed_one, "is gone"
    ),
    "cut": Attack(AWS, cut_what_is_confirmed, "oci has confirmed it"),
    "cut in OCI": Attack(OCI, cut_the_other, "aws has confirmed it"),
    "replay after a restore": Attack(AWS, replay, "is gone"),
    "swap of a key, with the past": Attack(AWS, swap_the_key_and_the_past, "is gone"),
    "omit a chain": Attack("digest's role", omit, "which lacks it"),
    "accuse falsely": Attack("digest's role of OCI", accuse, "digests oci: the digest of"),
    "order key signs a run": Attack("operator", order_key_signs_a_run, "MAC that does not match"),
    "run key signs an order": Attack("Audit role", run_key_signs_an_order, "MAC that does not match"),
    "unsigned digest": Attack(AWS, forge_unsigned, "is no digest"),
    "name of the next digest taken": Attack(AWS, squat, "was taken by what is none"),
    "junk names": Attack("who may put objects", junk, "objects are no digests"),
    "unsigned object in an entry's place": Attack("diagnostician, who may put objects", unsigned, "MAC"),
    "the same, seen without MACs": Attack("who may put objects", unsigned, "entry", hours=1, macs=False),
    "left the plan": Attack(AWS, left_the_plan, "aws: entry 2: is gone"),
    "left the plan, whole": Attack(AWS, left_the_plan_whole, "aws: entry 1: is gone"),
    "bridge of a digest with a spoiled signature": Attack(
        OCI, bridge_of_a_spoiled_digest, "no key of the plan"
    ),
    "accuse by another hour": Attack(
        "digest's role of OCI", accuse_by_another_hour, "digests oci: the digest of"
    ),
    "an order that is no text": Attack("operator", order_that_is_no_text, "another kind than its event"),
    "an event dated otherwise": Attack("Audit role", event_dated_otherwise, "names another time"),
    "a chain that no digest names": Attack(
        "who may put objects", chain_without_a_digest, "lacks it", 1, macs=False
    ),
    "heads said to be old": Attack("digest's role, bucket not locked", heads_said_to_be_old, "is gone"),
    "hide by a marker": Attack("who may delete", hide, "hidden by a delete marker"),
    "rewrite": Attack("who may overwrite", rewrite, "written more than once"),
}
STALE = {
    "deny, the own digest": Attack(AWS, deny_own),
    "deny, the other's": Attack(AWS, deny_other),
    "swap of a key": Attack(AWS, swap_the_key),
    "delete everything": Attack("administrators of both clouds", delete_everything),
}
UNSEEN = {
    "suppress by the lock record": Attack("who may write the lock record", suppress),
    "cut what no digest has named yet": Attack(AWS, cut_the_newest),
    "what was never written": Attack("Audit role", write_nothing),
    "what is forged as of now": Attack("Audit role", forge_as_of_now),
}


def begun() -> EvidenceWorld:
    world = EvidenceWorld()
    world.hours(BEFORE)
    assert world.verified() == (Verdict.VERIFIED, [])
    assert world.verified(macs=False) == (Verdict.VERIFIED, [])
    return world


@pytest.mark.parametrize("name", SEEN)
def test_an_attack_is_seen(name: str) -> None:
    attack, world = SEEN[name], begun()
    attack.do(world)
    if attack.hours:
        world.hours(attack.hours, rotating=False)
    verdict, told = world.verified(macs=attack.macs)
    assert verdict is Verdict.NOT_VERIFIED
    assert any(attack.told in problem for problem in told), told


NOT_DIGESTS = (b'"', b"{}", b'{"digest":{},"signature":1}', b'{"digest":{},"signature":"\xc3\xa9"}')


@pytest.mark.parametrize("body", NOT_DIGESTS)
def test_whatever_stands_in_the_place_of_a_digest_stops_nobody(body: bytes) -> None:
    world = begun()
    for stream in world.streams:
        name, _ = newest(world, stream)
        world.digests[stream].objects[name] = (body, world.digests[stream].objects[name][1])
    world.hours(1)
    assert [len(world.digests[stream].objects) for stream in world.streams] == [BEFORE + 1] * 2
    assert world.verified()[0] is Verdict.NOT_VERIFIED


def test_a_signature_that_is_no_base64_is_none() -> None:
    world = begun()
    name, document = newest(world)
    at = world.digests["aws"].objects[name][1]
    world.digests["aws"].objects[name] = (signed(document, MemoryDigestKey("aws"), signature="\u00e9"), at)
    world.hours(1)
    assert len(world.digests["oci"].objects) == len(world.digests["aws"].objects) == BEFORE + 1
    assert world.verified() == (Verdict.VERIFIED, []), "nobody has confirmed it yet"


def test_an_entry_whose_gap_is_none_stops_neither_digest_nor_verification() -> None:
    world = begun()
    number, metadata = max(log_of(world).entries) + 1, log_of(world).entries[BEFORE][1]
    chain = json.loads(metadata["chain"]) | {"stepped_over": [], "seq": number}
    log_of(world).entries[number] = (b"{}", {**metadata, "chain": rfc8785.dumps(chain).decode()})
    world.hours(1)
    assert newest(world)[1]["chains"][FOLDER]["seq"] == number + 1
    assert world.verified()[0] is Verdict.NOT_VERIFIED


@pytest.mark.parametrize("name", STALE)
def test_what_is_kept_from_a_digest_is_not_confirmed(name: str) -> None:
    attack, world = STALE[name], begun()
    attack.do(world)
    assert world.verified() == (Verdict.NOT_CONFIRMED, [])


@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_log_can_show(name: str) -> None:
    attack, world = UNSEEN[name], begun()
    attack.do(world)
    assert world.verified() == (Verdict.VERIFIED, [])


@pytest.mark.parametrize("name", SEEN)
def test_the_next_verification_goes_on_from_a_digest_after_it(name: str) -> None:
    """A problem is told until a verification begins after it, and does not grow."""
    attack, world = SEEN[name], begun()
    attack.do(world)
    world.keys["aws"] = MemoryDigestKey("aws")
    world.hours(3)
    _, first = world.verified()
    world.hours(6)
    _, told = world.verified()
    assert len(told) <= len(first) + 1, told
    assert world.verified(world.newest_confirmed()) == (Verdict.VERIFIED, []), told


WAYS: tuple[Callable[[bytes, int], bytes], ...] = (
    lambda body, at: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :],
    lambda body, at: body[:at] + bytes([body[at] ^ 0x20]) + body[at + 1 :],
    lambda body, at: body[:at] + b"0" + body[at:],
    lambda body, at: body[:at] + body[at + 1 :],
    lambda body, at: body[:at],
)
"""Flip a bit, or the case, of a byte; put one before it; leave it out; cut there."""


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_every_byte_of_a_confirmed_digest_counts(way: int) -> None:
    world = EvidenceWorld()
    world.hours(3)
    folder, name = world.digests["aws"], sorted(world.digests["aws"].objects)[1]
    body, at = folder.objects[name]
    for place in range(len(body)):
        folder.objects[name] = (WAYS[way](body, place), at)
        found = world.verifier().digests
        assert any(d.problems for d in found.values()), (place, folder.objects[name][0])
