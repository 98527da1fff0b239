"""UpdateSecrets: every store is promoted and serves the generation (protocol U1, U3)."""

from datetime import timedelta

import pytest
from msgspec import structs

from lockstep.protocol.errors import FenceLostError, InvalidRequestError, LostCompareAndSetError
from lockstep.protocol.messages import StoreResult, UpdateResult
from lockstep.protocol.model import ClaimKind, Strategy
from tests.support import world as w
from tests.unit.flights import Flight, both_strategies


@pytest.fixture(name="flight", params=list(Strategy))
def _flight(request: pytest.FixtureRequest) -> Flight:
    """A world with generation 3, on base 2, applied to every database."""
    return _applied(request.param)


def _applied(strategy: Strategy = Strategy.DUAL_PASSWORD) -> Flight:
    flight = Flight(strategy)
    flight.apply()
    return flight


def _generations(flight: Flight) -> set[int]:
    return {g for user, blob, _ in w.served(flight.world).values() for g in (user, blob)}


def test_every_store_serves_it_in_both_secrets_once_the_claim_is_promoting(
    flight: Flight,
) -> None:
    seen: list[str] = []
    w.at_every_boundary(flight.world, seen.append)
    result = flight.promote()
    w.undisturbed(flight.world)
    assert _generations(flight) == {3}
    assert flight.world.locked_out() == []
    assert result == UpdateResult(
        stores=tuple(StoreResult(store=s, version="generation-3") for s in ("aws", "oci")),
        promoted_at=flight.world.clock.now(),
        revoke=False,
    )
    record = flight.world.lock.record
    assert (record.promoting, record.valid) == (True, frozenset({1, 2, 3}))
    writes = [b.removeprefix("before ") for b in seen if b.startswith("before") and "promot" in b]
    assert writes == ["lock begin_promotion"] + [
        f"{store} promote {secret}" for store in ("aws", "oci") for secret in ("app_user", "connection_blob")
    ]


def test_a_twin_at_any_boundary_does_no_harm() -> None:
    for at in range(100):
        flight = _applied()
        twin = w.interrupted(flight.world, at, flight.promote)
        try:
            flight.promote()
        except LostCompareAndSetError:
            w.undisturbed(flight.world)
            flight.promote()
        w.undisturbed(flight.world)
        if not twin.boundary:
            break
        assert _generations(flight) == {3}, twin.boundary
    assert 14 <= at < 99


@pytest.mark.parametrize("proven", [(), ("db-1",), ("db-2", "db-3")])
def test_less_than_every_database_promotes_nothing(flight: Flight, proven: tuple[str, ...]) -> None:
    """A database that never accepted the value would lock its applications out (protocol M3, I3)."""
    with pytest.raises(InvalidRequestError):
        w.updated(flight.world, flight.staged, proven)
    assert _generations(flight) == {2}
    assert not flight.world.lock.record.promoting


@pytest.mark.parametrize(
    ("through", "kind", "revokes"),
    [
        (None, ClaimKind.NEW, False),
        (0, ClaimKind.NEW, False),  # Fulfilled: nothing at or below it is valid.
        (2, ClaimKind.NEW, True),
        (3, ClaimKind.NEW, False),  # The value itself is to be revoked: another run makes a newer one.
        (2, ClaimKind.RECONCILE, False),
    ],
)
def test_an_emergency_order_is_fulfilled_by_a_newer_value_with_a_password_of_its_own(
    flight: Flight, through: int | None, kind: ClaimKind, *, revokes: bool
) -> None:
    claim = structs.replace(flight.staged.claim, kind=kind)
    w.orders(flight.world, revoke_through=through, claim=claim)
    flight.staged = structs.replace(flight.staged, claim=claim)
    assert flight.promote().revoke is revokes


# The lock


def test_a_run_that_is_overtaken_on_the_way_promotes_only_what_is_as_it_was_seen(flight: Flight) -> None:
    """One conditional write comes before all stores. A store that must be looked at needs it again (protocol V10)."""
    w.edit(flight.world.stores["oci"], w.login_of(flight.world, 2))

    def overtaken() -> None:
        with w.quiet(flight.world):
            flight.overtaken()

    w.strike(flight.world, {"after aws promote connection_blob": overtaken})
    with pytest.raises(FenceLostError):
        flight.promote()
    assert w.served(flight.world)["aws"][:2] == (3, 3)
    assert w.served(flight.world)["oci"][:2] == (0, 3)


def test_a_promotion_never_goes_back(flight: Flight) -> None:
    world = flight.world
    flight.promote()
    stale = world.lock.record
    assert w.rotate_again(world, "taker", runner="oci").generation == 3
    newer = w.rotate_again(world, "fourth").generation
    assert newer
    assert _generations(flight) == {newer}
    # As if the fence had been read just before it was lost.
    world.lock.record = stale
    world.clock.sleep(-3 * w.INTERVAL_SECONDS)
    with pytest.raises(FenceLostError):
        flight.promote()
    assert _generations(flight) == {newer}


@both_strategies
def test_the_overlap_counts_from_when_every_store_serves_the_value(strategy: Strategy) -> None:
    world = w.make_world(strategy=strategy)
    world.stores["aws"].lagging_reads = 10
    began = world.clock.now()
    w.rotate(world, "first")
    record = world.lock.record
    # An application can read the old value until then (protocol U3).
    assert record.not_before == began + timedelta(minutes=16, seconds=5)
    assert record.next_due_at == began + timedelta(minutes=18)
