"""What applications beside an agent do that know nothing of Lockstep, which is not imported here.

One asks over HTTP, as it would ask the AWS Secrets Manager Agent, and logs in with PyMySQL. One is a script: it runs
psql with the `.pgpass` file that the agent keeps.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import pymysql

TIMEOUT_SECONDS = 10
TOKEN_HEADER = "X-Aws-Parameters-Secrets-Token"

_direct = build_opener(ProxyHandler({}))


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where an application logs in.

    Attributes:
        ca_file: Signs the server's certificate; None for a server without TLS.
    """

    host: str
    port: int
    dbname: str
    ca_file: str | None


class Held(NamedTuple):
    """What an application got from the agent. Do not show it."""

    username: str
    password: str
    generation: int


class PsqlError(Exception):
    """What psql has written to stderr."""


def ask(url: str, token: str, secret: str) -> Held:
    """Get a secret from the agent.

    Args:
        url: Of the agent, such as `http://127.0.0.1:2773`.
        token: The content of its token file.
        secret: The secret's name.

    Raises:
        urllib.error.URLError: The agent does not answer, or refuses.
    """
    request = Request(  # noqa: S310 - of loopback
        f"{url}/secretsmanager/get?secretId={quote(secret, safe='')}", headers={TOKEN_HEADER: token}
    )
    with _direct.open(request, timeout=TIMEOUT_SECONDS) as answer:
        value = json.loads(json.load(answer)["SecretString"])
    return Held(value["username"], value["password"], int(value.get("generation", 0)))


def log_in_to_mysql(address: Address, held: Held) -> None:
    """Open a connection to MySQL or MariaDB, ask the server something, close.

    Raises:
        pymysql.err.OperationalError: The server refuses, or cannot be reached.
    """
    with pymysql.connect(
        host=address.host,
        port=address.port,
        database=address.dbname,
        user=held.username,
        password=held.password,
        ssl={"ca": address.ca_file} if address.ca_file else None,
        connect_timeout=TIMEOUT_SECONDS,
        read_timeout=TIMEOUT_SECONDS,
    ) as connection:
        connection.ping()


def log_in_to_postgresql(address: Address, pgpass: str, folder: Path) -> None:
    """Run one query with psql.

    Args:
        address: Where.
        pgpass: The text of the file that the agent keeps. The user is in it, and a copy of it is used: user and
            password belong together, and the agent may replace the file meanwhile.
        folder: For the copy; no other thread uses it.

    Raises:
        PsqlError: It failed.
    """
    copy = folder / "pgpass"
    copy.touch(mode=0o600)
    copy.write_text(pgpass)
    where = {
        "host": address.host,
        "port": str(address.port),
        "dbname": address.dbname,
        "user": pgpass.split(":")[3],
        "passfile": str(copy),
        "sslmode": "verify-full" if address.ca_file else "disable",
        "connect_timeout": str(TIMEOUT_SECONDS),
        **({"sslrootcert": address.ca_file} if address.ca_file else {}),
    }
    conninfo = " ".join(f"{name}='{value}'" for name, value in where.items())
    done = subprocess.run(
        ["psql", "--no-psqlrc", "--no-password", "--command", "SELECT 1", conninfo],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * TIMEOUT_SECONDS,
    )
    if done.returncode:
        raise PsqlError(done.stderr.strip())
