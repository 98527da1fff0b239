"""A Map in distributed mode is as strict as that of Step Functions: each item is an execution of its own."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

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
    """One Map over these states."""
    return {
        "Each": {
            "Type": "Map",
            "Label": "Each",
            "Items": "{% $states.input.items %}",
            "ItemProcessor": {
                "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                "StartAt": next(iter(states)),
                "States": states,
            },
            "End": True,
            **fields,
        }
    }


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
    described = states.describe_map_run(mapRunArn=run["mapRunArn"])
    assert described["itemCounts"] == described["executionCounts"]
    return {name: number for name, number in described["itemCounts"].items() if number}


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
    assert [e["type"] for e in history["events"]] == [
        "ExecutionStarted",
        "SucceedStateEntered",
        "SucceedStateExited",
        "ExecutionSucceeded",
    ]


def test_an_item_does_not_know_the_variables_around_it(run: Runner) -> None:
    states = {
        "Set": {"Type": "Pass", "Assign": {"outer": 5}, "Next": "Each"},
        **each({"Say": {"Type": "Succeed", "Output": "{% $outer %}"}}),
    }
    assert run(states, {"items": [1]}).error == "States.ExceedToleratedFailureThreshold"


def test_a_selector_knows_them_and_the_item(run: Runner) -> None:
    selector = {
        "outer": "{% $outer %}",
        "item": "{% $states.context.Map.Item.Value %}",
        "number": "{% $states.context.Map.Item.Index %}",
        "all": "{% $count($states.input.items) %}",
    }
    states = {
        "Set": {"Type": "Pass", "Assign": {"outer": 5}, "Next": "Each"},
        **each({"Say": {"Type": "Succeed"}}, ItemSelector=selector),
    }
    assert run(states, {"items": ["a", "b"]}).output == [
        {"outer": 5, "item": item, "number": number, "all": 2} for number, item in enumerate("ab")
    ]


@pytest.mark.parametrize(
    ("fields", "bad", "error"),
    [
        ({}, 0, None),
        ({}, 1, "States.ExceedToleratedFailureThreshold"),
        ({"ToleratedFailureCount": 1}, 1, None),
        ({"ToleratedFailureCount": 1}, 2, "States.ExceedToleratedFailureThreshold"),
        ({"ToleratedFailurePercentage": 50}, 2, None),
        ({"ToleratedFailurePercentage": 50}, 3, "States.ExceedToleratedFailureThreshold"),
        ({"ToleratedFailurePercentage": "{% 50 %}"}, 3, "States.ExceedToleratedFailureThreshold"),
        ({"ToleratedFailurePercentage": 100}, 4, None),
        (
            {"ToleratedFailurePercentage": 100, "ToleratedFailureCount": 1},
            2,
            "States.ExceedToleratedFailureThreshold",
        ),
    ],
)
def test_more_failed_items_than_are_tolerated_fail_the_map(
    aws: AwsSandbox, run: Runner, fields: dict[str, object], bad: int, error: str | None
) -> None:
    items = ["good"] * (4 - bad) + ["bad"] * bad
    execution = run(each(FAIL, **fields), {"items": items})
    assert execution.error == error
    if error is None:
        assert counts(aws, execution) == {
            name: number
            for name, number in {"succeeded": 4 - bad, "failed": bad, "total": 4}.items()
            if number
        }
        assert [r for r in execution.output if r == "good"] == ["good"] * (4 - bad)
        assert {(r["Status"], r["Error"]) for r in execution.output if r != "good"} <= {
            ("FAILED", "BadError")
        }


def test_nothing_more_is_started_once_too_many_have_failed(aws: AwsSandbox, run: Runner) -> None:
    execution = run(each(FAIL, MaxConcurrency=1), {"items": ["good", "bad", "good", "good"]})
    assert execution.error == "States.ExceedToleratedFailureThreshold"
    assert counts(aws, execution) == {"succeeded": 1, "failed": 1, "pending": 2, "total": 4}


def test_results_are_in_files_by_status(aws: AwsSandbox, run: Runner) -> None:
    states = each(FAIL, ToleratedFailurePercentage=100, ResultWriter=WRITER)
    execution = run(states, {"items": ["good", "bad"], "day": "monday"})
    details = execution.output["ResultWriterDetails"]
    number = execution.output["MapRunArn"].rpartition(":")[2]
    assert details == {"Bucket": BUCKET, "Key": f"out/monday/{number}/manifest.json"}

    def read(key: str) -> Any:  # noqa: ANN401 - any JSON
        return json.loads(aws.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read())

    files = read(details["Key"])["ResultFiles"]
    assert files["PENDING"] == []
    [good] = read(files["SUCCEEDED"][0]["Key"])
    [bad] = read(files["FAILED"][0]["Key"])
    assert (good["Status"], good["Input"], good["Output"]) == ("SUCCEEDED", '"good"', '"good"')
    assert (bad["Status"], bad["Error"], bad["Cause"]) == ("FAILED", "BadError", "it is bad")
    assert counts(aws, execution) == {"succeeded": 1, "failed": 1, "total": 2, "resultsWritten": 2}


def test_results_that_cannot_be_written_fail_the_map(run: Runner) -> None:
    writer = {**WRITER, "Arguments": {"Bucket": "missing"}}
    assert run(each(FAIL, ResultWriter=writer), {"items": []}).error == "States.ResultWriterFailed"


@pytest.mark.parametrize("text", [None, "", "{}", "[1", "null"])
def test_items_that_cannot_be_read_fail_the_map(aws: AwsSandbox, run: Runner, text: str | None) -> None:
    if text is not None:
        aws.client("s3").put_object(Bucket=BUCKET, Key="items.json", Body=text.encode())
    reader = {
        "Resource": "arn:aws:states:::s3:getObject",
        "ReaderConfig": {"InputType": "JSON"},
        "Arguments": {"Bucket": BUCKET, "Key": "items.json"},
    }
    states = each(FAIL, ItemReader=reader)
    del states["Each"]["Items"]
    execution = run(states)
    assert execution.error == "States.ItemReaderFailed"
    assert children(aws, execution) == []


@pytest.mark.parametrize("at_once", [-1, 2.5, "3", True])
def test_a_concurrency_that_is_no_number_fails_the_map(run: Runner, at_once: object) -> None:
    states = each(FAIL, MaxConcurrency="{% $states.input.at_once %}")
    assert run(states, {"items": ["good"], "at_once": at_once}).error == "States.QueryEvaluationError"


def test_outputs_over_the_limit_need_a_writer(run: Runner) -> None:
    states = {"Say": {"Type": "Pass", "Output": "{% $pad('', 90000, 'x') %}", "End": True}}
    assert run(each(states), {"items": [1, 2, 3]}).error == "States.DataLimitExceeded"
    written = each(states, ResultWriter={**WRITER, "Arguments": {"Bucket": BUCKET}})
    assert run(written, {"items": [1, 2, 3]}).status == "SUCCEEDED"


@pytest.mark.parametrize(
    "fields",
    [{"ResultWriter": WRITER}, {"ToleratedFailurePercentage": 101}, {"ToleratedFailurePercentage": -1}],
)
def test_a_map_that_cannot_run_is_refused(run: Runner, fields: dict[str, object]) -> None:
    states = each(FAIL, **fields)
    if "ResultWriter" in fields:
        states["Each"]["ItemProcessor"]["ProcessorConfig"] = {"Mode": "INLINE"}
    with pytest.raises(ClientError, match="InvalidDefinition"):
        run(states)
