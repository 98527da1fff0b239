"""What is in an OCI tenancy that a plan may name: namespace, buckets, vaults. Lists only."""

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.identity import own_oci_identity
from lockstep.oci.clients import Untyped, make_client
from lockstep.oci.reads import explained


class OciInventory:
    """The lists of one region, for the identity that the environment names.

    Each raises an EnvironmentalError where it cannot be had.
    """

    def __init__(self, region: str, *, endpoint: str | None = None) -> None:
        self._region, self._endpoint = region, endpoint

    def namespace(self) -> str:
        """The tenancy's Object Storage namespace."""
        with explained("GetNamespace"):
            return str(self._client(oci.object_storage.ObjectStorageClient).get_namespace().data)

    def buckets(self, compartment_id: str) -> list[str]:
        """Names of a compartment's buckets."""
        with explained("ListBuckets"):
            client = self._client(oci.object_storage.ObjectStorageClient)
            found = oci.pagination.list_call_get_all_results(
                client.list_buckets, client.get_namespace().data, compartment_id
            )
            return sorted(bucket.name for bucket in found.data)

    def vaults(self, compartment_id: str) -> list[str]:
        """OCIDs of a compartment's vaults."""
        with explained("ListVaults"):
            client = self._client(oci.key_management.KmsVaultClient)
            found = oci.pagination.list_call_get_all_results(client.list_vaults, compartment_id)
            return sorted(vault.id for vault in found.data if vault.lifecycle_state == "ACTIVE")

    def _client(self, kind: Untyped) -> Untyped:
        return make_client(kind, own_oci_identity(), region=self._region, endpoint=self._endpoint)
