"""Runs of the standby's sequence: when they begin, and how they end. `tests/oci_fn` compares it with the machine."""

import traceback
from dataclasses import replace
from typing import NoReturn

import pytest

from lockstep.errors import (
    DatabaseUnreachableError,
    DeadlineExceededError,
    InvalidRequestError,
    UnexpectedError,
)
from oci_fn import sequence
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest
from tests.support.memory import MemoryWorld
from tests.unit.harness import (
    assert_in_step,
    entries,
    held,
    interrupted,
    rotate,
    rotate_again,
    undisturbed,
)

# When a run may begin


@pytest.mark.parametrize(
    ("minutes", "force", "revoke_previous", "outcome"),
    [
        (17.9, False, False, "skipped"),
        (18, False, False, "rotated"),  # A trigger may be early by the tolerance.
        (20, False, False, "rotated"),
        (15.9, True, False, "skipped"),  # A forced run keeps the overlap,
        (16, True, False, "rotated"),
        (1, True, True, "rotated"),  # unless it revokes the previous value.
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


def test_a_generation_in_flight_is_finished_at_once() -> None:
    world = MemoryWorld.create()
    rotate(world, "first")
    world.clock.sleep(1200)
    world.databases["db-2"].unreachable = True
    with pytest.raises(DatabaseUnreachableError):
        rotate(world, "second")
    world.databases["db-2"].unreachable = False
    assert rotate(world, "third", runner="oci").adopted


def test_a_run_is_skipped_while_another_run_holds_the_lock() -> None:
    world = MemoryWorld.create()
    held(world, "first")
    assert rotate(world, "second", runner="oci").outcome == "skipped"
    world.clock.sleep(901)
    assert rotate(world, "third", runner="oci").outcome == "rotated"


@pytest.mark.parametrize(
    ("field", "value"),
    [("trigger", "by hand"), ("rotation_id", ""), ("runner", "gcp"), ("trigger", "hunter2!")],
)
def test_an_invalid_input_changes_nothing_and_is_not_quoted(field: str, value: str) -> None:
    world = MemoryWorld.create()
    before = world.lock.record
    asked = replace(RunRequest(rotation_id="first", runner="aws", trigger="test"), **{field: value})  # type: ignore[arg-type]  # all of them are texts
    with pytest.raises(InvalidRequestError) as caught:
        sequence.rotate(asked, world.ports(), Retries(world.clock, deadline=600))
    assert world.lock.record == before
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


# Runs that fail


def test_a_run_out_of_time_records_its_failure_and_releases_the_lock() -> None:
    world = MemoryWorld.create()
    world.databases["db-1"].faults.after = lambda op: world.clock.sleep(400) if op == "lock" else None
    with pytest.raises(DeadlineExceededError):
        rotate(world, "slow")
    undisturbed(world)
    assert world.lock.record.holder is None
    [entry] = entries(world, "aws")
    assert entry.event["status_code"] == "DeadlineExceededError"
    assert_in_step(world, rotate_again(world, "next", runner="oci").generation)


def test_a_foreign_error_at_any_boundary_is_not_quoted_and_the_next_run_rotates() -> None:
    at = 0
    while True:
        world = MemoryWorld.create()
        foreign = interrupted(world, at, _fail_with_a_secret)
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


def _fail_with_a_secret() -> NoReturn:
    raise ValueError("hunter2")
