"""The policies of the audit bucket and of keys that sign, by IAM: who may, whatever the own policy says."""

import pytest

from cdk.resource_policies import BUCKET_ACTIONS, ENTRY_ACTIONS, Statement
from sandbox.emulators.aws.policies import Call, decide
from tests.infrastructure.cdk_case import ACCOUNT, AUDIT, BREAK_GLASS, shape

BUCKET = f"arn:aws:s3:::{AUDIT}"
ENTRY, DIGEST, ELSE = (
    f"{BUCKET}/{name}" for name in ("aws/a.b/000000000001.json", "digests/2026-11-29T19.json", "anything")
)
KEY = f"arn:aws:kms:eu-central-1:{ACCOUNT}:key/0a1b2c3d-0000-0000-0000-000000000000"
IAM = f"arn:aws:iam::{ACCOUNT}"
AUDITOR = f"{IAM}:role/lockstep-audit-eu-central-1"
DIGESTER = f"{IAM}:role/lockstep-digest-eu-central-1"
OPERATOR = f"{IAM}:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_Operator_0123456789abcdef"
DEPLOYER = f"{IAM}:role/cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-eu-central-1"
OTHERS = {
    f"{IAM}:role/admin",
    f"{IAM}:root",
    f"{IAM}:user/break-glass",
    f"{IAM}:role/lockstep-FunctionsGenerateRole-0123456789ab",
    BREAK_GLASS.replace(ACCOUNT, "999988887777"),
    AUDITOR.replace(ACCOUNT, "999988887777"),
    f"{BREAK_GLASS}-too",
    f"{IAM}:role/x/break-glass",
    "",  # anonymous
}
EVERYONE = {*OTHERS, AUDITOR, DIGESTER, OPERATOR, BREAK_GLASS, DEPLOYER}
ANYTHING: Statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
"""The caller's own policy: that of an administrator."""


def policy_of(name: str, title: str = "") -> list[Statement]:
    """The policy of the synthesised bucket, or of a key."""
    found = shape(name)
    keys = found.resources("AWS::KMS::Key").items()
    of_keys = [k["Properties"]["KeyPolicy"] for n, k in keys if title and title in n]
    of_buckets = {
        found.resolved(p["Bucket"]): p["PolicyDocument"] for p in found.each("AWS::S3::BucketPolicy")
    }
    (policy,) = of_keys or [of_buckets[AUDIT]]
    statements: list[Statement] = found.resolved(policy["Statement"])
    return statements


def who_may(action: str, resource: str, policy: list[Statement], *, is_new: bool = False) -> set[str]:
    """Who of those whose own policy allows everything may do this."""
    keys = {"aws:SecureTransport": ("true",), "s3:TlsVersion": ("1.3",)}
    keys |= {"s3:if-none-match": ("*",)} if is_new else {}
    calls = {
        who: Call(
            action=action, resource=resource, context={**keys, "aws:PrincipalArn": (who,)} if who else keys
        )
        for who in EVERYONE
    }
    return {who for who, call in calls.items() if decide(call, [ANYTHING, *policy]).allowed}


NOBODY = set[str]()


@pytest.mark.parametrize(
    ("name", "deletes", "writes", "changes"),
    [
        ("both", {BREAK_GLASS}, {AUDITOR, OPERATOR}, {BREAK_GLASS, DEPLOYER}),
        # Without settings.
        ("plain", NOBODY, {AUDITOR}, {DEPLOYER}),
        # A trial: whoever administers it removes the policy, and then the entries.
        ("trial", NOBODY, {AUDITOR}, EVERYONE),
    ],
)
def test_who_changes_the_bucket(name: str, deletes: set[str], writes: set[str], changes: set[str]) -> None:
    """Protocol E13."""
    policy = policy_of(name)
    for action in ENTRY_ACTIONS:
        for written in (ENTRY, DIGEST, ELSE):
            assert who_may(action, written, policy) == deletes, (action, written)
    for action in BUCKET_ACTIONS:
        assert who_may(action, BUCKET, policy) == changes, action
    # Entries and digests are written by different principals, and nobody writes over one.
    assert who_may("s3:PutObject", ENTRY, policy, is_new=True) == writes
    assert who_may("s3:PutObject", DIGEST, policy, is_new=True) == {DIGESTER}
    for written in (ENTRY, DIGEST):
        assert who_may("s3:PutObject", written, policy) == NOBODY


def test_reading_and_harmless_settings_stay_with_the_callers_own_policy() -> None:
    policy = policy_of("both")
    for action in ("GetObject", "GetObjectVersion", "AbortMultipartUpload"):
        assert who_may(f"s3:{action}", ENTRY, policy) == EVERYONE, action
    for action in ("ListBucket", "ListBucketVersions", "GetBucketPolicy", "PutBucketTagging"):
        assert who_may(f"s3:{action}", BUCKET, policy) == EVERYONE, action


@pytest.mark.parametrize(
    ("title", "signs", "signers", "without_settings"),
    [
        ("MacKey", "kms:GenerateMac", {AUDITOR}, {AUDITOR}),
        ("OrderKey", "kms:GenerateMac", {OPERATOR}, NOBODY),
        ("DigestKey", "kms:Sign", {DIGESTER}, {DIGESTER}),
    ],
)
def test_runs_orders_and_digests_are_signed_by_different_principals(
    title: str, signs: str, signers: set[str], without_settings: set[str]
) -> None:
    """Who administers keys still can, so nobody is locked out."""
    assert who_may(signs, KEY, policy_of("plain", title)) == without_settings
    policy = policy_of("both", title)
    assert who_may(signs, KEY, policy) == signers
    for other in ("VerifyMac", "GetPublicKey", "PutKeyPolicy", "ScheduleKeyDeletion", "DescribeKey"):
        assert who_may(f"kms:{other}", KEY, policy) == EVERYONE, other
