"""Where the agent reads values: the stores of a plan, each with the identity that its cloud gives this process."""

# Imported late, so that an agent that reads one cloud does not load the other's SDK.
# ruff: noqa: PLC0415

import os
from functools import partial
from typing import TYPE_CHECKING

from lockstep.agent.values import Read, Reading
from lockstep.contents import BINARY
from lockstep.errors import SecretMalformedError
from lockstep.model import SecretStr
from lockstep.store_kinds import AwsSecretsManager, OciVault, StoreConfig
from lockstep.version_names import VersionNames

if TYPE_CHECKING:
    from datetime import datetime


def reads_of(store: StoreConfig, credential_id: str, secrets: tuple[str, ...]) -> dict[str, Read]:
    """How each secret is read from a store, by the secret's name. The secrets share the store's client."""
    names = {secret: VersionNames(credential_id=credential_id, secret=secret) for secret in secrets}
    match store:
        case AwsSecretsManager():
            return _in_aws(store, names)
        case OciVault():
            return _in_oci(store, names)


def _in_aws(store: AwsSecretsManager, names: dict[str, VersionNames]) -> dict[str, Read]:
    from lockstep.aws.clients import aws_client
    from lockstep.aws.secrets_manager import SecretsManagerSecret

    client = aws_client("secretsmanager", store.region)

    def read(secret: SecretsManagerSecret, name: str) -> Reading:
        found = secret.read_current()
        return _reading(
            found.text, found.id, found.generation, found.created_at, store=store.name, secret=name
        )

    return {n: partial(read, SecretsManagerSecret(client, store.name, v), n) for n, v in names.items()}


def _in_oci(store: OciVault, names: dict[str, VersionNames]) -> dict[str, Read]:
    from lockstep.identity import OCI_ENDPOINT_VARIABLE, own_oci_identity
    from lockstep.oci.clients import OciClients
    from lockstep.oci.ring_reader import RingReader
    from lockstep.oci.vault import Vault

    clients = OciClients(own_oci_identity, store.region, endpoint=os.environ.get(OCI_ENDPOINT_VARIABLE))
    vault = Vault(clients, compartment_id=store.compartment_id, vault_id=store.vault_id, store=store.name)

    def read(versions: VersionNames, name: str) -> Reading:
        slot, found = RingReader(vault, versions, slots=store.slots_of_readers).newest()
        generation = versions.generation_of(found.name)
        version = found.name if generation and found.name else f"{slot}:{found.number}"
        return _reading(found.text, version, generation, found.created_at, store=store.name, secret=name)

    return {n: partial(read, v, n) for n, v in names.items()}


def _reading(
    text: str | None, version: str, generation: int, created_at: "datetime | None", *, store: str, secret: str
) -> Reading:
    if text is None:
        raise SecretMalformedError(store=store, secret=secret, code=BINARY)
    return Reading(text=SecretStr(text), version=version, generation=generation, created_at=created_at)
