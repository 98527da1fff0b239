"""Who the steps of a rotation are in OCI, and what each may use to be it.

With API keys a step reads a key from a secret: one that may write, or one that may only read. With federation a step
asks STS for a token about its own role, and a key of KMS, or a client secret, proves the application that exchanges it
for a session in OCI. Then OCI's policies name the roles, so that each step has rights of its own there.
"""

from collections.abc import Callable
from typing import Final

from aws_cdk import aws_iam as iam

from cdk.keys import NamedKey
from cdk.permissions import READ, Grants
from cdk.statements import Statements, allow
from lockstep.plan.compiled import ClientKey, FederationToOci
from lockstep.plan.model import Plan
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


def statements(grants: Grants, step: str, function_arn: str) -> Statements:
    """What a step needs in AWS to be somebody in OCI.

    Args:
        grants: Of the stack.
        step: The step.
        function_arn: Its function, without a qualifier.
    """
    if step not in steps_in_oci(grants.plan):
        return []
    to_oci = grants.plan.runners.aws.compile()
    kinds = [key_kind(grants.plan, step)] if grants.plan.runners.aws.secrets else []
    return [
        *([_token(to_oci, function_arn)] if isinstance(to_oci, FederationToOci) else []),
        *([_sign(grants.client_key)] if grants.client_key else []),
        *grants.secrets("OciKey", READ, kinds),
        *grants.secret_keys(["kms:Decrypt"], kinds, sid="OciKeyKey"),
    ]


def client_key_name(plan: Plan) -> str | None:
    """The id, alias or ARN of the key that signs for the domain's application; None: nothing signs for it."""
    to_oci = plan.runners.aws.compile()
    if isinstance(to_oci, FederationToOci) and isinstance(to_oci.client, ClientKey):
        return to_oci.client.kms_key
    return None


def principals(plan: Plan, role_arn: Callable[[str], str]) -> dict[str, str]:
    """The principals of OCI's policies, by step: a session in OCI has the name of the role that asked for it.

    They are told with keys, too, so that OCI can know them before the plan changes over to sessions.
    """
    return {step: role_arn(step) for step in steps_in_oci(plan)}


def _token(to_oci: FederationToOci, function_arn: str) -> iam.PolicyStatement:
    """Ask STS for a token about the own role, for OCI alone, from the code of the own function alone.

    The call has no resource
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_policies.html). A request without an
    audience would meet ForAllValues. The key `lambda:SourceFunctionArn` is in every request of a function's code
    (https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html).
    """
    return allow(
        "OciToken",
        ["sts:GetWebIdentityToken"],
        ["*"],
        {
            "ArnEquals": {"lambda:SourceFunctionArn": [function_arn, f"{function_arn}:*"]},
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
