"""The arithmetic of a ring of plain secrets: which slot comes next, and whether Vault's quota of versions lasts.

Each rotation of a ring adds a version to one slot; a slot's turn comes every `slots` intervals. What is superseded is
scheduled for deletion, a day ahead at least, and is gone when Vault purges it, which may be half a day later. Until
then it counts against one of two caps per secret: 30 versions in use, 30 pending deletion
(https://docs.oracle.com/iaas/Content/secret-management/Concepts/secret-versions.htm).

In the long run a slot loses at most 30 versions in the time from scheduling to purge. A ring that gains more fills the
cap of pending deletions first, then that of versions in use, and then the next staging is refused: it has wedged. The
slots are alike, so what holds for one of them holds for the ring.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_IN_USE = 30
MAX_PENDING_DELETION = 30
"""The limits of one secret (https://docs.oracle.com/iaas/Content/secret-management/Concepts/secret-versions.htm)."""

MAX_BYTES = 25_600
"""The most that a version keeps: 25 KB."""

KEPT_SUPERSEDED = 1
"""Lockstep's DEPRECATED versions that stay: a repeated ApplyDb still has to show that the newest is revoked."""

DELETION_LEAD = timedelta(hours=24, minutes=10)
"""How far ahead a deletion is scheduled: a day at least (https://docs.oracle.com/iaas/api/#/en/secretmgmt/20180608/),
and some clock skew."""

PURGE_LATENESS = timedelta(hours=12)
"""The longest expected delay of a purge; Oracle promises no limit."""

SLOTS = 4
"""How many slots a ring has: with so many an interval of 20 minutes stays within the quota."""


def slots_at(place: int) -> int:
    """How many slots a ring has in the store at a place of the plan: one in the first, which decides (protocol V13)."""
    return SLOTS if place else 1


def fits_quota(interval: timedelta, slots: int) -> bool:
    """Whether a ring of so many slots can be rotated at this interval for ever: `slots_at` says how many it has."""
    return interval * slots * MAX_PENDING_DELETION >= DELETION_LEAD + PURGE_LATENESS


# The ring: one secret that changes every 20 minutes, kept in k plain OCI secrets (protocol V13).
#
# Pure, without I/O.
#
# A Vault secret takes about 30 versions a day (`lockstep.protocol.ring`), so `multi-cloud/app_user` is
# kept in OCI as the slots `multi-cloud.app_user.0` … `multi-cloud.app_user.<k-1>`, which take turns. A slot's
# generation is that of its CURRENT version, and **the ring's value is the value of the slot with the highest
# generation**. The promotion of one slot is the commit, so no separate pointer can lag behind.
#
# A version's generation comes from its content name (`lockstep.protocol.names`), never from its text. Applications
# must read the ring in the same way: the highest generation by *version name*.


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a slot, without its content."""

    number: int
    generation: int
    stages: frozenset[str]
    created_at: datetime | None = None
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
        """The version that the slot serves."""
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
    """The slot whose value is the ring's; the first slot if Lockstep has promoted none."""
    return max(slots, key=lambda slot: (slot.generation, -slot.index))


def holder(slots: Slots, generation: int) -> tuple[Slot, Version] | None:
    """The slot and version that hold a generation, a slot that serves it first.

    Generation 0 is what Lockstep found in the first slot, as long as that is CURRENT or PREVIOUS there.
    """
    if generation == 0:
        first = slots[0]
        found = (first.in_stage(stage) for stage in ("CURRENT", "PREVIOUS"))
        return next(((first, v) for v in found if v and v.generation == 0), None)
    ranked = sorted(slots, key=lambda slot: slot.generation != generation)
    versions = ((s, v) for s in ranked for v in s.versions if v.generation == generation)
    return next(((s, v) for s, v in versions if not v.is_pending_deletion), None)


def edited_since(slots: Slots, slot: Slot, staged: Version, *, seen: int | None = None) -> Version | None:
    """What a slot serves, if a person wrote it and a version that was staged there may not know.

    In a ring of several slots the staged version knows what all of them served, so only a later one counts: what is in
    this slot since before the first rotation may be older than an edit of another slot.

    Args:
        slots: All of the ring.
        slot: Where the version was staged.
        staged: The version.
        seen: What the slot served when the staged text was made, if that is known.
    """
    current = slot.current
    if current is None or current.generation:
        return None
    if seen is not None:
        return current if current.number != seen else None
    is_later = current.created_at and staged.created_at and current.created_at > staged.created_at
    return current if is_later or len(slots) == 1 else None


def staging_slot(slots: Slots, generation: int) -> Slot | None:
    """The slot in which to stage a generation: the one that serves the lowest; None if no slot has room.

    The slot whose value is the ring's is used only if there is no other: a pending version does not change what is
    current, but a slot that no application reads is safer to touch. Of the slots without a generation the last comes
    first, so that a login taken over in the first slot stays readable for longest. The choice depends only on the
    slots: two runners with one claim choose the same slot, and the second finds the content name taken.
    """
    idle = [slot for slot in slots if len(slots) == 1 or slot is not serving(slots)]
    ranked = sorted(idle, key=lambda slot: (slot.generation, -slot.index))
    return next((s for s in ranked if has_room(s, generation)), None)


def has_room(slot: Slot, generation: int) -> bool:
    """Whether a generation can be staged in a slot, at once or in the place of one that is not needed any more."""
    return slot.room > 0 or bool(disposable(slot, below=generation))


def disposable(slot: Slot, *, below: int) -> list[Version]:
    """The versions of a slot that are no longer needed and whose deletion can be scheduled, oldest first.

    Lockstep does not delete versions that it did not write.

    Args:
        slot: The slot.
        below: The ring's generation, or the one that is about to be staged. A lower one that is neither current nor
            previous is revoked or was abandoned. A higher one may be in flight in any stage.
    """
    revoked = sorted(
        (
            v
            for v in slot.versions
            if "DEPRECATED" in v.stages and not v.is_pending_deletion and 0 < v.generation < below
        ),
        key=lambda v: v.number,
    )
    return revoked[:-KEPT_SUPERSEDED][: max(slot.deletions_left, 0)]
