"""KMS as AWS documents it, where moto is more lenient."""

import json

from moto.core.exceptions import JsonRESTError
from moto.kms.exceptions import InvalidKeyUsageException, ValidationException

from sandbox.emulators.aws.patching import Foreign, Patches
from sandbox.emulators.aws.strict_signing import demand_enabled

MAC_MESSAGE_LIMIT_BYTES = 4096


def apply(patches: Patches) -> None:
    """Make moto's KMS as strict as the real one."""
    limit_mac_messages(patches)
    name_the_verifying_key(patches)
    encrypt_by_default(patches)
    rotate_symmetric_keys(patches)


def limit_mac_messages(patches: Patches) -> None:
    """GenerateMac and VerifyMac take at most 4,096 bytes, the algorithm of the key's size, and a key that is enabled.

    moto takes any length, any algorithm and any state, and returns the key's id where KMS returns its ARN (API
    reference of `GenerateMac`). moto's VerifyMac calls its GenerateMac.
    """

    def wrapper(original: Foreign) -> object:
        def generate_mac(
            self: Foreign, message: bytes, key_id: str, mac_algorithm: str, **options: Foreign
        ) -> tuple[str, str, str]:
            if len(message) > MAC_MESSAGE_LIMIT_BYTES:
                raise ValidationException(
                    "1 validation error detected: Value at 'message' failed to satisfy constraint: "
                    f"Member must have length less than or equal to {MAC_MESSAGE_LIMIT_BYTES}"
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

    patches.wrap("moto.kms.responses:KmsResponse.verify_mac", wrapper)


def encrypt_by_default(patches: Patches) -> None:
    """A symmetric key without a KeyUsage is for encryption, and says so; another one must have a KeyUsage.

    moto says nothing, and takes any (API reference of `CreateKey`).
    """

    def wrapper(original: Foreign) -> object:
        def create_key(
            self: Foreign,
            policy: str | None,
            key_usage: str | None,
            key_spec: str | None,
            *rest: Foreign,
            **more: Foreign,
        ) -> object:
            if not key_usage and key_spec not in {None, "SYMMETRIC_DEFAULT"}:
                raise ValidationException("You must specify a KeyUsage value for asymmetric and HMAC keys.")
            return original(self, policy, key_usage or "ENCRYPT_DECRYPT", key_spec, *rest, **more)

        return create_key

    patches.wrap("moto.kms.models:KmsBackend.create_key", wrapper)


def rotate_symmetric_keys(patches: Patches) -> None:
    """Only symmetric keys for encryption are rotated by KMS (API reference of `EnableKeyRotation`)."""

    def wrapper(original: Foreign) -> object:
        def enable_key_rotation(self: Foreign, key_id: str) -> None:
            key = self.describe_key(key_id)
            if key.key_spec != "SYMMETRIC_DEFAULT":
                raise JsonRESTError("UnsupportedOperationException", f"{key.arn} cannot be rotated.")
            original(self, key_id)

        return enable_key_rotation

    patches.wrap("moto.kms.models:KmsBackend.enable_key_rotation", wrapper)
