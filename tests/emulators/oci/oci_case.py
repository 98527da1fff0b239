"""An OCI sandbox with a fixed clock, the SDK's clients on it, and the calls that its tests make most often."""

import base64
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final, Self, TypeAlias

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from sandbox.emulators.oci import OciSandbox, SandboxClock

# A value of the SDK, which ships no types.
Untyped: TypeAlias = Any

START: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


@contextlib.contextmanager
def refused(status: int, code: str | None) -> Iterator[None]:
    """Check that the service refuses the call inside with this status and code."""
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        yield
    assert (caught.value.status, caught.value.code) == (status, code)


@contextlib.contextmanager
def lost() -> Iterator[None]:
    """Check that the call inside loses its connection or times out."""
    with pytest.raises(oci.exceptions.RequestException):
        yield


class OciCase:
    def __init__(self, clock: SandboxClock | None = None) -> None:
        self.sandbox = OciSandbox(clock or SandboxClock.fixed(START))
        self.vaults: Untyped = None
        self.secrets: Untyped = None
        self.storage: Untyped = None

    def __enter__(self) -> Self:
        self.sandbox.start()
        self.vaults, self.secrets, self.storage = self.clients()
        return self

    def __exit__(self, *_: object) -> None:
        self.sandbox.stop()

    def client(self, kind: str, config: dict[str, str] | None = None) -> Untyped:
        """A client of the SDK, by its module and class."""
        module, name = kind.split(".")
        return self.sandbox.client(getattr(getattr(oci, module), name), config)

    def clients(
        self, config: dict[str, str] | None = None, *, timeout_seconds: float = 10
    ) -> tuple[Untyped, Untyped, Untyped]:
        kinds = (oci.vault.VaultsClient, oci.secrets.SecretsClient, oci.object_storage.ObjectStorageClient)
        vaults, secrets, storage = (
            self.sandbox.client(kind, config, timeout_seconds=timeout_seconds) for kind in kinds
        )
        return vaults, secrets, storage

    # ---- Vault

    def create(self, name: str = "multi-cloud.app_user.0", *, content_name: str = "g1") -> str:
        details = oci.vault.models.CreateSecretDetails(
            compartment_id=self.sandbox.compartment_id,
            vault_id=self.sandbox.vault_id,
            key_id=self.sandbox.key_id,
            secret_name=name,
            secret_content=content_of(content_name),
        )
        return str(self.vaults.create_secret(details).data.id)

    def upload(self, secret: str, name: str, stage: str | None = None, **options: Untyped) -> Untyped:
        details = oci.vault.models.UpdateSecretDetails(secret_content=content_of(name, stage))
        return self.vaults.update_secret(secret, details, **options)

    def promote(self, secret: str, number: int, **options: Untyped) -> Untyped:
        details = oci.vault.models.UpdateSecretDetails(current_version_number=number)
        return self.vaults.update_secret(secret, details, **options)

    def schedule(self, secret: str, number: int, at: datetime | None) -> None:
        details = oci.vault.models.ScheduleSecretVersionDeletionDetails(time_of_deletion=at)
        self.vaults.schedule_secret_version_deletion(secret, number, details)

    def versions(self, secret: str) -> list[Untyped]:
        pages = oci.pagination.list_call_get_all_results(self.vaults.list_secret_versions, secret)
        return list(pages.data)

    def stages(self, secret: str) -> dict[int, list[str]]:
        return {version.version_number: version.stages for version in self.versions(secret)}

    def content(self, secret: str, **choice: str | int) -> str:
        bundle = self.secrets.get_secret_bundle(secret, **choice).data
        return base64.b64decode(bundle.secret_bundle_content.content).decode()

    # ---- Object Storage

    def create_bucket(self, name: str = "audit", **details: str) -> None:
        self.storage.create_bucket(
            self.sandbox.namespace,
            oci.object_storage.models.CreateBucketDetails(
                name=name, compartment_id=self.sandbox.compartment_id, **details
            ),
        )

    def put(self, name: str, body: bytes = b"{}", *, bucket: str = "audit", **options: Untyped) -> Untyped:
        return self.storage.put_object(self.sandbox.namespace, bucket, name, body, **options)


def content_of(name: str, stage: str | None = None) -> Untyped:
    """Content whose text contains its name."""
    content = base64.b64encode(f"value {name}".encode()).decode("ascii")
    return oci.vault.models.Base64SecretContentDetails(content=content, name=name, stage=stage)
