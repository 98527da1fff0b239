"""Harnesses: besides its port a contract suite needs a world for each adapter, and a way to disturb its calls.

To add an adapter to a suite, add a factory to the suite's list. A factory is a context manager that gives a harness
on a new world.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol, Self

from msgspec import structs

from lockstep.protocol.model import Credential, SecretNames
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import AuditLog, Lock, Signer, VersionedSecret
from lockstep.stores.credential import CredentialStore
from tests.support.memory import make_plan

CREDENTIAL = make_plan().credentials[0]
_NUMBERS = count(1)
SecretKind = Literal["app_user", "connection_blob"]
PLACEHOLDER_TEXT = '{"placeholder":true}'


def another_credential() -> Credential:
    """The same with secrets and a log of its own, for another world in the same cloud."""
    made = f"{CREDENTIAL.id}_{next(_NUMBERS)}"
    names = SecretNames(app_user=made, connection_blob=f"{made}.connection")
    return structs.replace(CREDENTIAL, id=made, secret_names=names)


class Renewed:
    """What is made anew for another credential, in the same cloud and through the same clients."""

    def anew(self) -> Self:
        """Another one, with secrets and a log of its own."""
        other = copy(self)
        other._make(another_credential())
        return other

    def _make(self, credential: Credential) -> None:
        self.credential, names = credential, credential.secret_names
        self.names: dict[SecretKind, str] = {
            "app_user": names.app_user,
            "connection_blob": names.connection_blob,
        }
        self._versions = VersionNames(credential_id=credential.id, secret=names.app_user)


class Disturbance:
    """An action that runs once, at the n-th call."""

    def __init__(self, call: int, act: Callable[[], object]) -> None:
        self._calls_left = call
        self._act = act

    def __call__(self, *_args: object, **_event: object) -> None:
        self._calls_left -= 1
        if self._calls_left == 0:
            self._act()


class Disturbable(Protocol):
    """An adapter whose calls to its service can be disturbed."""

    def before_call(self, call: int, act: Callable[[], object]) -> AbstractContextManager[None]:
        """Run `act` right before the n-th call inside the block."""

    def lose_reply(self, call: int) -> AbstractContextManager[None]:
        """Let the n-th call inside the block take effect, but lose its reply."""


class StoreHarness(Disturbable, Protocol):
    """A `CredentialStore` over an adapter. Its two secrets hold placeholders."""

    credential: Credential

    def anew(self) -> "StoreHarness":
        """Another one, with secrets of its own, in the same cloud and through the same clients."""

    @property
    def store(self) -> CredentialStore:
        """The store; only its calls and those of `secret` are disturbed."""

    @property
    def secret(self) -> VersionedSecret:
        """The adapter for `app_user`, through the client of `store`."""

    def rival_secret(self) -> VersionedSecret:
        """The adapter for `app_user`, through another client."""

    def rival(self) -> CredentialStore:
        """The same secrets through another client."""

    def edit(self, secret: SecretKind, text: str) -> None:
        """Make a text current, as an operator does in the console."""

    def remove(self, secret: SecretKind) -> None:
        """Delete a secret."""

    def current_text(self, secret: SecretKind) -> str:
        """The text that an application reads."""


class LockHarness(Disturbable, Protocol):
    """A lock without a record."""

    @property
    def lock(self) -> Lock:
        """The adapter, whose calls are disturbed."""

    def forget(self) -> None:
        """Begin again, without a record."""

    def order(self, **orders: object) -> None:
        """Write orders into the record, as an operator does, without the lock; None removes one."""


class AuditLogHarness(Disturbable, Protocol):
    """An empty stream `aws` or `oci`."""

    def anew(self) -> "AuditLogHarness":
        """Another one, of another credential in the same bucket."""

    @property
    def log(self) -> AuditLog:
        """The adapter, whose calls are disturbed."""

    def overwrite(self, seq: int, body: bytes) -> None:
        """Write another version of an entry, as somebody with all rights does."""

    def delete(self, seq: int) -> None:
        """Put a delete marker on an entry, as above."""

    def plant(self, name: str) -> None:
        """Write an object of this name below the chain's prefix, as above."""


@dataclass
class Signers:
    """An adapter with two keys."""

    signer: Signer
    other: Signer
