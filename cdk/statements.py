"""Statements that depend on no plan: what any function, state machine, rule or queue of a stack is allowed."""

from collections.abc import Iterable, Mapping

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from lockstep.protocol.names import rule_name

Statements = list[iam.PolicyStatement]


def allow(
    sid: str,
    actions: Iterable[str],
    resources: Iterable[str],
    conditions: Mapping[str, Mapping[str, object]] | None = None,
) -> iam.PolicyStatement:
    """A statement that allows some actions."""
    return iam.PolicyStatement(
        sid=sid, actions=sorted(actions), resources=list(resources), conditions=conditions
    )


def execution_arn(partition: str, region: str, account: str, machine: str) -> str:
    """Every execution of a state machine; each has a name of its own."""
    return f"arn:{partition}:states:{region}:{account}:execution:{machine}:*"


def arn_of_login(partition: str, region: str, account: str, username: str) -> str:
    """The resource of logins by RDS IAM authentication as one account, on every server of a region."""
    return f"arn:{partition}:rds-db:{region}:{account}:dbuser:*/{username}"


def start(state_machine_arn: str, aliases: Iterable[str]) -> iam.PolicyStatement:
    """Start rotations by an alias.

    Step Functions compares the ARN of the machine, and the alias as a condition
    (https://docs.aws.amazon.com/step-functions/latest/dg/auth-version-alias.html).
    """
    return allow(
        "Start",
        ["states:StartExecution"],
        [state_machine_arn],
        {"ForAnyValue:StringEquals": {"states:StateMachineQualifier": list(aliases)}},
    )


def start_shards(fleet_machine_arn: str) -> iam.PolicyStatement:
    """Start the state machine of the fleet."""
    return allow("Start", ["states:StartExecution"], [fleet_machine_arn])


def dead_letters(queue_arn: str, stack: str) -> iam.PolicyStatement:
    """Let every rule of the stack write to the queue: a queue's policy has at most 20 statements.

    See https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html.
    """
    rules = f"arn:{Aws.PARTITION}:events:{Aws.REGION}:{Aws.ACCOUNT_ID}:rule/{rule_name(stack, '*')}"
    return iam.PolicyStatement(
        sid="Rules",
        principals=[iam.ServicePrincipal("events.amazonaws.com")],
        actions=["sqs:SendMessage"],
        resources=[queue_arn],
        conditions={"ArnLike": {"aws:SourceArn": rules}},
    )


def logs(log_group_arn: str) -> iam.PolicyStatement:
    """Write to the log of the function."""
    return allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [log_group_arn])


def log_of_a_machine() -> Statements:
    """Write the log and the traces of a state machine.

    These calls have no resource to name
    (https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html#cloudwatch-iam-policy).
    """
    return [
        allow(
            "DeliverLogs",
            [
                "logs:CreateLogDelivery",
                "logs:DeleteLogDelivery",
                "logs:DescribeLogGroups",
                "logs:DescribeResourcePolicies",
                "logs:GetLogDelivery",
                "logs:ListLogDeliveries",
                "logs:PutResourcePolicy",
                "logs:UpdateLogDelivery",
            ],
            ["*"],
        ),
        trace(["xray:GetSamplingRules", "xray:GetSamplingTargets"]),
    ]


def trace(more: Iterable[str] = ()) -> iam.PolicyStatement:
    """Send traces; the calls of X-Ray have no resource to name."""
    return allow("Trace", ["xray:PutTelemetryRecords", "xray:PutTraceSegments", *more], ["*"])


def network(function_arn: str) -> Statements:
    """Let Lambda attach a function to a VPC, and deny the same calls to the code of the function.

    The calls have no resource that could be named in advance
    (https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions).
    """
    actions = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ]
    return [
        allow("Network", actions, ["*"]),
        iam.PolicyStatement(
            sid="NotFromCode",
            effect=iam.Effect.DENY,
            actions=actions,
            resources=["*"],
            conditions={"ArnEquals": {"lambda:SourceFunctionArn": [function_arn, f"{function_arn}:*"]}},
        ),
    ]
