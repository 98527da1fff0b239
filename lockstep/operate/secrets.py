"""What becomes of each secret of a plan: made, tagged, left alone, or refused; and AWS, where it is done.

What a secret holds and says of itself before its first rotation.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from msgspec import Struct, ValidationError, convert, structs

from lockstep.aws.clients import STORE_ERRORS, translated
from lockstep.aws.reads import Client
from lockstep.operate import formatting
from lockstep.operate.verdict import lockstep
from lockstep.plan.admins import is_plain_name, secrets_region
from lockstep.plan.model import Plan
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.deadlines import RetryPolicy
from lockstep.protocol.errors import RetryableError, StoreThrottledError, family
from lockstep.protocol.model import AdminSecret, Credential
from lockstep.protocol.names import DEFAULT_STACK, SECRET_TAG, STACK_TAG, SecretKind, slot_name
from lockstep.stores.contents import PLACEHOLDER

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

FIRST_TEXT: Final = json.dumps({PLACEHOLDER: "the first rotation replaces this"}, separators=(",", ":"))
"""The first content, in both clouds. It is no secret."""
AWS_DESCRIPTION: Final = "Lockstep rotates this secret"
OCI_DESCRIPTION: Final = "A slot of a ring. Lockstep rotates it."

T = TypeVar("T")


# Which secrets in AWS a stack uses, what their tags must be, and what stands in the way of using them.

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


_SHARED = {
    SecretKind.ADMIN: "give it in the plan by its ARN, for which no tag is needed",
    SecretKind.RUNNER_KEY: "keep the key in a secret of this stack's own",
    SecretKind.RUNNER_READER_KEY: "keep the key in a secret of this stack's own, beside that of the writer",
    SecretKind.APP_USER: "give this plan's credential secrets of its own",
    SecretKind.CONNECTION_BLOB: "give this plan's credential secrets of its own",
}
"""What to do where two stacks, or two purposes, want one secret."""


def wanted(plan: Plan, credential_ids: tuple[str, ...] = ()) -> list[Wanted]:
    """Every secret in AWS that the functions know by its tags, each once.

    Args:
        plan: The plan.
        credential_ids: Only the secrets of these credentials, and those that all need; none: of all.
    """
    return list(dict.fromkeys(_wanted(plan, credential_ids)))


def _chosen(plan: Plan, credential_ids: tuple[str, ...]) -> list[Credential]:
    return [c for c in plan.credentials if not credential_ids or c.id in credential_ids]


def _wanted(plan: Plan, credential_ids: tuple[str, ...]) -> Iterator[Wanted]:
    chosen = _chosen(plan, credential_ids)
    store = plan.store(AwsSecretsManager)
    for credential in chosen if store else ():
        names = credential.secret_names
        for name, kind in zip((names.app_user, names.connection_blob), ROTATED, strict=True):
            yield Wanted(name=name, kind=kind, region=store.region if store else "")
    home = secrets_region(plan)
    for server in (server for credential in chosen for server in credential.servers):
        if isinstance(server.admin, AdminSecret) and is_plain_name(server.admin.aws):
            yield Wanted(name=server.admin.aws, kind=SecretKind.ADMIN, region=home)
    for name in plan.runners.aws.secrets.values():
        reads = name == plan.runners.aws.oci_reader_key_secret
        kind = SecretKind.RUNNER_READER_KEY if reads else SecretKind.RUNNER_KEY
        yield Wanted(name=name, kind=kind, region=home)


def _problems(one: Wanted, found: Mapping[str, Any], has: Mapping[str, str], stack: str) -> Iterator[str]:
    for key, value in one.tags(stack).items():
        if (other := has.get(key, value)) != value:
            yield (
                f"its tag {key} is {other!r}, not {value!r}; if nothing uses it as that any more, remove the tag and "
                f"repeat this, else {_SHARED[one.kind]}"
            )
    if "DeletedDate" in found:
        yield "it is scheduled for deletion; restore it (aws secretsmanager restore-secret)"
    if (primary := found.get("PrimaryRegion", one.region)) != one.region:
        yield f"it is a replica of a secret in {primary}, which cannot be written or tagged; name that one"
    if owner := found.get("OwningService"):
        yield (
            f"{owner} manages it and may change it at any time; give it in the plan by its ARN or its "
            "rds!… name, for which no tag is needed"
        )
    if found.get("RotationEnabled") and one.kind in ROTATED:
        yield (
            "Secrets Manager rotates it by itself, and only one may; switch that off (aws secretsmanager "
            "cancel-rotate-secret)"
        )


# What becomes of one secret: made, tagged, left alone, or refused. No cloud is asked here.

_PENDING = frozenset({"PENDING_DELETION", "SCHEDULING_DELETION"})
_USABLE = frozenset({"ACTIVE", "CREATING", "UPDATING"})


class Action(StrEnum):
    """What is to be done with a secret."""

    NOTHING = "there"
    MAKE = "to be made"
    LATER = "yet to be made"
    TAG = "to be tagged"
    REFUSE = "in the way"


class Decision(
    Struct, frozen=True, kw_only=True, rename={"name": "secret", "action": "state", "is_done": "done"}
):
    """What becomes of a secret.

    Attributes:
        is_done: Whether it was made or tagged now.
        problems: Why it is refused, or what else is wrong with it, which is not changed.
        command: What a person runs where it is refused.
        tags: To be set; of a secret that is to be made, all that it gets.
    """

    name: str
    action: Action
    is_done: bool = False
    problems: tuple[str, ...] = ()
    command: str | None = None
    tags: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class StackTerms:
    """What the secrets of a stack in AWS get.

    Attributes:
        stack: `stack` in cdk.json.
        key: The ARN of the key; None: that of the stack, which has not been asked for it.
        tags: `tags` in cdk.json.
    """

    stack: str = DEFAULT_STACK
    key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def tags_of(self, one: Wanted) -> Mapping[str, str]:
        """All tags of a secret."""
        return {**self.tags, **one.tags(self.stack)}


def rotated_in_aws(plan: Plan, credential_ids: tuple[str, ...] = ()) -> list[Wanted]:
    """The secrets in AWS of the credentials of a plan; arguments as of `wanted`."""
    return [one for one in wanted(plan, credential_ids) if one.kind in ROTATED]


def in_aws(
    one: Wanted, found: Mapping[str, Any] | None, terms: StackTerms, *, consent: bool = False
) -> Decision:
    """What becomes of a secret in AWS.

    What people made keeps its tags, and so is of no use to the functions, until they consent with
    `lockstep secrets tag`.

    Args:
        one: What the plan names.
        found: What DescribeSecret says of what is there.
        terms: What it gets.
        consent: Whether what people made gets the two tags; then nothing is made.
    """
    if found is None:
        return _missing(one, terms, consent=consent)
    has = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    if problems := tuple(_problems(one, found, has, terms.stack)):
        restore = formatting.aws(one.region, "secretsmanager restore-secret", "--secret-id", one.name)
        return _refused(one.name, *problems, command=restore if "DeletedDate" in found else None)
    if STACK_TAG not in has and not consent:
        text = "it exists, and people made it: its value may be in use, and stays; its tags let the functions use it"
        command = lockstep("secrets", "tag", "--stack", terms.stack, "--yes")
        return _refused(one.name, text, command=command)
    tags = one.tags(terms.stack) if consent else terms.tags_of(one)
    lacking = {key: value for key, value in tags.items() if has.get(key) != value}
    return Decision(
        name=one.name,
        action=Action.TAG if lacking else Action.NOTHING,
        tags=lacking,
        problems=_other_key(found.get("KmsKeyId"), terms),
    )


def _missing(one: Wanted, terms: StackTerms, *, consent: bool) -> Decision:
    if not consent:
        return Decision(name=one.name, action=Action.MAKE, tags=terms.tags_of(one))
    if one.kind in ROTATED:
        text = "it is yet to be made, by `lockstep secrets create`"
        return Decision(name=one.name, action=Action.LATER, problems=(text,))
    return _refused(
        one.name, f"there is no such secret ({one.kind}); create it (docs/iam.md shows how)", command=None
    )


def _other_key(found: str | None, terms: StackTerms) -> tuple[str, ...]:
    own = terms.key or ""
    if found in {own, own.rpartition("/")[2], f"alias/{terms.stack}"} or not (own or found):
        return ()
    if not own:
        return (
            f"its key is {found}; where that is not the stack's own, adopt.keys of cdk.json must name it",
        )
    text = (
        f"its key is {found or 'that of Secrets Manager'}, not the stack's {own}; it stays; the functions may use it "
        "where adopt.keys of cdk.json names it"
    )
    return (text,)


class RingTerms(Struct, frozen=True, kw_only=True):
    """What each slot in OCI gets: the output `secrets` of Terraform.

    Attributes:
        region: Of the vault.
        compartment_id: Of the rings.
        vault_id: Of the plan's vault.
        key_id: The key that encrypts the slots.
        freeform_tags: Those of Terraform.
        defined_tags: Likewise, by `Namespace.Key`.
    """

    region: str
    compartment_id: str
    vault_id: str
    key_id: str
    freeform_tags: dict[str, str]
    defined_tags: dict[str, str] | None = None


def slots_in_oci(plan: Plan, credential_ids: tuple[str, ...] = ()) -> list[str]:
    """The names of the slots of a plan; arguments as of `wanted`."""
    names = [c.secret_names for c in _chosen(plan, credential_ids)]
    secrets = dict.fromkeys(name for pair in names for name in (pair.app_user, pair.connection_blob))
    return [slot_name(name, i) for name in secrets for i in range(plan.slots)]


def in_oci(name: str, found: Any, terms: RingTerms) -> Decision:  # noqa: ANN401 - of the SDK, which has no types
    """What becomes of a slot in OCI, of which the list of secrets says this. One that exists stays as it is."""
    if found is None or found.lifecycle_state == "DELETED":
        return Decision(name=name, action=Action.MAKE, tags=terms.freeform_tags)
    if found.compartment_id != terms.compartment_id:
        move = formatting.oci(
            terms.region,
            "vault secret change-compartment",
            *("--secret-id", found.id, "--compartment-id", terms.compartment_id),
        )
        text = f"it is in the compartment {found.compartment_id}, not in that of the rings"
        return _refused(name, text, command=move)
    if found.lifecycle_state in _PENDING:
        cancel = formatting.oci(terms.region, "vault secret cancel-secret-deletion", "--secret-id", found.id)
        return _refused(name, "it is scheduled for deletion; restore it", command=cancel)
    if found.lifecycle_state not in _USABLE:
        see = formatting.oci(terms.region, "vault secret get", "--secret-id", found.id)
        return _refused(name, f"it is {found.lifecycle_state}", command=see)
    other = found.key_id not in {None, terms.key_id}
    text = f"its key is {found.key_id}, not Terraform's {terms.key_id}; it stays"
    return Decision(name=name, action=Action.NOTHING, problems=(text,) if other else ())


def taken(name: str, command: str | None = None) -> Decision:
    """A name that the service refuses as taken, while the lists show no secret of it."""
    text = "it is refused as a name is that is taken: a secret of this name may be in another compartment"
    return _refused(name, text, command=command)


def _refused(name: str, *problems: str, command: str | None) -> Decision:
    return Decision(name=name, action=Action.REFUSE, problems=problems, command=command)


# How many writes a second: below a quota that all of an account share.

AWS_QUOTA = 50
"""CreateSecret, and TagResource likewise, a second in a region; neither can be raised
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
AWS_RATE = 25.0
"""Leaves half to what else the account does."""
OCI_RATE = 5.0
"""Oracle publishes no limit of Vault."""


