"""What a playground runs: AWS, OCI, and databases, each with an application's login from before Lockstep; its files."""

import json
import os
import re
import secrets
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lockstep.protocol.model import AdminSecret, Engine, Login, SecretStr, Tls
from lockstep.protocol.model import DatabaseServer as PlannedServer
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.databases import CertificateAuthority, DatabaseServer, running
from sandbox.emulators.databases.process import write_private_file
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.estate import environment
from sandbox.fn import FunctionProcess
from sandbox.identities import Identities, Way, make_identities
from sandbox.playground.control import CONTROL, FOLDER
from sandbox.servers import default_servers, engine_of, login_text

APPLICATIONS = {"orders": "shop", "ledger": "books", "crm": "support"}
"""The username of each database's application."""
PLAN = "lockstep.yaml"


@dataclass(frozen=True)
class Files:
    """What is in the folder.

    Attributes:
        folder: It.
    """

    folder: Path

    @property
    def environment(self) -> Path:
        """What a shell sources; it is there when everything runs."""
        return self.folder / "env"

    def control(self) -> str:
        """The address of the playground whose folder this is; empty where there is none."""
        text = self.environment.read_text() if self.environment.exists() else ""
        found = re.search(rf"^export {CONTROL}=(\S+)$", text, re.MULTILINE)
        return found[1] if found else ""

    def write_application(self, database: str, login: Login) -> None:
        """Write its login."""
        write_private_file(self.folder / f"{database}-app.json", f"{login_text(login)}\n".encode())

    def write_client(self, database: str, server: DatabaseServer) -> None:
        """Write what a database's own client needs to log in as its administrator, in a file with that password."""
        text = json.dumps(_client(database, server))
        write_private_file(self.folder / f"{database}-dba.json", text.encode())

    def write_commands(self) -> None:
        """Write the command `sandbox`."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        command = folder / "sandbox"
        run = f"exec {shlex.quote(sys.executable)} -m sandbox.playground"
        command.write_text(
            f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(FOLDER.parents[1]))}${{PYTHONPATH:+:$PYTHONPATH}} {run} "$@"\n'
        )
        command.chmod(0o755)

    def write_environment(self, variables: Mapping[str, str]) -> None:
        """Write the file that a shell sources, in one go, since it says that everything runs."""
        path = os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent)])
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        draft = self.folder / "env.draft"
        text = "\n".join([*lines, f'export PATH={shlex.quote(path)}:"$PATH"', ""])
        write_private_file(draft, text.encode())
        draft.rename(self.environment)


def _client(database: str, server: DatabaseServer) -> dict[str, object]:
    """The command of a database's client, and what its environment must have."""
    if engine_of(server) is Engine.POSTGRESQL:
        words = ["psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet"]
        tls = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(server.ca_file)} if server.ca_file else {}
        return {
            "command": words,
            "environment": {
                "PGHOST": server.host,
                "PGPORT": str(server.port),
                "PGUSER": server.superuser,
                "PGPASSWORD": server.superuser_password,
                "PGDATABASE": database,
                **tls,
            },
        }
    return {
        "command": [
            "mariadb",
            "--no-defaults",
            f"--host={server.host}",
            f"--port={server.port}",
            "--protocol=tcp",
            f"--user={server.superuser}",
            f"--ssl-ca={server.ca_file}",
            "--ssl-verify-server-cert",
            "--table",
            database,
        ],
        "environment": {"MYSQL_PWD": server.superuser_password},
    }


