"""OCI Vault: one versioned secret in a ring of plain secrets (`lockstep.protocol.ring`)."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from lockstep.oci.vault import Absence, Content, Vault
from lockstep.protocol import ring
from lockstep.protocol.errors import (
    LockstepError,
    LostCompareAndSetError,
    ReadSideLaggingError,
    SecretMalformedError,
    SecretNotFoundError,
    StagedValueConflictError,
    StoreQuotaExceededError,
    StoreRejectedError,
)
from lockstep.protocol.names import VersionNames, slot_name
from lockstep.protocol.ports import Clock, Observed, SecretVersion, Staged, VersionName, moment, serving
from lockstep.protocol.ring import DELETION_LEAD, MAX_BYTES, SLOTS, Slot, Slots, Version
from lockstep.protocol.workers import SideBySide, one_after_the_other, run_all

ResultT = TypeVar("ResultT")


def version_id(slot: int, number: int) -> str:
    """The id of a version of a slot."""
    return f"{slot}:{number}"


def place_of(version: str) -> tuple[int, int]:
    """Slot and version number of a version id; (-1, 0) for a text that is none."""
    index, _, number = version.partition(":")
    return (int(index), int(number)) if index.isdecimal() and number.isdecimal() else (-1, 0)


class RingSlots:
    """Looks up and reads the slots of a ring; all of them at the same time. A version's id is `<slot>:<number>`.

    A slot is passed over only if the vault's list says so: it is deleted, or the reader does not know how many there
    are, and it is above the highest one that exists. Any other slot that cannot be read is an error: it may be the one
    with the newest value, and what the others hold may be revoked (protocol V13, V15).

    Args:
        vault: The vault that has the slots.
        versions_of: The secret's name, and the content names of its versions.
        count: How many slots the ring has; None for a reader, who does not know the plan.
        side_by_side: Asks all slots at the same time.
    """

    def __init__(
        self,
        vault: Vault,
        versions_of: VersionNames,
        *,
        count: int | None = None,
        side_by_side: SideBySide = one_after_the_other,
    ) -> None:
        self.names = [slot_name(versions_of.secret, i) for i in range(count or SLOTS)]
        self._vault = vault
        self._versions_of = versions_of
        self._is_counted = count is not None
        self._side_by_side = side_by_side

    # ---- By management's lists

    def look(self) -> Slots:
        """Every slot that there is, with its versions."""
        return self.each_alive(self.slot)

    def slot(self, index: int, secret_id: str) -> Slot:
        """One slot, with its versions."""
        versions = [
            Version(
                number=v.version_number,
                generation=self._versions_of.generation_of(v.name),
                stages=frozenset(v.stages),
                created_at=moment(v.time_created),
                is_pending_deletion=v.time_of_deletion is not None,
            )
            for v in self._vault.versions(self.names[index], secret_id)
        ]
        return Slot(index=index, secret_id=secret_id, versions=versions)

    def each_alive(self, ask: Callable[[int, str], ResultT]) -> tuple[ResultT, ...]:
        """Ask every slot that there is, by its index and OCID."""
        return self._side_by_side([partial(ask, i, secret_id) for i, secret_id in self.alive()])

    def alive(self) -> list[tuple[int, str]]:
        """Index and OCID of each slot; without those that are known to be deleted.

        Raises:
            SecretNotFoundError: There is no slot, or one is missing that is not above the highest one.
        """
        found = self._side_by_side([partial(self._vault.lookup, name) for name in self.names])
        listed = [i for i, place in enumerate(found) if place is not Absence.UNLISTED]
        needed = len(found) if self._is_counted else max(listed, default=0)
        for index, place in enumerate(found[:needed]):
            if place is Absence.UNLISTED:
                raise SecretNotFoundError(store=self._vault.store, secret=self.names[index])
        if all(isinstance(place, Absence) for place in found):
            raise SecretNotFoundError(store=self._vault.store, secret=self._versions_of.secret)
        return [(i, place) for i, place in enumerate(found) if isinstance(place, str)]

    def again(self, look: Callable[[], ResultT]) -> ResultT:
        """The result of a reading; a second one where a slot was deleted after its OCID was looked up."""
        try:
            return look()
        except LostCompareAndSetError:
            self._vault.forget(*self.names)
            return look()

    @contextmanager
    def missing_if_empty(self) -> Iterator[None]:
        """Raise SecretNotFoundError if a slot turns out to be deleted and no other is left."""
        try:
            yield
        except LostCompareAndSetError:
            self._vault.forget(*self.names)
            self.alive()
            raise

    def met(self, slot: Slot, generation: int) -> Slot:
        """The slot as it is after Vault refused a content name, if the generation is in it now.

        Raises:
            StagedValueConflictError: It is, but its deletion was scheduled.
            StoreRejectedError: It is not.
        """
        now = self.slot(slot.index, slot.secret_id)
        if ring.holder([now], generation):
            return now
        taken = any(v.generation == generation for v in now.versions)
        error = StagedValueConflictError if taken else StoreRejectedError
        raise error(store=self._vault.store, secret=self.names[slot.index], generation=generation)

    # ---- By the read side

    def served(self) -> Sequence[SecretVersion]:
        """The current version of each slot, in the order of the ring."""
        return self.again(lambda: self.each_alive(self._current))

    def newest(self) -> SecretVersion:
        """The current version of the slot with the highest generation: the value of the ring."""
        return serving(self.served())

    def read(self, slot: int, secret_id: str, **which: str | int) -> SecretVersion | None:
        """A version of a slot, by number or name as in `Vault.read`; None if the read side does not have it."""
        found = self._vault.read(self.names[slot], secret_id, **which)
        return self._version(slot, found) if found else None

    def _current(self, slot: int, secret_id: str) -> SecretVersion:
        return self._version(slot, self._vault.current(self.names[slot], secret_id))

    def _version(self, slot: int, content: Content) -> SecretVersion:
        return SecretVersion(
            id=version_id(slot, content.number),
            generation=self._versions_of.generation_of(content.name),
            text=content.text,
            created_at=content.created_at,
        )


# The versioned secret, in a ring of k slots.
#
# Management's list of versions decides which version is where; contents come from the read side.
#
#     operation          calls of one ring
#     read_current       k        get_secret_bundle, each slot
#     read_version       1        get_secret_bundle
#     read_generation    k + 1    list_secret_versions, each slot; get_secret_bundle, or get_secret if there is none
#     version_of         0        after an observation by the same object, until it prunes; else k
#     prepare            1        list_secret_versions, of the one slot, where it is known what the slots serve, else k;
#                                 update_secret to write; get_secret_bundle to read back what was there
#     from_seen          2        list_secret_versions and get_secret of one slot, at the same time;
#                                 update_secret to commit
#     observe            k + 1    list_secret_versions, each slot; get_secret; update_secret to commit
#     shows              1        get_secret_bundle
#     prune              1        schedule_secret_version_deletion, after a look by the same object; else k more
#     named              2 k      list_secrets and list_secret_versions, each slot
#
# and one list_secrets for each slot whose OCID the process does not know yet. A slot is passed over, with a
# warning, only if the list shows that it is deleted or scheduled for deletion (protocol V15).

READ_BACK_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.5
PRUNED_AT_ONCE = 5
"""Per slot. A rotation supersedes one version, so a few rotations remove what an outage left over."""


logger = logging.getLogger("lockstep")


class VaultRing:
    """The port `VersionedSecret` on one ring of one vault.

    The store's own id of a version is `<slot>:<version number>`.

    Args:
        vault: The vault that has the slots.
        names: The secret's name, and the content names of its versions.
        slots: How many slots the ring has.
        clock: For the bounded wait for the read side, and for the time of deletions.
        side_by_side: Asks all slots at the same time.
    """

    max_bytes = MAX_BYTES
    only_strings = True

    def __init__(
        self,
        vault: Vault,
        names: VersionNames,
        *,
        slots: int,
        clock: Clock,
        side_by_side: SideBySide = one_after_the_other,
    ) -> None:
        self._vault = vault
        self._names = names
        self._slots = RingSlots(vault, names, count=slots, side_by_side=side_by_side)
        self._clock = clock
        self._side_by_side = side_by_side
        # Seen by the last look before a promotion. Pruning can use it, since Vault deletes only superseded versions.
        self._seen: Slots = ()

    def read_current(self) -> SecretVersion:
        """The current version of the slot with the highest generation."""
        return self._slots.newest()

    def served(self) -> Sequence[SecretVersion]:
        """The current version of each slot, in the order of the ring."""
        return self._slots.served()

    def named(self) -> VersionName:
        """The current version of the slot with the highest generation, by its name.

        The OCIDs are looked up anew: management lists the versions of a deleted secret, too.
        """
        self._vault.forget(*self._slots.names)
        self._seen = self._slots.look()
        slot = ring.serving(self._seen)
        if slot.current is None:
            raise SecretMalformedError(store=self._vault.store, secret=self._slots.names[slot.index])
        return VersionName(id=version_id(slot.index, slot.current.number), generation=slot.generation)

    def read_version(self, version: str) -> SecretVersion | None:
        """A version by slot and version number; None if there is no such version or slot."""
        slot, number = place_of(version)
        secret_id = dict(self._slots.alive()).get(slot)
        if secret_id is None:
            return None
        return self._slots.read(slot, secret_id, version_number=number)

    def read_generation(self, generation: int) -> SecretVersion | None:
        """The version that holds a generation; None if there is none, or it is about to be deleted.

        For generation 0: what the first slot holds as CURRENT, else as PREVIOUS, if Lockstep did not write it.
        """
        return self._slots.again(lambda: self._read_generation(generation))

    def version_of(self, generation: int) -> str:
        """Slot and version number of a generation."""
        found = ring.holder(self._seen, generation) if self._seen else None
        found = found or ring.holder(self._slots.look(), generation)
        return version_id(found[0].index, found[1].number) if found else ""

    def prepare(self, generation: int, *, over: Sequence[SecretVersion] = ()) -> Callable[[str], Staged]:
        """Look where to stage. The write adds a PENDING version, unless a slot holds the generation in any stage.

        A generation that was only just named is in no slot, so it is enough to look at the slot that takes it, which
        follows from what the slots serve. If that slot has changed, or has no room, every slot is looked at.

        Raises:
            StoreQuotaExceededError: No slot has room.
        """
        slot = self._next_slot(over, generation) if over else None
        if slot is None:
            slots = self._slots.look()
            if found := ring.holder(slots, generation):
                return lambda _text: self._staged(found[0], generation, is_new=False)
            slot = ring.staging_slot(slots, generation)
        if slot is None:
            raise StoreQuotaExceededError(store=self._vault.store, secret=self._names.secret)
        seen = next((v.id for v in over if place_of(v.id)[0] == slot.index), "")
        return partial(self._put, slot, generation, seen)

    def _next_slot(self, over: Sequence[SecretVersion], generation: int) -> Slot | None:
        chosen = ring.staging_slot([_as_seen(v) for v in over], generation)
        secret_id = dict(self._slots.alive()).get(chosen.index) if chosen else None
        if chosen is None or secret_id is None:
            return None
        slot = self._slots.slot(chosen.index, secret_id)
        is_as_seen = slot.current and chosen.current and slot.current.number == chosen.current.number
        has_room = ring.has_room(slot, generation)
        return slot if is_as_seen and has_room and not ring.holder([slot], generation) else None

    def _put(self, slot: Slot, generation: int, seen: str, text: str) -> Staged:
        if slot.room <= 0:
            self._delete(slot, ring.disposable(slot, below=generation)[0])
        name = self._names.name_of(generation)
        is_new = self._vault.stage(self._slots.names[slot.index], slot.secret_id, name=name, text=text)
        if is_new:
            return self._staged(slot, generation, is_new=True, seen=seen)
        return self._staged(self._slots.met(slot, generation), generation, is_new=False)

    def from_seen(self, generation: int, seen: str) -> Observed:
        """Look at the slot in which the generation was staged; the commit makes it current there.

        What it served when the generation was staged must be what it serves now. The other slots need no comparison: if
        a lower generation is promoted there late, the ring's value stays.

        Raises:
            LostCompareAndSetError: It serves something else, or does not hold the generation.
        """
        index, number = place_of(seen)
        lost = LostCompareAndSetError(
            store=self._vault.store, secret=self._names.secret, generation=generation
        )
        secret_id = dict(self._slots.alive()).get(index)
        if secret_id is None:
            raise lost
        slot, state = run_all(
            self._side_by_side,
            partial(self._slots.slot, index, secret_id),
            partial(self._vault.state, self._slots.names[index], secret_id),
        )
        found = ring.holder([slot], generation)
        if found is None or slot.current is None or {slot.current.number, state.current_number} != {number}:
            raise lost
        self._seen = [slot]
        return self._observed(slot.generation, *found, state.etag)

    def observe(self, generation: int, *, seen: str = "") -> Observed:
        """Look at every slot; the commit makes the generation current in the slot that holds it.

        Raises:
            StoreRejectedError: No slot holds the generation.
            LostCompareAndSetError: The slot changed while it was looked at.
        """
        slots = self._seen = self._slots.look()
        serving = ring.serving(slots)
        if serving.current and serving.generation >= generation:
            current = version_id(serving.index, serving.current.number)
            return Observed(generation=serving.generation, version=current, commit=None)
        index, number = place_of(seen)
        staged_in = [slot for slot in slots if slot.index == index]
        # Where it is known in which slot it was staged, a version of that name in another one is not meant.
        found = (ring.holder(staged_in, generation) if staged_in else None) or ring.holder(slots, generation)
        if found is None:
            raise StoreRejectedError(
                store=self._vault.store, secret=self._names.secret, generation=generation
            )
        slot, version = found
        edit = ring.edited_since(slots, slot, version, seen=number if slot.index == index else None)
        replaces = version_id(slot.index, edit.number) if edit else ""
        return self._observed(serving.generation, slot, version, self._etag(slot, version), replaces=replaces)

    def _observed(
        self, generation: int, slot: Slot, version: Version, etag: str, *, replaces: str = ""
    ) -> Observed:
        name = self._slots.names[slot.index]
        return Observed(
            generation=generation,
            version=version_id(slot.index, version.number),
            replaces=replaces,
            commit=partial(self._vault.promote, name, slot.secret_id, version.number, etag=etag),
        )

    def _etag(self, slot: Slot, version: Version) -> str:
        """For making a version current in its slot, if that still serves what it served when it was looked at."""
        name = self._slots.names[slot.index]
        with self._slots.missing_if_empty():
            state = self._vault.state(name, slot.secret_id)
        if slot.current is None or state.current_number != slot.current.number:
            raise LostCompareAndSetError(store=self._vault.store, secret=name, generation=version.generation)
        return state.etag

    def prune(self) -> int:
        """Schedule the deletion of superseded versions, as many as Vault allows; return how many.

        Never raises a store's error: the rotation is done when this is called, and the next rotation prunes again.
        Each failure is a warning in the log. One that lasts ends in StoreQuotaExceededError, before any change.
        """
        try:
            slots = self._seen or self._slots.look()
        except LockstepError as error:
            _warn_not_pruned(error)
            return 0
        self._seen = ()  # The next look is a new one.
        newest = ring.serving(slots).generation
        return sum(self._side_by_side([partial(self._pruned, slot, below=newest) for slot in slots]))

    def _pruned(self, slot: Slot, *, below: int) -> int:
        count = 0
        for version in ring.disposable(slot, below=below)[:PRUNED_AT_ONCE]:
            try:
                self._delete(slot, version)
            except LockstepError as error:
                _warn_not_pruned(error)
                break
            count += 1
        return count

    def shows(self, version: str) -> bool:
        """Whether a slot serves the version.

        What the other slots serve need not be read: before the promotion it was lower, and a run that has promoted
        something higher since then has taken the lock.
        """
        index, number = place_of(version)
        secret_id = dict(self._slots.alive()).get(index)
        if secret_id is None:
            return False
        return self._vault.current(self._slots.names[index], secret_id).number == number

    def serves(self, matches: Callable[[str], bool]) -> bool:
        """Whether the current text of every slot matches."""
        return all(v.text is not None and matches(v.text) for v in self.served())

    def edit(self, text: str, *, unless: Callable[[str], bool]) -> None:
        """Make a text current in every slot, under a name that is not Lockstep's, unless a slot's text matches.

        The slot whose value is the ring's comes last: until then applications read what they read before.
        """
        slots = self._slots.look()
        serving = ring.serving(slots)
        for slot in sorted(slots, key=lambda slot: (slot is serving, slot.index)):
            name = self._slots.names[slot.index]
            etag = self._vault.state(name, slot.secret_id).etag
            held = self._vault.current(name, slot.secret_id).text
            if held is not None and unless(held):
                continue
            if slot.room <= 0 and (old := ring.disposable(slot, below=serving.generation)):
                self._delete(slot, old[0])
                etag = self._vault.state(name, slot.secret_id).etag
            self._vault.put_current(name, slot.secret_id, text, etag=etag)

    def _read_generation(self, generation: int) -> SecretVersion | None:
        slots = self._slots.look()
        found = ring.holder(slots, generation)
        if found is None:
            # Management lists the versions of a deleted secret, too. This raises if the secret itself is missing.
            self._vault.state(self._slots.names[slots[0].index], slots[0].secret_id)
            return None
        slot, version = found
        return self._arrived(slot, generation, version_number=version.number)

    def _staged(self, slot: Slot, generation: int, *, is_new: bool, seen: str = "") -> Staged:
        name = self._names.name_of(generation)

        def read_back() -> SecretVersion:
            with self._slots.missing_if_empty():
                return self._arrived(slot, generation, secret_version_name=name)

        return Staged(is_new=is_new, read_back=read_back, seen=seen)

    def _arrived(self, slot: Slot, generation: int, **which: str | int) -> SecretVersion:
        """A version that the slot holds, as soon as the read side has it.

        Raises:
            ReadSideLaggingError: It has not, after some seconds.
        """
        name = self._slots.names[slot.index]
        deadline = self._clock.monotonic() + READ_BACK_TIMEOUT_SECONDS
        while (found := self._slots.read(slot.index, slot.secret_id, **which)) is None:
            if self._clock.monotonic() >= deadline:
                raise ReadSideLaggingError(store=self._vault.store, secret=name, generation=generation)
            self._clock.sleep(POLL_SECONDS)
        return found

    def _delete(self, slot: Slot, version: Version) -> None:
        at = self._clock.now() + DELETION_LEAD
        self._vault.schedule_deletion(self._slots.names[slot.index], slot.secret_id, version.number, at=at)


def _as_seen(served: SecretVersion) -> Slot:
    """A slot by what it serves, without its other versions and its OCID."""
    index, number = place_of(served.id)
    version = Version(number=number, generation=served.generation, stages=frozenset({"CURRENT"}))
    return Slot(index=index, secret_id="", versions=(version,))


def _warn_not_pruned(error: LockstepError) -> None:
    logger.warning(json.dumps({"warning": "not pruned", "error": type(error).__name__, **error.where}))
