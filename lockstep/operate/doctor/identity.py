"""Checks of what sessions in the other cloud need, and of long-lived keys where a plan names them.

Checks of what sessions instead of keys need in AWS: tokens for OCI, and the role that the OCI runner gets.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from lockstep.operate import formatting
from lockstep.operate.doctor.aws_secrets import key_answer
from lockstep.operate.doctor.checks import Check, Context, with_oci
from lockstep.operate.doctor.oci import secrets_in, vault_of
from lockstep.plan.compiled import ClientKey, FederationToAws, FederationToOci
from lockstep.plan.model import Plan
from lockstep.protocol.errors import (
    DomainUnreachableError,
    EnvironmentalError,
    IssuerNotPublicError,
    SessionFailure,
    StoreAccessDeniedError,
)
from lockstep.protocol.findings import Answer, failed, not_asked, passed, warning
from lockstep.protocol.issuer import (
    CONFIGURATION,
    KEYS,
    IssuerKey,
    NotAnIssuerKeyError,
    PublicKey,
    management_endpoint,
    place_of,
    public_key,
    published_keys,
    region_of,
    strangers,
)
from lockstep.protocol.names import oci_name
from lockstep.protocol.strict_json import object_of
from lockstep.runtime.identity import aws_access_key, oci_api_key
from lockstep.runtime.issuer import read_document, served_at

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
            arn, "there is no such provider, so STS takes no token of the issuer", formatting.DEPLOY_AWS
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
        yield failed(arn, "there is no such role, so the OCI runner cannot reach AWS", formatting.DEPLOY_AWS)
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
        return failed(arn, text, f"{formatting.DEPLOY_AWS}  # of an adopted role correct the trust policy")
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
AWS_IDENTITY_CHECKS = (
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
        command=formatting.DEPLOY_AWS,
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
        command=formatting.DEPLOY_AWS,
        ask=role,
        needs=_NEEDS,
        applies=with_sessions_in_aws,
    ),
)


# Checks of what sessions instead of keys need in OCI: the issuer's key and documents, and the identity domain.

Untyped = Any
"""A value of the SDK, which ships no types."""
_MANAGEMENT = "key_management.KmsManagementClient"
_PUBLISH, _REPLACE = "lockstep identity publish", "lockstep identity publish --replace"
_DELETED = frozenset({"PENDING_DELETION", "SCHEDULING_DELETION"})
_OCI_IDENTITY_CORRECT = "lockstep plan check  # then correct runners.oci.federation.key"
_VERSIONS = "it is no version of the key, or no policy lets you see it"


def key(context: Context) -> Iterator[Answer]:
    """The key and its version sign."""
    federation = to_aws_of(context.plan)
    if federation is None:
        return
    named, region = federation.key, _region(context, federation.key)
    found = _managed(context, named, "get_key", named.id)
    if found is None:
        yield failed(named.id, "there is no such key, or no policy lets you see it", _OCI_IDENTITY_CORRECT)
        return
    yield _state(named, named.id, found.lifecycle_state, region, "key")
    version = _managed(context, named, "get_key_version", named.id, named.version)
    if version is None:
        yield failed(named.version, _VERSIONS, _OCI_IDENTITY_CORRECT)
    elif version.lifecycle_state == "ENABLED":
        yield passed(named.version, "the version is enabled")
    elif version.lifecycle_state in _DELETED:
        yield _state(named, named.version, version.lifecycle_state, region, "key-version")
    else:
        yield failed(named.version, f"the version is {version.lifecycle_state}", _OCI_IDENTITY_CORRECT)


def _state(named: IssuerKey, ocid: str, state: str, region: str, what: str) -> Answer:
    if state == "ENABLED":
        return passed(ocid, "the key is enabled")
    act = "cancel-deletion" if state in _DELETED else "enable"
    version = ["--key-version-id", named.version] if what == "key-version" else []
    endpoint = management_endpoint(named.endpoint)
    fix = formatting.oci(
        region, f"kms management {what} {act}", "--key-id", named.id, *version, "--endpoint", endpoint
    )
    return failed(ocid, f"it is {state}, and signs the OCI runner's tokens", fix)


def _region(context: Context, named: IssuerKey) -> str:
    return region_of(named.endpoint) or vault_of(context.plan).region


def _managed(context: Context, named: IssuerKey, operation: str, *arguments: str) -> Untyped:
    endpoint = context.clouds.endpoints.oci or management_endpoint(named.endpoint)
    return context.oci.found(_region(context, named), _MANAGEMENT, operation, *arguments, endpoint=endpoint)


def bucket(context: Context) -> Iterator[Answer]:
    """Everyone may read the documents, and what was replaced is kept."""
    federation = to_aws_of(context.plan)
    if federation is None:
        return
    place = place_of(federation.issuer)
    if place is None:
        text = "it is an address of your own: who may write there can make tokens of the OCI runner"
        yield passed(federation.issuer, text)
        return
    where = (place.region, "object_storage.ObjectStorageClient")
    found = context.oci.found(*where, "get_bucket", place.namespace, place.bucket)
    if found is None:
        text = "there is no such bucket, or no policy lets you see it"
        yield failed(place.bucket, text, formatting.DEPLOY_OCI)
        return
    named = ("--namespace", place.namespace, "--bucket-name", place.bucket)
    if found.public_access_type not in {"ObjectRead", "ObjectReadWithoutList"}:
        publish = formatting.oci(
            place.region, "os bucket update", *named, "--public-access-type", "ObjectReadWithoutList"
        )
        yield failed(place.bucket, "not everyone may read it, so STS cannot verify a token", publish)
    elif found.versioning != "Enabled":
        keep = formatting.oci(place.region, "os bucket update", *named, "--versioning", "Enabled")
        text = "it keeps no versions, so nobody can tell what was published before"
        yield warning(place.bucket, text, keep)
    else:
        yield passed(place.bucket, "everyone may read it, and it keeps versions")


def issuer(context: Context) -> Iterator[Answer]:
    """The documents name the plan's key, and no other, as STS reads them."""
    federation = to_aws_of(context.plan)
    if federation is None:
        return
    base, found = served_at(federation.issuer, context.clouds.endpoints.oci), {}
    for name in (CONFIGURATION, KEYS):
        try:
            found[name] = read_document(f"{base}/{name}", context.clock)
        except EnvironmentalError as error:
            fix = (
                _PUBLISH if isinstance(error, IssuerNotPublicError) else f"curl -v {federation.issuer}/{name}"
            )
            text = f"it is not served to everyone: {type(error).__name__} ({error.where.get('code')})"
            yield failed(f"{federation.issuer}/{name}", text, fix)
    if CONFIGURATION in found:
        yield _configuration(federation, found[CONFIGURATION])
    if KEYS in found:
        yield from _keys(context, federation, found[KEYS])


