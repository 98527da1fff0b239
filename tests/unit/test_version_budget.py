"""The names of versions (protocol V3), the rules of a ring, and how many versions it may have (protocol V13)."""

import json
from datetime import timedelta
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest

from lockstep.plan.file import PlanProblemsError, parse_plan
from lockstep.plan.model import Plan
from lockstep.protocol import ring
from lockstep.protocol.model import Engine, Strategy
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ring import SLOTS, Slot, Version, fits_quota
from sandbox import plans

# The names of versions

OURS = VersionNames(credential_id="multi-cloud/app_user", secret="multi-cloud/app_user")


def test_a_name_is_a_uuid_that_contains_its_generation_and_never_changes() -> None:
    for generation in (1, 42, 999_999_999_999):
        name = OURS.name_of(generation)
        assert (len(name), UUID(name).version, UUID(name).variant) == (36, 8, RFC_4122)
        assert name.endswith(f"-{generation:012d}")
        assert OURS.generation_of(name) == generation
    dotted = VersionNames(credential_id=OURS.credential_id, secret="multi-cloud.app_user")
    assert OURS.name_of(42) == dotted.name_of(42) == "13cf509b-b00d-89f1-89bb-000000000042"


@pytest.mark.parametrize(
    "name",
    [
        None,
        "42",
        VersionNames(credential_id="another/credential", secret=OURS.secret).name_of(7),
        VersionNames(credential_id=OURS.credential_id, secret="another/secret").name_of(7),
        OURS.name_of(7)[:-12] + "00000000000a",
        OURS.name_of(7) + "0",
        OURS.name_of(7)[:-1] + "\N{ARABIC-INDIC DIGIT SEVEN}",
        "7f1d9a52-3f63-4d7a-8f0c-000000000007",
    ],
)
def test_any_other_name_is_generation_0(name: str | None) -> None:
    assert OURS.generation_of(name) == 0


# The rules of `lockstep.protocol.ring`


def slot(index: int, *versions: Version) -> Slot:
    return Slot(index=index, secret_id=f"slot-{index}", versions=versions)


def version(number: int, generation: int, *stages: str, deleted: bool = False) -> Version:
    return Version(
        number=number, generation=generation, stages=frozenset(stages), is_pending_deletion=deleted
    )


def test_a_full_slot_is_passed_over() -> None:
    full = slot(0, version(1, 1, "CURRENT"), *(version(n, 100 + n, "PENDING") for n in range(2, 31)))
    next_lowest = slot(1, version(1, 2, "CURRENT"))
    serving = slot(2, version(1, 3, "CURRENT"))
    assert ring.staging_slot([full, next_lowest, serving], 200) is next_lowest
    assert ring.staging_slot([full, serving], 200) is None
    assert ring.staging_slot([serving], 200) is serving, "the only slot left, although it serves"


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


@pytest.mark.parametrize(
    ("stores", "recommended", "slots"),
    [
        # Which of two values is a generation's would depend on the slot.
        ((VAULT, "aws-secrets-manager"), "2h", 1),
        (("aws-secrets-manager", VAULT), "20m", SLOTS),
    ],
)
def test_an_interval_too_short_for_a_ring_is_refused_with_one_that_is_accepted(
    stores: tuple[object, ...], recommended: str, slots: int
) -> None:
    """A ring in the first store has one slot (protocol V13)."""
    with pytest.raises(PlanProblemsError) as error:
        plan_of(*stores, interval="10m")
    text = " ".join(error.value.lines)
    assert "credentials[0].interval: 10m exhausts Vault's quota" in text
    assert f"use an interval of {recommended} or more" in text
    assert plan_of(*stores, interval=recommended).slots == slots
