"""The definition of the state machine of the fleet."""

import json
import re
from collections.abc import Iterator
from typing import Any

from cdk import fleetmachine
from lockstep.protocol import deadlines, errors
from lockstep.protocol.errors import LockstepError
from sandbox.aws.definition import problems

AWS_ERRORS = re.compile(r"(States|StepFunctions|Sfn)\.[A-Za-z]+")
MACHINE: dict[str, Any] = fleetmachine.machine()
ITEM = MACHINE["States"]["Rotate"]["ItemProcessor"]["States"]


def states() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from MACHINE["States"].items()
    yield from ITEM.items()


def test_every_state_has_a_comment() -> None:
    assert [name for name, state in states() if not state.get("Comment")] == []


def test_every_error_that_is_matched_or_raised_exists() -> None:
    rules = [rule for _, s in states() for rule in (*s.get("Retry", []), *s.get("Catch", []))]
    matched = {error for rule in rules for error in rule["ErrorEquals"]}
    raised = {state["Error"] for _, state in states() if not state.get("Error", "{%").startswith("{%")}
    ours = {error for error in matched if not AWS_ERRORS.fullmatch(error)} | raised
    assert all(issubclass(getattr(errors, name), LockstepError) for name in ours)


def test_every_retry_has_jitter() -> None:
    """Hundreds of items begin at the same time."""
    assert {r["JitterStrategy"] for _, state in states() for r in state.get("Retry", [])} == {"FULL"}


def test_times_leave_a_rotation_its_own() -> None:
    task = ITEM["StartRotation"]
    assert task["TimeoutSeconds"] > deadlines.RUN.total_seconds()
    latest = deadlines.START_LATENESS.total_seconds()
    assert MACHINE["TimeoutSeconds"] > latest + task["TimeoutSeconds"]
    # Another trigger of the shortest interval does not find the one before it.
    assert MACHINE["TimeoutSeconds"] < deadlines.SHORTEST_SHARED_INTERVAL.total_seconds()


def test_step_functions_would_accept_it() -> None:
    assert problems(fleetmachine.text()) == []


def test_the_file_is_generated_from_its_source() -> None:
    assert fleetmachine.PATH.read_text(encoding="utf-8") == fleetmachine.text(), "run `make asl`"
    assert json.loads(fleetmachine.text()) == MACHINE
