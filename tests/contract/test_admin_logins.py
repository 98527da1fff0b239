"""Where each runner finds the rotation user's login (protocol D22)."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lockstep.aws.clients import aws_client
from lockstep.plan.file import parse_plan
from lockstep.plan.published import WholePlan
from lockstep.protocol.errors import SecretNotFoundError
from lockstep.protocol.model import Engine, Login, SecretStr
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import AWS_RUNNER, CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE, OCI_RUNNER
from sandbox import plans
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.identities import FUNCTION_MAY
from sandbox.oci_resources import create_secret, names_in
from tests.contract.aws_fixtures import KEYS, SESSIONS


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSandbox]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key.reveal())
    with AwsSandbox() as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.url)
        yield running


def _login(name: str) -> Login:
    return Login(name, SecretStr(f"{name}'s password"))


def _text(name: str) -> str:
    # As RDS writes it: nothing but the login.
    return json.dumps({"username": name, "password": _login(name).password.reveal()})


def _reader(oci: OciSandbox | None = None, **database: object) -> Any:  # noqa: ANN401 - a function
    """What reads the login, as the runner of AWS, or of OCI where that is given."""
    document = plans.plan_document(
        [{**plans.database("orders", Engine.MYSQL), **database}],
        [plans.credential("multi-cloud/app_user", "orders")],
        oci=names_in(oci) if oci else None,
    )
    plan = parse_plan(json.dumps(document), base=Path())
    clouds = Clouds(WholePlan(plan.compiled), OCI_RUNNER if oci else AWS_RUNNER)
    return partial(clouds.admin, plan.databases[0])


def test_in_aws_an_arn_is_read_in_its_own_region_and_what_rds_rotates_anew_each_time(aws: AwsSandbox) -> None:
    there = aws_client("secretsmanager", "eu-west-1", keys=SESSIONS, endpoint=aws.url)
    arn = there.create_secret(Name="dba/rotator", SecretString=_text("dba"))["ARN"]
    assert _reader(admin_secret=arn)() == _login("dba")
    name = "rds!cluster-11a9f0c2-8d7b-4a55-9d3e-5f0f6b1c2d3e"
    here = aws_client("secretsmanager", plans.AWS_REGION, keys=SESSIONS, endpoint=aws.url)
    here.create_secret(Name=name, SecretString=_text("master"))
    read = _reader(admin_secret=name)
    assert read() == _login("master")
    here.put_secret_value(SecretId=name, SecretString=_text("rotated"))
    assert read() == _login("rotated")


def test_in_oci_it_is_read_in_its_own_compartment_only_by_the_name_in_vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OciSandbox() as oci:
        own = oci.own_compartment_id
        key = oci.new_api_key("function", *FUNCTION_MAY, compartment=own)
        monkeypatch.setenv(OCI_ENDPOINT_VARIABLE, oci.endpoint)
        monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(write_config_file(tmp_path, "function", key)))
        create_secret(oci, plans.admin_secret("orders"), _text("own").encode(), compartment=own)
        create_secret(oci, "dba/rotator", _text("dba").encode(), compartment=own)
        create_secret(oci, "among/rings", _text("rings").encode())
        assert _reader(oci)() == _login("own")
        named = _reader(oci, admin_secret="rds!db-1", oci_admin_secret="dba/rotator")
        assert named() == _login("dba")
        with pytest.raises(SecretNotFoundError):
            _reader(oci, admin_secret="among/rings")()
