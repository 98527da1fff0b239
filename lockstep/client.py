"""For applications: the credential from the nearest store, cached, read again when a login is refused.

    from lockstep.client import CredentialClient, aws_source
    import lockstep.client as lockstep

    credential = CredentialClient([aws_source("multi-cloud/app_user", region="eu-central-1")])
    connection = lockstep.connect_pymysql(credential, ssl={"ca": "ca.pem"})

A value may be kept for as long as the plan's overlap without a login ever being refused: the previous value keeps
logging in for that long after a newer one was promoted. A refusal means that the cache is older than that, so the
store is read once more and the login tried once more; a second refusal is the database's answer.

docs/client.md has an example for each driver. Nothing here imports a driver or an SDK before it is used.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from lockstep.contents import decode_app_user, decode_connection
from lockstep.engines import is_mysql_refusal, is_postgresql_refusal
from lockstep.errors import LockstepError, NotBootstrappedError, StoreUnreachableError
from lockstep.model import SecretStr

if TYPE_CHECKING:
    import psycopg
    import pymysql

DEFAULT_MAX_AGE_SECONDS = 300.0
RETRY_SECONDS = 10.0
"""How long an older value is used before a store that did not answer is asked again: asking may take as long."""
Connection = TypeVar("Connection")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredential:
    """What an application needs to connect.

    Attributes:
        generation: Names the value; for logs, since it tells nothing about the password.
        connection: `engine`, `host`, `port` and `dbname` of the credential's first database.
    """

    username: str
    password: SecretStr
    generation: int
    connection: Mapping[str, Any] = field(default_factory=dict)


Source = Callable[[], ClientCredential]
"""Reads the credential from a store, uncached. Raises the Store* errors of `lockstep.errors`."""


def aws_source(secret: str, *, region: str) -> Source:
    """The AWS store.

    Args:
        secret: Name or ARN of the `app_user` secret.
        region: Its region. Credentials come from the environment, as always with boto3.
    """
    from lockstep.aws.clients import aws_client
    from lockstep.aws.secrets_manager import read_secret

    client = aws_client("secretsmanager", region)
    return lambda: decode(read_secret(client, "aws", secret), store="aws", secret=secret)


def oci_ring_source(
    secret: str,
    *,
    region: str,
    compartment_id: str,
    vault_id: str,
    slots: int = 4,
    credential_id: str | None = None,
) -> Source:
    """The OCI store.

    The slot with the newest value is found by the names of versions, which only Lockstep gives, and never by their
    texts, which a person may have copied. A slot is passed over only if the vault's list shows that it is deleted, or
    not created yet; one that this application may not read is an error, since it may hold the newest value.

    Args:
        secret: Name of the `app_user` secret in the plan.
        region: The vault's region. The identity is the resource principal, or what OCI_CONFIG_FILE names.
        compartment_id: OCID of the compartment.
        vault_id: OCID of the vault.
        slots: `ring` in the plan, or more. Raise it before the ring grows; lower it after the ring has shrunk.
        credential_id: The credential's id, where the plan gives its secret another name.
    """
    from lockstep.identity import OCI_ENDPOINT_VARIABLE, own_oci_identity
    from lockstep.oci.clients import OciClients
    from lockstep.oci.ring_reader import RingReader
    from lockstep.oci.vault import Vault
    from lockstep.version_names import VersionNames

    clients = OciClients(own_oci_identity, region, endpoint=os.environ.get(OCI_ENDPOINT_VARIABLE))
    vault = Vault(clients, compartment_id=compartment_id, vault_id=vault_id, store="oci")
    versions = VersionNames(credential_id=credential_id or secret, secret=secret)
    reader = RingReader(vault, versions, slots=slots)

    def read() -> ClientCredential:
        name, newest = reader.newest()
        return decode(vault.text(name, newest), store="oci", secret=name)

    return read


def decode(text: str, *, store: str, secret: str) -> ClientCredential:
    """What the text of an `app_user` secret says.

    Raises:
        NotBootstrappedError: It is a placeholder.
        SecretMalformedError: It is not a credential.
    """
    login, generation = decode_app_user(text, store=store, secret=secret)
    if login is None:
        raise NotBootstrappedError(store=store, secret=secret)
    return ClientCredential(
        username=login.username,
        password=login.password,
        generation=generation,
        connection=decode_connection(text, store=store, secret=secret),
    )


class CredentialClient:
    """Reads from the first source that gives a credential, and keeps it. Safe to share between threads.

    Args:
        sources: The nearest store first. The next is asked when one does not answer, or not with a credential.
        max_age_seconds: How long a value is kept. Keep it below the plan's overlap.
        monotonic: Seconds that only grow.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not sources:
            raise ValueError("at least one source is needed")
        self._sources = sources
        self._max_age_seconds = max_age_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: ClientCredential | None = None
        self._read_again_at = 0.0

    def get(self) -> ClientCredential:
        """The credential, from the cache while it is young enough.

        If no store gives one, an older value is used as long as there is one: it may well still log in.

        Raises:
            StoreUnreachableError: No store answers and nothing was ever read; likewise the other errors of sources.
        """
        with self._lock:
            if self._kept and self._monotonic() < self._read_again_at:
                return self._kept
            try:
                return self._read()
            except LockstepError:
                if self._kept is None:
                    raise
                self._read_again_at = self._monotonic() + min(RETRY_SECONDS, self._max_age_seconds)
                return self._kept

    def refresh(self, refused: ClientCredential) -> ClientCredential:
        """A fresh read, after `refused` was not let in; what another thread has read since then will do."""
        with self._lock:
            if self._kept and self._kept != refused:
                return self._kept
            return self._read()

    def login(
        self, connect: Callable[[ClientCredential], Connection], is_refusal: Callable[[Exception], bool]
    ) -> Connection:
        """Connect; when the login is refused, read afresh and try once more.

        Args:
            connect: Makes a connection.
            is_refusal: Whether an exception of `connect` means a wrong password.

        Raises:
            LockstepError: As `get` does.
            Exception: What `connect` raised, the second time or for another reason than a refusal. Where no store
                answers after a refusal, the refusal, with the store's error as its cause.
        """
        credential = self.get()
        try:
            return connect(credential)
        except Exception as e:
            if not is_refusal(e):
                raise
            try:
                fresh = self.refresh(credential)
            except LockstepError as unanswered:
                raise e from unanswered
            if fresh == credential:
                raise
        return connect(fresh)

    def _read(self) -> ClientCredential:
        problem: LockstepError = StoreUnreachableError()
        for source in self._sources:
            try:
                self._kept = source()
            except LockstepError as e:
                problem = e
            else:
                self._read_again_at = self._monotonic() + self._max_age_seconds
                return self._kept
        raise problem


