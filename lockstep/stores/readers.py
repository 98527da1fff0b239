"""What readers see of a credential: its secrets by the names of their versions, and which value a reader keeps.

A credential's secrets by the names of their versions: which generation a store has as current, without any value.

A version's name spells its generation (`lockstep.protocol.names`), so whoever may list versions can tell whether the
stores are in sync, and need not be able to read a password. Names do not say what a version holds that Lockstep did not
write, nor whether a text is what its name says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lockstep.protocol.errors import ReadSideLaggingError
from lockstep.protocol.model import Credential
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import VersionName
from lockstep.protocol.workers import SideBySide, one_after_the_other


class NamedSecret(Protocol):
    """A versioned secret as the list of its versions shows it. Reads no content.

    Errors of every method: as `lockstep.protocol.ports.VersionedSecret`.
    """

    def named(self) -> VersionName:
        """The version that is current; of a ring, in the slot whose value is the ring's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNames:
    """What a store has as current, by names. Attributes as those of `lockstep.protocol.model.StoredValue`."""

    generation: int
    blob_generation: int
    version: str


class NamedStore:
    """A credential's two secrets in one store.

    Args:
        name: The store's name in the plan.
        credential: The credential.
        open_secret: Makes the adapter for one secret.
        side_by_side: Asks for both secrets at the same time.
    """

    def __init__(
        self,
        name: str,
        credential: Credential,
        open_secret: Callable[[VersionNames], NamedSecret],
        *,
        side_by_side: SideBySide = one_after_the_other,
    ) -> None:
        self.name = name
        self._side_by_side = side_by_side
        names = credential.secret_names
        self._user, self._blob = (
            open_secret(VersionNames(credential_id=credential.id, secret=secret))
            for secret in (names.app_user, names.connection_blob)
        )

    def read(self) -> StoredNames:
        """Which generation is current in both secrets."""
        user, blob = self._side_by_side([self._user.named, self._blob.named])
        return StoredNames(generation=user.generation, blob_generation=blob.generation, version=user.id)


# Which value a reader keeps of those that stores show: the rules of the client and of the agent.
#
# 1. The nearest store is asked first; the next one where it fails, or shows an older value than the one that is kept,
# or, for a caller who wants another value, the same. Who reads many values at once asks a store that was silent
# last.
# 2. Generations only grow, so a lower one is older, whichever store shows it: that store lags. Generation 0 was put
# there by a person (ADR 3) and says nothing about its age: it replaces any value, and any value replaces it.
# 3. A value logs in for an overlap after a store was last seen to serve it (protocol I1), counted from before that
# look.
# 4. A value that was refused, or that is kept for longer than that, gives way to the newest of what stores show, also
# to a lower generation: a store that was made anew counts from 1.
# 5. A value that was refused does not come back while the one that is kept counts.


class Generated(Protocol):
    """A value of a generation. Two are equal if they are the same value, wherever it was read."""

    @property
    def generation(self) -> int:
        """0 if Lockstep did not write it."""


Value = TypeVar("Value", bound=Generated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Generic[Value]):
    """A value that a store has shown.

    Attributes:
        source: The store's name.
        at: When the look began, in seconds of the reader's clock.
    """

    value: Value
    source: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadResult(Generic[Value]):
    """What came of asking the stores.

    Attributes:
        chosen: To be kept from now on; None: no store has shown such a value, and `failed` is not empty.
        failed: Why a store was passed over, the nearest first.
    """

    chosen: Snapshot[Value] | None
    failed: Mapping[str, Exception]


def is_older(one: Generated, other: Generated) -> bool:
    """Whether a value is older than another (rule 2)."""
    return 0 < one.generation < other.generation


def read_newest(
    sources: Mapping[str, Callable[[], Value]],
    clock: Callable[[], float],
    *,
    kept: Value | None,
    is_over: bool = False,
    unwanted: Value | None = None,
) -> ReadResult[Value]:
    """Ask the stores, one after the other, until one shows a value to keep.

    Args:
        sources: What reads a store, by its name, the nearest first.
        clock: Seconds that only grow.
        kept: What is kept, or was refused.
        is_over: Whether it does not count any more (rule 4).
        unwanted: A value of which another one is wanted, if there is one: what is kept, or was refused before it.
    """
    shown: list[Snapshot[Value]] = []
    failed: dict[str, Exception] = {}
    for name, read in sources.items():
        at = clock()
        try:
            seen = Snapshot(value=read(), source=name, at=at)
        except Exception as error:  # noqa: BLE001 - a defect in reading one store must not hide the next
            failed[name] = error
            continue
        shown.append(seen)
        if kept is not None and is_older(seen.value, kept):
            failed[name] = ReadSideLaggingError(store=name)
        elif seen.value != unwanted:
            return ReadResult(chosen=seen, failed=failed)
        elif seen.value != kept:
            failed[name] = ReadSideLaggingError(store=name, code="refused-login")
    left = [s for s in shown if is_over or s.source not in failed]
    chosen = max(left, key=lambda s: (s.value != unwanted, s.value.generation), default=None)
    return ReadResult(chosen=chosen, failed=failed)
