"""Sessions in the other cloud, made by the shipped code with the unmodified SDKs, and all that can be wrong there."""

from collections.abc import Iterator

import pytest

from lockstep.clouds import Clouds
from lockstep.errors import (
    StoreAccessDeniedError,
    StoreRejectedError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.oci.clients import Trouble
from sandbox.aws import AwsSandbox
from sandbox.oci import OciSandbox
from tests.contract.federated import GENERATE, Federated

REGION = "eu-frankfurt-1"
ERRORS = {
    **dict.fromkeys(Trouble, StoreRejectedError),
    Trouble.UNREACHABLE: StoreUnreachableError,
    Trouble.THROTTLED: StoreThrottledError,
    Trouble.DENIED: StoreAccessDeniedError,
}


@pytest.fixture(name="world")
def _world() -> Iterator[Federated]:
    with AwsSandbox() as aws, OciSandbox(names=aws.names) as oci:
        yield Federated(aws, oci)


def secrets(world: Federated, clouds: Clouds) -> list[str]:
    clients = clouds.oci(REGION)
    with clients.translated(ERRORS, store="oci"):
        return [s.secret_name for s in clients.vaults.list_secrets(world.oci.compartment_id).data]


def test_a_function_in_aws_gets_a_session_in_oci_of_its_own(world: Federated) -> None:
    assert secrets(world, world.from_aws(GENERATE, to_oci=world.with_secret)) == []


def test_a_function_in_oci_gets_a_session_in_aws(world: Federated) -> None:
    clouds = world.from_oci()
    found = clouds.aws("dynamodb", world.aws.region).scan(TableName="lockstep")
    assert found["Items"] == []
