"""Programs that know of Lockstep the agent's HTTP and files alone, or not even these, through rotations by both clouds.

Readers of other people, the shell recipes (psql with `.pgpass`, mariadb with `my.cnf`), and the recipe for pgbouncer.
"""

import os
import pwd
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.emulators.databases import PostgresServer
from sandbox.emulators.databases.process import SupervisedProcess, find_program
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from tests.agent.languages.harness import (
    BOTH,
    RECIPES,
    ROOT,
    Machine,
    connects_nowhere,
    require,
    running_application,
    running_machine,
    survives_rotations,
)
from tests.contract.test_poolers import POOLERS, running
from tests.support.programs import Ran, ran, until

HERE = Path(__file__).parent / "clients"
READERS = ROOT / ".cache" / "readers" / "bin"
IN_PYTHON = f"{READERS}/python {HERE}/in_python.py"
SHELL = RECIPES / "shell"
BY_SHELL = "postgresql-client mariadb-client jq"
EACH_TIME = {
    f"sh {HERE.parent}/shell_application.sh {SHELL}": ("psql mariadb", BY_SHELL),
    f"sh {HERE}/cli.sh {SHELL} aws": ("aws", BY_SHELL),
    f"sh {HERE}/cli.sh {SHELL} oci": ("oci", BY_SHELL),
    f"php {HERE}/php.php": ("php-pdo php-mysqli", "php-cli php-pgsql php-mysql"),
    f"ruby {HERE}/ruby.rb": ("ruby-pg ruby-mysql2", "ruby ruby-pg ruby-mysql2"),
    f"perl {HERE}/perl.pl": ("perl-pg perl-mariadb", "libdbd-pg-perl libdbd-mariadb-perl"),
    f"node {HERE}/node_sdk.mjs": ("node-sdk", ""),
    f"{IN_PYTHON} cached-a-second": ("cached-a-second", ""),
    f"{IN_PYTHON} powertools": ("powertools", ""),
}
"""They read the value again within an overlap: the ways in which each logs in, and the packages that it needs."""
KEPT = {
    "cached-an-hour": (f"{IN_PYTHON} cached-an-hour", True),
    "wrapper": (f"{IN_PYTHON} wrapper", False),
    **{
        p: (f"sh {HERE}/pooled.sh pooled", p == "pgpool, cache")
        for p in POOLERS
        if p != "pgbouncer, auth_file"
    },
}
"""What keeps a value for longer, a reader or a pooler: its program, and whether a login is refused then."""


def _environment(machine: Machine) -> Mapping[str, str]:
    """As on a machine of either cloud."""
    return {
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        "PATH": f"{READERS}:{os.environ['PATH']}",
        "OCI_CLI_ENDPOINT": os.environ[OCI_ENDPOINT_VARIABLE],
        "OCI_CLI_CONFIG_FILE": os.environ[CONFIG_FILE_VARIABLE],
        # Of a key in a file without a label, and of a Node.js that the SDK will leave behind.
        "SUPPRESS_LABEL_WARNING": "True",
        "NODE_NO_WARNINGS": "1",
        "LOCKSTEP_COMPARTMENT": machine.estate.oci.compartment_id,
        "LOCKSTEP_VAULT": machine.estate.oci.vault_id,
        "LEDGER_PORT": str(machine.estate.servers["ledger"].port),
    }


@pytest.mark.parametrize("command", EACH_TIME, ids=[ways for ways, _ in EACH_TIME.values()])
def test_no_login_is_refused(machine: Machine, command: str) -> None:
    ways, packages = map(str.split, EACH_TIME[command])
    require(*packages)
    with running_application(machine, command.split(), _environment(machine)) as application:
        survives_rotations(machine, application, ways)


@pytest.mark.parametrize("name", KEPT)
def test_what_keeps_a_value_for_longer_than_the_overlap(machine: Machine, name: str) -> None:
    command, is_refused = KEPT[name]
    way, user, ledger = command.split()[-1], machine.current.username, machine.estate.servers["ledger"]
    assert isinstance(ledger, PostgresServer)
    with ExitStack() as stack:
        environment = dict(_environment(machine))
        if name in POOLERS:
            host = stack.enter_context(running(name, ledger, ledger.authority))
            environment["POOLER_PORT"] = str(host.port)
        application = stack.enter_context(running_application(machine, command.split(), environment))
        found = application.ways[way]
        until(lambda: application.is_at([way], user))
        for by in BOTH:
            machine.rotate(by)
            enough = found.succeeded + 10
            until(lambda enough=enough: found.failed or found.succeeded > enough)  # type: ignore[misc]  # of this round
        if is_refused:
            until(lambda: found.failed)
        assert bool(found.failed) is is_refused, found


