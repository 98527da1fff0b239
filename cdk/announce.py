"""Events: a rule that calls the function `announce` when an execution has ended.

Step Functions tells EventBridge of every execution, also of one that ran out of time or was stopped, and no state of a
rotation waits for it (https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html).
"""

from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from cdk.nag import acknowledge
from cdk.settings import Settings
from functions.announce.ended import STATUSES
from lockstep.protocol.names import announce_rule_name


class Announce(Construct):
    """Calls the function with each execution that has ended."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        function: lambda_.IFunction,
        state_machine_arn: str,
        settings: Settings,
    ) -> None:
        super().__init__(scope, construct_id)
        rule = events.Rule(
            self,
            "Rule",
            rule_name=announce_rule_name(settings.stack),
            description="Lockstep: tell others how a run has ended",
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={"stateMachineArn": [state_machine_arn], "status": list(STATUSES)},
            ),
            targets=[targets.LambdaFunction(function)],
        )
        acknowledge(
            rule, "Serverless-EventBusDLQ", "An event that is lost is no evidence, and nothing waits for it."
        )
