"""How an application reads a ring: the newest of the slots that it reads, by version names (protocol V13, V15, V16)."""

from lockstep.errors import (
    LostCompareAndSetError,
    ReadSideLaggingError,
    SecretNotFoundError,
    StoreAccessDeniedError,
)
from lockstep.oci.vault import Absence, Content, Vault
from lockstep.store_kinds.oci_budget import MAX_SLOTS
from lockstep.store_kinds.oci_names import slot_name
from lockstep.version_names import VersionNames


class RingReader:
    """Reads the value of a ring.

    A slot is passed over only if the vault's list says so: it is deleted, or it is above the highest slot that exists,
    since readers learn of a slot before it is created. Any other slot that cannot be read is an error: it may be the
    one with the newest value, and what the others hold may be dead.

    Args:
        vault: The vault that has the slots.
        names: The secret's name, and the content names of its versions.
        slots: How many slots this application reads at least. Where a next one exists that it may read, it reads that
            one too, so that a ring which grew before its readers locks none of them out.
    """

    def __init__(self, vault: Vault, names: VersionNames, *, slots: int) -> None:
        self._vault = vault
        self._names = names
        self._slots = slots

    def newest(self) -> tuple[str, Content]:
        """Name and content of the slot with the highest generation.

        Raises:
            SecretNotFoundError: There is no slot, or one is missing below another one.
            StoreAccessDeniedError: This identity lacks a right on a slot; likewise the other Store* errors.
        """
        found = [(name, self._own(name)) for name in map(self._name, range(self._slots))]
        self._refuse_gaps(found)
        read = [(name, content) for name, content in found if isinstance(content, Content)]
        if found[-1][1] is not Absence.UNLISTED:
            read += self._beyond()
        if not read:
            raise SecretNotFoundError(store=self._vault.store, secret=self._names.secret)
        return max(read, key=lambda item: self._names.generation_of(item[1].name))

    def _own(self, name: str) -> Content | Absence:
        try:
            return self._current(name)
        except LostCompareAndSetError:
            return self._current(name)  # It was deleted after its OCID was looked up.

    def _beyond(self) -> list[tuple[str, Content]]:
        read = []
        for name in map(self._name, range(self._slots, MAX_SLOTS)):
            try:
                content = self._own(name)
            except (StoreAccessDeniedError, ReadSideLaggingError):
                break  # A slot that it was not told to read owes it nothing.
            if content is Absence.UNLISTED:
                break
            if isinstance(content, Content):
                read.append((name, content))
        return read

    def _current(self, name: str) -> Content | Absence:
        place = self._vault.lookup(name)
        return place if isinstance(place, Absence) else self._vault.current(name, place)

    def _refuse_gaps(self, found: list[tuple[str, Content | Absence]]) -> None:
        listed = [i for i, (_, content) in enumerate(found) if content is not Absence.UNLISTED]
        for name, content in found[: max(listed, default=0)]:
            if content is Absence.UNLISTED:
                raise SecretNotFoundError(store=self._vault.store, secret=name)

    def _name(self, slot: int) -> str:
        return slot_name(self._names.secret, slot)