def _configuration(federation: FederationToAws, document: bytes) -> Answer:
    subject, says = f"{federation.issuer}/{CONFIGURATION}", object_of(document)
    if says.get("issuer") != federation.issuer:
        return failed(subject, "it is of another issuer, so STS refuses every token", _REPLACE)
    if says.get("jwks_uri") != f"{federation.issuer}/{KEYS}":
        text = "it sends verifiers to another key set than the issuer's: whose keys are there can make tokens"
        return failed(subject, text, _REPLACE)
    return passed(subject, "it is of this issuer, and names its key set")


def _keys(context: Context, federation: FederationToAws, document: bytes) -> Iterator[Answer]:
    subject, named = f"{federation.issuer}/{KEYS}", federation.key.version
    published = published_keys(document)
    if published is None:
        yield failed(subject, "it is no key set", _REPLACE)
        return
    known = {kid: found for kid in {named, *published} if (found := _public_key(context, federation, kid))}
    if named not in published:
        yield failed(subject, f"it does not name {named}, which signs, so STS refuses every token", _PUBLISH)
    elif named not in known:
        text = f"whether its key is that of {named} is not known: the vault shows no RSA key of it"
        yield not_asked(subject, text, _OCI_IDENTITY_CORRECT)
    elif strangers(document, {named: known[named]}).count(named):
        yield failed(subject, f"its key under {named} is not the vault's", _REPLACE)
    else:
        yield passed(subject, f"it names {named}, with the vault's key")
    for kid in strangers(document, known):
        if kid != named:
            text = f"it names {kid}, which is no version of the key: who has it can make tokens of the OCI runner"
            yield warning(subject, text, _REPLACE)


