"""What the MariaDB and MySQL servers of the sandbox share: TLS as the only way in, and their superuser."""

import os
import socket
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any, ClassVar

import pymysql

from sandbox.emulators.databases.server import CLIENT_SECONDS, DatabaseServer
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
