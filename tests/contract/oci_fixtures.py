"""The OCI adapters on the sandbox, for the contract suites."""

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.ring import VaultRing
from lockstep.oci.vault import Vault, VaultSigner
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.model import Credential
from lockstep.protocol.names import VersionNames, slot_name
from lockstep.protocol.ports import Clock, VersionedSecret
from lockstep.runtime.system import SystemClock
from lockstep.stores.credential import CredentialStore
from sandbox.emulators.oci import OciSandbox
from sandbox.oci_resources import create_audit_bucket, create_secret
from tests.contract.harness import (
    CREDENTIAL,
    PLACEHOLDER_TEXT,
    Disturbance,
    Disturbed,
    Renewed,
    SecretKind,
    Signers,
)
from tests.support.logs import object_storage_log
from tests.support.memory import EntryObjects

APP_USER_VERSIONS = VersionNames(credential_id=CREDENTIAL.id, secret=CREDENTIAL.secret_names.app_user)
BUCKET = "lockstep-audit"
Untyped = Any
"""A value of the SDK, which ships no types."""


def sandbox_clients(
    sandbox: OciSandbox,
    config: dict[str, str] | None = None,
    *,
    timeouts: CloudTimeouts = CloudTimeouts(),  # noqa: B008  immutable
) -> OciClients:
    """Clients as production makes them."""
    identity = OciIdentity(config=config or sandbox.config())
    return OciClients(lambda: identity, "eu-frankfurt-1", endpoint=sandbox.endpoint, timeouts=timeouts)


def sandbox_vault(sandbox: OciSandbox, clients: OciClients | None = None) -> Vault:
    """The sandbox's vault, as the plan's store `oci`, with the rings' compartment."""
    return Vault(
        clients or sandbox_clients(sandbox),
        compartment_id=sandbox.compartment_id,
        vault_id=sandbox.vault_id,
        store="oci",
    )


class OciConsole:
    """What an operator does in the console."""

    def __init__(self, sandbox: OciSandbox) -> None:
        self._sandbox = sandbox
        self.vaults: Untyped = sandbox.client(oci.vault.VaultsClient)
        self.secrets: Untyped = sandbox.client(oci.secrets.SecretsClient)
        self.storage: Untyped = sandbox.client(oci.object_storage.ObjectStorageClient)

    def create_secret(self, name: str, text: str) -> str:
        return create_secret(self._sandbox, name, text.encode())

    def edit(self, secret_id: str, text: str, *, stage: str = "CURRENT", name: str | None = None) -> None:
        details = oci.vault.models.UpdateSecretDetails(secret_content=_content(text, stage=stage, name=name))
        self.vaults.update_secret(secret_id, details)

    def remove(self, secret_id: str) -> None:
        self.vaults.schedule_secret_deletion(secret_id, oci.vault.models.ScheduleSecretDeletionDetails())

    def restore(self, secret_id: str) -> None:
        self.vaults.cancel_secret_deletion(secret_id)

    def versions(self, secret_id: str) -> list[Untyped]:
        """All versions, in the order of their numbers."""
        pages = oci.pagination.list_call_get_all_results(self.vaults.list_secret_versions, secret_id)
        return sorted(pages.data, key=lambda v: v.version_number)

    def current(self, secret_id: str) -> tuple[str | None, str]:
        """Content name and text of the current version, as an application reads it."""
        bundle = self.secrets.get_secret_bundle(secret_id).data
        return bundle.version_name, base64.b64decode(bundle.secret_bundle_content.content).decode()

    def create_bucket(self, name: str, *, tier: str = "Standard") -> None:
        create_audit_bucket(self._sandbox, name, tier=tier, compartment=self._sandbox.compartment_id)


def _content(text: str, *, stage: str | None = None, name: str | None = None) -> Untyped:
    encoded = base64.b64encode(text.encode()).decode("ascii")
    return oci.vault.models.Base64SecretContentDetails(content=encoded, stage=stage, name=name)


class _OfClients(Disturbed):
    """Disturbs clients when the SDK sends a request."""

    def __init__(self, clients: OciClients) -> None:
        self._bases = [c.base_client for c in (clients.vaults, clients.secrets, clients.objects)]

    @contextmanager
    def _at(self, when: str, disturbance: Disturbance) -> Iterator[None]:
        def disturbed(send: Callable[..., Untyped]) -> Callable[..., Untyped]:
            def request(*args: Untyped, **kwargs: Untyped) -> Untyped:
                if when == "before":
                    disturbance()
                reply = send(*args, **kwargs)
                if when == "after":
                    disturbance()
                return reply

            return request

        with ExitStack() as stack:
            for base in self._bases:
                stack.enter_context(patch.object(base, "request", disturbed(base.request)))
            yield

    def _lose(self) -> None:
        raise oci.exceptions.RequestException("connection closed")


