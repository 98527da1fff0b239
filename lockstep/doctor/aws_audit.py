"""Checks of the audit log in AWS, and of the rights to read what `status` and `audit` need."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from lockstep.doctor import commands
from lockstep.doctor.aws_secrets import key_answer
from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed
from lockstep.environment import AwsActionDeniedError

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
        yield failed(audit.bucket, f"there is no such bucket in {audit.region}", commands.DEPLOY_AWS)
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
        mend = commands.aws(
            audit.region,
            "s3api put-bucket-versioning",
            *("--bucket", audit.bucket, "--versioning-configuration", "Status=Enabled"),
        )
        yield failed(audit.bucket, "it keeps no versions, so an entry can be replaced", mend)
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
    return commands.aws(
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


_NEEDS = "aws.audit-bucket"
CHECKS = (
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
        needs=_NEEDS,
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
        needs=_NEEDS,
    ),
)
