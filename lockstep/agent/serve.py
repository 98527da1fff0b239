"""The agent as a process: it refreshes values, keeps files, and answers requests until it is told to end."""

import ctypes
import hmac
import logging
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from lockstep.agent import files
from lockstep.agent.http import Dialect
from lockstep.agent.server import ENDS, HOST, listener_of, names_of, run_until_signal
from lockstep.agent.settings import File, Settings
from lockstep.agent.values import Secret, Values, describe, reader_of
from lockstep.client.cache import StoreSource
from lockstep.plan.compiled import AwsStore
from lockstep.protocol.errors import Environment, EnvironmentalError
from lockstep.protocol.federation import Stamps, stamps_of
from lockstep.protocol.model import SecretStr
from lockstep.protocol.names import VersionNames
from lockstep.runtime.system import boot_seconds, new_token

# The file with the token that requests must bring.

MODE = 0o640


def token_of(file: Path) -> SecretStr:
    """The token of a file, which is made where there is none, with its folder.

    Raises:
        EnvironmentalError: It cannot be read or made, or is empty, or others than its owner and group can read it.
    """
    with files.refused_as(problem := Environment.TOKEN_FILE_UNUSABLE, path=str(file)):
        if not file.exists():
            files.replace_file(file, new_token().reveal().encode(), mode=MODE)
        is_everybodys = file.stat().st_mode & 0o007
        token = file.read_text(encoding="ascii").strip()
    if is_everybodys or not token:
        code = "readable-by-everybody" if is_everybodys else "empty"
        raise EnvironmentalError(problem, path=str(file), code=code)
    return SecretStr(token)


def check_token(file: Path) -> None:
    """Look whether there is a token, or one could be made; nothing is made.

    Raises:
        EnvironmentalError: As `token_of` does.
    """
    with files.refused_as(problem := Environment.TOKEN_FILE_UNUSABLE, path=str(file)):
        if file.exists():
            token_of(file)
        else:
            files.require_place(file, problem)


