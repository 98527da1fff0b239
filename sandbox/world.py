"""Everything that a rotation touches, on this machine: clouds, databases, plan and the deployed state machine.

    with running_world([ORDERS, LEDGER]) as world:
        execution = world.rotate("multi-cloud/app_user")

The functions are the real handlers; they find the sandbox through the environment, as they find the clouds.
"""

import importlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from functions.face import PortsOf, hosted_ports
from lockstep import wiring
from lockstep.databases.provisioning import ROTATOR, provisioning
from lockstep.model import Credential, Engine, Login, SecretStr
from lockstep.plan import PLAINTEXT_CONSENT, Plan
from lockstep.plan_file import load_plan
from sandbox.aws import AwsSandbox, Execution, create_resources, create_state_machine
from sandbox.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
    available,
    running,
)

ROOT = Path(__file__).resolve().parent.parent
DBNAME = "app"
LOCK_TABLE = "lockstep"
AUDIT_BUCKET = "lockstep-audit"
FUNCTIONS = {
    "GenerateFunction": "generate",
    "ApplyDbFunction": "apply_db",
    "UpdateSecretsFunction": "update_secrets",
    "AuditFunction": "audit",
}
FUNCTION_TIMEOUT_SECONDS = 60.0
PLACEHOLDER = json.dumps({"placeholder": True})


@dataclass(frozen=True, kw_only=True)
class CredentialSpec:
    """A credential of the world's plan.

    Attributes:
        taken_over: The secrets hold a login that works already, as before Lockstep; else a placeholder.
        more: Further keys of the credential, as in the plan file.
    """

    id: str
    username: str
    strategy: str
    databases: tuple[str, ...]
    taken_over: bool = False
    more: Mapping[str, object] = field(default_factory=dict)


@dataclass(kw_only=True)
class World:
    """A running world.

    Attributes:
        folder: Holds the plan file and the certificates.
        machine_arn: The state machine, made from `statemachine.asl.json`.
    """

    folder: Path
    plan: Plan
    plan_file: Path
    aws: AwsSandbox
    servers: Mapping[str, DatabaseServer]
    machine_arn: str
    mac_key_arn: str

    def rotate(self, credential_id: str, *, timeout_seconds: float = 60.0, **more: object) -> Execution:
        """Start an execution, as the rule does, and wait for its end."""
        return self.aws.run_execution(
            self.machine_arn, {"credential_id": credential_id, **more}, timeout_seconds=timeout_seconds
        )

    def stored_login(self, credential: Credential) -> Login | None:
        """What an application gets from AWS Secrets Manager at this moment."""
        reply = self.aws.client("secretsmanager").get_secret_value(
            SecretId=credential.secret_names.app_user, VersionStage="AWSCURRENT"
        )
        document = json.loads(reply["SecretString"])
        if "username" not in document:
            return None
        return Login(document["username"], SecretStr(document["password"]))

    def lock_item(self, credential_id: str) -> Mapping[str, Any]:
        """The lock record as DynamoDB has it."""
        reply = self.aws.client("dynamodb").get_item(
            TableName=LOCK_TABLE, Key={"credential_id": {"S": credential_id}}, ConsistentRead=True
        )
        item: Mapping[str, Any] = reply.get("Item", {})
        return item

    def expire_schedule(self, credential_id: str) -> None:
        """Make the credential due now, and its lease and overlap over, as if the interval had passed."""
        self.aws.client("dynamodb").update_item(
            TableName=LOCK_TABLE,
            Key={"credential_id": {"S": credential_id}},
            UpdateExpression="SET next_due_at = :past, not_before = :past, expires_at = :past",
            ExpressionAttributeValues={":past": {"N": "1"}},
        )


@contextmanager
def running_world(
    credentials: Sequence[CredentialSpec],
    servers: Mapping[str, DatabaseServer],
    *,
    folder: Path | None = None,
    aws: AwsSandbox | None = None,
) -> Iterator[World]:
    """Start everything, provision the databases with the plan's own SQL, and stop everything afterwards.

    Args:
        credentials: The plan's credentials.
        servers: Database servers by their name in the plan, not started yet.
        folder: For the plan; a temporary one by default.
        aws: With settings of one's own.
    """
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lockstep-")))
        aws = stack.enter_context(aws or AwsSandbox())
        stack.enter_context(running(*servers.values()))
        rotators = {name: Login(ROTATOR, SecretStr(secrets.token_urlsafe(24))) for name in servers}
        resources = create_resources(
            aws,
            lock_table=LOCK_TABLE,
            audit_bucket=AUDIT_BUCKET,
            secrets={admin_secret(name): secret_text(login) for name, login in rotators.items()},
        )
        plan_file = folder / "lockstep.yaml"
        with plan_file.open("w") as file:
            YAML(typ="safe", pure=True).dump(
                plan_document(credentials, servers, region=aws.region, mac_key=resources.mac_key_arn), file
            )
        plan = load_plan(plan_file)
        for server in servers.values():
            make_database(server)
        for credential, spec in zip(plan.credentials, credentials, strict=True):
            provision(plan, credential, servers, rotators)
            _make_secrets(aws, credential, servers, taken_over=spec.taken_over)
        stack.enter_context(environment({**aws.environment(), wiring.PLAN_VARIABLE: str(plan_file)}))
        yield World(
            folder=folder,
            plan=plan,
            plan_file=plan_file,
            aws=aws,
            servers=servers,
            machine_arn=deploy_state_machine(aws),
            mac_key_arn=resources.mac_key_arn,
        )


