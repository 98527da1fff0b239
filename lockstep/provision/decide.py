"""What becomes of one secret: made, tagged, left alone, or refused. No cloud is asked here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lockstep.adoption import ROTATED, Found, Wanted, judge, wanted
from lockstep.doctor import commands
from lockstep.plan import Plan
from lockstep.store_kinds.oci_names import slot_name
from lockstep.store_kinds.oci_vault import OciVault
from lockstep.tags import STACK_TAG

_PENDING = frozenset({"PENDING_DELETION", "SCHEDULING_DELETION"})
_USABLE = frozenset({"ACTIVE", "CREATING", "UPDATING"})


class Deed(StrEnum):
    """What is to be done with a secret."""

    NOTHING = "there"
    MAKE = "to be made"
    TAG = "to be tagged"
    REFUSE = "in the way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a secret.

    Attributes:
        tags: To be set; of a secret that is to be made, all that it gets.
        problems: Why it is refused, or what else is wrong with it, which is not changed.
        command: What a person runs where it is refused.
    """

    name: str
    deed: Deed
    tags: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    command: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StackTerms:
    """What the secrets of a stack in AWS get.

    Attributes:
        stack: `stack` in cdk.json.
        key: The ARN of the key.
        tags: `tags` in cdk.json.
    """

    stack: str
    key: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def tags_of(self, one: Wanted) -> Mapping[str, str]:
        """All tags of a secret."""
        return {**self.tags, **one.tags(self.stack)}


def rotated_in_aws(plan: Plan, credential_ids: tuple[str, ...] = ()) -> list[Wanted]:
    """The secrets in AWS of the credentials of a plan.

    Args:
        plan: The plan.
        credential_ids: Of these credentials; none: of all.
    """
    names = set(_names(plan, credential_ids))
    return [one for one in wanted(plan) if one.kind in ROTATED and one.name in names]


def _names(plan: Plan, credential_ids: tuple[str, ...]) -> list[str]:
    """The names of the secrets of credentials, as in the plan."""
    chosen, every = frozenset(credential_ids), not credential_ids
    names = [c.secret_names for c in plan.credentials if every or c.id in chosen]
    return [name for pair in names for name in (pair.app_user, pair.connection_blob)]


def in_aws(one: Wanted, found: Found | None, terms: StackTerms) -> Decision:
    """What becomes of a secret in AWS.

    What people made keeps its tags, and so is of no use to the functions, until they consent with
    `lockstep secrets tag`.

    Args:
        one: What the plan names.
        found: What is there.
        terms: What it gets.
    """
    tags = terms.tags_of(one)
    if found is None:
        return Decision(name=one.name, deed=Deed.MAKE, tags=tags)
    judged = judge(one, found, stack=terms.stack)
    if judged.problems:
        restore = commands.aws(one.region, "secretsmanager restore-secret", "--secret-id", one.name)
        return _refused(one.name, *judged.problems, command=restore if found.is_deleted else None)
    if STACK_TAG not in found.tags:
        text = "it exists, and people made it: its value may be in use, and stays; its tags let the functions use it"
        command = commands.lockstep("secrets", "tag", "--stack", terms.stack, "--yes")
        return _refused(one.name, text, command=command)
    lacking = {key: value for key, value in tags.items() if found.tags.get(key) != value}
    return Decision(
        name=one.name,
        deed=Deed.TAG if lacking else Deed.NOTHING,
        tags=lacking,
        problems=() if _is_key(found.key, terms) else (_other_key(found.key, terms.key),),
    )


def _is_key(found: str | None, terms: StackTerms) -> bool:
    return found in {terms.key, terms.key.rpartition("/")[2], f"alias/{terms.stack}"}


def _other_key(found: str | None, wanted_key: str) -> str:
    return (
        f"its key is {found or 'that of Secrets Manager'}, not the stack's {wanted_key}; it stays; the functions may "
        "use it where adopt.keys of cdk.json names it"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSlot:
    """A secret in OCI as it is.

    Attributes:
        id: Its OCID.
        compartment_id: Where it is.
        lifecycle: Its lifecycle state.
        key_id: The OCID of its key.
    """

    id: str
    compartment_id: str
    lifecycle: str
    key_id: str | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it is there, and stays."""
        return self.lifecycle in _USABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class RingTerms:
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
    freeform_tags: Mapping[str, str]
    defined_tags: Mapping[str, str] = field(default_factory=dict)


def slots_in_oci(plan: Plan, vault: OciVault, credential_ids: tuple[str, ...] = ()) -> list[str]:
    """The names of the slots of a plan, those included that only readers read; arguments as of `rotated_in_aws`."""
    return list(
        dict.fromkeys(
            slot_name(name, i) for name in _names(plan, credential_ids) for i in range(vault.slots_of_readers)
        )
    )


def in_oci(name: str, found: FoundSlot | None, terms: RingTerms) -> Decision:
    """What becomes of a slot in OCI. One that exists stays as it is."""
    if found is None or found.lifecycle == "DELETED":
        return Decision(name=name, deed=Deed.MAKE, tags=terms.freeform_tags)
    if found.compartment_id != terms.compartment_id:
        move = commands.oci(
            terms.region,
            "vault secret change-compartment",
            *("--secret-id", found.id, "--compartment-id", terms.compartment_id),
        )
        text = f"it is in the compartment {found.compartment_id}, not in that of the rings"
        return _refused(name, text, command=move)
    if found.lifecycle in _PENDING:
        cancel = commands.oci(terms.region, "vault secret cancel-secret-deletion", "--secret-id", found.id)
        return _refused(name, "it is scheduled for deletion; restore it", command=cancel)
    if not found.is_usable:
        see = commands.oci(terms.region, "vault secret get", "--secret-id", found.id)
        return _refused(name, f"it is {found.lifecycle}", command=see)
    other = found.key_id not in {None, terms.key_id}
    text = f"its key is {found.key_id}, not Terraform's {terms.key_id}; it stays"
    return Decision(name=name, deed=Deed.NOTHING, problems=(text,) if other else ())


def taken(name: str, command: str | None = None) -> Decision:
    """A name that the service refuses as taken, while the lists show no secret of it."""
    text = "it is refused as a name is that is taken: a secret of this name may be in another compartment"
    return _refused(name, text, command=command)


def _refused(name: str, *problems: str, command: str | None) -> Decision:
    return Decision(name=name, deed=Deed.REFUSE, problems=problems, command=command)
