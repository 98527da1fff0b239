"""Checks of the secrets in AWS that a plan names."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from lockstep.adoption import ROTATED, Wanted, wanted
from lockstep.doctor import commands
from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.errors import StoreAccessDeniedError
from lockstep.identity import oci_api_key, oci_client_secret
from lockstep.model import AdminSecret
from lockstep.plan import Plan
from lockstep.plan_admins import is_plain_name
from lockstep.quotas import NEAR, VERSIONS
from lockstep.tags import SecretKind

Described = Mapping[str, Any]


def secrets_of(plan: Plan) -> list[Wanted]:
    """Every secret in AWS that a plan names; also those that need no tag."""
    admins = {d.admin.aws for d in plan.databases if isinstance(d.admin, AdminSecret)}
    others = sorted(secret for secret in admins if not is_plain_name(secret))
    region_of = plan.compiled.region_of
    return [
        *wanted(plan),
        *(Wanted(name=name, kind=SecretKind.ADMIN, region=region_of(name)) for name in others),
    ]


def described(context: Context, one: Wanted) -> Described | None:
    """What Secrets Manager says of a secret, which is not its value; None where there is none."""
    return context.aws.found("secretsmanager", "describe_secret", region=one.region, SecretId=one.name)


def _each(context: Context, ask: Callable[[Wanted, Described], Answer | None]) -> Iterator[Answer]:
    """The answers for all secrets that are there; those that are missing are `aws.secrets`' subject."""

    def look(one: Wanted) -> Answer | None:
        found = described(context, one)
        return ask(one, found) if found else None

    answers = context.clouds.side_by_side([partial(look, one) for one in secrets_of(context.plan)])
    yield from (answer for answer in answers if answer)


def exist(context: Context) -> Iterator[Answer]:
    """Each secret exists, and stays."""

    def look(one: Wanted) -> Answer:
        found = described(context, one)
        if found is None:
            text = f"there is no such secret in {one.region}"
            return failed(one.name, text, _make(context, one))
        if found.get("DeletedDate"):
            mend = commands.aws(one.region, "secretsmanager restore-secret", "--secret-id", one.name)
            return failed(one.name, "it is scheduled for deletion", mend)
        return passed(one.name, "it exists")

    yield from context.clouds.side_by_side([partial(look, one) for one in secrets_of(context.plan)])


def _make(context: Context, one: Wanted) -> str:
    stack = context.stack
    if one.kind in ROTATED:
        return commands.lockstep("secrets", "create", "--cloud", "aws", "--stack", stack)
    if not is_plain_name(one.name):
        return "lockstep plan check  # then correct admin_secret"
    tags = [f"Key={key},Value={value}" for key, value in one.tags(stack).items()]
    return commands.aws(
        one.region,
        "secretsmanager create-secret",
        *("--name", one.name, "--secret-string", "file://secret.json", "--kms-key-id", f"alias/{stack}"),
        *("--tags", *tags),
    )


def labels(context: Context) -> Iterator[Answer]:
    """Each secret has a version that is current."""

    def look(one: Wanted, found: Described) -> Answer:
        stages = found.get("VersionIdsToStages", {}).values()
        if any("AWSCURRENT" in labels for labels in stages):
            return passed(one.name, "it has a current version")
        first = '{"placeholder": true}' if one.kind in ROTATED else "file://secret.json"
        mend = commands.aws(
            one.region,
            "secretsmanager put-secret-value",
            *("--secret-id", one.name, "--secret-string", first),
        )
        return failed(one.name, "no version of it has the label AWSCURRENT, so nobody can read it", mend)

    yield from _each(context, look)


def tags(context: Context) -> Iterator[Answer]:
    """Each secret has the tags by which the functions may use it."""

    def look(one: Wanted, found: Described) -> Answer | None:
        if not is_plain_name(one.name):
            return None
        has = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
        lacking = [f"{k}={v}" for k, v in one.tags(context.stack).items() if has.get(k) != v]
        if lacking:
            adopt = commands.lockstep("secrets", "tag", "--stack", context.stack, "--yes")
            return failed(one.name, f"it lacks {', '.join(lacking)}, so no function may use it", adopt)
        return passed(one.name, "it has the tags of the stack")

    yield from _each(context, look)


def keys(context: Context) -> Iterator[Answer]:
    """Each key that encrypts a secret can be used."""
    found = {
        (one.region, one_described["KmsKeyId"]): one.name
        for one in secrets_of(context.plan)
        if (one_described := described(context, one)) and one_described.get("KmsKeyId")
    }
    for (region, key), secret in found.items():
        yield key_answer(context, key, region, f"it encrypts {secret}")
    if not found:
        yield passed("aws/secretsmanager", "all secrets are encrypted with the account's own key")


def key_answer(context: Context, key: str, region: str, use: str) -> Answer:
    """Whether a key can be used."""
    found = context.aws.found("kms", "describe_key", region=region, KeyId=key)
    if found is None:
        return failed(key, f"there is no such key in {region}, but {use}", commands.DEPLOY_AWS)
    state = found["KeyMetadata"]["KeyState"]
    if state == "Enabled":
        return passed(key, "the key is enabled")
    if state == "PendingDeletion":
        mend = commands.aws(region, "kms cancel-key-deletion", "--key-id", key)
        return failed(key, f"the key is to be deleted, but {use}", mend)
    mend = commands.aws(region, "kms enable-key", "--key-id", key)
    return failed(key, f"the key is {state}, but {use}", mend)


