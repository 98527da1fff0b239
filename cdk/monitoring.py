"""What raises an alarm, and a dashboard. Both have one size, whatever the number of credentials.

Step Functions counts neither skipped runs nor rotations. Both are counted in the logs: a skipped run enters the state
`Skipped`, and a rotation makes the function UpdateSecrets end successfully. What concerns one credential is judged by
the watch (`cdk/watch.py`).
"""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from cdk import watch
from cdk.alarms import Alarms, Rule
from cdk.dashboard import Dashboard
from cdk.foundation import Foundation
from cdk.functions import Functions
from cdk.orchestration import StateMachine
from cdk.panels import AUDIT_LOG_TOUCHED, ROTATIONS, SKIPPED
from cdk.settings import Deployment
from lockstep.watch import namespace

_SOON = Duration.minutes(5)
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
        self._namespace = namespace(self._settings.stack)
        self.alarms = Alarms(self, "Alarms", deployment=deployment, key=foundation.key)
        self._count_in_logs(functions.logs["update_secrets"], machine.log)
        self._evidence(functions.logs["audit"])
        self._failures(machine)
        for rule in watch.rules(self._plan, self._settings.stack):
            self.alarms.add(rule)
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
        if self._settings.dashboard:
            Dashboard(
                self,
                "Dashboard",
                stack=self._settings.stack,
                functions=functions,
                machine=machine,
                dead_letters=dead_letters,
            )

    def _count_in_logs(self, promotions: logs.ILogGroup, executions: logs.ILogGroup) -> None:
        self._count(
            "RotationsFilter",
            ROTATIONS,
            promotions,
            logs.FilterPattern.all(
                logs.FilterPattern.string_value("$.step", "=", "functions.update_secrets.step"),
                logs.FilterPattern.string_value("$.outcome", "=", "ok"),
            ),
        )
        self._count(
            "SkippedFilter",
            SKIPPED,
            executions,
            logs.FilterPattern.all(
                logs.FilterPattern.string_value("$.type", "=", "TaskStateEntered"),
                logs.FilterPattern.string_value("$.details.name", "=", "NoteSkip"),
            ),
        )

    def _count(self, construct_id: str, name: str, log: logs.ILogGroup, lines: logs.IFilterPattern) -> None:
        """A metric of how many lines of a log fit a pattern."""
        logs.MetricFilter(
            self,
            construct_id,
            log_group=log,
            filter_pattern=lines,
            metric_namespace=self._namespace,
            metric_name=name,
            metric_value="1",
        )

    def _evidence(self, entries: logs.ILogGroup) -> None:
        """What Audit met in the log that is not Lockstep's (protocol E7, E8)."""
        self._count(
            "ExamineFilter",
            AUDIT_LOG_TOUCHED,
            entries,
            logs.FilterPattern.string_value("$.examine", "=", "audit-log"),
        )
        self.alarms.add(
            Rule(
                name="AuditLogTouched",
                metric=cloudwatch.Metric(
                    namespace=self._namespace, metric_name=AUDIT_LOG_TOUCHED, statistic="Sum", period=_SOON
                ),
                severity="page",
                datapoints=1,
                periods=12,
                description="The audit log holds what Lockstep did not write, or lacks what the lock record or the "
                "other cloud has seen. Rotation goes on; the newest entry names it.",
                section="the-audit-log-was-touched",
            )
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
