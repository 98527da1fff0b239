"""The demo's applications beside the agent: each login and each refusal is counted, however they read a value."""

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import beside_agent
from sandbox.applications import Application, by_file, over_http
from sandbox.beside_agent import Address
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, PostgresServer, running
from tests.agent.harness import NAME, TOKEN, FakeStore, World, answering
from tests.support.servers import require

PASSWORD = "Correct-horse-1"


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    require(MariaDbServer)
    server = MariaDbServer(authority=CertificateAuthority(tmp_path_factory.mktemp("ca")))
    with running(server):
        server.execute_as_superuser(
            [
                "CREATE DATABASE app",
                f"CREATE USER app IDENTIFIED BY '{PASSWORD}'",
                "GRANT ALL ON app.* TO app",
            ]
        )
        yield Address(host=server.host, port=server.port, dbname="app", ca_file=str(server.ca_file))


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    require(PostgresServer)
    server = PostgresServer(authority=CertificateAuthority(tmp_path_factory.mktemp("ca")))
    with running(server):
        server.execute_as_superuser("CREATE DATABASE app")
        server.execute_as_superuser(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        yield Address(host=server.host, port=server.port, dbname="app", ca_file=str(server.ca_file))


def _counts(application: Application) -> tuple[int, int, list[str]]:
    return application.logins, len(application.refusals), application.troubles


def test_over_http_logins_refusals_and_troubles_are_told_apart(mariadb: Address) -> None:
    store = FakeStore(text=json.dumps({"username": "app", "password": PASSWORD, "generation": 3}))
    world = World(near=store)
    world.value.refresh()
    with answering(world.values) as agent:
        application = over_http("a", port=agent.port, token=TOKEN, secret=NAME, address=mariadb)
        application.log_in_once()
        assert (_counts(application), application.generation) == ((1, 0, []), 3)
        store.text = json.dumps({"username": "app", "password": "wrong", "generation": 4})
        world.value.refresh()
        application.log_in_once()
        assert _counts(application) == (1, 1, [])
        assert application.refusals[0].generation == 4
        stranger = over_http("b", port=agent.port, token="wrong", secret=NAME, address=mariadb)
        stranger.log_in_once()
        assert _counts(stranger) == (0, 0, ["HTTPError"])


@pytest.mark.parametrize("has_psql", [True, False])
def test_by_file_logins_refusals_and_troubles_are_told_apart(
    postgresql: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_psql: bool
) -> None:
    if not has_psql:
        monkeypatch.setattr(shutil, "which", lambda _program: None)
    pgpass, folder = tmp_path / ".pgpass", tmp_path / "own"
    folder.mkdir()
    application = by_file("a", pgpass, address=postgresql, folder=folder)
    line = f"{postgresql.host}:{postgresql.port}:*:app:{{}}\n"
    pgpass.write_text(line.format(PASSWORD))
    application.log_in_once()
    assert _counts(application) == (1, 0, [])
    pgpass.write_text(line.format("wrong"))
    application.log_in_once()
    assert _counts(application) == (1, 1, [])
    pgpass.write_text("no such line")
    application.log_in_once()
    assert _counts(application) == (1, 1, ["IndexError"])


def test_what_is_beside_the_agent_imports_nothing_of_lockstep() -> None:
    tree = ast.parse(Path(beside_agent.__file__).read_text())
    imported = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    imported |= {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    assert {"psycopg", "pymysql"} <= imported
    assert not {name for name in imported if name.partition(".")[0] in ("lockstep", "sandbox", "functions")}
