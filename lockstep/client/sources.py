"""Where the credential is read: the two clouds' stores."""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from lockstep.client.cache import ClientCredential, StoreSource, decode
from lockstep.stores.contents import decode_databases

if TYPE_CHECKING:
    from lockstep.oci.vault import Vault

Made = TypeVar("Made")


class PerProcess(Generic[Made]):
    """What `make` gives, made again in the child of a fork.

    An SDK's client has connections and locks: two processes would write to one connection, and a lock that another
    thread of the parent held stays locked in the child.
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made = os.getpid(), make()

    def __call__(self) -> Made:
        """What was made in this process."""
        if self._made[0] != os.getpid():
            self._made = os.getpid(), self._make()
        return self._made[1]


def own_vault(*, region: str, compartment_id: str, vault_id: str, store: str) -> "Vault":
    """A vault, with the identity that OCI or the environment gives this process."""
    from lockstep.oci.clients import OciClients
    from lockstep.oci.vault import Vault
    from lockstep.runtime.identity import OCI_ENDPOINT_VARIABLE, own_oci_identity

    clients = OciClients(own_oci_identity, region, endpoint=os.environ.get(OCI_ENDPOINT_VARIABLE))
    return Vault(clients, compartment_id=compartment_id, vault_id=vault_id, store=store)


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
    from lockstep.aws.clients import aws_client
    from lockstep.aws.secrets_manager import read_secret

    client = PerProcess(lambda: aws_client("secretsmanager", region))

    def current(of: str) -> tuple[str, str]:
        return of, read_secret(client(), name, of)

    return StoreSource(name, partial(_read, current, name, secret, connection_blob))


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
        region: The vault's region. The identity is the resource principal, or what OCI_CONFIG_FILE names.
        compartment_id: OCID of the compartment.
        vault_id: OCID of the vault.
        credential_id: The credential's id, where the plan gives its secret another name.
        connection_blob: Name of the `connection_blob` secret in the plan, for `database=` of the `connect_…` functions.
        name: For logs and metrics.
    """
    from lockstep.protocol.names import VersionNames
    from lockstep.stores.ring import RingReader

    vault = PerProcess(
        partial(own_vault, region=region, compartment_id=compartment_id, vault_id=vault_id, store=name)
    )

    def newest(of: str) -> tuple[str, str]:
        names = VersionNames(credential_id=credential_id or secret, secret=of)
        slot, content = RingReader(vault(), names).newest()
        return slot, vault().text(slot, content)

    return StoreSource(name, partial(_read, newest, name, secret, connection_blob))


def _read(
    find: Callable[[str], tuple[str, str]], store: str, secret: str, connection_blob: str | None
) -> ClientCredential:
    where, text = find(secret)
    found = decode(text, store=store, secret=where)
    if connection_blob is None:
        return found
    where, text = find(connection_blob)
    return replace(found, databases=decode_databases(text, store=store, secret=where))
