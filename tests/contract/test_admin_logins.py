"""Where each runner finds the rotation user's login (protocol D22)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockstep.aws.clients import aws_client
from lockstep.plan.file import parse_plan
from lockstep.protocol.deadlines import Timeouts
from lockstep.protocol.errors import SecretNotFoundError
from lockstep.protocol.model import Engine, Login, SecretStr
from lockstep.runtime.clouds import Clouds, Endpoints
from lockstep.runtime.identity import AWS_RUNNER, CONFIG_FILE_VARIABLE, OCI_RUNNER, Identity
from lockstep.runtime.system import SystemClock
from sandbox import plans
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.identities import FUNCTION_MAY
from sandbox.oci_resources import create_secret
from tests.contract.aws_fixtures import KEYS

ELSEWHERE = "eu-west-1"


@pytest.fixture(scope="module")
def aws() -> Iterator[AwsSandbox]:
    with AwsSandbox() as running:
        yield running


@pytest.fixture(autouse=True)
def role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key.reveal())


def _login(name: str) -> Login:
    return Login(name, SecretStr(f"{name}'s password"))


def _text(login: Login) -> str:
    # As RDS writes it: nothing but the login.
    return json.dumps({"username": login.username, "password": login.password.reveal()})


def _clouds(
    aws: AwsSandbox,
    identity: Identity,
    *,
    oci: OciSandbox | None = None,
    own_compartment_id: str | None = None,
    **database: object,
) -> tuple[Clouds, Any]:
    names = (
        plans.OciNames(
            compartment_id=oci.compartment_id, vault_id=oci.vault_id, own_compartment_id=own_compartment_id
        )
        if oci
        else None
    )
    document = plans.plan_document(
        [{**plans.database("orders", Engine.MYSQL), **database}],
        [plans.credential("multi-cloud/app_user", "orders")],
        oci=names,
    )
    plan = parse_plan(json.dumps(document), base=Path())
    endpoints = Endpoints(aws=aws.url, oci=oci.endpoint if oci else None)
    clouds = Clouds(plan, identity, endpoints=endpoints, timeouts=Timeouts(), clock=SystemClock())
    return clouds, plan.databases[0]


def test_an_arn_is_read_in_its_own_region(aws: AwsSandbox) -> None:
    there = aws_client("secretsmanager", ELSEWHERE, keys=KEYS, endpoint=aws.url)
    arn = there.create_secret(Name="dba/rotator", SecretString=_text(_login("dba")))["ARN"]
    clouds, database = _clouds(aws, AWS_RUNNER, admin_secret=arn)
    assert clouds.admin(database)() == _login("dba")


def test_a_secret_that_rds_rotates_is_read_anew_each_time(aws: AwsSandbox) -> None:
    name = "rds!cluster-11a9f0c2-8d7b-4a55-9d3e-5f0f6b1c2d3e"
    here = aws_client("secretsmanager", plans.AWS_REGION, keys=KEYS, endpoint=aws.url)
    here.create_secret(Name=name, SecretString=_text(_login("master")))
    clouds, database = _clouds(aws, AWS_RUNNER, admin_secret=name)
    read = clouds.admin(database)
    assert read() == _login("master")
    here.put_secret_value(SecretId=name, SecretString=_text(_login("rotated")))
    assert read() == _login("rotated")


def test_the_oci_runner_reads_its_own_secrets_in_their_compartment_only(
    aws: AwsSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OciSandbox() as oci:
        own, name = oci.own_compartment_id, plans.admin_secret("orders")
        key = oci.new_api_key("function", *FUNCTION_MAY, compartment=own)
        monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(write_config_file(tmp_path, "function", key)))
        create_secret(oci, name, _text(_login("own")).encode(), compartment=own)
        create_secret(oci, "among/rings", _text(_login("rings")).encode())
        clouds, database = _clouds(aws, OCI_RUNNER, oci=oci, own_compartment_id=own)
        assert clouds.admin(database)() == _login("own")
        clouds, database = _clouds(
            aws, OCI_RUNNER, oci=oci, own_compartment_id=own, admin_secret="among/rings"
        )
        with pytest.raises(SecretNotFoundError):
            clouds.admin(database)()


def test_the_oci_runner_reads_the_name_in_vault(
    aws: AwsSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OciSandbox() as oci:
        config_file = write_config_file(tmp_path, "runner", oci.config())
        monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(config_file))
        create_secret(oci, "dba/rotator", _text(_login("dba")).encode())
        clouds, database = _clouds(
            aws, OCI_RUNNER, oci=oci, admin_secret="rds!db-1", oci_admin_secret="dba/rotator"
        )
        assert clouds.admin(database)() == _login("dba")
