"""The dashboards of CloudWatch and Grafana: the same panels, of metrics that are there."""

import json
import re
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.validate import ParamValidator

from cdk import grafana
from cdk.panels import FILTERED, FUNCTIONS, panels
from cdk.settings import ROOT
from lockstep.agent.given import Given
from lockstep.agent.metrics import text_of
from lockstep.agent.values import Values
from lockstep.watch import Expected, Table, watch
from tests.infrastructure.cdk_case import WITH_EVENTS, Synthesised, synthesised

FILE = ROOT / "docs" / "how-to" / "grafana-dashboard.json"
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


@pytest.fixture(scope="module")
def in_grafana() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


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


def grafana_lines(panel: dict[str, Any], stack: str = "lockstep") -> list[Line]:
    return [
        (
            t["namespace"].replace("$stack", stack),
            t["metricName"],
            next(iter(t["dimensions"]), ""),
            t["statistic"],
            int(t["period"]),
            t["label"],
        )
        for t in panel["targets"]
    ]


def of_cloudwatch(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [p for p in dashboard["panels"] if p["datasource"]["type"] == "cloudwatch"]


def test_the_file_is_what_the_list_makes() -> None:
    assert json.loads(FILE.read_text()) == grafana.dashboard(), "python -m cdk.grafana"


def test_both_show_the_same(stack: Synthesised, in_grafana: dict[str, Any]) -> None:
    here, there = widgets(stack), of_cloudwatch(in_grafana)
    assert (
        [w["properties"]["title"] for w in here] == [p["title"] for p in there] == [p.title for p in panels()]
    )
    for widget, panel in zip(here, there, strict=True):
        assert cloudwatch_lines(widget) == grafana_lines(panel), panel["title"]


def test_without_events_only_the_lines_of_their_function_are_missing(stack: Synthesised) -> None:
    fewer = synthesised()
    for with_events, without in zip(widgets(stack), widgets(fewer), strict=True):
        expected = [line for line in cloudwatch_lines(with_events) if line[5] != "announce"]
        assert cloudwatch_lines(without) == expected


def test_a_deployment_over_an_older_one_keeps_the_dashboard(stack: Synthesised) -> None:
    """Another name in the template would delete the dashboard after it was made anew, under the same name."""
    [name] = stack.resources("AWS::CloudWatch::Dashboard")
    assert name == LOGICAL_ID


# Every metric is there


def written_by_the_watch() -> set[str]:
    expected = Expected(credentials=(), schedules=True, standby=True)
    return set(
        watch(Table(records={}, unreadable={}), expected, now=datetime(2026, 1, 1, tzinfo=UTC)).metrics
    )


def test_each_metric_is_written_by_the_watch_counted_in_a_log_or_measured_by_aws(stack: Synthesised) -> None:
    counted = {
        (t["MetricNamespace"], t["MetricName"])
        for f in stack.resources("AWS::Logs::MetricFilter").values()
        for t in f["Properties"]["MetricTransformations"]
    }
    assert {name for _, name in counted} == set(FILTERED)
    for widget in widgets(stack):
        for namespace, name, dimension, *_ in cloudwatch_lines(widget):
            if (namespace, name) in counted:
                assert dimension == ""  # A filter gives none.
            elif namespace == "Lockstep/lockstep":
                assert (name in written_by_the_watch(), dimension) == (True, "Stack")
            else:
                assert name in OF_AWS[namespace, dimension]


def test_all_that_the_watch_counts_is_shown(in_grafana: dict[str, Any]) -> None:
    shown = {t["metricName"] for p in of_cloudwatch(in_grafana) for t in p["targets"]}
    # How many there are, and how long ago the canary was rotated, are for alarms.
    assert written_by_the_watch() - shown == {"Credentials"}


def test_each_function_of_the_stack_is_shown_by_its_name(
    stack: Synthesised, in_grafana: dict[str, Any]
) -> None:
    deployed = {f["Properties"]["FunctionName"] for f in stack.resources("AWS::Lambda::Function").values()}
    shown = {
        t["dimensions"]["FunctionName"].replace("${stack}", "lockstep").replace("$suffix", "")
        for p in of_cloudwatch(in_grafana)
        for t in p["targets"]
        if "FunctionName" in t["dimensions"]
    }
    assert shown == deployed
    assert len(deployed) == len(FUNCTIONS)


def test_each_metric_of_an_agent_is_one_that_it_tells() -> None:
    nothing = text_of(Values([], lambda: 0.0), Given(lambda: datetime(2026, 1, 1, tzinfo=UTC)), {200: 1})
    told = set(re.findall(r"^# TYPE (\S+) ", nothing, re.MULTILINE))
    for panel in grafana.AGENTS:
        [name] = re.findall(r"lockstep_agent_\w+", panel.query)
        assert name in told


# The shape of a dashboard of Grafana, as far as it can be checked without one


def test_places_and_ids_are_of_a_grid_of_24(in_grafana: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in in_grafana["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    ids = [p["id"] for p in in_grafana["panels"]]
    assert ids == sorted(set(ids))
    for panel in in_grafana["panels"]:
        references = [t["refId"] for t in panel["targets"]]
        assert references == sorted(set(references))
        assert {t["datasource"]["type"] for t in panel["targets"]} == {panel["datasource"]["type"]}
        assert panel["type"] == "timeseries"
        assert panel["description"]


def test_each_variable_that_is_used_is_defined(in_grafana: dict[str, Any]) -> None:
    defined = {v["name"] for v in in_grafana["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z_]+)\}?", json.dumps(in_grafana)))
    assert used == defined


def test_the_legends_of_prometheus_are_labels_of_the_query() -> None:
    for panel in grafana.AGENTS:
        [by] = re.findall(r"by \(([^)]+)\)", panel.query)
        assert set(re.findall(r"\{\{(\w+)\}\}", panel.legend)) == set(by.split(", "))


def test_cloudwatch_takes_the_queries_of_grafana(in_grafana: dict[str, Any]) -> None:
    """The requests that Grafana's data source makes of the targets fit the API's model."""
    client = boto3.client(
        "cloudwatch", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    shape = client.meta.service_model.operation_model("GetMetricData").input_shape
    for panel in of_cloudwatch(in_grafana):
        queries = [
            {
                "Id": f"query{t['refId']}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": t["namespace"],
                        "MetricName": t["metricName"],
                        "Dimensions": [{"Name": k, "Value": v} for k, v in t["dimensions"].items()],
                    },
                    "Period": int(t["period"]),
                    "Stat": t["statistic"],
                },
                "Label": t["label"],
            }
            for t in panel["targets"]
        ]
        now = datetime(2026, 1, 1, tzinfo=UTC)
        report = ParamValidator().validate(
            {"MetricDataQueries": queries, "StartTime": now, "EndTime": now}, shape
        )
        assert not report.has_errors(), report.generate_report()
