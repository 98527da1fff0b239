"""What becomes of each secret of a plan: made, tagged, left alone, or refused; and AWS, where it is done.

What a secret holds and says of itself before its first rotation.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from msgspec import Struct, convert, structs

from lockstep.aws.clients import translated
from lockstep.aws.reads import Client
from lockstep.operate import formatting
from lockstep.operate.verdict import lockstep
from lockstep.plan.credentials import is_plain_name
from lockstep.plan.model import Plan
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.deadlines import RetryPolicy
from lockstep.protocol.errors import STORE_ERRORS, RetryableError, StoreThrottledError, family
from lockstep.protocol.model import AdminSecret, Credential
from lockstep.protocol.names import DEFAULT_STACK, SECRET_TAG, STACK_TAG, SecretKind, slot_name
from lockstep.stores.contents import PLACEHOLDER

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_secretsmanager.type_defs import TagTypeDef

FIRST_TEXT: Final = json.dumps({PLACEHOLDER: "the first rotation replaces this"}, separators=(",", ":"))
"""The first content, in both clouds. It is no secret."""

# Which secrets in AWS a stack uses, what their tags must be, and what stands in the way of using them.

ROTATED = (SecretKind.APP_USER, SecretKind.CONNECTION_BLOB)
"""What Lockstep writes. The other kinds it only reads."""


class Wanted(NamedTuple):
    """A secret that the plan names in a region, and that the functions know by its tags."""

    name: str
    kind: SecretKind
    region: str

    def tags(self, stack: str) -> Mapping[str, str]:
        """The tags that it must have for a stack."""
        return {STACK_TAG: stack, SECRET_TAG: self.kind.value}


def wanted(plan: Plan, credentials: Sequence[Credential] = ()) -> list[Wanted]:
    """Every secret in AWS that the functions know by its tags, each once.

    Args:
        plan: The plan.
        credentials: Only the secrets of these, and those that all need; none: of all.
    """
    return list(dict.fromkeys(_wanted(plan, credentials or plan.credentials)))


def _wanted(plan: Plan, credentials: Sequence[Credential]) -> Iterator[Wanted]:
    home, runner = plan.compiled.secrets_region, plan.runners.aws
    for names in (c.secret_names for c in credentials if plan.store(AwsSecretsManager)):
        yield Wanted(names.app_user, SecretKind.APP_USER, home)
        yield Wanted(names.connection_blob, SecretKind.CONNECTION_BLOB, home)
    for admin in (server.admin for credential in credentials for server in credential.servers):
        if isinstance(admin, AdminSecret) and is_plain_name(admin.aws):
            yield Wanted(admin.aws, SecretKind.ADMIN, home)
    for name in runner.secrets.values():
        reads = name == runner.oci_reader_key_secret
        yield Wanted(name, SecretKind.RUNNER_READER_KEY if reads else SecretKind.RUNNER_KEY, home)


def _problems(
    one: Wanted, found: Mapping[str, Any], has: Mapping[str, str], stack: str
) -> Iterator[tuple[str, str | None]]:
    """What stands in the way of using a secret, with the command that ends it."""
    for key, value in one.tags(stack).items():
        if (other := has.get(key, value)) != value:
            says = (
                f"its tag {key} is {other!r}, not {value!r}; if nothing uses it as that any more, remove the tag and "
                "repeat this, else name a secret of this stack's own in the plan, or a rotation user's by its ARN"
            )
            yield says, None
    act = partial(formatting.aws, one.region)
    if "DeletedDate" in found:
        yield "it is scheduled for deletion", act("secretsmanager restore-secret", "--secret-id", one.name)
    if (primary := found.get("PrimaryRegion", one.region)) != one.region:
        says = f"it is a replica of a secret in {primary}, which cannot be written or tagged; name that one"
        yield says, None
    if owner := found.get("OwningService"):
        says = f"{owner} manages it and may change it at any time; give it in the plan by its ARN or its rds!… name"
        yield says, None
    if found.get("RotationEnabled") and one.kind in ROTATED:
        off = act("secretsmanager cancel-rotate-secret", "--secret-id", one.name)
        yield "Secrets Manager rotates it by itself, and only one may", off


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
        problems: Why it is refused, or who is yet to make it.
        command: What a person runs, where it is refused or yet to be made.
        tags: To be set; of a secret that is to be made, all that it gets.
    """

    name: str
    action: Action
    is_done: bool = False
    problems: tuple[str, ...] = ()
    command: str | None = None
    tags: Mapping[str, str] = {}


