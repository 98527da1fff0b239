"""The slots of a ring, as the management side of a vault shows them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

from lockstep.errors import (
    LostCompareAndSetError,
    SecretNotFoundError,
    StagedValueConflictError,
    StoreRejectedError,
)
from lockstep.extras import moment
from lockstep.oci import ring
from lockstep.oci.ring import Slot, Slots, Version
from lockstep.oci.vault import Absence, Vault
from lockstep.store_kinds.oci_names import slot_name
from lockstep.version_names import VersionNames
from lockstep.workers import SideBySide

ResultT = TypeVar("ResultT")


class RingSlots:
    """Looks slots up, and lists their versions; all slots at the same time.

    Args:
        vault: The vault that has the slots.
        names: The secret's name, and the content names of its versions.
        count: How many slots the ring has.
        readers: How many slots applications read, at least as many.
        side_by_side: Asks all slots at the same time.
    """

    def __init__(
        self, vault: Vault, names: VersionNames, *, count: int, readers: int, side_by_side: SideBySide
    ) -> None:
        self.count = count
        self.names = [slot_name(names.secret, i) for i in range(readers)]
        self._vault = vault
        self._versions_of = names
        self._side_by_side = side_by_side

    def look(self) -> Slots:
        """Every slot that there is, with its versions."""
        return self.each_alive(self.slot)

    def slot(self, index: int, secret_id: str) -> Slot:
        """One slot, with its versions."""
        versions = self._versions(index, secret_id)
        return Slot(index=index, secret_id=secret_id, versions=versions, in_ring=index < self.count)

    def each_alive(self, ask: Callable[[int, str], ResultT]) -> tuple[ResultT, ...]:
        """Ask every slot that there is, by its index and OCID."""
        return self._side_by_side([partial(ask, i, secret_id) for i, secret_id in self.alive()])

    def alive(self) -> list[tuple[int, str]]:
        """Index and OCID of each slot; without those that are known to be deleted, and those still to be created."""
        found = self._side_by_side([partial(self._vault.lookup, name) for name in self.names])
        for index, place in enumerate(found[: self.count]):
            if place is Absence.UNLISTED:
                raise SecretNotFoundError(store=self._vault.store, secret=self.names[index])
        if all(isinstance(place, Absence) for place in found[: self.count]):
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
        now = replace(slot, versions=self._versions(slot.index, slot.secret_id))
        if ring.holder([now], generation):
            return now
        taken = any(v.generation == generation for v in now.versions)
        error = StagedValueConflictError if taken else StoreRejectedError
        raise error(store=self._vault.store, secret=self.names[slot.index], generation=generation)

    def _versions(self, index: int, secret_id: str) -> list[Version]:
        return [
            Version(
                number=v.version_number,
                generation=self._versions_of.generation_of(v.name),
                stages=frozenset(v.stages),
                created_at=moment(v.time_created),
                is_pending_deletion=v.time_of_deletion is not None,
            )
            for v in self._vault.versions(self.names[index], secret_id)
        ]
