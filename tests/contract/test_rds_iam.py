"""RDS IAM authentication of the rotation user, on real servers behind a front that verifies as RDS does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any
from unittest.mock import patch

import boto3
import pymysql
import pytest
from msgspec import structs

from lockstep.aws.clients import AwsKeys, aws_credentials
from lockstep.aws.rds import token_login
from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.protocol.deadlines import Timeouts
from lockstep.protocol.errors import (
    AdminCredentialRejectedError,
    TlsVerificationError,
)
from lockstep.protocol.model import ROTATION_USER, AdminIam, DatabaseServer, Engine, Login, SecretStr, Tls
from lockstep.protocol.ports import Database
from lockstep.runtime.clouds import Clouds, Endpoints
from lockstep.runtime.identity import Identity
from lockstep.runtime.system import SystemClock
from sandbox.emulators.databases.rds_iam import AccessKey, RdsFront, RdsIam, rds_front
from tests.contract.database_harness import ADMIN, NEEDLE, SqlHarness, fails, value_of
from tests.support.memory import make_plan
from tests.support.mysql_relay import CLIENT_SSL, Greeting, relay
from tests.support.statement_faults import StatementFaults

pytest_plugins = ["tests.contract.database_fixtures"]
each_engine = pytest.mark.parametrize("world", ["mariadb-dual", "mysql-dual", "postgresql"], indirect=True)

REGION = "eu-central-1"
KEYS = AwsKeys(
    access_key_id="AKIDRUNNER",
    secret_access_key=SecretStr(f"secret {NEEDLE}"),
    session_token=SecretStr("token+/=&" * 100),
)
"""Temporary credentials, whose token has what a query must escape."""
STRANGER = AwsKeys(access_key_id="AKIDSTRANGER", secret_access_key=SecretStr("another"))
ADMIN_IAM = AdminIam(username=ROTATION_USER, region=REGION)


@contextmanager
def rds(world: Any, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Iterator[RdsFront]:  # noqa: ANN401 - the harness of an engine
    """The world's server as RDS: the rotation user logs in with a token alone."""
    assert KEYS.session_token
    runner = AccessKey(
        secret=KEYS.secret_access_key.reveal(),
        session_token=KEYS.session_token.reveal(),
        may_connect=frozenset({ROTATION_USER}),
    )
    stranger = AccessKey(secret=STRANGER.secret_access_key.reveal(), may_connect=frozenset({"somebody"}))
    iam = RdsIam(
        passwords={ROTATION_USER: ADMIN.password.reveal()},
        keys={KEYS.access_key_id: runner, STRANGER.access_key_id: stranger},
        region=REGION,
        host="localhost",
        now=now,
    )
    with rds_front(StatementFaults(), "main", world.sandbox, iam) as front:
        yield front


def behind(world: SqlHarness, front: RdsFront) -> DatabaseServer:
    return structs.replace(world.server, port=front.port, admin=ADMIN_IAM)


def opened(world: SqlHarness, front: RdsFront, *, keys: AwsKeys = KEYS) -> Database:
    server = behind(world, front)
    return world.open(server=server, admin=partial(token_login, server, ADMIN_IAM, keys))


@each_engine
def test_a_token_lets_the_rotation_user_rotate(world: SqlHarness) -> None:
    with rds(world) as front:
        database = opened(world, front)
        first, second = value_of(world, 1), value_of(world, 2)
        with database.exclusive() as stager:
            stager.stage(current=None, pending=first)
        with database.exclusive() as stager:
            stager.stage(current=first, pending=second)
        assert database.accepts(first.login)
        assert database.accepts(second.login)
        assert not database.accepts(Login(second.login.username, SecretStr("wrong")))


@each_engine
def test_a_token_of_who_may_not_connect_is_refused(world: SqlHarness) -> None:
    with rds(world) as front:
        database = opened(world, front, keys=STRANGER)
        with fails(AdminCredentialRejectedError), database.exclusive():
            pass


@each_engine
def test_each_connection_has_a_new_token_of_the_runner_s_identity(world: SqlHarness) -> None:
    """As both runners have it: from the keys of their AWS identity, without a secret and without a call."""
    identity = Identity(home="oci", aws=lambda _reach: KEYS, oci=_no_identity)
    clouds = Clouds(make_plan(), identity, endpoints=Endpoints(), timeouts=Timeouts(), clock=SystemClock())
    with rds(world) as front:
        server = behind(world, front)
        for generation in (1, 2):
            database = world.open(server=server, admin=clouds.admin(server))
            with database.exclusive() as stager:
                stager.stage(current=None, pending=value_of(world, generation))


