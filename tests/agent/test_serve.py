"""The agent in a process of its own, beside both clouds and real databases, through rotations by both runners."""

import json
import os
import stat
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from lockstep.client import ClientCredential
from lockstep.protocol.model import SecretStr, is_mysql_refusal, is_postgresql_refusal
from sandbox.applications import Application, Applications, Login, log_in
from sandbox.emulators.databases.process import write_private_file
from sandbox.estate import Estate
from sandbox.fn import running_function
from tests.agent.process import AgentProcess, command, rotate, running_agent, settings_file
from tests.support.programs import Ran, ran, until

USER = "multi-cloud/app_user"
ROTATIONS = 3
PAUSE_SECONDS = 0.2
"""Between two logins of an application, which leaves the machine to the others."""


def _settings(estate: Estate, folder: Path) -> dict[str, Any]:
    hook = f"env > {folder}/new && mv {folder}/new {folder}/hook-environment"
    pgpass = {"path": f"{folder}/pgpass", "format": "pgpass", "database": "ledger"}
    my_cnf = {"path": f"{folder}/my.cnf", "format": "my-cnf", "command": ["/bin/sh", "-c", hook]}
    return {"plan": str(estate.plan_file), "nearest": "oci", "refresh": "1s", "files": [pgpass, my_cnf]}


def _applications(estate: Estate, agent: AgentProcess, folder: Path) -> Applications:
    """One that asks over HTTP and logs in to MariaDB, and one that logs in to PostgreSQL by libpq with the file."""
    at = {server.name: server for server in estate.plan.credentials[0].servers}
    ledger, copy = at["ledger"], folder / "copy"
    assert ledger.tls
    where: dict[str, Any] = {
        "host": ledger.host,
        "port": ledger.port,
        "dbname": ledger.dbname,
        "passfile": copy,
    }
    where |= {"sslmode": "verify-full", "sslrootcert": ledger.tls.ca_file}

    def by_http() -> Login:
        held = agent.value(USER)
        credential = ClientCredential(
            username=held["username"], password=SecretStr(held["password"]), generation=held["generation"]
        )
        return Login(credential.generation, partial(log_in, at["orders"], credential))

    def by_file() -> Login:
        """User and password belong together, and the agent may replace its file meanwhile: a copy of it is used."""
        until((folder / "pgpass").exists)
        write_private_file(copy, (folder / "pgpass").read_bytes())
        user = copy.read_text().split(":")[3]
        return Login(0, lambda: psycopg.connect(make_conninfo(user=user, **where)).close())

    return Applications(
        [
            Application("HTTP", by_http, is_mysql_refusal, PAUSE_SECONDS),
            Application("libpq", by_file, is_postgresql_refusal, PAUSE_SECONDS),
        ]
    )


def test_applications_log_in_by_http_and_by_file_through_rotations_of_both_runners(
    estate: Estate, tmp_path: Path
) -> None:
    with (
        running_function(estate.function_environment) as function,
        running_agent(tmp_path, _settings(estate, tmp_path)) as agent,
    ):
        applications = _applications(estate, agent, tmp_path)
        with applications:
            for n in range(ROTATIONS):
                rotate(estate, function, by="aws" if n % 2 else "oci")
                # An interval is longer than a refresh; here it is as short as it can be.
                until(partial(_has_arrived, estate, agent, tmp_path))
        _nothing_leaks(estate, agent, tmp_path)
    assert (applications.refusals, applications.troubles) == ([], [])
    assert min(a.logins for a in applications.all) >= ROTATIONS


def _has_arrived(estate: Estate, agent: AgentProcess, folder: Path) -> bool:
    current = estate.stored_login(estate.plan.credentials[0])
    assert current
    is_served = agent.value(USER)["username"] == current.username
    return is_served and f":{current.username}:" in (folder / "pgpass").read_text()


def _nothing_leaks(estate: Estate, agent: AgentProcess, folder: Path) -> None:
    password = agent.value(USER)["password"]
    process = Path(f"/proc/{agent.process.pid}")
    shown = {
        "log": agent.log.read_text(),
        "arguments": (process / "cmdline").read_text(),
        "environment": (process / "environ").read_text(),
        "hook's environment": (folder / "hook-environment").read_text(),
        "metrics": agent.address.get("/metrics", token=agent.token).body,
        "health": agent.address.get("/healthz", token=agent.token).body,
    }
    for what, text in shown.items():
        assert text, what
        for secret in (password, agent.token, *estate.confidential):
            assert secret not in text, what
    limits = (process / "limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in ("pgpass", "token")] == [0o600, 0o640]


def test_either_cloud_gives_both_secrets_and_the_same_version_ids(estate: Estate, tmp_path: Path) -> None:
    names = estate.plan.credentials[0].secret_names
    found: dict[str, list[Any]] = {}
    for nearest in ("oci", "aws"):
        folder = tmp_path / nearest
        folder.mkdir()
        with running_agent(folder, {"plan": str(estate.plan_file), "nearest": nearest}) as agent:
            assert agent.value(names.connection_blob)["databases"].keys() == {"orders", "ledger"}
            answer = agent.address.get(f"/v1/{USER}", token=agent.token)
            document = json.loads(answer.body)
            found[answer.headers["x-lockstep-source"]] = [document["VersionId"], document["SecretString"]]
    assert found.keys() == {"aws", "oci"}
    assert found["aws"] == found["oci"]


def test_once_writes_the_files_and_ends_or_says_what_it_could_not_read(
    estate: Estate, tmp_path: Path
) -> None:
    document = {"version": 1, "token_file": f"{tmp_path}/token", **_settings(estate, tmp_path)}
    once = command(settings_file(tmp_path, document), "--once")

    def done(**environment: str) -> Ran:
        return ran(once, env={**os.environ, **environment})

    dead = done(AWS_ENDPOINT_URL="http://127.0.0.1:9", LOCKSTEP_OCI_ENDPOINT="http://127.0.0.1:9")
    assert (dead.returncode, "a store was not read" in dead.stderr) == (3, True)
    assert not (tmp_path / "pgpass").exists()
    written = done()
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "pgpass").exists()
    assert not (tmp_path / "token").exists()
