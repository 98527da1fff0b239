"""Runners are composed of a plan, an identity and time-outs."""

import json
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from lockstep.aws.clients import aws_credentials
from lockstep.oci.clients import OciIdentity
from lockstep.plan.compiled import AccessKey
from lockstep.plan.published import WholePlan
from lockstep.protocol.deadlines import CloudTimeouts, DatabaseTimeouts, Timeouts
from lockstep.protocol.errors import DatabaseUnreachableError, StoreUnreachableError
from lockstep.protocol.model import Login, SecretStr
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime import identity
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import KEY_KEPT, OCI_RUNNER, OPERATOR, Identity
from sandbox.emulators.oci import OciSandbox, write_config_file
from tests.support.memory import FakeClock, make_plan
from tests.support.peer import silent

LESS_THAN_SHIPPED = CloudTimeouts().read_seconds - 1
"""No wait by the time-outs that are shipped is so short."""


@pytest.fixture(autouse=True)
def role(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OCI_RESOURCE_PRINCIPAL_VERSION", "OCI_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OCI_METADATA_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HOME", "/nowhere")


def opened(who: Identity = OPERATOR, **more: Any) -> Clouds:  # noqa: ANN401 - arguments of the class
    return Clouds(**{"source": WholePlan(make_plan().compiled), "identity": who, **more})


def test_time_outs_reach_oci_and_the_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with OciSandbox() as sandbox:
        config_file = write_config_file(tmp_path, "operator", sandbox.config())
    monkeypatch.setenv(identity.CONFIG_FILE_VARIABLE, str(config_file))
    [credential] = make_plan().credentials
    databases = DatabaseTimeouts(connect_seconds=1.2, io_seconds=1.2, lock_seconds=1)
    timeouts = Timeouts(cloud=CloudTimeouts(read_seconds=0.2), database=databases)
    with silent() as (port, waited):
        monkeypatch.setenv(identity.OCI_ENDPOINT_VARIABLE, f"http://127.0.0.1:{port}")
        clouds = opened(timeouts=timeouts)
        _, oci_store = clouds.stores(credential)
        with pytest.raises(StoreUnreachableError):
            oci_store.read_current()
    assert max(waited) < LESS_THAN_SHIPPED
    with silent() as (port, waited):
        server = structs.replace(credential.primary, host="127.0.0.1", port=port)
        with pytest.raises(DatabaseUnreachableError):
            clouds.database(server, credential).accepts(Login("app", SecretStr("a-password")))
    assert max(waited) < LESS_THAN_SHIPPED


def test_the_oci_runner_reads_its_access_key_again_before_an_old_one_is_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, stored = FakeClock(), ["old"]
    plan = structs.replace(make_plan().compiled, to_aws=AccessKey(secret="lockstep/aws-key"))
    clouds = opened(OCI_RUNNER, source=WholePlan(plan), clock=clock)
    text = '{"access_key_id": "%s", "secret_access_key": "s"}'
    monkeypatch.setattr(clouds, "secret", lambda _name: text % stored[-1])
    keys = OCI_RUNNER.aws(clouds)
    assert aws_credentials(keys).access_key == "old"
    stored.append("new")
    assert aws_credentials(keys).access_key == "old"
    clock.sleep(KEY_KEPT.total_seconds() + 1)
    assert aws_credentials(keys).access_key == "new"


def test_workers_that_need_the_same_client_at_the_same_time_make_it_once() -> None:
    """Making a client in two threads of one SDK's session is not safe."""
    asked: list[str] = []
    both = threading.Barrier(2)

    def wait(cloud: str) -> None:
        """Some time, for a second caller to come in."""
        asked.append(cloud)
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)

    def oci_identity(_clouds: Clouds) -> OciIdentity:
        wait("oci")
        return OciIdentity(config=config)

    with OciSandbox() as sandbox:
        config = sandbox.config()
    clouds = opened(Identity(home="aws", aws=lambda _clouds: wait("aws"), oci=oci_identity))
    first, second = at_the_same_time([lambda: clouds.aws("dynamodb", "eu-central-1")] * 2)
    assert first is second
    one, other = at_the_same_time([lambda: clouds.oci("eu-frankfurt-1").vaults] * 2)
    assert one is other
    assert asked == ["aws", "oci"]


def test_an_operator_without_an_oci_identity_uses_the_aws_runners_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clouds, fields = opened(), ("tenancy", "user", "fingerprint", "private_key", "region")
    stored = {"lockstep/oci-key": json.dumps({name: name for name in fields})}
    monkeypatch.setattr(clouds, "secret", stored.__getitem__)
    assert OPERATOR.oci(clouds).config["user"] == "user"
