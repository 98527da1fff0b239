"""The rule of the lock as a function, against the conditions that DynamoDB evaluates (protocol L4, L17, R8).

Over records that Lockstep's own writes can leave and over many that they cannot, with times of any size.
"""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer

from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.protocol.deadlines import CLOCK_SKEW, LEASE
from lockstep.protocol.lock_rule import LATEST_END, Reason, is_held, reason_against
from lockstep.protocol.model import FORMAT, Claim, ClaimKind, LockRecord, Schedule
from lockstep.protocol.schedule import standby_due_by
from sandbox.emulators.aws.server import AwsSandbox
from tests.contract.clouds import CREDENTIAL, TABLE, DynamoDbHarness

NOW = datetime(2026, 1, 1, 12, 31, tzinfo=UTC)
SECOND, INTERVAL, LONGEST = timedelta(seconds=1), timedelta(minutes=20), timedelta(seconds=10**9)
DUE_BY = standby_due_by(
    Schedule(interval=INTERVAL, overlap=timedelta(minutes=16), tolerance=timedelta(minutes=2)), NOW
)
ME, OTHER = "oci-1", "aws-1"
CLAIM = Claim(kind=ClaimKind.NEW, generation=7, base_generation=6, rotation_id=OTHER)
SAMPLE = 250
TIMES = ("expires_at", "not_before", "next_due_at", "rotated_at")


def around(*moments: datetime) -> tuple[datetime | None, ...]:
    """No time, for each moment the seconds about it, and times from the first year to the last."""
    of_years = (datetime(year, 1, 1, tzinfo=UTC) for year in (1, 1969, 2027, 2060))
    nearby = (moment + n * SECOND for moment in moments for n in (-1, 0, 1))
    return None, *nearby, *of_years, datetime.max.replace(microsecond=0, tzinfo=UTC)


PARTS: dict[str, tuple[Any, ...]] = {
    "holder": (None, None, ME, OTHER),
    "expires_at": around(NOW, NOW + LATEST_END),
    "paused": (False, False, True),
    "orders": tuple(
        product((None, None, 5), (frozenset(), frozenset({5, 7}), frozenset({6, 7}), frozenset({7})))
    ),
    "claim": (*5 * (None,), CLAIM),
    "not_before": around(NOW),
    "take_over": (*6 * (frozenset(),), frozenset({"db-1"})),
    "activate": (*6 * (None,), "of-a-plan"),
    "next_due_at": around(DUE_BY, NOW, *(NOW + CLOCK_SKEW + length for length in (INTERVAL, LONGEST))),
    "rotated_at": (None, NOW + CLOCK_SKEW, NOW + CLOCK_SKEW, *around(NOW + CLOCK_SKEW)),
}


def records() -> Iterator[LockRecord]:
    """Records at random, each time the same."""
    chance = random.Random(24)  # noqa: S311 - chance that can be repeated
    for _ in range(SAMPLE):
        parts = {name: chance.choice(values) for name, values in PARTS.items()}
        through, valid = parts.pop("orders")
        yield LockRecord(credential_id=CREDENTIAL.id, fence=7, revoke_through=through, valid=valid, **parts)


class Table(DynamoDbHarness):
    """A table that has one record."""

    def has(self, record: LockRecord) -> None:
        claim = record.claim
        named = ("fence", "holder", "activate", "revoke_through", "take_over", "paused", "valid")
        values = {name: getattr(record, name) for name in named}
        values |= {name: t and int(t.timestamp()) for name in TIMES if (t := getattr(record, name))}
        values |= {"format": FORMAT, "valid_from": min(record.valid, default=None)}
        if claim:
            values |= {"pending_generation": claim.generation, "base_generation": claim.base_generation}
            values |= {"claim_kind": claim.kind.value, "claim_rotation_id": claim.rotation_id}
        typed = {name: TypeSerializer().serialize(value) for name, value in values.items() if value}
        self.put(CREDENTIAL.id, **typed)


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    with AwsSandbox() as aws:
        yield Table(aws)


MODES: dict[str, dict[str, Any]] = {
    "scheduled": {"interval": INTERVAL},
    "of no schedule": {},
    "of the longest interval": {"interval": LONGEST},
    "forced": {"is_forced": True, "interval": INTERVAL},
    "standby": {"due_by": DUE_BY, "interval": INTERVAL},
    "standby, forced": {"is_forced": True, "due_by": DUE_BY},
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_run_gets_the_lock_where_no_reason_is_against_it(table: Table, mode: dict[str, Any]) -> None:
    found: list[Reason | None] = []
    asked = {name: value for name, value in mode.items() if name != "is_forced"}
    is_forced = "is_forced" in mode
    for record in records():
        table.has(record)
        acquired = table.lock.acquire(holder=ME, now=NOW, expires_at=NOW + LEASE, force=is_forced, **asked)
        reason = reason_against(record, now=NOW, holder=ME, **mode)
        assert (acquired is None) == (reason is not None), record
        found.append(reason)
    impossible = {Reason.PAUSED, Reason.NOT_DUE} if is_forced else set()
    for reason in (None, *Reason):
        assert (found.count(reason) > SAMPLE / 50) == (reason not in impossible), reason


def test_the_lock_is_held_where_an_operator_cannot_take_it(table: Table) -> None:
    for record in records():
        table.has(record)
        assert table.lock.read() == record
        taken = DynamoDbOrders(table.client, TABLE, CREDENTIAL.id).hold(
            holder="order-1", now=NOW, expires_at=NOW + LEASE
        )
        assert (taken is None) == is_held(record, NOW) == is_held(record, NOW + SECOND / 2), record
