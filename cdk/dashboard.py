"""The dashboard in CloudWatch.

A panel has one size, whatever the number of credentials. Its metrics come from three places: the watch writes its
numbers as a log line, log filters of the stack count rotations and skipped runs, and AWS measures executions, functions
and the queue. `tests/infrastructure/test_cdk_alarms.py` checks that each of them is there.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from cdk.functions import Functions
from cdk.machines import Schedules, StateMachine
from lockstep.operate.watch import COUNTED, namespace

ROTATIONS, SKIPPED, LATE, AUDIT_LOG_TOUCHED = "Rotations", "Skipped", "StartedLate", "AuditLogTouched"
DIGESTS, CONFIRMING = "DigestsMade", "DigestsConfirming"
"""Counted by filters of logs, without a dimension (`cdk/monitoring.py`)."""
_WIDTH = 12
"""Half of a row of 24."""

Metrics = list[cloudwatch.IMetric]


class Dashboard(Construct):
    """The dashboard, named as the stack."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stack: str,
        functions: Functions,
        machine: StateMachine,
        schedules: Schedules,
    ) -> None:
        super().__init__(scope, construct_id)
        self._stack = stack
        self._functions = {step: function.function_name for step, function in functions.by_step.items()}
        # Its id keeps the name in the template that the dashboard has had: one with a new name there would be deleted.
        dashboard = cloudwatch.Dashboard(self, "Default", dashboard_name=stack)
        hourly = partial(self._counted, period=Duration.hours(1))
        run, shard = ({"StateMachineArn": m.machine.state_machine_arn} for m in (machine, schedules.fleet))
        queue = {"QueueName": schedules.dead_letters.queue_name}
        waiting = "ApproximateNumberOfMessagesVisible"
        dashboard.add_widgets(
            _graph("Credentials that need a look", "count", self._of_watch(COUNTED)),
            _graph("Longest due", "seconds", self._of_watch(["OldestDueSeconds"])),
            _graph(
                "Runs per hour",
                "count",
                [hourly(ROTATIONS, "rotations"), hourly(SKIPPED, "skipped"), *_ends(run)],
            ),
            _graph("Shards per hour", "count", [*_ends(shard), hourly(LATE, "started late")]),
            _graph(
                "The audit log: problems, digests",
                "count",
                [hourly(metric, metric) for metric in (AUDIT_LOG_TOUCHED, DIGESTS)],
            ),
            _graph("Duration of a run", "milliseconds", _durations(run, "p50", "p99")),
            _graph("Duration of a shard", "milliseconds", _durations(shard, "p50", "Maximum")),
            _graph("Duration of the functions", "milliseconds", self._of_functions("Duration", "p99")),
            _graph("Errors of the functions", "count", self._of_functions("Errors", "Sum")),
            _graph(
                "Triggers that started no execution",
                "count",
                [_line("AWS/SQS", waiting, "Maximum", label="messages", of=queue)],
            ),
        )

    def _counted(self, name: str, label: str, period: Duration) -> cloudwatch.Metric:
        return _line(namespace(self._stack), name, "Sum", label=label, period=period)

    def _of_watch(self, names: Sequence[str]) -> Metrics:
        of = {"Stack": self._stack}
        return [_line(namespace(self._stack), name, "Maximum", label=name, of=of) for name in names]

    def _of_functions(self, name: str, statistic: str) -> Metrics:
        return [
            _line("AWS/Lambda", name, statistic, label=step, of={"FunctionName": function})
            for step, function in self._functions.items()
        ]


def _ends(of: Mapping[str, str]) -> Metrics:
    names = [f"Executions{end}" for end in ("Succeeded", "Failed", "TimedOut", "Aborted")]
    return [_line("AWS/States", name, "Sum", label=name, of=of, period=Duration.hours(1)) for name in names]


def _durations(of: Mapping[str, str], *statistics: str) -> Metrics:
    return [_line("AWS/States", "ExecutionTime", s, label=s, of=of) for s in statistics]


def _line(
    of_namespace: str,
    name: str,
    statistic: str,
    *,
    label: str,
    of: Mapping[str, str] | None = None,
    period: Duration | None = None,
) -> cloudwatch.Metric:
    """A line of a graph; `of` is its dimension, which what a filter counts has not."""
    return cloudwatch.Metric(
        namespace=of_namespace,
        metric_name=name,
        dimensions_map=of,
        statistic=statistic,
        period=period or Duration.minutes(5),
        label=label,
    )


def _graph(title: str, unit: str, metrics: Sequence[cloudwatch.IMetric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(
        title=title,
        left=metrics,
        left_y_axis=cloudwatch.YAxisProps(label=unit, show_units=False, min=0),
        width=_WIDTH,
    )
