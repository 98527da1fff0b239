"""Users and their API keys, as IAM shows and changes them.

Permissions: https://docs.oracle.com/iaas/Content/Identity/policyreference/iampolicyreference.htm. A user may list, add
and delete the own keys without any policy. The codes of the two refusals of an upload are not documented.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from sandbox.oci.calls import Call
from sandbox.oci.clock import rfc3339
from sandbox.oci.errors import ApiError, invalid, not_found
from sandbox.oci.identity import TENANCY, ApiKey, Identity, Principal, pem_of
from sandbox.oci.jwts import LEAST_BITS
from sandbox.oci.wire import Reply, json_reply

MOST_KEYS: Final = 3
"""What a user may have (Oracle's "Working with API Keys")."""


@dataclass(frozen=True, slots=True)
class UsersService:
    """IAM, as far as users with API keys go."""

    identity: Identity

    @property
    def operations(self) -> dict[str, Callable[[Call], Reply]]:
        """What can be called, by the SDK's names."""
        return {
            "get_user": self._get,
            "list_api_keys": self._list,
            "upload_api_key": self._upload,
            "delete_api_key": self._delete,
        }

    def _get(self, call: Call) -> Reply:
        user = self._user(call, "USER_INSPECT")
        shown = {"id": user.ocid, "compartmentId": TENANCY, "name": user.name, "description": user.name}
        return json_reply({**shown, "lifecycleState": "ACTIVE"}, {})

    def _list(self, call: Call) -> Reply:
        user = self._user(call, "USER_READ")
        return json_reply([self._shown(key) for key in self.identity.api_keys(user.ocid)], {})

    def _upload(self, call: Call) -> Reply:
        user = self._user(call, "USER_UPDATE", "USER_APIKEY_ADD")
        public_key = _rsa_key(call.details().required_text("key"))
        present = self.identity.api_keys(user.ocid)
        if any(key.public_key == public_key for key in present):
            raise ApiError(409, "ApiKeyAlreadyExists", "The API key already exists.")
        if len(present) >= MOST_KEYS:
            raise ApiError(400, "LimitExceeded", f"A user may have at most {MOST_KEYS} API keys.")
        return json_reply(self._shown(self.identity.register(user, public_key)), {})

    def _delete(self, call: Call) -> Reply:
        user = self._user(call, "USER_UPDATE", "USER_APIKEY_REMOVE")
        found = [k for k in self.identity.api_keys(user.ocid) if k.fingerprint == call.path["fingerprint"]]
        if not found:
            raise not_found()
        self.identity.unregister(found[0].key_id)
        return Reply(204)

    def _shown(self, key: ApiKey) -> dict[str, object]:
        return {
            "keyId": key.key_id,
            "keyValue": pem_of(key.public_key),
            "fingerprint": key.fingerprint,
            "userId": key.principal.ocid,
            "timeCreated": rfc3339(key.time_created),
            "lifecycleState": "ACTIVE" if self.identity.is_active(key) else "CREATING",
        }

    def _user(self, call: Call, *permissions: str) -> Principal:
        user = self.identity.user(call.path["user"])
        if user is None or not (
            user is call.principal or call.may(*permissions, resource=None, compartment=TENANCY)
        ):
            raise not_found()
        return user


def _rsa_key(pem: str) -> rsa.RSAPublicKey:
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        key = None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < LEAST_BITS:
        raise invalid(f"key must be an RSA public key of at least {LEAST_BITS} bits, as PEM")
    return key
