"""A Map in distributed mode is as strict as that of Step Functions: each item is an execution of its own."""

import json
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox, Execution
from tests.emulators.aws.conftest import Runner

BUCKET = "files"
TOO_MANY = "States.ExceedToleratedFailureThreshold"
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
    """One Map over these states."""
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": next(iter(states)),
        "States": states,
    }
    items = {} if "ItemReader" in fields else {"Items": "{% $states.input.items %}"}
    return {
        "Each": {"Type": "Map", "Label": "Each", **items, "ItemProcessor": processor, "End": True, **fields}
    }


def after_a_variable(states: dict[str, Any]) -> dict[str, Any]:
    return {"Set": {"Type": "Pass", "Assign": {"outer": 5}, "Next": "Each"}, **states}


@pytest.fixture(name="bucket", autouse=True)
def _bucket(aws: AwsSandbox) -> None:
    place = {"LocationConstraint": aws.region}
    aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)


def children(aws: AwsSandbox, execution: Execution) -> list[dict[str, Any]]:
    """The executions of the items."""
    states = aws.client("stepfunctions")
    [run] = states.list_map_runs(executionArn=execution.arn)["mapRuns"]
    listed = states.list_executions(mapRunArn=run["mapRunArn"])["executions"]
    return [states.describe_execution(executionArn=child["executionArn"]) for child in listed]


def counts(aws: AwsSandbox, execution: Execution) -> dict[str, int]:
    """What DescribeMapRun counts, without zeros."""
    states = aws.client("stepfunctions")
    [run] = states.list_map_runs(executionArn=execution.arn)["mapRuns"]
    found = states.describe_map_run(mapRunArn=run["mapRunArn"])["itemCounts"]
    return {name: number for name, number in found.items() if number}


def test_each_item_is_an_execution_with_its_own_context(aws: AwsSandbox, run: Runner) -> None:
    context = {
        "name": "{% $states.context.Execution.Name %}",
        "input": "{% $states.context.Execution.Input %}",
    }
    execution = run(each({"Say": {"Type": "Succeed", "Output": context}}), {"items": ["a", {"b": 1}]})
    assert execution.status == "SUCCEEDED", execution.cause
    assert [said["input"] for said in execution.output] == ["a", {"b": 1}]
    found = children(aws, execution)
    assert {c["name"] for c in found} == {said["name"] for said in execution.output}
    machine = execution.arn.split(":")[6]
    assert {c["executionArn"].rpartition(":")[0].rpartition(":")[2] for c in found} == {f"{machine}/Each"}
    history = aws.client("stepfunctions").get_execution_history(executionArn=found[0]["executionArn"])
    assert [e["type"] for e in history["events"]][::3] == ["ExecutionStarted", "ExecutionSucceeded"]


def test_a_selector_knows_the_variables_around_it_and_an_item_does_not(run: Runner) -> None:
    selector = {
        "outer": "{% $outer %}",
        "item": "{% $states.context.Map.Item.Value %}",
        "number": "{% $states.context.Map.Item.Index %}",
        "all": "{% $count($states.input.items) %}",
    }
    states = after_a_variable(each({"Say": {"Type": "Succeed"}}, ItemSelector=selector))
    assert run(states, {"items": ["a", "b"]}).output == [
        {"outer": 5, "item": item, "number": number, "all": 2} for number, item in enumerate("ab")
    ]
    states = after_a_variable(each({"Say": {"Type": "Succeed", "Output": "{% $outer %}"}}))
    assert run(states, {"items": [1]}).error == TOO_MANY


@pytest.mark.parametrize(
    ("fields", "bad", "error"),
    [
        ({}, 0, None),
        ({}, 1, TOO_MANY),
        ({"ToleratedFailurePercentage": 50}, 2, None),
        ({"ToleratedFailurePercentage": "{% 50 %}"}, 3, TOO_MANY),
        ({"ToleratedFailurePercentage": 100}, 4, None),
    ],
)
def test_more_failed_items_than_are_tolerated_fail_the_map(
    aws: AwsSandbox, run: Runner, fields: dict[str, object], bad: int, error: str | None
) -> None:
    execution = run(each(FAIL, **fields), {"items": ["good"] * (4 - bad) + ["bad"] * bad})
    assert execution.error == error
    if error is None:
        wanted = {"succeeded": 4 - bad, "failed": bad, "total": 4}
        assert counts(aws, execution) == {name: number for name, number in wanted.items() if number}
        assert [r if r == "good" else r["Error"] for r in execution.output] == (
            ["good"] * (4 - bad) + ["BadError"] * bad
        )


def test_nothing_more_is_started_once_too_many_have_failed(aws: AwsSandbox, run: Runner) -> None:
    execution = run(each(FAIL, MaxConcurrency=1), {"items": ["good", "bad", "good", "good"]})
    assert execution.error == TOO_MANY
    assert counts(aws, execution) == {"succeeded": 1, "failed": 1, "pending": 2, "total": 4}


def test_results_are_in_files_by_status(aws: AwsSandbox, run: Runner) -> None:
    states = each(FAIL, ToleratedFailurePercentage=100, ResultWriter=WRITER)
    execution = run(states, {"items": ["good", "bad"], "day": "monday"})
    number = execution.output["MapRunArn"].rpartition(":")[2]
    key = f"out/monday/{number}/manifest.json"
    assert execution.output["ResultWriterDetails"] == {"Bucket": BUCKET, "Key": key}

    def read(name: str) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(aws.client("s3").get_object(Bucket=BUCKET, Key=name)["Body"].read())

    files = read(key)["ResultFiles"]
    [good], [bad] = (read(files[status][0]["Key"]) for status in ("SUCCEEDED", "FAILED"))
    assert (files["PENDING"], good["Input"], good["Output"]) == ([], '"good"', '"good"')
    assert (bad["Status"], bad["Error"], bad["Cause"]) == ("FAILED", "BadError", "it is bad")
    assert counts(aws, execution) == {"succeeded": 1, "failed": 1, "total": 2, "resultsWritten": 2}


@pytest.mark.parametrize("text", [None, "{}", "[1", "null"])
def test_items_that_cannot_be_read_fail_the_map(aws: AwsSandbox, run: Runner, text: str | None) -> None:
    if text is not None:
        aws.client("s3").put_object(Bucket=BUCKET, Key="items.json", Body=text.encode())
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Arguments": {"Bucket": BUCKET, "Key": "items.json"},
    }
    execution = run(each(FAIL, ItemReader=reader))
    assert execution.error == "States.ItemReaderFailed"
    assert children(aws, execution) == []


BIG = {"Say": {"Type": "Pass", "Output": "{% $pad('', 90000, 'x') %}", "End": True}}


@pytest.mark.parametrize(
    ("states", "given", "error"),
    [
        *(
            (
                each(FAIL, MaxConcurrency="{% $states.input.n %}"),
                {"items": [], "n": n},
                "States.QueryEvaluationError",
            )
            for n in (-1, 2.5, "3", True)
        ),
        (each(BIG), {"items": [1, 2, 3]}, "States.DataLimitExceeded"),
        (each(BIG, ResultWriter={**WRITER, "Arguments": {"Bucket": BUCKET}}), {"items": [1, 2, 3]}, None),
        (
            each(FAIL, ResultWriter={**WRITER, "Arguments": {"Bucket": "missing"}}),
            {"items": []},
            "States.ResultWriterFailed",
        ),
    ],
)
def test_a_map_has_limits(
    run: Runner, states: dict[str, Any], given: dict[str, Any], error: str | None
) -> None:
    assert run(states, given).error == error
