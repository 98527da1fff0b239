"""Harnesses: besides its port a contract suite needs a world for each adapter, and a way to disturb its calls.

To add an adapter to a suite, add it to the suite's list, which makes a harness on a new cloud.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass
from itertools import count
from typing import Literal, Self

from msgspec import structs

from lockstep.protocol.model import Credential, SecretNames
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import Signer
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


class Disturbed(ABC):
    """An adapter whose calls to its service can be disturbed."""

    def before_call(self, call: int, act: Callable[[], object]) -> AbstractContextManager[None]:
        """Run `act` right before the n-th call inside the block."""
        return self._at("before", Disturbance(call, act))

    def lose_reply(self, call: int) -> AbstractContextManager[None]:
        """Let the n-th call inside the block take effect, but lose its reply."""
        return self._at("after", Disturbance(call, self._lose))

    @abstractmethod
    def _at(self, when: Literal["before", "after"], disturbance: Disturbance) -> AbstractContextManager[None]:
        """Ask the disturbance before or after each call inside the block."""

    @abstractmethod
    def _lose(self) -> None:
        """Raise what the adapter's client raises where there is no reply."""


@dataclass
class Signers:
    """An adapter with two keys."""

    signer: Signer
    other: Signer
