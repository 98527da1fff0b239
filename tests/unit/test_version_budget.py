"""The rules of a ring of Vault secrets, and how many versions it may have (protocol V13)."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from lockstep.plan.file import PlanProblemsError, parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol import ring
from lockstep.protocol.model import Engine, Strategy
from lockstep.protocol.ring import SLOTS, Slot, Version, fits_quota
from sandbox import plans
from tests.support.memory import make_plan

# The rules of `lockstep.protocol.ring`


def slot(index: int, *versions: Version) -> Slot:
    return Slot(index=index, secret_id=f"slot-{index}", versions=versions)


def version(number: int, generation: int, *stages: str, deleted: bool = False) -> Version:
    return Version(
        number=number, generation=generation, stages=frozenset(stages), is_pending_deletion=deleted
    )


def test_the_only_slot_left_is_used_although_it_serves() -> None:
    last = slot(2, version(1, 9, "CURRENT"))
    assert ring.staging_slot([last], 10) is last


def test_a_full_slot_is_passed_over() -> None:
    full = slot(0, version(1, 1, "CURRENT"), *(version(n, 100 + n, "PENDING") for n in range(2, 31)))
    next_lowest = slot(1, version(1, 2, "CURRENT"))
    serving = slot(2, version(1, 3, "CURRENT"))
    assert ring.staging_slot([full, next_lowest, serving], 200) is next_lowest
    assert ring.staging_slot([full, serving], 200) is None


def test_a_version_that_may_be_in_flight_is_not_disposable() -> None:
    revoked = [version(n, n, "DEPRECATED") for n in (1, 2, 3)]
    others = [
        version(4, 0, "DEPRECATED"),
        version(5, 5, "DEPRECATED", deleted=True),
        version(6, 6, "PREVIOUS"),
        version(7, 10, "CURRENT"),
        version(8, 11, "DEPRECATED"),
        version(9, 12, "PENDING"),
    ]
    one = slot(0, *revoked, *others)
    assert ring.disposable(one, below=10) == revoked[:2]
    # Once generation 13 is claimed, 11 is abandoned. It stays because it is the newest superseded version.
    assert ring.disposable(one, below=13) == revoked


def test_no_more_deletions_are_scheduled_than_vault_allows() -> None:
    revoked = [version(n, n, "DEPRECATED") for n in range(1, 6)]
    leaving = [version(n, n, "DEPRECATED", deleted=True) for n in range(6, 34)]
    one = slot(0, *revoked, *leaving, version(99, 99, "CURRENT"))
    assert ring.disposable(one, below=99) == revoked[:2]


def test_a_version_scheduled_for_deletion_does_not_hold_its_generation() -> None:
    one = slot(0, version(1, 4, "DEPRECATED", deleted=True), version(2, 5, "CURRENT"))
    assert ring.holder([one], 4) is None


@pytest.mark.parametrize(
    ("minutes", "slots", "fits"),
    [(18, 4, False), (19, 4, True), (24, 3, False), (25, 3, True), (72, 1, False), (73, 1, True)],
)
def test_the_shortest_interval_that_a_ring_can_be_rotated_at_for_ever(
    minutes: int, slots: int, *, fits: bool
) -> None:
    assert fits_quota(timedelta(minutes=minutes), slots) is fits


VAULT = {
    "kind": "oci-vault",
    "region": "eu-frankfurt-1",
    "compartment_id": "ocid1.compartment.oc1..a",
    "vault_id": "ocid1.vault.oc1..a",
}


def plan_of(*stores: object, interval: str = "20m") -> Plan:
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
    with pytest.raises(PlanProblemsError) as error:
        make_plan(interval="10m")
    text = " ".join(error.value.lines)
    assert "credentials[0].interval: 10m exhausts Vault's quota" in text
    assert "of versions; use an interval of 20m or more" in text
    assert fits_quota(make_plan().credentials[0].schedule.interval, SLOTS)


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
