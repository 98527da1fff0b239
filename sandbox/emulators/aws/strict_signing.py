"""KMS's RSA keys as AWS documents them, where moto is more lenient or wrong.

moto hashes a digest again and ignores the state of a key. The facts are in the API reference of `Sign` and
`GetPublicKey`, and on the page on the states of keys
(https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html). Of the algorithms one alone is emulated, and
verification by KMS is not.
"""

import base64
import json
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.core.exceptions import JsonRESTError
from moto.kms.exceptions import InvalidKeyUsageException, ValidationException

from sandbox.emulators.aws.patching import Foreign, Patches

MESSAGE_LIMIT_BYTES: Final = 4096
_RESPONSE: Final = "moto.kms.responses:KmsResponse"
ALGORITHM: Final = "RSASSA_PKCS1_V1_5_SHA_256"


def apply(patches: Patches) -> None:
    """Make moto's asymmetric keys as strict as the real ones."""
    patches.wrap(f"{_RESPONSE}.sign", lambda _original: _sign)
    patches.wrap(f"{_RESPONSE}.verify", lambda _original: _verify)
    patches.wrap(f"{_RESPONSE}.get_public_key", lambda _original: _get_public_key)


def demand_enabled(key: Foreign) -> None:
    """Refuse the use of a key that is disabled or will be deleted.

    Raises:
        JsonRESTError: It is.
    """
    if key.key_state == "Disabled":
        raise JsonRESTError("DisabledException", f"{key.arn} is disabled.")
    if key.key_state != "Enabled":
        raise JsonRESTError("KMSInvalidStateException", f"{key.arn} is pending deletion.")


def _sign(self: Foreign) -> str:
    key, message, hashing = _asked(self)
    signature = key.private_key.private_key.sign(message, padding.PKCS1v15(), hashing)
    return json.dumps(
        {"KeyId": key.arn, "Signature": base64.b64encode(signature).decode(), "SigningAlgorithm": ALGORITHM}
    )


def _verify(_self: Foreign) -> str:
    raise JsonRESTError("UnsupportedOperationException", "Verify is not emulated.")


def _get_public_key(self: Foreign) -> str:
    key = _key(self)
    if key.key_usage == "GENERATE_VERIFY_MAC" or key.key_spec == "SYMMETRIC_DEFAULT":
        raise JsonRESTError("UnsupportedOperationException", f"{key.arn} has no public key.")
    algorithms = {
        "EncryptionAlgorithms": key.encryption_algorithms,
        "SigningAlgorithms": key.signing_algorithms,
    }
    return json.dumps(
        {
            "KeyId": key.arn,
            "PublicKey": base64.b64encode(key.private_key.public_key()).decode(),
            "CustomerMasterKeySpec": key.key_spec,
            "KeySpec": key.key_spec,
            "KeyUsage": key.key_usage,
            **{name: listed for name, listed in algorithms.items() if listed},
        }
    )


def _key(self: Foreign) -> Foreign:
    key_id = self._get_param("KeyId")
    self._validate_key_id(key_id)
    key = self.kms_backend.describe_key(key_id)
    demand_enabled(key)
    return key


def _asked(self: Foreign) -> tuple[Foreign, bytes, hashes.HashAlgorithm | Prehashed]:
    """Key, message and how the message is hashed, if the request is a good one."""
    key, algorithm, message = _key(self), str(self._get_param("SigningAlgorithm")), self._get_param("Message")
    kind = self._get_param("MessageType") or "RAW"
    if kind not in {"DIGEST", "RAW"}:
        raise ValidationException(
            "1 validation error detected: Value at 'messageType' failed to satisfy constraint: "
            "Member must satisfy enum value set: [RAW, DIGEST]"
        )
    if not message or len(message) > MESSAGE_LIMIT_BYTES:
        raise ValidationException(
            "1 validation error detected: Value at 'message' failed to satisfy constraint: "
            f"Member must have length between 1 and {MESSAGE_LIMIT_BYTES}"
        )
    if key.key_usage != "SIGN_VERIFY" or algorithm not in key.signing_algorithms:
        raise InvalidKeyUsageException
    if algorithm != ALGORITHM:
        raise JsonRESTError("UnsupportedOperationException", f"{algorithm} is not emulated.")
    hashing = hashes.SHA256()
    if kind == "RAW":
        return key, message, hashing
    if len(message) != hashing.digest_size:
        raise ValidationException(f"Digest is invalid length for algorithm {algorithm}.")
    return key, message, Prehashed(hashing)
