"""An OCI sandbox with a fixed clock for each test, the SDK's clients on it, and what the tests ask of it."""

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from sandbox.emulators.oci import OciSandbox, SandboxClock

Untyped: TypeAlias = Any
"""A value of the SDK, which ships no types."""
START: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
INVALID: Final = (400, "InvalidParameter")
NOT_FOUND: Final = (404, "NotAuthorizedOrNotFound")
NO_BUCKET: Final = (404, "BucketNotFound")
NOT_AUTHENTICATED: Final = (401, "NotAuthenticated")
models = oci.vault.models


@pytest.fixture
def sandbox() -> Iterator[OciSandbox]:
    with OciSandbox(SandboxClock.fixed(START)) as started:
        yield started


@pytest.fixture
def case(sandbox: OciSandbox) -> "OciCase":
    return OciCase(sandbox)


def refusal(call: Callable[..., object], *arguments: object, **options: object) -> tuple[int, str | None]:
    """The status and the code with which the service refuses a call."""
    with pytest.raises(oci.exceptions.ServiceError) as caught:
        call(*arguments, **options)
    return caught.value.status, caught.value.code


class OciCase:
    """Attributes: clients of the services, of an administrator or of whom a configuration names."""

    def __init__(self, sandbox: OciSandbox, config: dict[str, str] | None = None) -> None:
        self.sandbox = sandbox
        self.vaults: Untyped = sandbox.client(oci.vault.VaultsClient, config)
        self.secrets: Untyped = sandbox.client(oci.secrets.SecretsClient, config)
        self.storage: Untyped = sandbox.client(oci.object_storage.ObjectStorageClient, config)

    def by(self, name: str, *permissions: str, **where: str) -> "OciCase":
        """The clients of a new user, who has these permissions."""
        return OciCase(self.sandbox, self.sandbox.new_api_key(name, *permissions, **where))

    def create(self, name: str = "multi-cloud.app_user.0", **changes: Untyped) -> str:
        """A new secret; the content of its first version is named `g1`."""
        details: dict[str, Untyped] = {
            "compartment_id": self.sandbox.compartment_id,
            "vault_id": self.sandbox.vault_id,
            "key_id": self.sandbox.key_id,
            "secret_content": content_of("g1"),
        }
        asked = models.CreateSecretDetails(secret_name=name, **{**details, **changes})
        return str(self.vaults.create_secret(asked).data.id)

    def update(self, secret: str, **details: Untyped) -> Untyped:
        return self.vaults.update_secret(secret, models.UpdateSecretDetails(**details))

    def upload(self, secret: str, name: str, stage: str | None = None) -> Untyped:
        return self.update(secret, secret_content=content_of(name, stage))

    def schedule(self, secret: str, number: int, at: datetime | None) -> Untyped:
        details = models.ScheduleSecretVersionDeletionDetails(time_of_deletion=at)
        return self.vaults.schedule_secret_version_deletion(secret, number, details)

    def stages(self, secret: str) -> dict[int, list[str]]:
        found = oci.pagination.list_call_get_all_results(self.vaults.list_secret_versions, secret).data
        return {version.version_number: version.stages for version in found}

    def create_bucket(self, name: str = "audit", **details: str) -> None:
        asked = {"name": name, "compartment_id": self.sandbox.compartment_id, **details}
        self.storage.create_bucket(
            self.sandbox.namespace, oci.object_storage.models.CreateBucketDetails(**asked)
        )

    def put(self, name: str, body: bytes = b"{}", *, bucket: str = "audit", **options: Untyped) -> Untyped:
        return self.storage.put_object(self.sandbox.namespace, bucket, name, body, **options)

    def get(self, name: str, *, bucket: str = "audit") -> bytes:
        content: bytes = self.storage.get_object(self.sandbox.namespace, bucket, name).data.content
        return content


def content_of(name: str, stage: str | None = None) -> Untyped:
    """Content whose text contains its name."""
    content = base64.b64encode(f"value {name}".encode()).decode("ascii")
    return models.Base64SecretContentDetails(content=content, name=name, stage=stage)
