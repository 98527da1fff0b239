"""What all database servers of the sandbox have in common: their life, and their superuser."""

import os
import pwd
import secrets
import shutil
import ssl
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any, ClassVar, Self

from sandbox.emulators.databases.process import (
    ENVIRONMENT,
    Growing,
    ProcessStartError,
    SupervisedProcess,
    free_port,
    poll_until,
)

# Generous: a server is up in a fraction of a second, unless the machine is busy elsewhere.
START_SECONDS = 180.0
STOP_SECONDS = 10.0
# For the superuser's connections, so that a paused server makes them fail instead of hang.
CLIENT_SECONDS = 30.0

_LOG_TAIL_LINES = 25

# Making the data takes half the time in memory, and a start is little else.
_MEMORY = Path("/dev/shm")  # noqa: S108  only a folder of our own is made in it
_ROOM_BYTES = 1 << 30


class ServerStartError(Exception):
    """A server did not come up; the message ends with the last lines of its log."""

    def __init__(self, what: str, reason: str, log: str) -> None:
        tail = "\n".join(log.splitlines()[-_LOG_TAIL_LINES:])
        super().__init__(f"{what}: {reason}\n{tail}")


@dataclass(frozen=True)
class Availability:
    """Whether a server can be started on this machine; true in a condition if it can."""

    missing: str = ""
    """What is missing, and how to get it; empty if nothing is."""

    def __bool__(self) -> bool:
        return not self.missing


