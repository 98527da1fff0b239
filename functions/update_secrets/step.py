"""UpdateSecrets: promote the pending value in every store, after every database was seen to accept it (protocol I3).

First one conditional write marks the claim as promoting: from here on a store may serve its value, so only a reconcile
may replace it (protocol I4, L14). It is also the look at the fence. Then every store compares and sets, from what
Generate saw before it staged the value: a run that was overtaken before the conditional write finds that out, and one
that is overtaken later loses the comparison. Where the comparison is lost, or Generate did not see what is replaced,
the store is looked at, the conditional write is made again, and it is compared and set once more (protocol V10). Then
the step waits until the read side of every store has the new generation in both secrets. If a store serves it already,
that is success (protocol V10, U3).
"""

from functools import partial

from lockstep.protocol import decide
from lockstep.protocol.errors import InvalidRequestError
from lockstep.protocol.messages import StoreResult, UpdateRequest, UpdateResult
from lockstep.protocol.model import Claim, ClaimKind, LockRecord
from lockstep.protocol.workers import run_all
from lockstep.stores.credential import Ports


def run(request: UpdateRequest, ports: Ports) -> UpdateResult:
    """Commit the rotation.

    Raises:
        InvalidRequestError: A database of the plan was not seen to accept the value.
        FenceLostError: Another run holds the lock, or has promoted a newer generation.
        PlanNotActiveError: The run began under another plan.
        LostCompareAndSetError: The current version was changed in between; try again.
        EditedMeanwhileError: Somebody has edited keys of others since Generate saw them; the next run keeps them.
        ReadSideLaggingError: Promoted, but a store does not serve it within 20 seconds; try again.
    """
    decide.require_same_plan(request.rotation, ports.credential)
    lease, claim = request.rotation.lease, request.claim
    if unproven := ports.databases.keys() - request.proven:
        seen = ports.lock.require_lease(lease, now=ports.clock.now())
        if not seen.may_pass_over(unproven, ports.databases):
            raise InvalidRequestError(credential=ports.credential.id, generation=claim.generation)

    def still_ours() -> LockRecord:
        return ports.lock.begin_promotion(lease, claim, now=ports.clock.now())

    record, promote = run_all(
        ports.side_by_side,
        still_ours,
        partial(ports.stores.prepare_promotion, claim.generation, request.seen),
    )
    promoted = promote(still_ours)
    revoke = _revokes(record, claim)
    ports.stores.wait_until_shown(claim.generation, promoted, ports.clock)
    promoted_at = ports.clock.now()  # The overlap counts from here (protocol U3).
    ports.stores.prune()
    return UpdateResult(
        stores=tuple(StoreResult(store=v.store, version=v.app_user) for v in promoted),
        promoted_at=promoted_at,
        revoke=revoke,
    )


def _revokes(record: LockRecord, claim: Claim) -> bool:
    """Whether this generation fulfils an emergency order: a reconcile gives an old login again (protocol O5)."""
    is_newer = claim.generation > (record.revoke_through or 0)
    return record.is_revoking and claim.kind is ClaimKind.NEW and is_newer
