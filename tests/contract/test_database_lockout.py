"""No login of Lockstep's brings an account closer to being locked than its next one takes back (protocol D18).

Real servers that lock an account after two wrong passwords in a row; rotations that die at any point between two
logins, claims that are replaced, and emergencies.
"""

from collections.abc import Iterator
from random import Random

import pytest

from lockstep.protocol.errors import DatabaseUnreachableError
from lockstep.protocol.model import Engine
from tests.contract.database_harness import SqlHarness, every_server
from tests.contract.database_world import World
from tests.support.world import Killed, activates, revokes_everything, rotate_again

pytest_plugins = ["tests.contract.database_fixtures"]

ROTATIONS, ROTATIONS_PER_EMERGENCY = 15, 5
CRASHES_PER_POINT, REPLACED_CLAIMS = 0.1, 0.4
LIMIT = 2


@pytest.fixture(autouse=True)
def no_faults_are_left(world: SqlHarness) -> Iterator[None]:
    yield
    if world.engine is Engine.MYSQL:
        world.sandbox.faults.clear()


def strike(world: SqlHarness, random: Random) -> None:
    """Cut off every sixth run at one of the statements that stage, before or after its effect."""
    if world.engine is Engine.MYSQL:
        world.sandbox.faults.clear()
        place = (random.randint(1, 2), random.choice(["before", "after"]))
        world.sandbox.faults.cut = place if random.random() < 1 / 6 else None


@every_server
def test_rotations_that_die_anywhere_lock_no_account(world: SqlHarness) -> None:
    random = Random(1)  # noqa: S311 - a replayable order, no secret
    life = World(world)
    died = replaced = 0

    def die() -> None:
        if random.random() < CRASHES_PER_POINT:
            if random.random() >= 0.1:
                raise Killed
            world.end_admin_sessions()

    def run(rotation: str) -> bool:
        """A run, which may die; what stores serve works after it."""
        strike(world, random)
        life.refusals.point = die
        try:
            rotate_again(life.memory, rotation)
        except (Killed, DatabaseUnreachableError):
            return False
        finally:
            life.refusals.point = lambda: None
            assert all(life.works(login) for login in life.served())
        return True

    life.fail_over(world.server.port)  # to itself: refusals are counted from here on
    with world.limited(LIMIT), life.counted():
        for number in range(ROTATIONS):
            if number % ROTATIONS_PER_EMERGENCY == 0:
                revokes_everything(life.memory)
            while not run(f"rotation-{number}"):
                died += 1
                if random.random() < REPLACED_CLAIMS:
                    replaced += 1
                    activates(life.memory)  # which gives up the claim in flight
        life.assert_cured()
    assert life.refusals.most == 1
    assert died >= ROTATIONS / 5
    assert replaced
