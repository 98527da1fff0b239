"""The adapters on the sandboxes and the doubles in memory, for the contract suites.

Besides its port a suite needs a world for each adapter, and a way to disturb its calls. To add an adapter to a suite,
add its class here, and a line to the suite's list.
"""

import base64
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, Self
from unittest.mock import patch

import oci  # type: ignore[import-untyped]  # the SDK ships no types
from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ConnectionClosedError
from msgspec import structs

from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.s3 import S3Folder
from lockstep.aws.secrets_manager import SecretsManagerSecret
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.object_storage import ObjectStorageFolder
from lockstep.oci.ring import VaultRing
from lockstep.oci.vault import Vault
from lockstep.protocol import errors
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.model import Credential, SecretNames, SecretStr
from lockstep.protocol.names import VersionNames, slot_name
from lockstep.protocol.ports import Clock, EntryLog, VersionedSecret, chain_folder
from lockstep.runtime.system import SystemClock
from lockstep.stores.credential import CredentialStore
from sandbox.emulators.aws.resources import create_audit_bucket, create_lock_table
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.identities import endless
from sandbox.oci_resources import create_audit_bucket as create_bucket
from sandbox.oci_resources import create_secret
from tests.support.memory import PLACEHOLDER_TEXT, MemoryAuditLog, MemoryStore, SecretKind, make_plan
from tests.support.memory_lock import MemoryLock

CREDENTIAL = make_plan().credentials[0]
KEYS = AwsKeys(access_key_id="sandbox", secret_access_key=SecretStr("sandbox"))
SESSIONS = endless(KEYS)
"""An identity that signs with these."""
APP_USER_VERSIONS = VersionNames(credential_id=CREDENTIAL.id, secret=CREDENTIAL.secret_names.app_user)
TABLE, BUCKET = "lockstep-lock", "lockstep-audit"
Untyped = Any
"""A value of an SDK that ships no types."""
_NUMBERS = count(1)


def another_credential() -> Credential:
    """The same with secrets and a log of its own, for another world in the same cloud."""
    made = f"{CREDENTIAL.id}_{next(_NUMBERS)}"
    names = SecretNames(app_user=made, connection_blob=f"{made}.connection")
    return structs.replace(CREDENTIAL, id=made, secret_names=names)


def names_of(credential: Credential) -> dict[SecretKind, str]:
    """The names of its two secrets."""
    names = credential.secret_names
    return {"app_user": names.app_user, "connection_blob": names.connection_blob}


class Disturbed(ABC):
    """An adapter whose calls to its service can be disturbed.

    Attributes:
        lost: What its client raises where there is no reply.
    """

    lost: Exception | type[Exception]

    @abstractmethod
    def _sends(self, when: str) -> Sequence[tuple[object, str]]:
        """Which functions make the calls: objects with the name of an attribute."""

    def before_call(self, call: int, act: Callable[[], object]) -> AbstractContextManager[None]:
        """Run `act` right before the n-th call inside the block."""
        return self._at("before", call, act)

    def lose_reply(self, call: int) -> AbstractContextManager[None]:
        """Let the n-th call inside the block take effect, but lose its reply."""

        def lose() -> None:
            raise self.lost

        return self._at("after", call, lose)

    @contextmanager
    def _at(self, when: str, call: int, act: Callable[[], object]) -> Iterator[None]:
        calls = count(1)

        def disturbed(send: Callable[..., Untyped]) -> Callable[..., Untyped]:
            def sent(*args: Untyped, **more: Untyped) -> Untyped:
                is_it = next(calls) == call
                if is_it and when == "before":
                    act()
                reply = send(*args, **more)
                if is_it and when == "after":
                    act()
                return reply

            return sent

        with ExitStack() as stack:
            for owner, name in self._sends(when):
                stack.enter_context(patch.object(owner, name, disturbed(getattr(owner, name))))
            yield


# AWS


def sandbox_client(sandbox: AwsSandbox, service: str) -> Untyped:
    """A client as production makes it."""
    return aws_client(service, sandbox.region, keys=SESSIONS, endpoint=sandbox.url)


class _OfClient(Disturbed):
    def __init__(self, sandbox: AwsSandbox, service: str) -> None:
        self.sandbox, self.lost = sandbox, ConnectionClosedError(endpoint_url=sandbox.url)
        self.client, self.console = sandbox_client(sandbox, service), sandbox.client(service)

    def _sends(self, when: str) -> Sequence[tuple[object, str]]:
        del when
        return [(self.client, "_make_api_call")]