# How the sides are deployed, as far as secrets depend on it: `cdk.json`, and an output of Terraform.


class _Adopt(Struct):
    encryption_key: str | None = None


class _Context(Struct):
    stack: str = DEFAULT_STACK
    tags: dict[str, str] = {}
    adopt: _Adopt | None = None


class _CdkJson(Struct):
    context: _Context


def stack_terms(cdk_json: object) -> StackTerms:
    """What the settings in `cdk.json` say; one that is not there has its default.

    Raises:
        ValueError: It has no settings, or one has another type.
    """
    context = _read(_CdkJson, cdk_json).context
    key = context.adopt.encryption_key if context.adopt else None
    return StackTerms(stack=context.stack, key=key, tags=context.tags)


def ring_terms(output: object, *, region: str) -> RingTerms:
    """What the output `secrets` of Terraform says.

    Args:
        output: The document.
        region: Of the plan's vault.

    Raises:
        ValueError: It is another document.
    """
    return _read(RingTerms, {**output, "region": region} if isinstance(output, dict) else output)


def _read(kind: type[T], given: object) -> T:
    try:
        return convert(given, kind)
    except ValidationError as error:
        raise ValueError(str(error)) from None


# Makes and tags secrets; what is done stays done, whenever it ends.
#
# A secret is made in one call, with its tags, so there is none that is half made: whoever repeats the work finds
# it, or finds nothing.