def rotation(context: Context) -> Iterator[Answer]:
    """AWS's own rotation is off: only one may rotate."""

    def look(one: Wanted, found: Described) -> Answer | None:
        if one.kind not in ROTATED:
            return None
        if found.get("RotationEnabled"):
            mend = commands.aws(one.region, "secretsmanager cancel-rotate-secret", "--secret-id", one.name)
            return failed(
                one.name, "AWS's own rotation is on, which changes the password behind Lockstep's back", mend
            )
        return passed(one.name, "only Lockstep rotates it")

    yield from _each(context, look)


def versions(context: Context) -> Iterator[Answer]:
    """Each rotated secret has room for new versions: none that is younger than a day goes by itself."""
    day_ago = context.clock.now() - timedelta(days=1)

    def look(one: Wanted, _found: Described) -> Answer | None:
        if one.kind not in ROTATED:
            return None
        found = context.aws.all(
            "secretsmanager",
            "list_secret_version_ids",
            "Versions",
            region=one.region,
            SecretId=one.name,
            IncludeDeprecated=True,
        )
        young = sum(_created(version) > day_ago for version in found)
        if young < NEAR * VERSIONS:
            return passed(one.name, f"{young} versions of {VERSIONS} are younger than a day")
        tell = warning if young < VERSIONS else failed
        return tell(
            one.name,
            f"{young} versions are younger than a day, and with {VERSIONS} no new one is taken",
            "lockstep plan check  # then use a longer interval, and see who else writes",
        )

    yield from _each(context, look)


def _created(version: Mapping[str, Any]) -> datetime:
    found: datetime = version["CreatedDate"]
    return found


def oci_key(context: Context) -> Iterator[Answer]:
    """Each secret with which the AWS runner proves itself in OCI holds what it should, and is not old."""
    for key, name in context.plan.runners.aws.secrets.items():
        yield _proof(context, name, _CLIENT_SECRET if key == "federation.client.secret" else _API_KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proof:
    """What a secret must hold.

    Attributes:
        read: Takes it; raises StoreAccessDeniedError if it is something else.
        what: In words, without the article.
        file: With a new one, in commands.
    """

    read: Callable[..., object]
    what: str
    file: str


_API_KEY = _Proof(
    read=partial(oci_api_key, store="aws"),
    what="API key of OCI: a JSON object with tenancy, user, fingerprint, private_key and region",
    file="oci-api-key.json",
)
_CLIENT_SECRET = _Proof(
    read=oci_client_secret,
    what="client secret: the text itself, or a JSON object with client_secret",
    file="client-secret.txt",
)


def _proof(context: Context, name: str, proof: _Proof) -> Answer:
    region = context.plan.compiled.region_of(name)
    text = context.aws.value(name, region)
    put = commands.aws(
        region,
        "secretsmanager put-secret-value",
        *("--secret-id", name, "--secret-string", f"file://{proof.file}"),
    )
    try:
        proof.read(text, secret=name)
    except StoreAccessDeniedError:
        return failed(name, f"it is no {proof.what}", put)
    return passed(name, "it is a key")


def with_keys_in_aws(plan: Plan) -> bool:
    """Whether the AWS runner proves itself in OCI with what a secret holds."""
    return bool(plan.runners.aws.secrets)


_NEEDS = "aws.identity"
CHECKS = (
    Check(
        id="aws.secrets",
        title="secrets",
        looks_at="whether every secret in AWS that the plan names exists, and is not to be deleted",
        means="runs fail with SecretNotFoundError",
        command="lockstep secrets create --cloud aws",
        ask=exist,
        needs=_NEEDS,
    ),
    Check(
        id="aws.secret-labels",
        title="labels of the secrets",
        looks_at="whether each secret has a version with the label AWSCURRENT",
        means="neither applications nor runs can read it",
        command="aws secretsmanager put-secret-value --secret-id SECRET --secret-string '{\"placeholder\": true}'",
        ask=labels,
        needs=_NEEDS,
    ),
    Check(
        id="aws.secret-tags",
        title="tags of the secrets",
        looks_at="the tags `lockstep:stack` and `lockstep:secret` of each secret that is given by name",
        means="the functions' policies do not allow them to use it",
        command="lockstep secrets tag --yes",
        ask=tags,
        needs=_NEEDS,
    ),
    Check(
        id="aws.secret-keys",
        title="keys of the secrets",
        looks_at="whether each KMS key that encrypts a secret is enabled",
        means="the secret can be neither read nor written",
        command="aws kms enable-key --key-id KEY",
        ask=keys,
        needs=_NEEDS,
    ),
    Check(
        id="aws.secret-rotation",
        title="AWS's own rotation",
        looks_at="whether Secrets Manager's own rotation is on for a secret of a credential",
        means="its function changes the password behind Lockstep's back, and locks applications out in the other cloud",
        command="aws secretsmanager cancel-rotate-secret --secret-id SECRET",
        ask=rotation,
        needs=_NEEDS,
    ),
    Check(
        id="aws.secret-versions",
        title="versions of the secrets",
        looks_at="how many versions of each secret are younger than a day, of the hundred that it may have",
        means="Secrets Manager takes no new value until the oldest is a day old",
        command="lockstep plan check",
        ask=versions,
        needs=_NEEDS,
    ),
    Check(
        id="aws.oci-key",
        title="the AWS runner's keys for OCI",
        looks_at="where the plan names them: whether each secret holds an API key, or the client secret",
        means="the AWS runner cannot reach OCI, so no rotation succeeds",
        command="aws secretsmanager put-secret-value --secret-id SECRET --secret-string file://oci-api-key.json",
        ask=oci_key,
        needs=_NEEDS,
        applies=with_keys_in_aws,
    ),
)
