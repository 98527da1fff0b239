"""Readers that know nothing of Lockstep, or of its agent's HTTP and files alone, through rotations by both clouds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from tests.agent.languages.harness import (
    BOTH,
    ENOUGH,
    RECIPES,
    ROOT,
    Machine,
    require,
    running_application,
    survives_rotations,
)
from tests.agent.process import until

HERE = Path(__file__).parent
CLIENTS = HERE / "clients"
READERS = ROOT / ".cache" / "readers" / "bin"


class Client(NamedTuple):
    """A program that logs in again and again.

    Attributes:
        command: What runs it.
        ways: In which it logs in.
        packages: Of `.ci/languages`, without which it cannot be run here.
    """

    command: tuple[str | Path, ...]
    ways: tuple[str, ...]
    packages: tuple[str, ...] = ()


IN_PYTHON = (READERS / "python", CLIENTS / "in_python.py")
SHELL = RECIPES / "shell"
BY_SHELL = ("postgresql-client", "mariadb-client", "jq")
EACH_TIME = {
    "shell": Client(("sh", HERE / "shell_application.sh", SHELL), ("psql", "mariadb"), BY_SHELL),
    "aws-cli": Client(("sh", CLIENTS / "cli.sh", SHELL, "aws"), ("aws",), BY_SHELL),
    "oci-cli": Client(("sh", CLIENTS / "cli.sh", SHELL, "oci"), ("oci",), BY_SHELL),
    "php": Client(
        ("php", CLIENTS / "php.php"), ("php-pdo", "php-mysqli"), ("php-cli", "php-pgsql", "php-mysql")
    ),
    "ruby": Client(
        ("ruby", CLIENTS / "ruby.rb"), ("ruby-pg", "ruby-mysql2"), ("ruby", "ruby-pg", "ruby-mysql2")
    ),
    "perl": Client(
        ("perl", CLIENTS / "perl.pl"), ("perl-pg", "perl-mariadb"), ("libdbd-pg-perl", "libdbd-mariadb-perl")
    ),
    "node-sdk": Client(("node", CLIENTS / "node_sdk.mjs"), ("node-sdk",)),
    **{way: Client((*IN_PYTHON, way), (way,)) for way in ("boto3", "cached-a-second", "powertools")},
}
"""They read the value again within an overlap."""
KEPT = {"cached-an-hour": True, "wrapper": False}
"""They keep it for longer: whether a login is refused then, or read again after a refusal that nobody sees."""


def _environment(machine: Machine) -> Mapping[str, str]:
    """As for a machine of either cloud."""
    estate = machine.estate
    return {
        **{name: value for name, value in os.environ.items() if name.startswith("AWS_")},
        "PATH": f"{READERS}:{os.environ['PATH']}",
        "OCI_CLI_ENDPOINT": os.environ[OCI_ENDPOINT_VARIABLE],
        "OCI_CLI_CONFIG_FILE": os.environ[CONFIG_FILE_VARIABLE],
        # Of a key in a file without a label, and of a Node.js that the SDK will leave behind.
        "SUPPRESS_LABEL_WARNING": "True",
        "NODE_NO_WARNINGS": "1",
        "LOCKSTEP_COMPARTMENT": estate.oci.compartment_id,
        "LOCKSTEP_VAULT": estate.oci.vault_id,
        "LEDGER_PORT": str(estate.servers["ledger"].port),
    }


@pytest.mark.parametrize("client", EACH_TIME.values(), ids=EACH_TIME)
def test_no_login_is_refused(machine: Machine, client: Client) -> None:
    require(*client.packages)
    with running_application(machine, client.command, _environment(machine)) as application:
        survives_rotations(machine, application, client.ways)


@pytest.mark.parametrize(("way", "is_refused"), KEPT.items())
def test_what_keeps_a_value_for_longer_than_the_overlap(
    machine: Machine, way: str, *, is_refused: bool
) -> None:
    user = machine.current.username
    with running_application(machine, (*IN_PYTHON, way), _environment(machine)) as application:
        found = application.ways[way]
        until(lambda: application.is_at([way], user) or None)
        for by in BOTH:
            machine.rotate(by)
        if is_refused:
            until(lambda: found.failed or None)
        else:
            before = found.succeeded
            until(lambda: (application.is_at([way], user) and found.succeeded > before + ENOUGH) or None)
