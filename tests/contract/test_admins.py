"""The rotation user's login: where a runner finds it, as a credential of the plan (protocol D22), and as a token.

Tokens of RDS IAM authentication are shown to real servers behind a front that verifies as RDS does.
"""

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pg8000.native  # type: ignore[import-untyped]  # it ships no types
import pymysql
import pytest
from msgspec import structs

from lockstep.aws.clients import AwsKeys, aws_client
from lockstep.aws.rds import token_login
from lockstep.databases.findings import Outcome
from lockstep.operate.doctor import servers
from lockstep.operate.plan_sql.scripts import provisioning
from lockstep.plan.file import parse_plan
from lockstep.plan.model import Plan
from lockstep.plan.published import WholePlan
from lockstep.protocol import errors, model
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.deadlines import DeadlineGuard, always
from lockstep.protocol.ports import Database
from lockstep.runtime.clouds import Clouds, open_database
from lockstep.runtime.identity import (
    AWS_RUNNER,
    CONFIG_FILE_VARIABLE,
    OCI_ENDPOINT_VARIABLE,
    OCI_RUNNER,
    Identity,
)
from sandbox import plans
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.databases.rds_iam import AccessKey, RdsFront, RdsIam
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.identities import FUNCTION_MAY, endless
from sandbox.oci_resources import create_secret, names_in
from sandbox.servers import login_text, verifier_statement
from tests.contract import database_harness as db
from tests.contract.clouds import SESSIONS
from tests.support.memory import make_plan
from tests.support.servers import connect
from tests.support.statement_faults import StatementFaults

pytest_plugins = ["tests.contract.database_harness"]

# Where each runner finds it


def own(name: str) -> model.Login:
    return model.Login(name, model.SecretStr(f"{name}'s password"))


def reader(oci: OciSandbox | None = None, **database: object) -> Any:  # noqa: ANN401 - a function
    """What reads the login, as the runner of AWS, or of OCI where that is given."""
    document = plans.plan_document(
        [{**plans.database("orders", model.Engine.MYSQL), **database}],
        [plans.credential("multi-cloud/app_user", "orders")],
        oci=names_in(oci) if oci else None,
    )
    plan = parse_plan(json.dumps(document), base=Path())
    clouds = Clouds(WholePlan(plan.compiled), OCI_RUNNER if oci else AWS_RUNNER)
    return partial(clouds.admin, plan.databases[0])


def test_in_aws_an_arn_is_read_in_its_own_region_and_what_rds_rotates_anew_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with AwsSandbox() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        there = aws_client("secretsmanager", "eu-west-1", keys=SESSIONS, endpoint=aws.url)
        arn = there.create_secret(Name="dba/rotator", SecretString=login_text(own("dba")))["ARN"]
        assert reader(admin_secret=arn)() == own("dba")
        name = "rds!cluster-11a9f0c2-8d7b-4a55-9d3e-5f0f6b1c2d3e"
        here = aws_client("secretsmanager", plans.AWS_REGION, keys=SESSIONS, endpoint=aws.url)
        here.create_secret(Name=name, SecretString=login_text(own("master")))
        read = reader(admin_secret=name)
        assert read() == own("master")
        here.put_secret_value(SecretId=name, SecretString=login_text(own("rotated")))
        assert read() == own("rotated")


def test_in_oci_it_is_read_in_its_own_compartment_only_by_the_name_in_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OciSandbox() as oci:
        there = oci.own_compartment_id
        key = oci.new_api_key("function", *FUNCTION_MAY, compartment=there)
        monkeypatch.setenv(OCI_ENDPOINT_VARIABLE, oci.endpoint)
        monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(write_config_file(tmp_path, "function", key)))
        create_secret(oci, plans.admin_secret("orders"), login_text(own("own")).encode(), compartment=there)
        create_secret(oci, "dba/rotator", login_text(own("dba")).encode(), compartment=there)
        create_secret(oci, "among/rings", login_text(own("rings")).encode())
        assert reader(oci)() == own("own")
        named = reader(oci, admin_secret="rds!db-1", oci_admin_secret="dba/rotator")
        assert named() == own("dba")
        with pytest.raises(errors.SecretNotFoundError):
            reader(oci, admin_secret="among/rings")()


