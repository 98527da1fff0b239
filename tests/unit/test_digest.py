"""Making digests: what they name, that nothing stops them, and that no honest state is taken for an attack (E15)."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from lockstep.audit.confirmed import Since, Verdict
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError, LockstepError
from tests.support.evidence import AUDITOR, FOLDER, EvidenceWorld, MemoryDigestKey
from tests.unit.audit_case import heads

GOOD: tuple[Verdict, list[str]] = (Verdict.VERIFIED, [])
NOT_CONFIRMED: tuple[Verdict, list[str]] = (Verdict.NOT_CONFIRMED, [])


def begun(hours: int, *streams: str) -> EvidenceWorld:
    world = EvidenceWorld(*streams)
    world.hours(hours)
    return world


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


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        *(
            (o, AuditLogUnreachableError)
            for o in ("folders", "listed", "create", "numbers", "look", "verify")
        ),
        ("verify", AuditLogAccessDeniedError),
    ],
)
def test_all_chains_or_there_is_no_digest(operation: str, error: type[LockstepError]) -> None:
    """Nor does who may not verify MACs make one."""
    world = begun(2)
    world.until(0)
    world.rotate()

    def fail(asked: str) -> None:
        if asked == operation:
            raise error(code="down")

    for one in (
        world.digests["aws"],
        world.chains["aws"],
        world.logs["aws"][FOLDER],
        world.world.signers["aws"],
    ):
        one.faults.before = fail
    with pytest.raises(error):
        world.make("aws")
    assert len(world.digests["aws"].objects) == 2


def test_a_digest_does_not_wait_for_the_other_cloud() -> None:
    world = begun(2)

    def fail(_: str) -> None:
        raise AuditLogUnreachableError(code="down")

    world.digests["oci"].faults.before = fail
    world.until(15)
    made = world.make("aws")
    assert made.confirms
    assert not made.problems
    assert made.unread.startswith("AuditLogUnreachableError")
    assert documents(world)[-1]["other"] == documents(world)[-2]["other"]


# Honest states. Each is looked at after every hour, by who may verify MACs and by who may not.

Life = Callable[[EvidenceWorld], None]


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


def a_cloud_down_for_a_day(world: EvidenceWorld) -> None:
    for _ in range(24):
        world.hours(but="oci")
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


def the_job_fails_three_times(world: EvidenceWorld) -> None:
    for _ in range(3):
        world.hours(but="aws")
        assert world.verified()[1] == []
    world.hours(2)


def the_job_is_late_and_runs_twice(world: EvidenceWorld) -> None:
    for _ in range(3):
        world.hours(but="aws")
        world.until(55)
        world.make("aws")
        world.make("aws")
        assert world.verified() == GOOD
    world.hours(2)


def a_chain_that_ends(world: EvidenceWorld) -> None:
    world.append("aws", "retired")
    world.hours(4)


def the_lock_record_is_lost(world: EvidenceWorld) -> None:
    heads(world.world, aws=None, oci=None)
    world.hours(3)


HONEST: tuple[Life, ...] = (
    an_entry_that_lands_meanwhile,
    clocks_14_minutes_off,
    a_cloud_down_for_a_day,
    key_replaced_in_one_cloud_first,
    the_job_fails_three_times,
    the_job_is_late_and_runs_twice,
    a_chain_that_ends,
    the_lock_record_is_lost,
)


@pytest.mark.parametrize("life", HONEST, ids=lambda life: life.__name__)
def test_an_honest_life_is_verified(life: Life) -> None:
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


def test_what_is_older_than_the_retention_may_go() -> None:
    world = EvidenceWorld()
    world.append("oci", "retired")
    world.retention = timedelta(hours=10)
    for _ in range(24):
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


def lose_bucket(world: EvidenceWorld) -> None:
    world.logs["oci"].clear()
    world.digests["oci"].objects.clear()


def restore_bucket(world: EvidenceWorld) -> None:
    objects = dict(world.digests["oci"].objects)
    world.hours(2)
    world.digests["oci"].objects = objects


def copy_bucket(world: EvidenceWorld) -> None:
    now = world.world.clock.now()
    for log in world.logs["oci"].values():
        log.dates.update(dict.fromkeys(log.entries, now))
    folder = world.digests["oci"]
    folder.objects = {name: (body, now) for name, (body, _) in folder.objects.items()}


@pytest.mark.parametrize("loss", [lose_bucket, restore_bucket, copy_bucket])
def test_what_is_really_lost_is_told_once_and_does_not_grow(loss: Life) -> None:
    world = EvidenceWorld()
    world.append("oci", FOLDER)
    world.hours(5)
    loss(world)
    world.hours(2)
    verdict, first = world.verified()
    assert verdict is Verdict.NOT_VERIFIED
    world.hours(6)
    assert world.verified()[1] == first
    assert world.verified(world.newest_confirmed()) == GOOD
