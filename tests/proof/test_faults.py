"""A quick selection of faults over the wire: at each change, the deaths and the lost replies."""

import random
from collections.abc import Iterator

import pytest

from sandbox.emulators.databases import MariaDbServer, MySqlServer, PostgresServer, available
from sandbox.wire import FaultKind
from tests.proof.enumeration import Enumeration, Tally
from tests.proof.estate import WiredEstate, estate
from tests.proof.runners import RunnerName, Runners

CASES = {"oci": 3, "aws": 1}
"""How many cases run for each kind of credential; `make proof` runs all."""
QUICK = (FaultKind.DIE_AFTER, FaultKind.LOSE_REPLY, FaultKind.DIE_BEFORE, FaultKind.OVERTAKEN)

needs_servers = pytest.mark.skipif(
    not all(available()[server] for server in (MariaDbServer, MySqlServer, PostgresServer)),
    reason="MariaDB, MySQL and PostgreSQL are needed",
)


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[WiredEstate, Runners]]:
    with estate(["mysql", "alternating"]) as made, Runners(made).ready() as runners:
        yield made, runners


@pytest.fixture(scope="module", params=["mysql", "alternating"])
def enumeration(request: pytest.FixtureRequest, world: tuple[WiredEstate, Runners]) -> Enumeration:
    kind: str = request.param
    return Enumeration(*world, kind)


@needs_servers
def test_a_fault_at_any_change_locks_nobody_out_and_the_next_run_finishes(enumeration: Enumeration) -> None:
    rng = random.Random(3)  # noqa: S311 - it must be the same every time
    runners: tuple[RunnerName, ...] = ("oci", "aws")
    for runner in runners:
        tally = Tally()
        cases = [c for c in enumeration.cases(runner, rng=rng, hangs=False) if c.fault in QUICK]
        for case in cases[: CASES[runner]]:
            enumeration.run(case, tally)
            assert not tally.failures, f"{case}: {tally.failures[0].violation}; {tally.failures[0].story}"
        assert tally.struck == tally.cases == CASES[runner]


@needs_servers
def test_the_wire_sees_every_kind_of_call(enumeration: Enumeration) -> None:
    seen = {call.target for call in enumeration.undisturbed("aws")}
    assert seen >= {"secretsmanager", "dynamodb", "s3", "kms", "vault", "secrets", "lambda"} | set(
        enumeration.databases
    )


@needs_servers
def test_the_wire_sees_how_each_session_begins(enumeration: Enumeration) -> None:
    """Between two runs an interval passes, so each session has ended."""
    calls = enumeration.undisturbed("aws")
    begun = [call.process.name for call in calls if call.operation == "exchange_token"]
    assert begun == ["generate", "update_secrets"]
    assert [c.process.name for c in calls if c.operation in {"GetWebIdentityToken", "Sign"}] == [
        name for name in begun for _ in range(2)
    ]
    standby = [f"{c.target} {c.operation}" for c in enumeration.undisturbed("oci")]
    at = standby.index("sts AssumeRoleWithWebIdentity")
    assert standby[at - 1] == "kms sign"
    assert standby.count("kms sign") == standby.count("sts AssumeRoleWithWebIdentity") == 1
