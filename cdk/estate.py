"""What a deployment takes from an estate that exists: the resources that it adopts, the network, and tags.

Each value is used as it is written. `python -m cdk.deploy` asks the account first and completes them.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

_OWN_TAGS = "lockstep:"
_RESERVED_TAGS = "aws:"
MOST_TAGS = 50
"""Of a resource. Tags of AWS itself are not counted (https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html)."""
_LONGEST_TAG_KEY = 128
_LONGEST_TAG_VALUE = 256
_TAG = re.compile(r"[\w .:/=+@-]*")
"""What every service takes: letters, digits and spaces of any language, and these signs."""

_ARN = r"arn:aws[a-z-]*"
KeyArn = Annotated[str, StringConstraints(pattern=rf"^{_ARN}:kms:[a-z0-9-]+:[0-9]{{12}}:key/[A-Za-z0-9-]+$")]
TopicArn = Annotated[
    str, StringConstraints(pattern=rf"^{_ARN}:sns:[a-z0-9-]+:[0-9]{{12}}:[A-Za-z0-9_-]{{1,256}}$")
]
LogGroupName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/_.#-]{1,512}$")]


class Topics(BaseModel):
    """Topics of the estate that get the alarms, by severity; null: Lockstep makes one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page: TopicArn | None = None
    ticket: TopicArn | None = None


class Adopt(BaseModel):
    """What exists, and is used instead of being made. Each field adopts one kind of resource.

    Attributes:
        lock_table: The table that the plan names.
        audit_bucket: The bucket that the plan names. Its policy, versioning and Object Lock stay as they are.
        plan_bucket: The bucket of the published plan, which the audit bucket names. It stays as it is, too.
        mac_key: The key behind the alias that the plan names. A key by id or ARN is adopted in any case.
        order_key: Likewise the key that signs orders.
        digest_key: Likewise the key that signs digests, behind the alias `alias/<stack>-digests`.
        client_key: Likewise the key that signs for the application in OCI's identity domain.
        oidc_provider: The provider of IAM for the issuer of the OCI runner's tokens.
        oci_role: The role that the OCI runner gets. Its policies and its trust stay as they are.
        encryption_key: The key for what is made: secrets, table, logs, topics. Its policy stays as it is.
        keys: Other keys, which encrypt secrets that people made or the adopted table.
        log_groups: All log groups, or those with these names. Their retention stays as it is.
        topics: The topics of alarms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lock_table: bool = False
    audit_bucket: bool = False
    plan_bucket: bool = False
    mac_key: bool = False
    order_key: bool = False
    digest_key: bool = False
    client_key: bool = False
    oidc_provider: bool = False
    oci_role: bool = False
    encryption_key: KeyArn | None = None
    keys: tuple[KeyArn, ...] = ()
    log_groups: bool | tuple[LogGroupName, ...] = False
    topics: Topics = Topics()

    def adopts_log_group(self, name: str) -> bool:
        """Whether the log group with this name exists."""
        return self.log_groups if isinstance(self.log_groups, bool) else name in self.log_groups


class Vpc(BaseModel):
    """The VPC of the databases.

    The subnets need a route to Secrets Manager, DynamoDB and S3, and with an OCI store to OCI: a NAT, or endpoints.
    With `functions: all` also to KMS; with `runners.aws.federation` to KMS, STS and the identity domain.

    Attributes:
        database_cidrs: The address ranges of the databases, for the security group that is made.
        functions: `apply_db`: only the function that logs in to the databases is in the VPC; `all`: every function.
        security_group_ids: Groups that exist; none: one is made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, StringConstraints(pattern=r"^vpc-([0-9a-f]{8}|[0-9a-f]{17})$")]
    availability_zones: Annotated[tuple[str, ...], Field(min_length=1)]
    # Of a function (https://docs.aws.amazon.com/lambda/latest/api/API_VpcConfig.html).
    subnet_ids: Annotated[
        tuple[
            Annotated[str, StringConstraints(pattern=r"^subnet-([0-9a-f]{8}|[0-9a-f]{17})$")],
            ...,
        ],
        Field(min_length=1, max_length=16),
    ]
    database_cidrs: Annotated[
        tuple[str, ...],
        Field(description="the address ranges of the databases, such as 10.0.0.0/16"),
    ] = ()
    functions: Literal["all", "apply_db"] = "apply_db"
    security_group_ids: Annotated[
        tuple[
            Annotated[str, StringConstraints(pattern=r"^sg-([0-9a-f]{8}|[0-9a-f]{17})$")],
            ...,
        ],
        Field(max_length=5),
    ] = ()

    @model_validator(mode="after")
    def _a_zone_each(self) -> Self:
        if len(self.availability_zones) != len(self.subnet_ids):
            raise ValueError("availability_zones: give one for each of subnet_ids, in the same order")
        return self

    @model_validator(mode="after")
    def _one_source_of_rules(self) -> Self:
        if bool(self.database_cidrs) == bool(self.security_group_ids):
            raise ValueError(
                "give database_cidrs, and a security group is made with rules for them, or security_group_ids of "
                "groups that exist, with rules of your own; one of the two"
            )
        return self


def _tags(tags: dict[str, str]) -> dict[str, str]:
    problems = list(_tag_problems(tags))
    if problems:
        raise ValueError("; ".join(problems))
    return tags


def _tag_problems(tags: dict[str, str]) -> Iterable[str]:
    own = 2
    if len(tags) + own > MOST_TAGS:
        yield f"{len(tags)} tags, and a resource takes {MOST_TAGS}, of which Lockstep sets {own}"
    lower: dict[str, str] = {}
    for key, value in tags.items():
        if not 1 <= len(key) <= _LONGEST_TAG_KEY or not _TAG.fullmatch(key):
            yield f"{key!r}: a key has 1 to {_LONGEST_TAG_KEY} letters, digits, spaces and . : / = + @ _ -"
        if len(value) > _LONGEST_TAG_VALUE or not _TAG.fullmatch(value):
            yield f"{key!r}: a value has at most {_LONGEST_TAG_VALUE} letters, digits, spaces and . : / = + @ _ -"
        for prefix, owner in ((_RESERVED_TAGS, "AWS"), (_OWN_TAGS, "Lockstep")):
            if key.lower().startswith(prefix):
                yield f"{key!r}: keys that begin with {prefix} belong to {owner}"
        # IAM takes no two keys that differ in case only (https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html).
        if (other := lower.setdefault(key.lower(), key)) != key:
            yield f"{other!r} and {key!r} differ in case only, which roles refuse"


Tags = Annotated[dict[str, str], AfterValidator(_tags)]
"""Tags of every resource, by key."""
