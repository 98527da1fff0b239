"""The standby's sequence of steps: it goes the state machine's ways, and ends in order where it cannot end well."""

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lockstep.errors import (
    DatabaseUnreachableError,
    DeadlineExceededError,
    InvalidRequestError,
    LockstepError,
    StoreUnreachableError,
    UnexpectedError,
)
from oci_fn import sequence
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest
from tests.statemachine.definition import STATES, TASKS, ways_out
from tests.support.memory import CountingPasswords, MemoryWorld
from tests.unit.harness import (
    another_login,
    assert_in_step,
    at_every_boundary,
    edit,
    entries,
    held,
    rotate,
    rotate_again,
    undisturbed,
)


class _Followed(Retries):
    """Keeps the states that a run of the sequence went through."""

    def __init__(self, world: MemoryWorld) -> None:
        super().__init__(world.clock, deadline=world.clock.monotonic() + 600, jitter=lambda: 0.5)
        self.states: list[str] = []

    def call(self, path: tuple[str, ...], *rest: Any, **more: Any) -> Any:  # noqa: ANN401 - as Retries
        assert path[-1] in TASKS
        if not self.states or self.states[-1] != path[0]:
            self.states.append(path[0])
        return super().call(path, *rest, **more)


def _next_work(name: str) -> set[str]:
    """The states that do something and may come right after this one."""
    found, ahead = set(), ways_out(STATES[name])
    while ahead:
        goal = ahead.pop()
        if STATES[goal]["Type"] == "Choice":
            ahead += ways_out(STATES[goal])
        else:
            found.add(goal)
    return found


def _nothing(_world: MemoryWorld) -> None:
    pass


def _edited(world: MemoryWorld) -> None:
    edit(world.stores["oci"], another_login(world))


def _refusing(world: MemoryWorld) -> None:
    foretold = CountingPasswords()
    foretold.count = world.passwords.count
    refused = foretold.new_password(world.credential.password_policy).reveal()
    world.databases["db-2"].refuses = lambda password: password == refused


def _always_refusing(world: MemoryWorld) -> None:
    world.databases["db-2"].refuses = lambda _password: True


def _down(world: MemoryWorld) -> None:
    def down(_operation: str) -> None:
        raise StoreUnreachableError(store="oci")

    world.stores["oci"].faults.before = down


@pytest.mark.parametrize(
    ("story", "revoke", "expected"),
    [
        (_nothing, False, "AcquireLock Generate ApplyDb UpdateSecrets Audit ReleaseLock"),
        (_nothing, True, "AcquireLock Generate ApplyDb UpdateSecrets RevokeDb Audit ReleaseLock"),
        (_edited, False, "AcquireLock Generate ProbeDb Generate ApplyDb UpdateSecrets Audit ReleaseLock"),
        (
            _refusing,
            False,
            "AcquireLock Generate ApplyDb RaiseFence WithdrawDb Generate ApplyDb UpdateSecrets Audit ReleaseLock",
        ),
        (
            _always_refusing,
            False,
            "AcquireLock Generate ApplyDb RaiseFence WithdrawDb Generate ApplyDb AuditFailure ReleaseLockAfterFailure",
        ),
        (_down, False, "AcquireLock Generate AuditFailure ReleaseLockAfterFailure"),
    ],
)
def test_the_standby_goes_the_ways_of_this_machine(
    story: Callable[[MemoryWorld], None],
    revoke: bool,  # noqa: FBT001 - a row of the table
    expected: str,
) -> None:
    world = MemoryWorld.create()
    rotate(world, "first")
    world.clock.sleep(1200)
    story(world)
    followed = _Followed(world)
    request = RunRequest(
        rotation_id="second", runner="oci", trigger="test", force=revoke, revoke_previous=revoke
    )
    try:
        sequence.rotate(request, world.ports("oci"), followed, run_map=map)
    except LockstepError:
        assert "AuditFailure" in expected
    assert followed.states == expected.split()
    for here, there in zip(followed.states, followed.states[1:], strict=False):
        assert there in _next_work(here), f"no way from {here} to {there}"


