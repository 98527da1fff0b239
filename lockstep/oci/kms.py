"""The keys in OCI Vault that sign and cannot be had: the issuer's, with its versions, and that of digests."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.oci.clients import OciClients, Untyped, diagnose, environment_problem
from lockstep.oci.reads import explained
from lockstep.protocol.errors import (
    AUDIT_ERRORS,
    AuditLogAccessDeniedError,
    Environment,
    EnvironmentalError,
    ErrorKind,
    LockstepError,
    SessionFailure,
)
from lockstep.protocol.federation import IssuerKey, Jwk, management_endpoint, public_key

_ENABLED = "ENABLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """A version of the key.

    Attributes:
        id: Its OCID.
        is_enabled: Whether it signs.
        made_at: When it was made.
    """

    id: str
    is_enabled: bool
    made_at: datetime


class IssuerKeyVersions:
    """The versions of one key.

    Every method raises an EnvironmentalError where the vault does not do it.

    Args:
        clients: Of the vault's region.
        key_id: The OCID of the key.
        endpoint: The cryptographic endpoint of its vault.
        elsewhere: Where everything of OCI is, if not at Oracle's own addresses.
    """

    def __init__(self, clients: OciClients, *, key_id: str, endpoint: str, elsewhere: str | None) -> None:
        self._clients = clients
        self._key_id = key_id
        self._endpoint = elsewhere or management_endpoint(endpoint)

    def listed(self) -> Sequence[KeyVersion]:
        """All versions, the oldest first."""
        with explained("ListKeyVersions"):
            found = oci.pagination.list_call_get_all_results(self._management.list_key_versions, self._key_id)
            return sorted(map(_version, found.data), key=lambda version: version.made_at)

    def public_key(self, version: str) -> Jwk:
        """The public half of a version.

        Raises:
            MessageError: As `lockstep.protocol.federation.public_key`.
        """
        with explained("GetKeyVersion"):
            shown = self._management.get_key_version(self._key_id, version).data
        return public_key(version, str(shown.public_key or ""))

    @property
    def _management(self) -> Untyped:
        return self._clients.of(oci.key_management.KmsManagementClient, endpoint=self._endpoint)


def _version(shown: Untyped) -> KeyVersion:
    return KeyVersion(
        id=str(shown.id),
        is_enabled=shown.lifecycle_state == _ENABLED,
        made_at=shown.time_created,
    )


def sign(clients: OciClients, key: IssuerKey, digest: bytes, *, endpoint: str | None = None) -> bytes:
    """The signature of a SHA-256 digest by RSASSA-PKCS1-v1_5.

    Args:
        clients: Of the process; its principal needs KEY_SIGN on the key.
        key: The key, and its version that signs.
        digest: 32 bytes.
        endpoint: Where OCI is, if not at the key's own address.

    Raises:
        SessionFailure: There is none.
        LockstepError: There is no identity, or the call may not be sent.
    """
    try:
        return _signature(clients, key.id, key.version, digest, endpoint or key.endpoint)
    except binascii.Error:
        raise SessionFailure(
            ErrorKind.UNREACHABLE, "not-a-signature", EnvironmentalError(Environment.ISSUER_KEY_REFUSED)
        ) from None
    except LockstepError:
        raise  # The step has ended, or there is no identity to sign as.
    except Exception as error:  # noqa: BLE001 - the SDK raises a plain Exception for an answer that it cannot read
        raise _failure(error) from None


def _signature(clients: OciClients, key_id: str, version: str | None, digest: bytes, endpoint: str) -> bytes:
    details = oci.key_management.models.SignDataDetails
    answer = clients.of(oci.key_management.KmsCryptoClient, endpoint=endpoint).sign(
        details(
            key_id=key_id,
            key_version_id=version,
            message=base64.b64encode(digest).decode(),
            message_type=details.MESSAGE_TYPE_DIGEST,
            signing_algorithm=details.SIGNING_ALGORITHM_SHA_256_RSA_PKCS1_V1_5,
        )
    )
    return base64.b64decode(answer.data.signature, validate=True)


def _failure(error: Exception) -> SessionFailure:
    kind, code = diagnose(error)
    failure = SessionFailure(kind, code, environment_problem(error))
    if failure.kind is ErrorKind.DENIED:
        failure.problem = EnvironmentalError(Environment.ISSUER_KEY_REFUSED, code=code)
    return failure


class VaultDigestKey:
    """The port `lockstep.audit.digest.DigestKey` on an RSA key.

    Its principal needs KEY_SIGN and KEY_READ on the key.

    Args:
        clients: Of the vault's region.
        key: The OCID of the key, `@`, and the cryptographic endpoint of its vault.
        elsewhere: Where everything of OCI is, if not at Oracle's own addresses.
    """

    def __init__(self, clients: OciClients, key: str, *, elsewhere: str | None = None) -> None:
        self._clients = clients
        self._key_id, _, endpoint = key.partition("@")
        self._endpoint = elsewhere or endpoint
        self._version: str | None = None
        self._public_key = ""

    def sign(self, digest: bytes) -> bytes:
        """The signature of a SHA-256 digest: by the version whose public half was told, else by the current one."""
        with self._clients.translated(AUDIT_ERRORS, action="Sign"):
            return _signature(self._clients, self._key_id, self._version, digest, self._endpoint)

    def public_key(self) -> str:
        """The public half of the version that was current when it was first asked for, as PEM."""
        if self._version is None:
            with self._clients.translated(AUDIT_ERRORS, action="GetKeyVersion"):
                management = self._clients.of(
                    oci.key_management.KmsManagementClient, endpoint=management_endpoint(self._endpoint)
                )
                version = str(management.get_key(self._key_id).data.current_key_version)
                shown = management.get_key_version(self._key_id, version).data
            if not shown.public_key:
                raise AuditLogAccessDeniedError(action="GetKeyVersion", code="no-public-key")
            self._version, self._public_key = version, str(shown.public_key)
        return self._public_key
