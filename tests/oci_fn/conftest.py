"""Both clouds and the databases on this machine, for tests of the function."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lockstep import wiring
from lockstep.audit.chain import Entry
from lockstep.model import Credential
from lockstep.plan import Plan
from sandbox.databases import CertificateAuthority, MySqlServer
from sandbox.fn import FunctionProcess, running_function
from sandbox.two_clouds import TwoClouds, running_two_clouds
from sandbox.world import CredentialSpec, default_servers
from tests.support.servers import require


@pytest.fixture(scope="module")
def two_clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoClouds]:
    """MySQL, and MariaDB and PostgreSQL where there are any; a dozen credentials, each for one test."""
    require(MySqlServer)
    servers = default_servers(CertificateAuthority(tmp_path_factory.mktemp("ca")))
    everywhere = ("alternating_users", tuple(servers))
    credentials = [
        CredentialSpec(
            id=f"multi-cloud/app-{n}",
            username=f"app_{n}",
            strategy=strategy,
            databases=databases,
            taken_over=True,
        )
        for n, (strategy, databases) in enumerate([everywhere] + [("dual_password", ("crm",))] * 9)
    ]
    folder = tmp_path_factory.mktemp("two-clouds")
    with running_two_clouds(credentials, servers, folder=folder, audit_tier="Standard") as clouds:
        yield clouds


def entries(clouds: TwoClouds, credential: Credential) -> dict[str, list[Entry]]:
    """The verified chains of the streams that have one."""
    found = clouds.verify_now(credential)
    begun = [v for v in found if v.entries or v.problems != ["the log is empty", NO_HEAD]]
    assert [v.problems for v in begun] == [[] for _ in begun]
    return {v.stream: v.entries for v in begun}


NO_HEAD = "the lock record names no head of this stream"


@pytest.fixture(scope="module")
def function(two_clouds: TwoClouds) -> FunctionProcess:
    """The function, running."""
    return two_clouds.function


@contextmanager
def broken_plan(two_clouds: TwoClouds, text: str) -> Iterator[FunctionProcess]:
    """The function with another plan file."""
    file = two_clouds.plan_file.with_name("broken.yaml")
    file.write_text(text)
    with running_function({**two_clouds.function_environment, wiring.PLAN_VARIABLE: str(file)}) as running:
        yield running


class _Supply:
    def __init__(self, plan: Plan) -> None:
        self._left = list(plan.credentials)

    def take(self) -> Credential:
        return self._left.pop()


@pytest.fixture(scope="module")
def supply(two_clouds: TwoClouds) -> _Supply:
    """Hands out each credential once."""
    return _Supply(two_clouds.plan)


@pytest.fixture
def credential(supply: _Supply) -> Credential:
    """One that no other test has touched."""
    return supply.take()
