"""Signatures by a key of OCI Vault that cannot be had."""

import base64
import binascii

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.compiled import IssuerKey
from lockstep.environment import IssuerKeyRefusedError
from lockstep.errors import LockstepError
from lockstep.federation.failure import FailureKind, SessionFailure
from lockstep.oci.clients import OciClients, diagnose
from lockstep.oci.environment import environment_problem


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
    details = oci.key_management.models.SignDataDetails
    try:
        answer = clients.of(oci.key_management.KmsCryptoClient, endpoint=endpoint or key.endpoint).sign(
            details(
                key_id=key.id,
                key_version_id=key.version,
                message=base64.b64encode(digest).decode(),
                message_type=details.MESSAGE_TYPE_DIGEST,
                signing_algorithm=details.SIGNING_ALGORITHM_SHA_256_RSA_PKCS1_V1_5,
            )
        )
        return base64.b64decode(answer.data.signature, validate=True)
    except binascii.Error:
        raise SessionFailure(FailureKind.UNREACHABLE, "not-a-signature", IssuerKeyRefusedError()) from None
    except LockstepError:
        raise  # The step has ended, or there is no identity to sign as.
    except Exception as error:  # noqa: BLE001 - the SDK raises a plain Exception for an answer that it cannot read
        raise _failure(error) from None


def _failure(error: Exception) -> SessionFailure:
    trouble, code = diagnose(error)
    kind = FailureKind.of(trouble)
    if kind is FailureKind.DENIED:
        return SessionFailure(kind, code, IssuerKeyRefusedError(code=code))
    return SessionFailure(kind, code, environment_problem(error))
