"""The rule sets that check every deployment, and the acknowledged findings."""

from typing import cast

from aws_cdk import Acknowledgment, App, CfnElement, Stack, Validations
from aws_cdk import aws_s3 as s3
from cdk_nag import AwsSolutionsChecks, ServerlessChecks
from constructs import IConstruct

from cdk.permissions import arn_of_login, iam_logins
from lockstep.plan.model import Plan


def check(app: App) -> None:
    """Let synthesis fail on each finding of AwsSolutions or Serverless that is not acknowledged."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Acknowledge a finding with a reason. For a rule with several findings, `rule` names one in brackets."""
    Validations.of(construct).acknowledge(Acknowledgment(id=rule, reason=reason))


def acknowledge_patterns(construct: IConstruct, plan: Plan) -> None:
    """Acknowledge that a policy names secrets by their tags, and accounts of databases by their names."""
    secrets = "arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:*"
    acknowledge(
        construct,
        f"AwsSolutions-IAM5[Resource::{secrets}]",
        "Conditions on the tags of a secret limit it to this stack and to the kinds that the role needs.",
    )
    for region, username in iam_logins(plan):
        login = arn_of_login("<AWS::Partition>", region, "<AWS::AccountId>", username)
        acknowledge(
            construct,
            f"AwsSolutions-IAM5[Resource::{login}]",
            "Every rotation user has this name. A policy that names databases would grow with the plan.",
        )


def acknowledge_entries(construct: IConstruct, bucket: s3.IBucket, folder: str) -> None:
    """Acknowledge that a policy names every entry of the audit log, or every digest."""
    reason = "Each has a name of its own. A policy that names credentials would grow with the plan."
    acknowledge_objects(construct, bucket, folder, reason)


def acknowledge_objects(construct: IConstruct, bucket: s3.IBucket, prefix: str, reason: str) -> None:
    """Acknowledge that a policy names all objects of a bucket whose names begin alike."""
    stack, child = Stack.of(construct), bucket.node.default_child
    # As cdk-nag writes the bucket's ARN.
    shown = (
        f"arn:{stack.partition}:s3:::{bucket.bucket_name}"
        if child is None
        else f"<{stack.get_logical_id(cast('CfnElement', child))}.Arn>"
    )
    acknowledge(construct, f"AwsSolutions-IAM5[Resource::{shown}/{prefix}*]", reason)
