"""What the policies of buckets and of keys that sign deny, to whoever has whatever rights of IAM.

The audit bucket: overwriting, deleting, what others write, a change of it (protocol E13). The plan bucket: writing over
what is published; whoever reads a plan knows its digest, so nobody who may write there can change what runs, and the
policy keeps what a run under way still reads. Deleting is not denied there: old plans go (docs/deploy.md#old-versions).

One source for what is made, the note about what is adopted, and the tests. A denial names the principals that it spares
by `aws:PrincipalArn`, which is the role's ARN for its sessions too, and takes patterns
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-principalarn).
A request without that key, such as an anonymous one, is denied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdk.settings import Settings

Statement = Mapping[str, Any]

AUDIT_PREFIX = "aws/"
"""The folder of the AWS runner's audit entries."""
DIGEST_PREFIX = "digests/"
"""The folder of digests."""
PLAN_PREFIX, REPORT_PREFIX = "plans/", "reports/"
"""The folders of published plans, and of what the fleet machine writes of its runs."""

ENTRY_ACTIONS = (
    "s3:BypassGovernanceRetention",
    "s3:DeleteObject",
    "s3:DeleteObjectVersion",
    "s3:PutObjectLegalHold",
    "s3:PutObjectRetention",
    "s3:ReplicateDelete",
    "s3:ReplicateObject",
)
"""What removes an entry, hides it, shortens its lock, or writes past the condition of a PutObject."""

BUCKET_ACTIONS = (
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:PutBucketAcl",
    "s3:PutBucketObjectLockConfiguration",
    "s3:PutBucketOwnershipControls",
    "s3:PutBucketPolicy",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutReplicationConfiguration",
)
"""What makes the bucket forget: S3 itself carries out a lifecycle rule, past every policy."""

_PRINCIPAL = "aws:PrincipalArn"


@dataclass(frozen=True, kw_only=True)
class AuditPolicy:
    """The denials of one bucket.

    Attributes:
        bucket_arn: The bucket's ARN.
        settings: They name who breaks the glass and who gives orders. Under `governance` the policy can be removed.
        functions: The ARNs of the functions' roles, by step.
        deployer: The principal that may change the bucket, and cannot delete an entry as long as the policy stands:
            CloudFormation's role, or whoever manages an adopted bucket.
    """

    bucket_arn: str
    settings: Settings
    functions: Mapping[str, str]
    deployer: str

    def statements(self) -> list[Statement]:
        """Every statement, for a policy."""
        return [
            self._new_objects_only(),
            self._entries_of_writers_only(),
            self._digests_of_one_only(),
            self._entries_stay(),
            *([] if self.settings.object_lock == "governance" else [self._bucket_stays()]),
        ]

    def _new_objects_only(self) -> Statement:
        return new_objects_only("NewObjectsOnly", f"{self.bucket_arn}/*")

    def _entries_of_writers_only(self) -> Statement:
        resource = f"{self.bucket_arn}/{AUDIT_PREFIX}*"
        return _denial(
            "EntriesOfWritersOnly",
            ("s3:PutObject",),
            resource,
            spares=[self.functions["audit"], *self.settings.operators],
        )

    def _digests_of_one_only(self) -> Statement:
        resource = f"{self.bucket_arn}/{DIGEST_PREFIX}*"
        return _denial("DigestsOfOneOnly", ("s3:PutObject",), resource, spares=[self.functions["digest"]])

    def _entries_stay(self) -> Statement:
        return _denial("EntriesStay", ENTRY_ACTIONS, f"{self.bucket_arn}/*", spares=self._break_glass)

    def _bucket_stays(self) -> Statement:
        spares = [self.deployer, *self._break_glass]
        return _denial("BucketStays", BUCKET_ACTIONS, self.bucket_arn, spares=spares)

    @property
    def _break_glass(self) -> Sequence[str]:
        return [arn for arn in [self.settings.audit_break_glass_role] if arn]


def new_objects_only(sid: str, resource: str) -> Statement:
    """Deny to write over an object.

    See https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html.
    """
    return {
        **_denial(sid, ("s3:PutObject",), resource),
        "Condition": {"Null": {"s3:if-none-match": "true"}},
    }


def new_plans_only(bucket_arn: str) -> Statement:
    """Deny to write over a published plan."""
    return new_objects_only("NewPlansOnly", f"{bucket_arn}/{PLAN_PREFIX}*")


def signers_only(action: str, signers: Sequence[str]) -> Statement:
    """Deny to sign with a key, in that key's own policy, to all but those who write what it signs."""
    return _denial("SignersOnly", (action,), "*", spares=signers)


def _denial(sid: str, actions: Sequence[str], resource: str, *, spares: Sequence[str] = ()) -> Statement:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Principal": "*",
        "Action": list(actions),
        "Resource": resource,
        **({"Condition": {"ArnNotLike": {_PRINCIPAL: list(spares)}}} if spares else {}),
    }
