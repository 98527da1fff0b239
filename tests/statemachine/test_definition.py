"""The definition, read without running it: what no validator of Amazon States Language sees."""

import re
from datetime import timedelta

import pytest
from jsonata import Jsonata  # type: ignore[import-untyped]  # the package carries no types

from lockstep import errors
from lockstep.errors import LockstepError, RetryableError, family
from oci_fn import sequence
from tests.statemachine.definition import (
    ALL,
    LAMBDAS,
    MACHINE,
    MAPS,
    STATES,
    TABLE_CALLS,
    TASKS,
    JsonObject,
    expressions,
    ways_out,
)
from tests.support.memory import make_plan

CLOCK_SKEW = timedelta(seconds=60)
# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html and the pages of its integrations.
AWS_ERRORS = re.compile(r"States\.(ALL|Timeout)|(Lambda|Sandbox|Runtime|DynamoDB)\.[A-Za-z]+")
LAMBDA_ERRORS = {
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
}


def _scopes() -> list[JsonObject]:
    """The machine and each Map's machine: objects with StartAt and States."""
    return [MACHINE, *(state["ItemProcessor"] for state in MAPS.values())]


# The graph.


def test_every_state_is_reached_and_every_way_leads_to_a_state() -> None:
    for scope in _scopes():
        reached, ahead = set(), [scope["StartAt"]]
        while ahead:
            name = ahead.pop()
            assert name in scope["States"], f"{name} is nowhere"
            if name not in reached:
                reached.add(name)
                ahead += ways_out(scope["States"][name])
        assert reached == scope["States"].keys()


def test_every_state_ends_or_goes_on() -> None:
    for name, state in ALL.items():
        ends = state.get("End") is True or state["Type"] in {"Succeed", "Fail"}
        assert ends != bool("Next" in state or "Default" in state), name


def test_no_name_is_used_twice() -> None:
    names = [name for scope in _scopes() for name in scope["States"]]
    assert len(names) == len(set(names))


def test_every_state_says_what_it_is_for() -> None:
    assert MACHINE["Comment"]
    assert [name for name, state in ALL.items() if not state.get("Comment")] == []


KNOWN_FIELDS = {
    "Task": {"Resource", "Arguments", "TimeoutSeconds", "Retry", "Catch", "Assign", "Output", "Next", "End"},
    "Map": {"Items", "ItemSelector", "MaxConcurrency", "ItemProcessor", "Assign", "Next", "Catch"},
    "Choice": {"Choices", "Default"},
    "Succeed": {"Output"},
    "Fail": {"Error", "Cause"},
}


def test_no_field_is_misspelt() -> None:
    for name, state in ALL.items():
        assert state.keys() - {"Type", "Comment"} <= KNOWN_FIELDS[state["Type"]], name
        for retry in state.get("Retry", []):
            assert retry.keys() == {
                "ErrorEquals",
                "IntervalSeconds",
                "BackoffRate",
                "MaxAttempts",
                "MaxDelaySeconds",
                "JitterStrategy",
            }, name
        for catch in state.get("Catch", []):
            assert {"ErrorEquals", "Next"} <= catch.keys() <= {"ErrorEquals", "Next", "Assign", "Output"}, (
                name
            )
        for choice in state.get("Choices", []):
            assert {"Condition", "Next"} <= choice.keys() <= {"Condition", "Next", "Assign"}, name


# Errors.


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_time_out_retries_and_somebody_who_catches(name: str) -> None:
    task = TASKS[name]
    assert 0 < task["TimeoutSeconds"] <= 60
    assert task["Retry"]
    around = [state for state in MAPS.values() if name in state["ItemProcessor"]["States"]]
    catches = [c for state in (task, *around) for c in state.get("Catch", [])]
    assert any(c["ErrorEquals"] == ["States.ALL"] for c in catches)


def test_states_all_stands_alone_and_last() -> None:
    for name, state in ALL.items():
        for rules in (state.get("Retry", []), state.get("Catch", [])):
            for number, rule in enumerate(rules):
                if "States.ALL" in rule["ErrorEquals"]:
                    assert rule["ErrorEquals"] == ["States.ALL"], name
                    assert number == len(rules) - 1, name


def test_every_error_that_is_matched_has_a_name_that_somebody_raises() -> None:
    matched = {
        error
        for state in ALL.values()
        for rule in (*state.get("Retry", []), *state.get("Catch", []))
        for error in rule["ErrorEquals"]
    }
    ours = {error for error in matched if not AWS_ERRORS.fullmatch(error)}
    assert all(issubclass(getattr(errors, name), LockstepError) for name in ours)
    assert all(
        hasattr(errors, state["Error"]) for state in ALL.values() if state.get("Error", "{%")[:2] != "{%"
    )