@dataclass(kw_only=True, eq=False)
class DatabaseServer(ABC):
    """A database server of its own on a port of 127.0.0.1, for as long as this process lives.

    In a `with` statement it runs from beginning to end, and its data is gone afterwards if it chose the
    folder. It may be stopped, killed and started again in between, on the same port and data.

    Attributes:
        folder: Holds data, logs and sockets; None: a temporary folder, in memory if there is room. A server
            that drops root's rights (PostgreSQL) must be able to enter it; pytest's `tmp_path` forbids that.
        general_log: Whether the server writes down every statement, for `watch_general_log`.
        settings: Server settings beyond the sandbox's own, which they override; read at each start.
        superuser_password: Generated; set once, when the data is made.
        port: Free when chosen.
    """

    host: ClassVar[str] = "localhost"
    product: ClassVar[str]
    superuser: ClassVar[str]
    _stop_signal: ClassVar[Signals]

    folder: Path | None = None
    general_log: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    superuser_password: str = field(default_factory=secrets.token_urlsafe, repr=False)
    port: int = field(default_factory=free_port)
    _temporary: tempfile.TemporaryDirectory[str] | None = field(init=False, repr=False, default=None)
    _process: SupervisedProcess | None = field(init=False, repr=False, default=None)

    # What an engine provides.

    @property
    @abstractmethod
    def ca_file(self) -> Path | None:
        """The authority to trust for this server; None: it speaks no TLS."""

    @property
    @abstractmethod
    def version(self) -> str:
        """The installed server's version, such as `11.8.9`."""

    @abstractmethod
    def execute_as_superuser(
        self, sql: str | Sequence[str], *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Runs statements, each in its own transaction, over TCP and, if the server has it, verified TLS.

        Returns:
            The rows of the last statement.

        Raises:
            Exception: The driver's own, as it came.
        """

    @abstractmethod
    def _general_log_text(self) -> str:
        """Every statement since the data was made, if `general_log` is on."""

    @abstractmethod
    def _make_data(self, folder: Path) -> None:
        """Makes a data folder, with the superuser in it, at a path where nothing is."""

    @abstractmethod
    def _command(self) -> list[str | Path]:
        """The server's command line, which holds no secret."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether this server accepts logins; asked while it starts. An answer of another server does not count."""

    @property
    def _account(self) -> pwd.struct_passwd | None:
        """The system account that the server runs under and its data belong to; None: the present one."""
        return None

    @property
    def listening_port(self) -> int:
        """The server's own port: `port`, unless a subclass puts something in front of the server."""
        return self.port

    # What they share.

    @property
    def home(self) -> Path:
        """The folder that holds all that the server writes."""
        if self.folder is not None:
            return self.folder
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(
                prefix=f"{self.product.lower()}-", dir=_MEMORY if _has_room(_MEMORY) else None
            )
            # What is inside is closed to others; the folder must let a server pass that drops root's rights.
            Path(self._temporary.name).chmod(0o711)
        return Path(self._temporary.name)

    @property
    def data_folder(self) -> Path:
        """The server's own data folder."""
        return self.home / "data"

    def start(self) -> None:
        """Makes the data if there is none, starts the server, and waits until it takes logins.

        Raises:
            ServerStartError: It did not within `START_SECONDS`.
            RuntimeError: It runs already.
        """
        if self.is_running():
            msg = f"{self} runs already"
            raise RuntimeError(msg)
        self.home.mkdir(parents=True, exist_ok=True)
        self._log_file.touch(mode=0o600)
        if not self.data_folder.exists():
            unfinished = self.home / "data.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            self._make_data(unfinished)
            unfinished.rename(self.data_folder)
        try:
            self._process = SupervisedProcess(
                self._command(),
                log_file=self._log_file,
                folder=self.home,
                account=self._account.pw_name if self._account else None,
                scratch=Path(self._temporary.name) if self._temporary else None,
            )
            settled = poll_until(
                lambda: not self.is_running() or self._is_ready(), timeout_seconds=START_SECONDS
            )
        except ProcessStartError:
            raise ServerStartError(str(self), "could not be started", self._log_text()) from None
        except BaseException:
            self.kill()
            raise
        if not settled or not self.is_running():
            reason = "ended while starting" if settled else f"not ready after {START_SECONDS} s"
            self.kill()
            raise ServerStartError(str(self), reason, self._log_text())

    def stop(self) -> None:
        """Shuts the server down, or kills it if that takes more than `STOP_SECONDS`; keeps the data."""
        if self._process is not None:
            self._process.stop(self._stop_signal, grace_seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Ends all of the server at once, as a crash would; keeps the data, `start` recovers it."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Freezes the server: it accepts connections and answers nothing, as in a hang."""
        self._running_process().pause()

    def resume(self) -> None:
        """Ends a pause."""
        self._running_process().resume()

    def is_running(self) -> bool:
        """Whether the server's process lives; a paused one does."""
        return self._process is not None and self._process.is_alive()

    def process_ids(self) -> frozenset[int]:
        """All processes of the server, now; none when it does not run."""
        return self._process.tree() if self._process is not None and self.is_running() else frozenset()

    def close(self) -> None:
        """Stops the server and removes the folder if the server chose it."""
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def watch_general_log(self) -> Growing[str]:
        """Every statement from now on, if `general_log` is on; PostgreSQL has it in its one log."""
        return Growing(self._general_log_text)

    def watch_log(self) -> Growing[str]:
        """What the server writes into its log from now on."""
        return Growing(self._log_text)

    def _log_text(self) -> str:
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"{self.product} on {self.host}:{self.port}"

    @property
    def _log_file(self) -> Path:
        return self.home / "server.log"

    def _running_process(self) -> SupervisedProcess:
        if self._process is None or not self._process.is_alive():
            msg = f"{self} does not run"
            raise RuntimeError(msg)
        return self._process

    def _client_tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None

    def _run_tool(self, command: Sequence[str | Path], *, text: str = "") -> None:
        """Runs one of the server's programs to its end, feeding it the text; its output goes to the log."""
        with self._log_file.open("ab") as log:
            status = subprocess.run(
                command,
                input=text.encode(),
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=ENVIRONMENT,
                user=self._account.pw_uid if self._account else None,
                group=self._account.pw_gid if self._account else None,
                extra_groups=[] if self._account else None,
                timeout=START_SECONDS,
                check=False,
            ).returncode
        if status:
            program = Path(command[0]).name
            raise ServerStartError(str(self), f"{program} ended with status {status}", self._log_text())


def program_version(program: Path) -> str:
    """The first dotted number that `program --version` prints."""
    printed = subprocess.run(
        [program, "--version"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=START_SECONDS,
        check=True,
    ).stdout
    return next(word for word in printed.replace("-", " ").split() if word[0].isdigit())


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > _ROOM_BYTES
