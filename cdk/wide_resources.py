"""Findings of cdk-nag about policies that name a pattern of resources, acknowledged with the reason."""

from typing import cast

from aws_cdk import CfnElement, Stack
from aws_cdk import aws_s3 as s3
from constructs import IConstruct

from cdk.nag import acknowledge
from cdk.permissions import iam_logins
from cdk.statements import arn_of_login
from lockstep.plan.model import Plan


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
