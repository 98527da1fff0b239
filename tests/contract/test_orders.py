"""Orders and owners in the lock table: each one write beside those of runs (protocol O2, O4, O5, O6, O7, O8)."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from lockstep.audit.append import Chain, Operator, OrderResult, give
from lockstep.audit.verify import verify
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.protocol.errors import AuditLogUnreachableError, LockTableUnreachableError, OrderRefusedError
from lockstep.protocol.orders import (
    Account,
    Activate,
    CancelTakeOver,
    Order,
    Pause,
    Resume,
    Revoke,
    TakeOver,
)
from sandbox.emulators.aws.server import AwsSandbox
from tests.contract.clouds import CREDENTIAL, TABLE, DynamoDbHarness
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


class World:
    """A lock table, an operator and an audit log."""

    def __init__(self, harness: DynamoDbHarness) -> None:
        harness.forget()
        self.harness = harness
        self.lock = DynamoDbLock(harness.console, TABLE, CREDENTIAL.id)
        self.orders = DynamoDbOrders(harness.client, TABLE, CREDENTIAL.id)
        self.log, self.signer = MemoryAuditLog("aws"), MemorySigner("aws-key")
        self._chain = Chain(credential_id=CREDENTIAL.id, lock=self.lock, log=self.log, signer=self.signer)
        ids = count(1)
        self._operator = Operator(who=WHO, now=lambda: NOW, new_id=lambda: f"{next(ids)}")

    def put(self, **attributes: dict[str, Any]) -> None:
        self.harness.put(CREDENTIAL.id, **attributes)

    @property
    def item(self) -> dict[str, Any]:
        """The attributes of the record, with sorted sets."""
        item = self.harness.item
        return {k: {"SS": sorted(v["SS"])} if "SS" in v else v for k, v in item.items()}

    def give(self, order: Order) -> OrderResult:
        return give(order, by=self._operator, chain=self._chain, orders=self.orders)

    def recorded(self) -> list[dict[str, Any]]:
        """What the entries of the chain, which must verify, say of orders."""
        [found] = verify(CREDENTIAL.id, [(self.log, self.signer)])
        assert found.problems == []
        return [e.event["unmapped"]["lockstep"] for e in found.entries]


@pytest.fixture(scope="module")
def harness() -> Iterator[DynamoDbHarness]:
    with AwsSandbox() as sandbox:
        yield DynamoDbHarness(sandbox)


@pytest.fixture
def world(harness: DynamoDbHarness) -> World:
    return World(harness)


# What an order writes

NEWEST, ASKED = {"highest_generation": {"N": "9"}}, {"revoke_through": {"N": "9"}}
UNDER_OLD, NEW_ORDERED = {"plan": {"S": OLD}}, {"activate": {"S": NEW}}
UNDER_OTHER, PAUSED = {"plan": {"S": OTHER}}, {"paused": {"BOOL": True}}
ONE, MORE = frozenset({"db-1"}), frozenset({"db-2", "db-3"})
REVOKE = Revoke(lift_pause=False)


def named(attribute: str, *databases: str) -> dict[str, Any]:
    return {attribute: {"SS": list(databases)}}


TAKEN = named("take_over", "db-1")
WRITES: dict[str, tuple[dict[str, Any], Order, dict[str, Any]]] = {
    "pause": ({}, Pause(), PAUSED),
    "resume": (PAUSED, Resume(), {}),
    "revoke": (NEWEST, REVOKE, NEWEST | ASKED),
    "revoke again": (NEWEST | {"revoke_through": {"N": "8"}}, REVOKE, NEWEST | ASKED),
    "revoke what was imported": ({}, REVOKE, {"revoke_through": {"N": "0"}}),
    "revoke a paused one": (NEWEST | PAUSED, Revoke(lift_pause=True), NEWEST | ASKED),
    "take over more": (TAKEN, TakeOver(databases=MORE), named("take_over", "db-1", "db-2", "db-3")),
    "cancel one": (named("take_over", "db-1", "db-2"), CancelTakeOver(databases=MORE), TAKEN),
    "cancel the last": (TAKEN, CancelTakeOver(databases=ONE), {}),
    "first plan": ({}, Activate(digest=NEW, replaces=None), NEW_ORDERED),
    "next plan": (UNDER_OLD, Activate(digest=NEW, replaces=OLD), UNDER_OLD | NEW_ORDERED),
    "withdraw": (UNDER_OLD | NEW_ORDERED, Activate(digest=OLD, replaces=OLD), UNDER_OLD),
}


@pytest.mark.parametrize("name", WRITES)
def test_an_order_changes_its_own_attributes_and_can_be_repeated(world: World, name: str) -> None:
    before, order, after = WRITES[name]
    world.put(**REST, **before)
    with pytest.raises(LockTableUnreachableError), world.harness.lose_reply(1):
        world.orders.write(order)
    assert world.item == {**REST, **after}
    record = world.orders.write(order)
    assert world.item == {**REST, **after}
    assert record == world.lock.read()
    assert order.is_applied(record)


REFUSED: dict[str, tuple[dict[str, Any], Order, str]] = {
    "revoke a paused one": (PAUSED, REVOKE, "paused"),
    "first plan after the first": (
        UNDER_OTHER,
        Activate(digest=NEW, replaces=None),
        "another-plan-is-active",
    ),
    "next plan after another": (UNDER_OTHER, Activate(digest=NEW, replaces=OLD), "another-plan-is-active"),
    "next plan where none is active": ({}, Activate(digest=NEW, replaces=OLD), "another-plan-is-active"),
    "withdraw where another is active": (UNDER_OTHER, Activate(digest=OLD, replaces=OLD), "another-plan"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_order_that_the_record_does_not_allow_changes_nothing(world: World, name: str) -> None:
    before, order, reason = REFUSED[name]
    world.put(**REST, **before)
    with pytest.raises(OrderRefusedError):
        world.orders.write(order)
    with pytest.raises(OrderRefusedError, match=reason):
        world.give(order)
    assert world.item == {**REST, **before}
    assert world.log.entries == {}


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


def test_an_order_is_an_entry_first_and_one_that_died_after_it_is_given_again(world: World) -> None:
    def die(*_operation: str) -> None:
        raise AuditLogUnreachableError if _operation else LockTableUnreachableError

    world.log.faults.before = die
    with pytest.raises(AuditLogUnreachableError):
        world.give(Pause())
    assert world.item == {}
    world.log.faults.before = lambda _operation: None
    with pytest.raises(LockTableUnreachableError), world.harness.before_call(1, die):
        world.give(Pause())
    assert not world.lock.read().paused
    given = world.give(Pause())
    assert (given.record.paused, given.record.fence, given.entry is None) == (True, 0, False)
    assert WHO.encode() in (world.log.read(1) or b"")
    assert world.recorded() == [{"order": "pause"}] * 2


def test_the_entries_of_every_order_name_what_was_asked(world: World) -> None:
    world.put(highest_generation={"N": "9"}, plan={"S": OLD})
    told: dict[Order, dict[str, object]] = {
        Pause(): {"order": "pause"},
        Revoke(lift_pause=True): {"order": "revoke", "revoke_through": 9, "lifts_pause": True},
        TakeOver(databases=ONE | MORE): {"order": "take_over", "databases": ["db-1", "db-2", "db-3"]},
        CancelTakeOver(databases=ONE): {"order": "cancel_take_over", "databases": ["db-1"]},
        Activate(digest=NEW, replaces=OLD, leaving=("db-3",)): {
            "order": "activate",
            "plan": NEW,
            "replaces": OLD,
            "leaving": ["db-3"],
        },
    }
    for order in told:
        assert world.give(order).entry
    # One that stands already is not recorded again.
    assert [bool(world.give(order).entry) for order in (Pause(), Pause(), Resume())] == [True, False, True]
    assert world.recorded() == [*told.values(), {"order": "pause"}, {"order": "resume"}]


# Who owns an account

ACCOUNT = Account(database="db-1", host="DB.example.com.", port=3306, username="app_user")


def test_an_account_belongs_to_one_credential_until_it_is_freed(world: World) -> None:
    other = DynamoDbOrders(world.harness.client, TABLE, "multi-cloud/other")
    with pytest.raises(LockTableUnreachableError), world.harness.lose_reply(1):
        world.orders.register(ACCOUNT)
    for _ in range(2):
        world.orders.register(ACCOUNT)
    with pytest.raises(OrderRefusedError, match=f"owner={CREDENTIAL.id}"):
        other.register(replace(ACCOUNT, database="another-name", host="db.example.com"))
    for changed in ({"username": "app_user_b"}, {"port": 3307}, {"client_host": "10.%"}):
        other.register(replace(ACCOUNT, **changed))
    assert world.item == {}  # The record of the credential is another item.
    assert not other.unregister(ACCOUNT)
    with pytest.raises(OrderRefusedError, match=f"owner={CREDENTIAL.id}"):
        other.register(ACCOUNT)
    for _ in range(2):
        assert world.orders.unregister(ACCOUNT)
    other.register(ACCOUNT)
    with pytest.raises(OrderRefusedError, match="owner=multi-cloud/other"):
        world.orders.register(ACCOUNT)
