"""The same dashboard for Grafana, from the list of `cdk/panels.py`, and what the agents tell Prometheus.

    python -m cdk.grafana > docs/how-to/grafana-dashboard.json

The JSON model is that of https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/;
a target of CloudWatch has the fields of a metric search by the builder
(https://grafana.com/docs/grafana/latest/datasources/aws-cloudwatch/query-editor/).
"""

import json
import sys
from typing import Any, NamedTuple

from cdk.panels import DIMENSIONS, Panel, Series, panels
from lockstep.stack_names import DEFAULT_STACK

Json = dict[str, Any]

CLOUDWATCH = {"type": "cloudwatch", "uid": "${cloudwatch}"}
PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}
_UNITS = {"count": "short", "seconds": "s", "milliseconds": "ms"}
_WIDTH, _HEIGHT = 12, 8
"""Half of a row of 24."""
_SCHEMA = 39
"""Of Grafana 10.3 and newer, which bring an older one up to date."""


class OfAgents(NamedTuple):
    """A panel of what the agents tell."""

    title: str
    meaning: str
    unit: str
    query: str
    legend: str


AGENTS = (
    OfAgents(
        "Agents: time left of what they serve",
        "Until it may be dead. It falls while no store answers.",
        "s",
        "min by (secret) (lockstep_agent_overlap_left_seconds)",
        "{{secret}}",
    ),
    OfAgents(
        "Agents: generation that applications were given",
        "Two lines that stay apart: somebody asks no more.",
        "short",
        "min by (credential, way) (lockstep_agent_given_generation)",
        "{{credential}} by {{way}}",
    ),
    OfAgents(
        "Agents: reads of stores that failed",
        "Of a second, by store.",
        "short",
        'sum by (source) (rate(lockstep_agent_reads_total{outcome="failed"}[5m]))',
        "{{source}}",
    ),
)


def dashboard() -> Json:
    """The dashboard."""
    shown = [_graph(panel) for panel in panels()] + [_of_agents(panel) for panel in AGENTS]
    return {
        "uid": "lockstep",
        "title": "Lockstep",
        "tags": ["lockstep"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "refresh": "5m",
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "panels": [
            {"id": number, "gridPos": _place(number - 1), **panel}
            for number, panel in enumerate(shown, start=1)
        ],
    }


def _place(index: int) -> Json:
    return {"x": _WIDTH * (index % 2), "y": _HEIGHT * (index // 2), "w": _WIDTH, "h": _HEIGHT}


def _graph(panel: Panel) -> Json:
    return _panel(
        title=panel.title,
        meaning=panel.meaning,
        unit=_UNITS[panel.unit],
        source=CLOUDWATCH,
        targets=[_target(series, index) for index, series in enumerate(panel.series)],
    )


def _of_agents(panel: OfAgents) -> Json:
    target = {
        "refId": "A",
        "datasource": PROMETHEUS,
        "expr": panel.query,
        "legendFormat": panel.legend,
    }
    return _panel(
        title=panel.title, meaning=panel.meaning, unit=panel.unit, source=PROMETHEUS, targets=[target]
    )


def _panel(*, title: str, meaning: str, unit: str, source: Json, targets: list[Json]) -> Json:
    return {
        "type": "timeseries",
        "title": title,
        "description": meaning,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": targets,
    }


def _target(series: Series, index: int) -> Json:
    namespace, dimension = DIMENSIONS[series.owner]
    return {
        "refId": chr(ord("A") + index),
        "datasource": CLOUDWATCH,
        "queryMode": "Metrics",
        "metricQueryType": 0,
        "metricEditorMode": 0,
        "region": "$region",
        "namespace": namespace.format(stack="$stack"),
        "metricName": series.metric,
        "dimensions": {dimension: _owner(series)} if series.has_dimension else {},
        "matchExact": True,
        "statistic": series.statistic,
        "period": str(series.period_seconds),
        "label": series.label,
        "id": "",
        "expression": "",
    }


def _owner(series: Series) -> str:
    if series.function:
        return f"${{stack}}-{series.function.replace('_', '-')}$suffix"
    return {"stack": "$stack", "machine": "$state_machine", "fleet": "$fleet", "queue": "$dead_letters"}[
        series.owner
    ]


def _variables() -> list[Json]:
    return [
        {"type": "datasource", "name": "cloudwatch", "label": "CloudWatch", "query": "cloudwatch"},
        {
            "type": "datasource",
            "name": "prometheus",
            "label": "Prometheus of the agents",
            "query": "prometheus",
        },
        _text("region", "Region", "eu-central-1"),
        _text("stack", "Stack", DEFAULT_STACK),
        _text("suffix", "After the names of functions: -zip, or nothing", ""),
        _found(
            "state_machine", "State machine", "AWS/States", "ExecutionsStarted", "StateMachineArn", ":$stack$"
        ),
        _found(
            "fleet",
            "State machine of the fleet",
            "AWS/States",
            "ExecutionsStarted",
            "StateMachineArn",
            ":$stack-fleet$",
        ),
        _found(
            "dead_letters",
            "Dead-letter queue",
            "AWS/SQS",
            "ApproximateNumberOfMessagesVisible",
            "QueueName",
            "^$stack-.*DeadLetters",
        ),
    ]


def _text(name: str, label: str, value: str) -> Json:
    return {
        "type": "textbox",
        "name": name,
        "label": label,
        "query": value,
        "current": {"text": value, "value": value},
    }


def _found(name: str, label: str, namespace: str, metric: str, dimension: str, pattern: str) -> Json:
    """A variable whose value CloudWatch knows, as a dimension of a metric."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": CLOUDWATCH,
        "refresh": 1,
        "regex": f"/{pattern}/",
        "query": {
            "queryType": "dimensionValues",
            "region": "$region",
            "namespace": namespace,
            "metricName": metric,
            "dimensionKey": dimension,
            "dimensionFilters": {},
            "refId": "CloudWatchVariableQueryEditor-VariableQuery",
        },
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