class TokenFile:
    """The token of a file, also after the file was replaced.

    Args:
        file: As for `token_of`.

    Raises:
        EnvironmentalError: As `token_of` does.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._token = file, token_of(file)

    def matches(self, brought: str) -> bool:
        """Whether this is the token. Where a new file cannot be read, the token before it counts."""
        with suppress(OSError, EnvironmentalError):
            if self._file.exists():
                self._token = token_of(self._file)
        return hmac.compare_digest(brought.encode(), self._token.reveal().encode())


logger = logging.getLogger("lockstep.agent")

_END_SECONDS = 5.0
_PR_SET_DUMPABLE = 4


class Agent:
    """Everything but the answers to requests.

    Args:
        settings: Valid, with the plan in them.
        clock: Seconds that only grow, and that count while the machine is suspended.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = boot_seconds) -> None:
        self.values = Values(list(_secrets(settings)), clock)
        self._settings = settings
        self._owed: set[Path] = set()
        """Files whose command has still to run."""
        self._written: dict[Path, tuple[SecretStr, Stamps]] = {}
        """What this process has written last, and what a file was like then: it may be one that it cannot read."""
        self._clock = clock
        self._read_at = float("-inf")
        self._hooks_due = threading.Event()
        self._over = threading.Event()

    def refresh(self) -> bool:
        """Read every secret, write what has changed and run what follows it; whether all of it succeeded."""
        are_right = self.prepare()
        return self._run_hooks() and are_right and self.values.are_served

    def prepare(self) -> bool:
        """Read every secret and write what has changed, without hooks: they may take long."""
        self._read()
        return self._write_files()

    @contextmanager
    def refreshing(self) -> Iterator[None]:
        """Refresh in threads until the end of the block: a hook that hangs lets no value and no file grow old.

        It begins with the hooks that are owed. What the other threads do at the end is waited for, but not for long; a
        hook is ended, and owed at the next start.
        """
        threads = [
            threading.Thread(target=work, name=f"lockstep-{name}", daemon=True)
            for name, work in (
                ("read", self._read_until_over),
                ("files", partial(self._until_over, self.values.news, self._write_files)),
                ("hooks", partial(self._until_over, self._hooks_due, self._run_hooks)),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            self.values.news.set()
            self._hooks_due.set()
            ends_at = time.monotonic() + _END_SECONDS
            for thread in threads:
                thread.join(max(0.0, ends_at - time.monotonic()))

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
        interval = self._settings.how_often.total_seconds()
        # In small steps: waiting does not count the time in which the machine is suspended.
        while not self._over.wait(min(1.0, interval / 4)):
            if self._clock() - self._read_at >= interval:
                self._read()
                self.values.news.set()

    def _until_over(self, due: threading.Event, act: Callable[[], object]) -> None:
        while True:
            due.wait()
            due.clear()
            if self._over.is_set():
                return
            act()

    def _write_files(self) -> bool:
        """Whether all of them are as they should be now."""
        failed = [file for file in self._settings.files if not self._succeeds(file, self._write)]
        self._hooks_due.set()
        return not failed

    def _run_hooks(self) -> bool:
        """Run the hooks that are owed; whether all of them succeeded."""
        failed: set[Path] = set()
        for file in self._settings.files:
            if file.path in self._owed:
                self._owed.discard(file.path)  # A change from now on owes another one.
                if not self._succeeds(file, self._run_hook):
                    failed.add(file.path)
        self._owed |= failed
        return not failed

    def _succeeds(self, file: File, act: Callable[[File], bool]) -> bool:
        try:
            return not self._over.is_set() and act(file)
        except Exception as error:  # noqa: BLE001 - a template raises anything, and must not end the other files
            _warn("a file was not kept", describe(error), path=str(file.path))
            return False

    def _write(self, file: File) -> bool:
        """Write a file if what it says has changed, or the file. A value that may be revoked is not written."""
        value = self.values.find(self._settings.credential_of(file).secret_names.app_user)
        kept = value.served if value else None
        if value is None or kept is None:
            return False
        blob = self.values.beside(value)
        login = files.login_of(kept.value.text, blob.text if blob else None, file.database)
        text = _text(login, file)
        if self._written.get(file.path) != (text, stamps_of(str(file.path))):
            with files.refused_as(Environment.FILE_REFUSED, path=str(file.path)):
                files.replace_file(file.path, text.reveal().encode(), mode=file.mode, gid=file.group)
            logger.info("file written", extra={"path": str(file.path), "generation": kept.value.generation})
            self._written[file.path] = text, stamps_of(str(file.path))
            self._owed.add(file.path)
        value.note(str(file.path), kept)
        return True

    def _run_hook(self, file: File) -> bool:
        if file.command:
            files.run_command(file.command, self._over)
            # What the command itself has done to the file is no change that calls for it again.
            self._written[file.path] = self._written[file.path][0], stamps_of(str(file.path))
        return True


def _text(login: files.Login, file: File) -> SecretStr:
    if file.template is None:
        return SecretStr(files.formatted(login, file.format or "json"))
    with files.refused_as(Environment.FILE_REFUSED, path=str(file.template)):
        template = file.template.read_text(encoding="utf-8")
    return SecretStr(files.rendered(login, template))


def check(settings: Settings, *, is_once: bool) -> None:
    """Find what the start would; nothing is made, no store is read, and the port is left to an agent that runs.

    Args:
        settings: Valid.
        is_once: Whether `once` would be started, which has no token.

    Raises:
        LockstepError: What would not work.
        ModuleNotFoundError: A package is missing.
    """
    Agent(settings)
    if not is_once:
        check_token(settings.token_file)
    for file in settings.files:
        _text(files.login_of(_EXAMPLE, None, None), file)
        files.require_place(file.path)


_EXAMPLE = SecretStr('{"username":"a","password":"a","engine":"mysql","host":"a","port":1,"dbname":"a"}')


def serve(settings: Settings) -> int:
    """Run the agent until SIGTERM or SIGINT; the exit status."""
    forbid_core_dumps()
    _end_by_an_exception(0)
    token = TokenFile(settings.token_file)
    listener = listener_of(settings.port)
    port = listener.getsockname()[1]
    agent = Agent(settings)
    # Before reads that may take long: it would end the process.
    signal.signal(signal.SIGHUP, lambda *_received: agent.hurry())
    agent.prepare()
    dialect = Dialect(agent.values, matches=token.matches, names=names_of(port))
    with agent.refreshing(), listener:
        logger.info("the agent answers", extra={"at": f"{HOST}:{port}"})
        run_until_signal(dialect, listener, graceful_seconds=5)
    return 0


def once(settings: Settings) -> int:
    """Read every secret and write every file, for a job or an init container; the exit status."""
    forbid_core_dumps()
    _end_by_an_exception(3)
    return 0 if Agent(settings).refresh() else 3


def _secrets(settings: Settings) -> Iterator[Secret]:
    readers = {store.name: reader_of(store) for store in settings.stores_in_turn}
    region = next((s.region for s in settings.stores_in_turn if isinstance(s, AwsStore)), None)
    for credential in settings.served:
        app_user = credential.secret_names.app_user
        for name in (app_user, credential.secret_names.connection_blob):
            names = VersionNames(credential_id=credential.id, secret=name)
            yield Secret(
                name=name,
                credential_id=credential.id,
                overlap=credential.schedule.overlap,
                sources=[StoreSource(store, partial(read, names)) for store, read in readers.items()],
                region=region,
                has_login=name == app_user,
            )


def _end_by_an_exception(status: int) -> None:
    """Until there is something to end in order: a signal in the middle of a write must leave no half file behind."""
    for number in ENDS:
        signal.signal(number, lambda *_received: sys.exit(status))


def forbid_core_dumps() -> None:
    """Leave no memory image behind a crash, and let no other process of this user read the memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _warn(what: str, error: str, **where: str) -> None:
    logger.warning(what, extra={**where, "error": error})
