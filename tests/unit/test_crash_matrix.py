"""Runs that die after any change: of one build, and of two whose formats differ.

A run that dies is finished by the next run, and locks nobody out meanwhile (protocol I1, I9). Of two builds on one live
credential, the older one stands for the edition before an upgrade (protocol R10, I8). At every boundary what each store
serves logs in everywhere.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import count

import pytest

from lockstep.audit.confirmed import Verdict
from lockstep.client.cache import decode
from lockstep.protocol.errors import LockstepError, NewerFormatError, SecretMalformedError
from lockstep.protocol.model import Strategy
from lockstep.stores.contents import decode_app_user, require_known_format
from tests.proof.invariants import ViolationError
from tests.proof.memory_observer import InstantObserver
from tests.support import world as w
from tests.support.builds import NEWER, THIS, build
from tests.support.memory import MemorySigner, MemoryWorld
from tests.support.seals import sealed
from tests.unit.audit_case import verified
from tests.unit.flights import both_strategies, dies, steady

CHANGES = 18
"""The least number of changes in a run. Fewer mean that the hooks miss some."""

# What happened before the run that dies


def _edited_by_hand(strategy: Strategy, *, emergency: bool = False) -> MemoryWorld:
    world = steady(strategy)
    w.edit(world.stores["aws"], w.another_login(world))
    return _emergency(world) if emergency else world


def _only_in_one_store(strategy: Strategy) -> MemoryWorld:
    world = w.make_world(strategy=strategy, placeholder=True)
    login = w.another_login(world)
    w.edit(world.stores["aws"], login)
    w.set_password(world, login)
    return world


def _failed_over(strategy: Strategy) -> MemoryWorld:
    """The last change of one database is lost: it refuses what the stores serve (protocol C5)."""
    world = steady(strategy)
    backup = deepcopy(world.databases["db-2"].accounts)
    w.rotate(world, "third", runner="aws")
    world.databases["db-2"].accounts = backup
    world.clock.sleep(w.INTERVAL_SECONDS)
    return world


def _emergency(world: MemoryWorld) -> MemoryWorld:
    w.revokes_everything(world)
    return world


STORIES: dict[str, Callable[[Strategy], MemoryWorld]] = {
    "steady": steady,
    "one store": partial(steady, stores=1),
    "taken over": lambda strategy: w.make_world(strategy=strategy),
    "bootstrapped": lambda strategy: w.make_world(strategy=strategy, placeholder=True),
    "one placeholder": _only_in_one_store,
    "edited by hand": _edited_by_hand,
    "failed over": _failed_over,
    "emergency": lambda strategy: _emergency(steady(strategy)),
    "emergency in a reconcile": partial(_edited_by_hand, emergency=True),
}


def _ran(world: MemoryWorld, run: str, *, runner: str = "aws", dies: int = 10**6, written: int = THIS) -> str:
    """One run of a build; its outcome, the error's name, or after which change it died."""
    with build(NEWER):
        observer = InstantObserver(world)

    def look(boundary: str) -> None:
        with build(NEWER):
            observer.look(boundary)

    death = w.Death(dies, look)
    w.at_every_boundary(world, death)
    try:
        with build(written):
            return w.rotate(world, run, runner=runner).outcome
    except w.Killed:
        return death.boundary
    except LockstepError as e:
        return type(e).__name__
    finally:
        w.undisturbed(world)
        world.clock.sleep(w.INTERVAL_SECONDS)


def _survives(world: MemoryWorld, recoverer: str, *, died: str, refusals: int = 1) -> None:
    try:
        assert _ran(world, "recovery", runner=recoverer) == "rotated"
        w.assert_in_sync(world)
        record = world.lock.record
        recovered, emergency = w.login_of(world, record.current_generation or 0), record.is_revoking
        assert _ran(world, "following") == "rotated"
        _is_whole(world, set() if emergency else {w.shown(recovered)}, refusals)
    except (AssertionError, LockstepError, ViolationError) as e:
        raise AssertionError(f"died {died}") from e


def _is_whole(world: MemoryWorld, base: set[tuple[str, str]], refusals: int) -> None:
    w.assert_in_sync(world)
    assert not world.lock.record.is_revoking
    live = {w.shown(w.login_of(world, world.lock.record.current_generation or 0)), *base}
    for database, let_in in w.known_logins(world).items():
        assert let_in == live, f"I9: {database} accepts a revoked login, or refuses a live one"
        assert world.databases[database].refusals.most <= refusals, "refused logins in a row"
    w.assert_on_record(world)
    recorded = [w.rotation_of(e) for stream in world.audit_logs for e in w.entries(world, stream)]
    assert recorded.count("recovery") == recorded.count("following") == 1


@both_strategies
@pytest.mark.parametrize("story", STORIES)
def test_a_run_that_dies_after_any_change_is_finished_by_the_next(story: str, strategy: Strategy) -> None:
    for at in count():
        world = STORIES[story](strategy)
        died = _ran(world, "dies", dies=at)
        if died == "rotated":
            break
        # What was typed is shown first by both runs.
        refusals = 2 if story in ("failed over", "edited by hand", "emergency in a reconcile") else 1
        _survives(world, ("aws", "oci")[at % 2], died=f"{died} ({at})", refusals=refusals)
    assert at >= CHANGES


