"""Checks of what sessions instead of keys need in AWS: tokens for OCI, and the role that the OCI runner gets."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from lockstep.compiled import ClientKey, FederationToAws, FederationToOci
from lockstep.doctor import commands
from lockstep.doctor.aws_secrets import key_answer
from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, not_asked, passed, warning
from lockstep.plan import Plan

_ENABLE = "aws iam enable-outbound-web-identity-federation"
_ASSUME = "sts:AssumeRoleWithWebIdentity"
_CORRECT = "lockstep plan check  # then correct {place}"
_SPEC, _USAGE = "RSA_2048", "SIGN_VERIFY"
_ACCOUNT = 4
"""The place of the account in an ARN."""
LONGEST_SESSION = timedelta(hours=1)
"""The least that a role can have
(https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_update-role-settings.html)."""


def to_oci_of(plan: Plan) -> FederationToOci | None:
    """How the AWS runner gets sessions in OCI; None: it has keys, or does not go there."""
    found = plan.compiled.to_oci
    return found if isinstance(found, FederationToOci) else None


def to_aws_of(plan: Plan) -> FederationToAws | None:
    """How the OCI runner gets sessions in AWS; None: it has a key, or there is none."""
    found = plan.compiled.to_aws
    return found if isinstance(found, FederationToAws) else None


def web_identity(context: Context) -> Iterator[Answer]:
    """The account makes tokens for OCI."""
    found = context.aws.found("iam", "get_outbound_web_identity_federation_info")
    if found is None or not found.get("JwtVendingEnabled", True):
        text = "it makes no tokens for others: outbound web identity federation is not enabled"
        yield failed("this account", text, _ENABLE)
        return
    issuer = found.get("IssuerIdentifier", "?")
    yield passed("this account", f"it makes tokens as {issuer}, which the domain's trust in OCI must name")


def client_key(context: Context) -> Iterator[Answer]:
    """The key that signs for the domain's application can sign, and in the way that the domain verifies."""
    federation, region = to_oci_of(context.plan), context.plan.lock.region
    if federation is None or not isinstance(federation.client, ClientKey):
        return
    key = federation.client.kms_key
    answer = key_answer(context, key, region, "it signs for the application in OCI's identity domain")
    found = context.aws.found("kms", "describe_key", region=region, KeyId=key)
    shown = found["KeyMetadata"] if found else {}
    kind = (shown.get("KeySpec", _SPEC), shown.get("KeyUsage", _USAGE))
    if kind != (_SPEC, _USAGE):
        text = f"it is a key of {kind[0]} for {kind[1]}, and the domain verifies signatures of {_SPEC}"
        yield failed(key, text, _CORRECT.format(place="runners.aws.federation.client.kms_key"))
        return
    yield answer


