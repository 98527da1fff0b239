"""The AWS adapters on the sandbox, for the contract suites."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import ConnectionClosedError

from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.kms import KmsSigner
from lockstep.aws.s3 import S3AuditLog
from lockstep.aws.secrets_manager import SecretsManagerSecret
from lockstep.protocol.model import SecretStr
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import EntryObjects, VersionedSecret
from lockstep.stores.credential import CredentialStore
from sandbox.emulators.aws.resources import (
    create_audit_bucket,
    create_lock_table,
    create_mac_key,
    create_secret,
)
from sandbox.emulators.aws.server import AwsSandbox
from tests.contract.harness import (
    PLACEHOLDER_TEXT,
    AuditLogHarness,
    Disturbance,
    LockHarness,
    SecretKind,
    SignerHarness,
    StoreHarness,
)
from tests.support.memory import make_plan

KEYS = AwsKeys(access_key_id="sandbox", secret_access_key=SecretStr("sandbox"))
CREDENTIAL = make_plan().credentials[0]
APP_USER_VERSIONS = VersionNames(credential_id=CREDENTIAL.id, secret=CREDENTIAL.secret_names.app_user)
TABLE = "lockstep-lock"
BUCKET = "lockstep-audit"


def sandbox_client(sandbox: AwsSandbox, service: str) -> Any:  # noqa: ANN401 - as `aws_client`
    """A client as production makes it."""
    return aws_client(service, sandbox.region, keys=KEYS, endpoint=sandbox.url)


class _Disturbed:
    """Disturbs a client through botocore's events."""

    def __init__(self, sandbox: AwsSandbox, service: str) -> None:
        self.sandbox = sandbox
        self.client = sandbox_client(sandbox, service)

    def before_call(self, call: int, act: Callable[[], object]) -> AbstractContextManager[None]:
        return self._at("before-call", Disturbance(call, act))

    def lose_reply(self, call: int) -> AbstractContextManager[None]:
        return self._at("after-call", Disturbance(call, self._close_connection))

    @contextmanager
    def _at(self, event: str, disturbance: Disturbance) -> Iterator[None]:
        self.client.meta.events.register(event, disturbance)
        try:
            yield
        finally:
            self.client.meta.events.unregister(event, disturbance)

    def _close_connection(self) -> None:
        raise ConnectionClosedError(endpoint_url=self.sandbox.url)


def _store(client: Any) -> CredentialStore:  # noqa: ANN401 - as `aws_client`
    return CredentialStore("aws", CREDENTIAL, partial(SecretsManagerSecret, client, "aws"))


class SecretsManagerHarness(_Disturbed):
    """The adapter `SecretsManagerSecret` under a `CredentialStore`."""

    def __init__(self, sandbox: AwsSandbox) -> None:
        super().__init__(sandbox, "secretsmanager")
        names = CREDENTIAL.secret_names
        self.names: dict[SecretKind, str] = {
            "app_user": names.app_user,
            "connection_blob": names.connection_blob,
        }
        self.console = sandbox.client("secretsmanager")
        for name in self.names.values():
            create_secret(self.console, name, PLACEHOLDER_TEXT)
        self.store = _store(self.client)
        self.secret = SecretsManagerSecret(self.client, "aws", APP_USER_VERSIONS)

    def rival(self) -> CredentialStore:
        return _store(sandbox_client(self.sandbox, "secretsmanager"))

    def rival_secret(self) -> VersionedSecret:
        client = sandbox_client(self.sandbox, "secretsmanager")
        return SecretsManagerSecret(client, "aws", APP_USER_VERSIONS)

    def edit(self, secret: SecretKind, text: str) -> None:
        self.console.put_secret_value(SecretId=self.names[secret], SecretString=text)

    def remove(self, secret: SecretKind) -> None:
        self.console.delete_secret(SecretId=self.names[secret], ForceDeleteWithoutRecovery=True)

    def current_text(self, secret: SecretKind) -> str:
        text: str = self.console.get_secret_value(SecretId=self.names[secret])["SecretString"]
        return text


class DynamoDbHarness(_Disturbed):
    """The adapter `DynamoDbLock`."""

    def __init__(self, sandbox: AwsSandbox) -> None:
        super().__init__(sandbox, "dynamodb")
        create_lock_table(sandbox.client("dynamodb"), TABLE)
        self.lock = DynamoDbLock(self.client, TABLE, CREDENTIAL.id)
        self._console = sandbox.client("dynamodb")

    def order(self, **orders: object) -> None:
        for name, value in orders.items():
            new = value not in (None, frozenset())
            self._console.update_item(
                TableName=TABLE,
                Key={"credential_id": {"S": CREDENTIAL.id}},
                UpdateExpression="SET #order = :value" if new else "REMOVE #order",
                ExpressionAttributeNames={"#order": name},
                **({"ExpressionAttributeValues": {":value": _typed(value)}} if new else {}),
            )


def _typed(value: object) -> dict[str, object]:
    match value:
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case datetime():
            return {"N": str(int(value.timestamp()))}
        case frozenset():
            return {"SS": sorted(value)}
        case _:
            return {"S": value}


class S3Harness(_Disturbed):
    """The adapter `S3AuditLog`."""

    def __init__(self, sandbox: AwsSandbox) -> None:
        super().__init__(sandbox, "s3")
        create_audit_bucket(sandbox.client("s3"), BUCKET, region=sandbox.region)
        self.log = S3AuditLog(self.client, BUCKET, "aws", CREDENTIAL.id, page_size=2)
        self._console = sandbox.client("s3")
        self._objects = EntryObjects("aws", CREDENTIAL.id)

    def overwrite(self, seq: int, body: bytes) -> None:
        self._console.put_object(Bucket=BUCKET, Key=self._objects.key(seq), Body=body)

    def delete(self, seq: int) -> None:
        self._console.delete_object(Bucket=BUCKET, Key=self._objects.key(seq))

    def plant(self, name: str) -> None:
        self._console.put_object(Bucket=BUCKET, Key=f"{self._objects.prefix}{name}", Body=b"{}")


@dataclass
class KmsHarness:
    """The adapter `KmsSigner`."""

    signer: KmsSigner
    other: KmsSigner


@contextmanager
def aws_store() -> Iterator[StoreHarness]:
    with AwsSandbox() as sandbox:
        yield SecretsManagerHarness(sandbox)


@contextmanager
def aws_lock() -> Iterator[LockHarness]:
    with AwsSandbox() as sandbox:
        yield DynamoDbHarness(sandbox)


@contextmanager
def aws_audit_log() -> Iterator[AuditLogHarness]:
    with AwsSandbox() as sandbox:
        yield S3Harness(sandbox)


@contextmanager
def aws_signer() -> Iterator[SignerHarness]:
    with AwsSandbox() as sandbox:
        kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
        yield KmsHarness(KmsSigner(client, create_mac_key(kms)), KmsSigner(client, create_mac_key(kms)))
