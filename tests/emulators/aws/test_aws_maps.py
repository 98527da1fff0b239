"""A Map in distributed mode is as strict as that of Step Functions: each item is an execution of its own."""

import json
from threading import Event
from typing import Any

import pytest

from sandbox.emulators.aws import AwsSandbox, Execution
from tests.emulators.aws.conftest import Runner, invoke
from tests.support.programs import until

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
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": next(iter(states)),
        "States": states,
    }
    items = {} if "ItemReader" in fields else {"Items": "{% $states.input.items %}"}
    own = {"ToleratedFailurePercentage": 100, "ResultWriter": WRITER, **items, **fields}
    return {
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


@pytest.mark.parametrize("concurrency", ["-1", "2.5", "'3'", "true"])
def test_a_concurrency_is_a_whole_number(run: Runner, concurrency: str) -> None:
    execution = run(each(FAIL, MaxConcurrency=f"{{% {concurrency} %}}"), {"items": []})
    assert execution.error == "States.QueryEvaluationError"


def test_a_task_given_up_stops_the_execution_that_it_awaits(aws: AwsSandbox, run: Runner) -> None:
    gate = Event()
    aws.lambda_host.register_handler("wait", lambda *_: gate.wait(30), timeout_seconds=30)
    child = run.create({"Wait": invoke("wait")}, "child")
    task = {
        "Type": "Task",
        "Resource": "arn:aws:states:::states:startExecution.sync:2",
        "Arguments": {"StateMachineArn": child, "Name": "one"},
        "TimeoutSeconds": 3,  # It has started by then what it awaits.
        "End": True,
    }
    assert run({"Start": task}).error == "States.Timeout"
    arn = child.replace(":stateMachine:", ":execution:") + ":one"
    client = aws.client("stepfunctions")
    until(lambda: client.describe_execution(executionArn=arn)["status"] == "ABORTED")
    gate.set()
