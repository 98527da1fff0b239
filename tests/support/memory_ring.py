"""A ring of plain secrets in memory, as `lockstep.stores.ring` keeps one."""

from collections.abc import Callable, Sequence
from functools import partial

from lockstep.protocol.errors import LostCompareAndSetError, StoreRejectedError
from lockstep.protocol.ports import Observed, SecretVersion, Staged
from tests.support.memory_store import MemorySecret, Versions, generation_of, version_of


class RingVersions(Versions):
    """Versions in slots. What is current is what the slot with the highest generation serves."""

    def __init__(self, slots: int) -> None:
        self.versions: dict[str, str] = {}
        self.previous = ""
        self.slots = [""] * slots
        self.staged_in: dict[str, int] = {}

    @property
    def serving(self) -> int:
        """The slot that is the ring's value."""
        return max(range(len(self.slots)), key=lambda i: (generation_of(self.slots[i]), -i))

    @property
    def current(self) -> str:  # type: ignore[override]  # it follows from the slots
        return self.slots[self.serving]

    def make_current(self, version: str) -> None:
        """In the slot where it was staged; an edit in the slot that is served."""
        self.serve(self.staged_in.get(version, self.serving), version)

    def make_current_everywhere(self, version: str) -> None:
        before = self.current
        self.slots, self.previous = [version] * len(self.slots), before

    def serve(self, slot: int, version: str) -> None:
        """Make a slot serve a version."""
        before = self.current
        self.slots[slot] = version
        if self.current != before:
            self.previous = before


class MemoryRing(MemorySecret):
    """The port `VersionedSecret` on a ring of a `MemoryStore`."""

    def served(self) -> list[SecretVersion]:
        return [self._read(version) for version in self._ring().slots]

    def _ring(self) -> RingVersions:
        ring = self._secret()
        assert isinstance(ring, RingVersions)
        return ring

    def prepare(self, generation: int, *, over: Sequence[SecretVersion] = ()) -> Callable[[str], Staged]:
        served = [version.id for version in over] or self._ring().slots
        serving = max(range(len(served)), key=lambda i: (generation_of(served[i]), -i))
        slot = min(
            (i for i in range(len(served)) if i != serving), key=lambda i: (generation_of(served[i]), -i)
        )
        return partial(self._put_in, slot, generation, served[slot] if over else "")

    def _put_in(self, slot: int, generation: int, seen: str, text: str) -> Staged:
        version = version_of(generation)
        with self._faults.around(f"stage {self._kind}"):
            ring = self._ring()
            is_new = version not in ring.versions
            if is_new:
                ring.versions[version], ring.staged_in[version] = text, slot
        return Staged(is_new=is_new, read_back=lambda: self._read(version), seen=seen if is_new else "")

    def from_seen(self, generation: int, seen: str) -> Observed:
        return self._in_slot(generation, seen)

    def observe(self, generation: int, *, seen: str = "") -> Observed:
        del seen
        with self._faults.around(f"describe {self._kind}"):
            ring = self._ring()
            if generation_of(ring.current) >= generation:
                return Observed(generation=generation_of(ring.current), version=ring.current, commit=None)
            served = ring.slots[ring.staged_in[version_of(generation)]]
            return self._in_slot(generation, served, replaces="" if generation_of(served) else served)

    def _in_slot(self, generation: int, served: str, *, replaces: str = "") -> Observed:
        ring, version = self._ring(), version_of(generation)
        if version not in ring.staged_in:
            raise StoreRejectedError(**self._where, generation=generation)
        return Observed(
            generation=generation_of(served),
            version=version,
            replaces=replaces,
            commit=partial(self._commit_in, ring.staged_in[version], served, version),
        )

    def _commit_in(self, slot: int, seen: str, version: str) -> None:
        with self._faults.around(f"promote {self._kind}"):
            ring = self._ring()
            if ring.slots[slot] != seen:
                raise LostCompareAndSetError(**self._where)
            ring.serve(slot, version)

    def spread(self, generation: int, *, gently: bool = False) -> list[Observed]:
        del gently  # There is room in every slot.
        ring, version = self._ring(), version_of(generation)
        return [
            Observed(
                generation=generation_of(served),
                version=version,
                replaces="" if generation_of(served) else served,
                commit=partial(self._commit_in, slot, served, version),
            )
            for slot, served in enumerate(ring.slots)
            if generation_of(served) < generation
        ]

    def shows(self, version: str) -> bool:
        return version in self._ring().slots
