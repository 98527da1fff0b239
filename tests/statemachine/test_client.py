"""The client with real drivers on real databases: it reads a cached value again once the value is revoked."""

from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from sqlalchemy import create_engine, text

from lockstep.client import (
    CredentialClient,
    aws_source,
    connect_psycopg,
    connect_pymysql,
    sqlalchemy_creator,
)
from lockstep.protocol.model import DatabaseServer
from tests.statemachine.conftest import Case

MYSQL_WHO, POSTGRESQL_WHO = "SELECT CURRENT_USER()", "SELECT session_user"
Who = Callable[[CredentialClient], str]


def with_pymysql(case: Case) -> Who:
    options: dict[str, Any] = {"ssl_ca": ca_file(server(case, "orders")), "connect_timeout": 10}

    def who(client: CredentialClient) -> str:
        with connect_pymysql(client, **options) as connection, connection.cursor() as cursor:
            cursor.execute(MYSQL_WHO)
            [name] = cursor.fetchone() or [""]
        return str(name).removesuffix("@%")

    return who


def with_psycopg(case: Case) -> Who:
    def who(client: CredentialClient) -> str:
        with connect_psycopg(client, **postgresql(case)) as connection:
            [name] = connection.execute(POSTGRESQL_WHO).fetchone() or [""]
        return str(name)

    return who


def with_sqlalchemy_and_pymysql(case: Case) -> Who:
    options: dict[str, Any] = {"ssl_ca": ca_file(server(case, "orders")), "connect_timeout": 10}

    def who(client: CredentialClient) -> str:
        engine = create_engine(
            "mysql+pymysql://", creator=sqlalchemy_creator(client, connect_pymysql, **options)
        )
        try:
            with engine.connect() as connection:
                return str(connection.execute(text(MYSQL_WHO)).scalar_one()).removesuffix("@%")
        finally:
            engine.dispose()

    return who


def with_sqlalchemy_and_psycopg(case: Case) -> Who:
    def who(client: CredentialClient) -> str:
        creator = sqlalchemy_creator(client, connect_psycopg, **postgresql(case))
        engine = create_engine("postgresql+psycopg://", creator=creator)
        try:
            with engine.connect() as connection:
                return str(connection.execute(text(POSTGRESQL_WHO)).scalar_one())
        finally:
            engine.dispose()

    return who


def server(case: Case, name: str) -> DatabaseServer:
    return next(s for s in case.credential.servers if s.name == name)


def ca_file(of: DatabaseServer) -> str:
    assert of.tls
    return str(of.tls.ca_file)


def postgresql(case: Case) -> dict[str, Any]:
    ca = ca_file(server(case, "ledger"))
    return {"database": "ledger", "sslrootcert": ca, "connect_timeout": 10}


def client_of(case: Case) -> CredentialClient:
    names = case.credential.secret_names
    source = aws_source(names.app_user, region=case.world.aws.region, connection_blob=names.connection_blob)
    return CredentialClient([source], max_age_seconds=1e9)


def test_every_driver_logs_in_before_and_after_its_cached_value_is_revoked(spanning: Case) -> None:
    spanning.rotate()
    drivers = [
        with_pymysql(spanning),
        with_psycopg(spanning),
        with_sqlalchemy_and_pymysql(spanning),
        with_sqlalchemy_and_psycopg(spanning),
    ]
    clients = [client_of(spanning) for _ in drivers]
    first = spanning.stored_login().username
    assert [who(client) for who, client in zip(drivers, clients, strict=True)] == [first] * 4
    spanning.again()
    # During the overlap the cached value still works.
    assert [who(client) for who, client in zip(drivers, clients, strict=True)] == [first] * 4
    assert {client.get().generation for client in clients} == {1}
    spanning.again()
    # Generation 1 is revoked on every database.
    assert [who(client) for who, client in zip(drivers, clients, strict=True)] == [first] * 4
    assert {client.get().generation for client in clients} == {3}


def test_a_password_that_is_not_in_the_store_is_refused(mysql: Case) -> None:
    mysql.rotate()
    right = mysql.stored_login()
    client = client_of(mysql)
    options: dict[str, Any] = {"ssl_ca": ca_file(server(mysql, "crm")), "connect_timeout": 10}
    connect_pymysql(client, **options).close()
    crm = mysql.world.servers["crm"]
    crm.execute_as_superuser(f"ALTER USER '{right.username}'@'%' IDENTIFIED BY 'changed outside'")
    with pytest.raises(pymysql.OperationalError) as caught:
        connect_pymysql(client, **options)
    assert caught.value.args[0] == 1045
    assert right.password.reveal() not in str(caught.value)
