"""A Map in distributed mode is as strict as that of Step Functions: each item is an execution of its own."""

import json
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox, Execution
from tests.emulators.aws.conftest import Runner

BUCKET = "files"
WRITER = {
    "Resource": "arn:aws:states:::s3:putObject",
    "Arguments": {"Bucket": BUCKET, "Prefix": "{% 'out/' & $states.context.Execution.Input.day %}"},
}
FAIL = {
    "Look": {
        "Type": "Choice",
        "Choices": [{"Condition": "{% $states.input = 'bad' %}", "Next": "Bad"}],
        "Default": "Good",
    },
    "Bad": {"Type": "Fail", "Error": "BadError", "Cause": "it is bad"},
    "Good": {"Type": "Succeed"},
}


def each(states: dict[str, Any], **fields: object) -> dict[str, Any]:
    """One Map over these states, after a variable."""
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": next(iter(states)),
        "States": states,
    }
    items = {} if "ItemReader" in fields else {"Items": "{% $states.input.items %}"}
    own = {"ToleratedFailurePercentage": 100, "ResultWriter": WRITER, **items, **fields}
    return {
        "Set": {"Type": "Pass", "Assign": {"outer": 5}, "Next": "Each"},
        "Each": {"Type": "Map", "Label": "Each", "ItemProcessor": processor, "End": True, **own},
    }


@pytest.fixture(name="bucket", autouse=True)
def _bucket(aws: AwsSandbox) -> None:
    place = {"LocationConstraint": aws.region}
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)


def children(aws: AwsSandbox, execution: Execution) -> list[dict[str, Any]]:
    """The executions of the items, in the order of their inputs."""
    states = aws.client("stepfunctions")
    [run] = states.list_map_runs(executionArn=execution.arn)["mapRuns"]
    listed = states.list_executions(mapRunArn=run["mapRunArn"])["executions"]
    found = [states.describe_execution(executionArn=child["executionArn"]) for child in listed]
    return sorted(found, key=lambda child: str(child["input"]))


def test_each_item_is_an_execution_with_its_own_context(aws: AwsSandbox, run: Runner) -> None:
    context = {
        "name": "{% $states.context.Execution.Name %}",
        "input": "{% $states.context.Execution.Input %}",
    }
    execution = run(each({"Say": {"Type": "Succeed", "Output": context}}), {"items": ["a", {"b": 1}]})
    assert execution.status == "SUCCEEDED", execution.cause
    found = children(aws, execution)
    said = [json.loads(child["output"]) for child in found]
    assert [one["input"] for one in said] == ["a", {"b": 1}]
    assert [one["name"] for one in said] == [child["name"] for child in found]
    machine = execution.arn.split(":")[6]
    assert {c["executionArn"].rpartition(":")[0].rpartition(":")[2] for c in found} == {f"{machine}/Each"}
    history = aws.client("stepfunctions").get_execution_history(executionArn=found[0]["executionArn"])
    assert [e["type"] for e in history["events"]][::3] == ["ExecutionStarted", "ExecutionSucceeded"]


def test_a_selector_knows_the_variables_around_it_and_an_item_does_not(aws: AwsSandbox, run: Runner) -> None:
    selector = {
        "item": "{% $states.context.Map.Item.Value %}",
        "outer": "{% $outer %}",
        "number": "{% $states.context.Map.Item.Index %}",
        "all": "{% $count($states.input.items) %}",
    }
    execution = run(each({"Say": {"Type": "Succeed"}}, ItemSelector=selector), {"items": ["a", "b"]})
    assert [json.loads(child["input"]) for child in children(aws, execution)] == [
        {"item": item, "outer": 5, "number": number, "all": 2} for number, item in enumerate("ab")
    ]
    execution = run(each({"Say": {"Type": "Succeed", "Output": "{% $outer %}"}}), {"items": [1]})
    assert [child["error"] for child in children(aws, execution)] == ["States.QueryEvaluationError"]


def test_no_failure_stops_the_others_and_results_are_in_files_by_status(aws: AwsSandbox, run: Runner) -> None:
    execution = run(each(FAIL, MaxConcurrency=1), {"items": ["bad", "good"], "day": "monday"})
    number = execution.output["MapRunArn"].rpartition(":")[2]
    key = f"out/monday/{number}/manifest.json"
    assert execution.output["ResultWriterDetails"] == {"Bucket": BUCKET, "Key": key}

    def read(name: str) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(aws.client("s3").get_object(Bucket=BUCKET, Key=name)["Body"].read())

    files = read(key)["ResultFiles"]
    [good], [bad] = (read(files[status][0]["Key"]) for status in ("SUCCEEDED", "FAILED"))
    assert (files["PENDING"], good["Input"], good["Output"]) == ([], '"good"', '"good"')
    assert (bad["Status"], bad["Error"], bad["Cause"]) == ("FAILED", "BadError", "it is bad")
    shown = aws.client("stepfunctions").describe_map_run(mapRunArn=execution.output["MapRunArn"])
    found = {name: number for name, number in shown["itemCounts"].items() if number}
    assert found == {"succeeded": 1, "failed": 1, "total": 2, "resultsWritten": 2}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        *(
            ({"MaxConcurrency": f"{{% {n} %}}"}, "States.QueryEvaluationError")
            for n in (-1, 2.5, "'3'", "true")
        ),
        ({"ResultWriter": {**WRITER, "Arguments": {"Bucket": "missing"}}}, "States.ResultWriterFailed"),
    ],
)
def test_a_map_has_limits(run: Runner, fields: dict[str, object], error: str) -> None:
    assert run(each(FAIL, **fields), {"items": []}).error == error
