"""A quick selection of faults over the wire, and the planted bugs that only real servers show."""

from collections.abc import Iterator

import pytest

from sandbox.emulators.databases import MariaDbServer, MySqlServer, PostgresServer, available
from sandbox.wire import FaultKind
from tests.proof.catalogue import CATALOGUE
from tests.proof.enumeration import Enumeration, hunt
from tests.proof.estate import WiredEstate, estate
from tests.proof.runners import RunnerName, Runners

CASES: dict[RunnerName, int] = {"oci": 3, "aws": 1}
"""How many cases run for each kind of credential; `make proof` runs all."""
SEED = 3
QUICK = (FaultKind.DIE_AFTER, FaultKind.LOSE_REPLY, FaultKind.DIE_BEFORE, FaultKind.OVERTAKEN)

pytestmark = pytest.mark.skipif(
    not all(available()[server] for server in (MariaDbServer, MySqlServer, PostgresServer)),
    reason="MariaDB, MySQL and PostgreSQL are needed",
)


@pytest.mark.parametrize("name", [name for name, bug in CATALOGUE.items() if bug.faults])
def test_the_wire_finds_it(name: str) -> None:
    """First, because a process has one sandbox at a time."""
    story, _ = hunt(CATALOGUE[name])
    assert story.startswith("I1: "), story


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[WiredEstate, Runners]]:
    with estate(["mysql", "alternating"]) as made, Runners(made).ready() as runners:
        yield made, runners


@pytest.fixture(scope="module", params=["mysql", "alternating"])
def enumeration(request: pytest.FixtureRequest, world: tuple[WiredEstate, Runners]) -> Enumeration:
    kind: str = request.param
    return Enumeration(*world, kind)


def test_a_fault_at_any_change_locks_nobody_out_and_the_next_run_finishes(enumeration: Enumeration) -> None:
    for runner, count in CASES.items():
        cases = [case for case in enumeration.cases(runner, seed=SEED) if case.fault in QUICK]
        for case in cases[:count]:
            ran = enumeration.run(case)
            assert not ran.violation, f"{case}: {ran.violation}; {ran.story}"
            assert ran.struck


def test_the_wire_sees_every_kind_of_call_and_how_each_session_begins(enumeration: Enumeration) -> None:
    """Between two runs an interval passes, so each session has ended."""
    calls, databases = enumeration.undisturbed("aws"), enumeration.databases
    clouds = {"secretsmanager", "dynamodb", "s3", "kms", "vault", "secrets", "lambda"}
    assert {call.target for call in calls} >= clouds.union(databases)
    begun = [call.process.name for call in calls if call.operation == "exchange_token"]
    assert begun == ["generate", "update_secrets"]
    signed = [call.process.name for call in calls if call.operation == "GetWebIdentityToken"]
    assert signed == begun
    standby = [f"{c.target} {c.operation}" for c in enumeration.undisturbed("oci")]
    at = standby.index("sts AssumeRoleWithWebIdentity")
    assert standby[at - 1] == "kms sign"
    assert standby.count("kms sign") == standby.count("sts AssumeRoleWithWebIdentity") == 1
