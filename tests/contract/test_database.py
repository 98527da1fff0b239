"""On every database current logs in throughout, while values are staged and retired, repeatedly and with cuts."""

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
from tests.contract.database_harness import (
    EACH_ENGINE,
    MEMORY_WORLDS,
    SQL_WORLDS,
    MemoryHarness,
    SqlHarness,
    enter,
    fails,
    worlds,
)

pytest_plugins = ["tests.contract.database_fixtures"]

every_database = worlds(*MEMORY_WORLDS, *SQL_WORLDS)
# For what takes seconds, and does not depend on the strategy.
each_server = worlds(*MEMORY_WORLDS, *EACH_ENGINE)

World = MemoryHarness | SqlHarness


# Who logs in


@every_database
def test_a_wrong_password_and_an_unknown_user_are_no_errors(world: World) -> None:
    for username in world.credential.usernames:
        assert not world.accepted(world.value(1, username=username))[0], "no password opens a fresh account"
        assert not world.database.accepts(Login(username, SecretStr("")))
    world.stage(None, 1)
    assert world.accepted(1) == [True]
    login = world.login(1)
    for other in (world.wrong(1), Login(login.username, SecretStr("")), Login("nobody", login.password)):
        assert not world.database.accepts(other)


# Staging


@every_database
def test_the_first_value_is_staged_beside_nothing_and_leaves_no_other(world: World) -> None:
    for generation in (1, 1, 3):
        world.stage(None, generation)
        assert world.accepted(generation) == [True]
    assert world.accepted(1, 3) == [False, True]


@every_database
def test_staging_may_be_repeated_by_anybody(world: World) -> None:
    world.stage(None, 1)
    for runner in (world.database, world.database, world.rival()):
        world.stage(1, 2, runner)
    with world.database.exclusive() as stager:
        for _ in range(2):
            stager.stage(current=world.value(1), pending=world.value(2))
    assert world.accepted(1, 2) == [True, True]


@every_database
def test_staging_the_next_generation_ends_the_one_before_current(world: World) -> None:
    world.stage(None, 1)
    for generation in range(2, 6):
        world.stage(generation - 1, generation)
        assert world.accepted(*range(1, generation + 1)) == [False] * (generation - 2) + [True, True]


@every_database
def test_an_account_says_which_generations_it_has(world: World, request: pytest.FixtureRequest) -> None:
    """The record is MySQL's ATTRIBUTE, which two passwords need (protocol D12)."""
    says = request.node.callspec.params["world"] in ("memory-dual", "mysql-dual")

    def assert_recorded(*generations: int) -> None:
        with world.database.exclusive() as stager:
            assert stager.recorded() == (set(generations) if says else set())

    assert_recorded()
    world.stage(None, 1)
    assert_recorded(1)
    world.stage(1, 2)
    assert_recorded(1, 2)
    with world.database.exclusive() as stager:
        stager.recorded()
        stager.stage(current=world.value(2), pending=world.value(3))
    assert_recorded(2, 3)
    world.retire(drop=2, keep=3)
    assert_recorded(3)


@every_database
def test_current_logs_in_at_every_instant_of_many_rotations(world: World) -> None:
    """An application that holds the value which is current during a step is never refused within it."""
    world.stage(None, 1)

    def refusals_of(value: CredentialValue, until: Event, started: Event) -> int:
        refused = 0
        while not until.is_set():
            refused += not world.rival().accepts(value.login)
            started.set()
        return refused

    with ThreadPoolExecutor(1) as pool:
        for pending in range(2, 7):
            done, started = Event(), Event()
            refused = pool.submit(refusals_of, world.value(pending - 1), done, started)
            assert started.wait(30)
            try:
                world.stage(pending - 1, pending)
                world.stage(pending - 1, pending)
                world.retire(drop=pending, keep=pending - 1)
                world.stage(pending - 1, pending)
            finally:
                done.set()
            assert refused.result(30) == 0


@every_database
def test_the_second_of_two_values_that_replace_each_other_is_the_only_one(world: World) -> None:
    """From every state of an account, exactly current and pending log in afterwards."""
    world.stage(None, 2)
    for pending in (3, 5, 7, 5, 3):
        world.stage(2, pending)
        others = [g for g in (3, 5, 7) if g != pending]
        assert world.accepted(2, pending, *others) == [True, True, False, False]


@every_database
def test_a_value_that_is_both_current_and_pending_keeps_logging_in(world: World) -> None:
    """As after a reconcile, which gives a login another generation."""
    world.stage(None, 1)
    world.stage(1, 2)
    world.stage(2, replace(world.value(2), generation=5))
    assert world.accepted(2) == [True]
    if len(world.credential.usernames) == 1:
        assert world.accepted(1) == [False]


# Retiring


@every_database
def test_a_value_is_retired_and_the_kept_one_stays(world: World) -> None:
    world.stage(None, 1)
    world.stage(1, 2)
    for _ in range(2):
        left = world.retire(drop=1, keep=2)
        assert world.accepted(1, 2) == [False, True]
        # It works for the account whose password was dropped, so that the refusal above is taken back.
        assert left.username == world.login(1).username
        assert world.database.accepts(left)


@every_database
def test_a_pending_value_is_withdrawn_and_another_staged(world: World) -> None:
    world.stage(None, 1)
    world.retire(drop=1, keep=1)
    world.stage(1, 2)
    world.retire(drop=2, keep=1)
    assert world.accepted(1, 2) == [True, False]
    world.stage(1, 4)
    assert world.accepted(1, 2, 4) == [True, False, True]


# The advisory lock


@every_database
def test_only_one_runner_is_inside_and_one_that_fails_gives_the_lock_back(world: World) -> None:
    with pytest.raises(ZeroDivisionError), world.database.exclusive():  # noqa: PT012 - it fails at the end
        with fails(AdvisoryLockBusyError):
            enter(world.rival())
        raise ZeroDivisionError
    enter(world.rival())


@every_database
def test_a_run_that_is_cut_off_changes_nothing_and_loses_the_lock(world: World) -> None:
    world.stage(None, 1)
    with fails(DatabaseUnreachableError), world.database.exclusive() as stager:
        world.end_admin_sessions()
        stager.stage(current=world.value(1), pending=world.value(2))
    assert world.accepted(1, 2) == [True, False]
    world.stage(1, 2, world.rival())
    assert world.accepted(1, 2) == [True, True]


# Each failure has its own error


@every_database
def test_a_locked_account_is_no_wrong_password(world: World) -> None:
    world.stage(None, 1)
    world.lock_account(world.login(1).username)
    with fails(AccountLockedError):
        world.accepted(1)


@every_database
def test_a_refused_admin_is_no_refused_application(world: World) -> None:
    with fails(AdminCredentialRejectedError):
        enter(world.refuse_admin())


@each_server
def test_a_server_that_does_not_answer_is_no_wrong_password(world: World) -> None:
    world.stage(None, 1)
    with world.unreachable() as hanging:
        with fails(DatabaseUnreachableError):
            hanging.accepts(world.login(1))
        with fails(DatabaseUnreachableError):
            enter(hanging)
    assert world.accepted(1) == [True]


@worlds(*MEMORY_WORLDS, "postgresql")
def test_a_password_that_the_policy_refuses_leaves_current_alone(world: World) -> None:
    world.stage(None, 2)
    with world.policy() as refused:
        with fails(PasswordRefusedByPolicyError):
            world.stage(2, refused)
        assert world.accepted(2, refused) == [True, False]
