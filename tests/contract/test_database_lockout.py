"""No login of Lockstep's brings an account closer to being locked than its next one takes back (protocol D18).

Real servers that lock an account after two wrong passwords in a row; rotations that die at any point between two
logins, claims that are replaced, and emergencies.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest

from lockstep.protocol.errors import AccountBlockedError
from tests.contract.database_harness import (
    SQL_WORLDS,
    MariaDbHarness,
    MySqlFamilyHarness,
    MySqlHarness,
    SqlHarness,
)
from tests.contract.rotation_driver import Life, apply_as_before

pytest_plugins = ["tests.contract.database_fixtures"]

Record = Callable[[str, object], None]

ROTATIONS = 50
LIMIT = 2


@contextmanager
def limited(world: SqlHarness) -> Iterator[None]:
    """The server locks an account after two wrong passwords in a row; PostgreSQL has no such limit."""
    if isinstance(world, MariaDbHarness):
        world.execute(f"SET GLOBAL max_password_errors = {LIMIT}")
        yield
        world.execute("SET GLOBAL max_password_errors = DEFAULT", "FLUSH PRIVILEGES")
    elif isinstance(world, MySqlHarness):
        for username in world.credential.usernames:
            world.execute(
                f"ALTER USER '{username}'@'%' FAILED_LOGIN_ATTEMPTS {LIMIT} PASSWORD_LOCK_TIME UNBOUNDED"
            )
        yield
    else:
        yield


@pytest.fixture(autouse=True)
def no_faults_are_left(world: SqlHarness) -> Iterator[None]:
    yield
    if isinstance(world, MySqlHarness):
        world.faults.clear()


@pytest.mark.parametrize("world", SQL_WORLDS, indirect=True)
def test_rotations_that_die_anywhere_lock_no_account(world: SqlHarness, record_property: Record) -> None:
    assert_never_locked(world, 1, record_property)


@pytest.mark.parametrize("world", SQL_WORLDS, indirect=True)
def test_rotations_that_die_elsewhere_lock_no_account(world: SqlHarness, record_property: Record) -> None:
    assert_never_locked(world, 2, record_property)


def assert_never_locked(world: SqlHarness, seed: int, record_property: Record) -> None:
    strike = cut_statements(world) if isinstance(world, MySqlHarness) else lambda _: None
    life = Life(world, Random(seed), strike=strike)  # noqa: S311 - a replayable order, no secret
    with limited(world):
        for _ in range(ROTATIONS):
            life.rotate()
            life.require_current()
    assert life.refusals.most == 1
    assert life.crashes >= ROTATIONS / 5
    assert life.replaced
    assert life.revoked
    for name, figure in figures(life).items():
        record_property(name, figure)
    print(world.engine.value, world.credential.strategy.value, figures(life))  # noqa: T201 - shown with -s


def cut_statements(world: MySqlHarness) -> Callable[[Random], None]:
    """Cut off every sixth run at one of the statements that stage, before or after its effect."""

    def strike(random: Random) -> None:
        world.faults.changes.clear()
        place = (random.randint(1, 2), random.choice(["before", "after"]))
        world.faults.cut = place if random.random() < 1 / 6 else None

    return strike


def figures(life: Life) -> dict[str, float]:
    return {
        "refused_per_rotation": round(life.refusals.refused / ROTATIONS, 2),
        "longest_run": life.refusals.most,
        "crashes": life.crashes,
        "replaced_claims": life.replaced,
        "emergencies": life.revoked,
    }


@pytest.mark.parametrize("world", ["mysql-dual", "mariadb-dual"], indirect=True)
def test_an_order_that_begins_and_ends_with_a_refusal_locks_the_account(world: MySqlFamilyHarness) -> None:
    """What the tests above can find: the first edition's order, without any crash."""
    life = Life(world, NeverRandom(), apply_as_before)
    with limited(world), pytest.raises((AccountBlockedError, AssertionError)):
        rotate_often(life)


@pytest.mark.parametrize("world", ["mysql-alternating"], indirect=True)
def test_with_alternating_users_that_order_locks_the_idle_account_after_crashes(
    world: MySqlFamilyHarness,
) -> None:
    """MariaDB forgets its count whenever the account is altered."""
    life = Life(world, Random(1), apply_as_before)  # noqa: S311 - as above
    with limited(world), pytest.raises((AccountBlockedError, AssertionError)):
        rotate_often(life)


def rotate_often(life: Life) -> None:
    for _ in range(ROTATIONS):
        life.rotate()


class NeverRandom(Random):
    """Nothing that depends on chance happens."""

    def random(self) -> float:
        return 1.0
