"""The agent as a process: it refreshes values, keeps files, and answers requests until it is told to end."""

import ctypes
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import uvicorn

from lockstep.agent import files, hooks
from lockstep.agent.compiled import CompiledSettings, File, Listen
from lockstep.agent.given import Given
from lockstep.agent.http import Dialect, app_of
from lockstep.agent.sources import reader_of
from lockstep.agent.token_file import token_of
from lockstep.agent.values import Kept, Secret, Value, Values, said
from lockstep.errors import LockstepError
from lockstep.model import SecretStr
from lockstep.system import SystemClock, boot_seconds

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("lockstep.agent")

_WAITING = 1024
_PR_SET_DUMPABLE = 4


class Agent:
    """Everything but the answers to requests.

    Args:
        settings: Valid, with the plan in them.
        values: What is served.
    """

    def __init__(self, settings: CompiledSettings, values: Values) -> None:
        self.values = values
        self.given = Given(SystemClock().now)
        self._settings = settings
        self._owed: set[Path] = {file.path for file in settings.files if file.command or file.signal}
        """Files whose hook has still to run. At the start it is not known whether it did."""
        self._is_over = False

    @classmethod
    def of(cls, settings: CompiledSettings, clock: Callable[[], float] = boot_seconds) -> "Agent":
        """The agent for these settings, before it has read anything."""
        return cls(settings, Values(list(_secrets(settings)), clock))

    def refresh(self) -> bool:
        """Read every secret, write what has changed and run what follows it; whether all of it succeeded."""
        for value in self.values:
            value.refresh()
            if value.problem:
                _warn("a store was not read", value.problem, secret=value.secret.name)
        written = [self._keep(file) for file in self._settings.files]
        return all(written) and self.values.are_served

    @contextmanager
    def refreshing(self) -> Iterator[None]:
        """Refresh in a thread of its own until the end of the block."""
        thread = threading.Thread(target=self._refresh_until_over, name="lockstep-refresh")
        thread.start()
        try:
            yield
        finally:
            self._is_over = True
            self.values.news.set()
            thread.join()

    def _refresh_until_over(self) -> None:
        while True:
            self.values.news.wait(self._settings.refresh.total_seconds())
            self.values.news.clear()
            if self._is_over:
                return
            self.refresh()

    def _keep(self, file: File) -> bool:
        """Write a file if what it says has changed, then run its hook. A value that may be dead is not written."""
        kept, blob = (self._kept(name) for name in (file.served.app_user, file.served.connection_blob))
        if kept is None:
            return False
        try:
            login = files.login_of(
                kept.value.text.reveal(), blob.value.text.reveal() if blob else None, file.database
            )
            text = (
                files.rendered(login, file.template.read_text(encoding="utf-8"))
                if file.template
                else files.FORMATS[file.format or "json"](login)
            )
            if files.write(file.path, SecretStr(text), mode=file.mode, uid=file.uid, gid=file.gid):
                logger.info("file written", extra={"path": str(file.path), "generation": login.generation})
                self._owed.add(file.path)
            self.given.note(file.served.id, str(file.path), kept.value.generation)
            self._run_hook(file)
        except (OSError, UnicodeDecodeError, LockstepError) as error:
            _warn("a file was not kept", said(error), path=str(file.path))
            return False
        return True

    def _run_hook(self, file: File) -> None:
        if file.path not in self._owed:
            return
        if file.command:
            hooks.run_command(file.command, seconds=file.command_timeout.total_seconds())
        if file.signal:
            hooks.send_signal(file.signal.name, file.signal.pid_file)
        self._owed.discard(file.path)

    def _kept(self, name: str | None) -> Kept | None:
        value: Value | None = self.values.find(name) if name else None
        return value.served if value else None


def serve(settings: CompiledSettings) -> int:
    """Run the agent until SIGTERM or SIGINT; the exit status."""
    forbid_core_dumps()
    token = token_of(settings.token_file)
    agent = Agent.of(settings)
    agent.refresh()
    dialect = Dialect(
        agent.values,
        token=token,
        given=agent.given,
        usage_directory=settings.usage,
        path_prefix=settings.listen.path_prefix,
    )
    listener = _listener(settings.listen)
    server = uvicorn.Server(
        uvicorn.Config(
            app_of(dialect),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
    )
    # Uvicorn ends its work at these signals, and then raises them again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_received: None)
    with agent.refreshing(), listener:
        where = settings.listen.socket or "{}:{}".format(*listener.getsockname()[:2])
        logger.info("the agent answers", extra={"at": str(where)})
        server.run([listener])
    return 0


def once(settings: CompiledSettings) -> int:
    """Read every secret and write every file, for a job or an init container; the exit status."""
    forbid_core_dumps()
    return 0 if Agent.of(settings).refresh() else 3


def _secrets(settings: CompiledSettings) -> Iterator[Secret]:
    readers = {store.name: reader_of(store) for store in settings.stores}
    for served in settings.serve:
        for name in served.secrets:
            yield Secret(
                name=name,
                credential_id=served.id,
                overlap=served.overlap,
                sources={store: reader(served.id, name) for store, reader in readers.items()},
                has_login=name == served.app_user,
            )


def _listener(listen: Listen) -> socket.socket:
    if listen.socket is None:
        family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
        # Named as TCP, or asyncio would not send small answers at once, and each would wait 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((listen.host, listen.port))
    else:
        with suppress(FileNotFoundError):
            if listen.socket.is_socket():
                listen.socket.unlink()
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o117)  # Owner and group may connect.
        try:
            listener.bind(str(listen.socket))
        finally:
            os.umask(before)
    listener.listen(_WAITING)  # From here on requests wait instead of being refused.
    return listener


def forbid_core_dumps() -> None:
    """Leave no memory image behind a crash, and let no other process of this user read the memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _warn(what: str, error: str, **where: str) -> None:
    logger.warning(what, extra={**where, "error": error})
