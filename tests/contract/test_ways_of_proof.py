"""Both runners rotate, however they prove themselves in the other cloud: by sessions, or by keys."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.protocol.model import Strategy
from sandbox import plans
from sandbox.databases import CertificateAuthority, MariaDbServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.identities import Way

CREDENTIAL = "multi-cloud/app"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Of the database."""
    return CertificateAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=list(Way), ids=lambda way: way.name.lower())
def estate(
    request: pytest.FixtureRequest, authority: CertificateAuthority, tmp_path: Path
) -> Iterator[Estate]:
    """One database and both clouds."""
    servers = {"orders": MariaDbServer(authority=authority)}
    credential = plans.credential(CREDENTIAL, *servers, strategy=Strategy.DUAL_PASSWORD)
    settings = Settings(way=request.param, audit_tier="Standard")
    with running_estate([credential], servers, folder=tmp_path, settings=settings) as running:
        yield running


@pytest.fixture
def function(estate: Estate) -> Iterator[FunctionProcess]:
    """The standby."""
    with running_function(estate.function_environment) as running:
        yield running


def rotate_by_both(estate: Estate, function: FunctionProcess) -> None:
    """The first runs, and a rotation by each runner."""
    for generation in (1, 2):
        execution = estate.rotate(CREDENTIAL)
        assert execution.status == "SUCCEEDED", execution.cause
        assert (execution.output or {})["generation"] == generation
        estate.outside.expire_schedule(CREDENTIAL)
    answer = function.call({"credential_id": CREDENTIAL, "force": True})
    assert answer.body["results"][0].get("generation") == 3, answer.text + function.log


def test_both_runners_rotate(estate: Estate, function: FunctionProcess) -> None:
    rotate_by_both(estate, function)
    [credential] = estate.plan.credentials
    assert not estate.locked_out(credential)
    assert all(v.problems == [] for v in estate.verify_now(credential))
