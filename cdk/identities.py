"""Who the runners are in the other cloud: each step of AWS in OCI, and the OCI runner in AWS.

With API keys a step reads a key from a secret: one that may write, or one that may only read. With federation a step
asks STS for a token about its own role, and a key of KMS, or a client secret, proves the application that exchanges it
for a session in OCI. Then OCI's policies name the roles, so that each step has rights of its own there.

The OCI runner has a policy in AWS, and with federation a role that only tokens of the plan's issuer can get. Without it
the policy is for the user of the runner's access key; who has it is no matter of the stack.
"""

from collections.abc import Callable
from typing import Final

from aws_cdk import Aws, CfnOutput, Duration, Stack
from aws_cdk import aws_iam as iam

from cdk.deployment import Deployment
from cdk.permissions import READ, Grants, NamedKey, Statements, allow
from cdk.settings import oci_runner_name
from lockstep.plan.compiled import FederationToOci
from lockstep.plan.model import Plan
from lockstep.plan.runners import AUDIENCE_IN_AWS, SUBJECT, IssuerFederation
from lockstep.protocol.names import SecretKind
from lockstep.runtime.federation import TOKEN_SECONDS

STEPS: Final = ("generate", "apply_db", "update_secrets", "digest")
WRITERS = frozenset({"generate", "update_secrets"})
"""The steps that change secrets in OCI. The others read there: values, and the other cloud's digests."""
ALGORITHM = "RS256"
"""The only one by which the identity domain recognises a token."""


def steps_in_oci(plan: Plan) -> tuple[str, ...]:
    """The steps that call OCI."""
    if plan.runners.aws.compile() is None:
        return ()
    # A digest names that of the other cloud.
    return STEPS if plan.runners.oci else STEPS[:-1]


def key_kind(plan: Plan, step: str) -> SecretKind:
    """The kind of the secret with which a step proves itself."""
    only_reads = step not in WRITERS and plan.runners.aws.oci_reader_key_secret
    return SecretKind.RUNNER_READER_KEY if only_reads else SecretKind.RUNNER_KEY


def statements(grants: Grants, step: str) -> Statements:
    """What a step needs in AWS to be somebody in OCI.

    Args:
        grants: Of the stack.
        step: The step.
    """
    if step not in steps_in_oci(grants.plan):
        return []
    to_oci = grants.plan.runners.aws.compile()
    kinds = [key_kind(grants.plan, step)] if grants.plan.runners.aws.secrets else []
    return [
        *([_token(to_oci)] if isinstance(to_oci, FederationToOci) else []),
        *([_sign(grants.client_key)] if grants.client_key else []),
        *grants.secrets("OciKey", READ, kinds),
        *grants.secret_keys(["kms:Decrypt"], kinds, sid="OciKeyKey"),
    ]


def principals(plan: Plan, role_arn: Callable[[str], str]) -> dict[str, str]:
    """The principals of OCI's policies, by step: a session in OCI has the name of the role that asked for it.

    They are told with keys, too, so that OCI can know them before the plan changes over to sessions.
    """
    return {step: role_arn(step) for step in steps_in_oci(plan)}


def _token(to_oci: FederationToOci) -> iam.PolicyStatement:
    """Ask STS for a token about the own role, for OCI alone.

    The call has no resource
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_policies.html). A request without an
    audience would meet ForAllValues.
    """
    return allow(
        "OciToken",
        ["sts:GetWebIdentityToken"],
        ["*"],
        {
            "ForAllValues:StringEquals": {"sts:IdentityTokenAudience": to_oci.audience},
            "Null": {"sts:IdentityTokenAudience": "false"},
            "NumericLessThanEquals": {"sts:DurationSeconds": str(TOKEN_SECONDS)},
            "StringEquals": {"sts:SigningAlgorithm": ALGORITHM},
        },
    )


def _sign(key: NamedKey) -> iam.PolicyStatement:
    """Sign for the domain's application, in the one way in which a client assertion is signed."""
    # https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-signing-algorithm
    wanted = {"kms:MessageType": "DIGEST", "kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"}
    return allow("OciClient", ["kms:Sign"], [key.arn], {"StringEquals": wanted, **key.condition})


LONGEST_SESSION = Duration.hours(1)
"""The least that a role can have. The runner asks for 15 minutes
(https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html)."""


def add_oci_runner(stack: Stack, deployment: Deployment, grants: Grants) -> None:
    """Make what the OCI runner is in AWS, where the plan has one.

    Args:
        stack: Its resources are the stack's own, as they were before there was a role.
        deployment: What is deployed.
        grants: Of the stack.
    """
    runner, settings = deployment.plan.runners.oci, deployment.settings
    if runner is None:
        return
    name = oci_runner_name(settings.stack)
    role: iam.Role | None = None
    if federation := runner.federation:
        provider = _provider(stack, deployment, federation)
        if federation.role_arn.rpartition("/")[2] not in settings.adopt.existing:
            role = _role(stack, name, federation, provider)
    policy = iam.ManagedPolicy(
        stack,
        "OciRunner",
        managed_policy_name=name,
        description="Lockstep: permissions of the OCI runner, for the user or role of the OCI function",
        statements=grants.oci_runner(),
        roles=[role] if role else None,
    )
    CfnOutput(stack, "OciRunnerPolicyArn", value=policy.managed_policy_arn)


def _provider(
    stack: Stack, deployment: Deployment, federation: IssuerFederation
) -> iam.CfnOIDCProvider | None:
    """The issuer of tokens. An account has one provider for a URL; None: it is adopted.

    STS verifies the certificate of an issuer by AWS's own list of authorities, so no thumbprint is needed
    (https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateOpenIDConnectProvider.html).
    """
    if federation.issuer in deployment.settings.adopt.existing:
        return None
    return iam.CfnOIDCProvider(stack, "OciIssuer", url=federation.issuer, client_id_list=[AUDIENCE_IN_AWS])


def _role(
    stack: Stack, name: str, federation: IssuerFederation, provider: iam.CfnOIDCProvider | None
) -> iam.Role:
    """Trusts tokens of one issuer, for one audience, about one subject, and nobody else."""
    issuer = federation.issuer.removeprefix("https://")
    arn = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:oidc-provider/{issuer}"
    wanted = {f"{issuer}:aud": AUDIENCE_IN_AWS, f"{issuer}:sub": SUBJECT}
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
