"""Secrets of a fleet that the plan does not name any more. Nothing here deletes one."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from lockstep.adoption import ROTATED, Found
from lockstep.doctor import commands
from lockstep.provision.decide import FoundSlot
from lockstep.tags import SECRET_TAG

_WINDOW_DAYS = "30"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A secret of no credential.

    Attributes:
        command: What schedules its deletion.
    """

    name: str
    command: str


def in_aws(listed: Iterable[tuple[str, Found]], named: Collection[str], *, region: str) -> Iterator[Orphan]:
    """Rotated secrets of the stack that the plan does not name.

    Args:
        listed: Secrets with the stack's tag, by name.
        named: What the plan names.
        region: Where they are.
    """
    for name, found in listed:
        if name not in named and not found.is_deleted and found.tags.get(SECRET_TAG) in ROTATED:
            delete = commands.aws(
                region,
                "secretsmanager delete-secret",
                *("--secret-id", name, "--recovery-window-in-days", _WINDOW_DAYS),
            )
            yield Orphan(name=name, command=delete)


def in_oci(
    listed: Iterable[tuple[str, FoundSlot]], named: Collection[str], *, region: str
) -> Iterator[Orphan]:
    """Secrets in the rings' compartment that are no slot of the plan; arguments as of `in_aws`."""
    for name, found in listed:
        if name not in named and found.is_usable:
            delete = commands.oci(region, "vault secret schedule-secret-deletion", "--secret-id", found.id)
            yield Orphan(name=name, command=delete)
