"""Both clouds and the databases on this machine, for the tests of the function."""

from collections.abc import Iterator

import pytest

from lockstep.audit.chain import Entry
from lockstep.protocol.model import Credential, Strategy
from sandbox import plans
from sandbox.emulators.databases import CertificateAuthority, MySqlServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.servers import default_servers
from tests.support.servers import require


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Every server that this machine can start, and fourteen credentials, one for each test."""
    require(MySqlServer)
    servers = default_servers(CertificateAuthority(tmp_path_factory.mktemp("ca")))
    credentials = [
        plans.credential(
            "multi-cloud/app-0", *servers, username="app_0", strategy=Strategy.ALTERNATING_USERS
        ),
        *(plans.credential(f"multi-cloud/app-{n}", "crm", username=f"app_{n}") for n in range(1, 14)),
    ]
    folder = tmp_path_factory.mktemp("estate")
    with running_estate(
        credentials, servers, folder=folder, settings=Settings(audit_tier="Standard")
    ) as running:
        yield running


def entries(estate: Estate, credential: Credential) -> dict[str, list[Entry]]:
    """The verified chains of the streams that have entries."""
    found = estate.verify_now(credential)
    assert [v.problems for v in found] == [[] for _ in found]
    return {v.stream: v.entries for v in found if v.entries}


@pytest.fixture(scope="module")
def function(estate: Estate) -> Iterator[FunctionProcess]:
    """The function, running."""
    with running_function(estate.function_environment) as running:
        yield running


@pytest.fixture(scope="module")
def supply(estate: Estate) -> list[Credential]:
    """Of which each test takes one."""
    return list(estate.plan.credentials)


@pytest.fixture
def credential(supply: list[Credential]) -> Credential:
    """A credential that no other test has used."""
    return supply.pop()