class StackTerms(Struct, frozen=True, kw_only=True):
    """What the secrets of a stack in AWS get.

    Attributes:
        stack: `stack` in cdk.json.
        key: The ARN of the key; None: that of the stack, which has not been asked for it.
        tags: `tags` in cdk.json.
    """

    stack: str = DEFAULT_STACK
    key: str | None = None
    tags: Mapping[str, str] = {}

    def tags_of(self, one: Wanted) -> Mapping[str, str]:
        """All tags of a secret."""
        return {**self.tags, **one.tags(self.stack)}


def rotated_in_aws(plan: Plan, credentials: Sequence[Credential] = ()) -> list[Wanted]:
    """The secrets in AWS of the credentials of a plan; arguments as of `wanted`."""
    return [one for one in wanted(plan, credentials) if one.kind in ROTATED]


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
    if problems := list(_problems(one, found, has, terms.stack)):
        return _refused(one.name, *problems)
    if STACK_TAG not in has and not consent:
        text = "it exists, and people made it: its value may be in use, and stays; its tags let the functions use it"
        command = lockstep("secrets", "tag", "--stack", terms.stack, "--yes")
        return _refused(one.name, (text, command))
    tags = one.tags(terms.stack) if consent else terms.tags_of(one)
    lacking = {key: value for key, value in tags.items() if has.get(key) != value}
    return Decision(name=one.name, action=Action.TAG if lacking else Action.NOTHING, tags=lacking)


def _missing(one: Wanted, terms: StackTerms, *, consent: bool) -> Decision:
    if not consent:
        return Decision(name=one.name, action=Action.MAKE, tags=terms.tags_of(one))
    if one.kind in ROTATED:
        text = "it is yet to be made, by `lockstep secrets create`"
        command = lockstep("secrets", "create", "--cloud", "aws", "--stack", terms.stack)
        return Decision(name=one.name, action=Action.LATER, problems=(text,), command=command)
    words = "--name", one.name, "--secret-string", "file://secret.json"
    command = formatting.aws(one.region, "secretsmanager create-secret", *words)
    text = f"there is no such secret ({one.kind}); create it (docs/iam.md shows how)"
    return _refused(one.name, (text, command))


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

    region: str = ""
    compartment_id: str
    vault_id: str
    key_id: str
    freeform_tags: dict[str, str]
    defined_tags: dict[str, str] | None = None


def slots_in_oci(plan: Plan, credentials: Sequence[Credential] = ()) -> list[str]:
    """The names of the slots of a plan; arguments as of `wanted`."""
    names = [c.secret_names for c in credentials or plan.credentials]
    secrets = dict.fromkeys(name for pair in names for name in (pair.app_user, pair.connection_blob))
    return [slot_name(name, i) for name in secrets for i in range(plan.slots)]


def in_oci(name: str, found: Any, terms: RingTerms) -> Decision:  # noqa: ANN401 - of the SDK, which has no types
    """What becomes of a slot in OCI, of which the list of secrets says this. One that exists stays as it is."""
    if found is None or found.lifecycle_state == "DELETED":
        return Decision(name=name, action=Action.MAKE, tags=terms.freeform_tags)
    if found.compartment_id != terms.compartment_id:
        words = "--secret-id", found.id, "--compartment-id", terms.compartment_id
        move = formatting.oci(terms.region, "vault secret change-compartment", *words)
        text = f"it is in the compartment {found.compartment_id}, not in that of the rings"
        return _refused(name, (text, move))
    wrong = unusable_in_oci(found, terms.region)
    return _refused(name, wrong) if wrong else Decision(name=name, action=Action.NOTHING)


def unusable_in_oci(found: Any, region: str) -> tuple[str, str] | None:  # noqa: ANN401 - likewise
    """What is wrong with the state of a secret in OCI, and the command about it; None: nothing is."""
    about = "--secret-id", found.id
    if found.lifecycle_state in _PENDING:
        cancel = formatting.oci(region, "vault secret cancel-secret-deletion", *about)
        return "it is scheduled for deletion", cancel
    if found.lifecycle_state not in _USABLE:
        return f"it is {found.lifecycle_state}", formatting.oci(region, "vault secret get", *about)
    return None