def _public_key(context: Context, federation: FederationToAws, kid: str) -> PublicKey | None:
    if not kid.startswith("ocid1.keyversion."):
        return None
    shown = _managed(context, federation.key, "get_key_version", federation.key.id, kid)
    try:
        return public_key(kid, str(shown.public_key or "")) if shown else None
    except NotAnIssuerKeyError:
        return None


def domain(context: Context) -> Iterator[Answer]:
    """An identity domain answers at its address. Who it trusts shows `lockstep doctor --in-cloud`, by a session."""
    from lockstep.runtime.federation import domain_answers  # noqa: PLC0415 - it loads the SDK

    federation = to_oci_of(context.plan)
    if federation is None:
        return
    url, look = federation.domain_url, f"curl -v -X POST {federation.domain_url}/oauth2/v1/token"
    try:
        answers = domain_answers(federation, context.clouds)
    except SessionFailure as failure:
        problem = failure.problem or DomainUnreachableError(code=failure.code)
        yield failed(url, f"no identity domain answers: {type(problem).__name__} ({failure.code})", look)
        return
    if answers:
        yield passed(url, "it refuses an empty request as an identity domain does")
    else:
        yield failed(url, "what answers there is no identity domain", f"{look}  # then correct domain_url")


def oci_identity_with_sessions_in_aws(plan: Plan) -> bool:
    """Whether the OCI runner gets sessions in AWS."""
    return with_oci(plan) and to_aws_of(plan) is not None


def oci_identity_with_sessions_in_oci(plan: Plan) -> bool:
    """Whether the AWS runner gets sessions in OCI."""
    return with_oci(plan) and to_oci_of(plan) is not None


_OCI_IDENTITY_NEEDS = "oci.identity"
OCI_IDENTITY_CHECKS = (
    Check(
        id="oci.issuer-key",
        title="issuer's key",
        looks_at="with `runners.oci.federation`: whether the key and its version exist, and are enabled",
        means="OCI signs no token, so the standby cannot reach AWS and never rotates",
        command="oci kms management key enable --key-id KEY --endpoint ENDPOINT",
        ask=key,
        needs=_OCI_IDENTITY_NEEDS,
        applies=oci_identity_with_sessions_in_aws,
    ),
    Check(
        id="oci.issuer-bucket",
        title="issuer's bucket",
        looks_at="with `runners.oci.federation`: whether everyone may read its objects; without versions a warning",
        means="STS cannot verify a token, so the standby cannot reach AWS",
        command="oci os bucket update --bucket-name BUCKET --public-access-type ObjectReadWithoutList",
        ask=bucket,
        needs=_OCI_IDENTITY_NEEDS,
        applies=oci_identity_with_sessions_in_aws,
    ),
    Check(
        id="oci.issuer-documents",
        title="issuer's documents",
        looks_at="with `runners.oci.federation`: both documents, read without an identity as STS reads them: the "
        "issuer, the address of the key set, and in it the plan's version with the vault's key; others are warnings",
        means="STS refuses every token; with a key of somebody else it takes theirs",
        command=_PUBLISH,
        ask=issuer,
        needs=_OCI_IDENTITY_NEEDS,
        applies=oci_identity_with_sessions_in_aws,
    ),
    Check(
        id="oci.identity-domain",
        title="identity domain",
        looks_at="with `runners.aws.federation`: whether the domain's token endpoint refuses an empty request in "
        "OAuth's words; its application and its trust are not looked at: `inside.session` uses them",
        means="the AWS runner gets no session in OCI, so no rotation succeeds",
        command="curl -v -X POST DOMAIN_URL/oauth2/v1/token",
        ask=domain,
        applies=oci_identity_with_sessions_in_oci,
    ),
)


