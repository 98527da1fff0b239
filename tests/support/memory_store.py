"""A secrets manager in memory."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from lockstep.contents import decode_app_user, decode_blob_generation, encode_app_user, encode_connection_blob
from lockstep.errors import (
    FenceLostError,
    LostCompareAndSetError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreRejectedError,
)
from lockstep.model import Credential, CredentialValue, Login, StoredValue
from tests.support.faults import Faults

SecretKind = Literal["app_user", "connection_blob"]
KINDS: tuple[SecretKind, ...] = ("app_user", "connection_blob")
PLACEHOLDER_TEXT = '{"placeholder":true}'


@dataclass
class _Secret:
    """Versions by name and the labels on them, as a secrets manager keeps them."""

    versions: dict[str, str] = field(default_factory=dict)
    current: str = ""
    previous: str = ""

    def make_current(self, version: str) -> None:
        if version != self.current:
            self.current, self.previous = version, self.current


_WRITTEN = "generation-"


def _written_generation(version: str) -> int:
    return int(version.removeprefix(_WRITTEN)) if version.startswith(_WRITTEN) else 0


class MemoryStore:
    """A secrets manager with both secrets of one credential.

    Attributes:
        lagging_reads: How many more calls of `serves` answer that nothing has arrived yet.
    """

    def __init__(self, name: str, credential: Credential) -> None:
        self.faults = Faults()
        self.lagging_reads = 0
        self._name = name
        self._credential = credential
        self._secrets: dict[SecretKind, _Secret] = {"app_user": _Secret(), "connection_blob": _Secret()}
        self._edits = itertools.count(1)
        self.edit("app_user", PLACEHOLDER_TEXT)
        self.edit("connection_blob", PLACEHOLDER_TEXT)

    @property
    def name(self) -> str:
        return self._name

    def another_client(self) -> "MemoryStore":
        """The same secrets as another runner sees them, with faults of its own."""
        other = copy.copy(self)
        other.faults = Faults()
        return other

    def edit(self, secret: SecretKind, text: str) -> None:
        """Make a text current, as a person would in the console."""
        version = f"edit-{next(self._edits)}"
        self._secrets[secret].versions[version] = text
        self._secrets[secret].make_current(version)

    def remove(self, secret: SecretKind) -> None:
        """Delete a secret."""
        del self._secrets[secret]

    def current_text(self, secret: SecretKind) -> str:
        """What an application reads."""
        found = self._secret(secret)
        return found.versions[found.current]

    def current_login(self) -> Login | None:
        """What an application logs in with, read without any fault."""
        return self._decode_user(self._secret("app_user").current)[0]

    def read_current(self) -> StoredValue:
        with self.faults.around("read_current"):
            user, blob = self._secret("app_user"), self._secret("connection_blob")
            login, generation = self._decode_user(user.current)
            return StoredValue(
                login=login,
                generation=generation,
                blob_generation=self._decode_blob(blob.current),
                version=user.current,
            )

    def read_version(self, version: str) -> Login | None:
        with self.faults.around("read_version"):
            known = version in self._secret("app_user").versions
            return self._decode_user(version)[0] if known else None

    def read_generation(self, generation: int) -> CredentialValue | None:
        with self.faults.around("read_generation"):
            version = self._version_of(generation)
            login = self._decode_user(version)[0] if version else None
            return CredentialValue(generation, login) if login else None

    def stage(self, value: CredentialValue) -> CredentialValue:
        version = f"{_WRITTEN}{value.generation}"
        with self.faults.around("stage app_user"):
            user = self._secret("app_user")
            user.versions.setdefault(version, encode_app_user(value, self._credential))
            login, _ = self._decode_user(version)
        if login is None:
            raise SecretMalformedError(store=self.name, secret=self._name_of("app_user"))
        standing = CredentialValue(value.generation, login)
        with self.faults.around("stage connection_blob"):
            blob = self._secret("connection_blob")
            blob.versions.setdefault(version, encode_connection_blob(standing, self._credential))
        return standing

    def promote(self, generation: int, still_ours: Callable[[], object]) -> None:
        seen = {kind: self._current_below(kind, generation) for kind in KINDS}
        still_ours()
        for kind, current in seen.items():
            if current:
                self._promote(kind, current, generation)

    def _current_below(self, kind: SecretKind, generation: int) -> str | None:
        with self.faults.around(f"describe {kind}"):
            seen = self._secret(kind).current
            if _written_generation(seen) > generation:
                raise FenceLostError(store=self.name, secret=self._name_of(kind), generation=generation)
            return None if _written_generation(seen) == generation else seen

    def _promote(self, kind: SecretKind, seen: str, generation: int) -> None:
        with self.faults.around(f"promote {kind}"):
            secret, version = self._secret(kind), f"{_WRITTEN}{generation}"
            if version not in secret.versions:
                raise StoreRejectedError(store=self.name, secret=self._name_of(kind), generation=generation)
            if secret.current != seen:
                raise LostCompareAndSetError(store=self.name, secret=self._name_of(kind))
            secret.make_current(version)

    def serves(self, generation: int) -> bool:
        with self.faults.around("serves"):
            if self.lagging_reads:
                self.lagging_reads -= 1
                return False
            currents = {self._secret("app_user").current, self._secret("connection_blob").current}
            return {_written_generation(c) for c in currents} == {generation}

    def version_of(self, generation: int) -> str:
        return self._version_of(generation) or ""

    def prune(self) -> int:
        return 0

    def _version_of(self, generation: int) -> str | None:
        user = self._secret("app_user")
        candidates = (user.current, user.previous) if generation == 0 else user.versions
        return next((v for v in candidates if v and _written_generation(v) == generation), None)

    def _decode_user(self, version: str) -> tuple[Login | None, int]:
        text = self._secret("app_user").versions[version]
        name = self._name_of("app_user")
        login, claimed = decode_app_user(text, store=self.name, secret=name)
        written = _written_generation(version)
        if written not in (0, claimed):
            raise SecretMalformedError(store=self.name, secret=name)
        return login, written

    def _decode_blob(self, version: str) -> int:
        written = _written_generation(version)
        text = self._secret("connection_blob").versions[version]
        name = self._name_of("connection_blob")
        if written and decode_blob_generation(text, store=self.name, secret=name) != written:
            raise SecretMalformedError(store=self.name, secret=name)
        return written

    def _name_of(self, kind: SecretKind) -> str:
        names = self._credential.secret_names
        return names.app_user if kind == "app_user" else names.connection_blob

    def _secret(self, kind: SecretKind) -> _Secret:
        if kind not in self._secrets:
            raise SecretNotFoundError(store=self.name, secret=self._name_of(kind))
        return self._secrets[kind]
