"""On every database current logs in throughout, while values are staged and retired, repeatedly and with cuts."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from lockstep.protocol.errors import (
    AccountLockedError,
    AdminCredentialRejectedError,
    AdvisoryLockBusyError,
    DatabaseUnreachableError,
    PasswordRefusedByPolicyError,
)
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.ports import Database
from tests.contract.database_harness import MEMORY_WORLDS, SQL_WORLDS, DatabaseHarness, fails, value_of

pytest_plugins = ["tests.contract.database_fixtures"]

# For what takes seconds, and does not depend on the strategy.
each_server = pytest.mark.parametrize(
    "world", [*MEMORY_WORLDS, "mariadb-dual", "mysql-dual", "postgresql"], indirect=True
)
every_database = pytest.mark.parametrize("world", [*MEMORY_WORLDS, *SQL_WORLDS], indirect=True)


@pytest.fixture
def database(world: DatabaseHarness) -> Database:
    return world.database


def stage(database: Database, *, current: CredentialValue | None, pending: CredentialValue) -> None:
    with database.exclusive() as stager:
        stager.stage(current=current, pending=pending)


def retire(database: Database, *, drop: CredentialValue, keep: CredentialValue) -> Login:
    with database.exclusive() as stager:
        return stager.retire(drop=drop, keep=keep)


def accepted(database: Database, *values: CredentialValue) -> list[bool]:
    return [database.accepts(value.login) for value in values]


def enter(database: Database) -> None:
    with database.exclusive():
        pass


# Who logs in


@every_database
def test_a_wrong_password_and_an_unknown_user_are_no_errors(
    world: DatabaseHarness, database: Database
) -> None:
    value = value_of(world, 1)
    stage(database, current=None, pending=value)
    assert database.accepts(value.login)
    assert not database.accepts(Login(value.login.username, SecretStr("wrong")))
    assert not database.accepts(Login(value.login.username, SecretStr("")))
    assert not database.accepts(Login("nobody", value.login.password))


@every_database
def test_no_password_opens_a_fresh_account(world: DatabaseHarness, database: Database) -> None:
    for username in world.credential.usernames:
        assert not database.accepts(value_of(world, 1, username=username).login)
        assert not database.accepts(Login(username, SecretStr("")))


# Staging


@every_database
def test_the_first_value_is_staged_beside_nothing(world: DatabaseHarness, database: Database) -> None:
    stage(database, current=None, pending=value_of(world, 1))
    stage(database, current=None, pending=value_of(world, 1))
    assert database.accepts(value_of(world, 1).login)


@every_database
def test_pending_is_accepted_beside_current(world: DatabaseHarness, database: Database) -> None:
    current, pending = value_of(world, 1), value_of(world, 2)
    stage(database, current=None, pending=current)
    stage(database, current=current, pending=pending)
    assert accepted(database, current, pending) == [True, True]


@every_database
def test_staging_may_be_repeated_by_anybody(world: DatabaseHarness, database: Database) -> None:
    current, pending = value_of(world, 1), value_of(world, 2)
    stage(database, current=None, pending=current)
    for runner in (database, database, world.rival()):
        stage(runner, current=current, pending=pending)
    with database.exclusive() as stager:
        stager.stage(current=current, pending=pending)
        stager.stage(current=current, pending=pending)
    assert accepted(database, current, pending) == [True, True]


@every_database
def test_an_abandoned_pending_value_gives_way_to_another(world: DatabaseHarness, database: Database) -> None:
    current, abandoned, pending = value_of(world, 1), value_of(world, 2), value_of(world, 4)
    stage(database, current=None, pending=current)
    stage(database, current=current, pending=abandoned)
    stage(database, current=current, pending=pending)
    assert accepted(database, current, abandoned, pending) == [True, False, True]


@every_database
def test_staging_the_next_generation_ends_the_one_before_current(
    world: DatabaseHarness, database: Database
) -> None:
    stage(database, current=None, pending=value_of(world, 1))
    for generation in range(2, 6):
        stage(database, current=value_of(world, generation - 1), pending=value_of(world, generation))
        logins = [value_of(world, g) for g in range(1, generation + 1)]
        assert accepted(database, *logins) == [False] * (generation - 2) + [True, True]


@every_database
def test_an_account_says_which_generations_it_has_or_nothing(
    world: DatabaseHarness, database: Database, request: pytest.FixtureRequest
) -> None:
    """The record is MySQL's ATTRIBUTE, which two passwords need (protocol D12)."""
    says = request.node.callspec.params["world"] in ("memory-dual", "mysql-dual")

    def assert_recorded(*generations: int) -> None:
        with database.exclusive() as stager:
            assert stager.recorded() == (set(generations) if says else set())

    first, second, third = (value_of(world, generation) for generation in (1, 2, 3))
    assert_recorded()
    stage(database, current=None, pending=first)
    assert_recorded(1)
    stage(database, current=first, pending=second)
    assert_recorded(1, 2)
    with database.exclusive() as stager:
        stager.recorded()
        stager.stage(current=second, pending=third)
    assert_recorded(2, 3)
    retire(database, drop=second, keep=third)
    assert_recorded(3)


