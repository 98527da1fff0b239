"""The contents of a ring's slots, from the read side of a vault."""

from lockstep.errors import ReadSideLaggingError
from lockstep.oci.ring import Slot
from lockstep.oci.ring_slots import RingSlots
from lockstep.oci.vault import Content, Vault
from lockstep.ports import Clock
from lockstep.version_names import VersionNames
from lockstep.versioned_secret import SecretVersion

READ_BACK_TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.5


class RingContents:
    """Reads the versions of slots. The id of one is `<slot>:<version number>`.

    Args:
        vault: The vault that has the slots.
        names: The content names of the secret's versions.
        slots: The slots.
        clock: For the bounded wait for the read side.
    """

    def __init__(self, vault: Vault, names: VersionNames, slots: RingSlots, clock: Clock) -> None:
        self._vault = vault
        self._names = names
        self._slots = slots
        self._clock = clock

    def current(self, slot: int, secret_id: str) -> SecretVersion:
        """What a slot serves."""
        return self._version(slot, self._vault.current(self._slots.names[slot], secret_id))

    def read(self, slot: int, secret_id: str, **which: str | int) -> SecretVersion | None:
        """A version of a slot, by number or name as in `Vault.read`; None if the read side does not have it."""
        found = self._vault.read(self._slots.names[slot], secret_id, **which)
        return self._version(slot, found) if found else None

    def arrived(self, slot: Slot, generation: int, **which: str | int) -> SecretVersion:
        """A version that the slot holds, as soon as the read side has it.

        Raises:
            ReadSideLaggingError: It has not, after some seconds.
        """
        name = self._slots.names[slot.index]
        deadline = self._clock.monotonic() + READ_BACK_TIMEOUT_SECONDS
        while (found := self.read(slot.index, slot.secret_id, **which)) is None:
            if self._clock.monotonic() >= deadline:
                raise ReadSideLaggingError(store=self._vault.store, secret=name, generation=generation)
            self._clock.sleep(POLL_SECONDS)
        return found

    def _version(self, slot: int, content: Content) -> SecretVersion:
        return SecretVersion(
            id=version_id(slot, content.number),
            generation=self._names.generation_of(content.name),
            text=content.text,
            created_at=content.created_at,
        )


def version_id(slot: int, number: int) -> str:
    """The id of a version of a slot."""
    return f"{slot}:{number}"


def place_of(version: str) -> tuple[int, int]:
    """Slot and version number of a version id; (-1, 0) for a text that is none."""
    index, _, number = version.partition(":")
    return (int(index), int(number)) if index.isdecimal() and number.isdecimal() else (-1, 0)
