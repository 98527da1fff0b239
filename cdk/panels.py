"""What the dashboards show: one list, for CloudWatch (`cdk/dashboard.py`) and for Grafana (`cdk/grafana.py`).

A panel has one size, whatever the number of credentials. Its metrics come from three places: the watch writes its
numbers as a log line, log filters of the stack count rotations and skipped runs, and AWS measures executions, functions
and the queue. `tests/infrastructure/test_dashboards.py` checks that each of them is there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lockstep.watch import COUNTED

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
"""Counted by filters of logs, without a dimension (`cdk/monitoring.py`)."""
FILTERED = (ROTATIONS, SKIPPED, LATE, AUDIT_LOG_TOUCHED)
FUNCTIONS = ("generate", "apply_db", "update_secrets", "audit", "watch", "announce")
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
        meaning: What a person should know who looks at it.
        unit: Of its axis: `count`, `seconds` or `milliseconds`.
    """

    title: str
    meaning: str
    unit: Literal["count", "seconds", "milliseconds"]
    series: tuple[Series, ...]


def panels() -> tuple[Panel, ...]:
    """All of them, in their order."""
    return (
        Panel(
            title="Credentials that need a look",
            meaning="Zero is good. The log of the function watch names them; docs/runbook.md says what to do.",
            unit="count",
            series=tuple(_of_watch(COUNTED)),
        ),
        Panel(
            title="Longest due, longest unwitnessed",
            meaning="How long a credential has been due, and a log not been named by the other cloud's.",
            unit="seconds",
            series=tuple(_of_watch(("OldestDueSeconds", "UnwitnessedSeconds"))),
        ),
        Panel(
            title="Runs per hour",
            meaning="A skipped run is a success, too: another runner rotates, or nothing was due.",
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
            meaning="One that failed: more than a tenth of its rotations did. Started late counts rotations that were "
            "not started, since their turn came too late.",
            unit="count",
            series=(
                *_of_executions("fleet"),
                Series(
                    metric=LATE, owner="stack", statistic="Sum", label="started late", period_seconds=HOUR
                ),
            ),
        ),
        Panel(
            title="The audit log was touched",
            meaning="What Audit met in the log that is not Lockstep's, or missed there. Zero is good.",
            unit="count",
            series=(
                Series(
                    metric=AUDIT_LOG_TOUCHED,
                    owner="stack",
                    statistic="Sum",
                    label="found",
                    period_seconds=HOUR,
                ),
            ),
        ),
        Panel(
            title="Duration of a run",
            meaning="Of the state machine, with its waits between tries.",
            unit="milliseconds",
            series=tuple(
                Series(metric="ExecutionTime", owner="machine", statistic=statistic, label=statistic)
                for statistic in ("p50", "p99")
            ),
        ),
        Panel(
            title="Duration of a shard",
            meaning="From the trigger of a shard to the end of its last rotation, with the report.",
            unit="milliseconds",
            series=tuple(
                Series(metric="ExecutionTime", owner="fleet", statistic=statistic, label=statistic)
                for statistic in ("p50", "Maximum")
            ),
        ),
        Panel(
            title="Duration of the functions",
            meaning="The slowest of a hundred calls.",
            unit="milliseconds",
            series=tuple(_of_functions("Duration", "p99")),
        ),
        Panel(
            title="Errors of the functions",
            meaning="A step that failed is tried again by the state machine. Of announce: events that were not sent.",
            unit="count",
            series=tuple(_of_functions("Errors", "Sum")),
        ),
        Panel(
            title="Triggers that started no execution",
            meaning="Messages in the dead-letter queue. Zero is good.",
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