@every_database
def test_current_logs_in_at_every_instant_of_many_rotations(
    world: DatabaseHarness, database: Database
) -> None:
    """An application that holds the value which is current during a step is never refused within it."""
    stage(database, current=None, pending=value_of(world, 1))

    def refusals_of(value: CredentialValue, until: Event, started: Event) -> int:
        refused = 0
        while not until.is_set():
            refused += not world.rival().accepts(value.login)
            started.set()
        return refused

    with ThreadPoolExecutor(1) as pool:
        for generation in range(2, 7):
            current, pending = value_of(world, generation - 1), value_of(world, generation)
            done, started = Event(), Event()
            refused = pool.submit(refusals_of, current, done, started)
            assert started.wait(30)
            try:
                stage(database, current=current, pending=pending)
                stage(database, current=current, pending=pending)
                retire(database, drop=pending, keep=current)
                stage(database, current=current, pending=pending)
            finally:
                done.set()
            assert refused.result(30) == 0


@every_database
def test_two_runners_stage_one_after_the_other(world: DatabaseHarness, database: Database) -> None:
    current, pending = value_of(world, 1), value_of(world, 2)
    stage(database, current=None, pending=current)
    inside: list[str] = []
    most_inside: list[int] = []

    def run(name: str, runner: Database) -> None:
        for _ in range(5):
            patiently(lambda: hold_and_stage(name, runner))

    def hold_and_stage(name: str, runner: Database) -> None:
        with runner.exclusive() as stager:
            inside.append(name)
            most_inside.append(len(inside))
            stager.stage(current=current, pending=pending)
            inside.remove(name)

    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(run, name, runner) for name, runner in (("aws", database), ("oci", world.rival()))
        ]
    for result in runs:
        result.result()
    assert max(most_inside) == 1
    assert accepted(database, current, pending) == [True, True]


def patiently(attempt: Callable[[], None]) -> None:
    """Try again while the other one holds the lock, as the state machine does."""
    for _ in range(10_000):
        try:
            return attempt()
        except AdvisoryLockBusyError:
            continue
    pytest.fail("the lock was never free")


@every_database
def test_the_second_of_two_values_that_replace_each_other_is_the_only_one(
    world: DatabaseHarness, database: Database
) -> None:
    """From every state of an account, exactly current and pending log in afterwards."""
    current = value_of(world, 2)
    stage(database, current=None, pending=current)
    for generation in (3, 5, 7, 5, 3):
        pending = value_of(world, generation)
        stage(database, current=current, pending=pending)
        others = [value_of(world, g) for g in (3, 5, 7) if g != generation]
        assert accepted(database, current, pending, *others) == [True, True, False, False]


@every_database
def test_the_first_value_leaves_no_other(world: DatabaseHarness, database: Database) -> None:
    for generation in (1, 3):
        stage(database, current=None, pending=value_of(world, 1))
        stage(database, current=None, pending=value_of(world, generation))
    assert accepted(database, value_of(world, 1), value_of(world, 3)) == [False, True]


