"""Where alarms go, and those on what the watch counts (protocol O14).

There is a topic for what people must act on now, and one for what can wait until they are at work. The numbers of the
watch are about all credentials together, so alarms and metrics are as many for a hundred credentials as for one.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from cdk.deployment import LONGEST_ALARM, Canary, Deployment
from cdk.settings import NotDeployableError, Settings
from lockstep.operate.watch import EVERY, namespace
from lockstep.plan.model import Plan

Severity: TypeAlias = Literal["page", "ticket"]
SEVERITIES: tuple[Severity, ...] = ("page", "ticket")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What raises an alarm.

    Attributes:
        name: The alarm's name, after the stack's.
        metric: What it goes by.
        severity: Which topic it tells.
        datapoints: In how many of the periods the threshold must be reached.
        description: What is wrong, for the reader of the message.
        first: The command that says which credentials it is about, or what is wrong.
        periods: How many periods of the metric are looked at; None: one more than `datapoints`.
        is_rare: Whether the metric has data only where something is wrong. That any other is silent is told by one
            alarm alone, and a new alarm must not be red.
        threshold: Reached by this and anything beyond.
        below: Whether less than the threshold is wrong.
        tells_silence: Whether it also tells that its metric has no data any more.
    """

    name: str
    metric: cloudwatch.IMetric
    severity: Severity
    datapoints: int
    description: str
    first: str = "lockstep status --summary"
    periods: int | None = None
    is_rare: bool = False
    threshold: float = 1
    below: bool = False
    tells_silence: bool = False


