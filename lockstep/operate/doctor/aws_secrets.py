"""Checks in AWS of the secrets that a plan names, and of the audit log.

Checks of the secrets in AWS that a plan names.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Check, Context
from lockstep.operate.secrets import ROTATED, Wanted, wanted
from lockstep.plan.admins import is_plain_name
from lockstep.plan.limits import NEAR, VERSIONS
from lockstep.plan.model import Plan
from lockstep.protocol.errors import AwsActionDeniedError, StoreAccessDeniedError
from lockstep.protocol.findings import Answer, failed, passed, warning
from lockstep.protocol.model import AdminSecret
from lockstep.protocol.names import SecretKind
from lockstep.runtime.identity import oci_api_key, oci_client_secret

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
            fix = formatting.aws(one.region, "secretsmanager restore-secret", "--secret-id", one.name)
            return failed(one.name, "it is scheduled for deletion", fix)
        return passed(one.name, "it exists")

    yield from context.clouds.side_by_side([partial(look, one) for one in secrets_of(context.plan)])


def _make(context: Context, one: Wanted) -> str:
    stack = context.stack
    if one.kind in ROTATED:
        return formatting.lockstep("secrets", "create", "--cloud", "aws", "--stack", stack)
    if not is_plain_name(one.name):
        return "lockstep plan check  # then correct admin_secret"
    tags = [f"Key={key},Value={value}" for key, value in one.tags(stack).items()]
    return formatting.aws(
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
        fix = formatting.aws(
            one.region,
            "secretsmanager put-secret-value",
            *("--secret-id", one.name, "--secret-string", first),
        )
        return failed(one.name, "no version of it has the label AWSCURRENT, so nobody can read it", fix)

    yield from _each(context, look)


def tags(context: Context) -> Iterator[Answer]:
    """Each secret has the tags by which the functions may use it."""

    def look(one: Wanted, found: Described) -> Answer | None:
        if not is_plain_name(one.name):
            return None
        has = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
        lacking = [f"{k}={v}" for k, v in one.tags(context.stack).items() if has.get(k) != v]
        if lacking:
            adopt = formatting.lockstep("secrets", "tag", "--stack", context.stack, "--yes")
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
        return failed(key, f"there is no such key in {region}, but {use}", formatting.DEPLOY_AWS)
    state = found["KeyMetadata"]["KeyState"]
    if state == "Enabled":
        return passed(key, "the key is enabled")
    if state == "PendingDeletion":
        fix = formatting.aws(region, "kms cancel-key-deletion", "--key-id", key)
        return failed(key, f"the key is to be deleted, but {use}", fix)
    fix = formatting.aws(region, "kms enable-key", "--key-id", key)
    return failed(key, f"the key is {state}, but {use}", fix)


def rotation(context: Context) -> Iterator[Answer]:
    """AWS's own rotation is off: only one may rotate."""

    def look(one: Wanted, found: Described) -> Answer | None:
        if one.kind not in ROTATED:
            return None
        if found.get("RotationEnabled"):
            fix = formatting.aws(one.region, "secretsmanager cancel-rotate-secret", "--secret-id", one.name)
            return failed(
                one.name, "AWS's own rotation is on, which changes the password behind Lockstep's back", fix
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
    put = formatting.aws(
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
SECRET_CHECKS = (
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


# Checks of the audit log in AWS, and of the rights to read what `status` and `audit` need.

_PAGE = "docs/iam.md#a-person-at-the-command-line"
_ROLE = ":assumed-role/"
_FIRST_REGION = "us-east-1"
"""S3 names no location for a bucket there."""
_YEAR = timedelta(days=365)


def bucket(context: Context) -> Iterator[Answer]:
    """The bucket is there, in the region of the plan."""
    audit = context.plan.audit.aws
    place = context.aws.found("s3", "get_bucket_location", region=audit.region, Bucket=audit.bucket)
    if place is None:
        yield failed(audit.bucket, f"there is no such bucket in {audit.region}", formatting.DEPLOY_AWS)
        return
    region = place.get("LocationConstraint") or _FIRST_REGION
    if region != audit.region:
        yield failed(
            audit.bucket,
            f"it is in {region}, and the plan says {audit.region}",
            "lockstep plan check  # then correct audit.aws.region",
        )
        return
    yield passed(audit.bucket, f"it is in {region}")


def retention(context: Context) -> Iterator[Answer]:
    """Nobody can delete an entry, for as long as the plan says, and none is overwritten."""
    audit = context.plan.audit.aws
    where = {"region": audit.region, "Bucket": audit.bucket}
    versions = context.aws("s3", "get_bucket_versioning", **where)
    if versions.get("Status") != "Enabled":
        fix = formatting.aws(
            audit.region,
            "s3api put-bucket-versioning",
            *("--bucket", audit.bucket, "--versioning-configuration", "Status=Enabled"),
        )
        yield failed(audit.bucket, "it keeps no versions, so an entry can be replaced", fix)
    found = context.aws.found("s3", "get_object_lock_configuration", **where) or {}
    lock: Mapping[str, Any] = found.get("ObjectLockConfiguration", {})
    rule = lock.get("Rule", {}).get("DefaultRetention", {})
    kept = timedelta(days=rule.get("Days", 0)) + rule.get("Years", 0) * _YEAR
    if kept < audit.retention or lock.get("ObjectLockEnabled") != "Enabled":
        told = f"{kept.days} days" if kept else "no time"
        yield failed(
            audit.bucket,
            f"it keeps entries from deletion for {told}, and the plan says {audit.retention.days} days",
            _lock(context),
        )
    elif versions.get("Status") == "Enabled":
        yield passed(audit.bucket, f"nobody can delete or replace an entry for {kept.days} days")


def _lock(context: Context) -> str:
    audit = context.plan.audit.aws
    kept = {"Mode": "COMPLIANCE", "Days": audit.retention.days}
    configuration = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": kept}}
    return formatting.aws(
        audit.region,
        "s3api put-object-lock-configuration",
        *("--bucket", audit.bucket, "--object-lock-configuration", json.dumps(configuration)),
    )


def key(context: Context) -> Iterator[Answer]:
    """The key that signs can sign."""
    audit = context.plan.audit.aws
    answer = key_answer(context, audit.mac_key, audit.region, "it signs the audit log")
    found = context.aws.found("kms", "describe_key", region=audit.region, KeyId=audit.mac_key)
    spec = found["KeyMetadata"].get("KeySpec") if found else "HMAC_256"
    if spec != "HMAC_256":
        correct = "lockstep plan check  # then correct audit.aws.mac_key"
        yield failed(audit.mac_key, f"it is a key of {spec}, and cannot sign entries", correct)
        return
    yield answer


def rights(context: Context) -> Iterator[Answer]:
    """Tries each read that `status`, `history` and `audit` make."""
    audit, arn = context.plan.audit.aws, str(context.aws("sts", "get_caller_identity").get("Arn", "?"))
    where = {"region": audit.region, "Bucket": audit.bucket}
    reads: dict[str, Callable[[], object]] = {
        "dynamodb:GetItem": partial(_record, context),
        "s3:ListBucket": partial(context.aws, "s3", "list_objects_v2", **where, MaxKeys=1),
        "s3:ListBucketVersions": partial(context.aws, "s3", "list_object_versions", **where, MaxKeys=1),
        # Without the right it is denied; of what is not there it says so.
        "s3:GetObject": partial(context.aws.found, "s3", "head_object", **where, Key="aws/doctor"),
        "kms:VerifyMac": partial(context.aws.may_verify, audit.mac_key, audit.region),
    }
    for action, read in reads.items():
        yield _allowed(action, read, arn)


def _allowed(action: str, read: Callable[[], object], arn: str) -> Answer:
    try:
        read()
    except AwsActionDeniedError as error:
        denied = str(error.where.get("action") or "")
        lacking = denied if ":" in denied else action
        text = "this identity may not, so `status` and `audit verify` cannot tell it all"
        return failed(lacking, text, _allow(lacking, arn))
    return passed(action, "this identity may")


def _allow(action: str, arn: str) -> str:
    """What gives the identity of an ARN a right."""
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    who = ("--role-name", arn.split("/")[1]) if _ROLE in arn else ("--user-name", arn.rpartition("/")[2])
    put = "put-role-policy" if _ROLE in arn else "put-user-policy"
    words = [*who, "--policy-name", "lockstep-reads", "--policy-document", document]
    return f"aws iam {put} {shlex.join(words)}  # {_PAGE}"


def _record(context: Context) -> None:
    name = context.plan.credentials[0].id
    key_of = {"credential_id": {"S": name}}
    context.aws("dynamodb", "get_item", TableName=context.plan.lock.table, Key=key_of)


_AWS_AUDIT_NEEDS = "aws.audit-bucket"
AUDIT_CHECKS = (
    Check(
        id="aws.audit-bucket",
        title="audit bucket",
        looks_at="whether the bucket exists, in the region that the plan says",
        means="a rotation ends without its entry, and with a failure",
        command="make deploy-aws",
        ask=bucket,
        needs="aws.identity",
    ),
    Check(
        id="aws.audit-retention",
        title="retention of the audit log",
        looks_at="versioning, and the default retention of Object Lock against `retention` in the plan",
        means="an entry can be deleted or replaced, and the log is no evidence",
        command="aws s3api put-object-lock-configuration --bucket BUCKET --object-lock-configuration JSON",
        ask=retention,
        needs=_AWS_AUDIT_NEEDS,
    ),
    Check(
        id="aws.audit-key",
        title="signing key",
        looks_at="whether the key that signs entries exists, is enabled, and is of HMAC_256",
        means="a rotation ends without its entry, and with a failure",
        command="aws kms enable-key --key-id KEY",
        ask=key,
        needs="aws.identity",
    ),
    Check(
        id="aws.rights",
        title="rights to read",
        looks_at="each read that `status`, `history` and `audit` make, by trying it",
        means="this identity cannot see the state; rotations do not depend on it",
        command="aws iam put-role-policy --role-name ROLE --policy-name lockstep-reads --policy-document JSON",
        ask=rights,
        needs=_AWS_AUDIT_NEEDS,
    ),
)