def connect_pymysql(client: CredentialClient, **options: Any) -> "pymysql.connections.Connection[Any]":
    """A PyMySQL connection; options go to `pymysql.connect` and override what the secret says."""
    import pymysql

    def connect(credential: ClientCredential) -> "pymysql.connections.Connection[Any]":
        where = credential.connection
        known = {"host": where.get("host"), "port": where.get("port"), "database": where.get("dbname")}
        return pymysql.connect(
            user=credential.username, password=credential.password.reveal(), **{**known, **options}
        )

    return client.login(connect, is_mysql_refusal)


def connect_psycopg(client: CredentialClient, **options: Any) -> "psycopg.Connection[Any]":
    """A psycopg 3 connection; options go to `psycopg.connect` and override what the secret says."""
    import psycopg

    def connect(credential: ClientCredential) -> "psycopg.Connection[Any]":
        where = credential.connection
        known = {"host": where.get("host"), "port": where.get("port"), "dbname": where.get("dbname")}
        return psycopg.connect(
            user=credential.username, password=credential.password.reveal(), **{**known, **options}
        )

    return client.login(connect, is_postgresql_refusal)


def sqlalchemy_creator(
    client: CredentialClient, connect: Callable[..., Connection], **options: Any
) -> Callable[[], Connection]:
    """The `creator` of a SQLAlchemy engine: every new connection of the pool asks the client.

        engine = create_engine("mysql+pymysql://", creator=sqlalchemy_creator(client, connect_pymysql))

    Let the pool drop connections before a revoked login matters to you: `pool_recycle` in seconds.
    """
    return lambda: connect(client, **options)
