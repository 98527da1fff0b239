"""Who the OCI runner is in AWS: a policy, and with federation a role that only tokens of the plan's issuer can get.

Without federation the policy is for the user of the runner's access key; who has it is no matter of the stack.
"""

from aws_cdk import Aws, CfnOutput, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from cdk.audit_policy import DIGEST_PREFIX
from cdk.deployment import Deployment
from cdk.permissions import Grants
from cdk.wide_resources import acknowledge_entries, acknowledge_patterns
from lockstep.plan.runners import IssuerFederation
from lockstep.protocol.names import oci_runner_name

LONGEST_SESSION = Duration.hours(1)
"""The least that a role can have. The runner asks for 15 minutes
(https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html)."""


def add_oci_runner(stack: Stack, deployment: Deployment, grants: Grants, bucket: s3.IBucket) -> None:
    """Make what the OCI runner is in AWS, where the plan has one.

    Args:
        stack: Its resources are the stack's own, as they were before there was a role.
        deployment: What is deployed.
        grants: Of the stack.
        bucket: Of the audit log.
    """
    runner, settings = deployment.plan.runners.oci, deployment.settings
    if runner is None:
        return
    name = oci_runner_name(settings.stack)
    role: iam.Role | None = None
    if federation := runner.federation:
        provider = _provider(stack, deployment, federation)
        if not settings.adopt.oci_role:
            role = _role(stack, name, federation, provider)
    policy = iam.ManagedPolicy(
        stack,
        "OciRunner",
        managed_policy_name=name,
        description="Lockstep: permissions of the OCI runner, for the user or role of the OCI function",
        statements=grants.oci_runner(),
        roles=[role] if role else None,
    )
    acknowledge_patterns(policy, deployment.plan)
    acknowledge_entries(policy, bucket, DIGEST_PREFIX)
    CfnOutput(stack, "OciRunnerPolicyArn", value=policy.managed_policy_arn)


def _provider(
    stack: Stack, deployment: Deployment, federation: IssuerFederation
) -> iam.CfnOIDCProvider | None:
    """The issuer of tokens. An account has one provider for a URL; None: it is adopted.

    STS verifies the certificate of an issuer by AWS's own list of authorities, so no thumbprint is needed
    (https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html).
    """
    if deployment.settings.adopt.oidc_provider:
        return None
    return iam.CfnOIDCProvider(
        stack, "OciIssuer", url=federation.issuer, client_id_list=[federation.audience]
    )


def _role(
    stack: Stack, name: str, federation: IssuerFederation, provider: iam.CfnOIDCProvider | None
) -> iam.Role:
    """Trusts tokens of one issuer, for one audience, about one subject, and nobody else."""
    issuer = federation.issuer.removeprefix("https://")
    arn = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:oidc-provider/{issuer}"
    wanted = {f"{issuer}:aud": federation.audience, f"{issuer}:sub": federation.subject}
    role = iam.Role(
        stack,
        "OciRunnerRole",
        role_name=name,
        description="Lockstep: role of the OCI function",
        assumed_by=iam.WebIdentityPrincipal(arn, {"StringEquals": wanted}),
        max_session_duration=LONGEST_SESSION,
    )
    if provider:
        role.node.add_dependency(provider)
    return role
