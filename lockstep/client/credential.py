"""What an application gets from a store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lockstep.client.tracebacks import without_locals
from lockstep.contents import decode_app_user, decode_connection
from lockstep.errors import NotBootstrappedError
from lockstep.model import SecretStr


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredential:
    """What an application needs to connect. Two are equal if they are the same value, wherever it was read.

    Attributes:
        generation: Names the value; for logs, since it tells nothing about the password.
        connection: `engine`, `host`, `port` and `dbname` of the credential's first database.
        databases: The same of each of its databases, by their names in the plan; where the source reads
            `connection_blob`.
    """

    username: str
    password: SecretStr
    generation: int
    connection: Mapping[str, Any] = field(default_factory=dict, compare=False)
    databases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)


Source = Callable[[], ClientCredential]
"""Reads the credential from a store, uncached. Raises the Store* errors of `lockstep.errors`."""


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A source with a name, for logs and metrics."""

    name: str
    read: Source

    def __call__(self) -> ClientCredential:
        """Read it. A traceback holds no text of the secret."""
        with without_locals():
            return self.read()


def name_of(source: Source, position: int) -> str:
    """The name of a source, or its position among the sources, from 1."""
    return str(getattr(source, "name", None) or f"source {position}")


def decode(text: str, *, store: str, secret: str) -> ClientCredential:
    """What the text of an `app_user` secret says.

    Raises:
        NotBootstrappedError: It is a placeholder.
        SecretMalformedError: It is not a credential.
    """
    try:
        with without_locals():
            return _decode(text, store=store, secret=secret)
    finally:
        del text  # A traceback shows this frame, too.


def _decode(text: str, *, store: str, secret: str) -> ClientCredential:
    login, generation = decode_app_user(text, store=store, secret=secret)
    if login is None:
        raise NotBootstrappedError(store=store, secret=secret)
    return ClientCredential(
        username=login.username,
        password=login.password,
        generation=generation,
        connection=decode_connection(text, store=store, secret=secret),
    )
