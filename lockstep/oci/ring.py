"""The ring: one secret that changes every 20 minutes, kept in k plain OCI secrets. Pure, without I/O.

A Vault secret takes about 30 versions a day (`lockstep.store_kinds.oci_budget`), so `multi-cloud/app_user` stands in
OCI as the slots `multi-cloud.app_user.0` … `multi-cloud.app_user.<k-1>`, which take turns. A slot's generation is that
of its CURRENT version, and **the ring's value is the value of the slot with the highest generation**. The promotion of
one slot is the commit; there is no pointer that could lag behind.

What Lockstep wrote is known by the version's content name, never by its text:

    lockstep.7c9f3d1e60b4a2f9.000000000042
             └──── whose ───┘ └─ which ─┘
             SHA-256 of credential   generation,
             id and secret           12 decimal digits

A version under any other name is generation 0, also one that somebody copied in the console, generation and all.
Applications have to read the ring in the same way: highest generation by *version name*; a slot that does not exist
is passed over, so that a ring can grow.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.store_kinds.oci_budget import KEPT_SUPERSEDED, MAX_IN_USE, MAX_PENDING_DELETION
from lockstep.store_kinds.oci_vault import oci_name

_GENERATION_DIGITS = 12


def version_name(credential_id: str, secret: str, generation: int) -> str:
    """The content name under which Lockstep writes a generation into a slot."""
    digest = hashlib.sha256(f"{credential_id}\n{oci_name(secret)}".encode()).hexdigest()
    return f"lockstep.{digest[:16]}.{generation:0{_GENERATION_DIGITS}d}"


def generation_of(name: str | None, credential_id: str, secret: str) -> int:
    """The generation that a content name spells; 0 where Lockstep did not write that version."""
    own = version_name(credential_id, secret, 0)[:-_GENERATION_DIGITS]
    match = re.fullmatch(re.escape(own) + rf"([0-9]{{{_GENERATION_DIGITS}}})", name or "")
    return int(match[1]) if match else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a slot, without its content."""

    number: int
    generation: int
    stages: frozenset[str]
    is_pending_deletion: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A slot as the management side shows it.

    Attributes:
        index: Its place in the ring.
        secret_id: Its OCID.
        versions: All of them, in any order.
    """

    index: int
    secret_id: str
    versions: Sequence[Version]

    def in_stage(self, stage: str) -> Version | None:
        """The newest version in a stage."""
        return max((v for v in self.versions if stage in v.stages), key=lambda v: v.number, default=None)

    @property
    def current(self) -> Version | None:
        """What the slot serves."""
        return self.in_stage("CURRENT")

    @property
    def generation(self) -> int:
        """The generation that the slot serves."""
        return self.current.generation if self.current else 0

    @property
    def room(self) -> int:
        """How many versions may still be added."""
        return MAX_IN_USE - sum(not v.is_pending_deletion for v in self.versions)

    @property
    def deletions_left(self) -> int:
        """How many deletions may still be scheduled."""
        return MAX_PENDING_DELETION - sum(v.is_pending_deletion for v in self.versions)


Slots = Sequence[Slot]


def serving(slots: Slots) -> Slot:
    """The slot whose value is the ring's; the first one where Lockstep has promoted none."""
    return max(slots, key=lambda slot: (slot.generation, -slot.index))


def holder(slots: Slots, generation: int) -> tuple[Slot, Version] | None:
    """Where a generation stands, serving slot first; for 0 what was found in the first slot, while a stage names it."""
    if generation == 0:
        first = slots[0]
        found = (first.in_stage(stage) for stage in ("CURRENT", "PREVIOUS"))
        return next(((first, v) for v in found if v and v.generation == 0), None)
    ranked = sorted(slots, key=lambda slot: slot.generation != generation)
    standing = ((s, v) for s in ranked for v in s.versions if v.generation == generation)
    return next(((s, v) for s, v in standing if not v.is_pending_deletion), None)


def staging_slot(slots: Slots, generation: int) -> Slot | None:
    """Where a generation is to be staged: the slot that serves the lowest; None where none has room.

    Never the one whose value is the ring's, unless there is no other: a staged version does not harm what is
    current, but what nobody reads is safer to touch. Of slots without a generation the last comes first, so that a
    login taken over in the first one stays readable for longest. The choice depends on nothing but the slots, so
    that two runners with one claim choose the same, and the second meets the first's content name.
    """
    idle = [slot for slot in slots if len(slots) == 1 or slot is not serving(slots)]
    ranked = sorted(idle, key=lambda slot: (slot.generation, -slot.index))
    return next((s for s in ranked if s.room > 0 or disposable(s, below=generation)), None)


def disposable(slot: Slot, *, below: int) -> list[Version]:
    """The versions of a slot whose deletion can be scheduled and that nobody needs any more, oldest first.

    Args:
        slot: The slot.
        below: The ring's generation, or the one that is about to be staged: any other below it that is neither
            current nor previous is dead or was abandoned. One above it may be in flight, whatever its stage.

    What Lockstep did not write is not Lockstep's to delete.
    """
    dead = sorted(
        (
            v
            for v in slot.versions
            if "DEPRECATED" in v.stages and not v.is_pending_deletion and 0 < v.generation < below
        ),
        key=lambda v: v.number,
    )
    return dead[:-KEPT_SUPERSEDED][: max(slot.deletions_left, 0)]
