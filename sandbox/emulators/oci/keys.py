"""Keys of the vaults: their versions and states, and signatures by RSA keys, whose private half never leaves.

Permissions: https://docs.oracle.com/iaas/Content/Identity/policyreference/keypolicyreference.htm. What a key that is
not enabled answers is not documented: 409 IncorrectState, as secrets do.
"""

import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.clock import Ids, SandboxClock, rfc3339
from sandbox.emulators.oci.errors import ApiError, invalid, missing, not_emulated, not_found
from sandbox.emulators.oci.identity import pem_of
from sandbox.emulators.oci.wire import Details, Reply, json_reply

Algorithm = Literal["RSA", "AES"]
State = Literal["ENABLED", "DISABLED", "PENDING_DELETION", "DELETED"]

_RSA_ALGORITHM: Final = "SHA_256_RSA_PKCS1_V1_5"
_OTHERS_OF_RSA: Final = {
    f"SHA_{bits}_RSA_{form}" for bits in (224, 256, 384, 512) for form in ("PKCS1_V1_5", "PKCS_PSS")
} - {_RSA_ALGORITHM}
_DIGEST_BYTES: Final = 32
_MOST_BYTES: Final = 4096
_PAGE: Final = 100


@dataclass(slots=True)
class KeyVersion:
    """One version. `private_key` is None for keys that do not sign."""

    ocid: str
    private_key: rsa.RSAPrivateKey | None = field(repr=False)
    time_created: datetime
    state: State = "ENABLED"

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        """What verifies its signatures.

        Raises:
            LookupError: It does not sign.
        """
        if self.private_key is None:
            raise LookupError(self.ocid)
        return self.private_key.public_key()


@dataclass(slots=True)
class Key:
    """A master encryption key; its newest version is the current one."""

    ocid: str
    name: str
    compartment_id: str
    vault_id: str
    algorithm: Algorithm
    bits: int
    time_created: datetime
    versions: list[KeyVersion]
    state: State = "ENABLED"

    @property
    def current(self) -> KeyVersion:
        """The version that signs where the caller names none."""
        return self.versions[-1]