# The shell recipes

QUERIES = (("psql.sh", "-Atc", "SELECT session_user"), ("mariadb.sh", "-BNe", "SELECT USER()"))


def _ran(machine: Machine, name: str, *words: str, **more: str) -> Ran:
    return ran(["/bin/sh", str(SHELL / name), *words], env={**machine.environment, **more})


def test_a_script_goes_on_after_a_refused_login(unaware_machine: Machine) -> None:
    require("postgresql-client", "mariadb-client", "curl")

    def statuses() -> list[int]:
        return [_ran(unaware_machine, *query).returncode for query in QUERIES]

    assert statuses() == [0, 0]
    for by in BOTH:
        unaware_machine.rotate(by)
    assert 0 not in statuses()
    refreshed = _ran(unaware_machine, "refresh.sh")
    assert (refreshed.returncode, refreshed.stdout, refreshed.stderr) == (0, "", "")
    until(lambda: statuses() == [0, 0])


def test_what_a_user_has_set_for_another_login_does_not_count(machine: Machine) -> None:
    require("postgresql-client", "mariadb-client", "curl")
    (machine.folder / ".my.cnf").write_text("[client]\nuser=somebody\npassword=of-another\n")
    (machine.folder / ".my.cnf").chmod(0o600)
    set_by_user = {
        "HOME": str(machine.folder),
        "PGPASSWORD": "of-another",
        "PGSERVICE": "another",
        "PGHOSTADDR": "192.0.2.1",
        "http_proxy": "http://127.0.0.1:9",
    }
    for words in (*QUERIES, ("refresh.sh",)):
        done = _ran(machine, *words, **set_by_user)
        assert (done.returncode, done.stderr) == (0, ""), words
        said = "" if words == ("refresh.sh",) else machine.current.username
        assert done.stdout.partition("@")[0].strip() == said


def test_a_certificate_for_another_name_is_refused(machine: Machine, misnamed: Mapping[str, str]) -> None:
    require("postgresql-client", "mariadb-client")
    connects_nowhere(
        machine, ["sh", HERE.parent / "shell_application.sh", SHELL], misnamed, ["psql", "mariadb"]
    )


def test_a_script_that_is_ended_leaves_no_password_behind(machine: Machine) -> None:
    require("postgresql-client")
    script = str(SHELL / "psql.sh")
    before = set(machine.folder.iterdir())
    with subprocess.Popen(  # noqa: S603 - a file of ours
        ["/bin/sh", script, "-c", "SELECT pg_sleep(60)"],
        env={**machine.environment, "TMPDIR": str(machine.folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        until(lambda: bool(machine.sessions() & {machine.current.username}))
        assert set(machine.folder.iterdir()) != before
        os.killpg(process.pid, signal.SIGTERM)
    assert set(machine.folder.iterdir()) == before


# The recipe for pgbouncer

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


def test_clients_notice_no_rotation(estate: Estate, function: FunctionProcess, folder: Path) -> None:
    require("postgresql-client", "pgbouncer")
    program, account = find_program("pgbouncer"), "postgres" if os.geteuid() == 0 else None
    assert program
    files = YAML(typ="safe", pure=True).load(_recipe("agent.yaml", folder))["files"]
    if not account:  # pgbouncer is then of the same user as the agent.
        del files[0]["group"]
    # pgbouncer takes the addresses of a name in turn, and the server listens on one of those of `localhost`.
    template = _recipe("ledger.ini.j2", folder).replace("{{ host }}", "127.0.0.1")
    (folder / "ledger.ini.j2").write_text(template)
    (folder / "pgbouncer.ini").write_text(_recipe("pgbouncer.ini", folder))
    log = folder / "pgbouncer.log"
    with ExitStack() as stack:
        machine = stack.enter_context(running_machine(estate, function, folder, files=files))
        (folder / "databases-ca.pem").write_text(Path(machine.environment["LOCKSTEP_CA"]).read_text())
        command = [program, folder / "pgbouncer.ini"]
        process = SupervisedProcess(command, log_file=log, folder=folder, account=account)
        stack.callback(process.stop, signal.SIGTERM, grace_seconds=5)
        until((folder / ".s.PGSQL.6432").exists)
        asks: list[str | Path] = ["sh", HERE.parent / "pgbouncer_application.sh", folder]
        application = stack.enter_context(running_application(machine, asks))
        survives_rotations(machine, application, ["new-connections", "one-connection"])
        assert "password authentication failed" not in log.read_text()
        assert machine.current.password not in log.read_text()