def _no_identity(*_: object) -> Any:  # noqa: ANN401 - never returns
    raise AssertionError("OCI was asked")


@pytest.mark.parametrize("keys", [KEYS, STRANGER])
@pytest.mark.parametrize(
    "host", ["orders.abc123.eu-west-1.rds.amazonaws.com", "Orders.ABC123.eu-west-1.rds.amazonaws.com"]
)
@pytest.mark.parametrize("port", [3306, 443, 5432])
def test_a_token_is_the_one_that_the_sdk_makes(keys: AwsKeys, host: str, port: int) -> None:
    admin = AdminIam(username="lockstep_rotator", region="eu-west-1")
    server = _server(host, port, admin)
    credentials = aws_credentials(keys)
    client = boto3.client(
        "rds",
        region_name="us-east-1",
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
    )
    at = datetime(2026, 11, 25, 13, 0, 1, tzinfo=UTC)
    with patch("botocore.auth.get_current_datetime", return_value=at):
        ours = token_login(server, admin, keys)
        theirs = client.generate_db_auth_token(host, port, admin.username, Region=admin.region)
    assert ours == Login(admin.username, SecretStr(theirs))


def _server(host: str, port: int, admin: AdminIam, *, tls: Tls | None = Tls()) -> DatabaseServer:  # noqa: B008  immutable
    return DatabaseServer(
        name="orders", engine=Engine.MYSQL, host=host, port=port, dbname="app", tls=tls, admin=admin
    )


def test_a_token_is_never_made_for_a_connection_without_tls() -> None:
    clouds = Clouds(
        make_plan(),
        Identity(home="aws", aws=lambda _reach: KEYS, oci=_no_identity),
        endpoints=Endpoints(),
        timeouts=Timeouts(),
        clock=SystemClock(),
    )
    with pytest.raises(TlsVerificationError):
        clouds.admin(_server("orders.example.com", 3306, ADMIN_IAM, tls=None))()


@pytest.mark.parametrize("world", ["mariadb-dual", "mysql-dual"], indirect=True)
def test_no_token_is_sent_to_a_server_that_offers_no_tls(world: SqlHarness) -> None:
    """Else whoever is in between could ask for it in clear text, and use it."""
    said: list[bytes] = []

    def without_tls(greeting: Greeting) -> Greeting:
        return replace(greeting, capabilities=greeting.capabilities & ~CLIENT_SSL)

    with relay(world.sandbox.port, without_tls, said) as port:
        server = structs.replace(world.server, port=port, admin=ADMIN_IAM)
        database = world.open(server=server, admin=partial(token_login, server, ADMIN_IAM, KEYS))
        with fails(TlsVerificationError), database.exclusive():
            pass
    assert b"X-Amz-" not in b"".join(said)


# ---- what `lockstep plan sql` prints for it; no server that can be had has RDS's plugin


@pytest.mark.parametrize("world", ["mariadb-dual", "mysql-dual"], indirect=True)
def test_the_script_stops_at_an_account_that_takes_no_token(world: SqlHarness) -> None:
    user = f"iam_{world.credential.usernames[0]}"
    admin = AdminIam(username=user, region=REGION)
    script = provisioning(
        make_plan(), world.credential, structs.replace(world.server, admin=admin)
    ).statements
    checks = script[: next(i for i, s in enumerate(script) if s.startswith("CREATE USER"))]
    world.execute(*checks)
    world.execute(f"CREATE USER '{user}'@'%' IDENTIFIED BY 'a-password'")
    with pytest.raises(pymysql.err.Error, match=f"{user}.*has the plugin"):
        world.execute(*checks)


@pytest.mark.parametrize("world", ["postgresql"], indirect=True)
def test_the_script_makes_a_role_that_takes_tokens(world: SqlHarness) -> None:
    user = f"iam_{world.credential.usernames[0]}"
    admin = AdminIam(username=user, region=REGION)
    if not world.execute("SELECT FROM pg_roles WHERE rolname = 'rds_iam'"):
        world.execute("CREATE ROLE rds_iam")
    server = structs.replace(world.server, admin=admin)
    made = provisioning(make_plan(), world.credential, server)
    for _ in range(2):
        world.execute(*made.statements)
    assert world.execute(f"SELECT pg_has_role('{user}', 'rds_iam', 'MEMBER')") == [(True,)]
    world.execute(f"ALTER ROLE {user} PASSWORD 'a-password'")
    login = Login(user, SecretStr("a-password"))
    with world.open(admin=lambda: login).exclusive() as stager:
        stager.stage(current=None, pending=value_of(world, 1))
