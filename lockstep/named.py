"""A credential's secrets by the names of their versions: which generation a store has as current, without any value.

A version's name spells its generation (`lockstep.version_names`), so whoever may list versions can tell whether the
stores are in step, and need not be able to read a password. Names do not say what a version holds that Lockstep did not
write, nor whether a text is what its name says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from lockstep.model import Credential
from lockstep.version_names import VersionNames
from lockstep.versioned_secret import VersionName
from lockstep.workers import SideBySide, one_after_the_other


class NamedSecret(Protocol):
    """A versioned secret as the list of its versions shows it. Reads no content.

    Errors of every method: as `lockstep.versioned_secret.VersionedSecret`.
    """

    def named(self) -> VersionName:
        """The version that is current; of a ring, in the slot whose value is the ring's."""

    def made_at(self, generation: int) -> datetime | None:
        """When the version of a generation was made, by the store's clock; None if the secret does not have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNames:
    """What a store has as current, by names. Attributes as those of `lockstep.model.StoredValue`."""

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

    def staged_at(self, generation: int) -> datetime | None:
        """When a generation was staged in `app_user`; None if it was not."""
        return self._user.made_at(generation)
