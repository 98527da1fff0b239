"""A run that dies after any change is finished by the next run, and locks nobody out meanwhile (protocol I1, I9)."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import count, product

import pytest

from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import Strategy
from tests.proof.invariants import ViolationError
from tests.proof.memory_observer import InstantObserver
from tests.support import world as w
from tests.support.memory import MemoryWorld


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happened before the run that dies.

    Attributes:
        changes: The least number of changes in a run. Fewer mean that the hooks miss some.
        refusals: The most refused logins in a row.
    """

    changes: int
    prepare: Callable[[MemoryWorld], object] = lambda _world: None
    rotations: int = 2
    refusals: int = 1
    placeholder: bool = False
    stores: int = 2


def _edited_by_hand(world: MemoryWorld) -> None:
    w.edit(world.stores["aws"], w.another_login(world))


def _only_in_one_store(world: MemoryWorld) -> None:
    login = w.another_login(world)
    w.edit(world.stores["aws"], login)
    for database in world.databases.values():
        database.accounts[login.username].passwords = (login.password.reveal(),)


def _failed_over(world: MemoryWorld) -> None:
    """The last change of one database is lost: it refuses what the stores serve (protocol C5)."""
    backup = deepcopy(world.databases["db-2"].accounts)
    w.rotate(world, "third", runner="aws")
    world.databases["db-2"].accounts = backup
    world.clock.sleep(w.INTERVAL_SECONDS)


def _emergency_in_a_reconcile(world: MemoryWorld) -> None:
    _edited_by_hand(world)
    w.revokes_everything(world)


STEADY = Story(changes=25)
STORIES = {
    "steady": STEADY,
    "one store": Story(changes=22, stores=1),
    "taken over": Story(changes=20, rotations=0),
    "bootstrapped": Story(changes=18, rotations=0, placeholder=True),
    "one placeholder": Story(changes=20, rotations=0, placeholder=True, prepare=_only_in_one_store),
    "edited by hand": Story(changes=20, prepare=_edited_by_hand),
    "failed over": Story(changes=28, prepare=_failed_over, refusals=2),
    "emergency": Story(changes=40, prepare=w.revokes_everything),
    "emergency in a reconcile": Story(changes=20, prepare=_emergency_in_a_reconcile),
}


def _world(story: Story, strategy: Strategy) -> MemoryWorld:
    world = w.make_world(
        stores=story.stores, strategy=strategy, placeholder=story.placeholder, rotations=story.rotations
    )
    story.prepare(world)
    return world


def _dies(world: MemoryWorld, run: str, *, at: int, runner: str = "aws") -> str:
    """Let a run die after its n-th change; return the boundary, or an empty text if it had fewer."""
    death = w.Death(at, InstantObserver(world).look)
    w.at_every_boundary(world, death)
    try:
        w.rotate(world, run, runner=runner)
    except w.Killed:
        pass
    finally:
        w.undisturbed(world)
    return death.boundary


def _survives(world: MemoryWorld, recoverer: str, *, died: str, refusals: int = 1) -> None:
    try:
        w.at_every_boundary(world, InstantObserver(world).look)
        recovered = w.rotate_again(world, "recovery", runner=recoverer)
        assert recovered.outcome == "rotated"
        w.assert_in_sync(world, recovered.generation)
        base, emergency = w.login_of(world, recovered.generation or 0), world.lock.record.is_revoking
        following = w.rotate_again(world, "following", runner="aws")
        w.undisturbed(world)
        _is_whole(world, following.generation or 0, set() if emergency else {w.shown(base)}, refusals)
    except (AssertionError, LockstepError, ViolationError) as e:
        raise AssertionError(f"died {died}") from e


def _is_whole(world: MemoryWorld, generation: int, base: set[tuple[str, str]], refusals: int) -> None:
    w.assert_in_sync(world, generation)
    assert not world.lock.record.is_revoking
    for database, let_in in w.known_logins(world).items():
        live = {w.shown(w.login_of(world, generation)), *base}
        assert let_in == live, f"I9: {database} accepts a revoked login, or refuses a live one"
        assert world.databases[database].refusals.most <= refusals, "refused logins in a row"
    w.assert_on_record(world)
    recorded = [w.rotation_of(e) for stream in world.audit_logs for e in w.entries(world, stream)]
    assert recorded.count("recovery") == recorded.count("following") == 1


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_a_run_that_dies_after_any_change_is_finished_by_the_next(story: Story, strategy: Strategy) -> None:
    for at in count():
        world = _world(story, strategy)
        boundary = _dies(world, "dies", at=at)
        if not boundary:
            break
        recoverer = ("aws", "oci")[at % 2]
        _survives(world, recoverer, died=f"{boundary} ({at})", refusals=story.refusals)
    assert at >= story.changes


@pytest.mark.parametrize("strategy", list(Strategy))
def test_two_runs_that_die_in_a_row_are_finished_by_the_next_run(strategy: Strategy) -> None:
    # The strides have no common factor, so every kind of boundary of one run meets many of the other.
    for first, step in product(range(0, STEADY.changes, 3), range(0, STEADY.changes, 5)):
        world, second = _world(STEADY, strategy), step + first % 5
        died = _dies(world, "dies", at=first)
        world.clock.sleep(w.INTERVAL_SECONDS)
        died += f", then {_dies(world, 'dies-too', at=second, runner='oci')}"
        _survives(world, "aws", died=died)
