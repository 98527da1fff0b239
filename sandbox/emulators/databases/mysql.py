"""The MySQL server that `.ci/mysql-server` unpacked, with TLS as the only way in."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sandbox.emulators.databases.mysql_family import INNODB_SMALL_AND_FAST, MySqlFamilyServer
from sandbox.emulators.databases.process import write_private_file
from sandbox.emulators.databases.server import Availability

_FOLDER = Path(__file__).resolve().parents[3] / ".cache" / "mysql"
_ROOT = _FOLDER / "server"

_SMALL_AND_FAST = {
    **INNODB_SMALL_AND_FAST,
    "innodb_redo_log_capacity": "8M",
    "performance_schema": "OFF",
    "sync_binlog": "0",
}


def available() -> Availability:
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
            **_SMALL_AND_FAST,
            **first,
            "basedir": str(_ROOT / "usr"),
            "character_sets_dir": str(messages / "charsets"),
            "lc_messages_dir": str(messages),
            "mysqlx": "OFF",
            "plugin_dir": str(next(iter(_ROOT.glob("usr/lib/mysql/plugin")))),
            "secure_file_priv": "NULL",
        }
