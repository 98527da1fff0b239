"""The rule sets that check every deployment, and the acknowledged findings."""

from aws_cdk import Acknowledgment, App, Validations
from cdk_nag import AwsSolutionsChecks, ServerlessChecks
from constructs import IConstruct


def check(app: App) -> None:
    """Let synthesis fail on each finding of AwsSolutions or Serverless that is not acknowledged."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app), ServerlessChecks(app))


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Acknowledge a finding with a reason. For a rule with several findings, `rule` names one in brackets."""
    Validations.of(construct).acknowledge(Acknowledgment(id=rule, reason=reason))
