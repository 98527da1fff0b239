"""The policy of the audit bucket, by IAM's rules: who may write, delete and change it, whatever their own says."""

import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from cdk.resource_policies import BUCKET_ACTIONS, ENTRY_ACTIONS, Statement
from cdk.settings import ROOT, Settings
from lockstep.plan.file import load_plan
from sandbox.emulators.aws.policies import Call, decide
from tests.infrastructure.cdk_case import PLAN
from tests.infrastructure.template import Template, synthesise

BUCKET = "arn:aws:s3:::example-lockstep-audit"
ENTRY = f"{BUCKET}/aws/multi-cloud.app_user/000000000001.json"
DIGEST = f"{BUCKET}/digests/2026-11-29T19.json"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-0000-0000-000000000000"
IAM = "arn:aws:iam::111122223333"
AUDIT = f"{IAM}:role/lockstep-audit-eu-central-1"
DIGESTER = f"{IAM}:role/lockstep-digest-eu-central-1"
BREAK_GLASS = f"{IAM}:role/break-glass"
OPERATOR = f"{IAM}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Operator_0123456789abcdef"
DEPLOYER = f"{IAM}:role/cdk-hnb659fds-cfn-exec-role-111122223333-eu-central-1"
OTHERS = {
    "administrator": f"{IAM}:role/admin",
    "root": f"{IAM}:root",
    "user": f"{IAM}:user/break-glass",
    "another step": f"{IAM}:role/lockstep-FunctionsGenerateRole-0123456789ab",
    "another account's break glass": "arn:aws:iam::999988887777:role/break-glass",
    "another account's audit": AUDIT.replace("111122223333", "999988887777"),
    "a name that begins alike": f"{BREAK_GLASS}-too",
    "a name behind a path": f"{IAM}:role/x/break-glass",
    "anonymous": "",
}
ANYTHING: Statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
"""The caller's own policy: that of an administrator."""
SETTINGS: Mapping[str, Any] = {
    "audit_break_glass_role": BREAK_GLASS,
    "operators": [f"{IAM}:role/aws-reserved/*/AWSReservedSSO_Operator_*"],
}


@cache
def synthesised(**settings: object) -> Template:
    chosen = Settings.model_validate({"plan": PLAN, **{k: json.loads(str(v)) for k, v in settings.items()}})
    with tempfile.TemporaryDirectory(prefix="lockstep-bucket-") as folder:
        return synthesise(load_plan(ROOT / PLAN), chosen, Path(folder))


def statements(**settings: object) -> list[Statement]:
    """The policy of the synthesised bucket."""
    template = synthesised(**settings)
    (found,) = (
        policy["Properties"]["PolicyDocument"]["Statement"]
        for policy in template.of_type("AWS::S3::BucketPolicy").values()
        if template.resolved(policy["Properties"]["Bucket"]) == "example-lockstep-audit"
    )
    resolved: list[Statement] = template.resolved(found)
    return resolved


def of_key(title: str, settings: Mapping[str, Any]) -> list[Statement]:
    """The policy of a synthesised key that signs."""
    template = synthesised(**{name: json.dumps(value) for name, value in settings.items()})
    (found,) = (k for name, k in template.of_type("AWS::KMS::Key").items() if title in name)
    resolved: list[Statement] = template.resolved(found["Properties"]["KeyPolicy"]["Statement"])
    return resolved


def deployed(settings: Mapping[str, Any]) -> list[Statement]:
    return statements(**{name: json.dumps(value) for name, value in settings.items()})


def may(principal: str, action: str, resource: str, policy: list[Statement], **context: str) -> bool:
    """Whether a principal that its own policy allows everything may do this."""
    keys = {"aws:SecureTransport": ("true",), "s3:TlsVersion": ("1.3",)}
    keys |= {"aws:PrincipalArn": (principal,)} if principal else {}
    keys |= {name.replace("_", ":", 1).replace("_", "-"): (value,) for name, value in context.items()}
    return decide(Call(action=action, resource=resource, context=keys), [ANYTHING, *policy]).allowed


@pytest.mark.parametrize("action", ENTRY_ACTIONS)
def test_nobody_but_the_break_glass_role_deletes_an_entry(action: str) -> None:
    """Protocol E13."""
    policy = deployed(SETTINGS)
    assert may(BREAK_GLASS, action, ENTRY, policy)
    for who, principal in {
        **OTHERS,
        "audit": AUDIT,
        "digest": DIGESTER,
        "operator": OPERATOR,
        "deployer": DEPLOYER,
    }.items():
        assert not may(principal, action, ENTRY, policy), who
        assert not may(principal, action, DIGEST, policy), who
        assert not may(principal, action, f"{BUCKET}/anything", policy), who


