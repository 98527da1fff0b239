"""What is in an AWS account that a plan may name: secrets, buckets, keys that sign, networks. Lists only."""

from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.aws.clients import aws_client
from lockstep.aws.reads import explained
from lockstep.oci.clients import Untyped, make_client
from lockstep.oci.reads import explained as oci_explained
from lockstep.runtime.identity import own_oci_identity


class AwsInventory:
    """The lists of one region. Each raises an EnvironmentalError where it cannot be had."""

    def __init__(self, region: str) -> None:
        self._region = region

    def secrets(self) -> list[str]:
        """Names of secrets."""
        return self._all("secretsmanager", "list_secrets", "SecretList", "Name")

    def buckets(self) -> list[str]:
        """Names of buckets, of every region."""
        return self._all("s3", "list_buckets", "Buckets", "Name")

    def keys(self) -> list[str]:
        """Aliases of keys, without AWS's own."""
        aliases = self._all("kms", "list_aliases", "Aliases", "AliasName")
        return [alias for alias in aliases if not alias.startswith("alias/aws/")]

    def networks(self) -> list[str]:
        """Ids of VPCs."""
        return self._all("ec2", "describe_vpcs", "Vpcs", "VpcId")

    def subnets(self, vpc: str) -> list[tuple[str, str]]:
        """A VPC's subnets: availability zone and id."""
        wanted = [{"Name": "vpc-id", "Values": [vpc]}]
        with explained():
            pages = self._client("ec2").get_paginator("describe_subnets").paginate(Filters=wanted)
            return sorted((s["AvailabilityZone"], s["SubnetId"]) for page in pages for s in page["Subnets"])

    def _all(self, service: str, operation: str, items: str, name: str) -> list[str]:
        with explained():
            client = self._client(service)
            pages = client.get_paginator(operation).paginate()
            return sorted(item[name] for page in pages for item in page.get(items, []))

    def _client(self, service: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        return aws_client(service, self._region)


# What is in an OCI tenancy that a plan may name: namespace, buckets, vaults. Lists only.


class OciInventory:
    """The lists of one region, for the identity that the environment names.

    Each raises an EnvironmentalError where it cannot be had.
    """

    def __init__(self, region: str, *, endpoint: str | None = None) -> None:
        self._region, self._endpoint = region, endpoint

    def namespace(self) -> str:
        """The tenancy's Object Storage namespace."""
        with oci_explained("GetNamespace"):
            return str(self._client(oci.object_storage.ObjectStorageClient).get_namespace().data)

    def buckets(self, compartment_id: str) -> list[str]:
        """Names of a compartment's buckets."""
        with oci_explained("ListBuckets"):
            client = self._client(oci.object_storage.ObjectStorageClient)
            found = oci.pagination.list_call_get_all_results(
                client.list_buckets, client.get_namespace().data, compartment_id
            )
            return sorted(bucket.name for bucket in found.data)

    def vaults(self, compartment_id: str) -> list[str]:
        """OCIDs of a compartment's vaults."""
        with oci_explained("ListVaults"):
            client = self._client(oci.key_management.KmsVaultClient)
            found = oci.pagination.list_call_get_all_results(client.list_vaults, compartment_id)
            return sorted(vault.id for vault in found.data if vault.lifecycle_state == "ACTIVE")

    def _client(self, kind: Untyped) -> Untyped:
        return make_client(kind, own_oci_identity(), region=self._region, endpoint=self._endpoint)
