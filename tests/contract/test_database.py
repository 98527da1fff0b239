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
from lockstep.protocol.model import CredentialValue, Engine, Login, SecretStr
from tests.contract.database_harness import (
    EACH_ENGINE,
    MEMORY_WORLDS,
    PAIRED_WORLDS,
    SQL_WORLDS,
    MemoryHarness,
    SqlHarness,
    enter,
    fails,
    worlds,
)

pytest_plugins = ["tests.contract.database_harness"]

every_database = worlds(*MEMORY_WORLDS, *SQL_WORLDS)
# For what takes seconds, and depends on no version of PostgreSQL.
every_strategy = worlds(*MEMORY_WORLDS, *PAIRED_WORLDS)
World = MemoryHarness | SqlHarness


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


# Of each step: what is done, its two generations, and which generations log in afterwards.
STORIES: dict[str, list[tuple[str, int | None, int, set[int]]]] = {
    "the first value leaves no other": [("stage", None, 1, {1}), ("stage", None, 3, {3})],
    "the next one ends the one before current": [
        ("stage", None, 1, {1}),
        ("stage", 1, 2, {1, 2}),
        ("stage", 2, 3, {2, 3}),
        ("stage", 3, 4, {3, 4}),
        ("retire", 3, 4, {4}),
        ("stage", 4, 5, {4, 5}),
    ],
    "of values that replace each other the last one stays": [
        ("stage", None, 2, {2}),
        ("stage", 2, 3, {2, 3}),
        ("stage", 2, 5, {2, 5}),
        ("stage", 2, 7, {2, 7}),
        ("stage", 2, 3, {2, 3}),
    ],
    "a pending value is withdrawn, and another staged": [
        ("stage", None, 1, {1}),
        ("retire", 1, 1, {1}),
        ("stage", 1, 2, {1, 2}),
        ("retire", 2, 1, {1}),
        ("stage", 1, 4, {1, 4}),
    ],
}


@every_strategy
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_exactly_these_values_log_in_after_each_step_whoever_repeats_it(
    world: World, story: list[tuple[str, int | None, int, set[int]]]
) -> None:
    """MySQL's ATTRIBUTE, which two passwords need, says the same of the account (protocol D12)."""
    is_said = isinstance(world, MemoryHarness) or world.engine is Engine.MYSQL
    says = is_said and len(world.credential.usernames) == 1
    named, known = set[int](), set[int]()
    for act, first, second, log_in in story:
        named |= log_in
        base = None if first is None else world.value(first)
        for runner in (world.database, world.rival()):
            with runner.exclusive() as stager:
                assert stager.recorded() == (known if says else set())
                if act == "stage":
                    stager.stage(current=base, pending=world.value(second))
                else:
                    assert base
                    left = stager.retire(drop=base, keep=world.value(second))
                    # It works for the account whose password was dropped, so that a refusal is taken back.
                    assert (left.username, world.database.accepts(left)) == (base.login.username, True)
                assert stager.recorded() == (log_in if says else set())
            known = log_in
        assert {g for g in named if world.accepted(g)[0]} == log_in


@every_strategy
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
        for pending in range(2, 6):
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
def test_a_value_that_is_both_current_and_pending_keeps_logging_in(world: World) -> None:
    """As after a reconcile, which gives a login another generation."""
    world.stage(None, 1)
    world.stage(1, 2)
    world.stage(2, replace(world.value(2), generation=5))
    assert world.accepted(2) == [True]
    if len(world.credential.usernames) == 1:
        assert world.accepted(1) == [False]


@every_database
def test_one_runner_is_inside_and_one_that_fails_or_is_cut_off_loses_the_lock(world: World) -> None:
    with pytest.raises(ZeroDivisionError), world.database.exclusive():  # noqa: PT012 - it fails at the end
        with fails(AdvisoryLockBusyError):
            enter(world.rival())
        raise ZeroDivisionError
    world.stage(None, 1, world.rival())
    with fails(DatabaseUnreachableError), world.database.exclusive() as stager:
        world.end_admin_sessions()
        stager.stage(current=world.value(1), pending=world.value(2))
    assert world.accepted(1, 2) == [True, False]
    world.stage(1, 2, world.rival())
    assert world.accepted(1, 2) == [True, True]


@every_database
def test_a_locked_account_and_a_refused_admin_are_no_wrong_password(world: World) -> None:
    world.stage(None, 1)
    world.lock_account(world.login(1).username)
    with fails(AccountLockedError):
        world.accepted(1)
    with fails(AdminCredentialRejectedError):
        enter(world.refuse_admin())


@worlds("memory-dual", *EACH_ENGINE)
def test_a_server_that_does_not_answer_is_no_wrong_password(world: World) -> None:
    world.stage(None, 1)
    with world.unreachable() as hanging:
        with fails(DatabaseUnreachableError):
            hanging.accepts(world.login(1))
        with fails(DatabaseUnreachableError):
            enter(hanging)
    assert world.accepted(1) == [True]


@worlds("postgresql")
def test_a_password_that_the_policy_refuses_leaves_current_alone(world: SqlHarness) -> None:
    """The module passwordcheck: of a verifier it can tell only that it is the username's."""
    world.stage(None, 2)
    world.run("ALTER ROLE {rotator} SET session_preload_libraries = 'passwordcheck'")
    idle = world.login(3).username
    refused = CredentialValue(3, Login(idle, SecretStr(idle)))
    with fails(PasswordRefusedByPolicyError):
        world.stage(2, refused)
    world.run("ALTER ROLE {rotator} RESET session_preload_libraries")
    assert world.accepted(2, refused) == [True, False]