@dataclass(kw_only=True)
class World:
    """What runs.

    Attributes:
        files: The folder.
        servers: By their name, which is also that of their database.
        sessions: Who the runners are under a plan with sessions.
        keys: Who they are under one with keys.
        function: The OCI function, once a plan was deployed there.
    """

    files: Files
    aws: AwsSandbox
    oci: OciSandbox
    servers: Mapping[str, DatabaseServer]
    sessions: Identities
    keys: Identities
    function: FunctionProcess | None = None
    deployed: ExitStack = field(default_factory=ExitStack)

    def variables(self, control: Path) -> dict[str, str]:
        """What the person's shell has: an administrator of both clouds, and the names of what is there."""
        administrator = write_config_file(self.files.folder, "oci-administrator", self.oci.config())
        return {
            **self.aws.environment(),
            OCI_ENDPOINT_VARIABLE: self.oci.endpoint,
            CONFIG_FILE_VARIABLE: str(administrator),
            PLAN_VARIABLE: str(self.files.folder / PLAN),
            CONTROL: str(control),
            "SANDBOX": str(self.files.folder),
            "SANDBOX_COMPARTMENT": self.oci.compartment_id,
            "SANDBOX_OWN_COMPARTMENT": self.oci.own_compartment_id,
            "SANDBOX_VAULT": self.oci.vault_id,
            **self._of_sessions(),
            **{f"{name.upper()}_URL": self.url(name) for name in self.servers},
        }

    def _of_sessions(self) -> dict[str, str]:
        """What a plan with sessions names, which Terraform and an administrator of the domain make."""
        to_oci, to_aws = (self.sessions.section[cloud]["federation"] for cloud in ("aws", "oci"))
        return {
            "SANDBOX_DOMAIN": to_oci["domain_url"],
            "SANDBOX_CLIENT": to_oci["client_id"],
            "SANDBOX_KEY": to_aws["key"]["id"],
            "SANDBOX_KEY_VERSION": to_aws["key"]["version"],
            "SANDBOX_KEY_ENDPOINT": to_aws["key"]["endpoint"],
        }

    def as_planned(self, name: str) -> PlannedServer:
        """A database as a plan names it, for a login."""
        server = self.servers[name]
        return PlannedServer(
            name=name,
            engine=engine_of(server),
            host=server.host,
            port=server.port,
            dbname=name,
            tls=Tls(ca_file=server.ca_file) if server.ca_file else None,
            admin=AdminSecret(aws=name, oci=name),
        )

    def url(self, name: str) -> str:
        """A database as `lockstep init` takes it."""
        server = self.servers[name]
        return f"{engine_of(server)}://{server.host}:{server.port}/{name}"


@contextmanager
def running_world(files: Files, control: Path) -> Iterator[World]:
    """Start everything; it is gone afterwards."""
    servers = default_servers(CertificateAuthority(files.folder))
    with ExitStack() as stack:
        aws = stack.enter_context(AwsSandbox())
        oci = stack.enter_context(OciSandbox(names=aws.names))
        stack.enter_context(running(*servers.values()))
        world = World(
            files=files,
            aws=aws,
            oci=oci,
            servers=servers,
            sessions=make_identities(aws, oci, Way.SESSIONS),
            keys=make_identities(aws, oci, Way.KEY),
        )
        for name, server in servers.items():
            files.write_application(name, make_application(name, server))
            files.write_client(name, server)
        files.write_commands()
        stack.callback(world.deployed.close)
        variables = world.variables(control)
        stack.enter_context(environment({k: v for k, v in variables.items() if k != PLAN_VARIABLE}))
        files.write_environment(variables)
        yield world


def make_application(name: str, server: DatabaseServer) -> Login:
    """A database with an application that works, as before Lockstep; its login."""
    username = APPLICATIONS[name]
    login = Login(username, SecretStr(f"{secrets.token_urlsafe(12)}-aA1"))
    password = login.password.reveal()
    server.execute_as_superuser(f"CREATE DATABASE {name}")
    if engine_of(server) is Engine.POSTGRESQL:
        makes = [
            f"CREATE ROLE {username} LOGIN PASSWORD '{password}'",
            f"CREATE SCHEMA AUTHORIZATION {username}",
            f"CREATE TABLE {username}.items (id int PRIMARY KEY)",
            f"ALTER TABLE {username}.items OWNER TO {username}",
        ]
    else:
        makes = [
            f"CREATE USER '{username}'@'%' IDENTIFIED BY '{password}'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO '{username}'@'%'",
            "CREATE TABLE items (id int PRIMARY KEY)",
        ]
    server.execute_as_superuser(makes, database=name)
    return login
