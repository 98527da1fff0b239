"""Keys of others live through all that happens to a credential, in each secret of each store (protocol V20).

`KEYS` of each store and secret differ, so a key that comes from another place is found.
"""

import json
from contextlib import suppress
from functools import partial
from itertools import count

import pytest

from lockstep.protocol.errors import EditedMeanwhileError
from lockstep.protocol.model import Strategy
from tests.support import world as w
from tests.support.memory import MemoryWorld
from tests.support.memory_store import KINDS, OUR_KEYS, MemoryStore, SecretKind

CANARY = "hunter2-of-another-team"


def keys_of(store: MemoryStore, kind: SecretKind) -> dict[str, object]:
    """What a secret has beside Lockstep's own keys."""
    document = json.loads(store.current_text(kind))
    return {key: value for key, value in document.items() if key not in OUR_KEYS[kind]}


def run(world: MemoryWorld, rotation_id: str, *, runner: str = "aws") -> object:
    """The run of the next trigger; the kind of its claim, as its audit entry says."""
    w.rotate_again(world, rotation_id, runner=runner)
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
    made = w.make_world(strategy=request.param)
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
    for n in count():
        death = w.Death(n)
        w.at_every_boundary(world, death)
        with suppress(w.Killed):
            w.rotate_again(world, f"dies-{n}", runner="aws")
        w.undisturbed(world)
        if not death.boundary:
            break
        w.rotate_again(world, f"finishes-{n}", runner="oci")
        assert_carried(world)
    assert n > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_person_adds_changes_and_removes_keys(world: MemoryWorld, kind: SecretKind) -> None:
    store, other = world.stores["aws"], world.stores["oci"]
    add_keys(store, kind, team="payments", masterarn="another")
    assert run(world, "reconciles") == "reconcile"
    assert keys_of(store, kind) == {**adopted(store, kind), "team": "payments", "masterarn": "another"}
    assert keys_of(other, kind) == adopted(other, kind)
    document = json.loads(store.current_text(kind))
    del document["nested"], document["api_key"]
    store.edit(kind, json.dumps(document))
    for expected in ("reconcile", "new"):
        assert run(world, f"runs-{expected}") == expected
        assert keys_of(store, kind) == {"team": "payments", "masterarn": "another"}
    store.edit(kind, '{"placeholder":true,"team":"ledger"}')
    assert run(world, "reconciles-again") == "reconcile"
    assert keys_of(store, kind) == {"team": "ledger"}


@pytest.mark.parametrize(("name", "kind"), [("aws", "app_user"), ("oci", "connection_blob")])
def test_an_edit_at_any_moment_of_a_run_is_kept(world: MemoryWorld, name: str, kind: SecretKind) -> None:
    """A run that would replace it ends, and the next one reconciles (protocol V20)."""
    store = world.stores[name]
    for n in range(0, 100, 11):  # A run has about a hundred boundaries.
        edited = w.interrupted(world, n, partial(add_keys, store, kind, team=n))
        with suppress(EditedMeanwhileError):
            w.rotate_again(world, f"edited-{n}")
        w.undisturbed(world)
        if not edited.boundary:
            break
        w.rotate_again(world, f"next-{n}")
        assert keys_of(store, kind) == {**adopted(store, kind), "team": n}
        assert world.locked_out() == []
    assert n > 44


def test_no_key_is_in_the_audit_log_or_the_record(world: MemoryWorld) -> None:
    w.rotate_again(world, "second")
    for log in world.audit_logs.values():
        for body, _summary in log.entries.values():
            assert CANARY.encode() not in body
            assert b"masterarn" not in body
    assert CANARY not in repr(world.lock.record)
    assert CANARY not in repr([s.read_current() for s in world.stores.values()])
    assert CANARY not in repr([s.secret(k).read_current() for s in world.stores.values() for k in KINDS])
