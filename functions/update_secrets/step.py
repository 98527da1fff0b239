"""UpdateSecrets: promote the pending value in every store, after every database was seen to accept it (protocol M3).

Each store's promotion reads what is current, then the fence, then compares and sets: a run that was overtaken before
it read the fence finds that out, and one that is overtaken later loses the comparison. Then the step waits until the
read side of every store serves the new generation in both secrets. If a store serves it already, that is success
(protocol U1, U2, U4, U5).
"""

from lockstep.messages import StoreResult, UpdateRequest, UpdateResult
from lockstep.model import LockRecord
from lockstep.ports import Ports


def run(request: UpdateRequest, ports: Ports) -> UpdateResult:
    """Commit the rotation.

    Raises:
        FenceLostError: Another run holds the lock, or has promoted a newer generation.
        LostCompareAndSetError: The current version was changed in between; try again.
        ReadSideLaggingError: Promoted, but a store does not serve it within 20 seconds; try again.
    """
    generation = request.claim.generation

    def still_ours() -> LockRecord:
        return ports.lock.require(request.rotation.lease, request.claim, now=ports.clock.now())

    ports.stores.promote(generation, still_ours)
    promoted_at = ports.clock.now()  # The overlap counts from here (protocol U3).
    ports.stores.wait_until_served(generation, ports.clock)
    ports.stores.prune()
    versions = ports.stores.versions_of(generation)
    return UpdateResult(
        stores=tuple(StoreResult(store=store, version=version) for store, version in versions.items()),
        promoted_at=promoted_at,
    )
