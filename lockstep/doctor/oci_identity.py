"""Checks of what sessions instead of keys need in OCI: the issuer's key and documents, and the identity domain."""

from collections.abc import Iterator
from typing import Any

from lockstep.compiled import FederationToAws, IssuerKey
from lockstep.doctor import commands
from lockstep.doctor.aws_identity import to_aws_of, to_oci_of
from lockstep.doctor.checks import Check, with_oci
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, not_asked, passed, warning
from lockstep.doctor.oci_tenancy import vault_of
from lockstep.environment import DomainUnreachableError, EnvironmentalError, IssuerNotPublicError
from lockstep.federation import issuer as documents
from lockstep.federation.failure import SessionFailure
from lockstep.federation.issuer import CONFIGURATION, KEYS, NotAnIssuerKeyError, PublicKey
from lockstep.federation.reading import read_document, served_at
from lockstep.plan import Plan
from lockstep.strict_json import object_of

Untyped = Any
"""A value of the SDK, which ships no types."""
_MANAGEMENT = "key_management.KmsManagementClient"
_PUBLISH, _REPLACE = "lockstep identity publish", "lockstep identity publish --replace"
_DELETED = frozenset({"PENDING_DELETION", "SCHEDULING_DELETION"})
_CORRECT = "lockstep plan check  # then correct runners.oci.federation.key"
_VERSIONS = "it is no version of the key, or no policy lets you see it"


def key(context: Context) -> Iterator[Answer]:
    """The key and its version sign."""
    federation = to_aws_of(context.plan)
    if federation is None:
        return
    named, region = federation.key, _region(context, federation.key)
    found = _managed(context, named, "get_key", named.id)
    if found is None:
        yield failed(named.id, "there is no such key, or no policy lets you see it", _CORRECT)
        return
    yield _state(named, named.id, found.lifecycle_state, region, "key")
    version = _managed(context, named, "get_key_version", named.id, named.version)
    if version is None:
        yield failed(named.version, _VERSIONS, _CORRECT)
    elif version.lifecycle_state == "ENABLED":
        yield passed(named.version, "the version is enabled")
    elif version.lifecycle_state in _DELETED:
        yield _state(named, named.version, version.lifecycle_state, region, "key-version")
    else:
        yield failed(named.version, f"the version is {version.lifecycle_state}", _CORRECT)


def _state(named: IssuerKey, ocid: str, state: str, region: str, what: str) -> Answer:
    if state == "ENABLED":
        return passed(ocid, "the key is enabled")
    act = "cancel-deletion" if state in _DELETED else "enable"
    version = ["--key-version-id", named.version] if what == "key-version" else []
    endpoint = documents.management_endpoint(named.endpoint)
    mend = commands.oci(
        region, f"kms management {what} {act}", "--key-id", named.id, *version, "--endpoint", endpoint
    )
    return failed(ocid, f"it is {state}, and signs the OCI runner's tokens", mend)


def _region(context: Context, named: IssuerKey) -> str:
    return documents.region_of(named.endpoint) or vault_of(context.plan).region


def _managed(context: Context, named: IssuerKey, operation: str, *arguments: str) -> Untyped:
    endpoint = context.clouds.endpoints.oci or documents.management_endpoint(named.endpoint)
    return context.oci.found(_region(context, named), _MANAGEMENT, operation, *arguments, endpoint=endpoint)


