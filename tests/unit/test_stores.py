"""The rules of `CredentialStore` and of `Stores` that do not depend on an adapter."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import pytest

from lockstep.protocol.errors import (
    FenceLostError,
    ReadSideLaggingError,
    SecretMalformedError,
    StagedValueConflictError,
)
from lockstep.protocol.messages import CandidateRef
from lockstep.protocol.model import CredentialValue, Login, SecretStr, StoreVersions
from lockstep.protocol.ports import StillOurs
from lockstep.stores.credential import READ_SIDE_TIMEOUT_SECONDS, Stores
from tests.support import world as w
from tests.support.fence import fence_held
from tests.support.memory import FakeClock, MemoryStore, make_plan
from tests.support.memory_store import KINDS, OUR_KEYS, SecretKind

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


READS: dict[str, Callable[[MemoryStore], object]] = {
    "read_current": lambda store: store.read_current(),
    "stage": lambda store: store.stage(value(7)),
    "read_version": lambda store: store.read_version("generation-7"),
    "read_generation": lambda store: store.read_generation(7),
}


@pytest.mark.parametrize(
    ("kind", "text", "reads"),
    [
        ("app_user", app_user(5), list(READS)),
        ("app_user", '{"placeholder":true}', list(READS)),
        ("connection_blob", '{"generation":5}', ["read_current", "stage"]),
    ],
)
def test_a_text_that_claims_another_generation_than_its_name_is_malformed(
    store: MemoryStore, kind: SecretKind, text: str, reads: list[str]
) -> None:
    store.forge(kind, 7, text)
    names = CREDENTIAL.secret_names
    secret = names.app_user if kind == "app_user" else names.connection_blob
    for read in reads:
        with pytest.raises(SecretMalformedError) as error:
            READS[read](store)
        assert error.value.where == {"store": "memory", "secret": secret, "code": "forged"}
        assert "hunter2" not in str(error.value)


# The order of a promotion


def test_the_fence_is_read_between_the_observations_and_the_first_change_and_nothing_is_changed_twice(
    store: MemoryStore,
) -> None:
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
    store.edit("connection_blob", "by hand")
    done.clear()
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


def test_a_generation_is_found_in_the_first_store_that_holds_it(pair: Pair) -> None:
    pair.second.stage(value(1, by="second"))
    ref = CandidateRef(store="second", version="generation-1")
    assert pair.both.find_version(1) == (ref, value(1, by="second"))
    pair.first.stage(value(1, by="first"))
    assert pair.both.find_generation(1) == value(1, by="first")
    assert pair.both.find_generation(2) is None
    assert pair.both.find_version(2) is None


def promoted(pair: Pair, seen: Sequence[StoreVersions], still_ours: StillOurs) -> tuple[StoreVersions, ...]:
    return pair.both.prepare_promotion(1, seen)(still_ours)


def test_every_store_promotes_what_was_seen_without_a_look(pair: Pair) -> None:
    pair.both.served()
    seen = pair.both.prepare(1, is_new=True)(value(1))
    assert seen == tuple(
        StoreVersions(store=name, app_user="edit-1", connection_blob="edit-2") for name in ("first", "second")
    )
    asked: list[str] = []
    for store in (pair.first, pair.second):
        store.faults.before = asked.append
    versions = promoted(pair, seen, lambda: asked.append("fence"))
    assert asked == ["promote app_user", "promote connection_blob"] * 2
    assert {v.generation for v in pair.both.served().values()} == {1}
    assert {(v.app_user, v.connection_blob) for v in versions} == {("generation-1", "generation-1")}


@pytest.mark.parametrize("kind", ["app_user", "connection_blob"])
def test_where_what_was_seen_is_gone_that_store_alone_is_looked_at(pair: Pair, kind: SecretKind) -> None:
    pair.both.served()
    seen = pair.both.prepare(1, is_new=True)(value(1))
    pair.second.edit(kind, app_user(0))
    asked: list[str] = []
    pair.second.faults.before = asked.append
    promoted(pair, seen, lambda: asked.append("fence"))
    assert asked == [
        "promote app_user",
        "promote connection_blob",
        f"describe {kind}",
        "fence",
        f"promote {kind}",
    ]
    assert {(v.generation, v.blob_generation) for v in pair.both.served().values()} == {(1, 1)}


# Claims


def test_of_one_claim_the_first_store_decides_and_a_value_of_another_is_a_conflict(pair: Pair) -> None:
    """It was staged before the lock table was lost; its username may be the current one by now (protocol V22)."""
    theirs = replace(value(1, by="twin"), claim_id="mine")
    pair.first.stage(theirs)
    pair.both.stage(replace(value(1), claim_id="mine"))
    assert [store.read_generation(1) for store in pair.both] == [theirs, theirs]
    for generation, store in ((2, pair.first), (3, pair.second)):
        store.stage(replace(value(generation), claim_id="theirs"))
        with pytest.raises(StagedValueConflictError) as error:
            pair.both.stage(replace(value(generation), claim_id="mine"))
        assert error.value.where == {"store": store.name, "generation": str(generation)}
    pair.second.stage(value(4, by="another"))
    with pytest.raises(StagedValueConflictError):
        pair.both.stage(value(4))


def test_waiting_ends_when_every_store_serves_or_the_time_is_over(pair: Pair) -> None:
    clock = FakeClock()
    pair.both.stage(value(1))
    versions = promoted(pair, (), fence_held)
    pair.first.lagging_reads, pair.second.lagging_reads = 2, 4
    pair.both.wait_until_shown(1, versions, clock)
    assert (pair.first.lagging_reads, pair.second.lagging_reads) == (0, 0)
    pair.second.lagging_reads = 10**6
    began = clock.monotonic()
    with pytest.raises(ReadSideLaggingError) as error:
        pair.both.wait_until_shown(1, versions, clock)
    assert error.value.where == {"store": "second", "generation": "1"}
    assert clock.monotonic() - began == READ_SIDE_TIMEOUT_SECONDS


# Keys of others live through what happens to a credential (protocol V20); races hunt for lost ones

CANARY = "hunter2-of-another-team"


def keys_of(store: MemoryStore, kind: SecretKind) -> dict[str, object]:
    """What a secret has beside Lockstep's own keys."""
    document = json.loads(store.current_text(kind))
    return {key: value for key, value in document.items() if key not in OUR_KEYS[kind]}