# A credential of the plan


@dataclass
class Rotated(db.Harness):
    """A credential, and what a store serves of it."""

    plan: Plan
    credential: model.Credential
    current: model.CredentialValue

    def next(self) -> model.CredentialValue:
        generation, usernames = self.current.generation + 1, self.credential.usernames
        login = model.Login(usernames[generation % len(usernames)], model.SecretStr(os.urandom(16).hex()))
        return model.CredentialValue(generation, login)

    def opened(self, admin: "Rotated", deadline_guard: DeadlineGuard = always) -> Database:
        """As a runner opens it that reads the admin's login from a store."""
        return open_database(
            self.plan.databases[0],
            self.credential,
            lambda: admin.current.login,
            timeouts=Timeouts(lock_seconds=1),
            deadline_guard=deadline_guard,
        )

    def rotate(self, admin: "Rotated") -> None:
        """A rotation of one database: stage, prove, promote."""
        pending, before = self.next(), self.current
        self.stage(before, pending, self.opened(admin))
        self.require(pending, before)
        self.current = pending

    def require(self, *values: model.CredentialValue) -> None:
        database = self.opened(self)
        assert all(database.accepts(value.login) for value in values)


def estate(world: db.SqlHarness) -> list[Rotated]:
    """The rotation user's credential, and an application's, on a server where a DBA has run both scripts."""
    name, strategy = world.credential.usernames[0], world.kind.strategy
    database = plans.database(
        "main",
        world.engine,
        host="localhost",
        port=world.sandbox.port,
        tls=None if world.kind.plaintext else str(world.sandbox.ca_file),
        dbname=db.DATABASE,
        admin_secret=None,
        admin_credential=f"{name}/rotator",
    )
    credentials = [
        plans.credential(f"{name}/{who}", "main", username=f"{name}_{who}", strategy=strategy)
        for who in ("rotator", "app")
    ]
    plan = parse_plan(json.dumps(plans.plan_document([database], credentials)), base=Path())
    found = []
    for credential in plan.credentials:
        made = provisioning(plan, credential, plan.databases[0])
        login = model.Login(credential.usernames[0], model.SecretStr(os.urandom(16).hex()))
        world.execute(*made.statements, *made.statements, verifier_statement(world.engine, login))
        found.append(Rotated(plan, credential, model.CredentialValue(0, login)))
    return found


@db.every_server
def test_a_crash_before_any_statement_never_locks_the_admin_out(world: db.SqlHarness) -> None:
    """Every send of a staging is the last one of a run; what the stores serve works, and the next run finishes.

    A run that has read the admin's login before the promotion still uses it, until that is ended.
    """
    admin, app = estate(world)
    has_crashed, crashes = True, -1
    while has_crashed:
        crashes += 1
        before, pending, sends = admin.current, admin.next(), iter(range(crashes))

        def send(left: Iterator[int] = sends) -> None:
            if next(left, None) is None:
                raise errors.DeadlineExceededError

        try:
            admin.stage(before, pending, admin.opened(admin, send))
            has_crashed = False
        except errors.DeadlineExceededError:
            admin.require(before)
            app.rotate(admin)
            admin.stage(before, pending, admin.opened(admin))
        admin.require(before, pending)
        late = replace(admin)
        admin.current = pending
        app.rotate(late)
        app.rotate(admin)
    assert crashes >= 3
    database = admin.opened(admin)
    with database.exclusive() as stager:
        stager.retire(drop=before, keep=pending)
        assert [database.accepts(value.login) for value in (before, pending)] == [False, True]
    with db.fails(errors.AdminCredentialRejectedError):
        db.enter(app.opened(late))
    app.rotate(admin)