def _refused(name: str, *problems: tuple[str, str | None]) -> Decision:
    """For these reasons, each with its command if it has one; the first is shown."""
    command = next((command for _, command in problems if command), None)
    return Decision(
        name=name, action=Action.REFUSE, problems=tuple(says for says, _ in problems), command=command
    )


# How many writes a second: below a quota that all of an account share.

AWS_RATE = 25.0
"""Leaves half to what else the account does: 50 CreateSecret, and 50 TagResource, a second in a region; neither can be
raised (https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
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
    context = convert(cdk_json, _CdkJson).context
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
    return structs.replace(convert(output, RingTerms), region=region)


# Makes and tags secrets; what is done stays done, whenever it ends.
#
# A secret is made in one call, with its tags, so there is none that is half made: whoever repeats the work finds
# it, or finds nothing.

POLICY = RetryPolicy(
    errors=tuple(family(RetryableError)), attempts=5, interval_seconds=1, max_delay_seconds=30
)
"""For each call. Whoever waits holds up the calls after it, so that fewer are made."""


class Place(Protocol):
    """Where secrets are made."""

    def decide(self, name: str) -> Decision:
        """Look at a secret, as it is now, and say what becomes of it."""

    def carry_out(self, decision: Decision) -> bool:
        """Make a secret with its tags, or tag it, in one call; False: there is one of that name."""

    def search(self, name: str) -> str | None:
        """The command that finds a secret which the lists do not show; None: there is none."""


def settled(place: Place, decision: Decision, sleep: Callable[[float], None]) -> Decision:
    """Make or tag a secret, as it was decided; what became of it.

    Raises:
        LockstepError: An error that does not pass.
    """
    if POLICY.call(partial(place.carry_out, decision), sleep):
        return structs.replace(decision, is_done=True)
    # Somebody else has made it, or a reply of ours was lost.
    found = POLICY.call(partial(place.decide, decision.name), sleep)
    if found.action is Action.MAKE:
        text = "it is refused as a name is that is taken: a secret of this name may be in another compartment"
        return _refused(decision.name, (text, place.search(decision.name)))
    return structs.replace(found, action=Action.NOTHING) if found.action is Action.TAG else found


def looked_at(place: Place, name: str, sleep: Callable[[float], None]) -> Decision:
    """What becomes of a secret. A place that does not answer is not asked again: its address may be wrong.

    Raises:
        LockstepError: An error that does not pass.
    """
    return replace(POLICY, errors=(StoreThrottledError,)).call(partial(place.decide, name), sleep)


def made(place: Place, names: Sequence[str], sleep: Callable[[float], None]) -> list[str]:
    """Make those of these secrets that are missing; their names.

    Raises:
        LockstepError: An error that does not pass.
    """
    missing = [d for d in (looked_at(place, name, sleep) for name in names) if d.action is Action.MAKE]
    return [decision.name for decision in missing if settled(place, decision, sleep).is_done]


# AWS Secrets Manager: the secrets of credentials, as a place where secrets are made.
#
#     decide    DescribeSecret
#     carry_out CreateSecret, with the tags: there is no secret without them; TagResource
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

    def carry_out(self, decision: Decision) -> bool:
        """As `Place`; errors as `decide`."""
        client = self._at(decision.name)
        tags: list[TagTypeDef] = [{"Key": key, "Value": value} for key, value in decision.tags.items()]
        with translated(STORE_ERRORS, store="aws", secret=decision.name):
            if decision.action is Action.TAG:
                client.tag_resource(SecretId=decision.name, Tags=tags)
                return True
            try:
                client.create_secret(
                    Name=decision.name,
                    Description="Lockstep rotates this secret",
                    KmsKeyId=self.terms.key or "",
                    SecretString=FIRST_TEXT,
                    Tags=tags,
                )
            except client.exceptions.ResourceExistsException:
                return False
        return True

    def search(self, name: str) -> None:
        """As `Place`."""

    def _at(self, name: str) -> "SecretsManagerClient":
        found: SecretsManagerClient = self.client("secretsmanager", self.wanted[name].region)
        return found
