"""Orders and owners in the lock table: each one write beside those of runs (protocol O2, O3, O4, O5, O6, O7, O8)."""

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
    AccountOwnedError,
    AuditLogUnreachableError,
    LockTableAccessDeniedError,
    LockTableUnreachableError,
    OrderRefusedError,
)
from lockstep.protocol.model import ChainHead, Claim, ClaimKind, LockRecord, Release
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
    accounts_of,
)
from sandbox.aws.server import AwsSandbox
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
        chain = Chain(
            credential_id=CREDENTIAL.id, lock=self.lock, log=self.log, signer=self.signer, other_logs=tuple
        )
        operator = Operator(who=WHO, now=lambda: NOW, new_id=lambda: f"{next(self._ids)}")
        return give(order, by=operator, chain=chain, orders=self.orders)

    def recorded(self) -> list[dict[str, Any]]:
        """What the entries of the chain, which must verify, say of orders."""
        [found] = verify(CREDENTIAL.id, [(self.log, self.signer)], self.lock.read())
        assert found.problems == []
        return [e.event["unmapped"]["lockstep"] for e in found.entries]


@pytest.fixture
def world() -> Iterator[World]:
    with AwsSandbox() as sandbox:
        yield World(DynamoDbHarness(sandbox))


# What an order writes

WRITES: dict[str, tuple[dict[str, Any], Order, dict[str, Any]]] = {
    "pause": ({}, Pause(), {"paused": {"BOOL": True}}),
    "pause a paused one": ({"paused": {"BOOL": True}}, Pause(), {"paused": {"BOOL": True}}),
    "resume": ({"paused": {"BOOL": True}}, Resume(), {}),
    "resume what runs": ({}, Resume(), {}),
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
    "another next plan": (
        {"plan": {"S": OLD}, "activate": {"S": NEW}},
        Activate(digest=OTHER, replaces=OLD),
        {"plan": {"S": OLD}, "activate": {"S": OTHER}},
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


@pytest.mark.parametrize(
    "attribute",
    [
        {"plan": {"N": "1"}},
        {"take_over": {"S": "db-1"}},
        {"revoke_through": {"N": "x"}},
        {"paused": {"S": "true"}},
    ],
)
def test_an_item_that_lockstep_did_not_write_is_an_error(attribute: dict[str, Any]) -> None:
    class Client:
        def update_item(self, **_request: object) -> dict[str, Any]:
            return {"Attributes": attribute}

    orders = DynamoDbOrders(Client(), TABLE, CREDENTIAL.id)  # type: ignore[arg-type]  # DynamoDB itself checks numbers
    with pytest.raises(LockTableAccessDeniedError, match="MalformedItem"):
        orders.write(Pause())


@pytest.mark.parametrize(
    ("through", "lowest_valid", "is_revoking"),
    [(None, None, False), (None, 1, False), (9, None, True), (9, 9, True), (9, 10, False), (0, None, True)],
)
def test_an_emergency_lasts_until_nothing_it_names_is_alive(
    world: World, through: int | None, lowest_valid: int | None, *, is_revoking: bool
) -> None:
    world.put(
        **({} if through is None else {"revoke_through": {"N": str(through)}}),
        **({} if lowest_valid is None else {"valid": {"NS": [str(lowest_valid), "12"]}}),
    )
    assert world.lock.read().is_revoking is is_revoking


# Beside runs


def ordered(record: LockRecord) -> tuple[object, ...]:
    """What orders have put into a record."""
    return (
        record.plan,
        record.paused,
        record.take_over,
        record.activate,
        record.revoke_through,
        record.blocked,
    )


def test_no_write_of_a_run_loses_an_order(world: World) -> None:
    world.put(plan={"S": OLD})
    orders: list[Order] = [
        Pause(),
        TakeOver(databases=frozenset({"db-1"})),
        Activate(digest=NEW, replaces=OLD),
    ]
    for order in orders:
        world.orders.write(order)
    world.orders.write(Revoke(lift_pause=True))
    world.orders.write(Pause())
    before = ordered(world.lock.read())

    lease = world.orders.hold(holder="run-1", now=NOW, expires_at=NOW + LEASE)
    assert lease is not None
    record = world.lock.read()
    assert ordered(record) == before
    claim = Claim(kind=ClaimKind.NEW, generation=1, base_generation=0, rotation_id="run-1")
    world.lock.claim(lease, claim, over=record, plan=OLD, served=())
    world.lock.move_head("aws", ChainHead(seq=1, hash="aa", rotation_id="run-1"), after=None, at=NOW)
    assert ordered(world.lock.read()) == before
    done = Release(
        current_generation=1, valid=frozenset({1}), proven=("db-9",), next_due_at=NOW, not_before=NOW
    )
    world.lock.release(lease, done)
    record = world.lock.read()
    assert (ordered(record), record.current_generation) == (before, 1)


def test_an_order_does_not_disturb_a_run(world: World) -> None:
    lease = world.orders.hold(holder="run-1", now=NOW, expires_at=NOW + LEASE)
    before = world.lock.read()
    for order in (Pause(), Revoke(lift_pause=True), TakeOver(databases=frozenset({"db-1"}))):
        world.orders.write(order)
    ordered = replace(before, revoke_through=0, take_over=frozenset({"db-1"}))
    assert world.lock.read() == ordered
    assert (before.holder, before.fence) == ("run-1", lease.fence if lease else 0)


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


def test_an_order_whose_reply_was_lost_is_a_success_when_given_again(world: World) -> None:
    # The write of the order is the first call of this client; lock and chain have one of their own.
    with pytest.raises(LockTableUnreachableError), world.harness.lose_reply(1):
        world.give(Pause())
    assert world.give(Pause()).record.paused
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
    with pytest.raises(AccountOwnedError) as caught:
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


def test_the_accounts_of_a_credential_are_those_of_every_database_of_the_plan() -> None:
    found = [(a.database, a.username, a.key) for a in accounts_of(CREDENTIAL)]
    assert [(d, u) for d, u, _ in found] == [("db-1", "app"), ("db-2", "app")]
    assert len({key for _, _, key in found}) == 2
    assert all(key.startswith("account#") and key.endswith("#app@%") for _, _, key in found)
