"""The recipe for pgbouncer: clients without a password, through rotations."""

import os
import pwd
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from sandbox.emulators.databases.process import SupervisedProcess, find_program
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from tests.agent.languages.harness import (
    RECIPES,
    Machine,
    require,
    running_application,
    running_machine,
    survives_rotations,
)
from tests.support.settling import until

APPLICATION = Path(__file__).with_name("pgbouncer_application.sh")
FOLDERS = ("/run/lockstep", "/etc/lockstep", "/run/postgresql")
"""Of the recipe. In the test they are one folder."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that pgbouncer, which root cannot be, may enter and write in."""
    with tempfile.TemporaryDirectory(prefix="lockstep-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        if os.geteuid() == 0:
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        yield folder


def _recipe(name: str, folder: Path) -> str:
    text = (RECIPES / "pgbouncer" / name).read_text()
    for path in FOLDERS:
        text = text.replace(path, str(folder))
    return text


def _agent_files(folder: Path) -> list[dict[str, Any]]:
    settings = YAML(typ="safe", pure=True).load(_recipe("agent.yaml", folder))
    files: list[dict[str, Any]] = settings["files"]
    if os.geteuid() != 0:  # pgbouncer is then of the same user as the agent.
        del files[0]["group"]
    return files


@contextmanager
def _running_pgbouncer(machine: Machine) -> Iterator[Path]:
    """Yields its log."""
    folder = machine.folder
    (folder / "databases-ca.pem").write_text(Path(machine.environment["LOCKSTEP_CA"]).read_text())
    (folder / "pgbouncer.ini").write_text(_recipe("pgbouncer.ini", folder))
    log = folder / "pgbouncer.log"
    program = find_program("pgbouncer")
    assert program
    process = SupervisedProcess(
        [program, folder / "pgbouncer.ini"],
        log_file=log,
        folder=folder,
        account="postgres" if os.geteuid() == 0 else None,
    )
    try:
        until((folder / ".s.PGSQL.6432").exists)
        yield log
    finally:
        process.stop(signal.SIGTERM, grace_seconds=5)


def test_clients_notice_no_rotation(estate: Estate, function: FunctionProcess, folder: Path) -> None:
    require("postgresql-client", "pgbouncer")
    # pgbouncer takes the addresses of a name in turn, and the server listens on one of those of `localhost`.
    template = _recipe("ledger.ini.j2", folder).replace("{{ host }}", "127.0.0.1")
    (folder / "ledger.ini.j2").write_text(template)
    with (
        running_machine(estate, function, folder, files=_agent_files(folder)) as machine,
        _running_pgbouncer(machine) as log,
        running_application(machine, ["sh", APPLICATION, folder]) as application,
    ):
        survives_rotations(machine, application, ["new-connections", "one-connection"])
        assert "password authentication failed" not in log.read_text()
        assert machine.current.password not in log.read_text()
