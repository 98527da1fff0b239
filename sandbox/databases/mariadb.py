"""The installed MariaDB server, with TLS as the only way in."""

import os
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any, ClassVar

import pymysql

from sandbox.databases.process import find_program
from sandbox.databases.server import CLIENT_SECONDS, Availability, DatabaseServer, program_version
from sandbox.databases.tls import Certificate, CertificateAuthority

_PROGRAMS = ("mariadbd", "mariadb-install-db")
_PROBE_SECONDS = 0.2
# https://mariadb.com/docs/server/reference/clientserver-protocol/1-connecting/connection: the first packet of
# a server that takes logins is a handshake of protocol version 10; an error packet begins with 0xff.
_HANDSHAKE_VERSION = 10

# Small files and buffers, and nothing forced to disk: data outlive the server's process, not the machine.
_SMALL_AND_FAST = {
    "aria_pagecache_buffer_size": "8M",
    "debug_no_sync": "ON",
    "innodb_buffer_pool_dump_at_shutdown": "OFF",
    "innodb_buffer_pool_load_at_startup": "OFF",
    "innodb_buffer_pool_size": "16M",
    "innodb_doublewrite": "OFF",
    # The file system cache instead of O_DIRECT, which waits for the disk.
    "innodb_flush_method": "fsync",
    "innodb_flush_log_at_trx_commit": "2",
    "innodb_log_file_size": "8M",
    "innodb_undo_tablespaces": "0",
    "key_buffer_size": "1M",
}


def available() -> Availability:
    """Whether MariaDB is installed."""
    missing = [name for name in _PROGRAMS if find_program(name) is None]
    if not missing:
        return Availability()
    names = " and ".join(missing)
    return Availability(f"{names} not found; Debian and Ubuntu: apt-get install mariadb-server")


@dataclass(kw_only=True, eq=False)
class MariaDbServer(DatabaseServer):
    """A MariaDB server that answers over TLS only; runs under the present account, root included.

    Attributes:
        authority: Whom its clients trust.
        certificate: Issued by the authority unless given; another one takes effect at the next start.
    """

    product: ClassVar[str] = "MariaDB"
    superuser: ClassVar[str] = "admin"
    _stop_signal = SIGTERM

    authority: CertificateAuthority
    certificate: Certificate | None = None

    @property
    def ca_file(self) -> Path:
        """The authority's certificate."""
        return self.authority.ca_file

    @property
    def version(self) -> str:
        """The installed server's version."""
        return program_version(_program("mariadbd"))

    def execute_as_superuser(
        self, sql: str | Sequence[str], *, database: str | None = None
    ) -> list[tuple[Any, ...]]:
        """See `DatabaseServer`; raises PyMySQL's errors."""
        connection = pymysql.connect(
            host=self.host,
            port=self.port,
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

    def general_log_text(self) -> str:
        """The general log; empty without `general_log`."""
        file = self.data_folder / "general.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def _make_data(self, folder: Path) -> None:
        common = ["--no-defaults", f"--datadir={folder}", *_as_present_user(), *_options(_SMALL_AND_FAST)]
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

    def _command(self) -> list[str | Path]:
        certificate = self.certificate or self.authority.issue()
        settings = {
            **_SMALL_AND_FAST,
            "bind_address": "127.0.0.1",
            "datadir": str(self.data_folder),
            "general_log": "ON" if self.general_log else "OFF",
            "general_log_file": "general.log",
            "pid_file": "mariadb.pid",
            "port": str(self.port),
            "require_secure_transport": "ON",
            "skip_name_resolve": "ON",
            # Relative to the data folder: a socket's path must not exceed 107 bytes, a folder's may.
            "socket": "mariadb.sock",
            "ssl_ca": str(self.ca_file),
            "ssl_cert": str(certificate.chain_file),
            "ssl_key": str(certificate.key_file),
            **self.settings,
        }
        return [_program("mariadbd"), "--no-defaults", *_as_present_user(), *_options(settings)]

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_PROBE_SECONDS) as connection:
                packet = connection.recv(5)
        except OSError:
            return False
        return len(packet) == 5 and packet[4] == _HANDSHAKE_VERSION  # noqa: PLR2004  header of 4, then version


def _program(name: str) -> Path:
    found = find_program(name)
    if found is None:
        raise FileNotFoundError(available().missing)
    return found


def _as_present_user() -> list[str]:
    # mariadbd runs as root only when told so in as many words.
    return ["--user=root"] if os.geteuid() == 0 else []


def _options(settings: dict[str, str]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
