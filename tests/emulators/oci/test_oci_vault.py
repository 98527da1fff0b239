"""Secrets: stages, limits, deletions, and reads that lag behind."""

from datetime import datetime, timedelta
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from tests.emulators.oci.oci_case import START, OciCase, content_of, refused

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
models = oci.vault.models
ONE = {1: ["CURRENT", "LATEST"]}


@pytest.fixture(name="secret")
def _secret(case: OciCase) -> str:
    """A secret whose versions are: 1 and 2 deprecated, 3 previous, 4 current, 5 pending."""
    secret = case.create("ring.0")
    for name, stage in (("g2", "CURRENT"), ("g3", "CURRENT"), ("g4", "CURRENT"), ("g5", "PENDING")):
        case.upload(secret, name, stage)
    return secret


CREATED: dict[str, tuple[dict[str, Any], str]] = {
    "a slash in its name": ({"secret_name": "multi-cloud/app_user"}, "InvalidParameter"),
    "a taken name": ({"secret_name": "taken"}, "InvalidParameter"),
    "the name of one that is to be deleted": ({"secret_name": "deleted"}, "InvalidParameter"),
    "no key": ({"key_id": None}, "MissingParameter"),
    "pending content": ({"secret_content": content_of("g1", "PENDING")}, "InvalidParameter"),
    "a slash in the content's name": ({"secret_content": content_of("a/b")}, "InvalidParameter"),
}


@pytest.mark.parametrize(("changes", "code"), CREATED.values(), ids=CREATED)
def test_a_secret_is_not_created_with(case: OciCase, changes: dict[str, Any], code: str) -> None:
    case.create("taken")
    case.vaults.schedule_secret_deletion(case.create("deleted"), models.ScheduleSecretDeletionDetails())
    sandbox = case.sandbox
    fields = {"secret_name": "name", "secret_content": content_of("g1"), "key_id": sandbox.key_id, **changes}
    details = models.CreateSecretDetails(
        compartment_id=sandbox.compartment_id, vault_id=sandbox.vault_id, **fields
    )
    with refused(400, code):
        case.vaults.create_secret(details)


@pytest.mark.parametrize(
    "details",
    [
        {"secret_content": content_of("g2"), "current_version_number": 1},
        {"current_version_number": 1},
        {"current_version_number": 7},
        {"secret_content": content_of("g1", "PENDING")},
    ],
    ids=["content and promotion", "the current version", "no version", "a taken content name"],
)
def test_an_update_is_refused_and_changes_nothing(case: OciCase, details: dict[str, Any]) -> None:
    secret = case.create()
    with refused(400, "InvalidParameter"):
        case.vaults.update_secret(secret, models.UpdateSecretDetails(**details))
    assert case.stages(secret) == ONE


@pytest.mark.parametrize(
    ("number", "at"),
    [
        *((number, START + DAY) for number in (3, 4, 5, 9)),
        *((1, at) for at in (START, START + DAY - SECOND, START + 30 * DAY + SECOND)),
    ],
)
def test_only_deprecated_versions_are_deleted_1_to_30_days_ahead(
    case: OciCase, secret: str, number: int, at: datetime
) -> None:
    with refused(400, "InvalidParameter"):
        case.schedule(secret, number, at)


@pytest.mark.parametrize(
    ("asked", "days", "late"),
    [(START + DAY, 1, timedelta()), (None, 30, timedelta()), (START + DAY, 1, timedelta(hours=12))],
)
def test_a_version_is_deleted_at_its_time_or_late_and_then_its_name_is_free(
    case: OciCase, secret: str, asked: datetime | None, days: int, late: timedelta
) -> None:
    case.sandbox.vault.behaviour.purge_lateness = late
    case.schedule(secret, 1, asked)
    assert case.versions(secret)[-1].time_of_deletion == START + days * DAY
    with refused(404, "NotAuthorizedOrNotFound"):
        case.content(secret, version_number=1)
    case.sandbox.clock.advance(days * DAY + late - SECOND)
    with refused(400, "InvalidParameter"):
        case.upload(secret, "g1")
    case.sandbox.clock.advance(SECOND)
    assert 1 not in case.stages(secret)
    assert case.upload(secret, "g1").data.current_version_number == 6


def test_a_secret_has_at_most_30_versions_in_use_and_30_pending_deletion(case: OciCase) -> None:
    secret = case.create()
    for number in range(2, 31):
        case.upload(secret, f"g{number}")
    with refused(400, "LimitExceeded"):
        case.upload(secret, "g31")
    for number in range(1, 29):
        case.schedule(secret, number, None)
    for number in range(31, 36):
        case.upload(secret, f"g{number}")
    for number in (29, 30):
        case.schedule(secret, number, None)
    with refused(400, "LimitExceeded"):
        case.schedule(secret, 31, None)


def test_secrets_are_listed_by_compartment_name_vault_and_state(case: OciCase) -> None:
    first, second = case.create("b"), case.create("a")

    def listed(compartment: str = case.sandbox.compartment_id, **choice: str) -> list[str]:
        return [secret.id for secret in case.vaults.list_secrets(compartment, **choice).data]

    assert listed() == listed(lifecycle_state="ACTIVE") == [second, first]
    assert listed(name="b", vault_id=case.sandbox.vault_id) == [first]
    assert listed(vault_id="ocid1.vault.oc1..other") == listed("ocid1.compartment.oc1..other") == []
    with refused(400, "InvalidParameter"):
        listed(lifecycle_state="PENDING_DELETION")


def test_versions_come_in_pages_newest_first_without_their_content(case: OciCase, secret: str) -> None:
    case.sandbox.vault.behaviour.page_size = 3
    first = case.vaults.list_secret_versions(secret)
    assert ([version.version_number for version in first.data], first.has_next_page) == ([5, 4, 3], True)
    assert [version.version_number for version in case.versions(secret)] == [5, 4, 3, 2, 1]
    shown = f"{first.data} {case.vaults.get_secret(secret).data} {case.sandbox.vault} {case.sandbox.calls.records}"
    assert content_of("g4").content not in shown


BUNDLES: list[tuple[dict[str, Any], str | None]] = [
    ({}, "g4"),
    *(({"stage": stage}, name) for stage, name in (("CURRENT", "g4"), ("PENDING", "g5"), ("LATEST", "g5"))),
    *(({"stage": stage}, name) for stage, name in (("PREVIOUS", "g3"), ("DEPRECATED", "g2"))),
    ({"version_number": 1}, "g1"),
    ({"secret_version_name": "g5"}, "g5"),
    *((choice, None) for choice in ({"version_number": 9}, {"secret_version_name": "g9"})),
]


@pytest.mark.parametrize(("choice", "name"), BUNDLES, ids=str)
def test_a_bundle_by_its_place(case: OciCase, secret: str, choice: dict[str, Any], name: str | None) -> None:
    if name:
        assert case.content(secret, **choice) == f"value {name}"
        return
    with refused(404, "NotAuthorizedOrNotFound"):
        case.content(secret, **choice)
