"""Makes in the sandbox what Terraform makes in a tenancy."""

import base64
import secrets
from collections.abc import Mapping
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.protocol.names import oci_name, slot_name
from lockstep.protocol.ring import SLOTS
from sandbox.emulators.oci.keys import Key
from sandbox.emulators.oci.server import OBJECT_STORAGE_HOST, OciSandbox
from sandbox.plans import MAC_SECRET, OciNames


def names_in(sandbox: OciSandbox, **more: str) -> OciNames:
    """What a plan names in the tenancy."""
    return OciNames(
        compartment_id=sandbox.compartment_id,
        own_compartment_id=sandbox.own_compartment_id,
        vault_id=sandbox.vault_id,
        namespace=sandbox.namespace,
        **more,
    )


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


def make_secrets(sandbox: OciSandbox, texts: Mapping[str, str]) -> str:
    """The secrets that the OCI runner reads, by their names in the plan, and that of the MAC key, which it returns."""
    mac_key = base64.b64encode(secrets.token_bytes(48)).decode()
    for name, text in {MAC_SECRET: mac_key, **texts}.items():
        create_secret(sandbox, name, text.encode(), compartment=sandbox.own_compartment_id)
    return mac_key


def create_ring(sandbox: OciSandbox, secret: str, text: str) -> list[str]:
    """The slots of a ring, each with the same first text; their OCIDs."""
    return [create_secret(sandbox, slot_name(secret, i), text.encode()) for i in range(SLOTS)]


def create_audit_bucket(
    sandbox: OciSandbox,
    name: str,
    *,
    tier: str = "Archive",
    compartment: str | None = None,
    retention_days: int | None = None,
) -> None:
    """A bucket with a retention rule, or where no days are given that keeps every version, as for a trial.

    Args:
        sandbox: The tenancy.
        name: The bucket's.
        tier: Of its objects.
        compartment: By default Lockstep's own.
        retention_days: For how many nobody can delete or replace an object.
    """
    versioning = "Disabled" if retention_days else "Enabled"
    storage = _with_bucket(sandbox, name, compartment, storage_tier=tier, versioning=versioning)
    if retention_days:
        storage.create_retention_rule(
            sandbox.namespace,
            name,
            oci.object_storage.models.CreateRetentionRuleDetails(
                duration=oci.object_storage.models.Duration(time_amount=retention_days, time_unit="DAYS")
            ),
        )


def _with_bucket(sandbox: OciSandbox, name: str, compartment: str | None, **details: str) -> Any:  # noqa: ANN401 - the SDK ships no types
    storage: Any = sandbox.client(oci.object_storage.ObjectStorageClient)
    place = {"name": name, "compartment_id": compartment or sandbox.own_compartment_id}
    storage.create_bucket(
        sandbox.namespace, oci.object_storage.models.CreateBucketDetails(**place, **details)
    )
    return storage


def create_signing_key(sandbox: OciSandbox, *, name: str = "lockstep-issuer") -> Key:
    """An RSA key in Lockstep's own compartment, such as an issuer or digests have."""
    return sandbox.keys.new_key(sandbox.own_compartment_id, sandbox.vault_id, name=name)


def create_issuer_bucket(sandbox: OciSandbox, name: str, *, compartment: str | None = None) -> str:
    """A bucket whose objects anyone may read, by default in Lockstep's own compartment; its address as an issuer."""
    public = {"public_access_type": "ObjectReadWithoutList", "versioning": "Enabled"}
    _with_bucket(sandbox, name, compartment, **public)
    return f"https://{OBJECT_STORAGE_HOST}/n/{sandbox.namespace}/b/{name}/o"


def restore_audit_objects(sandbox: OciSandbox, bucket: str) -> None:
    """Ask for every object of an Archive bucket to be readable. It takes an hour of the sandbox's clock."""
    storage: Any = sandbox.client(oci.object_storage.ObjectStorageClient)
    for name in [o.name for o in storage.list_objects(sandbox.namespace, bucket).data.objects]:
        storage.restore_objects(
            sandbox.namespace, bucket, oci.object_storage.models.RestoreObjectsDetails(object_name=name)
        )
