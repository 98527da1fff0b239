"""The settings: the plan says what is rotated, `cdk.json` (or `-c name=value`) how it is deployed.

The plan gives interval, overlap, names, regions, and the retention of the audit log. The time-outs
are in `lockstep.protocol.deadlines`, because the lease depends on them: a function has the time-out of its state.
"""

import json
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from cdk.bundle import Architecture
from lockstep.protocol.names import DEFAULT_STACK

_OWN_TAGS = 2
MOST_TAGS = 50
"""Of a resource. Tags of AWS itself are not counted (https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html)."""

_ARN = r"arn:aws[a-z-]*"
KeyArn = Annotated[str, StringConstraints(pattern=rf"^{_ARN}:kms:[a-z0-9-]+:[0-9]{{12}}:key/[A-Za-z0-9-]+$")]
TopicArn = Annotated[
    str, StringConstraints(pattern=rf"^{_ARN}:sns:[a-z0-9-]+:[0-9]{{12}}:[A-Za-z0-9_-]{{1,256}}$")
]


PRINCIPALS_OUTPUT = "OciPrincipals"
"""The output that names the roles for OCI's policies: a JSON object, ARNs by step. It stays while the stack does."""


def rule_name(stack: str, shard: str) -> str:
    """The name of the EventBridge rule that starts the rotations of a shard."""
    return f"{stack}-{shard}"


def oci_runner_name(stack: str) -> str:
    """The name of the policy of the OCI runner, and of the role that it gets by federation."""
    return f"{stack}-oci-runner"


class Topics(BaseModel):
    """Topics of the estate that get the alarms, by severity; null: Lockstep makes one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page: TopicArn | None = None
    ticket: TopicArn | None = None


class Adopt(BaseModel):
    """What exists, and is used instead of being made. Policies, contents and settings of it stay as they are.

    Attributes:
        existing: Names: of the lock table and the buckets that the plan names, of log groups, aliases of keys that sign
            (`alias/…`; a key that the plan names by id or ARN is adopted in any case), the URL of the issuer whose
            provider IAM has, and the name of the role that the OCI runner gets.
        encryption_key: The key for what is made: secrets, table, logs, topics.
        keys: Other keys, which encrypt secrets that people made or the adopted table.
        topics: The topics of alarms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    existing: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9/_.:#+=,@-]{1,512}$")], ...] = ()
    encryption_key: KeyArn | None = None
    keys: tuple[KeyArn, ...] = ()
    topics: Topics = Topics()


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
    if len(tags) + _OWN_TAGS > MOST_TAGS:
        raise ValueError(
            f"{len(tags)} tags, and a resource takes {MOST_TAGS}, of which Lockstep sets {_OWN_TAGS}"
        )
    for key in tags:
        for prefix, owner in (("aws:", "AWS"), ("lockstep:", "Lockstep")):
            if key.lower().startswith(prefix):
                raise ValueError(f"{key!r}: keys that begin with {prefix} belong to {owner}")
    return tags


Tags = Annotated[dict[str, str], AfterValidator(_tags)]
"""Tags of every resource, by key."""


ROOT = Path(__file__).resolve().parent.parent
_ALIKE = 0.8
"""So much of a name is a setting's, if it is a misspelling of it (`difflib`)."""


class NotDeployableError(Exception):
    """The plan is valid, but this stack cannot deploy it; the text says what to change."""


def _parsed(value: object) -> object:
    """Parse a value from the command line (`-c vpc='{…}'`), which is always a string."""
    return json.loads(value) if isinstance(value, str) else value


