"""No login of Lockstep's brings an account closer to being locked than its next one takes back (protocol D18).

Real servers that lock an account after two wrong passwords in a row; rotations that die at any point between two
logins, claims that are replaced, and emergencies.
"""

from collections.abc import Callable, Iterator
from random import Random

import pytest

from tests.contract.database_harness import (
    SQL_WORLDS,
    MySqlHarness,
    SqlHarness,
    limited,
)
from tests.contract.rotation_driver import Life

pytest_plugins = ["tests.contract.database_fixtures"]

ROTATIONS = 50
LIMIT = 2


@pytest.fixture(autouse=True)
def no_faults_are_left(world: SqlHarness) -> Iterator[None]:
    yield
    if isinstance(world, MySqlHarness):
        world.faults.clear()


@pytest.mark.parametrize("world", SQL_WORLDS, indirect=True)
def test_rotations_that_die_anywhere_lock_no_account(world: SqlHarness) -> None:
    assert_never_locked(world, 1)


@pytest.mark.parametrize("world", SQL_WORLDS, indirect=True)
def test_rotations_that_die_elsewhere_lock_no_account(world: SqlHarness) -> None:
    assert_never_locked(world, 2)


def assert_never_locked(world: SqlHarness, seed: int) -> None:
    strike = cut_statements(world) if isinstance(world, MySqlHarness) else lambda _: None
    life = Life(world, Random(seed), strike=strike)  # noqa: S311 - a replayable order, no secret
    with limited(world, LIMIT):
        for _ in range(ROTATIONS):
            life.rotate()
            life.require_current()
    assert life.refusals.most == 1
    assert life.crashes >= ROTATIONS / 5
    assert life.replaced
    assert life.revoked


def cut_statements(world: MySqlHarness) -> Callable[[Random], None]:
    """Cut off every sixth run at one of the statements that stage, before or after its effect."""

    def strike(random: Random) -> None:
        world.faults.changes.clear()
        place = (random.randint(1, 2), random.choice(["before", "after"]))
        world.faults.cut = place if random.random() < 1 / 6 else None

    return strike