class SecretsManagerHarness(_OfClient):
    """The adapter `SecretsManagerSecret` under a `CredentialStore`."""

    def __init__(self, sandbox: AwsSandbox, credential: Credential = CREDENTIAL) -> None:
        super().__init__(sandbox, "secretsmanager")
        self.credential, self.names = credential, names_of(credential)
        for name in self.names.values():
            self.console.create_secret(Name=name, SecretString=PLACEHOLDER_TEXT)
        self.store, self.secret = self._open(self.client), self._open_secret(self.client)

    def anew(self) -> Self:
        """Another one in the same cloud, with secrets of its own."""
        return type(self)(self.sandbox, another_credential())

    def _open(self, client: Untyped) -> CredentialStore:
        return CredentialStore("aws", self.credential, partial(SecretsManagerSecret, client, "aws"))

    def _open_secret(self, client: Untyped) -> SecretsManagerSecret:
        names = VersionNames(credential_id=self.credential.id, secret=self.names["app_user"])
        return SecretsManagerSecret(client, "aws", names)

    def rival(self) -> CredentialStore:
        return self._open(sandbox_client(self.sandbox, "secretsmanager"))

    def rival_secret(self) -> VersionedSecret:
        return self._open_secret(sandbox_client(self.sandbox, "secretsmanager"))

    def edit(self, secret: SecretKind, text: str) -> None:
        self.console.put_secret_value(SecretId=self.names[secret], SecretString=text)

    def remove(self, secret: SecretKind) -> None:
        self.console.delete_secret(SecretId=self.names[secret], ForceDeleteWithoutRecovery=True)

    def current_text(self, secret: SecretKind) -> str:
        text: str = self.console.get_secret_value(SecretId=self.names[secret])["SecretString"]
        return text


class DynamoDbHarness(_OfClient):
    """The adapter `DynamoDbLock`, and the items of its table."""

    def __init__(self, sandbox: AwsSandbox) -> None:
        super().__init__(sandbox, "dynamodb")
        create_lock_table(self.console, TABLE)
        self.lock = DynamoDbLock(self.client, TABLE, CREDENTIAL.id)

    def forget(self) -> None:
        while items := self.console.scan(TableName=TABLE)["Items"]:
            for item in items:
                self.console.delete_item(TableName=TABLE, Key={"credential_id": item["credential_id"]})

    def put(self, key: str, **attributes: object) -> None:
        """Write an item in its whole."""
        self.console.put_item(TableName=TABLE, Item={"credential_id": {"S": key}, **attributes})

    @property
    def item(self) -> dict[str, Any]:
        """The attributes of the record beside its key."""
        key = {"credential_id": {"S": CREDENTIAL.id}}
        found = self.console.get_item(TableName=TABLE, Key=key, ConsistentRead=True).get("Item", {})
        return {name: value for name, value in found.items() if name != "credential_id"}

    def order(self, **orders: object) -> None:
        for name, value in orders.items():
            new = value not in (None, frozenset())
            typed = TypeSerializer().serialize(
                int(value.timestamp()) if isinstance(value, datetime) else value
            )
            self.console.update_item(
                TableName=TABLE,
                Key={"credential_id": {"S": CREDENTIAL.id}},
                UpdateExpression="SET #order = :value" if new else "REMOVE #order",
                ExpressionAttributeNames={"#order": name},
                **({"ExpressionAttributeValues": {":value": typed}} if new else {}),
            )


class S3Bucket(_OfClient):
    """The adapter `S3Folder`."""

    stream = "aws"

    def __init__(self, sandbox: AwsSandbox) -> None:
        super().__init__(sandbox, "s3")
        create_audit_bucket(self.console, BUCKET, region=sandbox.region)

    def log(self, credential_id: str) -> EntryLog:
        """The audit log of a credential."""
        return EntryLog(self.open(f"{self.stream}/{chain_folder(credential_id)}", stream=self.stream))

    def open(self, folder: str, *, stream: str = "", page: int = 2) -> S3Folder:
        """A folder, of the audit log if its stream is named; by default of published plans."""
        return S3Folder(self.client, BUCKET, folder, page_size=page, stream=stream)

    def put(self, name: str, body: bytes) -> None:
        self.console.put_object(Bucket=BUCKET, Key=name, Body=body)

    def delete(self, name: str) -> None:
        self.console.delete_object(Bucket=BUCKET, Key=name)


# OCI


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
    clients, where = clients or sandbox_clients(sandbox), sandbox.compartment_id
    return Vault(clients, compartment_id=where, vault_id=sandbox.vault_id, store="oci")


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
        encoded = base64.b64encode(text.encode()).decode("ascii")
        content = oci.vault.models.Base64SecretContentDetails(content=encoded, stage=stage, name=name)
        details = oci.vault.models.UpdateSecretDetails(secret_content=content)
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
        create_bucket(self._sandbox, name, tier=tier, compartment=self._sandbox.compartment_id)


class _OfClients(Disturbed):
    lost = oci.exceptions.RequestException("connection closed")

    def __init__(self, sandbox: OciSandbox) -> None:
        self.sandbox, self.console, self.clients = sandbox, OciConsole(sandbox), sandbox_clients(sandbox)

    def _sends(self, when: str) -> Sequence[tuple[object, str]]:
        del when
        clients = self.clients.vaults, self.clients.secrets, self.clients.objects
        return [(client.base_client, "request") for client in clients]


