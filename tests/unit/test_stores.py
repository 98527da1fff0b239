"""The rules of `CredentialStore` and of `Stores` that do not depend on an adapter."""

import json
from collections.abc import Callable

import pytest

from lockstep.errors import (
    FenceLostError,
    InvalidRequestError,
    ReadSideLaggingError,
    SecretMalformedError,
    StagedValueConflictError,
    StoreUnreachableError,
)
from lockstep.model import CredentialValue, Login, SecretStr
from lockstep.stores import READ_SIDE_TIMEOUT_SECONDS, Stores
from tests.support.fence import fence_held
from tests.support.memory import FakeClock, MemoryStore, make_plan

CREDENTIAL = make_plan().credentials[0]


class Pair:
    """Two stores and their collection."""

    def __init__(self) -> None:
        self.first, self.second = (MemoryStore(name, CREDENTIAL) for name in ("first", "second"))
        self.both = Stores([self.first, self.second])


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("memory", CREDENTIAL)


@pytest.fixture
def pair() -> Pair:
    return Pair()


def value(generation: int, by: str = "me") -> CredentialValue:
    return CredentialValue(generation, Login("app", SecretStr(f"password-{generation}-of-{by}")))


def app_user(generation: int) -> str:
    return json.dumps({"username": "app", "password": "hunter2", "generation": generation})


# Forgeries


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.read_current(),
        lambda store: store.read_version("generation-7"),
        lambda store: store.read_generation(7),
        lambda store: store.stage(value(7)),
    ],
    ids=["read_current", "read_version", "read_generation", "stage"],
)
@pytest.mark.parametrize("text", [app_user(5), '{"placeholder":true}'], ids=["another", "placeholder"])
def test_a_text_that_claims_another_generation_than_its_name_is_malformed(
    store: MemoryStore, read: Callable[[MemoryStore], object], text: str
) -> None:
    store.forge("app_user", 7, text)
    with pytest.raises(SecretMalformedError) as error:
        read(store)
    assert error.value.where == {
        "store": "memory",
        "secret": CREDENTIAL.secret_names.app_user,
        "code": "forged",
    }
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("read", [MemoryStore.read_current, lambda store: store.stage(value(7))])
def test_a_connection_blob_that_claims_another_generation_than_its_name_is_malformed(
    store: MemoryStore, read: Callable[[MemoryStore], object]
) -> None:
    store.forge("connection_blob", 7, '{"generation":5}')
    with pytest.raises(SecretMalformedError) as error:
        read(store)
    assert error.value.where["secret"] == CREDENTIAL.secret_names.connection_blob


def test_a_connection_blob_from_an_older_plan_is_kept(store: MemoryStore) -> None:
    store.forge("connection_blob", 7, '{"generation":7,"databases":{}}')
    assert store.stage(value(7)) == value(7)
    assert store.current_text("connection_blob") == '{"generation":7,"databases":{}}'


# The order of a promotion


def test_the_fence_is_read_between_the_observations_and_the_first_change(store: MemoryStore) -> None:
    store.stage(value(1))
    done: list[str] = []
    store.faults.before = done.append
    store.promote(1, lambda: done.append("fence"))
    assert done == [
        "describe app_user",
        "describe connection_blob",
        "fence",
        "promote app_user",
        "promote connection_blob",
    ]


def test_a_secret_that_serves_the_generation_is_not_changed(store: MemoryStore) -> None:
    store.stage(value(1))
    store.promote(1, fence_held)
    store.edit("connection_blob", "by hand")
    done: list[str] = []
    store.faults.before = done.append
    store.promote(1, lambda: done.append("fence"))
    assert done == ["describe app_user", "describe connection_blob", "fence", "promote connection_blob"]


@pytest.mark.parametrize("newer", ["app_user", "connection_blob"])
def test_a_higher_generation_in_either_secret_is_a_lost_fence(store: MemoryStore, newer: str) -> None:
    store.stage(value(1))
    store.stage(value(2))
    store._secrets[newer].make_current("generation-2")  # type: ignore[index]  # one of the two kinds
    done: list[str] = []
    with pytest.raises(FenceLostError):
        store.promote(1, lambda: done.append("fence"))
    assert done == []


# Several stores


def test_the_first_store_decides_and_the_others_get_a_copy(pair: Pair) -> None:
    pair.first.stage(value(1, by="earlier"))
    assert pair.both.stage(value(1)) == value(1, by="earlier")
    assert pair.second.read_generation(1) == value(1, by="earlier")
    assert pair.both.first is pair.first


def test_another_value_in_another_store_is_a_conflict(pair: Pair) -> None:
    pair.second.stage(value(1, by="another"))
    with pytest.raises(StagedValueConflictError) as error:
        pair.both.stage(value(1))
    assert error.value.where == {"store": "second", "generation": "1"}


def test_a_generation_is_found_in_the_first_store_that_holds_it(pair: Pair) -> None:
    pair.second.stage(value(1, by="second"))
    assert pair.both.find_generation(1) == value(1, by="second")
    assert pair.both.holder_of(1) is pair.second
    pair.first.stage(value(1, by="first"))
    assert pair.both.find_generation(1) == value(1, by="first")
    assert pair.both.holder_of(1) is pair.first
    assert pair.both.find_generation(2) is None
    assert pair.both.holder_of(2) is None


def test_a_version_is_read_from_the_store_that_is_named(pair: Pair) -> None:
    pair.second.stage(value(1))
    assert pair.both.read_version(store="second", version="generation-1") == value(1)
    assert pair.both.read_version(store="first", version="generation-1") is None
    with pytest.raises(InvalidRequestError) as error:
        pair.both.read_version(store="third", version="generation-1")
    assert error.value.where == {"store": "third"}


def test_served_lists_every_store_in_order(pair: Pair) -> None:
    pair.both.stage(value(1))
    pair.second.promote(1, fence_held)
    assert [(name, v.generation) for name, v in pair.both.served().items()] == [("first", 0), ("second", 1)]
    assert pair.both.versions_of(1) == {"first": "generation-1", "second": "generation-1"}
    pair.first.faults.before = _unreachable
    with pytest.raises(StoreUnreachableError):
        pair.both.served()


def _unreachable(_operation: str) -> None:
    raise StoreUnreachableError


def test_every_store_promotes_and_each_reads_the_fence(pair: Pair) -> None:
    pair.both.stage(value(1))
    asked: list[str] = []
    pair.both.promote(1, lambda: asked.append("fence"))
    assert asked == ["fence", "fence"]
    assert {v.generation for v in pair.both.served().values()} == {1}


def test_waiting_ends_when_every_store_serves_or_the_time_is_over(pair: Pair) -> None:
    clock = FakeClock()
    pair.both.stage(value(1))
    pair.both.promote(1, fence_held)
    pair.first.lagging_reads, pair.second.lagging_reads = 2, 4
    pair.both.wait_until_served(1, clock)
    assert (pair.first.lagging_reads, pair.second.lagging_reads) == (0, 0)
    pair.second.lagging_reads = 10**6
    began = clock.monotonic()
    with pytest.raises(ReadSideLaggingError) as error:
        pair.both.wait_until_served(1, clock)
    assert error.value.where == {"store": "second", "generation": "1"}
    assert clock.monotonic() - began == READ_SIDE_TIMEOUT_SECONDS
