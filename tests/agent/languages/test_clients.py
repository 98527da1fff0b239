"""Readers that know nothing of Lockstep, or its agent's HTTP and files alone, through rotations by both clouds."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.emulators.databases import PostgresServer
from tests.agent.languages.harness import (
    BOTH,
    RECIPES,
    ROOT,
    Machine,
    Way,
    require,
    running_application,
    survives_rotations,
)
from tests.agent.process import Cloud
from tests.contract.test_poolers import POOLERS, running
from tests.support.settling import until

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


def _rotate(machine: Machine, by: Cloud, found: Way) -> None:
    machine.rotate(by)
    before = found.succeeded
    until(lambda: bool(found.failed) or found.succeeded > before + 10)


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
            _rotate(machine, by, found)
        if is_refused:
            until(lambda: found.failed)
        assert bool(found.failed) is is_refused, found
