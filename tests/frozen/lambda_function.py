"""A Lambda function whose step behaves as a request says."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Literal

from functions.face import LambdaFace
from lockstep.protocol.errors import StoreUnreachableError
from lockstep.protocol.strict_json import Message
from lockstep.protocol.workers import at_the_same_time
from lockstep.stores.credential import Ports
from tests.frozen.work import Signs, late_call, wait_for


class Named(Message):
    """As much of a rotation as the face needs."""

    credential_id: str
    rotation_id: str


class Ask(Message):
    """The request.

    Attributes:
        act: `warm` makes the clients; `leave` fails while a thread of the step has a call under way; `join` does the
            same with workers; `hang` has a worker that never ends; `look` makes a call of its own, and says what
            became of the first one's.
    """

    rotation: Named
    act: Literal["warm", "leave", "join", "hang", "look"]


class Told(Message):
    """The answer."""

    late: str


def run(request: Ask, ports: Ports) -> Told:
    """See `Ask.act`."""
    signs = Signs.from_environment()
    match request.act:
        case "warm":
            ports.lock.read()
            return Told(late="")
        case "leave":
            ThreadPoolExecutor().submit(copy_context().run, late_call(ports))
            wait_for(signs.held)
            raise StoreUnreachableError
        case "join":
            at_the_same_time([_fail, late_call(ports)])
        case "hang":
            at_the_same_time([_fail, _never])
        case "look":
            ports.lock.read()
    return Told(late=wait_for(signs.outcome))


def _never() -> None:
    threading.Event().wait()


def _fail() -> None:
    raise StoreUnreachableError


handler = LambdaFace(run, Ask)
