"""KMS as AWS documents it, where moto is more lenient or wrong.

moto hashes a digest again and ignores the state of a key. Unless another source is named, the facts are in the API
reference, and on the page on the states of keys
(https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html). Of the algorithms of RSA keys one alone is
emulated, and verification by them is not.
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
    """Make moto's KMS as strict as the real one."""
    limit_mac_messages(patches)
    name_the_verifying_key(patches)
    encrypt_by_default(patches)
    use_keys_that_are_enabled(patches)
    patches.replace(f"{_RESPONSE}.sign", _sign)
    patches.replace(f"{_RESPONSE}.verify", _verify)


def limit_mac_messages(patches: Patches) -> None:
    """GenerateMac and VerifyMac take at most 4,096 bytes, the algorithm of the key's size, and a key that is enabled.

    moto takes any length, any algorithm and any state, and returns the key's id where KMS returns its ARN (API
    reference of `GenerateMac`). moto's VerifyMac calls its GenerateMac.
    """

    def wrapper(original: Foreign) -> object:
        def generate_mac(
            self: Foreign, message: bytes, key_id: str, mac_algorithm: str, **options: Foreign
        ) -> tuple[str, str, str]:
            if len(message) > MESSAGE_LIMIT_BYTES:
                raise ValidationException(
                    "1 validation error detected: Value at 'message' failed to satisfy constraint: "
                    f"Member must have length less than or equal to {MESSAGE_LIMIT_BYTES}"
                )
            demand_enabled(self.describe_key(key_id))
            mac, algorithm, plain_key_id = original(
                self, message=message, key_id=key_id, mac_algorithm=mac_algorithm, **options
            )
            key = self.keys[plain_key_id]
            if key.key_spec.replace("HMAC_", "HMAC_SHA_") != algorithm:
                raise InvalidKeyUsageException
            return mac, algorithm, key.arn

        return generate_mac

    patches.wrap("moto.kms.models:KmsBackend.generate_mac", wrapper)


def name_the_verifying_key(patches: Patches) -> None:
    """VerifyMac returns the key's ARN; moto returns what it was asked with, which may be an alias (API reference)."""

    def wrapper(original: Foreign) -> object:
        def verify_mac(self: Foreign) -> str:
            reply = json.loads(original(self))
            key = self.kms_backend.keys[self.kms_backend.any_id_to_key_id(reply["KeyId"])]
            return json.dumps({**reply, "KeyId": key.arn})

        return verify_mac

    patches.wrap(f"{_RESPONSE}.verify_mac", wrapper)


def encrypt_by_default(patches: Patches) -> None:
    """A key without a KeyUsage is for encryption, and says so; moto says nothing (API reference of `CreateKey`)."""

    def wrapper(original: Foreign) -> object:
        def create_key(
            self: Foreign, policy: str | None, key_usage: str | None, *rest: Foreign, **more: Foreign
        ) -> object:
            return original(self, policy, key_usage or "ENCRYPT_DECRYPT", *rest, **more)

        return create_key

    patches.wrap("moto.kms.models:KmsBackend.create_key", wrapper)


def use_keys_that_are_enabled(patches: Patches) -> None:
    """A key that is disabled or will be deleted shows no public half."""

    def wrapper(original: Foreign) -> object:
        def get_public_key(self: Foreign) -> str:
            _key(self)
            return str(original(self))

        return get_public_key

    patches.wrap(f"{_RESPONSE}.get_public_key", wrapper)


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
