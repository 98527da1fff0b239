"""The port of a secrets manager: one secret with its versions, which is what an adapter of a store implements.

The steps do not see it: they use `lockstep.ports.Store`, which `lockstep.stores.CredentialStore` makes of two secrets.
What `lockstep.ports` says of ports holds for this one, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretVersion:
    """One version of a secret, as it was read.

    Attributes:
        id: The store's own id of the version.
        generation: The generation in the version's name; 0 if Lockstep did not write the version.
        text: Its content; None if that is not text.
        created_at: When it was made, by the store's clock; None if the store does not say.
    """

    id: str
    generation: int
    text: str | None = field(repr=False)
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionName:
    """A version of a secret by its name alone; attributes as those of `SecretVersion`."""

    id: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """What staging a version did.

    Attributes:
        is_new: Whether this call wrote the version; False if the secret already held the generation.
        read_back: Reads the version that the secret holds under the generation now. Raises ReadSideLaggingError if
            the read side does not have it yet.
        seen: The id of what the promotion will replace, as it was when the staged text was made; empty where that is
            not known.
    """

    is_new: bool
    read_back: Callable[[], SecretVersion]
    seen: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What was seen of a secret before a promotion.

    Attributes:
        generation: The generation that was current.
        version: The id of the version that has the wanted generation.
        commit: Makes the wanted generation current if what was observed still is; else LostCompareAndSetError. Not to
            be called, and None in some adapters, if the generation that was current is not lower than the wanted one.
        replaces: The store's own id of the version that the commit replaces, if Lockstep did not write that and the
            wanted one may have been made without a look at it; else empty.
    """

    generation: int
    version: str
    commit: Callable[[], None] | None
    replaces: str = ""


class VersionedSecret(Protocol):
    """One secret of a secrets manager, whose versions are named by generation (`lockstep.version_names`).

    The whole of what an adapter of a store implements; `lockstep.stores.CredentialStore` has the rules.

    Errors of every method: the Store* families, SecretNotFoundError, SecretMalformedError.
    """

    @property
    def max_bytes(self) -> int:
        """The most that the store keeps in one version."""

    @property
    def only_strings(self) -> bool:
        """Whether every member of a text is written as a string (protocol V23)."""

    def read_current(self) -> SecretVersion:
        """The version that applications read now, from the read side."""

    def served(self) -> Sequence[SecretVersion]:
        """Every version that some reader may read as current: one for each slot of a ring (protocol V18)."""

    def read_version(self, version: str) -> SecretVersion | None:
        """A version by the store's own id; None if there is none."""

    def read_generation(self, generation: int) -> SecretVersion | None:
        """The version that holds a generation, whether current or not; None if there is none.

        For generation 0: the current version if Lockstep did not write it, else the previous one if Lockstep did not
        write that.
        """

    def version_of(self, generation: int) -> str:
        """The store's own id of the version that `read_generation` reads; empty if there is none."""

    def prepare(self, generation: int, *, over: Sequence[SecretVersion] = ()) -> Callable[[str], Staged]:
        """Look at what staging a generation needs. Changes nothing.

        Args:
            generation: The generation.
            over: What `served` answered, where this run has just named the generation. Then an adapter may look at
                less, and `Staged.seen` says which of these versions the promotion will replace.

        Returns:
            Writes a text as a pending version, unless the secret already holds that generation. What is current stays.

        Raises:
            StoreQuotaExceededError: The secret has no room for another version. The write may raise it, too.
        """

    def from_seen(self, generation: int, seen: str) -> Observed:
        """For a compare-and-set that makes a generation current in the place of the version that staging has seen.

        Raises:
            LostCompareAndSetError: That is not current any more. An adapter may leave this to `commit`.
        """

    def observe(self, generation: int, *, seen: str = "") -> Observed:
        """Look at what is current, for a compare-and-set that makes a generation current.

        Args:
            generation: The generation.
            seen: What staging has seen there, if that is known: what a person wrote later has not been looked at.

        Raises:
            StoreRejectedError: The secret does not hold that generation. An adapter may leave this to `commit`.
        """

    def shows(self, version: str) -> bool:
        """Whether the read side has a version as what its place serves."""

    def spread(self, generation: int, *, gently: bool = False) -> Sequence[Observed]:
        """Stage a generation that is current in every slot that serves a lower one (protocol V19).

        Args:
            generation: The generation.
            gently: Only in the ring's own slots, as far as they have room.

        Returns:
            What makes it current there; nothing for a secret that is no ring.
        """

    def prune(self) -> int:
        """Remove superseded versions if the store does not do so by itself; return how many."""
