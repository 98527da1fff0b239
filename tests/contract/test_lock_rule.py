"""The rule of the lock as a function, against the conditions that DynamoDB evaluates (protocol L4, R8).

The adapter makes the calls. Their conditions are evaluated in this process, over records that Lockstep's own writes can
leave and over many that they cannot.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from moto.dynamodb.comparisons import Func, Op, get_filter_expression
from moto.dynamodb.models.dynamo_type import DynamoType
from moto.dynamodb.models.dynamo_type import Item as MotoItem

from lockstep.aws.dynamodb_lock import DynamoDbLock, record_of
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.lock_rule import Reason, is_held, reason_against
from lockstep.protocol.model import FORMAT, Claim, ClaimKind, LockRecord, Schedule
from lockstep.protocol.schedule import standby_due_by

NOW = datetime(2026, 1, 1, 12, 31, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DUE_BY = standby_due_by(
    Schedule(interval=timedelta(minutes=20), overlap=timedelta(minutes=16), tolerance=timedelta(minutes=2)),
    NOW,
)
ME, OTHER = "oci-1", "aws-1"
CLAIM = Claim(kind=ClaimKind.NEW, generation=7, base_generation=6, rotation_id=OTHER)
SAMPLE = 2_000


def around(*moments: datetime) -> tuple[datetime | None, ...]:
    """No time, and for each moment the seconds about it."""
    return (None, *(moment + n * SECOND for moment in moments for n in (-1, 0, 1)))


PARTS: dict[str, tuple[Any, ...]] = {
    "holder": (None, None, ME, OTHER),
    "expires_at": around(NOW),
    "paused": (False, False, True),
    "orders": tuple(
        product((None, None, 5), (frozenset(), frozenset({5, 7}), frozenset({6, 7}), frozenset({7})))
    ),
    "claim": (None, None, CLAIM),
    "not_before": (*around(NOW), NOW - timedelta(hours=1)),
    "take_over": (*6 * (frozenset(),), frozenset({"db-1"})),
    "activate": (*6 * (None,), "of-a-plan"),
    "next_due_at": around(DUE_BY, NOW),
}


def records() -> Iterator[LockRecord]:
    """Records at random, each time the same."""
    chance = random.Random(24)  # noqa: S311 - chance that can be repeated
    for _ in range(SAMPLE):
        parts = {name: chance.choice(values) for name, values in PARTS.items()}
        through, valid = parts.pop("orders")
        yield LockRecord(credential_id="c", fence=7, revoke_through=through, valid=valid, **parts)


def item_of(record: LockRecord) -> dict[str, Any]:
    """The record as the table has it."""
    claim = record.claim
    named = ("credential_id", "fence", "holder", "activate", "revoke_through", "take_over", "paused")
    values: dict[str, Any] = {
        **{name: getattr(record, name) for name in named},
        "format": FORMAT,
        "valid": record.valid,
        "valid_from": min(record.valid, default=None),
    }
    for name in ("expires_at", "not_before", "next_due_at"):
        moment = getattr(record, name)
        values[name] = moment and int(moment.timestamp())
    if claim:
        values |= {
            "pending_generation": claim.generation,
            "base_generation": claim.base_generation,
            "claim_kind": claim.kind.value,
            "claim_rotation_id": claim.rotation_id,
        }
    return {name: TypeSerializer().serialize(value) for name, value in values.items() if value}


@cache
def parsed(condition: str, values: tuple[tuple[str, str, object], ...]) -> Op | Func:
    return get_filter_expression(condition, {}, {name: {kind: value} for name, kind, value in values})  # type: ignore[dict-item]  # a flag is a bool


class ConditionError(Exception):
    """The condition does not hold."""

    response: Mapping[str, Any] = {}


def table_with(item: dict[str, Any]) -> Any:  # noqa: ANN401 - as `aws_client`
    """A client of DynamoDB whose table has one item, and whose writes leave it as it is."""

    def update_item(
        *,
        ConditionExpression: str,  # noqa: N803 - as a client has it
        ExpressionAttributeValues: dict[str, dict[str, object]],  # noqa: N803 - the same
        **_more: object,
    ) -> dict[str, Any]:
        values = ((name, *typed.popitem()) for name, typed in ExpressionAttributeValues.items())
        condition = parsed(ConditionExpression, tuple(values))
        if not condition.expr(MotoItem(DynamoType(item["credential_id"]), None, item)):
            raise ConditionError
        return {"Attributes": item}

    exceptions = SimpleNamespace(ConditionalCheckFailedException=ConditionError)
    return SimpleNamespace(update_item=update_item, exceptions=exceptions)


MODES = {
    "scheduled": (False, None),
    "forced": (True, None),
    "standby": (False, DUE_BY),
    "standby, forced": (True, DUE_BY),
}


@pytest.mark.parametrize(("is_forced", "due_by"), MODES.values(), ids=MODES)
def test_a_run_gets_the_lock_where_no_reason_is_against_it(
    *, is_forced: bool, due_by: datetime | None
) -> None:
    found: list[Reason | None] = []
    for record in records():
        item = item_of(record)
        assert record_of("c", item) == record
        lock = DynamoDbLock(table_with(item), "t", "c")
        acquired = lock.acquire(holder=ME, now=NOW, expires_at=NOW + LEASE, force=is_forced, due_by=due_by)
        reason = reason_against(record, now=NOW, holder=ME, is_forced=is_forced, due_by=due_by)
        assert (acquired is None) == (reason is not None), record
        found.append(reason)
    impossible = {Reason.PAUSED, Reason.NOT_DUE} if is_forced else set()
    for reason in (None, *Reason):
        assert (found.count(reason) > SAMPLE / 50) == (reason not in impossible), reason


def test_the_lock_is_held_where_an_operator_cannot_take_it() -> None:
    for record in records():
        orders = DynamoDbOrders(table_with(item_of(record)), "t", "c")
        taken = orders.hold(holder="order-1", now=NOW, expires_at=NOW + LEASE)
        assert (taken is None) == is_held(record, NOW) == is_held(record, NOW + SECOND / 2), record
