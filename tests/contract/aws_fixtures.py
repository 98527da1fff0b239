"""The AWS adapters on the sandbox, for the contract suites."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from boto3.dynamodb.types import TypeSerializer
from botocore.exceptions import ConnectionClosedError

from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.kms import KmsSigner
from lockstep.aws.secrets_manager import SecretsManagerSecret
from lockstep.protocol.model import Credential, SecretStr
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import VersionedSecret
from lockstep.stores.credential import CredentialStore
from sandbox.emulators.aws.resources import create_audit_bucket, create_lock_table, create_mac_key
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.identities import endless
from tests.contract.harness import (
    CREDENTIAL,
    PLACEHOLDER_TEXT,
    Disturbance,
    Disturbed,
    Renewed,
    SecretKind,
    Signers,
)
from tests.support.logs import s3_log
from tests.support.memory import EntryObjects

KEYS = AwsKeys(access_key_id="sandbox", secret_access_key=SecretStr("sandbox"))
SESSIONS = endless(KEYS)
"""An identity that signs with these."""
APP_USER_VERSIONS = VersionNames(credential_id=CREDENTIAL.id, secret=CREDENTIAL.secret_names.app_user)
TABLE = "lockstep-lock"
BUCKET = "lockstep-audit"


def sandbox_client(sandbox: AwsSandbox, service: str) -> Any:  # noqa: ANN401 - as `aws_client`
    """A client as production makes it."""
    return aws_client(service, sandbox.region, keys=SESSIONS, endpoint=sandbox.url)


class _OfClient(Disturbed):
    """Disturbs a client through botocore's events."""

    def __init__(self, sandbox: AwsSandbox, service: str) -> None:
        self.sandbox = sandbox
        self.client, self.console = sandbox_client(sandbox, service), sandbox.client(service)

    @contextmanager
    def _at(self, when: str, disturbance: Disturbance) -> Iterator[None]:
        self.client.meta.events.register(f"{when}-call", disturbance)
        try:
            yield
        finally:
            self.client.meta.events.unregister(f"{when}-call", disturbance)

    def _lose(self) -> None:
        raise ConnectionClosedError(endpoint_url=self.sandbox.url)


class SecretsManagerHarness(Renewed, _OfClient):
    """The adapter `SecretsManagerSecret` under a `CredentialStore`."""

    def __init__(self, sandbox: AwsSandbox) -> None:
        super().__init__(sandbox, "secretsmanager")
        self._theirs = sandbox_client(sandbox, "secretsmanager")
        self._make(CREDENTIAL)

    def _make(self, credential: Credential) -> None:
        super()._make(credential)
        for name in self.names.values():
            self.console.create_secret(Name=name, SecretString=PLACEHOLDER_TEXT)
        self.store = self._open(self.client)
        self.secret = SecretsManagerSecret(self.client, "aws", self._versions)

    def _open(self, client: Any) -> CredentialStore:  # noqa: ANN401 - as `aws_client`
        return CredentialStore("aws", self.credential, partial(SecretsManagerSecret, client, "aws"))

    def rival(self) -> CredentialStore:
        return self._open(self._theirs)

    def rival_secret(self) -> VersionedSecret:
        return SecretsManagerSecret(self._theirs, "aws", self._versions)

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
            self.console.update_item(
                TableName=TABLE,
                Key={"credential_id": {"S": CREDENTIAL.id}},
                UpdateExpression="SET #order = :value" if new else "REMOVE #order",
                ExpressionAttributeNames={"#order": name},
                **({"ExpressionAttributeValues": {":value": _typed(value)}} if new else {}),
            )


def _typed(value: object) -> object:
    return TypeSerializer().serialize(int(value.timestamp()) if isinstance(value, datetime) else value)


class S3Harness(Renewed, _OfClient):
    """The adapter `S3Folder`."""

    def __init__(self, sandbox: AwsSandbox) -> None:
        super().__init__(sandbox, "s3")
        create_audit_bucket(self.console, BUCKET, region=sandbox.region)
        self._make(CREDENTIAL)

    def _make(self, credential: Credential) -> None:
        self.log = s3_log(self.client, BUCKET, credential.id, page_size=2)
        self.objects = EntryObjects("aws", credential.id)

    def overwrite(self, seq: int, body: bytes) -> None:
        self.console.put_object(Bucket=BUCKET, Key=self.objects.key(seq), Body=body)

    def delete(self, seq: int) -> None:
        self.console.delete_object(Bucket=BUCKET, Key=self.objects.key(seq))

    def plant(self, name: str) -> None:
        self.console.put_object(Bucket=BUCKET, Key=f"{self.objects.prefix}{name}", Body=b"{}")


def aws_signers(sandbox: AwsSandbox) -> Signers:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    return Signers(KmsSigner(client, create_mac_key(kms)), KmsSigner(client, create_mac_key(kms)))
