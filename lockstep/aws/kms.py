"""The AWS signing key: an HMAC key that never leaves KMS.

Every method makes one call (https://docs.aws.amazon.com/kms/latest/developerguide/hmac.html).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lockstep.aws.clients import translated
from lockstep.aws.s3_audit import AUDIT_ERRORS
from lockstep.errors import AuditLogAccessDeniedError

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_kms.literals import MacAlgorithmSpecType

_ALGORITHM: "MacAlgorithmSpecType" = "HMAC_SHA_256"


class KmsSigner:
    """The port `Signer` on one key of key spec HMAC_256."""

    def __init__(self, client: "KMSClient", key_id: str) -> None:
        self._client = client
        self._key_id = key_id

    @property
    def key_id(self) -> str:
        """Id, alias or ARN, as in the plan."""
        return self._key_id

    def sign(self, digest: bytes) -> bytes:
        """The MAC over a digest."""
        with self._translated():
            reply = self._client.generate_mac(KeyId=self._key_id, Message=digest, MacAlgorithm=_ALGORITHM)
            return reply["Mac"]

    def verify(self, digest: bytes, mac: bytes) -> bool:
        """Whether this key made the MAC; KMS compares."""
        with self._translated():
            try:
                reply = self._client.verify_mac(
                    KeyId=self._key_id, Message=digest, Mac=mac, MacAlgorithm=_ALGORITHM
                )
            except self._client.exceptions.KMSInvalidMacException:
                return False
            return reply["MacValid"] is True

    def of(self, key_id: str) -> "KmsSigner":
        """This key, since a KMS key for MACs has no versions.

        Raises:
            AuditLogAccessDeniedError: The entry names another key.
        """
        if key_id != self._key_id:
            raise AuditLogAccessDeniedError(code="another-key")
        return self

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(AUDIT_ERRORS):
            yield
