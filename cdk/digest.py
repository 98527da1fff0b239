"""The digest of the audit log: a rule that calls its function each hour, also while no rotation is scheduled."""

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from cdk.nag import acknowledge

LONGEST = Duration.minutes(15)
"""Of a call: the most that Lambda gives."""


def call_each_hour(scope: Construct, function: lambda_.IFunction, stack: str) -> None:
    """Call the function a quarter past each hour, ten minutes after OCI's own."""
    rule = events.Rule(
        scope,
        "DigestRule",
        # The rule of no credential: theirs have a hyphen after the stack's name.
        rule_name=f"{stack}.digest",
        description="Lockstep: make the digest of the audit log",
        schedule=events.Schedule.expression("cron(15 * * * ? *)"),
        targets=[
            targets.LambdaFunction(
                function,
                event=events.RuleTargetInput.from_object({}),
                retry_attempts=2,
                max_event_age=Duration.minutes(30),
            )
        ],
    )
    acknowledge(
        rule, "Serverless-EventBusDLQ", "It is called again an hour later, and an alarm tells silence."
    )
