"""API keys of users, as IAM shows them.

Permissions: https://docs.oracle.com/iaas/Content/Identity/policyreference/iampolicyreference.htm. A user may
list the own keys without any policy.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.oci.calls import Call
from sandbox.oci.clock import rfc3339
from sandbox.oci.errors import not_found
from sandbox.oci.identity import TENANCY, ApiKey, Identity, Principal, pem_of
from sandbox.oci.wire import Reply, json_reply


@dataclass(frozen=True, slots=True)
class UsersService:
    """IAM, as far as users with API keys go."""

    identity: Identity

    @property
    def operations(self) -> dict[str, Callable[[Call], Reply]]:
        """What can be called, by the SDK's names."""
        return {
            "list_api_keys": self._list,
        }

    def _list(self, call: Call) -> Reply:
        user = self._user(call, "USER_READ")
        return json_reply([self._shown(key) for key in self.identity.api_keys(user.ocid)], {})

    def _shown(self, key: ApiKey) -> dict[str, object]:
        return {
            "keyId": key.key_id,
            "keyValue": pem_of(key.public_key),
            "fingerprint": key.fingerprint,
            "userId": key.principal.ocid,
            "timeCreated": rfc3339(key.time_created),
            "lifecycleState": "ACTIVE",
        }

    def _user(self, call: Call, *permissions: str) -> Principal:
        user = self.identity.user(call.path["user"])
        if user is None or not (
            user is call.principal or call.may(*permissions, resource=None, compartment=TENANCY)
        ):
            raise not_found()
        return user