@db.worlds(*db.POSTGRESQL)
def test_the_function_changes_the_admin_s_own_roles_alone(world: db.SqlHarness) -> None:
    admin, app = estate(world)
    first, second = admin.credential.usernames
    verifier = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"

    def refused(login: model.Login, role: str, text: str) -> bool:
        with closing(connect(world.sandbox, login, db.DATABASE, "admin")) as connection:
            try:
                connection.run(f"SELECT \"{admin.credential.owner}\".change_own('{role}', '{text}')")
            except pg8000.native.DatabaseError as e:
                code = e.args[0]["C"]
            else:
                return False
        assert code == "42501"
        return True

    for role in ("postgres", app.credential.usernames[0], admin.credential.owner):
        assert refused(admin.current.login, role or "", verifier)
    assert refused(admin.current.login, second, "a password in clear text")
    assert refused(app.current.login, first, verifier)
    assert not refused(admin.current.login, second, verifier)


# A token

REGION = "eu-central-1"
TOKEN = "token+/=&" * 100
KEYS = AwsKeys(
    access_key_id="AKIDRUNNER",
    secret_access_key=model.SecretStr(f"secret {db.NEEDLE}"),
    session_token=model.SecretStr(TOKEN),
)
"""Temporary credentials, whose token has what a query must escape."""
STRANGER = AwsKeys(access_key_id="AKIDSTRANGER", secret_access_key=model.SecretStr("another"))
ADMIN_IAM = model.AdminIam(username=model.ROTATION_USER, region=REGION)


@contextmanager
def rds(world: db.SqlHarness) -> Iterator[RdsFront]:
    """The world's server as RDS: the rotation user logs in with a token alone."""
    runner = AccessKey(
        secret=KEYS.secret_access_key.reveal(),
        session_token=TOKEN,
        may_connect=frozenset({model.ROTATION_USER}),
    )
    stranger = AccessKey(secret=STRANGER.secret_access_key.reveal(), may_connect=frozenset({"somebody"}))
    iam = RdsIam(
        passwords={model.ROTATION_USER: db.ADMIN.password.reveal()},
        keys={KEYS.access_key_id: runner, STRANGER.access_key_id: stranger},
        region=REGION,
        host="localhost",
        now=lambda: datetime.now(UTC),
    )
    with RdsFront(StatementFaults(), "main", world.sandbox, iam) as front:
        yield front


def behind(world: db.SqlHarness, port: int) -> model.DatabaseServer:
    return structs.replace(world.server, port=port, admin=ADMIN_IAM)


def clouds(keys: AwsKeys = KEYS) -> Clouds:
    """Of a runner in OCI that has keys of an AWS identity, and neither a secret nor a call for it."""

    def asked(*_: object) -> Any:  # noqa: ANN401 - never returns
        raise AssertionError("OCI was asked")

    identity: Any = Identity(home="oci", aws=lambda _reach: endless(keys), oci=asked)
    return Clouds(WholePlan(make_plan().compiled), identity)


def opened(world: db.SqlHarness, port: int, keys: AwsKeys = KEYS) -> Database:
    return world.open(port=port, admin=partial(clouds(keys).admin, behind(world, port)))


@db.each_engine
def test_the_rotation_user_rotates_with_tokens_of_who_may_connect(world: db.SqlHarness) -> None:
    """Each connection has a new one, and without TLS there is none."""
    with rds(world) as front:
        through = opened(world, front.port)
        for current, pending in ((None, 1), (1, 2), (1, 2)):
            world.stage(current, pending, through)
        logins = (world.login(1), world.login(2), world.wrong(2))
        assert [through.accepts(login) for login in logins] == [True, True, False]
        with db.fails(errors.AdminCredentialRejectedError):
            db.enter(opened(world, front.port, STRANGER))
    # One that is made is not sent to a server that offers no TLS: tests/contract/test_database_tls.py.
    with db.fails(errors.TlsVerificationError):
        clouds().admin(structs.replace(behind(world, 1), tls=None))


