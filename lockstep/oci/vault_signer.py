"""The OCI signing key: a secret in Vault whose content, 32 bytes or more, is the key of an HMAC-SHA-256.

Vault has no HMAC operation, so the process reads the key once. The key's id names the version, so that entries signed
before the key was replaced still verify.
"""

import hmac

from lockstep.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    LockstepError,
    RetryableError,
)
from lockstep.oci.vault import Content, Vault
from lockstep.store_kinds.oci_vault import oci_name

MIN_KEY_BYTES = 32


class VaultSigner:
    """The port `Signer` on one secret.

    Args:
        vault: The vault that has the secret.
        secret: The secret's name in the plan.
        version: The number of the version that signs; by default the one that is current at the first use.
    """

    def __init__(self, vault: Vault, secret: str, *, version: int | None = None) -> None:
        self._vault = vault
        self._secret = oci_name(secret)
        self._version = version
        self._content: Content | None = None

    @property
    def key_id(self) -> str:
        """`<secret>:<version number>`."""
        return f"{self._secret}:{self._key().number}"

    def sign(self, digest: bytes) -> bytes:
        """The MAC over a digest."""
        return hmac.digest(self._key().data, digest, "sha256")

    def verify(self, digest: bytes, mac: bytes) -> bool:
        """Whether the MAC is this key's, compared in constant time."""
        return hmac.compare_digest(self.sign(digest), mac)

    def of(self, key_id: str) -> "VaultSigner":
        """The signer with the key that an entry names.

        Raises:
            AuditLogAccessDeniedError: The id does not name a version of this secret.
        """
        secret, _, number = key_id.rpartition(":")
        if secret != self._secret or not number.isdecimal():
            raise AuditLogAccessDeniedError(secret=self._secret, code="another-key")
        return VaultSigner(self._vault, self._secret, version=int(number))

    def _key(self) -> Content:
        if self._content is None:
            which = {} if self._version is None else {"version_number": self._version}
            try:
                content = self._vault.read_named(self._secret, **which)
            except RetryableError as error:
                raise AuditLogUnreachableError(**error.where) from None
            except LockstepError as error:
                raise AuditLogAccessDeniedError(**error.where) from None
            if len(content.data) < MIN_KEY_BYTES:
                raise AuditLogAccessDeniedError(secret=self._secret, code="key-too-short")
            self._content = content
        return self._content
