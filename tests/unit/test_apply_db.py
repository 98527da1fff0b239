"""ApplyDb: a database accepts pending beside base, proven by logins, or is not changed (protocol D2, D3, D7)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from functions.apply_db import step as apply_db
from lockstep.errors import (
    AdminCredentialRejectedError,
    AdvisoryLockBusyError,
    CurrentCredentialRejectedError,
    DatabaseUnreachableError,
    FenceLostError,
    InvalidRequestError,
    PasswordRefusedByPolicyError,
    PendingCredentialRejectedError,
    PreviousCredentialAcceptedError,
    StagedValueConflictError,
)
from lockstep.messages import (
    ApplyRequest,
    CandidateRef,
    DatabaseOutcome,
    DatabaseResult,
    PreviousProof,
    ProbeResult,
)
from lockstep.model import Claim, ClaimKind, Strategy
from tests.support.memory import MemoryWorld, make_plan
from tests.unit.flights import Flight, both_strategies
from tests.unit.harness import (
    another_login,
    applied,
    at_every_boundary,
    edit,
    generated,
    held,
    interrupted,
    known_logins,
    login_of,
    shown,
    undisturbed,
)

# Applying


@both_strategies
def test_pending_and_base_log_in_afterwards_and_previous_does_not(strategy: Strategy) -> None:
    flight = Flight(strategy)
    assert flight.lets_in(1)
    assert flight.apply() == DatabaseResult(
        database="db-1", outcome=DatabaseOutcome.APPLIED, previous=PreviousProof.REFUSED
    )
    assert (flight.lets_in(3), flight.lets_in(2), flight.lets_in(1)) == (True, True, False)
    assert known_logins(flight.world)["db-2"] == {shown(login_of(flight.world, g)) for g in (1, 2)}


def test_a_plaintext_connection_is_reported() -> None:
    flight = Flight()
    flight.database.plaintext = True
    assert flight.apply().plaintext


@both_strategies
def test_the_change_is_made_under_the_advisory_lock_after_the_fence_was_read(strategy: Strategy) -> None:
    flight = Flight(strategy)
    seen: list[str] = []
    at_every_boundary(flight.world, seen.append)
    flight.apply()
    undisturbed(flight.world)
    assert [b.removeprefix("before ") for b in seen if b.startswith(("before db-1", "before lock"))] == [
        "db-1 lock",
        "db-1 accepts",  # pending
        "db-1 accepts",  # base
        "lock require",
        "db-1 stage",
        "db-1 accepts",  # pending
        "db-1 accepts",  # base
        "db-1 accepts",  # previous
    ]


@both_strategies
def test_a_repeated_step_changes_nothing(strategy: Strategy) -> None:
    flight = Flight(strategy)
    flight.apply()
    before = known_logins(flight.world)
    assert flight.apply() == DatabaseResult(
        database="db-1", outcome=DatabaseOutcome.ALREADY_APPLIED, previous=PreviousProof.REFUSED
    )
    assert known_logins(flight.world) == before


@both_strategies
def test_a_twin_at_any_boundary_does_no_harm(strategy: Strategy) -> None:
    at = 0
    outcomes: set[str] = set()
    while True:
        flight = Flight(strategy)
        twin = interrupted(flight.world, at, partial(_outcome, flight))
        flight.apply()
        undisturbed(flight.world)
        if twin.result is None:
            break
        outcomes.add(twin.result)
        assert flight.apply().outcome is DatabaseOutcome.ALREADY_APPLIED
        assert (flight.lets_in(3), flight.lets_in(2), flight.lets_in(1)) == (True, True, False)
        at += 1
    # While the first invocation holds the advisory lock, the twin fails with a retryable error.
    assert outcomes == {"applied", "AdvisoryLockBusyError"}


def _outcome(flight: Flight) -> str:
    try:
        return flight.apply().outcome.value
    except AdvisoryLockBusyError as e:
        return type(e).__name__


@both_strategies
def test_after_a_placeholder_only_the_first_generation_logs_in(strategy: Strategy) -> None:
    world = MemoryWorld.create(make_plan(strategy=strategy), placeholder=True)
    world.databases["db-1"].accounts[world.credential.usernames[0]].passwords = ("of-old",)
    rotation = held(world)
    _, claim = generated(world, rotation)
    applied(world, rotation, claim)
    assert set(known_logins(world)["db-1"]) == {shown(login_of(world, 1))}


@both_strategies
def test_a_healed_value_is_proven_and_nothing_is_changed(strategy: Strategy) -> None:
    flight = Flight(strategy)
    flight.apply()
    healed = replace(flight.claim, kind=ClaimKind.HEAL, previous_generation=None)
    before = known_logins(flight.world)
    result = flight.apply(claim=healed)
    assert (result.outcome, result.previous) == (DatabaseOutcome.ALREADY_APPLIED, PreviousProof.NONE)
    assert known_logins(flight.world) == before


def test_a_healed_value_that_no_longer_logs_in_is_an_error() -> None:
    flight = Flight()
    healed = replace(flight.claim, kind=ClaimKind.HEAL)
    before = known_logins(flight.world)
    with pytest.raises(CurrentCredentialRejectedError):
        flight.apply(claim=healed)
    assert known_logins(flight.world) == before


# Errors that change nothing


def _base_was_changed(flight: Flight) -> None:
    flight.database.accounts["app"].passwords = ("changed-by-hand",)


def _lease_ended(flight: Flight) -> None:
    flight.world.clock.sleep(900)


def _claim_was_replaced(flight: Flight) -> None:
    record = flight.world.lock.record
    flight.world.lock.record = replace(record, claim=replace(flight.claim, generation=4))


def _unreachable(flight: Flight) -> None:
    flight.database.unreachable = True


def _admin_refused(flight: Flight) -> None:
    flight.database.admin_refused = True


def _policy_refuses(flight: Flight) -> None:
    flight.database.refuses = lambda _password: True


def _never_staged(flight: Flight) -> None:
    for store in flight.world.stores.values():
        for secret in store._secrets.values():
            del secret.versions["generation-3"]


def _base_is_gone(flight: Flight) -> None:
    for store in flight.world.stores.values():
        edit(store, another_login(flight.world))
        for secret in store._secrets.values():
            secret.versions.pop("generation-2", None)


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (_base_was_changed, CurrentCredentialRejectedError),
        (Flight.overtaken, FenceLostError),
        (_lease_ended, FenceLostError),
        (_claim_was_replaced, FenceLostError),
        (_unreachable, DatabaseUnreachableError),
        (_admin_refused, AdminCredentialRejectedError),
        (_policy_refuses, PasswordRefusedByPolicyError),
        (_never_staged, StagedValueConflictError),
        (_base_is_gone, CurrentCredentialRejectedError),
    ],
)
def test_an_error_before_the_change_leaves_the_database_as_it_was(
    trouble: Callable[[Flight], None], error: type[Exception]
) -> None:
    flight = Flight()
    trouble(flight)
    before = known_logins(flight.world)
    with pytest.raises(error):
        flight.apply()
    assert known_logins(flight.world) == before


def test_a_busy_advisory_lock_is_an_error_and_is_free_after_a_failure() -> None:
    flight = Flight()
    with flight.database.exclusive(), pytest.raises(AdvisoryLockBusyError):
        flight.apply()
    _base_was_changed(flight)
    with pytest.raises(CurrentCredentialRejectedError):
        flight.apply()
    with flight.database.exclusive():
        pass


def test_a_database_that_is_not_in_the_plan_is_an_invalid_request() -> None:
    flight = Flight()
    request = ApplyRequest(rotation=flight.rotation, claim=flight.claim, database="db-9")
    with pytest.raises(InvalidRequestError):
        apply_db.run(request, flight.world.ports())


# The proofs


def _after_staging(flight: Flight, change: Callable[[], None]) -> None:
    def hook(operation: str) -> None:
        if operation == "stage":
            change()

    flight.database.faults.after = hook


def test_a_pending_value_that_does_not_log_in_after_staging_is_an_error() -> None:
    flight = Flight()
    base = login_of(flight.world, 2).password.reveal()
    _after_staging(flight, lambda: flight.database.set_passwords("app", base))
    with pytest.raises(PendingCredentialRejectedError):
        flight.apply()


def test_a_base_that_does_not_log_in_after_staging_is_an_error() -> None:
    flight = Flight()
    pending = login_of(flight.world, 3).password.reveal()
    _after_staging(flight, lambda: flight.database.set_passwords("app", pending))
    with pytest.raises(CurrentCredentialRejectedError):
        flight.apply()


def test_a_repeated_step_does_not_need_base() -> None:
    flight = Flight()
    flight.apply()
    flight.database.set_passwords("app", login_of(flight.world, 3).password.reveal())
    assert flight.apply().outcome is DatabaseOutcome.ALREADY_APPLIED


def test_a_previous_value_that_still_logs_in_is_an_error() -> None:
    flight = Flight()
    passwords = [login_of(flight.world, g).password.reveal() for g in (3, 2, 1)]
    _after_staging(flight, lambda: flight.database.set_passwords("app", *passwords))
    with pytest.raises(PreviousCredentialAcceptedError):
        flight.apply()


def test_a_previous_value_that_no_store_holds_is_unreadable() -> None:
    flight = Flight()
    for store in flight.world.stores.values():
        del store._secrets["app_user"].versions["generation-1"]
    assert flight.apply().previous is PreviousProof.UNREADABLE


def test_a_previous_value_equal_to_base_needs_no_proof() -> None:
    flight = Flight()
    assert flight.apply(claim=_with_claim(flight, previous_generation=2)).previous is PreviousProof.NONE


def _with_claim(flight: Flight, **changes: int | None) -> Claim:
    claim = replace(flight.claim, **changes)  # type: ignore[arg-type]  # the test names an int field
    flight.world.lock.record = replace(flight.world.lock.record, claim=claim)
    return claim


# Probing


def test_a_probe_reports_whether_each_candidate_logs_in_and_changes_nothing() -> None:
    flight = Flight()
    world = flight.world
    edit(world.stores["oci"], another_login(world))
    version = world.stores["oci"].read_current().version
    before = known_logins(world), world.lock.record
    candidates = (
        CandidateRef(store="aws", version=world.stores["aws"].version_of(2)),
        CandidateRef(store="oci", version=version),
        CandidateRef(store="aws", version="gone"),
    )
    assert flight.probe(*candidates) == ProbeResult(database="db-1", accepted=(True, False, False))
    assert (known_logins(world), world.lock.record) == before


def test_a_probe_of_an_unreachable_database_is_an_error() -> None:
    flight = Flight()
    flight.database.unreachable = True
    with pytest.raises(DatabaseUnreachableError):
        flight.probe(CandidateRef(store="aws", version=flight.world.stores["aws"].version_of(2)))


def test_a_probe_of_a_store_that_is_not_in_the_plan_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequestError):
        Flight().probe(CandidateRef(store="gcp", version="1"))