def provider(context: Context) -> Iterator[Answer]:
    """AWS knows the issuer of the OCI runner's tokens, and for whom they are."""
    federation = to_aws_of(context.plan)
    if federation is None:
        return
    if elsewhere := _elsewhere(context, federation):
        yield elsewhere
        return
    arn = provider_arn(federation)
    found = context.aws.found("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
    if found is None:
        yield failed(
            arn, "there is no such provider, so STS takes no token of the issuer", commands.DEPLOY_AWS
        )
        return
    audiences = found.get("ClientIDList", [])
    if federation.audience not in audiences:
        add = (
            "aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn "
            f"{arn} --client-id {federation.audience}"
        )
        has = ", ".join(audiences) or "none"
        yield failed(arn, f"it does not take the audience {federation.audience}; it has {has}", add)
        return
    yield passed(arn, f"it takes tokens for {federation.audience}")


def provider_arn(federation: FederationToAws) -> str:
    """The OIDC provider of an issuer, in the account of the role."""
    head, _, _ = federation.role_arn.partition(":role/")
    return f"{head}:oidc-provider/{federation.issuer.removeprefix('https://')}"


def _elsewhere(context: Context, federation: FederationToAws) -> Answer | None:
    """Why nothing can be said of the role: IAM shows only what is in the account of who asks."""
    account = federation.role_arn.split(":")[_ACCOUNT]
    here = str(context.aws("sts", "get_caller_identity").get("Account", "?"))
    if account == here:
        return None
    text = f"it is in account {account}, and these credentials belong to {here}"
    return not_asked(federation.role_arn, text, "export AWS_PROFILE=…  # one of that account")


def role(context: Context) -> Iterator[Answer]:
    """The role trusts the runner's tokens, and nobody else."""
    federation = to_aws_of(context.plan)
    if federation is None:
        return
    if elsewhere := _elsewhere(context, federation):
        yield elsewhere
        return
    arn, name = federation.role_arn, federation.role_arn.rpartition("/")[2]
    found = context.aws.found("iam", "get_role", RoleName=name)
    if found is None or found["Role"]["Arn"] != arn:
        yield failed(arn, "there is no such role, so the OCI runner cannot reach AWS", commands.DEPLOY_AWS)
        return
    shown = found["Role"]
    yield _trust(arn, federation, _statements(shown.get("AssumeRolePolicyDocument", {})))
    longest = timedelta(seconds=shown.get("MaxSessionDuration", LONGEST_SESSION.total_seconds()))
    if longest > LONGEST_SESSION:
        text = f"who has a token may ask for sessions of {longest}; the runner asks for 15 minutes"
        shorten = f"aws iam update-role --role-name {name} --max-session-duration 3600"
        yield warning(arn, text, shorten)


def _trust(arn: str, federation: FederationToAws, statements: Sequence[Mapping[str, Any]]) -> Answer:
    allowed = [statement for statement in statements if statement.get("Effect") == "Allow"]
    exact = [statement for statement in allowed if _is_exact(statement, federation)]
    if not exact:
        issuer = federation.issuer.removeprefix("https://")
        text = (
            f"its trust policy does not name {provider_arn(federation)} with {issuer}:aud = {federation.audience} "
            f"and {issuer}:sub = {federation.subject}"
        )
        return failed(arn, text, f"{commands.DEPLOY_AWS}  # of an adopted role correct the trust policy")
    if len(allowed) > len(exact):
        see = f"aws iam get-role --role-name {arn.rpartition('/')[2]} --query Role.AssumeRolePolicyDocument"
        return warning(arn, "its trust policy lets others become it, too", see)
    return passed(
        arn, f"it trusts tokens about {federation.subject}, for {federation.audience}, and nobody else"
    )


def _is_exact(statement: Mapping[str, Any], federation: FederationToAws) -> bool:
    """Whether it names the provider, the audience and the subject, each by itself, without a pattern."""
    issuer = federation.issuer.removeprefix("https://")
    said = statement.get("Condition", {}).get("StringEquals", {})
    return (
        _ASSUME in _listed(statement.get("Action"))
        and _federated(statement.get("Principal")) == [provider_arn(federation)]
        and _listed(said.get(f"{issuer}:aud")) == [federation.audience]
        and _listed(said.get(f"{issuer}:sub")) == [federation.subject]
    )


def _federated(principal: object) -> list[Any]:
    """The providers of a principal, which may also be `*`."""
    return _listed(principal.get("Federated")) if isinstance(principal, dict) else []


def _statements(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _listed(document.get("Statement"))


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - of a policy, which has one or a list
    return value if isinstance(value, list) else [] if value is None else [value]


def with_sessions_in_oci(plan: Plan) -> bool:
    """Whether the AWS runner gets sessions in OCI."""
    return to_oci_of(plan) is not None


def with_client_key(plan: Plan) -> bool:
    """Whether a key of KMS proves the application that does so."""
    federation = to_oci_of(plan)
    return federation is not None and isinstance(federation.client, ClientKey)


def with_sessions_in_aws(plan: Plan) -> bool:
    """Whether the OCI runner gets sessions in AWS."""
    return to_aws_of(plan) is not None


_NEEDS = "aws.identity"
CHECKS = (
    Check(
        id="aws.web-identity",
        title="tokens for OCI",
        looks_at="with `runners.aws.federation`: whether the account makes tokens for others, and as which issuer",
        means="the AWS runner gets no session in OCI, so no rotation succeeds",
        command=_ENABLE,
        ask=web_identity,
        needs=_NEEDS,
        applies=with_sessions_in_oci,
    ),
    Check(
        id="aws.client-key",
        title="key of the domain's application",
        looks_at="with `client.kms_key`: whether the key exists, is enabled, and signs by RSA_2048",
        means="the identity domain does not know the application, so no rotation succeeds",
        command="aws kms enable-key --key-id KEY",
        ask=client_key,
        needs=_NEEDS,
        applies=with_client_key,
    ),
    Check(
        id="aws.oci-issuer",
        title="OIDC provider",
        looks_at="with `runners.oci.federation`: whether AWS has a provider for the issuer that takes the audience",
        means="STS takes no token of the standby, so it never rotates",
        command=commands.DEPLOY_AWS,
        ask=provider,
        needs=_NEEDS,
        applies=with_sessions_in_aws,
    ),
    Check(
        id="aws.oci-role",
        title="role of the OCI runner",
        looks_at="with `runners.oci.federation`: whether the role trusts exactly the provider, the audience and the "
        "subject of the plan; other trusts and sessions of more than an hour are warnings",
        means="the standby cannot reach AWS, or others may do what it may",
        command=commands.DEPLOY_AWS,
        ask=role,
        needs=_NEEDS,
        applies=with_sessions_in_aws,
    ),
)