POLICY = RetryPolicy(
    errors=tuple(family(RetryableError)), attempts=5, interval_seconds=1, max_delay_seconds=30
)
"""For each call. Whoever waits holds up the calls after it, so that fewer are made."""
_LOOKS = replace(POLICY, errors=(StoreThrottledError,))


class Place(Protocol):
    """Where secrets are made."""

    def decide(self, name: str) -> Decision:
        """Look at a secret, as it is now, and say what becomes of it."""

    def make(self, decision: Decision) -> bool:
        """Make a secret with its tags, in one call; False: there is one of that name."""

    def tag(self, decision: Decision) -> None:
        """Set the tags of a secret that is there."""

    def taken(self, name: str) -> Decision:
        """What to say of a name that is taken by what cannot be seen."""


def settled(place: Place, decision: Decision, sleep: Callable[[float], None]) -> Decision:
    """Make or tag a secret, as it was decided; what became of it.

    Raises:
        LockstepError: An error that does not pass.
    """
    if decision.action is Action.TAG:
        POLICY.call(partial(place.tag, decision), sleep)
        return structs.replace(decision, is_done=True)
    if POLICY.call(partial(place.make, decision), sleep):
        return structs.replace(decision, is_done=True)
    # Somebody else has made it, or a reply of ours was lost.
    found = POLICY.call(partial(place.decide, decision.name), sleep)
    if found.action is Action.MAKE:
        return place.taken(decision.name)
    return structs.replace(found, action=Action.NOTHING) if found.action is Action.TAG else found


