"""The dashboard: its panels, of metrics that are there."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cdk.bundle import HANDLERS
from cdk.dashboard import AUDIT_LOG_TOUCHED, DIGESTS, LATE, ROTATIONS, SKIPPED
from lockstep.operate.watch import Expected, watch
from lockstep.protocol.ports import Table
from tests.infrastructure.cdk_case import WITH_EVENTS, Synthesised, synthesised

LOGICAL_ID = "MonitoringDashboard0C3675C6"
"""Since the first dashboard."""

# Names, units and dimensions of AWS's own metrics:
# https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html,
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html,
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
OF_AWS = {
    ("AWS/States", "StateMachineArn"): {
        "ExecutionsSucceeded",
        "ExecutionsFailed",
        "ExecutionsTimedOut",
        "ExecutionsAborted",
        "ExecutionTime",
    },
    ("AWS/Lambda", "FunctionName"): {"Duration", "Errors"},
    ("AWS/SQS", "QueueName"): {"ApproximateNumberOfMessagesVisible"},
}
Line = tuple[str, str, str, str, int, str]
"""Namespace, metric, dimension, statistic, period, label."""


@pytest.fixture(scope="module")
def stack() -> Synthesised:
    return synthesised(plan=WITH_EVENTS)


def widgets(stack: Synthesised) -> list[dict[str, Any]]:
    body = stack.properties("AWS::CloudWatch::Dashboard")["DashboardBody"]
    text = body if isinstance(body, str) else stack.words(body)
    found: list[dict[str, Any]] = json.loads(text)["widgets"]
    return found


def cloudwatch_lines(widget: dict[str, Any]) -> list[Line]:
    lines = []
    for metric in widget["properties"]["metrics"]:
        namespace, name, *dimensions, options = metric
        dimension = dimensions[0] if dimensions else ""
        lines.append(
            (
                namespace,
                name,
                dimension,
                options.get("stat", "Average"),
                options.get("period", 300),
                options["label"],
            )
        )
    return lines


def test_a_deployment_over_an_older_one_keeps_the_dashboard(stack: Synthesised) -> None:
    """Another name in the template would delete the dashboard after it was made anew, under the same name."""
    [name] = stack.resources("AWS::CloudWatch::Dashboard")
    assert name == LOGICAL_ID


# Every metric is there


def written_by_the_watch() -> set[str]:
    expected = Expected(credentials=(), schedules=True)
    return set(
        watch(Table(records={}, unreadable={}), expected, now=datetime(2026, 1, 1, tzinfo=UTC)).metrics
    )


def test_each_metric_is_written_by_the_watch_counted_in_a_log_or_measured_by_aws(stack: Synthesised) -> None:
    counted = {
        (t["MetricNamespace"], t["MetricName"])
        for f in stack.resources("AWS::Logs::MetricFilter").values()
        for t in f["Properties"]["MetricTransformations"]
    }
    assert {name for _, name in counted} == {ROTATIONS, SKIPPED, LATE, AUDIT_LOG_TOUCHED, DIGESTS}
    for widget in widgets(stack):
        for namespace, name, dimension, *_ in cloudwatch_lines(widget):
            if (namespace, name) in counted:
                assert dimension == ""  # A filter gives none.
            elif namespace == "Lockstep/lockstep":
                assert (name in written_by_the_watch(), dimension) == (True, "Stack")
            else:
                assert name in OF_AWS[namespace, dimension]


def test_all_that_the_watch_counts_is_shown(stack: Synthesised) -> None:
    shown = {name for widget in widgets(stack) for _, name, *_ in cloudwatch_lines(widget)}
    # How many there are, and how long ago the canary was rotated, are for alarms.
    assert written_by_the_watch() - shown == {"Credentials"}


def test_each_function_of_the_stack_is_shown(stack: Synthesised) -> None:
    [errors] = [w for w in widgets(stack) if w["properties"]["title"] == "Errors of the functions"]
    shown = {metric[3] for metric in errors["properties"]["metrics"]}
    assert shown == {stack.words({"Ref": name}) for name in stack.resources("AWS::Lambda::Function")}
    assert len(shown) == len(HANDLERS)
