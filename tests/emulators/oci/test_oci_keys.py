"""Keys: signatures by their versions, states, and a permission for each call."""

import base64
import hashlib
from collections.abc import Callable

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from sandbox.oci_resources import create_signing_key
from tests.emulators.oci.oci_case import OciCase, Untyped, refused

DIGEST = hashlib.sha256(b"header.claims").digest()
ALGORITHM = "SHA_256_RSA_PKCS1_V1_5"
NOT_FOUND = (404, "NotAuthorizedOrNotFound")


class Keys:
    """A key, and the calls of its two services."""

    def __init__(self, case: OciCase) -> None:
        self.case = case
        self.key = create_signing_key(case.sandbox)

    def management(self, config: dict[str, str] | None = None) -> Untyped:
        return self.case.client("key_management.KmsManagementClient", config)

    def sign(self, *, config: dict[str, str] | None = None, **changes: Untyped) -> Untyped:
        fields = {
            "key_id": self.key.ocid,
            "message_type": "DIGEST",
            "signing_algorithm": ALGORITHM,
            **changes,
        }
        message = base64.b64encode(fields.pop("message", DIGEST)).decode()
        details = oci.key_management.models.SignDataDetails(message=message, **fields)
        return self.case.client("key_management.KmsCryptoClient", config).sign(details).data


@pytest.fixture(name="keys")
def _keys(case: OciCase) -> Keys:
    return Keys(case)


def test_what_is_not_signed(keys: Keys) -> None:
    wrong: list[tuple[dict[str, Untyped], tuple[int, str]]] = [
        *(({"message": message}, (400, "InvalidParameter")) for message in (b"", DIGEST[:-1], DIGEST + b"x")),
        ({"signing_algorithm": "ECDSA_SHA_256"}, (400, "InvalidParameter")),
        ({"signing_algorithm": "SHA_256_RSA_PKCS_PSS"}, (501, "NotImplemented")),
        ({"key_version_id": "ocid1.keyversion.oc1..other"}, NOT_FOUND),
    ]
    for changes, refusal in wrong:
        with refused(*refusal):
            keys.sign(**changes)


Call = Callable[[Keys, dict[str, str]], object]
CALLS: dict[str, tuple[str, Call]] = {
    "get_key": ("KEY_READ", lambda k, c: k.management(c).get_key(k.key.ocid)),
    "list_key_versions": ("KEY_INSPECT", lambda k, c: k.management(c).list_key_versions(k.key.ocid)),
    "get_key_version": (
        "KEY_READ",
        lambda k, c: k.management(c).get_key_version(k.key.ocid, k.key.current.ocid),
    ),
    "create_key_version": ("KEY_ROTATE", lambda k, c: k.management(c).create_key_version(k.key.ocid)),
    "sign": ("KEY_SIGN", lambda k, c: k.sign(config=c)),
}


@pytest.mark.parametrize(("permission", "call"), CALLS.values(), ids=CALLS)
def test_each_call_needs_its_permission_on_the_key(keys: Keys, permission: str, call: Call) -> None:
    keys.management().create_key_version(keys.key.ocid)
    identity = keys.case.sandbox.identity
    others = {wanted for wanted, _ in CALLS.values()} - {permission}
    config = keys.case.sandbox.new_api_key("clerk", *others, resource=keys.key.ocid)
    identity.permit("clerk", permission, resource="ocid1.key.oc1..other")
    with refused(*NOT_FOUND):
        call(keys, config)
    identity.permit("clerk", permission, resource=keys.key.ocid)
    assert call(keys, config)
