"""A rule that calls a function by the clock, also while the schedules of rotations are off."""

from collections.abc import Mapping

from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from cdk.nag import acknowledge


class Clock(Construct):
    """Calls a function.

    Args:
        scope: Its parent.
        construct_id: Its id in the parent.
        function: What is called.
        rule_name: With a period after the stack's name: the rules of credentials have a hyphen there.
        schedule: When it is called.
        given: Its event; None: an empty one.
        retries: How often a call that did not reach it is made again, within five minutes.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: lambda_.IFunction,
        rule_name: str,
        schedule: str,
        given: Mapping[str, object] | None = None,
        retries: int = 0,
    ) -> None:
        super().__init__(scope, construct_id)
        target = targets.LambdaFunction(
            function,
            event=events.RuleTargetInput.from_object(given or {}),
            retry_attempts=retries,
            max_event_age=Duration.minutes(5),
        )
        rule = events.Rule(
            self,
            "Rule",
            rule_name=rule_name,
            description="Lockstep: call a function by the clock",
            schedule=events.Schedule.expression(schedule),
            targets=[target],
        )
        acknowledge(
            rule, "Serverless-EventBusDLQ", "It is called again soon, and an alarm tells if it stays silent."
        )