@dataclass(slots=True)
class KeysService:
    """The keys of all vaults."""

    clock: SandboxClock
    ids: Ids
    _keys: dict[str, Key] = field(default_factory=dict, repr=False)

    # ---- for its callers

    def new_key(
        self,
        compartment_id: str,
        vault_id: str,
        *,
        name: str = "lockstep",
        algorithm: Algorithm = "RSA",
        bits: int = 2048,
        private_key: rsa.RSAPrivateKey | None = None,
    ) -> Key:
        """Make an enabled key with one version.

        Args:
            compartment_id: Where it is.
            vault_id: Its vault.
            name: For people.
            algorithm: Only RSA keys sign.
            bits: Its length.
            private_key: Of the first version; by default a fresh one.
        """
        now = self.clock.now()
        key = Key(self.ids.ocid("key"), name, compartment_id, vault_id, algorithm, bits, now, [])
        self._add_version(key, private_key)
        self._keys[key.ocid] = key
        return key

    def key(self, ocid: str) -> Key:
        """A key, to be looked at and changed.

        Raises:
            KeyError: There is none.
        """
        return self._keys[ocid]

    def _add_version(self, key: Key, private_key: rsa.RSAPrivateKey | None = None) -> KeyVersion:
        if key.algorithm == "RSA" and private_key is None:
            private_key = rsa.generate_private_key(public_exponent=65537, key_size=key.bits)
        version = KeyVersion(self.ids.ocid("keyversion"), private_key, self.clock.now())
        key.versions.append(version)
        return version

    # ---- management

    def get_key(self, call: Call) -> Reply:
        """Serve GetKey."""
        return self._shown_key(self._found(call, "KEY_READ"))

    def list_key_versions(self, call: Call) -> Reply:
        """Serve ListKeyVersions."""
        key = self._found(call, "KEY_INSPECT")
        newest_first = call.request.query.get("sortOrder") != "ASC"
        versions = reversed(key.versions) if newest_first else key.versions
        items, headers = call.page_of([_shown(key, version) for version in versions], _PAGE)
        return json_reply(list(items), headers)

    def get_key_version(self, call: Call) -> Reply:
        """Serve GetKeyVersion."""
        key = self._found(call, "KEY_READ")
        return _shown_version(key, self._version(key, call.path["version"]))

    def create_key_version(self, call: Call) -> Reply:
        """Serve CreateKeyVersion."""
        key = self._found(call, "KEY_ROTATE")
        _check_enabled(key)
        return _shown_version(key, self._add_version(key))

    def _found(self, call: Call, permission: str, ocid: str | None = None) -> Key:
        key = self._keys.get(ocid or call.path["key"])
        if key is None or not call.may(permission, resource=key.ocid, compartment=key.compartment_id):
            raise not_found()
        return key

    def _version(self, key: Key, ocid: str) -> KeyVersion:
        version = next((version for version in key.versions if version.ocid == ocid), None)
        if version is None:
            raise not_found()
        return version

    def _shown_key(self, key: Key) -> Reply:
        shown = {
            "id": key.ocid,
            "compartmentId": key.compartment_id,
            "vaultId": key.vault_id,
            "displayName": key.name,
            "currentKeyVersion": key.current.ocid,
            "keyShape": {"algorithm": key.algorithm, "length": key.bits // 8},
            "protectionMode": "HSM",
            "lifecycleState": key.state,
            "timeCreated": rfc3339(key.time_created),
        }
        return json_reply(shown, {})

    # ---- signatures

    def sign(self, call: Call) -> Reply:
        """Serve Sign."""
        details = call.details()
        key = self._found(call, "KEY_SIGN", details.required_text("keyId"))
        wanted = details.text("keyVersionId")
        version = self._version(key, wanted) if wanted else key.current
        algorithm = details.required_text("signingAlgorithm")
        if version.private_key is None or algorithm not in {_RSA_ALGORITHM, *_OTHERS_OF_RSA}:
            raise invalid(f"a key of {key.algorithm} cannot sign with {algorithm}")
        if algorithm in _OTHERS_OF_RSA:
            raise not_emulated(f"signatures with {algorithm}")
        _check_enabled(key)
        _check(version.state == "ENABLED", f"The key version is {version.state}, not ENABLED.")
        message, by_digest = _message(details)
        kind = Prehashed(hashes.SHA256()) if by_digest else hashes.SHA256()
        signature = version.private_key.sign(message, padding.PKCS1v15(), kind)
        shown = {"keyId": key.ocid, "keyVersionId": version.ocid, "signingAlgorithm": algorithm}
        return json_reply({**shown, "signature": base64.b64encode(signature).decode("ascii")}, {})


def _message(details: Details) -> tuple[bytes, bool]:
    """What is to be signed, and whether it is a digest."""
    text, kind = details.text("message"), details.text("messageType") or "RAW"
    if text is None:
        raise missing("message")
    if kind not in {"RAW", "DIGEST"}:
        raise invalid("messageType must be RAW or DIGEST")
    try:
        message = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("message must be base64") from None
    if kind == "DIGEST" and len(message) != _DIGEST_BYTES:
        raise invalid(f"a digest by SHA-256 has {_DIGEST_BYTES} bytes")
    if len(message) > _MOST_BYTES:
        raise invalid(f"message has more than {_MOST_BYTES} bytes")
    return message, kind == "DIGEST"


def _check(is_right: bool, otherwise: str) -> None:  # noqa: FBT001 - read as an assertion
    if not is_right:
        raise ApiError(409, "IncorrectState", otherwise)


def _check_enabled(key: Key) -> None:
    _check(key.state == "ENABLED", f"The key is {key.state}, not ENABLED.")


def _shown(key: Key, version: KeyVersion) -> dict[str, object]:
    return {
        "id": version.ocid,
        "keyId": key.ocid,
        "compartmentId": key.compartment_id,
        "vaultId": key.vault_id,
        "lifecycleState": version.state,
        "origin": "INTERNAL",
        "timeCreated": rfc3339(version.time_created),
    }


def _shown_version(key: Key, version: KeyVersion) -> Reply:
    shown = _shown(key, version)
    if version.private_key is not None:
        shown["publicKey"] = pem_of(version.public_key)
    return json_reply(shown, {})
