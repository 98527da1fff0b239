"""How Vault's two APIs show secrets and versions as JSON; only a bundle holds content."""

from datetime import datetime

from sandbox.emulators.oci.clock import rfc3339
from sandbox.emulators.oci.secret import Secret, SecretState, Version


def secret_view(secret: Secret, now: datetime) -> dict[str, object]:
    """A secret as management shows it."""
    state = secret.state
    current = next((version.number for version in state.versions if version.stage == "CURRENT"), None)
    return {
        "id": secret.ocid,
        "secretName": secret.name,
        "compartmentId": secret.compartment_id,
        "vaultId": secret.vault_id,
        "keyId": secret.key_id,
        "currentVersionNumber": current,
        "description": state.description,
        "metadata": state.metadata,
        "rotationConfig": secret.rotation,
        "freeformTags": state.freeform_tags,
        "lifecycleState": state.lifecycle_at(now),
        "timeCreated": rfc3339(secret.time_created),
        "timeOfDeletion": state.time_of_deletion and rfc3339(state.time_of_deletion),
    }


def version_view(secret: Secret, version: Version) -> dict[str, object]:
    """A version as management shows it."""
    return {
        "secretId": secret.ocid,
        "versionNumber": version.number,
        "name": version.name,
        "contentType": "BASE64",
        "stages": version.stages,
        "timeCreated": rfc3339(version.time_created),
        "timeOfDeletion": version.time_of_deletion and rfc3339(version.time_of_deletion),
    }


def bundle_view(secret: Secret, state: SecretState, version: Version) -> dict[str, object]:
    """A version with its content."""
    return {
        "secretId": secret.ocid,
        "versionNumber": version.number,
        "versionName": version.name,
        "stages": version.stages,
        "timeCreated": rfc3339(version.time_created),
        "timeOfDeletion": version.time_of_deletion and rfc3339(version.time_of_deletion),
        "metadata": state.metadata,
        "secretBundleContent": {"contentType": "BASE64", "content": version.content},
    }
