"""Which secrets in AWS a stack uses, what their tags must be, and what stands in the way of using them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lockstep.model import AdminSecret
from lockstep.plan import Plan
from lockstep.plan_admins import is_plain_name, secrets_region
from lockstep.store_kinds.aws_secrets_manager import AwsSecretsManager
from lockstep.tags import SECRET_TAG, STACK_TAG, SecretKind

ROTATED = (SecretKind.APP_USER, SecretKind.CONNECTION_BLOB)
"""What Lockstep writes. The other kinds it only reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A secret that the plan names, and that the functions know by its tags.

    Attributes:
        region: Where it is.
    """

    name: str
    kind: SecretKind
    region: str

    def tags(self, stack: str) -> Mapping[str, str]:
        """The tags that it must have for a stack."""
        return {STACK_TAG: stack, SECRET_TAG: self.kind.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A secret as it is.

    Attributes:
        key: The id, ARN or alias of its KMS key; None: Secrets Manager's own key of the account.
        is_rotated: Whether Secrets Manager rotates it by itself.
        is_deleted: Whether it is scheduled for deletion.
        primary_region: Where its original is, if it is a replica.
        owning_service: The service that manages it, such as `rds`.
    """

    arn: str
    tags: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    is_rotated: bool = False
    is_deleted: bool = False
    primary_region: str | None = None
    owning_service: str | None = None


_SHARED = {
    SecretKind.ADMIN: "give it in the plan by its ARN, for which no tag is needed",
    SecretKind.RUNNER_KEY: "keep the key in a secret of this stack's own",
    SecretKind.RUNNER_READER_KEY: "keep the key in a secret of this stack's own, beside that of the writer",
    SecretKind.APP_USER: "give this plan's credential secrets of its own",
    SecretKind.CONNECTION_BLOB: "give this plan's credential secrets of its own",
}
"""What to do where two stacks, or two purposes, want one secret."""


class State(StrEnum):
    """What is to be done with a secret."""

    READY = "ready"
    TO_TAG = "to be tagged"
    TO_BE_MADE = "to be made"
    MISSING = "missing"
    IN_THE_WAY = "in the way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A secret of the plan, compared with what is there.

    Attributes:
        problems: What stands in the way; each says what to change.
        missing_tags: The tags that it lacks.
    """

    wanted: Wanted
    found: Found | None
    state: State
    problems: tuple[str, ...] = ()
    missing_tags: Mapping[str, str] = field(default_factory=dict)


def wanted(plan: Plan, credential_id: str | None = None) -> list[Wanted]:
    """Every secret in AWS that the functions know by its tags, each once.

    Args:
        plan: The plan.
        credential_id: Only the secrets of this credential, and those that all need; None: of all.
    """
    return list(dict.fromkeys(_wanted(plan, credential_id)))


def runner_keys(plan: Plan) -> dict[str, SecretKind]:
    """What each secret holds with which the AWS runner proves itself in OCI, by its name."""
    readers = plan.runners.aws.oci_reader_key_secret
    return {
        name: SecretKind.RUNNER_READER_KEY if name == readers else SecretKind.RUNNER_KEY
        for name in plan.runners.aws.secrets.values()
    }


def _wanted(plan: Plan, credential_id: str | None) -> Iterator[Wanted]:
    chosen = [c for c in plan.credentials if credential_id in {None, c.id}]
    store = plan.store(AwsSecretsManager)
    for credential in chosen if store else ():
        names = credential.secret_names
        for name, kind in zip((names.app_user, names.connection_blob), ROTATED, strict=True):
            yield Wanted(name=name, kind=kind, region=store.region if store else "")
    home = secrets_region(plan)
    for server in (server for credential in chosen for server in credential.servers):
        if isinstance(server.admin, AdminSecret) and is_plain_name(server.admin.aws):
            yield Wanted(name=server.admin.aws, kind=SecretKind.ADMIN, region=home)
    for name, kind in runner_keys(plan).items():
        yield Wanted(name=name, kind=kind, region=home)


def judge(one: Wanted, found: Found | None, *, stack: str) -> Judgement:
    """Compare a secret with what is there."""
    if found is None:
        state = State.TO_BE_MADE if one.kind in ROTATED else State.MISSING
        return Judgement(wanted=one, found=None, state=state)
    problems = tuple(_problems(one, found, stack))
    missing = {key: value for key, value in one.tags(stack).items() if key not in found.tags}
    fits = State.TO_TAG if missing else State.READY
    return Judgement(
        wanted=one,
        found=found,
        state=State.IN_THE_WAY if problems else fits,
        problems=problems,
        missing_tags=missing,
    )


def _problems(one: Wanted, found: Found, stack: str) -> Iterator[str]:
    for key, value in one.tags(stack).items():
        if (other := found.tags.get(key, value)) != value:
            yield (
                f"its tag {key} is {other!r}, not {value!r}; if nothing uses it as that any more, remove the tag and "
                f"repeat this, else {_SHARED[one.kind]}"
            )
    if found.is_deleted:
        yield "it is scheduled for deletion; restore it (aws secretsmanager restore-secret)"
    if found.primary_region not in {None, one.region}:
        yield f"it is a replica of a secret in {found.primary_region}, which cannot be written or tagged; name that one"
    if found.owning_service:
        yield (
            f"{found.owning_service} manages it and may change it at any time; give it in the plan by its ARN or its "
            "rds!… name, for which no tag is needed"
        )
    if found.is_rotated and one.kind in ROTATED:
        yield (
            "Secrets Manager rotates it by itself, and only one may; switch that off (aws secretsmanager "
            "cancel-rotate-secret)"
        )
