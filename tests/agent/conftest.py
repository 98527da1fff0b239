"""Both clouds, a MariaDB and a PostgreSQL, for an agent in a process of its own."""

from collections.abc import Iterator

import pytest

from lockstep.protocol.model import Strategy
from sandbox import plans
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer, PostgresServer
from sandbox.estate import Estate, running_estate
from tests.support.servers import require


@pytest.fixture(scope="package")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """One credential on both databases, kept in both clouds, and rotated once."""
    require(PostgresServer)
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    servers = {"orders": MariaDbServer(authority=authority), "ledger": PostgresServer(authority=authority)}
    credential = plans.credential(
        "multi-cloud/app_user", *servers, username="app", strategy=Strategy.ALTERNATING_USERS
    )
    with running_estate([credential], servers, folder=tmp_path_factory.mktemp("estate")) as running:
        assert running.rotate(running.plan.credentials[0].id).status == "SUCCEEDED"
        yield running
