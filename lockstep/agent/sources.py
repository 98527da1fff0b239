"""Where the agent reads values: the stores of a plan, each with the identity that its cloud gives this process."""

# Imported late, so that an agent that reads one cloud does not load the other's SDK.
# ruff: noqa: PLC0415

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lockstep.agent.values import Read, Reading
from lockstep.compiled import AwsStore, Store, VaultStore
from lockstep.contents import BINARY, with_numbers
from lockstep.errors import SecretMalformedError
from lockstep.model import SecretStr
from lockstep.version_names import VersionNames

if TYPE_CHECKING:
    from datetime import datetime


ReaderOf = Callable[[str, str], Read]
"""How a secret is read, by the credential's id and the secret's name."""


def reader_of(store: Store) -> ReaderOf:
    """How secrets are read from a store. They share one client."""
    match store:
        case AwsStore():
            return _in_aws(store)
        case VaultStore():
            return _in_oci(store)


def _in_aws(store: AwsStore) -> ReaderOf:
    from lockstep.aws.clients import aws_client
    from lockstep.aws.secrets_manager import SecretsManagerSecret

    client = aws_client("secretsmanager", store.region)

    def read(secret: SecretsManagerSecret, name: str) -> Reading:
        found = secret.read_current()
        return _reading(
            found.text, found.id, found.generation, found.created_at, store=store.name, secret=name
        )

    def reader(credential_id: str, name: str) -> Read:
        versions = VersionNames(credential_id=credential_id, secret=name)
        return partial(read, SecretsManagerSecret(client, store.name, versions), name)

    return reader


def _in_oci(store: VaultStore) -> ReaderOf:
    from lockstep.client.sources import own_vault
    from lockstep.oci.ring_reader import RingReader

    vault = own_vault(
        region=store.region, compartment_id=store.compartment_id, vault_id=store.vault_id, store=store.name
    )

    def read(versions: VersionNames, name: str) -> Reading:
        slot, found = RingReader(vault, versions, slots=store.slots_of_readers).newest()
        generation = versions.generation_of(found.name)
        version = found.name if generation and found.name else f"{slot}:{found.number}"
        return _reading(found.text, version, generation, found.created_at, store=store.name, secret=name)

    return lambda credential_id, name: partial(
        read, VersionNames(credential_id=credential_id, secret=name), name
    )


def _reading(
    text: str | None, version: str, generation: int, created_at: "datetime | None", *, store: str, secret: str
) -> Reading:
    if text is None:
        raise SecretMalformedError(store=store, secret=secret, code=BINARY)
    # The same form from both stores: which one answers must make no difference to an application (protocol V23).
    return Reading(
        text=SecretStr(with_numbers(text)), version=version, generation=generation, created_at=created_at
    )
