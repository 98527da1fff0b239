"""Commands from the person's shell to the process that holds both clouds and the databases, over a Unix socket.

It imports neither the clouds nor the databases, so that a command is there at once.
"""

import os
from collections.abc import Callable, Sequence
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parents[2] / "build" / "sandbox"
CONTROL = "SANDBOX_CONTROL"
"""The environment variable with the address of the running playground."""
NOT_RUNNING = (
    "the sandbox does not run in this shell: `make sandbox` in one shell, `. build/sandbox/env` in the other"
)


class Answer(NamedTuple):
    """What a command ends with: its exit code, and what it says."""

    code: int
    text: str


Take = Callable[[Sequence[str]], Answer]


def serve(address: Path, take: Take, *, ready: Callable[[], None]) -> None:
    """Take one command after the other, for as long as this process lives.

    Args:
        address: The socket.
        take: Does a command.
        ready: Called once commands can be sent.
    """
    with Listener(str(address), "AF_UNIX") as listener:
        ready()
        while True:
            with listener.accept() as connection:
                try:
                    words = connection.recv()
                except (EOFError, OSError):
                    continue
                connection.send(tuple(take(words)))


def ask(words: Sequence[str], address: str | None = None) -> Answer:
    """Let a running sandbox do a command.

    Args:
        words: The command.
        address: Of the sandbox; by default the one that this shell has sourced.
    """
    address = os.environ.get(CONTROL, "") if address is None else address
    try:
        with Client(address, "AF_UNIX") as connection:
            connection.send(list(words))
            return Answer(*connection.recv())
    except (OSError, EOFError, ValueError):  # Nobody listens, or it has ended meanwhile.
        return Answer(3, NOT_RUNNING)
