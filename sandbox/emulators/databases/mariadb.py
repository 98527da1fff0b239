"""The installed MariaDB server, with TLS as the only way in."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sandbox.emulators.databases.mysql_family import (
    INNODB_SMALL_AND_FAST,
    MySqlFamilyServer,
    as_present_user,
    options,
)
from sandbox.emulators.databases.process import find_program
from sandbox.emulators.databases.server import Availability, program_version

_PROGRAMS = ("mariadbd", "mariadb-install-db")

_SMALL_AND_FAST = {
    "aria_pagecache_buffer_size": "8M",
    "debug_no_sync": "ON",
    **INNODB_SMALL_AND_FAST,
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
        raise FileNotFoundError(available().missing)
    return found
