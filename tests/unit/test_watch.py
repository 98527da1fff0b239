"""What `lockstep.operate.watch` counts in a lock table; which reason a record has is in test_verdict."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from msgspec import structs

from functions.watch.report import line
from lockstep.operate.watch import COUNTED, SHOWN, Expected, Found, watch
from lockstep.protocol.model import Credential, LockRecord
from lockstep.protocol.ports import Table
from sandbox.emulators.aws.alarms import embedded
from tests.support.memory import make_plan

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CREDENTIAL = make_plan().credentials[0]
INTERVAL = CREDENTIAL.schedule.interval
OTHER = structs.replace(CREDENTIAL, id="other")
BOTH = (CREDENTIAL, OTHER)
IN_SYNC = LockRecord(
    credential_id=CREDENTIAL.id,
    plan=CREDENTIAL.plan_digest,
    current_generation=5,
    valid=frozenset({4, 5}),
    next_due_at=NOW + INTERVAL / 2,
    not_before=NOW + INTERVAL / 4,
    rotated_by="f-1-0a1b",
)
NEVER_ROTATED = LockRecord(credential_id=CREDENTIAL.id, plan=CREDENTIAL.plan_digest)
TO_BE_ACTIVE = LockRecord(credential_id=CREDENTIAL.id, activate=CREDENTIAL.plan_digest)
UNREADABLE = {CREDENTIAL.id: "NewerFormatError"}
SECOND, MINUTE, YEAR = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=365)
STALE_AFTER = INTERVAL + CREDENTIAL.schedule.tolerance
"""After its due time: it is due an interval, less the tolerance, after its last rotation began."""


def look(
    *records: LockRecord,
    credentials: tuple[Credential, ...] = (CREDENTIAL,),
    unreadable: Mapping[str, str] | None = None,
    schedules: bool = True,
    canary: str | None = None,
    others: frozenset[str] = frozenset(),
) -> Found:
    table = Table(records={r.credential_id: r for r in records}, unreadable=unreadable or {})
    expected = Expected(credentials=credentials, schedules=schedules, canary=canary, others=others)
    return watch(table, expected, now=NOW)


def due_since(ago: timedelta, **more: object) -> LockRecord:
    return replace(IN_SYNC, next_due_at=NOW - ago, not_before=NOW - timedelta(days=10), **more)  # type: ignore[arg-type]


OLD = due_since(timedelta(days=9))
BLOCKED = CREDENTIAL.databases[:1]
ROWS: dict[str, tuple[LockRecord, set[str]]] = {
    "in sync": (IN_SYNC, set()),
    "due, and not yet stale": (due_since(STALE_AFTER - SECOND), set()),
    "stale": (due_since(STALE_AFTER), {"StaleCredentials"}),
    "the overlap moves the due time": (
        replace(IN_SYNC, next_due_at=NOW - 2 * INTERVAL, not_before=NOW),
        set(),
    ),
    "a due time out of reach, by a clock that was ahead": (due_since(-YEAR), {"StaleCredentials"}),
    "a clock that is a little ahead": (due_since(-INTERVAL - MINUTE), set()),
    "paused, however stale": (replace(OLD, paused=True), {"PausedCredentials"}),
    "to become active, and never rotated": (TO_BE_ACTIVE, {"UnrotatedCredentials"}),
    "another plan is active": (replace(IN_SYNC, plan="another"), {"PlanNotActiveCredentials"}),
    "an emergency": (replace(IN_SYNC, revoke_through=4), {"RevokingCredentials"}),
    "a blocked database": (replace(IN_SYNC, blocked=frozenset(BLOCKED)), {"BlockedDatabases"}),
    "a blocked database that left the plan": (replace(IN_SYNC, blocked=frozenset({"gone"})), set()),
}


def test_a_record_counts_as() -> None:
    for name, (record, kinds) in ROWS.items():
        found = look(record)
        assert (set(found.ids), {name for name in COUNTED if found.metrics[name]}) == (kinds, kinds), name


def test_nothing_is_stale_or_missing_while_schedules_are_off() -> None:
    for records in ((OLD,), (NEVER_ROTATED,), (LockRecord(credential_id=CREDENTIAL.id),), ()):
        assert look(*records, schedules=False).ids == {}


def test_a_lost_table_makes_every_credential_stale_and_is_judged_by_all_of_the_plan() -> None:
    left_by_a_run = LockRecord(credential_id=OTHER.id, fence=1)
    for records in ((), (left_by_a_run,)):
        found = look(*records, credentials=BOTH)
        assert found.metrics["StaleCredentials"] == found.metrics["PlanNotActiveCredentials"] == 2
    # A new credential beside others is not a lost table, whichever are looked at.
    some = look(IN_SYNC, credentials=(OTHER,), others=frozenset({CREDENTIAL.id}))
    for found in (look(IN_SYNC, credentials=BOTH), some):
        assert found.ids == {"PlanNotActiveCredentials": [OTHER.id]}
    lost = look(credentials=(OTHER,), others=frozenset({CREDENTIAL.id}))
    assert (lost.metrics["Credentials"], lost.metrics["StaleCredentials"]) == (1, 1)


def test_what_cannot_be_read_is_counted_and_what_is_not_in_the_plan_is_not() -> None:
    assert look(unreadable=UNREADABLE).ids == {"UnreadableRecords": [f"{CREDENTIAL.id}: NewerFormatError"]}
    assert (
        look(IN_SYNC, replace(OLD, credential_id="gone"), unreadable={"foreign": "NewerFormatError"}).ids
        == {}
    )


def test_the_canary_is_as_old_as_the_last_rotation_if_that_was_in_aws() -> None:
    """A rotation of the standby does not show that a deployment works."""
    by_aws = replace(IN_SYNC, rotated_at=NOW - 90 * SECOND)
    for known in (by_aws, replace(by_aws, paused=True)):
        assert look(known, canary=CREDENTIAL.id).metrics["CanarySeconds"] == 90
    for nothing in (
        look(by_aws),
        look(replace(by_aws, rotated_by="1f0e.0"), canary=CREDENTIAL.id),
        look(NEVER_ROTATED, canary=CREDENTIAL.id),
        look(unreadable=UNREADABLE, canary=CREDENTIAL.id),
    ):
        assert "CanarySeconds" not in nothing.metrics


def test_a_hundred_stale_credentials_make_one_short_line_of_which_cloudwatch_takes_every_metric() -> None:
    many = tuple(structs.replace(CREDENTIAL, id=f"team/{n}") for n in range(100))
    found = look(*(replace(OLD, credential_id=c.id) for c in many), credentials=many)
    text = line(found, stack="lockstep", now=NOW)
    document = json.loads(text)
    assert document["StaleCredentials"] == 100
    assert len(document["ids"]["StaleCredentials"]) == SHOWN + 1
    assert document["ids"]["StaleCredentials"][-1] == "and 80 more"
    assert len(text) < 4000
    points = embedded(text, now=NOW.timestamp())
    assert {p.name for p in points} == {*COUNTED, "Credentials"}
    assert {p.namespace for p in points} == {"Lockstep/lockstep"}
    assert {p.dimensions for p in points} == {frozenset({("Stack", "lockstep")})}