def _number(value: object) -> object:
    """Parse a number from the command line, which a choice of numbers does not by itself."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


_Principal = Annotated[
    str,
    StringConstraints(
        pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[A-Za-z0-9][A-Za-z0-9+=,.@_/*?-]{0,511}$"
    ),
]
"""The ARN of a role or a user, which may have wildcards after its first character."""


class Settings(BaseModel):
    """How the plan is deployed. Each field is a key of the context in `cdk.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: Annotated[Path, Field(description="the plan file, relative to the repository")] = Path(
        "lockstep.yaml"
    )
    stack: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,40}$"),
        Field(description="the prefix of all names that Lockstep gives"),
    ] = DEFAULT_STACK
    packaging: Annotated[
        Literal["image", "zip"], Field(description="a container image, or a zip of the same files")
    ] = "image"
    bundle: Annotated[
        Path, Field(description="with packaging zip: the folder that `make build` has written")
    ] = Path("build/aws")
    architecture: Annotated[
        Architecture,
        Field(description="with packaging image: the processor; a zip has the one it was built for"),
    ] = "arm64"
    memory_mb: Annotated[
        int,
        Field(
            ge=128,
            le=10240,
            description="the memory of each function; its share of a processor grows with it",
        ),
    ] = 512
    log_retention_days: Annotated[
        Literal[30, 60, 90, 180, 365, 400, 731],
        BeforeValidator(_number),
        Field(description="the retention of the logs and of the access log"),
    ] = 400
    schedules: Annotated[
        bool, Field(description="whether the rules start rotations: true as the last step of the first day")
    ] = False
    canary: Annotated[
        str | None,
        Field(
            description="the id of the credential that a deployment reaches first; null: it reaches all at once"
        ),
    ] = None
    alarm_email: Annotated[
        str | None,
        StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$"),
        Field(description="the address that gets the alarms, once it confirms; null: subscribe by hand"),
    ] = None
    runbook_url: Annotated[
        str, Field(description="where your people read docs/alarms.md: the text of each alarm links to it")
    ] = "docs/alarms.md"
    vpc: Annotated[
        Vpc | None,
        BeforeValidator(_parsed),
        Field(description="the VPC of the databases; null: their addresses are public"),
    ] = None
    adopt: Annotated[
        Adopt,
        BeforeValidator(_parsed),
        Field(description="what exists and is used as it is, instead of being made"),
    ] = Adopt()
    tags: Annotated[
        Tags,
        BeforeValidator(_parsed),
        Field(description="tags of every resource, beside lockstep:stack and lockstep:secret"),
    ] = {}
    permissions_boundary: Annotated[
        str | None,
        StringConstraints(
            pattern=r"^(arn:aws[a-z-]*:iam::(aws|[0-9]{12}):policy/)?[A-Za-z0-9+=,.@_/-]{1,512}$"
        ),
        Field(description="the ARN or the name of the policy that bounds every role"),
    ] = None
    deletion_protection: Annotated[
        bool, Field(description="whether the lock table refuses to be deleted; false for a trial")
    ] = True
    object_lock: Annotated[
        Literal["compliance", "governance"],
        Field(
            description="the mode in which audit entries are locked; governance lets an administrator remove a trial"
        ),
    ] = "compliance"

    operators: Annotated[
        tuple[_Principal, ...],
        BeforeValidator(_parsed),
        Field(
            description="ARNs, or patterns of ARNs, of the roles and users that give orders with `lockstep`: the audit "
            "bucket takes entries from them and from the audit function only, the key of orders signs for them alone",
            # A bucket's policy has 20 KB at most.
            max_length=20,
        ),
    ] = ()
    audit_break_glass_role: Annotated[
        _Principal | None,
        Field(
            description="the ARN of the role that may delete audit entries and change their bucket; null: nobody may, "
            "but for the account's root user, who can replace the bucket's policy"
        ),
    ] = None

    def evidence_roles(self, roles: str, region: str) -> dict[str, str]:
        """The ARNs of the roles that write to the audit bucket, by their functions.

        Args:
            roles: How the ARNs of the account's roles begin.
            region: Of the stack.
        """
        return {function: f"{roles}/{self.role_name(function, region)}" for function in ("audit", "digest")}

    def role_name(self, function: str, region: str) -> str:
        """The name of a role that policies of a bucket or key name: of an account, so it has the region."""
        return f"{self.stack}-{function}-{region}"

    @classmethod
    def from_context(cls, get: Callable[[str], Any]) -> Self:
        """Read each field from the context; a missing one has its default.

        Args:
            get: Returns the value of a key, or None if the context has none.

        Raises:
            NotDeployableError: Names every setting that is wrong.
        """
        given = {name: value for name in cls.model_fields if (value := get(name)) not in (None, "")}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise NotDeployableError("\n".join(_problems(error))) from error


def check_names(names: Iterable[str]) -> None:
    """Refuse keys of the context that are misspelt settings. Others belong to CDK, or to its user.

    Raises:
        NotDeployableError: Names each, with the setting that it resembles.
    """
    found = ((name, get_close_matches(name, Settings.model_fields, 1, _ALIKE)) for name in sorted(names))
    problems = [
        f"cdk.json: {name}: there is no such setting; it is called {alike[0]}"
        for name, alike in found
        if alike and name not in Settings.model_fields
    ]
    if problems:
        raise NotDeployableError("\n".join(problems))


def _problems(error: ValidationError) -> list[str]:
    """What is wrong with the settings, one line each, without pydantic's tags of unions."""
    found = (
        (".".join(str(part) for part in problem["loc"]), problem["msg"].removeprefix("Value error, "))
        for problem in error.errors(include_url=False, include_input=False)
    )
    return [f"cdk.json: {place}: {message}" for place, message in found]