def looked_at(place: Place, name: str, sleep: Callable[[float], None]) -> Decision:
    """What becomes of a secret. A place that does not answer is not asked again: its address may be wrong.

    Raises:
        LockstepError: An error that does not pass.
    """
    return _LOOKS.call(partial(place.decide, name), sleep)


def tag(client: "SecretsManagerClient", name: str, tags: Mapping[str, str]) -> None:
    """Add tags; others stay.

    Raises:
        StoreAccessDeniedError: The identity may not tag it; likewise the other Store* errors.
    """
    with translated(STORE_ERRORS, store="aws", secret=name):
        client.tag_resource(SecretId=name, Tags=[{"Key": key, "Value": value} for key, value in tags.items()])


# AWS Secrets Manager: the secrets of credentials, as a place where secrets are made.
#
#     decide    DescribeSecret
#     make      CreateSecret, with the tags: there is no secret without them
#     tag       TagResource
#
# No value is ever read, or written into a secret that exists.


@dataclass(frozen=True, kw_only=True)
class StackSecrets:
    """The secrets of a stack, as a place where secrets are made.

    Attributes:
        client: Gives a client of a service in a region, which tries each call once.
        terms: What they get.
        wanted: What the plan names, by name.
        consent: Whether what people made is tagged, and nothing is made.
    """

    client: Client
    terms: StackTerms
    wanted: Mapping[str, Wanted]
    consent: bool = False

    def decide(self, name: str) -> Decision:
        """As `Place`.

        Raises:
            StoreAccessDeniedError: Likewise the other Store* errors.
        """
        client, found = self._at(name), None
        # It shows no value. Asked for here: threads that make a client's exceptions together get classes of their own.
        with (
            translated(STORE_ERRORS, store="aws", secret=name),
            suppress(client.exceptions.ResourceNotFoundException),
        ):
            found = client.describe_secret(SecretId=name)
        return in_aws(self.wanted[name], found, self.terms, consent=self.consent)

    def make(self, decision: Decision) -> bool:
        """As `Place`; errors as `decide`."""
        client = self._at(decision.name)
        with translated(STORE_ERRORS, store="aws", secret=decision.name):
            try:
                client.create_secret(
                    Name=decision.name,
                    Description=AWS_DESCRIPTION,
                    KmsKeyId=self.terms.key or "",
                    SecretString=FIRST_TEXT,
                    Tags=[{"Key": key, "Value": value} for key, value in decision.tags.items()],
                )
            except client.exceptions.ResourceExistsException:
                return False
        return True

    def tag(self, decision: Decision) -> None:
        """As `Place`; errors as `decide`."""
        tag(self._at(decision.name), decision.name, decision.tags)

    def taken(self, name: str) -> Decision:
        """As `Place`."""
        return taken(name)

    def _at(self, name: str) -> "SecretsManagerClient":
        found: SecretsManagerClient = self.client("secretsmanager", self.wanted[name].region)
        return found
