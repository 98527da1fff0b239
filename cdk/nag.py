"""The rules that every deployment is checked against, and the findings that are acknowledged."""

from aws_cdk import Acknowledgment, App, Validations
from cdk_nag import AwsSolutionsChecks, ServerlessChecks
from constructs import IConstruct


def check(app: App) -> None:
    """Let synthesis fail on a finding of AwsSolutions or Serverless that nobody has acknowledged."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Say why a finding may stand; for rules with several findings, with the one in brackets."""
    Validations.of(construct).acknowledge(Acknowledgment(id=rule, reason=reason))
