"""The installed MariaDB server, and the MySQL server that `.ci/mysql-server` unpacked; TLS is the only way in."""

import os
import shutil
import socket
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any, ClassVar

import pymysql

from sandbox.emulators.databases.process import find_program, write_private_file
from sandbox.emulators.databases.server import CLIENT_SECONDS, Availability, DatabaseServer, program_version
from sandbox.emulators.databases.tls import Certificate, CertificateAuthority

INNODB_SMALL_AND_FAST = {
    "innodb_buffer_pool_dump_at_shutdown": "OFF",
    "innodb_buffer_pool_load_at_startup": "OFF",
    "innodb_buffer_pool_size": "16M",
    "innodb_doublewrite": "OFF",
    # The file system cache instead of O_DIRECT, which waits for the disk.
    "innodb_flush_method": "fsync",
    "innodb_flush_log_at_trx_commit": "2",
}
"""Small files and buffers, and nothing forced to disk: data outlive the server's process, not the machine."""

_PROBE_SECONDS = 0.2
# https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection: the first packet of
# a server that takes logins is a handshake of protocol version 10; an error packet begins with 0xff.
_HANDSHAKE_VERSION = 10


@dataclass(kw_only=True, eq=False)
class MySqlFamilyServer(DatabaseServer):
    """A server that answers over TLS only; runs under the present account, root included.

    Attributes:
        authority: Whom its clients trust.
        certificate: Issued by the authority unless given; another one takes effect at the next start.
    """

    superuser: ClassVar[str] = "admin"
    _stop_signal = SIGTERM

    authority: CertificateAuthority
    certificate: Certificate | None = None

    @abstractmethod
    def _server_program(self) -> list[str | Path]:
        """The server and the options that come before all others."""

    @abstractmethod
    def _engine_settings(self) -> Mapping[str, str]:
        """What the engine needs beyond the settings below."""

    @property
    def ca_file(self) -> Path:
        """The authority's certificate."""
        return self.authority.ca_file

    def execute_as_superuser(
        self, sql: str | Sequence[str], *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """See `DatabaseServer`; raises PyMySQL's errors."""
        connection = pymysql.connect(
            host=self.host,
            port=self.listening_port,
            user=self.superuser,
            password=self.superuser_password,
            database=database,
            ssl=self._client_tls(),
            autocommit=True,
            connect_timeout=CLIENT_SECONDS,
            read_timeout=CLIENT_SECONDS,
            write_timeout=CLIENT_SECONDS,
        )
        with closing(connection), connection.cursor() as cursor:
            for statement in [sql] if isinstance(sql, str) else sql:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def _general_log_text(self) -> str:
        """The general log; empty without `general_log`."""
        file = self.data_folder / "general.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _command(self) -> list[str | Path]:
        certificate = self.certificate or self.authority.issue()
        settings = {
            **self._engine_settings(),
            "bind_address": "127.0.0.1",
            "datadir": str(self.data_folder),
            "general_log": "ON" if self.general_log else "OFF",
            "general_log_file": "general.log",
            "pid_file": "server.pid",
            "port": str(self.listening_port),
            "require_secure_transport": "ON",
            "skip_name_resolve": "ON",
            # Relative to the data folder: a socket's path must not exceed 107 bytes, a folder's may.
            "socket": "server.sock",
            "ssl_ca": str(self.ca_file),
            "ssl_cert": str(certificate.chain_file),
            "ssl_key": str(certificate.key_file),
            # Of its own: a server that starts removes what looks like a left temporary table, also another's.
            "tmpdir": str(self.data_folder),
            **self.settings,
        }
        return [*self._server_program(), *as_present_user(), *options(settings)]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(
                ("127.0.0.1", self.listening_port), timeout=_PROBE_SECONDS
            ) as connection:
                packet = connection.recv(5)
        except OSError:
            return False
        return len(packet) == 5 and packet[4] == _HANDSHAKE_VERSION  # noqa: PLR2004  header of 4, then version


def as_present_user() -> list[str]:
    """The option that both servers demand before they run as root."""
    return ["--user=root"] if os.geteuid() == 0 else []


def options(settings: Mapping[str, str]) -> list[str]:
    """Settings as options of a command line."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


_PROGRAMS = ("mariadbd", "mariadb-install-db")

_SMALL_AND_FAST = {
    "aria_pagecache_buffer_size": "8M",
    "debug_no_sync": "ON",
    **INNODB_SMALL_AND_FAST,
    "innodb_log_file_size": "8M",
    "innodb_undo_tablespaces": "0",
    "key_buffer_size": "1M",
}


def mariadb_available() -> Availability:
    """Whether MariaDB is installed."""
    missing = [name for name in _PROGRAMS if find_program(name) is None]
    if not missing:
        return Availability()
    names = " and ".join(missing)
    return Availability(f"{names} not found; Debian and Ubuntu: apt-get install mariadb-server")


@dataclass(kw_only=True, eq=False)
class MariaDbServer(MySqlFamilyServer):
    """A MariaDB server."""

    product: ClassVar[str] = "MariaDB"

    @property
    def version(self) -> str:
        """The installed server's version."""
        return program_version(_program("mariadbd"))

    def _make_data(self, folder: Path) -> None:
        folders = [f"--datadir={folder}", f"--tmpdir={folder}"]
        common = ["--no-defaults", *folders, *as_present_user(), *options(_SMALL_AND_FAST)]
        root_login = "--auth-root-authentication-method=socket"
        self._run_tool([_program("mariadb-install-db"), *common, "--skip-test-db", root_login])
        # Over a pipe to a server without network and logs, so that the password is nowhere but in the pipe.
        # FLUSH PRIVILEGES is what makes account statements possible in this mode.
        self._run_tool(
            [_program("mariadbd"), *common, "--bootstrap"],
            text="FLUSH PRIVILEGES;\n"
            f"CREATE USER {self.superuser}@'%' IDENTIFIED BY '{self.superuser_password}';\n"
            f"GRANT ALL ON *.* TO {self.superuser}@'%' WITH GRANT OPTION;\n",
        )

    def _server_program(self) -> list[str | Path]:
        return [_program("mariadbd"), "--no-defaults"]

    def _engine_settings(self) -> Mapping[str, str]:
        return _SMALL_AND_FAST


def _program(name: str) -> Path:
    found = find_program(name)
    if found is None:
        raise FileNotFoundError(mariadb_available().missing)
    return found


_FOLDER = Path(__file__).resolve().parents[3] / ".cache" / "mysql"
_ROOT = _FOLDER / "server"

_MYSQL_SMALL_AND_FAST = {
    **INNODB_SMALL_AND_FAST,
    "innodb_redo_log_capacity": "8M",
    "performance_schema": "OFF",
    "sync_binlog": "0",
}


def mysql_available() -> Availability:
    """Whether MySQL has been unpacked."""
    if (_FOLDER / "version").exists():
        return Availability()
    return Availability(
        "no MySQL server in .cache; .ci/mysql-server brings one where Debian or Ubuntu has it"
    )


@dataclass(kw_only=True, eq=False)
class MySqlServer(MySqlFamilyServer):
    """A MySQL server; it runs with the libraries that were unpacked with it, not with the machine's."""

    product: ClassVar[str] = "MySQL"

    @property
    def version(self) -> str:
        """The unpacked server's version."""
        return (_FOLDER / "version").read_text().strip()

    def start(self) -> None:
        """See `DatabaseServer`."""
        super().start()
        self._first_statements.unlink(missing_ok=True)

    @property
    def _first_statements(self) -> Path:
        """Read by the server before it takes logins, at its first start alone."""
        return self.home / "superuser.sql"

    def _make_data(self, folder: Path) -> None:
        shutil.copytree(_FOLDER / "data", folder)
        statements = (
            f"CREATE USER {self.superuser}@'%' IDENTIFIED BY '{self.superuser_password}';\n"
            f"GRANT ALL ON *.* TO {self.superuser}@'%' WITH GRANT OPTION;\n"
            "DROP USER root@localhost;\n"
        )
        write_private_file(self._first_statements, statements.encode())

    def _server_program(self) -> list[str | Path]:
        found = next(iter(_ROOT.glob("**/*-linux-gnu*/ld-linux*.so.*")))
        libraries = ":".join(map(str, [*_ROOT.glob("usr/lib/*-linux-gnu*"), *_ROOT.glob("lib/*-linux-gnu*")]))
        return [found, "--library-path", libraries, _ROOT / "usr/sbin/mysqld", "--no-defaults"]

    def _engine_settings(self) -> Mapping[str, str]:
        first = {"init_file": str(self._first_statements)} if self._first_statements.exists() else {}
        messages = _ROOT / "usr/share/mysql"
        return {
            **_MYSQL_SMALL_AND_FAST,
            **first,
            "basedir": str(_ROOT / "usr"),
            "character_sets_dir": str(messages / "charsets"),
            "lc_messages_dir": str(messages),
            "mysqlx": "OFF",
            "plugin_dir": str(next(iter(_ROOT.glob("usr/lib/mysql/plugin")))),
            "secure_file_priv": "NULL",
        }
