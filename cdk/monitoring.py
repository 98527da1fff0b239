"""What raises an alarm, and a dashboard.

Step Functions counts neither skipped runs nor the rotations of a credential. Both are counted in the logs: a skipped
run enters the state `Skipped`, and a rotation makes the function UpdateSecrets end successfully.
"""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from cdk.alarms import Alarms, Rule
from cdk.asl import seconds
from cdk.foundation import Foundation
from cdk.functions import Functions
from cdk.orchestration import StateMachine
from cdk.settings import LONGEST_ALARM, Deployment
from lockstep.model import Credential
from lockstep.standby import DISTRUST_INTERVALS

NAMESPACE = "Lockstep"
_SOON = Duration.minutes(5)
_LONGEST_PERIOD_SECONDS = 86400
_MOST_PERIODS = 288
"""Of five minutes: an alarm looks at a day of them at most (CloudWatch quotas)."""


class Monitoring(Construct):
    """Alarms and dashboard.

    Attributes:
        alarms: The alarms and their topics.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        foundation: Foundation,
        functions: Functions,
        machine: StateMachine,
        dead_letters: sqs.Queue,
    ) -> None:
        super().__init__(scope, construct_id)
        self._plan = deployment.plan
        self._settings = deployment.settings
        self.alarms = Alarms(
            self,
            "Alarms",
            stack=self._settings.stack,
            key=foundation.key,
            email=self._settings.alarm_email,
        )
        self._count_in_logs(functions.logs["update_secrets"], machine.log)
        self._failures(machine)
        for credential in self._plan.credentials:
            self._stale(credential)
            if self._plan.runners.oci:
                self._standby_leads(credential)
        self.alarms.add(
            Rule(
                name="DeadLetters",
                metric=dead_letters.metric_approximate_number_of_messages_visible(
                    statistic="Maximum", period=_SOON
                ),
                severity="ticket",
                datapoints=2,
                periods=3,
                description="A trigger of a schedule started no execution. The message in the queue gives the reason.",
                section="alarms",
            )
        )
        self._dashboard(functions, machine, dead_letters)

    def _count_in_logs(self, promotions: logs.ILogGroup, executions: logs.ILogGroup) -> None:
        logs.MetricFilter(
            self,
            "RotationsFilter",
            log_group=promotions,
            filter_pattern=logs.FilterPattern.all(
                logs.FilterPattern.string_value("$.step", "=", "functions.update_secrets.step"),
                logs.FilterPattern.string_value("$.outcome", "=", "ok"),
            ),
            metric_namespace=NAMESPACE,
            metric_name="Rotations",
            metric_value="1",
            dimensions={"Credential": "$.credential"},
        )
        logs.MetricFilter(
            self,
            "SkippedFilter",
            log_group=executions,
            filter_pattern=logs.FilterPattern.all(
                logs.FilterPattern.string_value("$.type", "=", "SucceedStateEntered"),
                logs.FilterPattern.string_value("$.details.name", "=", "Skipped"),
            ),
            metric_namespace=NAMESPACE,
            metric_name="Skipped",
            metric_value="1",
        )

    def _failures(self, machine: StateMachine) -> None:
        found = {
            "Failed": machine.machine.metric_failed(statistic="Sum", period=_SOON),
            "TimedOut": machine.machine.metric_timed_out(statistic="Sum", period=_SOON),
            "Aborted": machine.machine.metric_aborted(statistic="Sum", period=_SOON),
        }
        for what, metric in found.items():
            self.alarms.add(
                Rule(
                    name=f"Executions{what}",
                    metric=metric,
                    severity="ticket",
                    datapoints=1,
                    periods=self._periods_of_an_interval(),
                    description="A rotation failed, timed out or was aborted. It took nothing away from applications, "
                    "and the next run finishes it, unless its error waits for an operator: "
                    "CurrentCredentialRejectedError, DatabaseMutedError, EnrolmentNeededError, PlanNotActiveError.",
                    section="errors-by-name",
                )
            )

    def _periods_of_an_interval(self) -> int:
        """So many that the alarm stays until the next run of the most frequent credential has not failed."""
        shortest = min(c.schedule.interval for c in self._plan.credentials)
        return min(int(shortest.total_seconds()) // int(_SOON.to_seconds()) + 1, _MOST_PERIODS)

    def _stale(self, credential: Credential) -> None:
        """Alarm if a credential was not rotated for two intervals, also if no run was started at all."""
        interval = int(credential.schedule.interval.total_seconds())
        period = Duration.seconds(min(interval, _LONGEST_PERIOD_SECONDS))
        rotations: cloudwatch.IMetric = _rotations(credential, period)
        if self._plan.runners.oci:
            # If the other cloud has rotated, the run here is skipped. That also shows that the value is fresh.
            rotations = cloudwatch.MathExpression(
                expression="FILL(rotations, 0) + FILL(skipped, 0)",
                using_metrics={"rotations": rotations, "skipped": _skipped(period)},
                period=period,
                label=f"{credential.id}: rotated or not due",
            )
        periods = -(-2 * interval // int(period.to_seconds()))
        self.alarms.add(
            Rule(
                name=f"Stale-{credential.id}",
                metric=rotations,
                severity="page",
                datapoints=periods,
                periods=periods,
                below=True,
                without_data=cloudwatch.TreatMissingData.BREACHING,
                description=f"{credential.id} was not rotated for two intervals, by any runner.",
                section="alarms",
            )
        )

    def _standby_leads(self, credential: Credential) -> None:
        """Alarm if AWS has not rotated for longer than the standby leads after a failure (protocol R8)."""
        interval = int(credential.schedule.interval.total_seconds())
        period = Duration.seconds(min(interval, _LONGEST_PERIOD_SECONDS))
        intervals = min(DISTRUST_INTERVALS + 3, seconds(LONGEST_ALARM) // interval)
        periods = intervals * interval // int(period.to_seconds())
        self.alarms.add(
            Rule(
                name=f"StandbyLeads-{credential.id}",
                metric=_rotations(credential, period),
                severity="ticket",
                datapoints=periods,
                periods=periods,
                below=True,
                without_data=cloudwatch.TreatMissingData.BREACHING,
                description=f"AWS has not rotated {credential.id} for {intervals} intervals. If OCI does, applications "
                "are not affected, but rotation depends on one cloud.",
                section="oci-leads",
            )
        )

    def _dashboard(self, functions: Functions, machine: StateMachine, dead_letters: sqs.Queue) -> None:
        dashboard = cloudwatch.Dashboard(self, "Dashboard", dashboard_name=self._settings.stack)
        hour = Duration.hours(1)
        run = machine.machine
        dashboard.add_widgets(
            _graph(
                "Rotations per hour", [_rotations(c, hour).with_(label=c.id) for c in self._plan.credentials]
            ),
            _graph(
                "Runs per hour",
                [
                    run.metric_succeeded(period=hour),
                    _skipped(hour),
                    run.metric_failed(period=hour),
                    run.metric_timed_out(period=hour),
                    run.metric_aborted(period=hour),
                ],
            ),
        )
        dashboard.add_widgets(
            _graph(
                "Duration of a run (ms)", [run.metric_time(statistic="p50"), run.metric_time(statistic="p99")]
            ),
            _graph(
                "Duration of the functions (ms)",
                [f.metric_duration(statistic="p99") for f in functions.by_step.values()],
            ),
        )
        dashboard.add_widgets(
            _graph("Errors of the functions", [f.metric_errors() for f in functions.by_step.values()]),
            _graph(
                "Triggers that started no execution",
                [dead_letters.metric_approximate_number_of_messages_visible()],
            ),
        )


def _rotations(credential: Credential, period: Duration) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name="Rotations",
        dimensions_map={"Credential": credential.id},
        statistic="Sum",
        period=period,
    )


def _skipped(period: Duration) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=NAMESPACE, metric_name="Skipped", statistic="Sum", period=period, label="skipped"
    )


def _graph(title: str, metrics: list[cloudwatch.Metric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), width=12)