@pytest.mark.parametrize("name", LAMBDAS)
def test_a_step_is_retried_for_exactly_the_retryable_family_and_for_what_lambda_itself_fails_with(
    name: str,
) -> None:
    ours, lambdas = LAMBDAS[name]["Retry"]
    assert ours["ErrorEquals"] == [error.__name__ for error in family(RetryableError)]
    assert set(lambdas["ErrorEquals"]) >= LAMBDA_ERRORS | {"States.Timeout"}
    assert all(AWS_ERRORS.fullmatch(error) for error in lambdas["ErrorEquals"])


@pytest.mark.parametrize("name", TABLE_CALLS)
def test_a_call_of_the_table_is_retried_for_what_may_pass_and_never_for_a_condition(name: str) -> None:
    [retry] = TABLE_CALLS[name]["Retry"]
    assert "States.Timeout" in retry["ErrorEquals"]
    assert all(e.startswith(("DynamoDB.", "States.")) for e in retry["ErrorEquals"])
    assert "DynamoDB.ConditionalCheckFailedException" not in retry["ErrorEquals"]


def test_retries_back_off_with_jitter_and_end_in_time() -> None:
    for name, task in TASKS.items():
        for retry in task["Retry"]:
            assert retry["JitterStrategy"] == "FULL", name
            assert 1 <= retry["IntervalSeconds"] <= retry["MaxDelaySeconds"] <= 20, name
            assert retry["BackoffRate"] >= 2, name
            assert 3 <= retry["MaxAttempts"] <= 5, name


def test_a_failed_run_records_it_and_gives_the_lock_back_whatever_else_fails() -> None:
    for name in (
        "Generate",
        "ProbeDb",
        "ApplyDb",
        "RaiseFence",
        "WithdrawDb",
        "UpdateSecrets",
        "RevokeDb",
        "Audit",
    ):
        assert STATES[name]["Catch"][-1]["Next"] == "AuditFailure", name
        assert STATES[name]["Catch"][-1]["Assign"] == {"failure": "{% $states.errorOutput %}"}, name
    assert set(ways_out(STATES["AuditFailure"])) == {"ReleaseLockAfterFailure"}
    assert set(ways_out(STATES["ReleaseLockAfterFailure"])) == {"RotationFailed"}
    # The rotation is done and on record: the claim stays, and the next run ends it.
    assert STATES["ReleaseLock"]["Catch"][-1]["Next"] == "RotationFailed"


def test_not_to_get_the_lock_is_a_success() -> None:
    first, _ = STATES["AcquireLock"]["Catch"]
    assert first == {"ErrorEquals": ["DynamoDB.ConditionalCheckFailedException"], "Next": "Skipped"}
    assert STATES["Skipped"]["Type"] == "Succeed"


# Time.


def _lease() -> timedelta:
    values = STATES["AcquireLock"]["Arguments"]["ExpressionAttributeValues"]
    match = re.search(r"\+ (\d+)\) %}$", values[":expires_at"]["N"])
    assert match
    return timedelta(seconds=int(match[1]))


def test_a_holder_is_dead_before_its_lease_ends() -> None:
    execution = timedelta(seconds=MACHINE["TimeoutSeconds"])
    longest_function = timedelta(seconds=max(task["TimeoutSeconds"] for task in LAMBDAS.values()))
    assert _lease() > execution + longest_function + CLOCK_SKEW


def test_the_lease_is_the_same_in_both_clouds() -> None:
    assert _lease() == sequence.LEASE


def test_a_run_ends_before_the_trigger_after_the_next_one() -> None:
    assert timedelta(seconds=MACHINE["TimeoutSeconds"]) <= make_plan().credentials[0].schedule.interval / 2


# Expressions.


def test_every_expression_is_jsonata() -> None:
    found = list(expressions())
    assert len(found) > 80
    for expression in found:
        Jsonata(expression)


def _variables(node: object) -> set[str]:
    names = {n for e in expressions(node) for n in re.findall(r"\$([a-z_]+)\b(?!\()", e)}
    return names - {"states"}


def _assigned(state: JsonObject) -> set[str]:
    places = [state, *state.get("Choices", []), *state.get("Catch", [])]
    return {name for place in places for name in place.get("Assign", {})}


def test_every_variable_is_assigned_somewhere_and_read_somewhere() -> None:
    assigned = {name for state in ALL.values() for name in _assigned(state)}
    assert _variables(MACHINE) == assigned


def test_what_a_failure_reads_is_assigned_before_the_first_step() -> None:
    from_the_start = STATES["AcquireLock"]["Assign"].keys()
    for name in ("AuditFailure", "ReleaseLockAfterFailure", "RotationFailed"):
        assert _variables(STATES[name]) <= from_the_start, name
