"""UpdateSecrets: promote the pending value in every store, after every database was seen to accept it (protocol M3).

First one conditional write marks the claim as promoting: from here on a store may serve its value, so only a heal
may replace it (protocol I4, L14). Each store's promotion reads what is current, then the fence, then compares and
sets: a run that was overtaken before it read the fence finds that out, and one that is overtaken later loses the
comparison. Then the step waits until the read side of every store serves the new generation in both secrets. If a
store serves it already, that is success (protocol U1, U2, U4, U5).
"""

from lockstep import plans
from lockstep.errors import InvalidRequestError
from lockstep.messages import StoreResult, UpdateRequest, UpdateResult
from lockstep.model import Claim, ClaimKind, LockRecord
from lockstep.ports import Ports


def run(request: UpdateRequest, ports: Ports) -> UpdateResult:
    """Commit the rotation.

    Raises:
        InvalidRequestError: A database of the plan was not seen to accept the value.
        FenceLostError: Another run holds the lock, or has promoted a newer generation.
        PlanNotActiveError: The run began under another plan.
        LostCompareAndSetError: The current version was changed in between; try again.
        ReadSideLaggingError: Promoted, but a store does not serve it within 20 seconds; try again.
    """
    plans.require_same_plan(request.rotation, ports.credential)
    if not ports.databases.keys() <= set(request.proven):
        raise InvalidRequestError(credential=ports.credential.id, generation=request.claim.generation)
    lease, claim = request.rotation.lease, request.claim

    def still_ours() -> LockRecord:
        return ports.lock.require(lease, claim, promoting=True, now=ports.clock.now())

    record = ports.lock.begin_promotion(lease, claim, now=ports.clock.now())
    ports.stores.promote(claim.generation, still_ours)
    revoke = _revokes(record, claim)
    if revoke:
        # Nothing else will be alive in a moment, so every slot serves it first (protocol V19).
        ports.stores.spread(claim.generation, still_ours)
    ports.stores.wait_until_served(claim.generation, ports.clock)
    promoted_at = ports.clock.now()  # The overlap counts from here (protocol U3).
    ports.stores.prune()
    versions = ports.stores.versions_of(claim.generation)
    return UpdateResult(
        stores=tuple(StoreResult(store=store, version=version) for store, version in versions.items()),
        promoted_at=promoted_at,
        revoke=revoke,
    )


def _revokes(record: LockRecord, claim: Claim) -> bool:
    """Whether an emergency order is fulfilled by this generation: a heal gives an old login again (protocol O5)."""
    if record.revoke_through is None or not record.is_revoking:
        return False
    return claim.kind is ClaimKind.NEW and claim.generation > record.revoke_through
