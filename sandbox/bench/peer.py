"""AWS's sample rotation function for MariaDB beside Lockstep: in the same AWS and database, while applications log in.

Secrets Manager's calls of it are made here.

It is read from a checkout of aws-samples/aws-secrets-manager-rotation-lambdas and is not changed. What is arranged:

- It wants a CA file at `/etc/pki/tls/cert.pem`; its connections get the sandbox's authority instead.
- The rotation is begun in moto's memory, because moto's RotateSecret promotes by itself: a version without a value gets
  AWSPENDING, and the rotation of the secret is enabled.
- Its log level for the whole process is put back.
"""

import importlib.util
import json
import logging
import secrets
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pymysql
from moto.secretsmanager.models import secretsmanager_backends

from lockstep.protocol.model import DatabaseServer
from sandbox.bench.rounds import Network, NotRotatedError, Rotate, Rotation, nothing
from sandbox.emulators.databases import DatabaseServer as RunningServer
from sandbox.estate import Estate, environment
from sandbox.outside import Value, lets_in
from sandbox.plans import DBNAME

FILE = Path("SecretsManagerRDSMariaDBRotationSingleUser/lambda_function.py")
STEPS = ("createSecret", "setSecret", "testSecret", "finishSecret")
SECRET = "peer/app"
USERNAME = "peer"
FUNCTION = "peer"
FUNCTION_SECONDS = 60.0
LATENCY_MS = 20.0
"""Of each request while an application logs in, its own included."""
Servers = tuple[DatabaseServer, ...]


def _begin(estate: Estate) -> str:
    """Do what RotateSecret does before it calls the function; the version's id."""
    secret = secret_in_memory(estate, SECRET)
    secret.rotation_enabled = True
    token = str(uuid.uuid4())
    for version in secret.versions.values():
        if "AWSPENDING" in version["version_stages"]:
            version["version_stages"].remove("AWSPENDING")
    secret.versions[token] = {"version_id": token, "version_stages": ["AWSPENDING"], "createdate": 0}
    return token


@contextmanager
def running_peer(checkout: Path, estate: Estate, network: Network, server: RunningServer) -> Iterator[Rotate]:
    """Give the peer an account, a secret and its place in Lambda; what rotates it.

    The wall is the time of its four steps, without that of Secrets Manager.
    """

    def rotate(latency_ms: float, at_boundary: Callable[[], None], /) -> Rotation:
        token = _begin(estate)
        with network.recording(latency_ms, at_boundary=at_boundary) as record:
            for step in STEPS:
                event = {"SecretId": SECRET, "ClientRequestToken": token, "Step": step}
                result = estate.aws.lambda_host.invoke(FUNCTION, json.dumps(event).encode())
                if result.function_error:
                    raise NotRotatedError(f"the peer's {step}: {result.payload.decode()}")
        wall_ms = sum(end - begin for ran in record.functions.values() for begin, end in ran) * 1000
        return Rotation(record=record, wall_ms=wall_ms)

    password = secrets.token_urlsafe(24)
    server.execute_as_superuser(
        [
            f"CREATE USER '{USERNAME}'@'%' IDENTIFIED BY '{password}'",
            f"GRANT SELECT ON {DBNAME}.* TO '{USERNAME}'@'%'",
        ]
    )
    login = {"engine": "mariadb", "host": server.host, "port": server.port, "dbname": DBNAME, "ssl": True}
    estate.aws.client("secretsmanager").create_secret(
        Name=SECRET, SecretString=json.dumps({**login, "username": USERNAME, "password": password})
    )
    with environment({"SECRETS_MANAGER_ENDPOINT": estate.aws.url}):
        module = _module(checkout / FILE, server)
        host = estate.aws.lambda_host
        host.register_handler(FUNCTION, module.lambda_handler, timeout_seconds=FUNCTION_SECONDS)
        yield rotate


def _module(file: Path, server: RunningServer) -> ModuleType:
    spec = importlib.util.spec_from_file_location("peer_rotation_function", file)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(file)
    module = importlib.util.module_from_spec(spec)
    level = logging.getLogger().level
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    logging.getLogger().setLevel(level)

    def connect(**arguments: Any) -> object:  # noqa: ANN401 - the driver's
        asked = arguments.pop("ssl")
        tls = {**asked, "ca": str(server.ca_file)} if asked else None
        return pymysql.connect(**arguments, ssl=tls)

    module.pymysql = SimpleNamespace(connect=connect, OperationalError=pymysql.OperationalError)  # type: ignore[attr-defined]
    return module


def secret_in_memory(estate: Estate, name: str) -> Any:  # noqa: ANN401 - moto's
    """A secret as moto has it; reading it is no request."""
    return secretsmanager_backends[estate.aws.account_id][estate.aws.region].secrets[name]


# What is current, logged in with


@dataclass
class Logins:
    """Logins with a current value, on each server."""

    servers: tuple[DatabaseServer, ...]
    tried: int = 0
    refused: int = 0

    def add(self, text: str) -> None:
        """Log in everywhere by a secret's text."""
        document = json.loads(text)
        value = Value(document["username"], document["password"])
        self.tried += len(self.servers)
        self.refused += sum(not lets_in(server, value) for server in self.servers)


def at_boundaries(rotate: Rotate, estate: Estate, secret: str, servers: Servers) -> dict[str, int]:
    """Log in with what is current before each request and after each function of one rotation."""
    logins = Logins(servers)

    def look() -> None:
        versions = secret_in_memory(estate, secret).versions.values()
        [current] = [v for v in versions if "AWSCURRENT" in v["version_stages"]]
        logins.add(current["secret_string"])

    rotate(0, look)
    return {"boundaries": logins.tried, "refused": logins.refused}


def back_to_back(
    rotate: Rotate, estate: Estate, secret: str, servers: Servers, *, times: int
) -> dict[str, int]:
    """Rotate again and again while an application reads the secret and logs in, again and again."""
    logins, stop = Logins(servers), threading.Event()
    client: Any = estate.aws.client("secretsmanager")

    def run() -> None:
        while not stop.is_set():
            logins.add(client.get_secret_value(SecretId=secret)["SecretString"])

    with ThreadPoolExecutor(1) as pool:
        application = pool.submit(run)
        try:
            for _ in range(times):
                rotate(LATENCY_MS, nothing)
        finally:
            stop.set()
        application.result()
    return {"rotations": times, "logins": logins.tried, "refused": logins.refused}
