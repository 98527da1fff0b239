"""Whether what a store serves logs in: at every boundary of a rotation, and for an application that never pauses."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lockstep.protocol.model import DatabaseServer
from sandbox.bench.rounds import Rotation
from sandbox.estate import Estate
from sandbox.outside import Value, lets_in

BACK_TO_BACK = 20
LATENCY_MS = 20.0
"""Of each request while an application logs in, its own included."""


@dataclass
class Logins:
    """Logins with a current value.

    Attributes:
        servers: Each is asked in turn.
    """

    servers: tuple[DatabaseServer, ...]
    tried: int = 0
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, value: Value) -> None:
        """Log in everywhere."""
        refused = sum(not lets_in(server, value) for server in self.servers)
        with self._lock:
            self.tried += len(self.servers)
            self.refused += refused


def login_in(text: str) -> Value:
    """The login in a secret's text."""
    document = json.loads(text)
    return Value(document["username"], document["password"])


RotateWatched = Callable[[float, Callable[[], None]], Rotation]
"""Rotates at a latency, and calls the other argument at each boundary."""


def at_boundaries(
    rotate: RotateWatched, current: Callable[[], Value], servers: tuple[DatabaseServer, ...]
) -> dict[str, int]:
    """Log in with the current value before each request and after each function of one rotation."""
    logins = Logins(servers)
    rotate(0, lambda: logins.add(current()))
    return {"boundaries": logins.tried, "refused": logins.refused}


def back_to_back(
    rotate: Callable[[float], Rotation],
    estate: Estate,
    secret: str,
    servers: tuple[DatabaseServer, ...],
    *,
    times: int,
) -> dict[str, int]:
    """Rotate again and again while an application reads the secret and logs in, again and again."""
    logins = Logins(servers)
    with _application(estate, secret, logins):
        for _ in range(times):
            rotate(LATENCY_MS)
    return {"rotations": times, "logins": logins.tried, "refused": logins.refused}


@contextmanager
def _application(estate: Estate, secret: str, logins: Logins) -> Iterator[None]:
    client: Any = estate.aws.client("secretsmanager")
    stop = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.is_set():
                logins.add(login_in(client.get_secret_value(SecretId=secret)["SecretString"]))
        except BaseException as error:  # noqa: BLE001 - raised by the thread that measures
            failed.append(error)

    thread = threading.Thread(target=run, name="application", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]
