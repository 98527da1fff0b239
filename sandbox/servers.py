"""The database servers of an estate, and what a DBA does on them."""

import json
import os
import secrets
from collections.abc import Iterable, Mapping

from lockstep.databases.verifiers import caching_sha2_password, mysql_native_password, scram_sha_256
from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.plan.model import Plan
from lockstep.protocol.model import ROTATION_USER, AdminSecret, Credential, Engine, Login, SecretStr, Strategy
from sandbox import plans
from sandbox.emulators.databases import (
    CertificateAuthority,
    DatabaseServer,
    MariaDbServer,
    MySqlServer,
    PgserverServer,
    PostgresServer,
    available,
)
from sandbox.plans import DBNAME, Document


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


def default_credentials(servers: Mapping[str, DatabaseServer], **more: str) -> list[Document]:
    """A credential of each strategy, on every server that can have it.

    Args:
        servers: As `default_servers` gives them.
        more: Further keys of both credentials, as in the plan file.
    """
    with_two_passwords = [n for n, server in servers.items() if engine_of(server) is not Engine.POSTGRESQL]
    ledger_user = plans.credential(
        "multi-cloud/ledger_user", *servers, username="ledger", strategy=Strategy.ALTERNATING_USERS
    )
    app_user = plans.credential("multi-cloud/app_user", *with_two_passwords, username="app_user")
    return [{**c, **more} for c in (app_user, ledger_user) if c["databases"]]


def planned(
    name: str, server: DatabaseServer, *, port: int | None = None, admin: str | None = None
) -> Document:
    """A server as a plan names it.

    Args:
        name: Its name in the plan.
        server: Has a port already, even if it does not run yet.
        port: Another port, such as a front's.
        admin: The credential that is its rotation user; None: a secret has its login.
    """
    tls = str(server.ca_file) if server.ca_file else None
    more = {"admin_secret": None, "admin_credential": admin} if admin else {}
    return plans.database(
        name, engine_of(server), host=server.host, port=port or server.port, tls=tls, **more
    )


def engine_of(server: DatabaseServer) -> Engine:
    """How the plan calls a server."""
    return Engine(server.product.lower())


def make_database(server: DatabaseServer) -> None:
    """Make the database that the plan names."""
    server.execute_as_superuser(f"CREATE DATABASE {DBNAME}")


def provision(
    plan: Plan,
    credential: Credential,
    servers: Mapping[str, DatabaseServer],
    rotation_users: Mapping[str, Login],
) -> None:
    """Run what `lockstep plan sql` prints, on every database of the credential."""
    for server in credential.servers:
        statements = list(provisioning(plan, credential, server).statements)
        if isinstance(server.admin, AdminSecret):
            login = Login(ROTATION_USER, rotation_users[server.name].password)
            statements.append(verifier_statement(server.engine, login))
        servers[server.name].execute_as_superuser(statements, database=DBNAME)


def verifier_statement(engine: Engine, login: Login) -> str:
    """The statement that gives an account a password, as a verifier, so that no log has it."""
    name, password = login.username, login.password
    match engine:
        case Engine.MYSQL:
            verifier = caching_sha2_password(password, os.urandom).reveal()
            return f"ALTER USER '{name}'@'%' IDENTIFIED WITH caching_sha2_password AS '{verifier}'"
        case Engine.MARIADB:
            verifier = mysql_native_password(password).reveal()
            return f"ALTER USER '{name}'@'%' IDENTIFIED VIA mysql_native_password USING '{verifier}'"
        case Engine.POSTGRESQL:
            verifier = scram_sha_256(password, os.urandom).reveal()
            return f"ALTER ROLE \"{name}\" PASSWORD '{verifier}'"


def set_password(server: DatabaseServer, login: Login) -> None:
    """Set an account's password by hand and let it in, as an administrator does."""
    password = login.password.reveal()
    if engine_of(server) is Engine.POSTGRESQL:
        server.execute_as_superuser(f"ALTER ROLE {login.username} LOGIN PASSWORD '{password}'")
    else:
        server.execute_as_superuser(
            f"ALTER USER '{login.username}'@'%' IDENTIFIED BY '{password}' ACCOUNT UNLOCK"
        )


def new_rotation_users(servers: Iterable[str]) -> dict[str, Login]:
    """A login for the rotation user of each server."""
    return {name: Login(ROTATION_USER, SecretStr(secrets.token_urlsafe(24))) for name in servers}


def admin_texts(rotation_users: Mapping[str, Login]) -> dict[str, str]:
    """The texts of the secrets that have them, by their names in the plan."""
    return {plans.admin_secret(name): login_text(login) for name, login in rotation_users.items()}


def login_text(login: Login) -> str:
    """A login as the text of a secret."""
    return json.dumps({"username": login.username, "password": login.password.reveal()})