class Alarms(Construct):
    """The alarms of a stack, and the topics that they publish to.

    Attributes:
        topics: The topic of each severity, made or adopted. The policy of an adopted one stays as it is.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        deployment: Deployment,
        key: kms.IKey,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = deployment.settings
        self._stack, self._runbook = settings.stack, settings.runbook_url
        self.topics: dict[Severity, sns.ITopic] = {}
        for severity in SEVERITIES:
            if adopted := getattr(settings.adopt.topics, severity):
                self.topics[severity] = sns.Topic.from_topic_arn(self, severity.title(), adopted)
                continue
            made = self.topics[severity] = self._topic(severity, key)
            if settings.alarm_email:
                self._subscribe(made, settings.alarm_email)
        if settings.alarm_email and settings.adopt.topics.page and settings.adopt.topics.ticket:
            raise NotDeployableError(
                "alarm_email: both topics are adopted, so no topic is made that it could subscribe to; subscribe it to "
                "the adopted ones, and leave it out here"
            )

    def add(self, rule: Rule) -> None:
        """Add an alarm. It tells the topic of its severity when it begins and when it is over.

        Its text ends with the section of `docs/alarms.md` that has its name.
        """
        missing, operator = cloudwatch.TreatMissingData, cloudwatch.ComparisonOperator
        alarm = cloudwatch.Alarm(
            self,
            rule.name,
            alarm_name=f"{self._stack}-{rule.name}",
            metric=rule.metric,
            threshold=rule.threshold,
            comparison_operator=(
                operator.LESS_THAN_THRESHOLD if rule.below else operator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
            ),
            evaluation_periods=rule.periods or rule.datapoints + 1,
            datapoints_to_alarm=rule.datapoints,
            treat_missing_data=missing.NOT_BREACHING if rule.is_rare else missing.MISSING,
            alarm_description=f"{rule.description} First: `{rule.first}`. Then: {self._runbook}#{rule.name.lower()}",
        )
        action = actions.SnsAction(self.topics[rule.severity])
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)
        if rule.tells_silence:
            alarm.add_insufficient_data_action(action)

    def _topic(self, severity: Severity, key: kms.IKey) -> sns.Topic:
        topic = sns.Topic(
            self,
            severity.title(),
            topic_name=f"{self._stack}-{severity}",
            display_name=f"{self._stack} {severity}",
            master_key=key,
            enforce_ssl=True,
        )
        # A policy of its own replaces the one that lets the alarms of the account publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisStack",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={
                    "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID},
                    "ArnLike": {
                        "aws:SourceArn": (
                            f"arn:{Aws.PARTITION}:cloudwatch:{Aws.REGION}:{Aws.ACCOUNT_ID}:alarm:{self._stack}-*"
                        )
                    },
                },
            )
        )
        return topic

    def _subscribe(self, topic: sns.Topic, email: str) -> None:
        topic.add_subscription(subscriptions.EmailSubscription(email))


_PERIOD = Duration.seconds(EVERY.total_seconds())
_HOUR = timedelta(hours=1)
_PERIODS_OF_AN_HOUR = _HOUR // EVERY


def canary_alarm(scope: Construct, settings: Settings, canary: Canary) -> cloudwatch.Alarm:
    """The alarm that stops a deployment. It tells nobody: what people must know, other alarms say.

    Where the watch writes nothing, the canary counts as failed, since nothing shows that it works.
    """
    return cloudwatch.Alarm(
        scope,
        "Alarm",
        alarm_name=f"{settings.stack}-Canary",
        metric=watched(settings.stack, "CanarySeconds"),
        threshold=canary.proven_for.total_seconds(),
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
        alarm_description=f"AWS has not rotated {canary.credential.id} in time, so no deployment goes beyond it. "
        f"First: `lockstep status --summary`. Then: {settings.runbook_url}#canary",
    )


def watched(
    stack: str, name: str, *, statistic: str = "Maximum", period: Duration = _PERIOD
) -> cloudwatch.Metric:
    """A number of the watch."""
    return cloudwatch.Metric(
        namespace=namespace(stack),
        metric_name=name,
        dimensions_map={"Stack": stack},
        statistic=statistic,
        period=period,
    )


def rules(plan: Plan, stack: str) -> Iterator[Rule]:
    """The alarms on what the watch counts."""
    intervals = [c.schedule.interval for c in plan.credentials]
    # So long that each credential that was resumed, or whose schedules were switched on, has had its next trigger.
    grace = min(max(intervals) // EVERY, _PERIODS_OF_AN_HOUR) + 2
    yield Rule(
        name="Stale",
        metric=watched(stack, "StaleCredentials"),
        severity="page",
        datapoints=grace,
        description="Credentials were not rotated for two intervals, by any runner. Applications keep working.",
    )
    yield Rule(
        name="TakeOver",
        metric=watched(stack, "TakeOverDatabases"),
        severity="page",
        datapoints=grace,
        description="Databases stay under take-over: what was revoked may log in.",
    )
    yield Rule(
        name="Revoking",
        metric=watched(stack, "RevokingCredentials"),
        severity="page",
        datapoints=4,
        description="An emergency is not over: a password that an operator revoked may still log in.",
    )
    yield Rule(
        name="WatchSilent",
        metric=watched(stack, "Credentials"),
        severity="page",
        datapoints=2,
        below=True,
        tells_silence=True,
        description="The watch has not written its numbers for 15 minutes or more, so the other alarms see nothing. It "
        "cannot read the lock table, or it is not called.",
        first="lockstep doctor --in-cloud",
    )
    yield Rule(
        name="PlanNotActive",
        metric=watched(stack, "PlanNotActiveCredentials"),
        severity="ticket",
        datapoints=6,
        description="The active plan of credentials is not the deployed one, or none is: AWS does not rotate them.",
    )
    yield Rule(
        name="Unreadable",
        metric=watched(stack, "UnreadableRecords"),
        severity="ticket",
        datapoints=2,
        description="Lock records cannot be read: malformed, or of another format.",
    )
    yield _for_hours(
        stack,
        name="Unrotated",
        counted="UnrotatedCredentials",
        hours=2 * max(intervals) / _HOUR,
        description="Credentials whose plan was activated have never been rotated.",
    )
    yield _for_hours(
        stack,
        name="Paused",
        counted="PausedCredentials",
        hours=24,
        description="Credentials have been paused for a day or more.",
    )


def _for_hours(stack: str, *, name: str, counted: str, hours: float, description: str) -> Rule:
    """A ticket for what holds all the time, for so many hours."""
    periods = min(max(math.ceil(hours), 2), LONGEST_ALARM // _HOUR)
    return Rule(
        name=name,
        metric=watched(stack, counted, statistic="Minimum", period=Duration.hours(1)),
        severity="ticket",
        datapoints=periods,
        periods=periods,
        description=description,
    )
