"""Where the credential is read: the two clouds' stores, for the client and for the agent."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache, partial
from typing import TYPE_CHECKING, TypeVar

from lockstep.client.cache import ClientCredential, StoreSource, decode
from lockstep.protocol.errors import EnvironmentalError, SecretMalformedError
from lockstep.protocol.model import SecretStr
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import BINARY
from lockstep.stores.contents import decode_databases, with_numbers

if TYPE_CHECKING:
    from lockstep.oci.vault import Vault

Made = TypeVar("Made")


def per_process(make: Callable[[], Made]) -> Callable[[], Made]:
    """What `make` gives, made again in the child of a fork.

    An SDK's client has connections and locks: two processes would write to one connection, and a lock that another
    thread of the parent held stays locked in the child.
    """
    made = lru_cache(maxsize=1)(lambda _process: make())
    # An environment that is wrong is told by the read, and may be right by then.
    with suppress(EnvironmentalError):
        made(os.getpid())
    return lambda: made(os.getpid())


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredText:
    """The current text of a secret in a store. Two of one version are equal: the keys of others differ by store.

    Attributes:
        text: Of one form, whichever store has it (protocol V23); JSON, if Lockstep wrote it.
        version: The id of the version; the same in every cloud for a value of Lockstep's.
        generation: 0 if Lockstep did not write it.
        created_at: When the version was made, by the store's clock.
        place: The secret that has it; in OCI the slot.
        arn: Of the secret, in AWS.
    """

    text: SecretStr = field(compare=False)
    version: str
    generation: int
    created_at: datetime | None = field(default=None, compare=False)
    place: str = field(default="", compare=False)
    arn: str = field(default="", compare=False)


ReadText = Callable[[VersionNames], StoredText]
"""Reads the current text of a secret from one store. Raises the Store* errors of `lockstep.protocol.errors`."""


def aws_texts(*, region: str, store: str) -> ReadText:
    """Reads secrets of a region in AWS, by name or ARN; credentials come from the environment, as always with boto3."""
    from lockstep.aws.clients import aws_client
    from lockstep.aws.secrets_manager import SecretsManagerSecret

    client = per_process(lambda: aws_client("secretsmanager", region))

    def read(names: VersionNames) -> StoredText:
        found = SecretsManagerSecret(client(), store, names).read_current()
        return StoredText(
            text=_text(found.text, store, names.secret),
            version=found.id,
            generation=found.generation,
            created_at=found.created_at,
            place=names.secret,
            arn=found.arn,
        )

    return read


def vault_texts(*, region: str, compartment_id: str, vault_id: str, store: str) -> ReadText:
    """Reads rings in OCI, as `lockstep.runtime.identity.own_oci_identity` says."""
    from lockstep.oci.clients import OciClients
    from lockstep.oci.ring import RingSlots, place_of
    from lockstep.oci.vault import Vault
    from lockstep.runtime.identity import oci_endpoint, own_oci_identity

    def make() -> "Vault":
        clients = OciClients(own_oci_identity, region, endpoint=oci_endpoint())
        return Vault(clients, compartment_id=compartment_id, vault_id=vault_id, store=store)

    vault = per_process(make)

    def read(names: VersionNames) -> StoredText:
        slots = RingSlots(vault(), names)
        found = slots.newest()
        index, number = place_of(found.id)
        slot = slots.names[index]
        return StoredText(
            text=_text(found.text, store, slot),
            version=names.name_of(found.generation) if found.generation else f"{slot}:{number}",
            generation=found.generation,
            created_at=found.created_at,
            place=slot,
        )

    return read


def _text(text: str | None, store: str, place: str) -> SecretStr:
    if text is None:
        raise SecretMalformedError(store=store, secret=place, code=BINARY)
    return SecretStr(with_numbers(text))


def aws_source(
    secret: str, *, region: str, connection_blob: str | None = None, name: str = "aws"
) -> StoreSource[ClientCredential]:
    """The AWS store.

    Args:
        secret: Name or ARN of the `app_user` secret.
        region: Its region. Credentials come from the environment, as always with boto3.
        connection_blob: Name or ARN of the `connection_blob` secret, for `database=` of the `connect_…` functions.
        name: For logs and metrics.
    """
    texts = aws_texts(region=region, store=name)
    return StoreSource(name, partial(_read, texts, name, secret, secret, connection_blob))


def oci_ring_source(
    secret: str,
    *,
    region: str,
    compartment_id: str,
    vault_id: str,
    credential_id: str | None = None,
    connection_blob: str | None = None,
    name: str = "oci",
) -> StoreSource[ClientCredential]:
    """The OCI store.

    The slot with the newest value is found by the names of versions, which only Lockstep gives, and never by their
    texts, which a person may have copied. A slot is passed over only if the vault's list shows that it is deleted, or
    not created yet; one that this application may not read is an error, since it may hold the newest value.

    Args:
        secret: Name of the `app_user` secret in the plan.
        region: The vault's region. The identity is that of `lockstep.runtime.identity.own_oci_identity`.
        compartment_id: OCID of the compartment.
        vault_id: OCID of the vault.
        credential_id: The credential's id, where the plan gives its secret another name.
        connection_blob: Name of the `connection_blob` secret in the plan, for `database=` of the `connect_…` functions.
        name: For logs and metrics.
    """
    texts = vault_texts(region=region, compartment_id=compartment_id, vault_id=vault_id, store=name)
    return StoreSource(name, partial(_read, texts, name, credential_id or secret, secret, connection_blob))


def _read(
    read: ReadText, store: str, credential_id: str, secret: str, connection_blob: str | None
) -> ClientCredential:
    user = read(VersionNames(credential_id=credential_id, secret=secret))
    found = decode(user.text.reveal(), store=store, secret=user.place)
    if connection_blob is None:
        return found
    blob = read(VersionNames(credential_id=credential_id, secret=connection_blob))
    return replace(found, databases=decode_databases(blob.text.reveal(), store=store, secret=blob.place))
