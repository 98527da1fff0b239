"""UpdateSecrets: promote the pending value in every store, once every database has been seen to accept it.

Each store's promotion reads what is current, then the fence, then compares and sets: a run that was overtaken before
it read the fence finds that out, and one that is overtaken later loses the comparison. Then the read side is watched
until every store serves the new generation in both secrets. Promoted already is success.
"""

from lockstep.errors import ReadSideLaggingError
from lockstep.messages import StoreResult, UpdateRequest, UpdateResult
from lockstep.model import LockRecord
from lockstep.ports import Clock, Ports, Store

READ_SIDE_TIMEOUT_SECONDS = 20.0
POLL_SECONDS = 0.5


def run(request: UpdateRequest, ports: Ports) -> UpdateResult:
    """Commit the rotation.

    Raises:
        FenceLostError: Another run holds the lock, or has promoted a newer generation.
        LostCompareAndSetError: Somebody moved the current version in between; try again.
        ReadSideLaggingError: Promoted, but the store does not serve it within 20 seconds; try again.
    """
    generation = request.claim.generation

    def still_ours() -> LockRecord:
        return ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())

    for store in ports.stores:
        store.promote(generation, still_ours)
    promoted_at = ports.clock.now()
    for store in ports.stores:
        _wait_until_served(store, generation, ports.clock)
        store.prune()
    return UpdateResult(
        stores=tuple(StoreResult(store=s.name, version=s.version_of(generation)) for s in ports.stores),
        promoted_at=promoted_at,
    )


def _wait_until_served(store: Store, generation: int, clock: Clock) -> None:
    deadline = clock.monotonic() + READ_SIDE_TIMEOUT_SECONDS
    while not store.serves(generation):
        if clock.monotonic() >= deadline:
            raise ReadSideLaggingError(store=store.name, generation=generation)
        clock.sleep(POLL_SECONDS)
