"""The AWS signing keys, which never leave KMS: HMAC keys for entries, an RSA key for digests.

Every method but `prepare` and `rank` makes one call (https://docs.aws.amazon.com/kms/latest/developerguide/hmac.html).
"""

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from botocore.exceptions import ParamValidationError

from lockstep.aws.clients import translated
from lockstep.protocol.errors import AUDIT_ERRORS
from lockstep.protocol.ports import Mac, Signer

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_kms.literals import MacAlgorithmSpecType

_ALGORITHM: "MacAlgorithmSpecType" = "HMAC_SHA_256"


class KmsSigner:
    """The port `Signer` on keys of key spec HMAC_256.

    An entry names its key's ARN, as KMS tells it, so that it stays known if an alias is given to another key.

    Args:
        client: The client of the keys' region.
        key: The key that signs: id, alias or ARN.
        retired: The ids or ARNs of keys that signed before it, the oldest first.
        orders: The keys that sign orders; None: these.
    """

    def __init__(
        self,
        client: "KMSClient",
        key: str,
        *,
        retired: Sequence[str] = (),
        orders: Signer | None = None,
    ) -> None:
        self._client = client
        self._key = key
        self._retired = tuple(retired)
        self.orders: Signer = orders or self

    def sign(self, digest: bytes) -> Mac:
        """The MAC over a digest."""
        with translated(AUDIT_ERRORS):
            reply = self._client.generate_mac(KeyId=self._key, Message=digest, MacAlgorithm=_ALGORITHM)
            return Mac(key_id=reply["KeyId"], value=reply["Mac"])

    def prepare(self) -> None:
        """Nothing: KMS signs."""

    def verify(self, digest: bytes, mac: Mac) -> bool:
        """Whether the key that a MAC names made it; KMS compares. An ARN that is not a retired key's is the key's."""
        key = self._retired_key(mac.key_id) or self._key
        with translated(AUDIT_ERRORS):
            try:
                reply = self._client.verify_mac(
                    KeyId=key, Message=digest, Mac=mac.value, MacAlgorithm=_ALGORITHM
                )
            except (self._client.exceptions.KMSInvalidMacException, ParamValidationError):
                return False
            return reply["MacValid"] is True and reply["KeyId"] == mac.key_id

    def rank(self, key_id: str) -> tuple[int, int]:
        """The place in the plan's order."""
        retired = self._retired_key(key_id)
        return (len(self._retired) if retired is None else self._retired.index(retired), 0)

    def _retired_key(self, key_id: str) -> str | None:
        return next((key for key in self._retired if _id(key) == _id(key_id)), None)


class KmsDigestKey:
    """A key of key spec RSA_2048 that signs digests (https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html).

    Args:
        client: The client of the key's region.
        key: Its ARN, or that of its alias.
    """

    def __init__(self, client: "KMSClient", key: str) -> None:
        self._client = client
        self._key = key
        self._public_key: str | None = None

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest by RSASSA-PKCS1-v1_5."""
        with translated(AUDIT_ERRORS):
            reply = self._client.sign(
                KeyId=self._key,
                Message=digest,
                MessageType="DIGEST",
                SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256",
            )
            return reply["Signature"]

    def public_key(self) -> str:
        """The base64 of its public half's DER, as a plan names it; asked once."""
        if self._public_key is None:
            with translated(AUDIT_ERRORS):
                reply = self._client.get_public_key(KeyId=self._key)
                self._public_key = base64.b64encode(reply["PublicKey"]).decode()
        return self._public_key


def _id(key: str) -> str:
    """The id in an ARN; an id as it is."""
    return key.rpartition(":key/")[2]