# When a run may begin.


@pytest.mark.parametrize(
    ("minutes", "force", "revoke_previous", "outcome"),
    [
        (18.9, False, False, "skipped"),
        (19, False, False, "rotated"),  # A trigger may come a tolerance too early.
        (20, False, False, "rotated"),
        (17.9, True, False, "skipped"),  # A promise to applications is kept also in a hurry,
        (18, True, False, "rotated"),
        (1, True, True, "rotated"),  # but not in an emergency.
        (1, False, True, "skipped"),
    ],
)
def test_a_run_begins_when_it_is_due_and_the_overlap_is_over(
    minutes: float,
    force: bool,  # noqa: FBT001 - a row of the table
    revoke_previous: bool,  # noqa: FBT001 - a row of the table
    outcome: str,
) -> None:
    world = MemoryWorld.create()
    rotate(world, "first")
    world.clock.sleep(minutes * 60)
    before = world.lock.record
    result = rotate(world, "second", runner="oci", force=force, revoke_previous=revoke_previous)
    assert result.outcome == outcome
    if outcome == "skipped":
        assert world.lock.record == before


def test_what_is_in_flight_is_finished_at_once() -> None:
    world = MemoryWorld.create()
    rotate(world, "first")
    world.clock.sleep(1200)
    world.databases["db-2"].unreachable = True
    with pytest.raises(DatabaseUnreachableError):
        rotate(world, "second")
    world.databases["db-2"].unreachable = False
    assert rotate(world, "third", runner="oci").adopted


def test_nobody_begins_while_another_run_holds_the_lock() -> None:
    world = MemoryWorld.create()
    held(world, "first")
    assert rotate(world, "second", runner="oci").outcome == "skipped"
    world.clock.sleep(901)
    assert rotate(world, "third", runner="oci").outcome == "rotated"


@pytest.mark.parametrize(
    ("field", "value"),
    [("trigger", "by hand"), ("rotation_id", ""), ("runner", "gcp"), ("trigger", "hunter2!")],
)
def test_an_input_that_makes_no_sense_changes_nothing_and_is_not_quoted(field: str, value: str) -> None:
    world = MemoryWorld.create()
    before = world.lock.record
    asked = replace(RunRequest(rotation_id="first", runner="aws", trigger="test"), **{field: value})  # type: ignore[arg-type]  # all of them are texts
    with pytest.raises(InvalidRequestError) as caught:
        sequence.rotate(asked, world.ports(), _Followed(world))
    assert world.lock.record == before
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


# How a run ends that cannot end well.


def test_a_run_that_is_out_of_time_records_it_and_gives_the_lock_back() -> None:
    world = MemoryWorld.create()
    world.databases["db-1"].faults.after = lambda op: world.clock.sleep(700) if op == "lock" else None
    with pytest.raises(DeadlineExceededError):
        rotate(world, "slow")
    undisturbed(world)
    assert world.lock.record.holder is None
    [entry] = entries(world, "aws")
    assert entry.event["status_code"] == "DeadlineExceededError"
    assert_in_step(world, rotate_again(world, "next", runner="oci").generation)


def test_a_foreign_error_anywhere_is_withheld_and_the_next_run_goes_on() -> None:
    at = 0
    while True:
        world = MemoryWorld.create()
        foreign = _Foreign(at)
        at_every_boundary(world, foreign)
        try:
            rotate(world, "first")
        except UnexpectedError as e:
            shown = "".join(traceback.format_exception(e))
            assert "hunter2" not in shown, foreign.boundary
        undisturbed(world)
        if not foreign.boundary:
            break
        assert world.locked_out() == []
        assert_in_step(world, rotate_again(world, "next").generation)
        at += 1
    assert at >= 80


class _Foreign:
    """The hook that lets an error slip through a port at the n-th boundary."""

    def __init__(self, at: int) -> None:
        self.boundary = ""
        self._left = at

    def __call__(self, boundary: str) -> None:
        if self._left == 0:
            self.boundary = boundary
            self._left -= 1
            raise ValueError("hunter2")
        self._left -= 1
