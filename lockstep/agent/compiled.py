"""The agent's settings, compiled: what it needs of settings that are valid, with the plan in them and every default.

`lockstep.agent.settings` checks the file, with libraries that take 20 MB. The agent runs for months and checks once, so
a child process does it, and takes with it what it has loaded.
"""

import multiprocessing
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from lockstep.compiled import Store
from lockstep.errors import TerminalError
from lockstep.shapes import Message


class SettingsError(TerminalError):
    """The agent's settings are not valid."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__()


class Served(Message):
    """A credential that is served.

    Attributes:
        app_user: The name of its secret with the login.
        connection_blob: The name of its secret with the addresses.
        overlap: How long a value logs in after a newer one was promoted.
    """

    id: str
    app_user: str
    connection_blob: str | None
    overlap: timedelta

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of its secrets."""
        return (self.app_user, self.connection_blob) if self.connection_blob else (self.app_user,)


class Signal(Message):
    """A signal to the process whose id is in a file."""

    name: str
    pid_file: Path


class File(Message):
    """A file that the agent keeps; attributes as in `lockstep.agent.settings.File`.

    Attributes:
        served: The credential whose login it has.
        uid: Its owner; -1 leaves it to the process.
        gid: Its group; likewise.
    """

    path: Path
    served: Served
    database: str | None
    format: str | None
    template: Path | None
    mode: int
    uid: int
    gid: int
    command: tuple[str, ...] | None
    command_timeout: timedelta
    signal: Signal | None


class Listen(Message):
    """Where requests come in; attributes as in `lockstep.agent.settings.Listen`."""

    host: str
    port: int
    socket: Path | None
    path_prefix: str


class CompiledSettings(Message):
    """All of it.

    Attributes:
        stores: The nearest first.
        refresh: How often they are asked.
    """

    stores: tuple[Store, ...]
    serve: tuple[Served, ...]
    refresh: timedelta
    listen: Listen
    token_file: Path
    files: tuple[File, ...]


def settings_of(file: Path) -> CompiledSettings:
    """The settings in a file, read and checked by a child process.

    Call it before this process has other threads: the child has only the calling one.

    Raises:
        SettingsError: With every mistake.
    """
    # A fork, so that the child sees the modules that this process sees, wherever it was started.
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_tell, args=(file, there))
    child.start()
    there.close()
    try:
        found = here.recv()
    except EOFError:
        raise SettingsError(["could not be checked: the process that reads them has died"]) from None
    finally:
        child.join()
    if isinstance(found, CompiledSettings):
        return found
    raise SettingsError(found)


def _tell(file: Path, there: Connection) -> None:
    # Only here: the parent does without what it loads.
    from lockstep.agent.settings import load_settings  # noqa: PLC0415

    try:
        there.send(load_settings(file))
    except SettingsError as error:
        there.send(error.problems)