# Checks of the long-lived keys by which the runners reach the other cloud, where a plan names them.


def aws_key(context: Context) -> Iterator[Answer]:
    """The access key with which the OCI runner reaches AWS is one."""
    store, runner = vault_of(context.plan), context.plan.runners.oci
    name = oci_name((runner.aws_key_secret if runner else None) or "")
    secret = secrets_in(context, store.compartment_of_own_secrets).get(name)
    if secret is None:
        return  # The subject of `oci.own-secrets`.
    put = formatting.oci(
        store.region,
        "vault secret update-base64",
        *("--secret-id", secret.id, "--secret-content-content", "BASE64"),
    )
    try:
        aws_access_key(context.oci.value(store.region, secret.id), store="oci", secret=name)
    except StoreAccessDeniedError:
        text = "it is no access key of AWS: a JSON object with access_key_id and secret_access_key"
        yield failed(name, text, put)
        return
    yield passed(name, "it is an access key")


def runner_keys(context: Context) -> Iterator[Answer]:
    """The AWS runner's API keys are registered with their users in OCI, and active."""
    runner, region = context.plan.runners.aws, vault_of(context.plan).region
    names = [name for name in (runner.oci_key_secret, runner.oci_reader_key_secret) if name]
    for name in dict.fromkeys(names):
        text = context.aws.value(name, context.plan.compiled.region_of(name))
        try:
            key = oci_api_key(text, store="aws", secret=name).config
        except StoreAccessDeniedError:
            continue  # The subject of `aws.oci-key`.
        user, fingerprint = key["user"], key["fingerprint"]
        listed = context.oci(region, "identity.IdentityClient", "list_api_keys", user)
        state = next((k.lifecycle_state for k in listed if k.fingerprint == fingerprint), None)
        if state == "ACTIVE":
            yield passed(name, f"its user in OCI has this key, among {len(listed)}")
            continue
        upload = f"oci iam user api-key upload --user-id {user} --key-file PUBLIC_KEY.pem"
        told = f"the key is {state}" if state else "its user in OCI has no such key"
        yield failed(name, f"{told} ({fingerprint})", upload)


def with_access_key(plan: Plan) -> bool:
    """Whether the standby reaches AWS with a key."""
    return with_oci(plan) and plan.runners.oci is not None and plan.runners.oci.aws_key_secret is not None


def with_api_key(plan: Plan) -> bool:
    """Whether the AWS runner reaches OCI with a key."""
    return with_oci(plan) and plan.runners.aws.oci_key_secret is not None


OCI_KEY_CHECKS = (
    Check(
        id="oci.aws-key",
        title="the OCI runner's key for AWS",
        looks_at="where the plan names it: whether the secret holds an access key",
        means="the standby cannot reach AWS, so it never rotates",
        command="oci vault secret update-base64 --secret-id SECRET --secret-content-content BASE64",
        ask=aws_key,
        needs=_OCI_IDENTITY_NEEDS,
        applies=with_access_key,
    ),
    Check(
        id="oci.runner-key",
        title="the AWS runner's users in OCI",
        looks_at="where the plan names API keys: whether the user of each has it, and it is active",
        means="the AWS runner cannot reach OCI, so no rotation succeeds",
        command="oci iam user api-key upload --user-id USER --key-file PUBLIC_KEY.pem",
        ask=runner_keys,
        needs=_OCI_IDENTITY_NEEDS,
        applies=with_api_key,
    ),
)
