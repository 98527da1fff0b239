"""Every lock has one claim at a time, which goes through its phases once (protocol I4, L14, O7)."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from lockstep.protocol.errors import FenceLostError
from lockstep.protocol.model import ClaimKind, Lease
from lockstep.protocol.ports import Lock
from tests.contract.harness import LockHarness
from tests.contract.lock_case import (
    FACTORIES,
    INTERVAL,
    LEASE,
    NOW,
    PLAN,
    SECOND,
    acquired,
    claim,
    claim_of,
    promoting,
    rotated,
)


@pytest.fixture(params=FACTORIES)
def world(request: pytest.FixtureRequest) -> Iterator[LockHarness]:
    with FACTORIES[request.param]() as harness:
        yield harness


@pytest.fixture
def lock(world: LockHarness) -> Lock:
    """The lock, after the order that makes the plan active."""
    world.order(activate=PLAN)
    return world.lock


# Claiming


@pytest.mark.parametrize("kind", list(ClaimKind))
def test_a_claim_is_read_back_as_it_was_made_and_is_open(lock: Lock, kind: ClaimKind) -> None:
    lease = acquired(lock)
    made = claim(lock, lease, structs.replace(claim_of(lease, base=4), kind=kind))
    record = lock.read()
    assert (record.claim, record.promoting, record.highest_generation) == (made, False, lease.fence)


def test_a_repeated_claim_succeeds(lock: Lock) -> None:
    lease, seen = acquired(lock), lock.read()
    for _ in range(2):
        claim(lock, lease, over=seen)
    assert lock.read().claim == claim_of(lease)


def test_what_stores_serve_is_alive_from_the_claim_on(lock: Lock) -> None:
    lease = acquired(lock)
    claim(lock, lease, served=(3, 4))
    assert lock.read().alive == {3, 4}
    lease = acquired(lock)
    claim(lock, lease, claim_of(lease), served=(4, 5))
    assert lock.read().alive == {3, 4, 5}


@pytest.mark.parametrize("change", [{"base_generation": 9}, {"kind": ClaimKind.HEAL}, {"generation": 2}])
def test_a_claim_over_less_than_the_record_has_changes_nothing(
    lock: Lock, change: dict[str, int | ClaimKind]
) -> None:
    """Between the read and the write another claim came: a decision is never made over what was not seen."""
    lease, seen = acquired(lock), lock.read()
    claim(lock, lease, over=seen)
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(claim_of(lease), **change), over=seen)
    assert lock.read().claim == claim_of(lease)


def test_a_claim_outlives_its_run_and_is_adopted_unchanged(lock: Lock) -> None:
    first = acquired(lock)
    claim(lock, first)
    second = acquired(lock, "oci-1", at=NOW + LEASE + SECOND)
    adopted = lock.read().claim
    assert adopted == claim_of(first)
    assert lock.require(second, adopted, promoting=False, now=NOW + LEASE).claim == adopted


@pytest.mark.parametrize("is_promoting", [False, True])
def test_a_claim_that_was_seen_is_replaced_by_an_open_one(
    lock: Lock,
    is_promoting: bool,  # noqa: FBT001 - a row of the table
) -> None:
    first = acquired(lock)
    made = claim(lock, first)
    if is_promoting:
        promoting(lock, first, made)
    second, seen = acquired(lock), lock.read()
    for _ in range(2):
        claim(lock, second, over=seen)
    record = lock.read()
    assert (record.claim, record.promoting, record.highest_generation) == (claim_of(second), False, 2)


def test_a_claim_that_went_into_promotion_since_it_was_seen_stays(lock: Lock) -> None:
    """A store may serve it by now, so what was decided over an open claim no longer holds (protocol L6)."""
    lease = acquired(lock)
    made = claim(lock, lease)
    seen = lock.read()
    promoting(lock, lease, made)
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(made, generation=2), over=seen)
    assert (lock.read().claim, lock.read().promoting) == (made, True)


def test_a_claim_that_is_open_again_since_it_was_seen_in_promotion_stays(lock: Lock) -> None:
    lease = acquired(lock)
    first = promoting(lock, lease)
    seen = lock.read()
    second = claim(lock, lease, structs.replace(first, generation=2))
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(first, generation=3), over=seen)
    assert lock.read().claim == second


def test_a_claim_over_one_that_is_gone_changes_nothing(lock: Lock) -> None:
    lease = acquired(lock)
    seen = replace(lock.read(), claim=claim_of(lease))
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(claim_of(lease), generation=2), over=seen)
    assert lock.read().claim is None


def test_a_generation_is_never_claimed_twice(lock: Lock) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(claim_of(lease), generation=1))
    assert lock.read().claim is None


def test_a_claim_needs_the_lock(lock: Lock) -> None:
    stranger = Lease(credential_id=lock.read().credential_id, holder="aws-1", fence=1)
    with pytest.raises(FenceLostError):
        claim(lock, stranger)
    assert lock.read().claim is None


# The active plan (protocol I10, O7)


def test_the_first_claim_makes_the_ordered_plan_active(lock: Lock) -> None:
    lease, seen = acquired(lock), lock.read()
    assert (seen.plan, seen.activate) == (None, PLAN)
    for _ in range(2):
        claim(lock, lease, over=seen)
    assert (lock.read().plan, lock.read().activate) == (PLAN, None)


def test_a_claim_under_a_plan_that_is_neither_active_nor_ordered_changes_nothing(
    world: LockHarness, lock: Lock
) -> None:
    lease = acquired(lock)
    with pytest.raises(FenceLostError):
        claim(lock, lease, plan="of-another-plan")
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    world.order(activate="of-a-third-plan")
    before = lock.read()
    with pytest.raises(FenceLostError):
        claim(lock, lease, plan="of-another-plan")
    assert lock.read() == before


def test_an_order_to_activate_another_plan_outlives_a_claim_under_the_active_one(
    world: LockHarness, lock: Lock
) -> None:
    rotated(lock)
    world.order(activate="of-another-plan")
    lease = acquired(lock, at=NOW + INTERVAL)
    claim(lock, lease)
    assert (lock.read().plan, lock.read().activate) == (PLAN, "of-another-plan")
    claim(lock, lease, structs.replace(claim_of(lease), generation=9), plan="of-another-plan")
    assert (lock.read().plan, lock.read().activate) == ("of-another-plan", None)


@pytest.mark.parametrize("order", [None, "of-a-third-plan"])
def test_an_activation_that_was_changed_since_it_was_seen_does_not_happen(
    world: LockHarness, lock: Lock, order: str | None
) -> None:
    lease, seen = acquired(lock), lock.read()
    world.order(activate=order)
    with pytest.raises(FenceLostError):
        claim(lock, lease, over=seen)
    record = lock.read()
    assert (record.plan, record.activate, record.claim) == (None, order, None)


def test_a_claim_under_a_plan_that_was_active_when_it_was_seen_changes_nothing(
    world: LockHarness, lock: Lock
) -> None:
    rotated(lock)
    lease = acquired(lock, at=NOW + INTERVAL)
    seen = lock.read()
    world.order(activate="of-another-plan")
    other = claim(lock, lease, plan="of-another-plan")
    with pytest.raises(FenceLostError):
        claim(lock, lease, structs.replace(other, generation=9), over=replace(seen, claim=other))
    assert lock.read().claim == other


# Promoting (protocol L14)


def test_a_promotion_begins_once_and_its_generation_is_alive(lock: Lock) -> None:
    lease = acquired(lock)
    made = claim(lock, lease, served=(4,))
    for _ in range(2):
        assert lock.begin_promotion(lease, made, now=NOW) == lock.read()
    record = lock.read()
    assert (record.claim, record.promoting, record.alive) == (made, True, frozenset({1, 4}))


@pytest.mark.parametrize("change", [{"generation": 2}, {"rotation_id": "another"}])
def test_a_claim_that_is_not_in_the_record_is_not_promoted(lock: Lock, change: dict[str, Any]) -> None:
    lease = acquired(lock)
    with pytest.raises(FenceLostError):
        lock.begin_promotion(lease, claim_of(lease), now=NOW)
    made = claim(lock, lease)
    with pytest.raises(FenceLostError):
        lock.begin_promotion(lease, structs.replace(made, **change), now=NOW)
    assert not lock.read().promoting


@pytest.mark.parametrize("late", [timedelta(0), SECOND])
def test_no_promotion_begins_from_the_end_of_the_lease_on(lock: Lock, late: timedelta) -> None:
    lease = acquired(lock)
    made = claim(lock, lease)
    with pytest.raises(FenceLostError):
        lock.begin_promotion(lease, made, now=NOW + LEASE + late)
    assert not lock.read().promoting


def test_a_promotion_shows_the_orders_that_came_since(world: LockHarness, lock: Lock) -> None:
    lease = acquired(lock)
    made = claim(lock, lease)
    world.order(revoke_through=7, paused=True)
    record = lock.begin_promotion(lease, made, now=NOW)
    assert (record.revoke_through, record.paused) == (7, True)


# Muting (protocol L15)


def test_muted_databases_add_up(lock: Lock) -> None:
    lease = acquired(lock)
    lock.mute(lease, ["db-2", "db-1"])
    lock.mute(lease, ["db-2", "db-3"])
    assert lock.read().muted == {"db-1", "db-2", "db-3"}
