"""A secrets manager in memory."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from lockstep.protocol.errors import LostCompareAndSetError, SecretNotFoundError, StoreRejectedError
from lockstep.protocol.model import Credential, CredentialValue, Login, StoredValue, StoreVersions
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import MAX_TEXT_BYTES, Observed, SecretVersion, Staged, VersionName
from lockstep.protocol.workers import SideBySide
from lockstep.stores.contents import decode_app_user
from lockstep.stores.credential import CredentialStore
from tests.support.faults import Faults

SecretKind = Literal["app_user", "connection_blob"]
KINDS: tuple[SecretKind, ...] = ("app_user", "connection_blob")
OUR_KEYS: dict[SecretKind, set[str]] = {
    "app_user": {
        *("dbname", "engine", "format", "generation", "host", "lockstep_claim", "password"),
        *("port", "username"),
    },
    "connection_blob": {"credential", "databases", "dsn", "format", "generation"},
}
"""The keys that Lockstep writes; all others are other people's."""
PLACEHOLDER_TEXT = '{"placeholder":true}'
_WRITTEN = "generation-"
_MADE = datetime(2030, 1, 1, tzinfo=UTC)
"""When the first version of a secret was made; the others follow, each a second later."""


@dataclass
class Versions:
    """Versions by id and the labels on them, as a secrets manager keeps them."""

    versions: dict[str, str] = field(default_factory=dict)
    current: str = ""
    previous: str = ""

    def make_current(self, version: str) -> None:
        if version != self.current:
            self.current, self.previous = version, self.current


class MemorySecret:
    """The port `VersionedSecret` on one secret of a `MemoryStore`. Version ids are `generation-2` or `edit-2`."""

    def __init__(
        self, kept: dict[SecretKind, Versions], kind: SecretKind, faults: Faults, *, store: str, secret: str
    ) -> None:
        self._kept = kept
        self._kind = kind
        self._faults = faults
        self._where = {"store": store, "secret": secret}

    max_bytes = MAX_TEXT_BYTES

    @property
    def only_strings(self) -> bool:
        return self._where["store"] == "oci"

    def read_current(self) -> SecretVersion:
        return self._read(self._secret().current)

    def served(self) -> list[SecretVersion]:
        return [self.read_current()]

    def named(self) -> VersionName:
        current = self._secret().current
        return VersionName(id=current, generation=generation_of(current))

    def read_version(self, version: str) -> SecretVersion | None:
        return self._read(version) if version in self._secret().versions else None

    def read_generation(self, generation: int) -> SecretVersion | None:
        version = self.version_of(generation)
        return self._read(version) if version else None

    def version_of(self, generation: int) -> str:
        secret = self._secret()
        candidates = secret.versions if generation else (secret.current, secret.previous)
        return next((v for v in candidates if v and generation_of(v) == generation), "")

    def prepare(self, generation: int, *, over: Sequence[SecretVersion] = ()) -> Callable[[str], Staged]:
        return partial(self._put, generation, over[0].id if over else "")

    def _put(self, generation: int, seen: str, text: str) -> Staged:
        version = f"{_WRITTEN}{generation}"
        with self._faults.around(f"stage {self._kind}"):
            versions = self._secret().versions
            is_new = version not in versions
            versions.setdefault(version, text)
        return Staged(is_new=is_new, read_back=lambda: self._read(version), seen=seen if is_new else "")

    def from_seen(self, generation: int, seen: str) -> Observed:
        return self._observed(generation, seen)

    def observe(self, generation: int, *, seen: str = "") -> Observed:
        del seen
        with self._faults.around(f"describe {self._kind}"):
            current = self._secret().current
            return self._observed(generation, current, replaces="" if generation_of(current) else current)

    def _observed(self, generation: int, current: str, *, replaces: str = "") -> Observed:
        return Observed(
            generation=generation_of(current),
            version=f"{_WRITTEN}{generation}",
            replaces=replaces,
            commit=partial(self._commit, current, generation),
        )

    def shows(self, version: str) -> bool:
        return self._secret().current == version

    def prune(self) -> int:
        return 0

    def _commit(self, seen: str, generation: int) -> None:
        with self._faults.around(f"promote {self._kind}"):
            secret, version = self._secret(), f"{_WRITTEN}{generation}"
            if version not in secret.versions:
                raise StoreRejectedError(**self._where, generation=generation)
            if secret.current != seen:
                raise LostCompareAndSetError(**self._where)
            secret.make_current(version)

    def _read(self, version: str) -> SecretVersion:
        versions = self._secret().versions
        created_at = _MADE + timedelta(seconds=list(versions).index(version))
        return SecretVersion(
            id=version, generation=generation_of(version), text=versions[version], created_at=created_at
        )

    def _secret(self) -> Versions:
        if self._kind not in self._kept:
            raise SecretNotFoundError(**self._where)
        return self._kept[self._kind]