class VaultRingHarness(_OfClients):
    """The adapter `VaultRing` under a `CredentialStore`. Its OCIDs are looked up before the test.

    `edit` changes the slot that applications read.
    """

    def __init__(
        self,
        sandbox: OciSandbox,
        credential: Credential = CREDENTIAL,
        *,
        slots: int,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(sandbox)
        self.credential, self.names, self.slots = credential, names_of(credential), slots
        self.clock = clock or SystemClock()
        self.ids = {
            kind: [self.console.create_secret(slot_name(name, i), PLACEHOLDER_TEXT) for i in range(slots)]
            for kind, name in self.names.items()
        }
        self._versions = {
            kind: VersionNames(credential_id=credential.id, secret=name) for kind, name in self.names.items()
        }
        self.vault = sandbox_vault(sandbox, self.clients)
        self.store = self.store_on(self.vault)
        self.secret = self._open_ring(self.vault, self._versions["app_user"])
        self.store.read_current()

    def anew(self) -> Self:
        """Another one in the same cloud, with secrets of its own."""
        return type(self)(self.sandbox, another_credential(), slots=self.slots, clock=self.clock)

    def store_on(self, vault: Vault) -> CredentialStore:
        """A new store on a vault, as each run of a process makes it."""
        return CredentialStore("oci", self.credential, partial(self._open_ring, vault))

    def _open_ring(self, vault: Vault, names: VersionNames) -> VaultRing:
        return VaultRing(vault, names, slots=self.slots, clock=self.clock)

    def rival(self) -> CredentialStore:
        return self.store_on(sandbox_vault(self.sandbox))

    def rival_secret(self) -> VersionedSecret:
        return self._open_ring(sandbox_vault(self.sandbox), self._versions["app_user"])

    def serving(self, secret: SecretKind) -> tuple[str, int, str]:
        """The slot that applications read: its OCID, the generation, the text."""
        found = []
        for index, secret_id in enumerate(self.ids[secret]):
            name, text = self.console.current(secret_id)
            found.append((self._versions[secret].generation_of(name), -index, secret_id, text))
        generation, _, secret_id, text = max(found)
        return secret_id, generation, text

    def edit(self, secret: SecretKind, text: str) -> None:
        self.console.edit(self.serving(secret)[0], text)

    def remove(self, secret: SecretKind) -> None:
        for secret_id in self.ids[secret]:
            self.console.remove(secret_id)

    def current_text(self, secret: SecretKind) -> str:
        return self.serving(secret)[2]


class OciBucket(_OfClients):
    """The adapter `ObjectStorageFolder`."""

    stream = "oci"

    def __init__(self, sandbox: OciSandbox) -> None:
        super().__init__(sandbox)
        self.console.create_bucket(BUCKET)
        self._place = sandbox.namespace, BUCKET

    def log(self, credential_id: str) -> EntryLog:
        """The audit log of a credential."""
        return EntryLog(self.open(f"{self.stream}/{chain_folder(credential_id)}", stream=self.stream))

    def open(self, folder: str, *, stream: str = "", page: int = 2) -> ObjectStorageFolder:
        """A folder, of the audit log if its stream is named; by default of published plans."""
        namespace, bucket = self._place
        return ObjectStorageFolder(
            self.clients, namespace=namespace, bucket=bucket, folder=folder, page_size=page, stream=stream
        )

    def put(self, name: str, body: bytes) -> None:
        self.console.storage.put_object(*self._place, name, body)

    def delete(self, name: str) -> None:
        self.console.storage.delete_object(*self._place, name)


# In memory


class MemoryStoreHarness(Disturbed):
    """The double `MemoryStore`, whose secrets are `MemorySecret`."""

    lost = errors.StoreUnreachableError

    def __init__(self) -> None:
        self.credential, self.store = CREDENTIAL, MemoryStore("memory", CREDENTIAL)
        self.secret, self.rival = self.store.secret("app_user"), self.store.another_client
        self.edit, self.remove = self.store.edit, self.store.remove
        self.current_text = self.store.current_text

    def anew(self) -> Self:
        return type(self)()

    def _sends(self, when: str) -> Sequence[tuple[object, str]]:
        return [(self.store.faults, when)]

    def rival_secret(self) -> VersionedSecret:
        return self.rival().secret("app_user")


class MemoryLockHarness(Disturbed):
    """The double `MemoryLock`."""

    lost = errors.LockTableUnreachableError

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lock = MemoryLock(CREDENTIAL.id)

    def _sends(self, when: str) -> Sequence[tuple[object, str]]:
        return [(self.lock.faults, when)]

    def order(self, **orders: object) -> None:
        self.lock.record = replace(self.lock.record, **orders)  # type: ignore[arg-type]  # the test names the fields


class MemoryBucket(Disturbed):
    """The double `MemoryAuditLog`, with one chain at a time."""

    lost, stream = errors.AuditLogUnreachableError, "aws"

    def log(self, credential_id: str) -> MemoryAuditLog:
        self._log = MemoryAuditLog(self.stream, credential_id)
        return self._log

    def _sends(self, when: str) -> Sequence[tuple[object, str]]:
        return [(self._log.faults, when)]

    def put(self, name: str, body: bytes) -> None:
        objects = self._log.objects
        if number := objects.seq_of(name):
            self._log.overwrite(number, body)
        else:
            self._log.plant(name.removeprefix(objects.prefix))

    def delete(self, name: str) -> None:
        self._log.delete(self._log.objects.seq_of(name))
