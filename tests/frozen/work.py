"""What the functions of these tests do, and the one in Lambda; one side of it runs in their process, the other here."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import NoReturn

from functions.face import LambdaFace
from lockstep.protocol.errors import LockstepError, StoresDivergedError
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.strict_json import Message
from lockstep.protocol.workers import at_the_same_time
from lockstep.stores.credential import Ports
from tests.support.programs import until

FOLDER_VARIABLE, CALL_VARIABLE = "TESTS_FROZEN_FOLDER", "TESTS_FROZEN_CALL"
BOUND_SECONDS = 60.0
GENERATION = 1000
PASSWORD = "Late-hands-0000-aaaa"
CALLS = ("aws", "oci", "database")
"""Calls that are under way when their step ends."""


class Signs:
    """Files by which a function and its test tell each other how far they are."""

    def __init__(self, folder: Path) -> None:
        self.held = folder / "held"
        self.outcome = folder / "outcome"

    @classmethod
    def from_environment(cls) -> "Signs":
        """Those of this function."""
        return cls(Path(os.environ[FOLDER_VARIABLE]))


def never() -> None:
    """It does not end."""
    threading.Event().wait()


def behave(act: str, ports: Ports) -> NoReturn:
    """Behave, then fail, so that no rotation begins, with an error that is not tried again (`oci_fn.retries`).

    `warm` makes the clients; `leave` fails while a thread of the step has a call under way; `join` does the same with
    workers; `hang` has a worker that never ends; `look` makes a call of its own, when the first one has ended.
    """
    signs = Signs.from_environment()
    match act:
        case "warm":
            ports.lock.read()
        case "leave":
            ThreadPoolExecutor().submit(copy_context().run, _late_call, ports)
            until(signs.held.exists)
        case "join":
            at_the_same_time([_fail, lambda: _late_call(ports)])
        case "hang":
            at_the_same_time([_fail, never])
        case "look":
            ports.lock.read()
            until(signs.outcome.exists)
    _fail()


def _fail() -> NoReturn:
    raise StoresDivergedError


def _late_call(ports: Ports) -> None:
    """The call that the environment names; its outcome becomes a sign."""
    outcome = "done"
    try:
        _stage(os.environ[CALL_VARIABLE], ports)
    except LockstepError as error:
        outcome = type(error).__name__
    sign = Signs.from_environment().outcome
    draft = sign.with_suffix(".draft")
    draft.write_text(outcome)
    draft.rename(sign)


def _stage(call: str, ports: Ports) -> None:
    """Stage a value in a store, by several requests, of which the last one writes; or on every database."""
    late = CredentialValue(GENERATION, Login(ports.credential.usernames[-1], SecretStr(PASSWORD)))
    if call == "database":
        for database in ports.databases.values():
            with database.exclusive() as stager:
                stager.stage(current=None, pending=late)
    else:
        [store] = [s for s in ports.stores if s.name == call]
        store.prepare(GENERATION)(late)


class Named(Message):
    """As much of a rotation as the face needs."""

    credential_id: str
    rotation_id: str


class Ask(Message):
    """The request."""

    rotation: Named


def run(request: Ask, ports: Ports) -> Message:
    """Behave as the name of the credential says."""
    behave(request.rotation.credential_id.rpartition("/")[2], ports)


handler = LambdaFace(run, Ask)
