"""What raises an alarm. It has one size, whatever the number of credentials.

Some of it is counted in the logs: a rotation that would begin too late enters the state `TooLate` of the fleet. What
concerns one credential is judged by the watch (`cdk/alarms.py`).
"""

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from cdk.alarms import Alarms, Rule, Severity, rules
from cdk.deployment import Deployment
from cdk.foundation import Foundation
from cdk.functions import Functions
from cdk.machines import Schedules, StateMachine
from cdk.settings import rule_name
from lockstep.operate.watch import namespace

_LATE, _AUDIT_LOG_TOUCHED = "StartedLate", "AuditLogTouched"
_DIGESTS, _CONFIRMING = "DigestsMade", "DigestsConfirming"
"""Metrics that filters of logs count, without a dimension."""
_SOON, _HOUR = Duration.minutes(5), Duration.hours(1)
_MOST_PERIODS = 288
"""Of five minutes: an alarm looks at a day of them at most (CloudWatch quotas)."""


class Monitoring(Construct):
    """The alarms.

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
        schedules: Schedules,
    ) -> None:
        super().__init__(scope, construct_id)
        self._plan = deployment.plan
        self._settings = deployment.settings
        self._namespace = namespace(self._settings.stack)
        self.alarms = Alarms(self, "Alarms", deployment=deployment, key=foundation.key)
        self._evidence(functions.logs["audit"], functions.logs["digest"])
        self._digests(functions.logs["digest"])
        self._failures(
            "Executions",
            machine.machine,
            description="A rotation failed, timed out or was aborted. It took nothing away from applications, and the "
            "next run finishes it, unless its error waits for an operator: CurrentCredentialRejectedError, "
            "TakeOverNeededError, PlanNotActiveError.",
        )
        self._failures(
            "Fleet",
            schedules.fleet.machine,
            description="Of a shard more than a tenth of the rotations failed, or it did not come to its end: many "
            "credentials have one cause. Applications are not affected.",
        )
        self._late(schedules.fleet.log)
        for rule in rules(self._plan, self._settings.stack):
            self.alarms.add(rule)
        self.alarms.add(
            Rule(
                name="DeadLetters",
                metric=schedules.dead_letters.metric_approximate_number_of_messages_visible(
                    statistic="Maximum", period=_SOON
                ),
                severity="ticket",
                datapoints=2,
                is_rare=True,
                description="A trigger of a schedule started no execution, or Generate promoted: the message in the "
                "queue says it.",
            )
        )
        self._promotions(functions.roles["generate"], schedules.dead_letters)

    def _count(
        self, label: str, name: str, log: logs.ILogGroup, lines: logs.IFilterPattern, rest: int | None = None
    ) -> None:
        """A metric of how many lines of a log fit a pattern; `rest` is its value where only others are written."""
        logs.MetricFilter(
            self,
            label,
            log_group=log,
            filter_pattern=lines,
            metric_namespace=self._namespace,
            metric_name=name,
            metric_value="1",
            default_value=rest,
        )

    def _counted(self, name: str, period: Duration = _SOON) -> cloudwatch.Metric:
        """That metric, to raise an alarm."""
        return cloudwatch.Metric(namespace=self._namespace, metric_name=name, statistic="Sum", period=period)

    def _evidence(self, entries: logs.ILogGroup, digests: logs.ILogGroup) -> None:
        """What Audit or a digest met in the log that is not Lockstep's (protocol E7)."""
        examine = logs.FilterPattern.string_value("$.examine", "=", "audit-log")
        self._count("ExamineFilter", _AUDIT_LOG_TOUCHED, entries, examine)
        self._count("DigestProblemsFilter", _AUDIT_LOG_TOUCHED, digests, examine)
        self.alarms.add(
            Rule(
                name="AuditLogTouched",
                metric=self._counted(_AUDIT_LOG_TOUCHED),
                severity="page",
                datapoints=1,
                periods=12,
                is_rare=True,
                description="The audit log holds what Lockstep did not write, or lacks what a digest or the other "
                "cloud has seen. Rotation continues.",
                first="lockstep audit verify",
            )
        )

    def _digests(self, log: logs.ILogGroup) -> None:
        """Hours without a digest, and hours whose digests could name none of the other cloud that is young enough.

        Where the function writes other lines they are zeros. In the log of a new stack there is no data.
        """
        made = logs.FilterPattern.string_value("$.message", "=", "digest made")
        self._count("DigestsFilter", _DIGESTS, log, made, rest=0)
        self._hourly(
            "DigestMissing",
            _DIGESTS,
            "page",
            "AWS has made no digest of its audit log for three hours. Rotation continues, but entries removed from the "
            "log may go unnoticed.",
        )
        if not self._plan.runners.oci:
            return
        confirming = logs.FilterPattern.all(made, logs.FilterPattern.boolean_value("$.confirms", value=True))
        self._count("ConfirmingFilter", _CONFIRMING, log, confirming, rest=0)
        reason = "For three hours no digest of AWS has confirmed one of OCI: OCI makes none, or AWS cannot read it."
        self._hourly("DigestUnconfirmed", _CONFIRMING, "ticket", reason)

    def _hourly(self, name: str, counted: str, severity: Severity, description: str) -> None:
        """An alarm on what was not counted in three hours; where there is no data, one that pages tells that too."""
        self.alarms.add(
            Rule(
                name=name,
                metric=self._counted(counted, _HOUR),
                severity=severity,
                datapoints=3,
                periods=3,
                below=True,
                tells_silence=severity == "page",
                description=description,
                first="lockstep audit verify",
            )
        )

    def _promotions(self, generate: iam.IRole, queue: sqs.IQueue) -> None:
        """Generate stages. `PutSecretValue` promotes where it names no stage, and no condition of IAM knows stages.

        EventBridge has the calls from the account's trail, so there must be one. The queue keeps them as evidence.
        """
        name = rule_name(self._settings.stack, "promotions")
        events.CfnRule(
            self,
            "Promotions",
            name=name,
            description="Lockstep: keep what Generate has promoted",
            event_pattern={
                "source": ["aws.secretsmanager"],
                "detail": {
                    "eventName": ["PutSecretValue"],
                    "requestParameters": {"versionStages": [{"exists": False}, "AWSCURRENT"]},
                    "userIdentity": {"sessionContext": {"sessionIssuer": {"arn": [generate.role_arn]}}},
                },
            },
            state="ENABLED",
            targets=[events.CfnRule.TargetProperty(arn=queue.queue_arn, id="Evidence")],
        )
        of_rule = {"RuleName": name}
        self.alarms.add(
            Rule(
                name="PromotedByGenerate",
                metric=cloudwatch.Metric(
                    namespace="AWS/Events", metric_name="Invocations", dimensions_map=of_rule, statistic="Sum"
                ),
                severity="page",
                datapoints=1,
                periods=12,
                is_rare=True,
                description="The function Generate, which stages, has promoted a value itself: somebody else's code "
                "runs there, or has its rights. The message in the dead-letter queue names the secret.",
            )
        )

    def _late(self, executions: logs.ILogGroup) -> None:
        """Rotations that were not started, because it was too late (protocol R17)."""
        self._count(
            "LateFilter",
            _LATE,
            executions,
            logs.FilterPattern.all(
                logs.FilterPattern.string_value("$.type", "=", "FailStateEntered"),
                logs.FilterPattern.string_value("$.details.name", "=", "TooLate"),
            ),
        )
        self.alarms.add(
            Rule(
                name="StartedLate",
                metric=self._counted(_LATE),
                severity="ticket",
                datapoints=1,
                periods=self._periods_of_an_interval(),
                is_rare=True,
                description="Rotations of a shard were not started, since their turn came too late. The standby or the "
                "next trigger rotates them.",
            )
        )

    def _failures(self, prefix: str, machine: stepfunctions.StateMachine, *, description: str) -> None:
        """Alarms on executions of a state machine that end in a bad way."""
        found = {
            "Failed": machine.metric_failed(statistic="Sum", period=_SOON),
            "TimedOut": machine.metric_timed_out(statistic="Sum", period=_SOON),
            "Aborted": machine.metric_aborted(statistic="Sum", period=_SOON),
        }
        for what, metric in found.items():
            self.alarms.add(
                Rule(
                    name=f"{prefix}{what}",
                    metric=metric,
                    severity="ticket",
                    datapoints=1,
                    periods=self._periods_of_an_interval(),
                    is_rare=True,
                    description=description,
                )
            )

    def _periods_of_an_interval(self) -> int:
        """So many that the alarm stays until the next run of the most frequent credential has not failed."""
        shortest = min(c.schedule.interval for c in self._plan.credentials)
        return min(int(shortest.total_seconds()) // int(_SOON.to_seconds()) + 1, _MOST_PERIODS)
