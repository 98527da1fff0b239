"""Secrets: stages, limits, deletions, and reads that lag behind."""

from datetime import datetime, timedelta
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from tests.emulators.oci.oci_case import START, OciCase, content_of, refused

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
models = oci.vault.models


@pytest.fixture(name="secret")
def _secret(case: OciCase) -> str:
    """A secret whose versions are: 1 and 2 deprecated, 3 previous, 4 current, 5 pending."""
    secret = case.create("ring.0")
    for name, stage in (("g2", "CURRENT"), ("g3", "CURRENT"), ("g4", "CURRENT"), ("g5", "PENDING")):
        case.upload(secret, name, stage)
    return secret


def test_what_is_wrong_with_a_secret_is_refused_and_changes_nothing(case: OciCase) -> None:
    secret = case.create("taken")
    case.vaults.schedule_secret_deletion(case.create("deleted"), models.ScheduleSecretDeletionDetails())
    sandbox = case.sandbox
    right = {"secret_name": "name", "secret_content": content_of("g1"), "key_id": sandbox.key_id}
    where = {"compartment_id": sandbox.compartment_id, "vault_id": sandbox.vault_id}
    wrong: list[tuple[dict[str, Any], str]] = [
        *(
            ({"secret_name": name}, "InvalidParameter")
            for name in ("multi-cloud/app_user", "taken", "deleted")
        ),
        ({"key_id": None}, "MissingParameter"),
        ({"secret_content": content_of("g1", "PENDING")}, "InvalidParameter"),
        ({"secret_content": content_of("a/b")}, "InvalidParameter"),
    ]
    for changes, code in wrong:
        with refused(400, code):
            case.vaults.create_secret(models.CreateSecretDetails(**{**right, **where, **changes}))
    # The current version, none, a promotion with content, a name of content that is taken.
    for details in (
        {"current_version_number": 1},
        {"current_version_number": 7},
        {"secret_content": content_of("g2"), "current_version_number": 1},
        {"secret_content": content_of("g1", "PENDING")},
    ):
        with refused(400, "InvalidParameter"):
            case.vaults.update_secret(secret, models.UpdateSecretDetails(**details))
    assert case.stages(secret) == {1: ["CURRENT", "LATEST"]}


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
    [(None, 30, timedelta()), (START + DAY, 1, timedelta(hours=12))],
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


def test_versions_come_in_pages_newest_first_without_their_content(case: OciCase, secret: str) -> None:
    case.sandbox.vault.behaviour.page_size = 3
    first = case.vaults.list_secret_versions(secret)
    assert ([version.version_number for version in first.data], first.has_next_page) == ([5, 4, 3], True)
    assert [version.version_number for version in case.versions(secret)] == [5, 4, 3, 2, 1]
    shown = f"{first.data} {case.vaults.get_secret(secret).data} {case.sandbox.vault} {case.sandbox.calls.records}"
    assert content_of("g4").content not in shown


def test_a_bundle_by_its_place(case: OciCase, secret: str) -> None:
    bundles: list[tuple[dict[str, Any], str]] = [
        ({}, "g4"),
        *(
            ({"stage": stage}, name)
            for stage, name in (("CURRENT", "g4"), ("PENDING", "g5"), ("LATEST", "g5"))
        ),
        *(({"stage": stage}, name) for stage, name in (("PREVIOUS", "g3"), ("DEPRECATED", "g2"))),
        ({"version_number": 1}, "g1"),
        ({"secret_version_name": "g5"}, "g5"),
    ]
    for choice, name in bundles:
        assert case.content(secret, **choice) == f"value {name}", choice
    with refused(404, "NotAuthorizedOrNotFound"):
        case.content(secret, version_number=9)