def generation_of(version: str) -> int:
    """The generation that a version's id names; 0 for an edit."""
    return int(version.removeprefix(_WRITTEN)) if version.startswith(_WRITTEN) else 0


class MemoryStore(CredentialStore):
    """The shipped rules on two secrets in memory, with faults around each operation and each write.

    Attributes:
        lagging_reads: How many more calls of `shows` answer that nothing has arrived yet.
    """

    def __init__(
        self, name: str, credential: Credential, kept: dict[SecretKind, Versions] | None = None
    ) -> None:
        self.faults = Faults()
        self.lagging_reads = 0
        self._secrets = {kind: Versions() for kind in KINDS} if kept is None else kept
        self._edits = itertools.count(1)
        super().__init__(name, credential, self._open_secret)
        if kept is None:
            for kind in KINDS:
                self.edit(kind, PLACEHOLDER_TEXT)

    def _open_secret(self, names: VersionNames) -> MemorySecret:
        is_user = names.secret == self._credential.secret_names.app_user
        kind: SecretKind = "app_user" if is_user else "connection_blob"
        return MemorySecret(self._secrets, kind, self.faults, store=self.name, secret=names.secret)

    def secret(self, kind: SecretKind) -> MemorySecret:
        """One of the two secrets."""
        names = self._credential.secret_names
        secret = names.app_user if kind == "app_user" else names.connection_blob
        return self._open_secret(VersionNames(credential_id=self._credential.id, secret=secret))

    def runs(self, side_by_side: SideBySide) -> None:
        """Ask for both secrets in this way from now on."""
        self._side_by_side = side_by_side

    def another_client(self) -> "MemoryStore":
        """The same secrets as another runner sees them, with faults of its own."""
        other = MemoryStore(self.name, self._credential, self._secrets)
        other._edits = self._edits
        return other

    def edit(self, secret: SecretKind, text: str) -> None:
        """Make a text current, as a person would in the console."""
        version = f"edit-{next(self._edits)}"
        self._secrets[secret].versions[version] = text
        self._secrets[secret].make_current(version)

    def forge(self, secret: SecretKind, generation: int, text: str) -> None:
        """Make a text current under the name of a generation, as an attacker would."""
        version = f"{_WRITTEN}{generation}"
        self._secrets[secret].versions[version] = text
        self._secrets[secret].make_current(version)

    def remove(self, secret: SecretKind) -> None:
        """Delete a secret."""
        del self._secrets[secret]

    def current_text(self, secret: SecretKind) -> str:
        """What an application reads."""
        found = self._secrets[secret]
        return found.versions[found.current]

    def current_login(self) -> Login | None:
        """What an application logs in with, read without any fault."""
        return decode_app_user(self.current_text("app_user"), store=self.name, secret="app_user")[0]

    def read_current(self) -> StoredValue:
        with self.faults.around("read_current"):
            return super().read_current()

    def read_version(self, version: str) -> CredentialValue | None:
        with self.faults.around("read_version"):
            return super().read_version(version)

    def read_generation(self, generation: int) -> CredentialValue | None:
        with self.faults.around("read_generation"):
            return super().read_generation(generation)

    def shows(self, promoted: StoreVersions) -> bool:
        with self.faults.around("shows"):
            if self.lagging_reads:
                self.lagging_reads -= 1
                return False
            return super().shows(promoted)
