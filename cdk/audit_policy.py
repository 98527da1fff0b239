"""What the policy of the audit bucket denies: overwriting, deleting, what others write, a change of it (protocol E13).

One source for the bucket that is made, the one that is adopted, and the tests. A denial names the principals that it
spares by `aws:PrincipalArn`, which is the role's ARN for its sessions too, and takes patterns
(https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html#condition-keys-principalarn).
A request without that key, such as an anonymous one, is denied.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdk.resource_policies import listed

Statement = Mapping[str, Any]

AUDIT_PREFIX = "aws/"
"""The folder of the AWS runner's audit entries."""
DIGEST_PREFIX = "digests/"
"""The folder of digests."""

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

_NEGATED_ARNS = ("ArnNotEquals", "ArnNotLike", "StringNotEquals", "StringNotLike")
_PRINCIPAL = "aws:PrincipalArn"


@dataclass(frozen=True, kw_only=True)
class AuditPolicy:
    """The denials of one bucket.

    Attributes:
        bucket_arn: The bucket's ARN.
        writers: The principals that may append entries: the audit function's role, and operators.
        digester: The one that may write digests: the digest function's role.
        break_glass: The principal that may delete entries and change the bucket, if there is one.
        deployer: The principal that may change the bucket, and cannot delete an entry as long as the policy stands:
            CloudFormation's role, or whoever manages an adopted bucket.
        removable: Whether an administrator may remove the policy, as for a trial.
    """

    bucket_arn: str
    writers: Sequence[str]
    digester: str
    break_glass: str | None
    deployer: str
    removable: bool

    def statements(self) -> list[Statement]:
        """Every statement, for a policy."""
        return [
            self._new_objects_only(),
            self._entries_of_writers_only(),
            self._digests_of_one_only(),
            self._entries_stay(),
            *([] if self.removable else [self._bucket_stays()]),
        ]

    def lacks(self, found: Sequence[Statement]) -> Iterator[tuple[str, Statement]]:
        """What a policy that exists does not deny, and the statement to add.

        A statement counts whatever its Sid, also if it denies more, or spares fewer principals than ours. Who may
        change an adopted bucket is its owner's affair, as long as the policy names them.
        """
        wanted = self._new_objects_only()
        if not any(covers(s, wanted) and same_condition(s, wanted) for s in found):
            yield "lets entries be written over", wanted
        for wanted, writers, lack in (
            (self._entries_of_writers_only(), self.writers, "audit function and the operators write entries"),
            (self._digests_of_one_only(), [self.digester], "digest function write digests"),
        ):
            spared = {_spared(s) for s in found if covers(s, wanted)} - {None}
            if not any(of and writers[0] in of and of <= set(writers) for of in spared):
                yield f"lets others than the {lack}", wanted
        wanted = self._entries_stay()
        allowed = {self.break_glass}
        if not any(covers(s, wanted) and (of := _spared(s)) is not None and of <= allowed for s in found):
            yield "lets entries be deleted", wanted
        if self.removable:
            return
        wanted = self._bucket_stays()
        if not any(covers(s, wanted) and _spared(s) is not None for s in found):
            yield "lets itself, lifecycle, versioning and lock be changed", wanted

    def _new_objects_only(self) -> Statement:
        return new_objects_only("NewObjectsOnly", f"{self.bucket_arn}/*")

    def _entries_of_writers_only(self) -> Statement:
        resource = f"{self.bucket_arn}/{AUDIT_PREFIX}*"
        return _denial("EntriesOfWritersOnly", ("s3:PutObject",), resource, spares=self.writers)

    def _digests_of_one_only(self) -> Statement:
        resource = f"{self.bucket_arn}/{DIGEST_PREFIX}*"
        return _denial("DigestsOfOneOnly", ("s3:PutObject",), resource, spares=[self.digester])

    def _entries_stay(self) -> Statement:
        spares = (self.break_glass,) if self.break_glass else ()
        return _denial("EntriesStay", ENTRY_ACTIONS, f"{self.bucket_arn}/*", spares=spares)

    def _bucket_stays(self) -> Statement:
        spares = (self.deployer, *((self.break_glass,) if self.break_glass else ()))
        return _denial("BucketStays", BUCKET_ACTIONS, self.bucket_arn, spares=spares)


def new_objects_only(sid: str, resource: str) -> Statement:
    """Deny to write over an object.

    See https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html.
    """
    return {
        **_denial(sid, ("s3:PutObject",), resource),
        "Condition": {"Null": {"s3:if-none-match": "true"}},
    }


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


def covers(statement: Statement, wanted: Statement) -> bool:
    """Whether it denies everyone at least these actions on at least these resources, whatever its condition."""
    actions, resources = _texts(statement.get("Action")), _texts(statement.get("Resource"))
    return (
        statement["Effect"] == "Deny"
        and statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        and all({action, "s3:*", "*", *_wider(action)} & actions for action in wanted["Action"])
        and bool({wanted["Resource"], *_around(wanted["Resource"]), "*"} & resources)
    )


def _wider(action: str) -> Iterable[str]:
    """The patterns that end with a `*` and match an action of S3."""
    return (f"{action[:length]}*" for length in range(len("s3:") + 1, len(action) + 1))


def _around(resource: str) -> Iterable[str]:
    """All objects of the bucket, for some of them."""
    bucket, _, objects = resource.partition("/")
    return (f"{bucket}/*",) if objects else ()


def same_condition(statement: Statement, wanted: Statement) -> bool:
    """Whether it denies what `new_objects_only` does, in either spelling."""
    return statement.get("Condition") in (wanted["Condition"], {"Null": {"s3:if-none-match": True}})


def _spared(statement: Statement) -> frozenset[str] | None:
    """The principals that a denial spares; None if it spares others too, by another condition."""
    condition = statement.get("Condition", {})
    if not condition:
        return frozenset()
    if len(condition) != 1:
        return None
    ((operator, keys),) = condition.items()
    if operator not in _NEGATED_ARNS or list(keys) != [_PRINCIPAL]:
        return None
    return frozenset(_texts(keys[_PRINCIPAL]))


def _texts(value: object) -> set[str]:
    return {str(item) for item in listed(value)}
