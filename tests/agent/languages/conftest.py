"""A machine for the application of a test: an agent of its own, beside clouds and databases that tests share."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lockstep.agent.files import formatted, login_of
from lockstep.protocol.model import SecretStr
from sandbox.emulators.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    PostgresServer,
    running,
)
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.plans import DBNAME
from tests.agent.harness import FakeStore, app_user
from tests.agent.languages.harness import NEVER, Machine, running_machine, served


@pytest.fixture(scope="package")
def function(estate: Estate) -> Iterator[FunctionProcess]:
    """The runner in OCI."""
    with running_function(estate.function_environment) as running:
        yield running


@pytest.fixture
def machine(estate: Estate, function: FunctionProcess, tmp_path: Path) -> Iterator[Machine]:
    """With an agent that keeps `pgpass` and `my.cnf`."""
    with running_machine(estate, function, tmp_path) as running:
        yield running


@pytest.fixture
def unaware_machine(estate: Estate, function: FunctionProcess, tmp_path: Path) -> Iterator[Machine]:
    """With an agent that does not look at the stores unless it is asked to."""
    with running_machine(estate, function, tmp_path, refresh=NEVER) as running:
        yield running


@pytest.fixture(scope="package")
def misnamed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Variables for an agent that names databases whose certificates are for another name."""
    folder = tmp_path_factory.mktemp("misnamed")
    authority = CertificateAuthority(folder)
    theirs = authority.issue("db.example.com")
    servers: dict[str, DatabaseServer] = {
        "orders": MariaDbServer(authority=authority, certificate=theirs),
        "ledger": PostgresServer(authority=authority, certificate=theirs),
    }
    engines = {"orders": "mariadb", "ledger": "postgresql"}
    databases = {
        name: {"dbname": DBNAME, "engine": engines[name], "host": s.host, "port": s.port, "tls": True}
        for name, s in servers.items()
    }
    user, blob = app_user(1), SecretStr(json.dumps({"databases": databases}))
    files = {"LOCKSTEP_CA": str(authority.ca_file)}
    for database, name, form in (("ledger", "pgpass", "pgpass"), ("orders", "my_cnf", "my-cnf")):
        (folder / name).write_text(formatted(login_of(SecretStr(user), blob, database), form))
        files[f"LOCKSTEP_{name.upper()}"] = str(folder / name)
    with running(*servers.values()), served(databases, FakeStore(text=user), folder) as environment:
        yield {**environment, **files}
