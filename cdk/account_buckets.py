"""Whether a bucket that exists can hold the audit log, or the published plan."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from cdk import plan_policy
from cdk.account import Account, Found, UnansweredError
from cdk.audit_policy import AUDIT_PREFIX, DIGEST_PREFIX, AuditPolicy
from cdk.plan_policy import PLAN_PREFIX
from cdk.resource_policies import listed
from cdk.settings import Settings
from lockstep.plan.runners import AwsAudit
from lockstep.protocol.names import plan_bucket_name


def audit_policy(account: Account, audit: AwsAudit, settings: Settings) -> AuditPolicy:
    """What the policy of an adopted bucket must deny."""
    roles = f"arn:{account.partition}:iam::{account.id}:role"
    return AuditPolicy(
        bucket_arn=f"arn:{account.partition}:s3:::{audit.bucket}",
        writers=[f"{roles}/{settings.role_name('audit', account.region)}", *settings.operators],
        digester=f"{roles}/{settings.role_name('digest', account.region)}",
        break_glass=settings.audit_break_glass_role,
        # Whoever puts the statement into the policy must be able to change it again.
        deployer=f"{roles}/ROLE-THAT-MANAGES-THE-BUCKET",
        removable=settings.object_lock == "governance",
    )


def audit_bucket(account: Account, audit: AwsAudit, settings: Settings) -> Found | None:
    """The bucket of the audit log.

    Args:
        account: Who must own it.
        audit: The plan's section.
        settings: How entries are locked, and who may append or delete.
    """
    return _bucket(account, audit.bucket, lambda: _lacks(account, audit, settings))


def plan_bucket(account: Account, audit: AwsAudit) -> Found | None:
    """The bucket of the published plan.

    Args:
        account: Who must own it.
        audit: The plan's section, which names it.
    """
    name = plan_bucket_name(audit.bucket)
    return _bucket(account, name, lambda: _plan_lacks(account, name, audit.region))


def _bucket(account: Account, name: str, lacks: Callable[[], Iterator[str]]) -> Found | None:
    try:
        # Bucket names are global, and only its owner may say whether it is the one that is meant.
        if account.ask("s3", "head_bucket", Bucket=name, ExpectedBucketOwner=account.id) is None:
            return None
    except UnansweredError as error:
        unfit = (
            f"bucket {name}: it belongs to another account, or {account.id} may not see it ({error}); give the plan a "
            "bucket of your own (audit.aws.bucket, which also names that of the plan)"
        )
        return Found(what=f"bucket {name}", unfit=(unfit,))
    tags = account.ask("s3", "get_bucket_tagging", Bucket=name) or {"TagSet": []}
    return Found(
        what=f"bucket {name}",
        tags={tag["Key"]: tag["Value"] for tag in tags["TagSet"]},
        lacks=tuple(f"bucket {name}: {lack}" for lack in lacks()),
    )


def _plan_lacks(account: Account, name: str, region: str) -> Iterator[str]:
    yield from _place_lacks(account, name, region)
    for rule in _expirations(account, name):
        if _concerns(rule, PLAN_PREFIX):
            yield (
                f"its lifecycle rule {rule.get('ID', 'without an id')} deletes published plans, which functions read "
                "at each start; change it (`aws s3api put-bucket-lifecycle-configuration`)"
            )
    statements = _statements(account, name)
    for lack, wanted in plan_policy.lacks(f"arn:{account.partition}:s3:::{name}", statements):
        yield f"its policy {lack}; add to it {json.dumps(wanted, separators=(',', ':'))}"
    yield from _encryption_lacks(account, name, "the functions may not use")


def _lacks(account: Account, audit: AwsAudit, settings: Settings) -> Iterator[str]:
    name = audit.bucket
    yield from _place_lacks(account, name, audit.region)
    yield from _lock_lacks(account, audit, settings.object_lock.upper())
    yield from _lifecycle_lacks(account, audit)
    yield from _policy_lacks(account, name, audit_policy(account, audit, settings))
    yield from _encryption_lacks(account, name, "the audit function may not use, and auditors would need")


def _place_lacks(account: Account, name: str, wanted: str) -> Iterator[str]:
    # Of us-east-1 it is null.
    region = account.ask("s3", "get_bucket_location", Bucket=name)["LocationConstraint"] or "us-east-1"
    if region != wanted:
        yield f"it is in {region}, and the plan says {wanted}"
    if account.ask("s3", "get_bucket_versioning", Bucket=name).get("Status") != "Enabled":
        yield (
            f"it keeps no versions; `aws s3api put-bucket-versioning --bucket {name} "
            "--versioning-configuration Status=Enabled`"
        )


def _lock_lacks(account: Account, audit: AwsAudit, mode: str) -> Iterator[str]:
    answer = account.ask("s3", "get_object_lock_configuration", Bucket=audit.bucket) or {}
    lock = answer.get("ObjectLockConfiguration", {})
    kept = lock.get("Rule", {}).get("DefaultRetention", {})
    days = kept.get("Days", 0) + 365 * kept.get("Years", 0)
    if lock.get("ObjectLockEnabled") != "Enabled" or kept.get("Mode") != mode:
        has = f"Object Lock in mode {kept['Mode']}" if kept.get("Mode") else "no default Object Lock"
        yield f"it has {has}, and the setting object_lock says {mode.lower()}; {_set_lock(audit, mode)}"
    elif timedelta(days=days) < audit.retention:
        yield f"it locks entries for {days} days, and the plan says {audit.retention.days}; {_set_lock(audit, mode)}"


def _set_lock(audit: AwsAudit, mode: str) -> str:
    rule = {"DefaultRetention": {"Mode": mode, "Days": audit.retention.days}}
    configuration = json.dumps({"ObjectLockEnabled": "Enabled", "Rule": rule}, separators=(",", ":"))
    return (
        f"`aws s3api put-object-lock-configuration --bucket {audit.bucket} "
        f"--object-lock-configuration '{configuration}'`"
    )


def _lifecycle_lacks(account: Account, audit: AwsAudit) -> Iterator[str]:
    """Object Lock keeps versions, and a rule may still hide entries behind delete markers.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html#object-lock-managing-lifecycle
    """
    for rule in _expirations(account, audit.bucket):
        expiration = rule["Expiration"]
        days = 0 if "Date" in expiration else expiration["Days"]
        if not any(_concerns(rule, folder) for folder in (AUDIT_PREFIX, DIGEST_PREFIX)):
            continue
        if timedelta(days=days) < audit.retention:
            when = f"after {days} days" if days else f"on {expiration['Date']:%Y-%m-%d}"
            name = rule.get("ID", "without an id")
            yield (
                f"its lifecycle rule {name} hides entries {when}, and the plan keeps them for "
                f"{audit.retention.days} days; change it (`aws s3api put-bucket-lifecycle-configuration`)"
            )


def _expirations(account: Account, name: str) -> Iterator[Mapping[str, Any]]:
    """The lifecycle rules that are on and let objects expire."""
    answer = account.ask("s3", "get_bucket_lifecycle_configuration", Bucket=name) or {}
    for rule in answer.get("Rules", []):
        if rule["Status"] == "Enabled" and {"Date", "Days"} & rule.get("Expiration", {}).keys():
            yield rule


def _concerns(rule: Mapping[str, Any], folder: str) -> bool:
    """Whether a rule concerns objects of a folder; ours have no tags."""
    given = rule.get("Filter", {})
    given = {**given, **given.get("And", {})}
    prefix = given.get("Prefix", rule.get("Prefix", ""))
    return not {"Tag", "Tags"} & given.keys() and (prefix.startswith(folder) or folder.startswith(prefix))


def _policy_lacks(account: Account, name: str, policy: AuditPolicy) -> Iterator[str]:
    for lack, wanted in policy.lacks(_statements(account, name)):
        yield f"its policy {lack}; add to it {json.dumps(wanted, separators=(',', ':'))}"


def _statements(account: Account, name: str) -> list[Any]:
    """Those of the bucket's policy."""
    answer = account.ask("s3", "get_bucket_policy", Bucket=name)
    return listed(json.loads(answer["Policy"])["Statement"]) if answer else []


def _encryption_lacks(account: Account, name: str, why: str) -> Iterator[str]:
    answer = account.ask("s3", "get_bucket_encryption", Bucket=name)
    rules = answer["ServerSideEncryptionConfiguration"]["Rules"] if answer else []
    for rule in rules:
        default = rule.get("ApplyServerSideEncryptionByDefault", {})
        if default.get("SSEAlgorithm", "AES256") != "AES256":
            encryption = '{"Rules":[{"ApplyServerSideEncryptionByDefault":{"SSEAlgorithm":"AES256"}}]}'
            yield (
                f"it encrypts with {default.get('KMSMasterKeyID', 'a key of KMS')}, which {why}; `aws s3api "
                f"put-bucket-encryption --bucket {name} --server-side-encryption-configuration '{encryption}'`"
            )
