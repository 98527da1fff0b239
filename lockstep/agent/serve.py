"""The agent as a process: it refreshes values, keeps files, and answers requests until it is told to end."""

import ctypes
import logging
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lockstep.agent import files, hooks
from lockstep.agent.compiled import CompiledSettings, File
from lockstep.agent.given import Given
from lockstep.agent.http import Dialect, app_of
from lockstep.agent.listening import listener_of
from lockstep.agent.server import server_of
from lockstep.agent.sources import reader_of
from lockstep.agent.token_file import TokenFile
from lockstep.agent.values import Kept, Secret, Value, Values, said
from lockstep.model import SecretStr
from lockstep.system import SystemClock, boot_seconds

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("lockstep.agent")

_ENDS = (signal.SIGTERM, signal.SIGINT)
_END_SECONDS = 5.0
_PR_SET_DUMPABLE = 4


class Agent:
    """Everything but the answers to requests.

    Args:
        settings: Valid, with the plan in them.
        clock: Seconds that only grow, and that count while the machine is suspended.
    """

    def __init__(self, settings: CompiledSettings, clock: Callable[[], float] = boot_seconds) -> None:
        self.values = Values(list(_secrets(settings)), clock)
        self.given = Given(SystemClock().now)
        self._settings = settings
        self._owed: set[Path] = {file.path for file in settings.files if file.command or file.signal}
        """Files whose hook has still to run. At the start it is not known whether it did."""
        self._clock = clock
        self._read_at = float("-inf")
        self._over = threading.Event()

    def refresh(self) -> bool:
        """Read every secret, write what has changed and run what follows it; whether all of it succeeded."""
        self._read()
        return self._keep_files() and self.values.are_served

    def prepare(self) -> None:
        """Read every secret and write what has changed, without hooks: they may take long."""
        self._read()
        for file in self._settings.files:
            self._keep(file, self._write)

    @contextmanager
    def refreshing(self) -> Iterator[None]:
        """Refresh in threads until the end of the block: one reads, so that no hook that hangs lets values grow old.

        It begins with the hooks that are owed.

        What they do at the end is waited for, but not for long: a store or a hook may not answer.
        """
        threads = [
            threading.Thread(target=work, name=f"lockstep-{name}", daemon=True)
            for name, work in (("read", self._read_until_over), ("files", self._keep_until_over))
        ]
        self.values.news.set()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            self.values.news.set()
            for thread in threads:
                thread.join(_END_SECONDS)

    def hurry(self) -> None:
        """Read within a second. For a signal handler: it takes no lock."""
        self._read_at = float("-inf")

    def _read(self) -> None:
        self._read_at = self._clock()
        self.values.refresh()
        for value in self.values:
            if value.problem:
                _warn("a store was not read", value.problem, secret=value.secret.name)

    def _read_until_over(self) -> None:
        interval = self._settings.refresh.total_seconds()
        # In small steps: waiting does not count the time in which the machine is suspended.
        while not self._over.wait(min(1.0, interval / 4)):
            if self._clock() - self._read_at >= interval:
                self._read()
                self.values.news.set()

    def _keep_until_over(self) -> None:
        while True:
            self.values.news.wait()
            self.values.news.clear()
            if self._over.is_set():
                return
            self._keep_files()

    def _keep_files(self) -> bool:
        kept = [
            self._keep(file, self._write) and self._keep(file, self._run_hook)
            for file in self._settings.files
            if not self._over.is_set()
        ]
        return all(kept)

    def _keep(self, file: File, act: Callable[[File], bool]) -> bool:
        try:
            return act(file)
        except Exception as error:  # noqa: BLE001 - a template raises anything, and must not end the other files
            _warn("a file was not kept", said(error), path=str(file.path))
            return False

    def _write(self, file: File) -> bool:
        """Write a file if what it says has changed. A value that may be dead is not written."""
        kept, blob = (self._kept(name) for name in (file.served.app_user, file.served.connection_blob))
        if kept is None:
            return False
        login = files.login_of(
            kept.value.text.reveal(), blob.value.text.reveal() if blob else None, file.database
        )
        text = (
            files.rendered(login, file.template.read_text(encoding="utf-8"))
            if file.template
            else files.formatted(login, file.format or "json")
        )
        if files.write(file.path, SecretStr(text), mode=file.mode, uid=file.uid, gid=file.gid):
            logger.info("file written", extra={"path": str(file.path), "generation": login.generation})
            self._owed.add(file.path)
        self.given.note(file.served.id, str(file.path), kept.value.generation)
        return True

    def _run_hook(self, file: File) -> bool:
        if file.path in self._owed:
            if file.command:
                hooks.run_command(file.command, seconds=file.command_timeout.total_seconds())
            if file.signal:
                hooks.send_signal(file.signal.name, file.signal.pid_file)
            self._owed.discard(file.path)
        return True

    def _kept(self, name: str | None) -> Kept | None:
        value: Value | None = self.values.find(name) if name else None
        return value.served if value else None


def serve(settings: CompiledSettings) -> int:
    """Run the agent until SIGTERM or SIGINT; the exit status."""
    forbid_core_dumps()
    _end_by_an_exception(0)
    token = TokenFile(settings.token_file)
    listener = listener_of(settings.listen)
    agent = Agent(settings)
    agent.prepare()
    dialect = Dialect(
        agent.values,
        matches=token.matches,
        given=agent.given,
        usage_directory=settings.usage,
        path_prefix=settings.listen.path_prefix,
    )
    server, end = server_of(app_of(dialect), graceful_seconds=5)

    # Uvicorn has handlers of its own meanwhile; afterwards it raises what it has received again.
    for number in _ENDS:
        signal.signal(number, end)
    signal.signal(signal.SIGHUP, lambda *_received: agent.hurry())
    with agent.refreshing(), listener:
        where = settings.listen.socket or "{}:{}".format(*listener.getsockname()[:2])
        logger.info("the agent answers", extra={"at": str(where)})
        server.run([listener])
    return 0


def once(settings: CompiledSettings) -> int:
    """Read every secret and write every file, for a job or an init container; the exit status."""
    forbid_core_dumps()
    _end_by_an_exception(3)
    return 0 if Agent(settings).refresh() else 3


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


def _end_by_an_exception(status: int) -> None:
    """Until there is something to end in order: a signal in the middle of a write must leave no half file behind."""

    def end(*_received: object) -> None:
        raise SystemExit(status)

    for number in _ENDS:
        signal.signal(number, end)


def forbid_core_dumps() -> None:
    """Leave no memory image behind a crash, and let no other process of this user read the memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _warn(what: str, error: str, **where: str) -> None:
    logger.warning(what, extra={**where, "error": error})