def test_where_the_lock_table_was_lost_a_reconcile_goes_on_from_what_no_entry_records() -> None:
    world = steady(Strategy.DUAL_PASSWORD)
    assert _ran(world, "dies", dies=22) == "after aws promote connection_blob"
    w.loses_the_lock_table(world)
    w.activates(world)
    assert _ran(world, "reconciles") == "rotated"
    assert [v.problems for v in verified(world).values()] == [[], []]


@pytest.mark.parametrize("boundary", ["after db-2 stage", "after aws promote connection_blob"])
def test_keys_that_were_added_after_a_run_died_are_kept_and_stop_nothing(boundary: str) -> None:
    world = steady()
    dies(world, boundary)
    store = world.stores["aws"]
    store.edit("app_user", json.dumps({**json.loads(store.current_text("app_user")), "team": "ours"}))
    assert [_ran(world, run) for run in ("next", "following")] == ["rotated"] * 2
    assert json.loads(store.current_text("app_user"))["team"] == "ours"


# Two builds


def _all(world: MemoryWorld) -> object:
    """Everything that a run can change, but for the lease and the fence."""
    return (
        replace(world.lock.record, holder=None, expires_at=None, fence=0),
        {
            s.name: {k: (v.current, dict(v.versions)) for k, v in s._secrets.items()}
            for s in world.stores.values()
        },
        {d.name: {u: a.passwords for u, a in d.accounts.items()} for d in world.databases.values()},
        {name: dict(log.entries) for name, log in world.audit_logs.items()},
    )


@both_strategies
@pytest.mark.parametrize("runner", ["aws", "oci"])
def test_an_older_build_leaves_alone_what_a_newer_one_left(strategy: Strategy, runner: str) -> None:
    rotated = 0
    for at in count():
        world = w.make_world(strategy=strategy)
        assert [_ran(world, of, runner=of) for of in ("aws", "oci")] == ["rotated", "rotated"]
        died = _ran(world, "dies", dies=at, written=NEWER)
        before, has_claimed = _all(world), world.lock.format == NEWER
        outcome = _ran(world, "older", runner=runner)
        assert outcome == ("NewerFormatError" if has_claimed else "rotated"), died
        assert not has_claimed or _all(world) == before, died
        assert world.lock.record.holder is None
        assert _ran(world, "newer", runner=runner, written=NEWER) == "rotated", died
        with build(NEWER):
            w.assert_in_sync(world)
            w.assert_on_record(world)
        rotated += outcome == "rotated"
        if died == "rotated":
            break
    assert at >= CHANGES
    assert 0 < rotated < at / 2


# Formats


WHERE = {"store": "aws", "secret": "multi-cloud/app_user"}
LOGIN = {"username": "app", "password": "hunter2"}


def test_a_newer_secret_is_refused_whatever_it_looks_like_and_any_other_is_read() -> None:
    """Applications read the login of a newer build as far as there is one."""
    for document in ({**LOGIN, "format": str(NEWER)}, {"format": NEWER, "login": "elsewhere"}):
        with pytest.raises(NewerFormatError, match=f"format-{NEWER}.*Upgrade") as caught:
            require_known_format(json.dumps(document), **WHERE)
        assert "hunter2" not in str(caught.value)
    for known in ({}, *({"format": f} for f in (1, "1", True, 9.5))):
        text = json.dumps({**LOGIN, **known})
        require_known_format(text, **WHERE)
        assert decode_app_user(text, **WHERE)[0]
    assert decode(json.dumps({**LOGIN, "format": NEWER}), **WHERE).username == "app"
    for format_, error in ((NEWER, NewerFormatError), (THIS, SecretMalformedError)):
        with pytest.raises(error):
            decode(json.dumps({"login": {}, "format": format_}), **WHERE)


def test_a_secret_of_a_newer_build_is_not_written_over_where_the_lock_table_was_lost() -> None:
    """Record, secrets and entries name the format of their build."""
    world = w.make_world()
    with build(NEWER):
        w.rotate(world, "run-1")
    assert world.lock.format == NEWER
    secrets = [secret for store in world.stores.values() for secret in store._secrets.values()]
    formats = [json.loads(secret.versions["generation-1"])["format"] for secret in secrets]
    assert formats == [NEWER, NEWER, str(NEWER), str(NEWER)]
    assert json.loads(world.audit_logs["aws"].entries[1][0])["chain"]["format"] == NEWER
    w.loses_the_lock_table(world)
    w.activates(world)
    before = [store.current_text("app_user") for store in world.stores.values()]
    with pytest.raises(NewerFormatError):
        w.rotate_again(world, "run-2")
    assert [store.current_text("app_user") for store in world.stores.values()] == before
    assert world.lock.record.claim is None


def test_a_chain_that_two_builds_wrote_is_verified_by_the_newer_one_alone() -> None:
    """What only says that it is of a newer format is a problem."""
    world = w.make_world()
    w.rotate(world, "run-1")
    with build(NEWER):
        w.rotate_again(world, "run-2")
        found = verified(world)["aws"]
        assert (found.problems, len(found.entries)) == ([], 2)
    found = verified(world)["aws"]
    assert found.verdict is Verdict.UNREADABLE
    assert found.unreadable.startswith("NewerFormatError")

    world = w.make_world()
    w.rotate(world, "run-1")
    with build(NEWER):
        other = sealed({"time": 0}, signer=MemorySigner("another-key"))
    world.audit_logs["aws"].put(2, other.body, other.metadata)
    w.rotate_again(world, "run-2")
    found = verified(world)["aws"]
    assert (found.verdict, [p.first for p in found.problems]) == (Verdict.NOT_VERIFIED, [2])
