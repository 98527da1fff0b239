"""Where alarms go: a topic for what people must act on now, and one for what can wait until they are at work."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from aws_cdk import Aws
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from cdk.deployment import Deployment
from cdk.nag import acknowledge
from cdk.settings import NotDeployableError
from lockstep.protocol.names import alarm_prefix

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
        periods: How many periods of the metric are looked at.
        description: What is wrong, for the reader of the message.
        section: Where `docs/runbook.md` says what to do, as the anchor of a heading.
        without_data: What missing data means.
        threshold: Reached by this and anything beyond.
        below: Whether less than the threshold is wrong.
        tells_silence: Whether it also tells that its metric has no data any more.
    """

    name: str
    metric: cloudwatch.IMetric
    severity: Severity
    datapoints: int
    periods: int
    description: str
    section: str = "alarms"
    without_data: cloudwatch.TreatMissingData = cloudwatch.TreatMissingData.NOT_BREACHING
    threshold: float = 1
    below: bool = False
    tells_silence: bool = False


class Alarms(Construct):
    """The alarms of a stack, and the topics that they publish to.

    Attributes:
        topics: The topic of each severity, made or adopted. The policy of an adopted one stays as it is.
        by_name: The alarms, by their names without the stack's.
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
        self._stack = settings.stack
        self.topics: dict[Severity, sns.ITopic] = {}
        self.by_name: dict[str, cloudwatch.Alarm] = {}
        for severity in SEVERITIES:
            if adopted := getattr(settings.adopt.topics, severity):
                _check_region(severity, adopted, deployment.plan.lock.region)
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
        """Add an alarm. It tells the topic of its severity when it begins and when it is over."""
        over, under = (
            cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        )
        alarm = cloudwatch.Alarm(
            self,
            rule.name,
            alarm_name=f"{alarm_prefix(self._stack)}{rule.name}",
            metric=rule.metric,
            threshold=rule.threshold,
            comparison_operator=under if rule.below else over,
            evaluation_periods=rule.periods,
            datapoints_to_alarm=rule.datapoints,
            treat_missing_data=rule.without_data,
            alarm_description=f"{rule.description} What to do: docs/runbook.md#{rule.section}",
        )
        action = actions.SnsAction(self.topics[rule.severity])
        alarm.add_alarm_action(action)
        alarm.add_ok_action(action)
        if rule.tells_silence:
            alarm.add_insufficient_data_action(action)
        self.by_name[rule.name] = alarm

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
        subscription = topic.add_subscription(subscriptions.EmailSubscription(email))
        acknowledge(
            subscription,
            "Serverless-SNSRedrivePolicy",
            "If a mail cannot be delivered, the alarm still shows its state in CloudWatch.",
        )


def _check_region(severity: Severity, topic: str, region: str) -> None:
    found = topic.split(":")[3]
    if found != region:
        raise NotDeployableError(
            f"adopt.topics.{severity}: {topic} is in {found}; an alarm publishes in its own region only, {region}"
        )
