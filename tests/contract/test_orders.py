"""Orders and owners in the lock table: each one write beside those of runs (protocol O2, O4, O5, O6, O7, O8)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from lockstep.audit.append import Chain, Operator, OrderResult, give
from lockstep.audit.verify import verify
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.protocol.errors import (
    AuditLogUnreachableError,
    LockTableUnreachableError,
    OrderRefusedError,
)
from lockstep.protocol.model import LockRecord
from lockstep.protocol.orders import (
    Account,
    Activate,
    CancelTakeOver,
    Order,
    Pause,
    Resume,
    Revoke,
    TakeOver,
    Unblock,
)
from sandbox.emulators.aws.server import AwsSandbox
from tests.contract.aws_fixtures import CREDENTIAL, TABLE, DynamoDbHarness, sandbox_client
from tests.support.memory import MemoryAuditLog, MemorySigner

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
LEASE = timedelta(minutes=15)
OLD, NEW, OTHER = ("a" * 64, "b" * 64, "c" * 64)
WHO = "arn:aws:iam::123456789012:user/ops"
REST: dict[str, dict[str, Any]] = {
    "holder": {"S": "run-7"},
    "fence": {"N": "7"},
    "head_oci": {"M": {"seq": {"N": "3"}, "hash": {"S": "f"}, "rotation_id": {"S": "run-7"}}},
}
"""Attributes that no order may touch."""


@dataclass
class World:
    """A lock table, an operator and an audit log."""

    harness: DynamoDbHarness

    def __post_init__(self) -> None:
        self.client = self.harness.sandbox.client("dynamodb")
        self.orders = self.opened(CREDENTIAL.id)
        self.log, self.signer = MemoryAuditLog("aws"), MemorySigner("aws-key")
        self.lock = DynamoDbLock(sandbox_client(self.harness.sandbox, "dynamodb"), TABLE, CREDENTIAL.id)
        self._ids = count(1)

    def opened(self, credential_id: str) -> DynamoDbOrders:
        return DynamoDbOrders(self.harness.client, TABLE, credential_id)

    def put(self, **attributes: dict[str, Any]) -> None:
        self.client.put_item(TableName=TABLE, Item={"credential_id": {"S": CREDENTIAL.id}, **attributes})

    @property
    def item(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get_item(
            TableName=TABLE, Key={"credential_id": {"S": CREDENTIAL.id}}, ConsistentRead=True
        ).get("Item", {})
        return {name: value for name, value in found.items() if name != "credential_id"}

    def give(self, order: Order) -> OrderResult:
        chain = Chain(credential_id=CREDENTIAL.id, lock=self.lock, log=self.log, signer=self.signer)
        operator = Operator(who=WHO, now=lambda: NOW, new_id=lambda: f"{next(self._ids)}")
        return give(order, by=operator, chain=chain, orders=self.orders)

    def recorded(self) -> list[dict[str, Any]]:
        """What the entries of the chain, which must verify, say of orders."""
        [found] = verify(CREDENTIAL.id, [(self.log, self.signer)])
        assert found.problems == []
        return [e.event["unmapped"]["lockstep"] for e in found.entries]


@pytest.fixture
def world() -> Iterator[World]:
    with AwsSandbox() as sandbox:
        yield World(DynamoDbHarness(sandbox))


# What an order writes

WRITES: dict[str, tuple[dict[str, Any], Order, dict[str, Any]]] = {
    "pause": ({}, Pause(), {"paused": {"BOOL": True}}),
    "resume": ({"paused": {"BOOL": True}}, Resume(), {}),
    "revoke": (
        {"highest_generation": {"N": "9"}},
        Revoke(lift_pause=False),
        {"highest_generation": {"N": "9"}, "revoke_through": {"N": "9"}},
    ),
    "revoke again": (
        {"highest_generation": {"N": "9"}, "revoke_through": {"N": "8"}},
        Revoke(lift_pause=False),
        {"highest_generation": {"N": "9"}, "revoke_through": {"N": "9"}},
    ),
    "revoke what was imported": ({}, Revoke(lift_pause=False), {"revoke_through": {"N": "0"}}),
    "revoke a paused one": (
        {"highest_generation": {"N": "9"}, "paused": {"BOOL": True}},
        Revoke(lift_pause=True),
        {"highest_generation": {"N": "9"}, "revoke_through": {"N": "9"}},
    ),
    "take_over": (
        {"take_over": {"SS": ["db-1"]}},
        TakeOver(databases=frozenset({"db-2", "db-3"})),
        {"take_over": {"SS": ["db-1", "db-2", "db-3"]}},
    ),
    "cancel one": (
        {"take_over": {"SS": ["db-1", "db-2"]}},
        CancelTakeOver(databases=frozenset({"db-2"})),
        {"take_over": {"SS": ["db-1"]}},
    ),
    "cancel the last": ({"take_over": {"SS": ["db-1"]}}, CancelTakeOver(databases=frozenset({"db-1"})), {}),
    "unblock": (
        {"blocked": {"SS": ["db-1", "db-2"]}},
        Unblock(database="db-1"),
        {"blocked": {"SS": ["db-2"]}},
    ),
    "unblock the last": ({"blocked": {"SS": ["db-1"]}}, Unblock(database="db-1"), {}),
    "first plan": ({}, Activate(digest=NEW, replaces=None), {"activate": {"S": NEW}}),
    "next plan": (
        {"plan": {"S": OLD}},
        Activate(digest=NEW, replaces=OLD),
        {"plan": {"S": OLD}, "activate": {"S": NEW}},
    ),
    "withdraw": (
        {"plan": {"S": OLD}, "activate": {"S": NEW}},
        Activate(digest=OLD, replaces=OLD),
        {"plan": {"S": OLD}},
    ),
}


@pytest.mark.parametrize("case", WRITES.values(), ids=WRITES)
def test_an_order_changes_its_own_attributes_and_no_others(
    world: World, case: tuple[dict[str, Any], Order, dict[str, Any]]
) -> None:
    before, order, after = case
    world.put(**REST, **before)
    record = world.orders.write(order)
    found = world.item
    for name in found:
        if "SS" in found[name]:
            found[name]["SS"].sort()
    assert found == {**REST, **after}
    assert record == world.lock.read()
    assert order.is_applied(record)


@pytest.mark.parametrize("case", WRITES.values(), ids=WRITES)
def test_a_repeated_write_after_a_lost_reply_succeeds(
    world: World, case: tuple[dict[str, Any], Order, dict[str, Any]]
) -> None:
    before, order, _ = case
    world.put(**before)
    with pytest.raises(LockTableUnreachableError), world.harness.lose_reply(1):
        world.orders.write(order)
    first = world.item
    world.orders.write(order)
    assert world.item == first


REFUSED: dict[str, tuple[dict[str, Any], Order]] = {
    "revoke a paused one": ({"paused": {"BOOL": True}}, Revoke(lift_pause=False)),
    "first plan after the first": ({"plan": {"S": OTHER}}, Activate(digest=NEW, replaces=None)),
    "next plan after another": ({"plan": {"S": OTHER}}, Activate(digest=NEW, replaces=OLD)),
    "next plan where none is active": ({}, Activate(digest=NEW, replaces=OLD)),
    "withdraw where another is active": ({"plan": {"S": OTHER}}, Activate(digest=OLD, replaces=OLD)),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_an_order_that_the_record_does_not_allow_changes_nothing(
    world: World, case: tuple[dict[str, Any], Order]
) -> None:
    before, order = case
    world.put(**REST, **before)
    with pytest.raises(OrderRefusedError):
        world.orders.write(order)
    assert world.item == {**REST, **before}


def test_an_order_may_be_the_first_write_of_a_record(world: World) -> None:
    assert world.lock.read() == LockRecord(credential_id=CREDENTIAL.id)
    assert world.orders.write(Pause()).paused
    assert world.lock.read().fence == 0


# Beside runs


def test_an_operator_holds_the_lock_whatever_the_schedule_says(world: World) -> None:
    far = {"N": str(int((NOW + LEASE * 9).timestamp()))}
    world.put(paused={"BOOL": True}, next_due_at=far, not_before=far, fence={"N": "4"})
    lease = world.orders.hold(holder="order-1", now=NOW, expires_at=NOW + LEASE)
    assert lease is not None
    assert lease.fence == 5
    record = world.lock.read()
    assert (record.holder, record.expires_at) == ("order-1", NOW + LEASE)
    assert world.orders.hold(holder="order-2", now=NOW + LEASE, expires_at=NOW + LEASE * 2) is None
    again = world.orders.hold(holder="order-1", now=NOW, expires_at=NOW + LEASE)
    assert again == replace(lease, fence=6)
    late = NOW + LEASE + timedelta(seconds=1)
    assert world.orders.hold(holder="order-2", now=late, expires_at=late + LEASE) is not None


# Giving an order


def test_an_order_is_an_entry_first(world: World) -> None:
    given = world.give(TakeOver(databases=frozenset({"db-2", "db-1"})))
    assert given.entry is not None
    assert given.record.take_over == {"db-1", "db-2"}
    assert world.recorded() == [{"order": "take_over", "databases": ["db-1", "db-2"]}]
    body = world.log.read(1)
    assert body is not None
    assert WHO.encode() in body


def test_an_order_that_was_not_recorded_is_not_given(world: World) -> None:
    def fail(_operation: str) -> None:
        raise AuditLogUnreachableError

    world.log.faults.before = fail
    with pytest.raises(AuditLogUnreachableError):
        world.give(Pause())
    assert world.item == {}


def test_an_order_that_stands_already_is_not_recorded_again(world: World) -> None:
    world.give(Pause())
    assert world.give(Pause()).entry is None
    assert world.recorded() == [{"order": "pause"}]


def test_an_order_that_is_refused_is_not_recorded(world: World) -> None:
    world.give(Pause())
    with pytest.raises(OrderRefusedError, match="paused"):
        world.give(Revoke(lift_pause=False))
    with pytest.raises(OrderRefusedError, match="another-plan-is-active"):
        world.give(Activate(digest=NEW, replaces=OLD))
    assert world.recorded() == [{"order": "pause"}]


def test_an_order_that_died_after_its_entry_is_given_again(world: World) -> None:
    def die() -> None:
        raise LockTableUnreachableError

    with pytest.raises(LockTableUnreachableError), world.harness.before_call(1, die):
        world.give(Pause())
    assert not world.lock.read().paused
    assert world.give(Pause()).record.paused
    assert world.recorded() == [{"order": "pause"}, {"order": "pause"}]


def test_the_entries_of_every_order_name_what_was_asked(world: World) -> None:
    world.put(highest_generation={"N": "9"}, blocked={"SS": ["db-1"]}, plan={"S": OLD})
    orders: list[Order] = [
        Pause(),
        Revoke(lift_pause=True),
        Unblock(database="db-1"),
        TakeOver(databases=frozenset({"db-1"})),
        CancelTakeOver(databases=frozenset({"db-1"})),
        Activate(digest=NEW, replaces=OLD, leaving=("db-3",)),
        Pause(),
        Resume(),
    ]
    for order in orders:
        assert world.give(order).entry
    assert world.recorded() == [
        {"order": "pause"},
        {"order": "revoke", "revoke_through": 9, "lifts_pause": True},
        {"order": "unblock", "databases": ["db-1"]},
        {"order": "take_over", "databases": ["db-1"]},
        {"order": "cancel_take_over", "databases": ["db-1"]},
        {"order": "activate", "plan": NEW, "replaces": OLD, "leaving": ["db-3"]},
        {"order": "pause"},
        {"order": "resume"},
    ]


# Who owns an account

ACCOUNT = Account(database="db-1", host="DB.example.com.", port=3306, username="app_user")


@contextmanager
def refused(owner: str) -> Iterator[None]:
    with pytest.raises(OrderRefusedError) as caught:
        yield
    assert caught.value.where["owner"] == owner
    assert f"owner={owner}" in str(caught.value)


def test_an_account_belongs_to_one_credential(world: World) -> None:
    other = world.opened("multi-cloud/other")
    world.orders.register(ACCOUNT)
    world.orders.register(ACCOUNT)
    with refused(CREDENTIAL.id):
        other.register(replace(ACCOUNT, database="another-name", host="db.example.com"))
    other.register(replace(ACCOUNT, username="app_user_b"))
    other.register(replace(ACCOUNT, port=3307))
    other.register(replace(ACCOUNT, client_host="10.%"))
    assert world.item == {}  # The record of the credential is another item.


def test_an_account_that_was_freed_may_have_another_owner(world: World) -> None:
    other = world.opened("multi-cloud/other")
    world.orders.register(ACCOUNT)
    assert not other.unregister(ACCOUNT)
    with refused(CREDENTIAL.id):
        other.register(ACCOUNT)
    assert world.orders.unregister(ACCOUNT)
    assert world.orders.unregister(ACCOUNT)
    other.register(ACCOUNT)
    with refused("multi-cloud/other"):
        world.orders.register(ACCOUNT)


def test_a_registration_whose_reply_was_lost_is_a_success_when_repeated(world: World) -> None:
    with pytest.raises(LockTableUnreachableError), world.harness.lose_reply(1):
        world.orders.register(ACCOUNT)
    world.orders.register(ACCOUNT)
