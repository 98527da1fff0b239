"""JSONata: the evaluator alone, and in every place where a state machine may use it."""

import pytest
from moto.stepfunctions.parser.asl.jsonata.jsonata import JSONataException

from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.aws.jsonata import _declare, evaluate
from tests.emulators.aws.conftest import NOW, Runner, invoke


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("4 / 2", 2),
        ("$toMillis('2024-11-24T14:20:00.250Z')", 1732458000250),
        ("$string($floor($toMillis('2024-11-24T14:20:00.250Z') / 1000) + 1200)", "1732459200"),
        ("$string({'a': 1})", '{"a":1}'),
        ("{'given': 1, 'missing': $nothing, 'empty': null}", {"given": 1, "empty": None}),
        ("($x := {'a': [{'b': 1}]}; $x.a)", [{"b": 1}]),
        ("$parse('{\"a\": [1]}').a", [1]),
        ("$exists($parse('null'))", True),
        ("$substring($hash('abc', 'SHA-256'), 0, 16)", "ba7816bf8f01cfea"),
    ],
)
def test_an_expression_results_in_plain_json(expression: str, value: object) -> None:
    result = evaluate(f"({expression})")
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize("expression", ["1 +", "1 + 'a'", "1 / 0", "$number('x')", "$sum", "$nobody()"])
def test_a_result_that_is_not_json_is_an_error(expression: str) -> None:
    with pytest.raises(JSONataException):
        evaluate(f"({expression})")


@pytest.mark.parametrize("value", [None, True, 2**53, 'a"b\\c\n{% 1 %}', "$x", ["", None], {"": {"é": [1]}}])
def test_a_variable_keeps_its_value_and_is_never_part_of_the_expression(value: object) -> None:
    assert evaluate(f"({_declare({'$x': {'value': value}})}$x)") == {"value": value}


def test_times_are_the_sandboxs_in_the_format_of_aws(run: Runner) -> None:
    output = {
        "start": "{% $states.context.Execution.StartTime %}",
        "entered": "{% $states.context.State.EnteredTime %}",
        "now": "{% $now() %}",
        "millis": "{% $millis() %}",
    }
    execution = run({"Tell": {"Type": "Pass", "Output": output, "End": True}})
    told = dict.fromkeys(("start", "entered", "now"), "2024-11-24T14:20:00.250Z")
    assert execution.output == {**told, "millis": round(NOW * 1000)}


@pytest.mark.parametrize("expression", ["1 + 'a'", "$states.input.nothing", "function(){1}"])
def test_no_value_fails_by_a_name_that_can_be_caught(aws: AwsSandbox, run: Runner, expression: str) -> None:
    aws.lambda_host.register_handler("echo", lambda event, _: event)
    catch = [{"ErrorEquals": ["States.QueryEvaluationError"], "Next": "Caught"}]
    ask = invoke("echo", {"it": f"{{% {expression} %}}"}, Catch=catch)
    assert run({"Ask": ask, "Caught": {"Type": "Succeed"}}).states_entered == ["Ask", "Caught"]
