"""A run dies before or after any operation; the next run, of either cloud, finishes the rotation (protocol I8, R1).

Every operation of every port has two boundaries: before it the operation does not happen; after it its reply is lost.

Staging is repeated from every state that a crash leaves (protocol D5).
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import pytest

from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import Login, SecretStr, Strategy
from tests.support.memory import MemoryWorld
from tests.support.world import (
    INTERVAL_SECONDS,
    Killed,
    Observer,
    another_login,
    assert_in_sync,
    assert_on_record,
    at_every_boundary,
    edit,
    entries,
    known_logins,
    login_of,
    make_world,
    revokes_everything,
    rotate,
    rotate_again,
    rotation_of,
    shown,
    undisturbed,
)


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happened before the run that dies.

    Attributes:
        boundaries: The least number of boundaries with two stores. Fewer mean that the hooks miss some.
        refusals: The most refused logins in a row.
    """

    name: str
    prepare: Callable[[MemoryWorld], None]
    boundaries: int
    refusals: int = 1
    placeholder: bool = False


def _nothing(_world: MemoryWorld) -> None:
    pass


def _two_rotations(world: MemoryWorld) -> None:
    rotate(world, "first", runner="aws")
    rotate_again(world, "second", runner="oci")
    world.clock.sleep(INTERVAL_SECONDS)


def _edited_by_hand(world: MemoryWorld) -> None:
    _two_rotations(world)
    edit(world.stores["aws"], another_login(world))


def _only_in_one_store(world: MemoryWorld) -> None:
    login = Login(world.credential.usernames[0], SecretStr("before-lockstep"))
    edit(world.stores["aws"], login)
    for database in world.databases.values():
        database.accounts[login.username].passwords = ("before-lockstep",)


def _failed_over(world: MemoryWorld) -> None:
    """The last change of one database is lost: it refuses what the stores serve (protocol C5)."""
    _two_rotations(world)
    backup = deepcopy(world.databases["db-2"].accounts)
    rotate(world, "third", runner="aws")
    world.databases["db-2"].accounts = backup
    world.clock.sleep(INTERVAL_SECONDS)


def _emergency(world: MemoryWorld) -> None:
    _two_rotations(world)
    revokes_everything(world)


def _emergency_in_a_reconcile(world: MemoryWorld) -> None:
    _edited_by_hand(world)
    revokes_everything(world)


STEADY = Story(name="steady", prepare=_two_rotations, boundaries=80)
STORIES = (
    STEADY,
    Story(name="taken-over", prepare=_nothing, boundaries=75),
    Story(name="bootstrapped", prepare=_nothing, boundaries=60, placeholder=True),
    Story(name="one-placeholder", prepare=_only_in_one_store, boundaries=70, placeholder=True),
    Story(name="edited-by-hand", prepare=_edited_by_hand, boundaries=80),
    Story(name="failed-over", prepare=_failed_over, boundaries=100, refusals=2),
    Story(name="emergency", prepare=_emergency, boundaries=100),
    Story(name="emergency-in-a-reconcile", prepare=_emergency_in_a_reconcile, boundaries=80),
)


class Death:
    """A hook that kills the process at its n-th boundary and at every later one."""

    def __init__(self, at: int, observer: Observer) -> None:
        self.boundary = ""
        self._left = at
        self._observer = observer

    def __call__(self, boundary: str) -> None:
        self._observer.look(boundary)
        if self._left == 0:
            self.boundary = self.boundary or boundary
            raise Killed
        self._left -= 1


def _world(story: Story, strategy: Strategy, stores: int) -> MemoryWorld:
    world = make_world(stores=stores, strategy=strategy, placeholder=story.placeholder)
    story.prepare(world)
    return world


def _dies(world: MemoryWorld, run: str, *, at: int, runner: str = "aws") -> str:
    """Let a run die; return the boundary, or an empty text if it had fewer."""
    death = Death(at, Observer(world))
    at_every_boundary(world, death)
    try:
        rotate(world, run, runner=runner)
    except Killed:
        pass
    finally:
        undisturbed(world)
    return death.boundary


def _recovers(world: MemoryWorld, runner: str) -> None:
    at_every_boundary(world, Observer(world).look)
    recovered = rotate_again(world, "recovery", runner=runner)
    undisturbed(world)
    assert recovered.outcome == "rotated"
    assert_in_sync(world, recovered.generation)


def _goes_on(world: MemoryWorld, refusals: int) -> None:
    base = login_of(world, world.lock.record.current_generation or 0)
    emergency = world.lock.record.is_revoking
    at_every_boundary(world, Observer(world).look)
    following = rotate_again(world, "following", runner="aws")
    undisturbed(world)
    assert_in_sync(world, following.generation)
    assert not world.lock.record.is_revoking
    new = shown(login_of(world, following.generation or 0))
    live = {new} if emergency else {new, shown(base)}
    for database, let_in in known_logins(world).items():
        assert let_in == live, f"I9: {database} accepts a revoked login, or refuses a live one"
        assert world.databases[database].refusals.most <= refusals, "refused logins in a row"
    assert_on_record(world)
    recorded = [rotation_of(e) for stream in world.audit_logs for e in entries(world, stream)]
    assert recorded.count("recovery") == recorded.count("following") == 1


def _survives(world: MemoryWorld, recoverer: str, *, died: str, refusals: int = 1) -> None:
    try:
        _recovers(world, recoverer)
        _goes_on(world, refusals)
    except (AssertionError, LockstepError) as e:
        raise AssertionError(f"died {died}") from e


def _survives_death_at_every_boundary(story: Story, strategy: Strategy, stores: int, recoverer: str) -> int:
    at = 0
    while True:
        world = _world(story, strategy, stores)
        boundary = _dies(world, "dies", at=at)
        if not boundary:
            return at
        _survives(world, recoverer, died=f"{boundary} ({at})", refusals=story.refusals)
        at += 1


@pytest.mark.parametrize("recoverer", ["aws", "oci"])
@pytest.mark.parametrize("stores", [1, 2])
@pytest.mark.parametrize("strategy", list(Strategy))
def test_a_run_that_dies_at_any_boundary_is_finished_by_the_next_run(
    strategy: Strategy, stores: int, recoverer: str
) -> None:
    boundaries = _survives_death_at_every_boundary(STEADY, strategy, stores, recoverer)
    assert boundaries >= STEADY.boundaries - (2 - stores) * 12


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("story", STORIES[1:], ids=lambda story: story.name)
def test_an_unusual_rotation_that_dies_at_any_boundary_is_finished_by_the_next_run(
    story: Story, strategy: Strategy
) -> None:
    assert _survives_death_at_every_boundary(story, strategy, 2, "oci") >= story.boundaries


@pytest.mark.parametrize("strategy", list(Strategy))
def test_two_runs_that_die_in_a_row_are_finished_by_the_next_run(strategy: Strategy) -> None:
    # The strides have no common factor, so every kind of boundary of one run meets many of the other.
    for first in range(0, STEADY.boundaries, 7):
        for second in range(first % 9, STEADY.boundaries, 9):
            world = _world(STEADY, strategy, 2)
            boundaries = _dies(world, "dies", at=first)
            world.clock.sleep(INTERVAL_SECONDS)
            boundaries += f", then {_dies(world, 'dies-too', at=second, runner='oci')}"
            _survives(world, "aws", died=boundaries)
