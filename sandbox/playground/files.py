"""The folder of a playground: what a shell sources, and what the person's commands read."""

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lockstep.protocol.model import Engine, Login
from sandbox.emulators.databases import DatabaseServer
from sandbox.emulators.databases.process import write_private_file
from sandbox.playground.control import CONTROL, FOLDER
from sandbox.servers import engine_of, login_text


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

    def application(self, database: str) -> Path:
        """The login that the application of a database uses before Lockstep, as JSON."""
        return self.folder / f"{database}-app.json"

    def write_application(self, database: str, login: Login) -> None:
        """Write its login."""
        write_private_file(self.application(database), f"{login_text(login)}\n".encode())

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
