"""RDS IAM authentication of the rotation user, on real servers behind a front that verifies as RDS does."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from unittest.mock import patch

import boto3
import pymysql
import pytest
from msgspec import structs

from lockstep.aws.clients import AwsKeys
from lockstep.aws.rds import token_login
from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.plan.published import WholePlan
from lockstep.protocol.errors import AdminCredentialRejectedError, TlsVerificationError
from lockstep.protocol.model import ROTATION_USER, AdminIam, DatabaseServer, Engine, Login, SecretStr, Tls
from lockstep.protocol.ports import Database
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import Identity
from sandbox.emulators.databases.rds_iam import AccessKey, RdsFront, RdsIam, rds_front
from sandbox.identities import endless
from tests.contract.database_harness import ADMIN, NEEDLE, SqlHarness, each_engine, enter, fails, worlds
from tests.support.memory import make_plan
from tests.support.mysql_relay import hide_tls, relay
from tests.support.statement_faults import StatementFaults

pytest_plugins = ["tests.contract.database_fixtures"]

REGION = "eu-central-1"
TOKEN = "token+/=&" * 100
KEYS = AwsKeys(
    access_key_id="AKIDRUNNER",
    secret_access_key=SecretStr(f"secret {NEEDLE}"),
    session_token=SecretStr(TOKEN),
)
"""Temporary credentials, whose token has what a query must escape."""
STRANGER = AwsKeys(access_key_id="AKIDSTRANGER", secret_access_key=SecretStr("another"))
ADMIN_IAM = AdminIam(username=ROTATION_USER, region=REGION)


@contextmanager
def rds(world: SqlHarness) -> Iterator[RdsFront]:
    """The world's server as RDS: the rotation user logs in with a token alone."""
    runner = AccessKey(
        secret=KEYS.secret_access_key.reveal(), session_token=TOKEN, may_connect=frozenset({ROTATION_USER})
    )
    stranger = AccessKey(secret=STRANGER.secret_access_key.reveal(), may_connect=frozenset({"somebody"}))
    iam = RdsIam(
        passwords={ROTATION_USER: ADMIN.password.reveal()},
        keys={KEYS.access_key_id: runner, STRANGER.access_key_id: stranger},
        region=REGION,
        host="localhost",
        now=lambda: datetime.now(UTC),
    )
    with rds_front(StatementFaults(), "main", world.sandbox, iam) as front:
        yield front


def behind(world: SqlHarness, port: int) -> DatabaseServer:
    return structs.replace(world.server, port=port, admin=ADMIN_IAM)


def opened(world: SqlHarness, port: int, keys: AwsKeys = KEYS) -> Database:
    server = behind(world, port)
    return world.open(port=port, admin=partial(token_login, server, ADMIN_IAM, endless(keys)))


def clouds(home: str = "oci") -> Clouds:
    """Of a runner that has keys of an AWS identity, and neither a secret nor a call for it."""

    def asked(*_: object) -> Any:  # noqa: ANN401 - never returns
        raise AssertionError("OCI was asked")

    identity: Any = Identity(home=home, aws=lambda _reach: endless(KEYS), oci=asked)  # type: ignore[arg-type]
    return Clouds(WholePlan(make_plan().compiled), identity)


@each_engine
def test_the_rotation_user_rotates_with_tokens_of_who_may_connect(world: SqlHarness) -> None:
    """Each connection has a new one, also that of the runner's identity."""
    with rds(world) as front:
        world.stage(None, 1, opened(world, front.port))
        by_runner = world.open(port=front.port, admin=partial(clouds().admin, behind(world, front.port)))
        world.stage(1, 2, by_runner)
        world.stage(1, 2, by_runner)
        through = opened(world, front.port)
        logins = (world.login(1), world.login(2), world.wrong(2))
        assert [through.accepts(login) for login in logins] == [True, True, False]
        with fails(AdminCredentialRejectedError):
            enter(opened(world, front.port, STRANGER))


@pytest.mark.parametrize("keys", [KEYS, STRANGER])
@pytest.mark.parametrize(
    ("host", "port"),
    [("orders.abc123.eu-west-1.rds.amazonaws.com", 3306), ("Orders.ABC123.eu-west-1.rds.amazonaws.com", 443)],
)
def test_a_token_is_the_one_that_the_sdk_makes(keys: AwsKeys, host: str, port: int) -> None:
    admin = AdminIam(username="lockstep_rotator", region="eu-west-1")
    client = boto3.client(
        "rds",
        region_name="us-east-1",
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key.reveal(),
        aws_session_token=keys.session_token.reveal() if keys.session_token else None,
    )
    at = datetime(2026, 11, 25, 13, 0, 1, tzinfo=UTC)
    with patch("botocore.auth.get_current_datetime", return_value=at):
        ours = token_login(_server(host, port, admin, tls=Tls()), admin, endless(keys))
        theirs = client.generate_db_auth_token(host, port, admin.username, Region=admin.region)
    assert ours == Login(admin.username, SecretStr(theirs))


def _server(host: str, port: int, admin: AdminIam, *, tls: Tls | None) -> DatabaseServer:
    return DatabaseServer(
        name="orders", engine=Engine.MYSQL, host=host, port=port, dbname="app", tls=tls, admin=admin
    )


def test_a_token_is_never_made_for_a_connection_without_tls() -> None:
    with pytest.raises(TlsVerificationError):
        clouds("aws").admin(_server("orders.example.com", 3306, ADMIN_IAM, tls=None))


@worlds("mariadb-dual", "mysql-dual")
def test_no_token_is_sent_to_a_server_that_offers_no_tls(world: SqlHarness) -> None:
    """Else whoever is in between could ask for it in clear text, and use it."""
    said: list[bytes] = []
    with relay(world.sandbox.port, hide_tls, said) as port, fails(TlsVerificationError):
        enter(opened(world, port))
    assert b"X-Amz-" not in b"".join(said)


# ---- what `lockstep plan sql` prints for it; no server that can be had has RDS's plugin


@each_engine
def test_the_script_makes_an_account_for_tokens_or_stops_at_another(
    world: SqlHarness,
) -> None:
    user = f"iam_{world.credential.usernames[0]}"
    admin = AdminIam(username=user, region=REGION)
    server = structs.replace(world.server, admin=admin)
    script = provisioning(make_plan(), world.credential, server).statements
    if not world.is_postgresql:
        checks = script[: next(i for i, s in enumerate(script) if s.startswith("CREATE USER"))]
        world.execute(*checks)
        world.execute(f"CREATE USER '{user}'@'%' IDENTIFIED BY 'a-password'")
        with pytest.raises(pymysql.err.Error, match=f"{user}.*has the plugin"):
            world.execute(*checks)
        return
    if not world.execute("SELECT FROM pg_roles WHERE rolname = 'rds_iam'"):
        world.execute("CREATE ROLE rds_iam")
    for _ in range(2):
        world.execute(*script)
    assert world.execute(f"SELECT pg_has_role('{user}', 'rds_iam', 'MEMBER')") == [(True,)]
    world.execute(f"ALTER ROLE {user} PASSWORD 'a-password'")
    login = Login(user, SecretStr("a-password"))
    world.stage(None, 1, world.open(admin=lambda: login))
