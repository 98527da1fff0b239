"""The definitions, checked without running it, for rules that no validator of Amazon States Language knows."""

import json
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from cdk import fleetmachine, statemachine
from lockstep.protocol import deadlines, errors
from lockstep.protocol.errors import LockstepError
from sandbox.emulators.aws.definition import problems
from tests.statemachine.definition import (
    LAMBDAS,
    MACHINE,
    STATES,
    TABLE_CALLS,
    TASKS,
    JsonObject,
    expressions,
)
from tests.support.memory import make_plan

# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html and the pages of its integrations.
AWS_ERRORS = re.compile(r"(States|Lambda|Sandbox|Runtime|DynamoDB|StepFunctions|Sfn)\.[A-Za-z0-9]+")
LAMBDA_ERRORS = {
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    "Runtime.ExitError",  # A process that ended itself (protocol F11).
}


def all_states(machine: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Also those of the items of a Map."""
    for name, state in machine["States"].items():
        yield name, state
        if "ItemProcessor" in state:
            yield from all_states(state["ItemProcessor"])


SOURCES = pytest.mark.parametrize("source", [statemachine, fleetmachine], ids=lambda s: s.__name__)


@SOURCES
def test_the_file_is_generated_from_its_source_and_step_functions_would_accept_it(source: ModuleType) -> None:
    assert source.PATH.read_text(encoding="utf-8") == source.text(), "run `make asl`"
    assert json.loads(source.text()) == source.machine()
    assert problems(source.text()) == []
    assert [name for name, state in all_states(source.machine()) if not state.get("Comment")] == []


@SOURCES
def test_every_error_that_is_matched_or_raised_exists(source: ModuleType) -> None:
    states = [state for _, state in all_states(source.machine())]
    rules = [rule for s in states for rule in (*s.get("Retry", []), *s.get("Catch", []))]
    matched = {error for rule in rules for error in rule["ErrorEquals"]}
    raised = {state["Error"] for state in states if not state.get("Error", "{%").startswith("{%")}
    ours = {error for error in matched if not AWS_ERRORS.fullmatch(error)} | raised
    assert all(issubclass(getattr(errors, name), LockstepError) for name in ours)


# Errors


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_time_out_a_catch_for_all_errors_and_retries_for_transient_ones(name: str) -> None:
    task = TASKS[name]
    assert 0 < task["TimeoutSeconds"] <= 60
    assert any(c["ErrorEquals"] == ["States.ALL"] for c in task["Catch"])
    retried = {error for retry in task["Retry"] for error in retry["ErrorEquals"]}
    assert "States.Timeout" in retried
    if name in TABLE_CALLS:
        assert all(e.startswith(("DynamoDB.", "States.")) for e in retried)
        assert "DynamoDB.ConditionalCheckFailedException" not in retried
    else:
        assert (name in LAMBDAS, retried >= LAMBDA_ERRORS) == (True, True)


# Time


def test_a_holder_has_stopped_before_its_lease_ends_and_the_trigger_after_the_next_one() -> None:
    assert deadlines.LEASE >= deadlines.RUN + deadlines.STEP + deadlines.CLOCK_SKEW
    assert make_plan().credentials[0].schedule.interval / 2 >= deadlines.RUN


def test_a_run_of_the_fleet_leaves_a_rotation_its_own_time() -> None:
    fleet = fleetmachine.machine()
    task = dict(all_states(fleet))["StartRotation"]
    assert task["TimeoutSeconds"] > deadlines.RUN.total_seconds()
    latest = deadlines.START_LATENESS.total_seconds()
    assert fleet["TimeoutSeconds"] > latest + task["TimeoutSeconds"]
    # Another trigger of the shortest interval does not find the one before it.
    assert fleet["TimeoutSeconds"] < deadlines.SHORTEST_SHARED_INTERVAL.total_seconds()
    # Hundreds of items begin at the same time.
    assert {r["JitterStrategy"] for _, s in all_states(fleet) for r in s.get("Retry", [])} == {"FULL"}


# Variables


def _variables(node: object) -> set[str]:
    names = {n for e in expressions(node) for n in re.findall(r"\$([a-z_]+)\b(?!\()", e)}
    parameters = {n for e in expressions(node) for n in re.findall(r"function\(\$([a-z_]+)\)", e)}
    return names - parameters - {"states"}


def _assigned(state: JsonObject) -> set[str]:
    places = [state, *state.get("Choices", []), *state.get("Catch", [])]
    return {name for place in places for name in place.get("Assign", {})}


def test_every_variable_is_assigned_and_read() -> None:
    assigned = {name for state in STATES.values() for name in _assigned(state)}
    assert _variables(MACHINE) == assigned


def test_a_failure_reads_only_variables_that_are_assigned_before_the_first_step() -> None:
    from_the_start = STATES["AcquireLock"]["Assign"].keys()
    for name in ("AuditFailure", "ReleaseLockAfterFailure", "RotationFailed"):
        assert _variables(STATES[name]) <= from_the_start, name
