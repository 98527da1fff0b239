"""Keys of others live through all that happens to a credential, in each secret of each store (protocol V20).

`KEYS` of each store and secret differ, so a key that comes from another place is found.
"""

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lockstep.protocol.errors import EditedMeanwhileError
from lockstep.protocol.model import Login, SecretStr, Strategy
from tests.support.memory import MemoryWorld
from tests.support.memory_store import KINDS, OUR_KEYS, MemoryStore, SecretKind
from tests.support.world import Killed, at_every_boundary, make_world, rotate_again, undisturbed
from tests.unit.ring_world import RingWorld, attempt, ring_world

CANARY = "hunter2-of-another-team"


def keys_of(store: MemoryStore, kind: SecretKind) -> dict[str, object]:
    """What a secret has beside Lockstep's own keys."""
    document = json.loads(store.current_text(kind))
    return {key: value for key, value in document.items() if key not in OUR_KEYS[kind]}


def run(world: MemoryWorld, rotation_id: str, *, runner: str = "aws") -> object:
    """The run of the next trigger; the kind of its claim, as its audit entry says."""
    rotate_again(world, rotation_id, runner=runner)
    entries = world.audit_logs[runner].entries
    return json.loads(entries[max(entries)][0])["event"]["unmapped"]["lockstep"]["kind"]


def adopted(store: MemoryStore, kind: SecretKind) -> dict[str, object]:
    return {"masterarn": f"{store.name}/{kind}", "api_key": CANARY, "nested": {"of": [store.name, None]}}


def add_keys(store: MemoryStore, kind: SecretKind, **more: object) -> None:
    """A person edits a secret: what it has, and more."""
    document = json.loads(store.current_text(kind))
    store.edit(kind, json.dumps({**document, **more}))


@pytest.fixture(params=list(Strategy))
def world(request: pytest.FixtureRequest) -> MemoryWorld:
    made = make_world(strategy=request.param)
    for store in made.stores.values():
        for kind in KINDS:
            add_keys(store, kind, **adopted(store, kind))
    assert run(made, "adoption") == "reconcile"
    assert_carried(made)
    return made


def assert_carried(world: MemoryWorld) -> None:
    for store in world.stores.values():
        for kind in KINDS:
            assert "generation" in json.loads(store.current_text(kind))
            assert keys_of(store, kind) == adopted(store, kind)
    assert world.locked_out() == []


def test_a_run_that_dies_anywhere_is_finished_by_the_other_runner(world: MemoryWorld) -> None:
    reached = left = 0

    def dies(_boundary: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    for n in range(1, 200):
        left = n
        at_every_boundary(world, dies)
        with suppress(Killed):
            rotate_again(world, f"dies-{n}", runner="aws")
        undisturbed(world)
        if left > 0:
            break
        reached += 1
        rotate_again(world, f"finishes-{n}", runner="oci")
        assert_carried(world)
    assert reached > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_adds_changes_and_removes_keys(world: MemoryWorld, kind: SecretKind) -> None:
    store = world.stores["aws"]
    add_keys(store, kind, team="payments", masterarn="another")
    assert run(world, "reconciles") == "reconcile"
    expected = {**adopted(store, kind), "team": "payments", "masterarn": "another"}
    assert keys_of(store, kind) == expected
    assert keys_of(world.stores["oci"], kind) == adopted(world.stores["oci"], kind)
    document = json.loads(store.current_text(kind))
    del document["nested"], document["api_key"]
    store.edit(kind, json.dumps(document))
    rotate_again(world, "reconciles-again")
    assert keys_of(store, kind) == {"team": "payments", "masterarn": "another"}
    assert run(world, "rotates") == "new"
    assert keys_of(store, kind) == {"team": "payments", "masterarn": "another"}


@pytest.mark.parametrize(("name", "kind"), [("aws", "app_user"), ("oci", "connection_blob")])
def test_an_edit_at_any_moment_of_a_run_is_kept(world: MemoryWorld, name: str, kind: SecretKind) -> None:
    """A run that would replace it ends, and the next one reconciles (protocol V20)."""
    store, reached, left = world.stores[name], 0, 0
    every = 11  # A run has about a hundred boundaries.

    def edits(_boundary: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            add_keys(store, kind, team=reached)

    for n in range(1, 200, every):
        left = n
        at_every_boundary(world, edits)
        with suppress(EditedMeanwhileError):
            rotate_again(world, f"edited-{n}")
        undisturbed(world)
        if left > 0:
            break
        rotate_again(world, f"next-{n}")
        assert keys_of(store, kind) == {**adopted(store, kind), "team": reached}, n
        assert world.locked_out() == []
        reached += 1
    assert reached > 4


def test_a_placeholder_has_nothing_to_carry(world: MemoryWorld) -> None:
    store = world.stores["oci"]
    store.edit("app_user", '{"placeholder":true,"team":"payments"}')
    assert run(world, "reconciles") == "reconcile"
    assert keys_of(store, "app_user") == {"team": "payments"}


def test_no_key_is_in_the_audit_log_or_the_record(world: MemoryWorld) -> None:
    rotate_again(world, "second")
    for log in world.audit_logs.values():
        for body, _summary in log.entries.values():
            assert CANARY.encode() not in body
            assert b"masterarn" not in body
    assert CANARY not in repr(world.lock.record)
    assert CANARY not in repr([s.read_current() for s in world.stores.values()])
    assert CANARY not in repr([s.secret(k).read_current() for s in world.stores.values() for k in KINDS])


# A ring


@pytest.fixture
def ring() -> Iterator[RingWorld]:
    with ring_world(slots=3) as made:
        made.edit(0, Login("app", SecretStr("before-lockstep")), team="payments", api_key=CANARY)
        yield made


def in_slots(world: RingWorld) -> list[object]:
    """The value of `team` in each slot."""
    return [json.loads(world.ring.console.current(i)[1]).get("team") for i in world.ring.ids["app_user"]]


def team(world: RingWorld) -> object:
    """The value of `team` that an application reads."""
    return json.loads(world.ring.current_text("app_user")).get("team")


def test_every_slot_of_a_ring_gets_the_keys_in_its_turn(ring: RingWorld) -> None:
    for n in range(7):
        assert attempt(ring, f"oci-{n}") == "rotated"
        assert team(ring) == "payments"
    assert in_slots(ring) == ["payments"] * 3
    assert ring.lockouts == []


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("rotations", [0, 1, 2, 5])
def test_an_edit_of_any_slot_counts(ring: RingWorld, which: int, rotations: int) -> None:
    for n in range(rotations):
        assert attempt(ring, f"oci-{n}") == "rotated"
    login = ring.read()
    ring.memory.clock.sleep(1)
    ring.edit(which, login, team="ledger")
    for n in range(5):
        assert attempt(ring, f"after-{n}") == "rotated"
        assert team(ring) == "ledger", n
    assert in_slots(ring) == ["ledger"] * 3
