import base64
import hashlib
from collections.abc import Iterator
from datetime import timedelta

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sandbox.emulators.oci import Key
from sandbox.oci_resources import create_signing_key
from tests.emulators.oci.oci_case import OciCase, Untyped, refused

DIGEST = hashlib.sha256(b"header.claims").digest()
ALGORITHM = "SHA_256_RSA_PKCS1_V1_5"


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


@pytest.fixture
def key(case: OciCase) -> Key:
    return create_signing_key(case.sandbox)


def management(case: OciCase, config: dict[str, str] | None = None) -> Untyped:
    return case.client("key_management.KmsManagementClient", config)


def sign(
    case: OciCase,
    key: Key,
    *,
    config: dict[str, str] | None = None,
    message: bytes = DIGEST,
    version: str | None = None,
    kind: str = "DIGEST",
    algorithm: str = ALGORITHM,
) -> Untyped:
    details = oci.key_management.models.SignDataDetails(
        key_id=key.ocid,
        key_version_id=version,
        message=base64.b64encode(message).decode(),
        message_type=kind,
        signing_algorithm=algorithm,
    )
    return case.client("key_management.KmsCryptoClient", config).sign(details).data


def public_key(case: OciCase, key: Key, version: str) -> rsa.RSAPublicKey:
    shown = management(case).get_key_version(key.ocid, version).data.public_key
    loaded = load_pem_public_key(shown.encode())
    assert isinstance(loaded, rsa.RSAPublicKey)
    return loaded


def verify(signed: Untyped, by: rsa.RSAPublicKey, message: bytes = b"header.claims") -> None:
    by.verify(base64.b64decode(signed.signature), message, padding.PKCS1v15(), hashes.SHA256())


def test_a_signature_is_of_the_version_whose_public_key_is_shown(case: OciCase, key: Key) -> None:
    signed = sign(case, key)
    assert (signed.key_id, signed.key_version_id) == (key.ocid, key.current.ocid)
    assert signed.signing_algorithm == ALGORITHM
    verify(signed, public_key(case, key, key.current.ocid))


def test_a_version_can_be_named(case: OciCase, key: Key) -> None:
    first = key.current.ocid
    second = management(case).create_key_version(key.ocid).data
    assert management(case).get_key(key.ocid).data.current_key_version == second.id
    old, new = sign(case, key, version=first), sign(case, key)
    assert (old.key_version_id, new.key_version_id) == (first, second.id)
    verify(old, public_key(case, key, first))
    with pytest.raises(InvalidSignature):
        verify(new, public_key(case, key, first))


def test_a_further_version_may_take_its_time(case: OciCase, key: Key) -> None:
    first = key.current.ocid
    case.sandbox.keys.creating_for = timedelta(minutes=1)
    second = management(case).create_key_version(key.ocid).data
    assert (second.lifecycle_state, second.public_key) == ("CREATING", None)
    assert sign(case, key).key_version_id == first
    with refused(409, "IncorrectState"):
        sign(case, key, version=second.id)
    case.sandbox.clock.advance(timedelta(minutes=1))
    assert sign(case, key).key_version_id == second.id
    verify(sign(case, key), public_key(case, key, second.id))


@pytest.mark.parametrize("message", [b"", DIGEST[:-1], DIGEST + b"x"])
def test_a_digest_has_32_bytes(case: OciCase, key: Key, message: bytes) -> None:
    with refused(400, "InvalidParameter"):
        sign(case, key, message=message)


@pytest.mark.parametrize(
    ("algorithm", "status", "code"),
    [("ECDSA_SHA_256", 400, "InvalidParameter"), ("SHA_256_RSA_PKCS_PSS", 501, "NotImplemented")],
)
def test_other_algorithms(case: OciCase, key: Key, algorithm: str, status: int, code: str) -> None:
    with refused(status, code):
        sign(case, key, algorithm=algorithm)


def test_signing_is_a_permission_of_its_own(case: OciCase, key: Key) -> None:
    config = case.sandbox.new_api_key(
        "reader", "KEY_READ", "KEY_INSPECT", "KEY_ROTATE", "KEY_ENCRYPT", resource=key.ocid
    )
    with refused(404, "NotAuthorizedOrNotFound"):
        sign(case, key, config=config)
    case.sandbox.identity.permit("reader", "KEY_SIGN", resource=key.ocid)
    assert sign(case, key, config=config).signature
    other = create_signing_key(case.sandbox)
    with refused(404, "NotAuthorizedOrNotFound"):
        sign(case, other, config=config)


@pytest.mark.parametrize(
    ("permission", "call"),
    [
        ("KEY_READ", "get_key"),
        ("KEY_INSPECT", "list_key_versions"),
        ("KEY_READ", "get_key_version"),
        ("KEY_ROTATE", "create_key_version"),
        ("KEY_UPDATE", "disable_key"),
        ("KEY_DELETE", "schedule_key_version_deletion"),
    ],
)
def test_each_call_needs_its_permission(case: OciCase, key: Key, permission: str, call: str) -> None:
    first = key.current.ocid
    management(case).create_key_version(key.ocid)
    more = {
        "get_key_version": (first,),
        "schedule_key_version_deletion": (
            first,
            oci.key_management.models.ScheduleKeyVersionDeletionDetails(),
        ),
    }
    every = {"KEY_READ", "KEY_INSPECT", "KEY_ROTATE", "KEY_UPDATE", "KEY_DELETE", "KEY_SIGN"}
    config = case.sandbox.new_api_key("clerk", *(every - {permission}), resource=key.ocid)
    with refused(404, "NotAuthorizedOrNotFound"):
        getattr(management(case, config), call)(key.ocid, *more.get(call, ()))
    case.sandbox.identity.permit("clerk", permission, resource=key.ocid)
    assert getattr(management(case, config), call)(key.ocid, *more.get(call, ())).status == 200


def test_a_disabled_key_neither_signs_nor_rotates(case: OciCase, key: Key) -> None:
    assert management(case).disable_key(key.ocid).data.lifecycle_state == "DISABLED"
    with refused(409, "IncorrectState"):
        sign(case, key)
    with refused(409, "IncorrectState"):
        management(case).create_key_version(key.ocid)
    with refused(409, "IncorrectState"):
        management(case).disable_key(key.ocid)
    management(case).enable_key(key.ocid)
    assert sign(case, key).signature


def test_a_key_that_is_pending_deletion_does_not_sign(case: OciCase, key: Key) -> None:
    key.state = "PENDING_DELETION"
    with refused(409, "IncorrectState"):
        sign(case, key)


def test_a_version_of_another_key_is_not_found(case: OciCase, key: Key) -> None:
    other = create_signing_key(case.sandbox)
    with refused(404, "NotAuthorizedOrNotFound"):
        management(case).get_key_version(key.ocid, other.current.ocid)
    with refused(404, "NotAuthorizedOrNotFound"):
        sign(case, key, version=other.current.ocid)
