"""Reads an estate from outside: what applications read, which logins databases accept, what the lock table holds.

Shares no code with the runners except the names of versions: stores are read with the services' own APIs, past any
wire; logins are made with the drivers that applications use.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.client import ClientCredential
from lockstep.protocol.model import ENGINES, Credential, DatabaseServer, SecretStr
from lockstep.protocol.names import VersionNames, slot_name
from lockstep.protocol.ring import SLOTS
from sandbox.applications import log_in
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from sandbox.plans import LOCK_TABLE

Untyped = Any
StoreName = Literal["aws", "oci"]


class Value(NamedTuple):
    """A login that can be compared and hashed, which a `SecretStr` cannot. Do not show it."""

    username: str
    password: str


class Held(NamedTuple):
    """A text in a store.

    Attributes:
        generation: 0 where Lockstep did not write it.
    """

    generation: int
    text: str


class Outside:
    """Both clouds as an application or an auditor reads them."""

    def __init__(self, aws: AwsSandbox, oci_sandbox: OciSandbox) -> None:
        """Make the clients.

        Args:
            aws: Runs already.
            oci_sandbox: Runs already.
        """
        self._secretsmanager: Untyped = aws.client("secretsmanager")
        self._dynamodb: Untyped = aws.client("dynamodb")
        self._bundles: Untyped = oci_sandbox.client(oci.secrets.SecretsClient)
        self._oci = oci_sandbox

    def serves(self, store: StoreName, credential: Credential, secret: str) -> Held:
        """The current value of a secret, as a store gives it."""
        names = VersionNames(credential_id=credential.id, secret=secret)
        if store == "aws":
            reply = self._secretsmanager.get_secret_value(SecretId=secret, VersionStage="AWSCURRENT")
            return Held(names.generation_of(reply["VersionId"]), reply["SecretString"])
        # Where two slots have one generation, the first one counts.
        return max(self.slots(credential, secret), key=lambda held: held.generation)

    def slots(self, credential: Credential, secret: str) -> list[Held]:
        """The current value of each slot of a secret in OCI."""
        names = VersionNames(credential_id=credential.id, secret=secret)
        bundles = [self._bundles.get_secret_bundle(ocid).data for ocid in self._slot_ids(secret)]
        return [Held(names.generation_of(bundle.version_name), _text(bundle)) for bundle in bundles]

    def holds(self, store: StoreName, credential: Credential, generation: int) -> str | None:
        """The text of `app_user` that a store holds under a generation, served or not."""
        secret = credential.secret_names.app_user
        version = VersionNames(credential_id=credential.id, secret=secret).name_of(generation)
        if store == "aws":
            try:
                reply = self._secretsmanager.get_secret_value(SecretId=secret, VersionId=version)
            except self._secretsmanager.exceptions.ResourceNotFoundException:
                return None
            return str(reply["SecretString"])
        for ocid in self._slot_ids(secret):
            try:
                return _text(self._bundles.get_secret_bundle(ocid, secret_version_name=version).data)
            except oci.exceptions.ServiceError as error:
                if error.status != NOT_FOUND:
                    raise
        return None

    def login(self, store: StoreName, credential: Credential) -> Value | None:
        """The login that a store serves; None for a placeholder."""
        return value_of(self.serves(store, credential, credential.secret_names.app_user).text)

    def lock_item(self, credential_id: str) -> Mapping[str, Any]:
        """The lock record as DynamoDB has it; empty where there is none."""
        reply = self._dynamodb.get_item(
            TableName=LOCK_TABLE, Key={"credential_id": {"S": credential_id}}, ConsistentRead=True
        )
        item: Mapping[str, Any] = reply.get("Item", {})
        return item

    def expire_schedule(self, credential_id: str) -> None:
        """Make a credential due now, its lease and its overlap over, as if the interval had passed."""
        self._dynamodb.update_item(
            TableName=LOCK_TABLE,
            Key={"credential_id": {"S": credential_id}},
            UpdateExpression="SET next_due_at = :past, not_before = :past, expires_at = :past",
            ExpressionAttributeValues={":past": {"N": "1"}},
        )

    def _slot_ids(self, secret: str) -> list[str]:
        found = [self._oci.vault.named(slot_name(secret, i), self._oci.vault_id) for i in range(SLOTS)]
        return [ocid for ocid in found if ocid]


NOT_FOUND = 404


def value_of(text: str) -> Value | None:
    """The login in a secret's text; None for a placeholder."""
    document = json.loads(text)
    return Value(document["username"], document["password"]) if "username" in document else None


def lets_in(server: DatabaseServer, value: Value) -> bool:
    """Whether a database accepts a login, by trying it.

    Raises:
        Exception: The driver's own, where the database cannot be asked.
    """
    credential = ClientCredential(username=value.username, password=SecretStr(value.password), generation=0)
    try:
        log_in(server, credential)
    except Exception as error:
        if ENGINES[server.engine].is_refusal(error):
            return False
        raise
    return True


def _text(bundle: Untyped) -> str:
    return b64decode(bundle.secret_bundle_content.content).decode()
