"""The version budget agrees with what happens to a ring in the emulated Vault."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lockstep.plan.file import PlanProblemsError, parse_plan
from lockstep.protocol.errors import InvalidPlanError, StoreQuotaExceededError
from lockstep.protocol.model import CredentialValue, Engine, Login, SecretStr, Strategy
from lockstep.protocol.ring import SLOTS, version_budget
from sandbox import plans
from sandbox.emulators.oci import OciSandbox, SandboxClock
from tests.contract.oci_fixtures import VaultRingHarness
from tests.support.fence import fence_held
from tests.support.memory import EPOCH, FakeClock, make_plan

if TYPE_CHECKING:
    from lockstep.plan.model import Plan
    from lockstep.protocol.model import Credential

HALF_A_DAY = timedelta(hours=12)


def minutes(count: int) -> timedelta:
    return timedelta(minutes=count)


@pytest.mark.parametrize(
    ("interval", "slots", "lateness", "holds"),
    [
        (minutes(20), 3, timedelta(), True),
        (minutes(20), 3, HALF_A_DAY, False),
        (minutes(20), 4, HALF_A_DAY, True),
        (minutes(20), 4, timedelta(hours=24), False),
        (minutes(20), 5, timedelta(hours=24), True),
        (minutes(48), 1, timedelta(), False),
        (minutes(49), 1, timedelta(), True),
        (minutes(49), 1, HALF_A_DAY, False),
        (minutes(73), 1, HALF_A_DAY, True),
    ],
)
def test_the_budget_says_whether_a_ring_can_be_rotated_forever(
    interval: timedelta, slots: int, lateness: timedelta, *, holds: bool
) -> None:
    budget = version_budget(interval, slots, purge_lateness=lateness)
    assert budget.holds is holds
    assert (budget.wedges_after is None) is holds


def test_a_budget_says_when_the_ring_is_full() -> None:
    budget = version_budget(minutes(20), 1, purge_lateness=timedelta())
    assert budget.wedges_after is not None
    assert timedelta(hours=19) < budget.wedges_after < timedelta(hours=20)


class Simulation:
    """Rotations of a ring in the emulated Vault, in emulated time."""

    def __init__(self, sandbox: OciSandbox, clock: FakeClock, *, slots: int) -> None:
        self._world = VaultRingHarness(sandbox, slots=slots, clock=clock)
        self._clock = clock
        self.peak_in_use = 0
        self.peak_pending = 0

    def rotate(self, interval: timedelta, *, until: timedelta) -> timedelta | None:
        """Rotate until some time has passed; return when the ring was full, or None."""
        generation = 0
        while (elapsed := self._clock.now() - EPOCH) <= until:
            generation += 1
            value = CredentialValue(generation, Login("app", SecretStr(f"password-{generation}")))
            try:
                self._world.store.stage(value)
            except StoreQuotaExceededError:
                return elapsed
            self._observe()
            self._world.store.promote(generation, fence_held)
            self._world.store.prune()
            self._clock.sleep(interval.total_seconds())
        return None

    def _observe(self) -> None:
        for secret_id in self._world.ids["app_user"]:
            versions = self._world.console.versions(secret_id)
            pending = sum(v.time_of_deletion is not None for v in versions)
            self.peak_pending = max(self.peak_pending, pending)
            self.peak_in_use = max(self.peak_in_use, len(versions) - pending)


@pytest.mark.parametrize(
    # In the second row a slot's turn comes every 80 minutes, as in the default plan, with fewer slots to simulate.
    ("interval", "slots"),
    [(minutes(73), 1), (minutes(40), 2)],
)
def test_a_ring_that_is_large_enough_stays_within_its_budget(interval: timedelta, slots: int) -> None:
    budget = version_budget(interval, slots, purge_lateness=HALF_A_DAY)
    clock = FakeClock(EPOCH)
    with OciSandbox(SandboxClock(clock.now)) as sandbox:
        sandbox.vault.behaviour.purge_lateness = HALF_A_DAY
        simulation = Simulation(sandbox, clock, slots=slots)
        assert simulation.rotate(interval, until=timedelta(days=4)) is None
    assert simulation.peak_in_use <= budget.peak_in_use
    assert budget.peak_pending - 1 <= simulation.peak_pending <= budget.peak_pending


# The plan


def problems(**credential: object) -> str:
    with pytest.raises(InvalidPlanError) as error:
        make_plan(**credential)  # type: ignore[arg-type]  # keys of the credential, as in the file
    assert isinstance(error.value, PlanProblemsError)
    return " ".join(error.value.lines)


VAULT = {
    "kind": "oci-vault",
    "region": "eu-frankfurt-1",
    "compartment_id": "ocid1.compartment.oc1..a",
    "vault_id": "ocid1.vault.oc1..a",
}


def plan_of(*stores: object, interval: str = "20m") -> "Plan":
    """The plan of the other tests with other stores."""
    document = plans.plan_document(
        [plans.database("db", Engine.MYSQL)],
        [plans.credential("multi-cloud/app_user", "db", strategy=Strategy.DUAL_PASSWORD, interval=interval)],
        oci=plans.OciNames(),
    )
    aws = {"kind": "aws-secrets-manager", "region": "eu-central-1"}
    document["stores"] = [aws if store == "aws-secrets-manager" else store for store in stores]
    return parse_plan(json.dumps(document), base=Path())


def test_a_plan_whose_interval_is_too_short_for_a_ring_is_refused_with_advice() -> None:
    text = problems(interval="10m")
    assert "credentials[0].interval: 10m exhausts Vault's quota" in text
    assert "after 1d15h20m; use an interval of 20m or more" in text


@pytest.mark.parametrize("stores", [(VAULT, "aws-secrets-manager"), ("aws-secrets-manager", VAULT)])
@pytest.mark.parametrize("interval", ["10m", "12m", "15m", "20m"])
def test_an_interval_that_is_recommended_is_accepted(stores: tuple[object, ...], interval: str) -> None:
    try:
        plan_of(*stores, interval=interval)
    except PlanProblemsError as error:
        for line in error.lines:
            recommended = re.search(r"use an interval of (\w+) or more", line)
            assert recommended, line
            assert plan_of(*stores, interval=recommended[1])


def test_a_ring_in_the_first_store_has_one_slot() -> None:
    """Which of two values is a generation's would depend on the slot (protocol V13)."""
    with pytest.raises(PlanProblemsError) as error:
        plan_of(VAULT, "aws-secrets-manager")
    assert "credentials[0].interval: 20m exhausts Vault's quota" in " ".join(error.value.lines)
    assert "use an interval of 2h or more" in " ".join(error.value.lines)
    assert (
        plan_of(VAULT, interval="2h").slots == plan_of(VAULT, "aws-secrets-manager", interval="2h").slots == 1
    )
    assert plan_of("aws-secrets-manager", VAULT).slots == SLOTS


def test_the_default_plan_has_a_ring_that_is_large_enough() -> None:
    credential: Credential = make_plan().credentials[0]
    assert version_budget(credential.schedule.interval, SLOTS).holds