@every_database
def test_a_value_that_is_both_current_and_pending_keeps_logging_in(
    world: DatabaseHarness, database: Database
) -> None:
    """As after a reconcile, which gives a login another generation."""
    before, value = value_of(world, 1), value_of(world, 2)
    stage(database, current=None, pending=before)
    stage(database, current=before, pending=value)
    stage(database, current=value, pending=replace(value, generation=5))
    assert database.accepts(value.login)
    if before.login.username == value.login.username:
        assert not database.accepts(before.login)


# Retiring


@every_database
def test_a_value_is_retired_and_the_kept_one_stays(world: DatabaseHarness, database: Database) -> None:
    kept, dropped = value_of(world, 2), value_of(world, 1)
    stage(database, current=None, pending=dropped)
    stage(database, current=dropped, pending=kept)
    for _ in range(2):
        left = retire(database, drop=dropped, keep=kept)
        assert accepted(database, dropped, kept) == [False, True]
        # It works for the account whose password was dropped, so that the refusal above is taken back.
        assert left.username == dropped.login.username
        assert database.accepts(left)


@every_database
def test_a_pending_value_is_withdrawn_and_another_staged(world: DatabaseHarness, database: Database) -> None:
    current, withdrawn, pending = value_of(world, 1), value_of(world, 2), value_of(world, 4)
    stage(database, current=None, pending=current)
    stage(database, current=current, pending=withdrawn)
    retire(database, drop=withdrawn, keep=current)
    assert accepted(database, current, withdrawn) == [True, False]
    stage(database, current=current, pending=pending)
    assert accepted(database, current, withdrawn, pending) == [True, False, True]


@every_database
def test_a_value_that_is_also_kept_is_not_retired(world: DatabaseHarness, database: Database) -> None:
    stage(database, current=None, pending=value_of(world, 1))
    retire(database, drop=value_of(world, 1), keep=value_of(world, 1))
    assert database.accepts(value_of(world, 1).login)


# The advisory lock


@each_server
def test_only_one_runner_is_inside(world: DatabaseHarness, database: Database) -> None:
    with database.exclusive(), fails(AdvisoryLockBusyError):
        enter(world.rival())
    enter(world.rival())


@every_database
def test_a_run_that_fails_gives_the_lock_back(world: DatabaseHarness, database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.exclusive():
        raise ZeroDivisionError
    enter(world.rival())


@every_database
def test_a_run_that_is_cut_off_changes_nothing_and_loses_the_lock(
    world: DatabaseHarness, database: Database
) -> None:
    current, pending = value_of(world, 1), value_of(world, 2)
    stage(database, current=None, pending=current)
    with fails(DatabaseUnreachableError), database.exclusive() as stager:
        world.end_admin_sessions()
        stager.stage(current=current, pending=pending)
    assert accepted(database, current, pending) == [True, False]
    stage(world.rival(), current=current, pending=pending)
    assert accepted(database, current, pending) == [True, True]


# Each failure has its own error


@every_database
def test_a_locked_account_is_no_wrong_password(world: DatabaseHarness, database: Database) -> None:
    value = value_of(world, 1)
    stage(database, current=None, pending=value)
    world.lock_account(value.login.username)
    with fails(AccountLockedError):
        database.accepts(value.login)


@every_database
def test_a_refused_admin_is_no_refused_application(world: DatabaseHarness) -> None:
    with fails(AdminCredentialRejectedError):
        enter(world.refuse_admin())


@each_server
def test_a_server_that_does_not_answer_is_no_wrong_password(
    world: DatabaseHarness, database: Database
) -> None:
    value = value_of(world, 1)
    stage(database, current=None, pending=value)
    with world.unreachable() as hanging:
        with fails(DatabaseUnreachableError):
            hanging.accepts(value.login)
        with fails(DatabaseUnreachableError):
            enter(hanging)
    assert database.accepts(value.login)


@pytest.mark.parametrize("world", [*MEMORY_WORLDS, "postgresql"], indirect=True)
def test_a_password_that_the_policy_refuses_leaves_current_alone(
    world: DatabaseHarness, database: Database
) -> None:
    current = value_of(world, 2)
    stage(database, current=None, pending=current)
    with world.policy() as refused:  # type: ignore[attr-defined]  # these worlds have one
        with fails(PasswordRefusedByPolicyError), database.exclusive() as stager:
            stager.stage(current=current, pending=refused)
        assert accepted(database, current, refused) == [True, False]