@pytest.mark.parametrize("action", BUCKET_ACTIONS)
def test_only_the_deployment_and_the_break_glass_role_change_the_bucket(action: str) -> None:
    policy = deployed(SETTINGS)
    assert may(BREAK_GLASS, action, BUCKET, policy)
    assert may(DEPLOYER, action, BUCKET, policy)
    for who, principal in {**OTHERS, "audit": AUDIT, "digest": DIGESTER, "operator": OPERATOR}.items():
        assert not may(principal, action, BUCKET, policy), who


@pytest.mark.parametrize(
    ("written", "writers"), [(ENTRY, {AUDIT, OPERATOR}), (DIGEST, {DIGESTER})], ids=["entries", "digests"]
)
def test_entries_and_digests_are_written_by_different_principals(written: str, writers: set[str]) -> None:
    """The audit function and the operators write entries, the digest function digests, and nobody writes over one."""
    policy = deployed(SETTINGS)
    everyone = {*OTHERS.values(), AUDIT, DIGESTER, OPERATOR, BREAK_GLASS, DEPLOYER}
    assert writers == {
        who for who in everyone if may(who, "s3:PutObject", written, policy, s3_if_none_match="*")
    }
    assert not any(may(who, "s3:PutObject", written, policy) for who in everyone)


def test_without_settings_nobody_deletes_and_only_the_audit_function_writes() -> None:
    policy = deployed({})
    everyone = {**OTHERS, "break glass": BREAK_GLASS, "operator": OPERATOR, "deployer": DEPLOYER}
    everyone["digest"] = DIGESTER
    for who, principal in {**everyone, "audit": AUDIT}.items():
        assert not any(may(principal, action, ENTRY, policy) for action in ENTRY_ACTIONS), who
        assert may(principal, "s3:PutObject", ENTRY, policy, s3_if_none_match="*") is (principal == AUDIT)
        changes = [action for action in BUCKET_ACTIONS if may(principal, action, BUCKET, policy)]
        assert changes == (list(BUCKET_ACTIONS) if principal == DEPLOYER else []), who


@pytest.mark.parametrize("settings", [{}, SETTINGS])
def test_runs_orders_and_digests_are_signed_by_different_principals(
    settings: Mapping[str, Any],
) -> None:
    """Whatever a principal's own policy says; who administers keys still can, so nobody is locked out."""
    signers = {
        "MacKey": ("kms:GenerateMac", {AUDIT}),
        "OrderKey": ("kms:GenerateMac", {OPERATOR} if settings else set()),
        "DigestKey": ("kms:Sign", {DIGESTER}),
    }
    everyone = {*OTHERS.values(), AUDIT, DIGESTER, OPERATOR, BREAK_GLASS, DEPLOYER}
    for title, (signs, expected) in signers.items():
        policy = of_key(title, settings)
        assert {who for who in everyone if may(who, signs, KEY, policy)} == expected
        for action in (
            *("kms:VerifyMac", "kms:GetPublicKey", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion"),
            "kms:DescribeKey",
        ):
            assert all(may(who, action, KEY, policy) for who in everyone), action


def test_reading_and_settings_that_lose_nothing_stay_with_the_callers_own_policy() -> None:
    policy = deployed(SETTINGS)
    for action, resource in (
        ("s3:GetObject", ENTRY),
        ("s3:GetObjectVersion", ENTRY),
        ("s3:ListBucket", BUCKET),
        ("s3:ListBucketVersions", BUCKET),
        ("s3:GetBucketPolicy", BUCKET),
        ("s3:AbortMultipartUpload", ENTRY),
        ("s3:PutBucketTagging", BUCKET),
        ("s3:PutBucketLogging", BUCKET),
    ):
        assert may(OTHERS["administrator"], action, resource, policy), action


def test_an_administrator_can_remove_the_policy_of_a_trial_and_then_the_entries() -> None:
    policy = deployed({"object_lock": "governance"})
    administrator = OTHERS["administrator"]
    assert not may(administrator, "s3:DeleteObjectVersion", ENTRY, policy)
    assert may(administrator, "s3:DeleteBucketPolicy", BUCKET, policy)
    assert may(administrator, "s3:BypassGovernanceRetention", ENTRY, [])


@pytest.mark.parametrize(
    "wrong",
    [
        "*",
        "arn:aws:iam::111122223333:role/*",
        "arn:aws:iam::*:role/x",
        "arn:aws:iam::111122223333:root",
        "break-glass",
        "arn:aws:sts::111122223333:assumed-role/break-glass/me",
    ],
)
@pytest.mark.parametrize("setting", ["audit_break_glass_role", "operators"])
def test_a_setting_names_a_role_or_a_user_of_an_account(setting: str, wrong: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({setting: [wrong] if setting == "operators" else wrong})