def bucket(context: Context) -> Iterator[Answer]:
    """Everyone may read the documents, and what was replaced is kept."""
    federation = to_aws_of(context.plan)
    if federation is None:
        return
    place = documents.place_of(federation.issuer)
    if place is None:
        text = "it is an address of your own: who may write there can make tokens of the OCI runner"
        yield passed(federation.issuer, text)
        return
    where = (place.region, "object_storage.ObjectStorageClient")
    found = context.oci.found(*where, "get_bucket", place.namespace, place.bucket)
    if found is None:
        text = "there is no such bucket, or no policy lets you see it"
        yield failed(place.bucket, text, commands.DEPLOY_OCI)
        return
    named = ("--namespace", place.namespace, "--bucket-name", place.bucket)
    if found.public_access_type not in {"ObjectRead", "ObjectReadWithoutList"}:
        publish = commands.oci(
            place.region, "os bucket update", *named, "--public-access-type", "ObjectReadWithoutList"
        )
        yield failed(place.bucket, "not everyone may read it, so STS cannot verify a token", publish)
    elif found.versioning != "Enabled":
        keep = commands.oci(place.region, "os bucket update", *named, "--versioning", "Enabled")
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
            mend = (
                _PUBLISH if isinstance(error, IssuerNotPublicError) else f"curl -v {federation.issuer}/{name}"
            )
            text = f"it is not served to everyone: {type(error).__name__} ({error.where.get('code')})"
            yield failed(f"{federation.issuer}/{name}", text, mend)
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
    published = documents.published_keys(document)
    if published is None:
        yield failed(subject, "it is no key set", _REPLACE)
        return
    known = {kid: found for kid in {named, *published} if (found := _public_key(context, federation, kid))}
    if named not in published:
        yield failed(subject, f"it does not name {named}, which signs, so STS refuses every token", _PUBLISH)
    elif named not in known:
        text = f"whether its key is that of {named} is not known: the vault shows no RSA key of it"
        yield not_asked(subject, text, _CORRECT)
    elif documents.strangers(document, {named: known[named]}).count(named):
        yield failed(subject, f"its key under {named} is not the vault's", _REPLACE)
    else:
        yield passed(subject, f"it names {named}, with the vault's key")
    for kid in documents.strangers(document, known):
        if kid != named:
            text = f"it names {kid}, which is no version of the key: who has it can make tokens of the OCI runner"
            yield warning(subject, text, _REPLACE)


def _public_key(context: Context, federation: FederationToAws, kid: str) -> PublicKey | None:
    if not kid.startswith("ocid1.keyversion."):
        return None
    shown = _managed(context, federation.key, "get_key_version", federation.key.id, kid)
    try:
        return documents.public_key(kid, str(shown.public_key or "")) if shown else None
    except NotAnIssuerKeyError:
        return None


def domain(context: Context) -> Iterator[Answer]:
    """An identity domain answers at its address. Who it trusts shows `lockstep doctor --in-cloud`, by a session."""
    from lockstep.federation.to_oci import domain_answers  # noqa: PLC0415 - it loads the SDK

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


def with_sessions_in_aws(plan: Plan) -> bool:
    """Whether the OCI runner gets sessions in AWS."""
    return with_oci(plan) and to_aws_of(plan) is not None


def with_sessions_in_oci(plan: Plan) -> bool:
    """Whether the AWS runner gets sessions in OCI."""
    return with_oci(plan) and to_oci_of(plan) is not None


_NEEDS = "oci.identity"
CHECKS = (
    Check(
        id="oci.issuer-key",
        title="issuer's key",
        looks_at="with `runners.oci.federation`: whether the key and its version exist, and are enabled",
        means="OCI signs no token, so the standby cannot reach AWS and never rotates",
        command="oci kms management key enable --key-id KEY --endpoint ENDPOINT",
        ask=key,
        needs=_NEEDS,
        applies=with_sessions_in_aws,
    ),
    Check(
        id="oci.issuer-bucket",
        title="issuer's bucket",
        looks_at="with `runners.oci.federation`: whether everyone may read its objects; without versions a warning",
        means="STS cannot verify a token, so the standby cannot reach AWS",
        command="oci os bucket update --bucket-name BUCKET --public-access-type ObjectReadWithoutList",
        ask=bucket,
        needs=_NEEDS,
        applies=with_sessions_in_aws,
    ),
    Check(
        id="oci.issuer-documents",
        title="issuer's documents",
        looks_at="with `runners.oci.federation`: both documents, read without an identity as STS reads them: the "
        "issuer, the address of the key set, and in it the plan's version with the vault's key; others are warnings",
        means="STS refuses every token; with a key of somebody else it takes theirs",
        command=_PUBLISH,
        ask=issuer,
        needs=_NEEDS,
        applies=with_sessions_in_aws,
    ),
    Check(
        id="oci.identity-domain",
        title="identity domain",
        looks_at="with `runners.aws.federation`: whether the domain's token endpoint refuses an empty request in "
        "OAuth's words; its application and its trust are not looked at: `inside.session` uses them",
        means="the AWS runner gets no session in OCI, so no rotation succeeds",
        command="curl -v -X POST DOMAIN_URL/oauth2/v1/token",
        ask=domain,
        applies=with_sessions_in_oci,
    ),
)