@pytest.mark.parametrize(
    ("keys", "host", "port"),
    [
        (KEYS, "orders.abc123.eu-west-1.rds.amazonaws.com", 3306),
        (STRANGER, "Orders.ABC123.eu-west-1.rds.amazonaws.com", 443),
    ],
)
def test_a_token_is_the_one_that_the_sdk_makes(keys: AwsKeys, host: str, port: int) -> None:
    server = db.planned(model.Engine.MYSQL, port, model.Tls(), host)
    client = boto3.client(
        "rds",
        region_name="us-east-1",
        aws_access_key_id=keys.access_key_id,
        aws_secret_access_key=keys.secret_access_key.reveal(),
        aws_session_token=keys.session_token.reveal() if keys.session_token else None,
    )
    at = datetime(2026, 11, 25, 13, 0, 1, tzinfo=UTC)
    with patch("botocore.auth.get_current_datetime", return_value=at):
        ours = token_login(server, ADMIN_IAM, endless(keys))
        theirs = client.generate_db_auth_token(host, port, model.ROTATION_USER, Region=REGION)
    assert ours == model.Login(model.ROTATION_USER, model.SecretStr(theirs))


# What `lockstep plan sql` prints for it; no server that can be had has RDS's plugin


@db.each_engine
def test_the_script_makes_an_account_for_tokens_or_stops_at_another(world: db.SqlHarness) -> None:
    user = f"iam_{world.credential.usernames[0]}"
    admin = model.AdminIam(username=user, region=REGION)
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
    login = model.Login(user, model.SecretStr("a-password"))
    world.stage(None, 1, world.open(admin=lambda: login))


# What the doctor says of it


@db.each_engine
def test_the_doctor_passes_with_a_token_and_tells_one_that_is_refused_without_it(
    world: db.SqlHarness,
) -> None:
    world.stage(None, 1)
    doctor, by_token = db.DoctorWorld(world), "RDS IAM authentication"
    with rds(world) as front:
        doctor.server = behind(world, front.port)
        doctor.admin = clouds().admin(doctor.server)
        seen = doctor.look()
        assert seen.complaints() == []
        assert by_token in seen.found(servers.ADMIN)[0].says
        doctor.admin = clouds(STRANGER).admin(doctor.server)
        (from_here,) = doctor.look().found(servers.ADMIN)
        doctor.where = "aws/apply_db"
        seen = doctor.look()
    # A person need not have the right that the runner has.
    assert (from_here.outcome, from_here.command) == (Outcome.NOT_ASKED, "lockstep doctor --in-cloud")
    (told,) = seen.found(servers.ADMIN)
    assert (told.outcome, by_token in told.says) == (Outcome.FAILED, True)
    assert "rds-db:connect" in (told.command or "")
    assert "X-Amz-" not in str(seen.complaints())


@db.each_engine
def test_the_doctor_passes_with_a_login_that_is_rotated_and_has_one_that_is_refused_imported(
    world: db.SqlHarness,
) -> None:
    """Also the checks of the credential whose account the rotation user is."""
    admin, app = estate(world)
    doctor = db.DoctorWorld(world)
    [doctor.server] = admin.plan.databases
    for looked_at in (admin, app):
        doctor.credential, doctor.admin = looked_at.credential, admin.current.login
        doctor.base = looked_at.current
        seen = doctor.look()
        assert seen.complaints() == []
        assert seen.found(servers.ADMIN)[0].says == f"{admin.current.login.username} logs in"
    doctor.admin = model.Login(doctor.admin.username, model.SecretStr("wrong"))
    (told,) = doctor.look().found(servers.ADMIN)
    assert (told.outcome, told.command) == (Outcome.FAILED, f"lockstep import {admin.credential.id}")
