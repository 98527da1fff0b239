"""The dashboard in CloudWatch.

A panel has one size, whatever the number of credentials. Its metrics come from three places: the watch writes its
numbers as a log line, log filters of the stack count rotations and skipped runs, and AWS measures executions, functions
and the queue. `tests/infrastructure/test_dashboard.py` checks that each of them is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from cdk.functions import Functions
from cdk.machines import Schedules, StateMachine
from lockstep.operate.watch import COUNTED

Owner = Literal["stack", "machine", "fleet", "function", "queue"]
"""Whose metric it is, which gives namespace and dimension."""
DIMENSIONS: dict[Owner, tuple[str, str]] = {
    "stack": ("Lockstep/{stack}", "Stack"),
    "machine": ("AWS/States", "StateMachineArn"),
    "fleet": ("AWS/States", "StateMachineArn"),
    "function": ("AWS/Lambda", "FunctionName"),
    "queue": ("AWS/SQS", "QueueName"),
}
"""Namespace, and the dimension that names the owner."""
ROTATIONS, SKIPPED, LATE, AUDIT_LOG_TOUCHED = "Rotations", "Skipped", "StartedLate", "AuditLogTouched"
DIGESTS, CONFIRMING = "DigestsMade", "DigestsConfirming"
"""Counted by filters of logs, without a dimension (`cdk/monitoring.py`)."""
FILTERED = (ROTATIONS, SKIPPED, LATE, AUDIT_LOG_TOUCHED, DIGESTS)
FUNCTIONS = ("generate", "apply_db", "update_secrets", "audit", "watch", "digest", "announce")
"""Those of a stack; `announce` is there where the plan sends events."""
FIVE_MINUTES, HOUR = 300, 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line of a panel.

    Attributes:
        metric: Its name.
        owner: Whose.
        statistic: As CloudWatch calls it.
        period_seconds: Over which it is taken.
        label: How the line is called.
        function: The function that it is about.
    """

    metric: str
    owner: Owner
    statistic: str
    label: str
    period_seconds: int = FIVE_MINUTES
    function: str | None = None

    @property
    def has_dimension(self) -> bool:
        """Whether it names its owner: what filters of logs count does not."""
        return self.metric not in FILTERED


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A graph.

    Attributes:
        title: What it shows.
        unit: Of its axis: `count`, `seconds` or `milliseconds`.
    """

    title: str
    unit: Literal["count", "seconds", "milliseconds"]
    series: tuple[Series, ...]


def panels() -> tuple[Panel, ...]:
    """All of them, in their order."""
    return (
        Panel(
            title="Credentials that need a look",
            unit="count",
            series=tuple(_of_watch(COUNTED)),
        ),
        Panel(
            title="Longest due",
            unit="seconds",
            series=tuple(_of_watch(("OldestDueSeconds",))),
        ),
        Panel(
            title="Runs per hour",
            unit="count",
            series=(
                Series(
                    metric=ROTATIONS, owner="stack", statistic="Sum", label="rotations", period_seconds=HOUR
                ),
                Series(metric=SKIPPED, owner="stack", statistic="Sum", label="skipped", period_seconds=HOUR),
                *_of_executions("machine"),
            ),
        ),
        Panel(
            title="Shards per hour",
            unit="count",
            series=(
                *_of_executions("fleet"),
                Series(
                    metric=LATE, owner="stack", statistic="Sum", label="started late", period_seconds=HOUR
                ),
            ),
        ),
        Panel(
            title="The audit log: problems, digests",
            unit="count",
            series=tuple(
                Series(metric=metric, owner="stack", statistic="Sum", label=metric, period_seconds=HOUR)
                for metric in (AUDIT_LOG_TOUCHED, DIGESTS)
            ),
        ),
        Panel(
            title="Duration of a run",
            unit="milliseconds",
            series=tuple(
                Series(metric="ExecutionTime", owner="machine", statistic=statistic, label=statistic)
                for statistic in ("p50", "p99")
            ),
        ),
        Panel(
            title="Duration of a shard",
            unit="milliseconds",
            series=tuple(
                Series(metric="ExecutionTime", owner="fleet", statistic=statistic, label=statistic)
                for statistic in ("p50", "Maximum")
            ),
        ),
        Panel(
            title="Duration of the functions",
            unit="milliseconds",
            series=tuple(_of_functions("Duration", "p99")),
        ),
        Panel(
            title="Errors of the functions",
            unit="count",
            series=tuple(_of_functions("Errors", "Sum")),
        ),
        Panel(
            title="Triggers that started no execution",
            unit="count",
            series=(
                Series(
                    metric="ApproximateNumberOfMessagesVisible",
                    owner="queue",
                    statistic="Maximum",
                    label="messages",
                ),
            ),
        ),
    )


def _of_watch(names: tuple[str, ...]) -> Iterator[Series]:
    for name in names:
        yield Series(metric=name, owner="stack", statistic="Maximum", label=name)


def _of_executions(owner: Owner) -> Iterator[Series]:
    for end in ("Succeeded", "Failed", "TimedOut", "Aborted"):
        name = f"Executions{end}"
        yield Series(metric=name, owner=owner, statistic="Sum", label=name, period_seconds=HOUR)


def _of_functions(metric: str, statistic: str) -> Iterator[Series]:
    for name in FUNCTIONS:
        yield Series(metric=metric, owner="function", statistic=statistic, label=name, function=name)


_WIDTH = 12
"""Half of a row of 24."""


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
        self._owners = {
            "stack": stack,
            "machine": machine.machine.state_machine_arn,
            "fleet": schedules.fleet.machine.state_machine_arn,
            "queue": schedules.dead_letters.queue_name,
        }
        # Its id keeps the name in the template that the dashboard has had: one with a new name there would be deleted.
        dashboard = cloudwatch.Dashboard(self, "Default", dashboard_name=stack)
        dashboard.add_widgets(*(self._graph(panel) for panel in panels()))

    def _graph(self, panel: Panel) -> cloudwatch.GraphWidget:
        return cloudwatch.GraphWidget(
            title=panel.title,
            left=[self._metric(s) for s in panel.series if not s.function or s.function in self._functions],
            left_y_axis=cloudwatch.YAxisProps(label=panel.unit, show_units=False, min=0),
            width=_WIDTH,
        )

    def _metric(self, series: Series) -> cloudwatch.Metric:
        namespace, dimension = DIMENSIONS[series.owner]
        owner = self._functions[series.function] if series.function else self._owners[series.owner]
        return cloudwatch.Metric(
            namespace=namespace.format(stack=self._stack),
            metric_name=series.metric,
            dimensions_map={dimension: owner} if series.has_dimension else None,
            statistic=series.statistic,
            period=Duration.seconds(series.period_seconds),
            label=series.label,
        )
