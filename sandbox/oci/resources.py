"""Makes in the sandbox what Terraform makes in a tenancy."""

import base64
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.protocol.names import oci_name, slot_name
from lockstep.protocol.ring import SLOTS
from sandbox.oci.keys import Key
from sandbox.oci.server import OBJECT_STORAGE_HOST, OciSandbox


def create_secret(sandbox: OciSandbox, name: str, content: bytes, *, compartment: str | None = None) -> str:
    """A secret by its name in the plan, with dots for slashes, by default in the rings' compartment; its OCID."""
    details = oci.vault.models.CreateSecretDetails(
        compartment_id=compartment or sandbox.compartment_id,
        vault_id=sandbox.vault_id,
        key_id=sandbox.key_id,
        secret_name=oci_name(name),
        secret_content=oci.vault.models.Base64SecretContentDetails(
            content=base64.b64encode(content).decode()
        ),
    )
    vaults: Any = sandbox.client(oci.vault.VaultsClient)
    return str(vaults.create_secret(details).data.id)


def create_ring(sandbox: OciSandbox, secret: str, text: str) -> list[str]:
    """The slots of a ring, each with the same first text; their OCIDs."""
    return [create_secret(sandbox, slot_name(secret, i), text.encode()) for i in range(SLOTS)]


def create_audit_bucket(
    sandbox: OciSandbox, name: str, *, tier: str = "Archive", compartment: str | None = None
) -> None:
    """A bucket that keeps every version, by default in Lockstep's own compartment."""
    storage: Any = sandbox.client(oci.object_storage.ObjectStorageClient)
    storage.create_bucket(
        sandbox.namespace,
        oci.object_storage.models.CreateBucketDetails(
            name=name,
            compartment_id=compartment or sandbox.own_compartment_id,
            storage_tier=tier,
            versioning="Enabled",
        ),
    )


def create_signing_key(sandbox: OciSandbox) -> Key:
    """An RSA key in Lockstep's own compartment, such as an issuer signs with."""
    return sandbox.keys.new_key(sandbox.own_compartment_id, sandbox.vault_id, name="lockstep-issuer")


def create_issuer_bucket(sandbox: OciSandbox, name: str, *, compartment: str | None = None) -> str:
    """A bucket whose objects anyone may read, by default in Lockstep's own compartment; its address as an issuer."""
    storage: Any = sandbox.client(oci.object_storage.ObjectStorageClient)
    storage.create_bucket(
        sandbox.namespace,
        oci.object_storage.models.CreateBucketDetails(
            name=name,
            compartment_id=compartment or sandbox.own_compartment_id,
            public_access_type="ObjectReadWithoutList",
            versioning="Enabled",
        ),
    )
    return f"https://{OBJECT_STORAGE_HOST}/n/{sandbox.namespace}/b/{name}/o"


def restore_audit_objects(sandbox: OciSandbox, bucket: str) -> int:
    """Ask for every object of an Archive bucket to be readable; how many. It takes an hour of the sandbox's clock."""
    storage: Any = sandbox.client(oci.object_storage.ObjectStorageClient)
    names = [o.name for o in storage.list_objects(sandbox.namespace, bucket).data.objects]
    for name in names:
        storage.restore_objects(
            sandbox.namespace, bucket, oci.object_storage.models.RestoreObjectsDetails(object_name=name)
        )
    return len(names)