class VaultRingHarness(Renewed, _OfClients):
    """The adapter `VaultRing` under a `CredentialStore`. Its OCIDs are looked up before the test.

    `edit` changes the slot that applications read.
    """

    def __init__(self, sandbox: OciSandbox, *, slots: int, clock: Clock | None = None) -> None:
        self.sandbox = sandbox
        self.slots = slots
        self.clock = clock or SystemClock()
        self.console = OciConsole(sandbox)
        self.clients, self._theirs = sandbox_clients(sandbox), sandbox_clients(sandbox)
        super().__init__(self.clients)
        self._make(CREDENTIAL)

    def _make(self, credential: Credential) -> None:
        super()._make(credential)
        self.ids = {
            kind: [
                self.console.create_secret(slot_name(name, i), PLACEHOLDER_TEXT) for i in range(self.slots)
            ]
            for kind, name in self.names.items()
        }
        self.vault = sandbox_vault(self.sandbox, self.clients)
        self.store = self.store_on(self.vault)
        self.secret = self._open_ring(self.vault, self._versions)
        self.store.read_current()

    def store_on(self, vault: Vault) -> CredentialStore:
        """A new store on a vault, as each run of a process makes it."""
        return CredentialStore("oci", self.credential, partial(self._open_ring, vault))

    def _open_ring(self, vault: Vault, names: VersionNames) -> VaultRing:
        return VaultRing(vault, names, slots=self.slots, clock=self.clock)

    def rival(self) -> CredentialStore:
        return self.store_on(sandbox_vault(self.sandbox, self._theirs))

    def rival_secret(self) -> VersionedSecret:
        return self._open_ring(sandbox_vault(self.sandbox, self._theirs), self._versions)

    def serving(self, secret: SecretKind) -> tuple[str, int, str]:
        """The slot that applications read: its OCID, the generation, the text."""
        versions = VersionNames(credential_id=self.credential.id, secret=self.names[secret])
        found = []
        for index, secret_id in enumerate(self.ids[secret]):
            name, text = self.console.current(secret_id)
            found.append((versions.generation_of(name), -index, secret_id, text))
        generation, _, secret_id, text = max(found)
        return secret_id, generation, text

    def edit(self, secret: SecretKind, text: str) -> None:
        self.console.edit(self.serving(secret)[0], text)

    def remove(self, secret: SecretKind) -> None:
        for secret_id in self.ids[secret]:
            self.console.remove(secret_id)

    def current_text(self, secret: SecretKind) -> str:
        return self.serving(secret)[2]


class ObjectStorageHarness(Renewed, _OfClients):
    """The adapter `ObjectStorageFolder`."""

    def __init__(self, sandbox: OciSandbox) -> None:
        console = OciConsole(sandbox)
        console.create_bucket(BUCKET)
        self._storage, self._place = console.storage, (sandbox.namespace, BUCKET)
        self._clients = sandbox_clients(sandbox)
        super().__init__(self._clients)
        self._make(CREDENTIAL)

    def _make(self, credential: Credential) -> None:
        namespace, bucket = self._place
        self.log = object_storage_log(self._clients, namespace, bucket, credential.id, page_size=2)
        self._objects = EntryObjects("oci", credential.id)

    def overwrite(self, seq: int, body: bytes) -> None:
        self._storage.put_object(*self._place, self._objects.key(seq), body)

    def delete(self, seq: int) -> None:
        self._storage.delete_object(*self._place, self._objects.key(seq))

    def plant(self, name: str) -> None:
        self._storage.put_object(*self._place, f"{self._objects.prefix}{name}", b"{}")


def oci_signers(sandbox: OciSandbox) -> Signers:
    console, vault = OciConsole(sandbox), sandbox_vault(sandbox)
    for name in ("lockstep.mac", "lockstep.other-mac"):
        console.create_secret(name, f"a key of more than 32 bytes, for {name}")
    return Signers(VaultSigner(vault, "lockstep.mac"), VaultSigner(vault, "lockstep.other-mac"))
