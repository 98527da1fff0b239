"""KMS's asymmetric keys as AWS documents them, where moto is more lenient or wrong.

moto hashes a digest again, ignores the state of a key, says in a reply that a signature is wrong where KMS raises an
error, and salts PSS as no AWS key does. The facts are in the API reference of `Sign`, `Verify` and `GetPublicKey`, and
on the page on the states of keys (https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html).
"""

import base64
import json
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.core.exceptions import JsonRESTError
from moto.kms.exceptions import InvalidKeyUsageException, ValidationException

from sandbox.emulators.aws.patching import Foreign, Patches

MESSAGE_LIMIT_BYTES: Final = 4096
_RESPONSE: Final = "moto.kms.responses:KmsResponse"
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


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
    key, algorithm, message, hashing = _asked(self)
    private = key.private_key.private_key
    if algorithm.startswith("ECDSA"):
        signature = private.sign(message, ec.ECDSA(hashing))
    else:
        signature = private.sign(message, _padding(algorithm), hashing)
    return json.dumps(
        {
            "KeyId": key.arn,
            "Signature": base64.b64encode(signature).decode(),
            "SigningAlgorithm": algorithm,
        }
    )


def _verify(self: Foreign) -> str:
    key, algorithm, message, hashing = _asked(self)
    public = key.private_key.private_key.public_key()
    signature = base64.b64decode(self._get_param("Signature"))
    try:
        if algorithm.startswith("ECDSA"):
            public.verify(signature, message, ec.ECDSA(hashing))
        else:
            public.verify(signature, message, _padding(algorithm), hashing)
    except InvalidSignature as error:
        raise JsonRESTError("KMSInvalidSignatureException", "") from error
    return json.dumps({"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm})


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


def _asked(self: Foreign) -> tuple[Foreign, str, bytes, hashes.HashAlgorithm | Prehashed]:
    """Key, algorithm, message and how the message is hashed, if the request is a good one."""
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
    hashing = _HASHES[algorithm[-3:]]
    if kind == "RAW":
        return key, algorithm, message, hashing
    if len(message) != hashing.digest_size:
        raise ValidationException(f"Digest is invalid length for algorithm {algorithm}.")
    return key, algorithm, message, Prehashed(hashing)


def _padding(algorithm: str) -> padding.AsymmetricPadding:
    if "PKCS1" in algorithm:
        return padding.PKCS1v15()
    mask = padding.MGF1(_HASHES[algorithm[-3:]])
    return padding.PSS(mgf=mask, salt_length=padding.PSS.DIGEST_LENGTH)
