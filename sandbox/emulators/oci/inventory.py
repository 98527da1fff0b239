"""Lists of what is in the tenancy: namespace, buckets and vaults."""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.errors import not_found
from sandbox.emulators.oci.object_storage import NAMESPACE, ObjectStorageService
from sandbox.emulators.oci.vault import VaultService
from sandbox.emulators.oci.wire import Reply, json_reply

_PAGE = 100


@dataclass(frozen=True, slots=True)
class InventoryService:
    """What the services hold.

    Attributes:
        vault: All secrets and vaults.
        storage: All buckets.
        compartment_id: The compartment of the vaults.
    """

    vault: VaultService
    storage: ObjectStorageService
    compartment_id: str

    @property
    def operations(self) -> dict[str, Callable[[Call], Reply]]:
        """What can be called, by the SDK's names."""
        return {
            "get_namespace": lambda _: json_reply(NAMESPACE, {}),
            "list_buckets": self._buckets,
            "list_vaults": self._vaults,
        }

    def _buckets(self, call: Call) -> Reply:
        compartment = call.request.query.get("compartmentId", "")
        # The permissions of each call: https://docs.oracle.com/iaas/Content/Identity/Reference/objectstoragepolicyreference.htm
        if call.path["namespace"] != NAMESPACE or not call.may(
            "BUCKET_INSPECT", resource=None, compartment=compartment
        ):
            raise not_found()
        found = [
            {"namespace": NAMESPACE, "name": bucket.name, "compartmentId": compartment}
            for bucket in self.storage.buckets_of(compartment)
        ]
        items, headers = call.page_of(found, _PAGE)
        return json_reply(list(items), headers)

    def _vaults(self, call: Call) -> Reply:
        compartment = call.request.query.get("compartmentId", "")
        # https://docs.oracle.com/iaas/Content/Identity/Reference/keypolicyreference.htm
        if not call.may("VAULT_INSPECT", resource=None, compartment=compartment):
            raise not_found()
        ids = sorted(self.vault.vaults) if compartment == self.compartment_id else []
        found = [
            {"id": ocid, "compartmentId": compartment, "displayName": "lockstep", "lifecycleState": "ACTIVE"}
            for ocid in ids
        ]
        items, headers = call.page_of(found, _PAGE)
        return json_reply(list(items), headers)
