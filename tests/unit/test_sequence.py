"""Runs of the standby's sequence: when they begin, and how they end. `tests/oci_fn` compares it with the machine."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from typing import NoReturn

import pytest
from msgspec import structs

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.update_secrets import step as update_secrets
from lockstep.protocol import errors
from lockstep.protocol.model import Strategy
from tests.support import world as w
from tests.unit.flights import Flight, both_strategies, run_generate, steady

# When a run may begin


@pytest.mark.parametrize(
    ("minutes", "force", "outcome"),
    [(18.5, False, "skipped"), (18.5, True, "rotated"), (30, False, "rotated")],
)
def test_the_standby_rotates_what_aws_has_left_and_leaves_what_falls_due_after_its_turn(
    minutes: float, outcome: str, *, force: bool
) -> None:
    # (protocol R8)
    world = w.make_world()
    w.rotate(world, "first")
    world.clock.sleep(minutes * 60 - 600)
    with (
        w.struck(world, {"before db-2 lock": errors.DatabaseUnreachableError}),
        suppress(errors.LockstepError),
    ):
        w.rotate(world, "second")
    world.clock.sleep(600)
    before = world.lock.record
    assert w.rotate(world, "standby", runner="oci", force=force).outcome == outcome
    assert outcome == "rotated" or world.lock.record == before


# Runs that fail


@pytest.mark.parametrize("step", ["apply_db", "update_secrets", "audit"])
def test_a_deployment_between_two_steps_ends_the_run_and_the_next_run_converges(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps of one run must not act under two plans (protocol I10)."""
    world = steady()
    module = {"apply_db": apply_db, "update_secrets": update_secrets, "audit": audit}[step]
    run, deployed = module.run, structs.replace(world.credential, plan_digest="of-another-plan")
    monkeypatch.setattr(
        module, "run", lambda request, ports: run(request, replace(ports, credential=deployed))
    )
    with pytest.raises(errors.PlanNotActiveError):
        w.rotate(world, "third")
    monkeypatch.undo()
    assert world.locked_out() == []
    world.credential = deployed
    with pytest.raises(errors.PlanNotActiveError):
        w.rotate(world, "not-active-yet")
    w.activates(world)
    w.assert_in_sync(world, w.rotate(world, "activation").generation)
    w.assert_in_sync(world, w.rotate_again(world, "following").generation)


@both_strategies
def test_a_refusal_by_policy_ends_the_run_and_its_claim_is_finished_later(
    strategy: Strategy,
) -> None:
    world = steady(strategy)
    world.databases["db-2"].refuses = lambda _password: True
    with pytest.raises(errors.PasswordRefusedByPolicyError):
        w.rotate(world, "third")
    assert world.locked_out() == []
    assert (world.lock.record.holder, world.lock.record.current_generation) == (None, 2)
    world.databases["db-2"].refuses = lambda _password: False
    assert w.rotate_again(world, "fourth", runner="oci").generation == 3
    w.assert_in_sync(world, 3)
    live = {w.shown(w.login_of(world, generation)) for generation in (2, 3)}
    assert w.known_logins(world) == {"db-1": live, "db-2": live}


@both_strategies
def test_an_account_is_never_refused_twice_in_a_row(strategy: Strategy) -> None:
    """A server may lock it after a few: rotations, each after a run that died around a login (protocol D18)."""
    world = steady(strategy)
    logins = 8  # Of one database in one run.
    for number in range(2 * logins):
        left = count(number, -1)

        def dies_at_a_login(boundary: str, left: Iterator[int] = left) -> None:
            if boundary.endswith("accepts") and next(left) <= 0:
                raise w.Killed

        w.at_every_boundary(world, dies_at_a_login)
        with suppress(w.Killed):
            w.rotate(world, f"dies-{number}", runner="oci")
        w.undisturbed(world)
        w.assert_in_sync(world, w.rotate_again(world, f"run-{number}").generation)
        world.clock.sleep(w.INTERVAL_SECONDS)
    assert [d.refusals.most for d in world.databases.values()] == [1, 1]


def _stage(flight: Flight) -> str:
    staged = run_generate(flight.world, flight.rotation)
    values = {w.shown(store.read_generation(3).login) for store in flight.world.stores.values()}  # type: ignore[union-attr]  # it is staged
    assert (staged.claim, len(values)) == (flight.world.lock.record.claim, 1)
    return "staged"


def _apply(flight: Flight) -> str:
    return flight.apply().outcome.value


def _promote(flight: Flight) -> str:
    assert len(flight.promote().stores) == 2
    return "promoted"


STEPS: dict[str, tuple[Callable[[Flight], str], set[str], list[bool], int]] = {
    "Generate": (_stage, {"staged"}, [False, True, True], 2),
    "ApplyDb": (_apply, {"applied", "AdvisoryLockBusyError"}, [True, True, False], 2),
    "UpdateSecrets": (_promote, {"promoted"}, [True, True, False], 3),
}
"""What a step does, what becomes of its twin, which of 3, 2, 1 log in afterwards, and what the stores serve."""


@pytest.mark.parametrize("step", STEPS)
@both_strategies
def test_a_twin_of_a_step_at_any_boundary_does_no_harm(step: str, strategy: Strategy) -> None:
    """While the first invocation holds the advisory lock, the twin fails with an error that is tried again."""
    act, expected, lets_in, served = STEPS[step]

    def tried(flight: Flight) -> str:
        try:
            return act(flight)
        except (errors.AdvisoryLockBusyError, errors.LostCompareAndSetError) as e:
            return type(e).__name__

    outcomes = set[str]()
    for at in count():
        flight = Flight(strategy, is_staged=step != "Generate")
        if step == "UpdateSecrets":
            flight.apply()
        twin = w.interrupted(flight.world, at, partial(tried, flight))
        if tried(flight) not in expected:
            w.undisturbed(flight.world)
            act(flight)
        w.undisturbed(flight.world)
        if not twin.boundary:
            break
        outcomes.add(twin.result or "")
        assert flight.lets_in(3, 2, 1) == lets_in, twin.boundary
        assert {of[:2] for of in w.served(flight.world).values()} == {(served, served)}, twin.boundary
    assert outcomes == expected
    assert at >= 14


def test_a_run_out_of_time_records_its_failure_and_releases_the_lock() -> None:
    world = w.make_world(faults={"after db-1 lock": lambda: world.clock.sleep(400)})
    with pytest.raises(errors.DeadlineExceededError):
        w.rotate(world, "slow")
    w.undisturbed(world)
    assert world.lock.record.holder is None
    [entry] = w.entries(world, "aws")
    assert entry.event["status_code"] == "DeadlineExceededError"
    w.assert_in_sync(world, w.rotate_again(world, "next", runner="oci").generation)


def test_a_foreign_error_at_any_boundary_is_not_quoted_and_the_next_run_rotates() -> None:
    def fails() -> NoReturn:
        raise ValueError("hunter2")

    for at in count():
        world = steady()
        foreign = w.interrupted(world, at, fails)
        try:
            w.rotate(world, "third")
        except errors.UnexpectedError as e:
            shown = "".join(traceback.format_exception(e))
            assert "hunter2" not in shown, foreign.boundary
        w.undisturbed(world)
        if not foreign.boundary:
            break
        assert world.locked_out() == []
        w.assert_in_sync(world, w.rotate_again(world, "next").generation)
    assert at >= 80