def deploy_state_machine(aws: AwsSandbox, ports: PortsOf = hosted_ports) -> str:
    """Register the real handlers, and make the state machine from the file that is deployed to AWS; its ARN."""
    for function in FUNCTIONS.values():
        module = importlib.import_module(f"functions.{function}.handler")
        aws.lambda_host.register_handler(
            function, module.handler.over(ports), timeout_seconds=FUNCTION_TIMEOUT_SECONDS
        )
    arns = {placeholder: aws.lambda_host.arn(function) for placeholder, function in FUNCTIONS.items()}
    return create_state_machine(
        aws.client("stepfunctions"),
        "lockstep",
        (ROOT / "statemachine.asl.json").read_text(),
        {**arns, "LockTable": LOCK_TABLE},
        role_arn=f"arn:aws:iam::{aws.account_id}:role/lockstep",
    )


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and forget what was read from them before and after."""
    before = {name: os.environ.get(name) for name in variables}
    wiring.forget()
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        wiring.forget()


def provision(
    plan: Plan,
    credential: Credential,
    servers: Mapping[str, DatabaseServer],
    rotators: Mapping[str, Login],
) -> None:
    """Run what `lockstep plan sql` prints, on every database of the credential."""
    for server in credential.servers:
        sql = provisioning(plan, credential, server).render_for(
            {ROTATOR: rotators[server.name].password}, os.urandom
        )
        servers[server.name].execute_as_superuser([s.reveal() for s in sql], database=DBNAME)


def plan_document(
    credentials: Sequence[CredentialSpec], servers: Mapping[str, DatabaseServer], *, region: str, mac_key: str
) -> dict[str, Any]:
    """The plan file's content."""
    return {
        "version": 1,
        "lock": {"table": LOCK_TABLE, "region": region},
        "stores": [{"kind": "aws-secrets-manager", "region": region}],
        "audit": {"aws": {"bucket": AUDIT_BUCKET, "region": region, "mac_key": mac_key}},
        "databases": [_database(name, server) for name, server in servers.items()],
        "credentials": [
            {
                "id": c.id,
                "strategy": c.strategy,
                "username": c.username,
                "databases": list(c.databases),
                "secrets": {"app_user": c.id, "connection_blob": f"{c.id}-connection_blob"},
                **c.more,
            }
            for c in credentials
        ],
    }


def _database(name: str, server: DatabaseServer) -> dict[str, Any]:
    how = {"tls": {"ca_file": str(server.ca_file)}} if server.ca_file else {"plaintext": PLAINTEXT_CONSENT}
    return {
        "name": name,
        "engine": engine_of(server).value,
        "host": server.host,
        "port": server.port,
        "dbname": DBNAME,
        "admin_secret": admin_secret(name),
        **how,
    }


def engine_of(server: DatabaseServer) -> Engine:
    """How the plan calls a server."""
    return Engine(server.product.lower())


def make_database(server: DatabaseServer) -> None:
    """Make the database that the plan names."""
    server.execute_as_superuser(f"CREATE DATABASE {DBNAME}")


def admin_secret(name: str) -> str:
    """The secret that holds a server's rotator login."""
    return f"lockstep/admin/{name}"


def secret_text(login: Login) -> str:
    """A login as a secret's content."""
    return json.dumps({"username": login.username, "password": login.password.reveal()})


def _make_secrets(
    aws: AwsSandbox, credential: Credential, servers: Mapping[str, DatabaseServer], *, taken_over: bool
) -> None:
    names = credential.secret_names
    text = PLACEHOLDER
    if taken_over:
        # Somebody's own password: it meets any server's usual policy.
        login = Login(credential.usernames[0], SecretStr(secrets.token_urlsafe(24) + "-aA1"))
        for server in credential.servers:
            set_password(servers[server.name], login)
        text = secret_text(login)
    client = aws.client("secretsmanager")
    client.create_secret(Name=names.app_user, SecretString=text)
    client.create_secret(Name=names.connection_blob, SecretString=PLACEHOLDER)


def set_password(server: DatabaseServer, login: Login) -> None:
    """Set an account's password by hand, as an administrator would."""
    password = login.password.reveal()
    if engine_of(server) is Engine.POSTGRESQL:
        server.execute_as_superuser(f"ALTER ROLE {login.username} PASSWORD '{password}'")
    else:
        server.execute_as_superuser(f"ALTER USER '{login.username}'@'%' IDENTIFIED BY '{password}'")


def default_servers(authority: CertificateAuthority) -> dict[str, DatabaseServer]:
    """The servers that this machine can start: MariaDB as `orders`, PostgreSQL as `ledger`, MySQL as `crm`."""
    there = available()
    servers: dict[str, DatabaseServer] = {}
    if there[MariaDbServer]:
        servers["orders"] = MariaDbServer(authority=authority)
    if there[PostgresServer]:
        servers["ledger"] = PostgresServer(authority=authority)
    elif there[PgserverServer]:
        servers["ledger"] = PgserverServer()
    if there[MySqlServer]:
        servers["crm"] = MySqlServer(authority=authority)
    return servers
