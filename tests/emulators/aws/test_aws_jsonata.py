"""JSONata: the evaluator alone, and in every place where a state machine may use it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.stepfunctions.parser.asl.jsonata.jsonata import JSONataException

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.jsonata import _declare, evaluate
from tests.emulators.aws.conftest import NOW, Naps, Runner, invoke


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 1", 2),
        ("4 / 2", 2),
        ("5 / 2", 2.5),
        ("2 * 3.0", 6),
        ("$number('1732458000')", 1732458000),
        ("$floor(1732458000.7)", 1732458000),
        ("$floor($toMillis('2024-11-24T14:20:00.250Z') / 1000)", 1732458000),
        ("$toMillis('2024-11-24T14:20:00.250Z')", 1732458000250),
        ("$string($floor($toMillis('2024-11-24T14:20:00.250Z') / 1000) + 1200)", "1732459200"),
        ("$string(1732458000)", "1732458000"),
        ("$string(1732458000.0)", "1732458000"),
        ("$string(1.5)", "1.5"),
        ("$string({'a': 1})", '{"a":1}'),
        ("null", None),
        ("$nothing", None),
        ("{'given': 1, 'missing': $nothing, 'empty': null}", {"given": 1, "empty": None}),
        ("$exists($nothing)", False),
        ("$exists(null)", True),
        ("[1..3]", [1, 2, 3]),
        ("($x := {'a': [{'b': 1}]}; $x.a)", [{"b": 1}]),
        ("$parse('{\"a\": [1]}').a", [1]),
        (
            "$hash('abc', 'SHA-256')",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        ("$length($uuid())", 36),
    ],
)
def test_an_expression_results_in_plain_json(expression: str, value: object) -> None:
    result = evaluate(f"({expression})")
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize("expression", ["1 +", "1 + 'a'", "1 / 0", "$number('x')", "$sum", "$nobody()"])
def test_a_result_that_is_not_json_is_an_error(expression: str) -> None:
    with pytest.raises(JSONataException):
        evaluate(f"({expression})")


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(value=_JSON)
def test_a_variable_keeps_its_value(value: object) -> None:
    assert evaluate(f"({_declare({'$x': {'value': value}})}$x)") == {"value": value}


@given(value=st.text())
def test_a_string_variable_is_never_part_of_the_expression(value: str) -> None:
    assert evaluate(f"({_declare({'$x': value})}$x)") == value


def test_times_are_the_sandboxs_in_the_format_of_aws(run: Runner) -> None:
    output = {
        "start": "{% $states.context.Execution.StartTime %}",
        "entered": "{% $states.context.State.EnteredTime %}",
        "now": "{% $now() %}",
        "epoch": "{% $string($floor($toMillis($states.context.State.EnteredTime) / 1000)) %}",
        "millis": "{% $millis() %}",
    }
    execution = run({"Tell": {"Type": "Pass", "Output": output, "End": True}})
    spelled = "2024-11-24T14:20:00.250Z"
    assert execution.output == {
        "start": spelled,
        "entered": spelled,
        "now": spelled,
        "epoch": "1732458000",
        "millis": round(NOW * 1000),
    }


class FenceLostError(Exception):
    pass


def _raise_lost_lock(_event: object, _context: object) -> None:
    raise FenceLostError


def test_a_retry_backs_off_within_its_bounds(aws: AwsSandbox, run: Runner, naps: Naps) -> None:
    aws.lambda_host.register_handler("fail", _raise_lost_lock)
    retry = {"ErrorEquals": ["FenceLostError"], "IntervalSeconds": 2, "BackoffRate": 3, "MaxAttempts": 4}
    run({"Try": invoke("fail", Retry=[{**retry, "MaxDelaySeconds": 10}])})
    assert naps.taken == [2, 6, 10, 10]
    naps.taken.clear()
    run({"Try": invoke("fail", Retry=[{**retry, "MaxDelaySeconds": 10, "JitterStrategy": "FULL"}])})
    assert len(naps.taken) == 4
    assert all(0 <= taken <= most for taken, most in zip(naps.taken, [2, 6, 10, 10], strict=True))


def test_a_retry_counts_its_attempts_for_the_expressions(aws: AwsSandbox, run: Runner) -> None:
    seen: list[Any] = []

    def fail_twice(event: dict[str, int], _context: object) -> str:
        seen.append(event["attempt"])
        if len(seen) < 3:
            raise FenceLostError
        return "done"

    aws.lambda_host.register_handler("flaky", fail_twice)
    attempt = {"attempt": "{% $states.context.State.RetryCount %}"}
    retry = [{"ErrorEquals": ["FenceLostError"], "IntervalSeconds": 1, "MaxAttempts": 5}]
    assert run({"Try": invoke("flaky", attempt, Retry=retry)}).output == "done"
    assert seen == [0, 1, 2]


def test_a_failing_expression_can_be_caught_by_its_name(aws: AwsSandbox, run: Runner) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    execution = run(
        {
            "Ask": invoke(
                "echo",
                {"sum": "{% 1 + $states.input.text %}"},
                Catch=[{"ErrorEquals": ["States.QueryEvaluationError"], "Next": "Caught"}],
            ),
            "Caught": {"Type": "Succeed"},
        },
        {"text": "a"},
    )
    assert (execution.status, execution.states_entered) == ("SUCCEEDED", ["Ask", "Caught"])


@pytest.mark.parametrize("expression", ["1 + 'a'", "$states.input.nothing", "function(){1}"])
def test_an_expression_without_a_value_fails_the_execution(run: Runner, expression: str) -> None:
    execution = run({"Tell": {"Type": "Pass", "Output": f"{{% {expression} %}}", "End": True}})
    assert (execution.status, execution.error) == ("FAILED", "States.QueryEvaluationError")
