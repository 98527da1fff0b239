"""The OCI signing key: a secret in Vault whose content, 32 bytes or more, is the key of an HMAC-SHA-256.

Vault has no HMAC operation, so a signer reads each key once. An entry names the version that signed it, so that
entries signed before the key was replaced still verify.
"""

import hmac
import re
from collections.abc import Sequence

from lockstep.audit.fingerprints import FingerprintKey, derived
from lockstep.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    LockstepError,
    RetryableError,
    SecretNotFoundError,
)
from lockstep.oci.vault import Content, Vault
from lockstep.ports import Mac
from lockstep.store_kinds.oci_names import oci_name

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

    def sign(self, digest: bytes) -> Mac:
        """The MAC over a digest, by the version that was current at the first use."""
        if self._current is None:
            current = self._read(self._secret)
            if len(current.data) < MIN_KEY_BYTES:
                raise AuditLogAccessDeniedError(secret=self._secret, code="key-too-short")
            self._current = current
        key_id = f"{self._secret}:{self._current.number}"
        return Mac(key_id=key_id, value=hmac.digest(self._current.data, digest, "sha256"))

    def fingerprint_key(self) -> FingerprintKey:
        """From the version that signs."""
        return derived(self.sign)

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

    def _key(self, key_id: str) -> bytes | None:
        """The key of an id; None if the id names none of these secrets' versions."""
        named = _KEY_ID.fullmatch(key_id)
        if named is None or named["secret"] not in self._secrets:
            return None
        try:
            data = self._read(named["secret"], version_number=int(named["version"])).data
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
