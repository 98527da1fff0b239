"""OCI Vault: the calls on one vault's secrets, and the meaning of their failures.

Management and reading are two services. Management lists the versions and says which one is current. Only the read
side returns contents, and it lags behind management by a time that Oracle does not document.
"""

import base64
import hmac
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from oci.exceptions import ServiceError  # type: ignore[import-untyped]  # likewise

from lockstep.oci.clients import OciClients, Untyped
from lockstep.protocol.errors import (
    STORE_ERRORS,
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    ErrorKind,
    LockstepError,
    LostCompareAndSetError,
    ReadSideLaggingError,
    RetryableError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreAccessDeniedError,
    StoreBusyError,
)
from lockstep.protocol.names import oci_name
from lockstep.protocol.ports import BINARY, Mac, moment

_LIST_ERRORS = {**STORE_ERRORS, ErrorKind.NOT_FOUND: StoreAccessDeniedError}
_PAGE = 100
_ALIVE = frozenset({"ACTIVE", "CREATING", "UPDATING"})
_NOT_FOUND, _BAD_REQUEST = 404, 400
_NOT_FOUND_CODE = "NotAuthorizedOrNotFound"

logger = logging.getLogger("lockstep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A version with its content, from the read side."""

    number: int
    name: str | None
    data: bytes = field(repr=False)
    created_at: datetime | None = None

    @property
    def text(self) -> str | None:
        """The content as text; None if it is binary."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            return None


class Absence(Enum):
    """Why a vault has no secret of some name, as its list of secrets says."""

    DELETED = auto()
    """Its lifecycle state was read: it is deleted or scheduled for deletion."""
    UNLISTED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The state of a secret, from management."""

    etag: str
    current_number: int | None


class Vault:
    """The secrets of one vault in one compartment.

    The OCID of a secret is looked up by name once, and again after the secret was not found or was busy: it may have
    been deleted. OCI gives the same answer, 404, for a missing secret and for a missing right, so after a 404 the list
    says which of them it is (protocol V15).

    Errors of every method with an OCID, besides those of `STORE_ERRORS`:
        StoreAccessDeniedError: The list shows the secret as active: this identity lacks a right on it.
        LostCompareAndSetError: It was deleted, or created anew, after its OCID was looked up. Look it up again.
        SecretNotFoundError: The list does not show it.

    Args:
        clients: The clients of the vault's region.
        compartment_id: OCID.
        vault_id: OCID.
        store: The store's name, for errors.
    """

    def __init__(self, clients: OciClients, *, compartment_id: str, vault_id: str, store: str) -> None:
        self.store = store
        self._clients = clients
        self._compartment_id = compartment_id
        self._vault_id = vault_id
        self._ids: dict[str, str] = {}

    def lookup(self, secret: str) -> str | Absence:
        """The OCID of a secret, or why there is none."""
        if known := self._ids.get(secret):  # Another worker may forget it at any time.
            return known
        found = self._find(secret)
        if not found:
            return Absence.UNLISTED
        alive = next((s for s in found if s.lifecycle_state in _ALIVE), None)
        if alive is None:
            logger.warning(json.dumps({"warning": "deleted", "store": self.store, "secret": secret}))
            return Absence.DELETED
        self._ids[secret] = str(alive.id)
        return str(alive.id)

    def secret_id(self, secret: str) -> str | None:
        """The OCID of a secret; None if it is deleted or scheduled for deletion.

        Raises:
            SecretNotFoundError: The vault has no secret of that name.
        """
        found = self.lookup(secret)
        if found is Absence.UNLISTED:
            raise SecretNotFoundError(store=self.store, secret=secret)
        return found if isinstance(found, str) else None

    def forget(self, *secrets: str) -> None:
        """Look up the OCIDs of these secrets again."""
        for secret in secrets:
            self._ids.pop(secret, None)

    def read(self, secret: str, secret_id: str, **which: str | int) -> Content | None:
        """A version, from the read side: the current one, or by `version_number` or `secret_version_name`.

        Returns None if the read side does not have that version, or does not have it yet. An identity without
        SECRET_BUNDLE_READ but with SECRET_READ sees the same.
        """
        with self._translated(secret, secret_id):
            try:
                bundle = self._clients.secrets.get_secret_bundle(secret_id, **which).data
            except ServiceError as error:
                if error.status != _NOT_FOUND:
                    raise
                bundle = None
        if bundle is None:
            self.state(secret, secret_id)  # Raises if the secret itself is missing.
            return None
        return self._content(secret, bundle)

    def current(self, secret: str, secret_id: str) -> Content:
        """The current version, from the read side. A secret always has one.

        Raises:
            ReadSideLaggingError: The read side does not have it, or not yet.
        """
        found = self.read(secret, secret_id)
        if found is None:
            raise ReadSideLaggingError(store=self.store, secret=secret, code=_NOT_FOUND_CODE)
        return found

    def read_named(self, secret: str, **which: str | int) -> Content:
        """As `read`, for any secret by its name.

        Raises:
            SecretNotFoundError: The secret or the version is missing.
        """
        try:
            found = self._read_named(secret, **which)
        except LostCompareAndSetError:
            found = self._read_named(secret, **which)  # By the OCID that it has now.
        if found is None:
            raise SecretNotFoundError(store=self.store, secret=secret)
        return found

    def text(self, secret: str, content: Content) -> str:
        """A content as text.

        Raises:
            SecretMalformedError: It is binary.
        """
        if content.text is None:
            raise SecretMalformedError(store=self.store, secret=secret, code=BINARY)
        return content.text

    def state(self, secret: str, secret_id: str) -> State:
        """The secret's entity tag and current version."""
        with self._translated(secret, secret_id):
            reply = self._clients.vaults.get_secret(secret_id)
            etag, lifecycle_state = reply.headers["etag"], reply.data.lifecycle_state
            current_number = reply.data.current_version_number
        if lifecycle_state not in _ALIVE:
            self.forget(secret)
            raise LostCompareAndSetError(store=self.store, secret=secret, code=str(lifecycle_state))
        return State(etag=etag, current_number=current_number)

    def versions(self, secret: str, secret_id: str) -> Sequence[Untyped]:
        """All versions, as the SDK's SecretVersionSummary."""
        found: list[Untyped] = []
        page: str | None = None
        with self._translated(secret, secret_id):
            while True:
                reply = self._clients.vaults.list_secret_versions(
                    secret_id, limit=_PAGE, **({"page": page} if page else {})
                )
                found += reply.data
                if not all(_is_version(v.name, v.version_number, v.stages) for v in reply.data):
                    raise ValueError("not versions")
                last, page = page, reply.headers.get("opc-next-page")
                if page in {None, "", last}:
                    return found

    def stage(self, secret: str, secret_id: str, *, name: str, text: str) -> bool:
        """Add a PENDING version; False if the secret already has a version of that name, or refuses it.

        No entity tag is sent: a name is unique within a secret, so the version that was staged first stays, and a
        PENDING version changes nothing for readers.
        """
        with self._translated(secret, secret_id):
            try:
                self._update(secret_id, secret_content=_content_of(text, name=name, stage="PENDING"))
            except ServiceError as error:
                # Vault uses the same error code for a name that is taken and for any other invalid parameter.
                if (error.status, error.code) == (_BAD_REQUEST, "InvalidParameter"):
                    return False
                raise
        return True

    def put_current(self, secret: str, secret_id: str, text: str, *, etag: str) -> None:
        """Add a version without a name and make it current, if the secret still has this entity tag."""
        with self._translated(secret, secret_id):
            self._update(secret_id, secret_content=_content_of(text, stage="CURRENT"), etag=etag)

    def promote(self, secret: str, secret_id: str, number: int, *, etag: str) -> None:
        """Make a version current if the secret still has this entity tag."""
        with self._translated(secret, secret_id):
            self._update(secret_id, current_version_number=number, etag=etag)

    def _update(self, secret_id: str, *, etag: str | None = None, **details: Untyped) -> None:
        self._clients.vaults.update_secret(
            secret_id,
            oci.vault.models.UpdateSecretDetails(**details),
            **({} if etag is None else {"if_match": etag}),
        )

    def schedule_deletion(self, secret: str, secret_id: str, number: int, *, at: datetime) -> None:
        """Schedule the deletion of a DEPRECATED version, at least a day ahead."""
        details = oci.vault.models.ScheduleSecretVersionDeletionDetails(time_of_deletion=at)
        with self._translated(secret, secret_id):
            self._clients.vaults.schedule_secret_version_deletion(secret_id, number, details)

    def _read_named(self, secret: str, **which: str | int) -> Content | None:
        secret_id = self.secret_id(secret)
        return self.read(secret, secret_id, **which) if secret_id else None

    def _find(self, secret: str) -> list[Untyped]:
        with self._clients.translated(_LIST_ERRORS, store=self.store, secret=secret):
            reply = self._clients.vaults.list_secrets(
                self._compartment_id, vault_id=self._vault_id, name=secret, limit=_PAGE
            )
            return [s for s in reply.data if s.secret_name == secret]

    def _content(self, secret: str, bundle: Untyped) -> Content:
        with self._clients.translated(STORE_ERRORS, store=self.store, secret=secret):
            if not _is_version(bundle.version_name, bundle.version_number, bundle.stages):
                raise ValueError("not a bundle")
            data = base64.b64decode(bundle.secret_bundle_content.content, validate=True)
            created_at = moment(bundle.time_created)
        return Content(
            number=bundle.version_number, name=bundle.version_name, data=data, created_at=created_at
        )

    @contextmanager
    def _translated(self, secret: str, secret_id: str) -> Iterator[None]:
        try:
            with self._clients.translated(STORE_ERRORS, store=self.store, secret=secret):
                yield
        except StoreBusyError:
            self.forget(secret)
            raise
        except SecretNotFoundError:
            raise self._unseen(secret, secret_id) from None

    def _unseen(self, secret: str, secret_id: str) -> LockstepError:
        """What a 404 for an OCID means, by what the list says now."""
        self.forget(secret)
        found = self.lookup(secret)
        if found == secret_id:
            return StoreAccessDeniedError(store=self.store, secret=secret, code=_NOT_FOUND_CODE)
        is_gone = found is Absence.UNLISTED
        error = SecretNotFoundError if is_gone else LostCompareAndSetError
        return error(store=self.store, secret=secret, code=_NOT_FOUND_CODE)


def _content_of(text: str, **version: str) -> Untyped:
    """A text as the content of a new version."""
    return oci.vault.models.Base64SecretContentDetails(
        content=base64.b64encode(text.encode()).decode("ascii"), **version
    )


def _is_version(name: object, number: object, stages: object) -> bool:
    return (name is None or isinstance(name, str)) and isinstance(number, int) and isinstance(stages, list)


# The OCI signing key: a secret in Vault whose content, 32 bytes or more, is the key of an HMAC-SHA-256.
#
# Vault has no HMAC operation, so a signer reads each key once. An entry names the version that signed it, so that
# entries signed before the key was replaced still verify.

MIN_KEY_BYTES = 32
_KEY_ID = re.compile(r"(?P<secret>[A-Za-z0-9._-]{1,255}):(?P<version>[1-9][0-9]{0,8})", re.ASCII)


class VaultSigner:
    """The port `Signer` on one secret. A key's id is `<secret>:<version number>`.

    A version has no OCID of its own, and a number is never given twice within a secret. A secret that is made again
    under the same name has other keys, so what the old one signed does not verify.

    Args:
        vault: The vault that has the secrets.
        secret: The name in the plan of the secret whose current version signs.
        retired: The names of secrets that did before it, the oldest first.
    """

    def __init__(self, vault: Vault, secret: str, *, retired: Sequence[str] = ()) -> None:
        self._vault = vault
        self._secret = oci_name(secret)
        self._secrets = (*(oci_name(name) for name in retired), self._secret)
        self._current: Content | None = None
        self._keys: dict[str, bytes | None] = {}

    @property
    def orders(self) -> "VaultSigner":
        """The same: whoever can verify here has the key, and could sign either."""
        return self

    def sign(self, digest: bytes) -> Mac:
        """The MAC over a digest, by the version that was current at the first use."""
        key = self._signing()
        return Mac(key_id=f"{self._secret}:{key.number}", value=hmac.digest(key.data, digest, "sha256"))

    def prepare(self) -> None:
        """Read the key that signs."""
        self._signing()

    def verify(self, digest: bytes, mac: Mac) -> bool:
        """Whether the version that a MAC names made it, compared in constant time."""
        if mac.key_id not in self._keys:
            self._keys[mac.key_id] = self._key(mac.key_id)
        key = self._keys[mac.key_id]
        return key is not None and hmac.compare_digest(hmac.digest(key, digest, "sha256"), mac.value)

    def rank(self, key_id: str) -> tuple[int, int]:
        """The place of the secret in the plan's order, and the number of the version."""
        named = _KEY_ID.fullmatch(key_id)
        if named is None or named["secret"] not in self._secrets:
            return (-1, -1)
        return self._secrets.index(named["secret"]), int(named["version"])

    def _signing(self) -> Content:
        if self._current is None:
            current = self._read(self._secret)
            if len(current.data) < MIN_KEY_BYTES:
                raise AuditLogAccessDeniedError(secret=self._secret, code="key-too-short")
            self._current = current
        return self._current

    def _key(self, key_id: str) -> bytes | None:
        """The key of an id; None if the id names none of these secrets' versions."""
        place, version = self.rank(key_id)
        if version < 0:
            return None
        try:
            data = self._read(self._secrets[place], version_number=version).data
        except SecretNotFoundError:
            return None
        return data if len(data) >= MIN_KEY_BYTES else None  # A placeholder has signed nothing.

    def _read(self, secret: str, **which: int) -> Content:
        try:
            return self._vault.read_named(secret, **which)
        except RetryableError as error:
            raise AuditLogUnreachableError(**error.where) from None
        except SecretNotFoundError:
            if which:
                raise
            raise AuditLogAccessDeniedError(secret=secret, code="no-key") from None
        except LockstepError as error:
            raise AuditLogAccessDeniedError(**error.where) from None