def add_keys(store: MemoryStore, kind: SecretKind, **more: object) -> None:
    """A person edits a secret: what it has, and more."""
    store.edit(kind, json.dumps({**json.loads(store.current_text(kind)), **more}))


def adopted(store: MemoryStore, kind: SecretKind) -> dict[str, object]:
    """Other ones in each place, so a key that comes from another place is found."""
    return {"masterarn": f"{store.name}/{kind}", "api_key": CANARY, "nested": {"of": [store.name, None]}}


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_adds_changes_and_removes_keys(kind: SecretKind) -> None:
    world, rotations = w.make_world(), count()
    store, other = world.stores["aws"], world.stores["oci"]
    places = [(place, secret) for place in (store, other) for secret in KINDS]

    def run() -> object:
        """The next run; the kind of its claim, as its audit entry says."""
        w.rotate_again(world, f"run-{next(rotations)}")
        entries = world.audit_logs["aws"].entries
        return json.loads(entries[max(entries)][0])["event"]["unmapped"]["lockstep"]["kind"]

    for place, secret in places:
        add_keys(place, secret, **adopted(place, secret))
    assert run() == "reconcile"
    for place, secret in places:
        assert "generation" in json.loads(place.current_text(secret))
        assert keys_of(place, secret) == adopted(place, secret)
    add_keys(store, kind, team="payments", masterarn="another")
    assert run() == "reconcile"
    assert keys_of(store, kind) == {**adopted(store, kind), "team": "payments", "masterarn": "another"}
    assert keys_of(other, kind) == adopted(other, kind)
    document = json.loads(store.current_text(kind))
    del document["nested"], document["api_key"]
    store.edit(kind, json.dumps(document))
    for expected in ("reconcile", "new"):
        assert run() == expected
        assert keys_of(store, kind) == {"team": "payments", "masterarn": "another"}
    store.edit(kind, '{"placeholder":true,"team":"ledger"}')
    assert run() == "reconcile"
    assert keys_of(store, kind) == {"team": "ledger"}
    assert world.locked_out() == []
    for log in world.audit_logs.values():
        for body, _summary in log.entries.values():
            assert CANARY.encode() not in body
            assert b"masterarn" not in body
    shown = [world.lock.record, *(place.read_current() for place, _ in places)]
    assert CANARY not in repr([*shown, *(place.secret(secret).read_current() for place, secret in places)])
