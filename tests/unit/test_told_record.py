"""Generate decides by the record that taking the lock has told, until something shows that it is old (protocol L16)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from functions.generate import step as generate
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.errors import (
    FenceLostError,
    PlanNotActiveError,
    StoreUnreachableError,
    TakeOverNeededError,
)
from lockstep.protocol.messages import GenerateRequest, GenerateResult, ProbeNeeded, Rotation, Staged
from lockstep.protocol.model import Claim, ClaimKind, LockRecord, Strategy
from tests.support.memory import PLACEHOLDER_TEXT, MemoryWorld
from tests.unit.flights import both_strategies, dies, steady
from tests.unit.harness import (
    applied,
    at_every_boundary,
    held,
    known_logins,
    orders,
    revokes_everything,
    rotate,
    undisturbed,
    updated,
)


def told(world: MemoryWorld, rotation_id: str = "third") -> tuple[Rotation, dict[str, Any]]:
    """A run that has just acquired the lock, and the record at that time."""
    rotation = held(world, rotation_id)
    return rotation, {"record": world.lock.record}


def run(world: MemoryWorld, rotation: Rotation, record: dict[str, Any]) -> GenerateResult:
    return generate.run(GenerateRequest(rotation=rotation, record=record), world.ports(rotation.runner))


def staged(world: MemoryWorld, rotation: Rotation, record: dict[str, Any]) -> Staged:
    result = run(world, rotation, record)
    assert isinstance(result, Staged)
    return result


def calls_of_the_lock(world: MemoryWorld) -> list[str]:
    """The operations of the lock from now on."""
    seen: list[str] = []
    world.lock.faults.before = seen.append
    return seen


def is_in_an_emergency(world: MemoryWorld) -> bool:
    return world.lock.record.is_revoking


def fails_once(world: MemoryWorld, boundary: str) -> None:
    """Let a store fail at a boundary, once."""

    def hook(at: str) -> None:
        if at == boundary:
            undisturbed(world)
            raise StoreUnreachableError

    at_every_boundary(world, hook)


def test_a_new_generation_needs_no_read_of_the_record() -> None:
    world = steady()
    rotation, record = told(world)
    seen = calls_of_the_lock(world)
    staged(world, rotation, record)
    assert seen == ["claim"]


@pytest.mark.parametrize("runner", ["aws", "oci"])
def test_the_whole_run_reads_it_in_no_step(runner: str) -> None:
    world = steady()
    world.clock.sleep(1200)
    seen = calls_of_the_lock(world)
    rotate(world, "third", runner=runner)
    assert seen[:2] == ["acquire", "claim"]
    assert "read" not in seen


# The record has changed since: an earlier call of the same step


@both_strategies
@pytest.mark.parametrize(
    "boundary", ["before aws stage app_user", "after aws stage app_user", "before oci stage app_user"]
)
def test_a_second_try_finds_its_own_claim_and_keeps_its_value(strategy: Strategy, boundary: str) -> None:
    world = steady(strategy)
    rotation, record = told(world)
    fails_once(world, boundary)
    with pytest.raises(StoreUnreachableError):
        run(world, rotation, record)
    before = next(iter(world.stores.values())).read_generation(3)
    result = staged(world, rotation, record)
    assert result.claim == world.lock.record.claim
    assert (result.claim.generation, result.adopted_from) == (3, None)
    values = [store.read_generation(3) for store in world.stores.values()]
    assert values[0] == values[1] == (before or values[0])


@both_strategies
def test_a_second_try_after_an_adopted_claim_was_replaced_adopts_the_new_one(strategy: Strategy) -> None:
    """The look at the adopted claim is refused, as the record is old: it is read, and decides."""
    world = steady(strategy)
    dies(world, "after lock claim")
    rotation, record = told(world, "fourth")
    first = staged(world, rotation, record)
    replaced = generate.run(
        GenerateRequest(rotation=rotation, refused=first.claim.generation), world.ports(rotation.runner)
    )
    assert isinstance(replaced, Staged)
    assert staged(world, rotation, record).claim == replaced.claim == world.lock.record.claim


def test_what_was_decided_by_an_old_record_is_not_claimed_over_a_promotion() -> None:
    """A call that was left behind wakes up while its run promotes (protocol I4)."""
    world = steady()
    rotation, record = told(world)
    first = staged(world, rotation, record)
    applied(world, first)
    updated(world, first)
    before = world.lock.record
    assert before.promoting
    assert isinstance(run(world, rotation, record), ProbeNeeded)
    assert world.lock.record == before


def test_a_run_that_lost_the_lock_claims_nothing_by_the_record_that_it_was_told() -> None:
    world = steady()
    rotation, record = told(world)
    world.clock.sleep(LEASE.total_seconds() + 1)
    held(world, "taker", runner="oci")
    before = world.lock.record
    seen = calls_of_the_lock(world)
    with pytest.raises(FenceLostError):
        run(world, rotation, record)
    assert (world.lock.record, seen) == (before, ["claim", "read", "claim"])


# The record has changed since: an operator's order


def test_an_emergency_that_is_not_seen_is_answered_by_the_run_or_by_the_next() -> None:
    world = steady()
    dies(world, "after aws stage app_user")  # Generation 3 may have leaked.
    rotation, record = told(world, "fourth")
    revokes_everything(world)
    old = staged(world, rotation, record)
    assert old.claim.generation == 3
    applied(world, old)
    assert not updated(world, old).revoke
    assert is_in_an_emergency(world)
    world.lock.release(rotation.lease, None)
    world.clock.sleep(1)
    assert rotate(world, "fifth").outcome == "rotated"  # The promotion is reconciled,
    assert rotate(world, "sixth").outcome == "rotated"  # and then all but a new value are ended.
    assert not is_in_an_emergency(world)
    assert all(len(known) == 1 for known in known_logins(world).values())


def test_an_activation_that_was_withdrawn_makes_no_plan_active() -> None:
    world = steady()
    plan = world.lock.record.plan
    orders(world, plan="the-old-one", activate=plan)
    rotation, record = told(world)
    orders(world, activate=None)
    needed = run(world, rotation, record)
    assert isinstance(needed, ProbeNeeded)
    with pytest.raises(PlanNotActiveError):
        generate.run(
            GenerateRequest(rotation=needed.rotation, record=record, winner=needed.candidates[0]),
            world.ports("aws"),
        )
    assert (world.lock.record.plan, world.lock.record.claim) == ("the-old-one", None)


# A record that somebody has made up


OPEN_RECONCILE = Claim(kind=ClaimKind.RECONCILE, generation=3, base_generation=2, rotation_id="dead")


@pytest.mark.parametrize(
    "forged",
    [
        lambda r: replace(r, claim=None),
        lambda r: replace(r, claim=structs.replace(OPEN_RECONCILE, kind=ClaimKind.NEW, base_generation=1)),
        lambda r: replace(r, claim=structs.replace(OPEN_RECONCILE, rotation_id="third")),
        lambda r: replace(r, highest_generation=0, claim=None),
    ],
)
def test_a_forged_record_replaces_no_claim(forged: Callable[[LockRecord], LockRecord]) -> None:
    world = steady()
    orders(world, claim=OPEN_RECONCILE, highest_generation=3)
    rotation, record = told(world)
    before = world.lock.record
    assert isinstance(run(world, rotation, {"record": forged(record["record"])}), ProbeNeeded)
    assert world.lock.record == before


def test_forged_consent_takes_no_account_over() -> None:
    world = MemoryWorld.create()
    for store in world.stores.values():
        store.edit("app_user", PLACEHOLDER_TEXT)
    rotation, record = told(world)
    before = known_logins(world)
    forged = replace(record["record"], take_over=frozenset(world.databases))
    with pytest.raises(TakeOverNeededError):
        applied(world, staged(world, rotation, {"record": forged}))
    assert known_logins(world) == before
