"""The two caps of 30 versions, and what they do to a rotation every 20 minutes."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from tests.sandbox.oci_case import OciCase, refused

INTERVAL = timedelta(minutes=20)
RUNS_IN_TWO_DAYS = 2 * 72
RETENTION = timedelta(hours=24, minutes=10)


@pytest.fixture
def case() -> Iterator[OciCase]:
    with OciCase() as case:
        yield case


@dataclass
class Outcome:
    """How two days of rotations went: until when they succeeded, and whether a deletion could not be scheduled."""

    wedged_after: timedelta | None = None
    pruning_was_refused: bool = False


def rotate_for_two_days(case: OciCase, ring: list[str], *, prunes: bool) -> Outcome:
    """Stage, promote, and schedule what is deprecated for deletion, as a runner does."""
    outcome = Outcome()
    for run in range(RUNS_IN_TWO_DAYS):
        slot = ring[run % len(ring)]
        try:
            case.upload(slot, f"g{run + 2}", "PENDING")
        except oci.exceptions.ServiceError as error:
            if error.code != "LimitExceeded":
                raise
            outcome.wedged_after = run * INTERVAL
            return outcome
        case.promote(slot, next(iter(case.stages(slot))))
        if prunes and not prune(case, slot):
            outcome.pruning_was_refused = True
        case.sandbox.clock.advance(INTERVAL)
    return outcome


def prune(case: OciCase, slot: str) -> bool:
    """Schedule what can be scheduled; whether all could."""
    for version in case.versions(slot):
        if version.stages == ["DEPRECATED"] and version.time_of_deletion is None:
            try:
                case.schedule(slot, version.version_number, case.sandbox.clock.now() + RETENTION)
            except oci.exceptions.ServiceError as error:
                if error.code != "LimitExceeded":
                    raise
                return False
    return True


def test_thirty_versions_in_use(case: OciCase) -> None:
    secret = case.create()
    for number in range(2, 31):
        case.upload(secret, f"g{number}")
    with refused(400, "LimitExceeded"):
        case.upload(secret, "g31")
    case.schedule(secret, 1, None)
    case.upload(secret, "g31")
    with refused(400, "LimitExceeded"):
        case.vaults.cancel_secret_version_deletion(secret, 1)


def test_thirty_versions_pending_deletion(case: OciCase) -> None:
    secret = case.create()
    for number in range(2, 34):
        case.upload(secret, f"g{number}")
        if (deprecated := number - 3) > 0:
            case.schedule(secret, deprecated, None)
    case.upload(secret, "g34")
    with refused(400, "LimitExceeded"):
        case.schedule(secret, 31, None)


def test_an_unpruned_secret_wedges_in_ten_hours(case: OciCase) -> None:
    outcome = rotate_for_two_days(case, [case.create()], prunes=False)
    assert outcome.wedged_after == timedelta(hours=9, minutes=40)


def test_a_pruned_secret_wedges_in_twenty_hours(case: OciCase) -> None:
    outcome = rotate_for_two_days(case, [case.create()], prunes=True)
    assert outcome.wedged_after == timedelta(hours=19, minutes=40)


def new_ring(case: OciCase, slots: int) -> list[str]:
    return [case.create(f"multi-cloud.app_user.{slot}") for slot in range(slots)]


@pytest.mark.parametrize("lateness", [timedelta(), timedelta(hours=12)])
def test_a_ring_of_four_holds_even_where_purges_are_late(case: OciCase, lateness: timedelta) -> None:
    case.sandbox.vault.behaviour.purge_lateness = lateness
    assert rotate_for_two_days(case, new_ring(case, 4), prunes=True) == Outcome()


def test_a_ring_of_three_has_no_room_for_late_purges(case: OciCase) -> None:
    case.sandbox.vault.behaviour.purge_lateness = timedelta(hours=12)
    assert rotate_for_two_days(case, new_ring(case, 3), prunes=True).pruning_was_refused
