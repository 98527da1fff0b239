"""The rotation as a sequence of step calls: `statemachine.asl.json` for a runner without Step Functions (protocol R1).

`lockstep.protocol.deadlines` has the retry policies of both clouds. A test compares the order of the calls with the
order of the states.
"""

from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.protocol.deadlines import LEASE, LOCK_POLICY, PREPARED_AT_MOST
from lockstep.protocol.errors import (
    LockstepError,
    StoresDivergedError,
    UnexpectedError,
)
from lockstep.protocol.messages import (
    ApplyResult,
    BaseRefused,
    DatabaseRequest,
    FailedRun,
    GenerateRequest,
    NothingToDo,
    ProbeRequest,
    ProbeResult,
    Promoted,
    Recorded,
    Revoked,
    RevokeRequest,
    RevokeResult,
    RotatedRun,
    Rotation,
    RunInput,
    Runner,
    Staged,
    UpdateRequest,
)
from lockstep.protocol.model import Claim, Release
from lockstep.protocol.schedule import STANDBY, standby_due_by
from lockstep.stores.credential import Ports
from oci_fn.retries import Retries

Result = TypeVar("Result")
_APPLIED: tuple[type[ApplyResult | BaseRefused], ...] = (ApplyResult, BaseRefused)
"""What a change of the databases ends with."""


def rotate(
    run: RunInput, ports: Ports, retries: Retries, *, rotation_id: str, runner: Runner = STANDBY
) -> Promoted | None:
    """Rotate the credential if it is due.

    Args:
        run: What starts it; it was checked (protocol R6).
        ports: The ports.
        retries: Retries the calls until its deadline.
        rotation_id: The run.
        runner: Whose run it is.

    Returns:
        What the rotation has done; None if it was skipped.

    Raises:
        LockstepError: The run failed. If the audit log and the lock table answer, the failure is on record and the lock
            is free again (protocol M1).
    """
    now, schedule = ports.clock.now().replace(microsecond=0), ports.credential.schedule
    lease = retries.call(
        "AcquireLock",
        lambda: ports.lock.acquire(
            holder=rotation_id,
            now=now,
            expires_at=now + LEASE,
            force=run.force,
            due_by=standby_due_by(schedule, now) if runner == STANDBY else None,
            interval=schedule.interval,
        ),
        policy=LOCK_POLICY,
    )
    if lease is None:
        return None
    rotation = Rotation(
        credential_id=run.credential_id,
        rotation_id=rotation_id,
        runner=runner,
        trigger=run.trigger,
        started_at=now,
        fence=lease.fence,
        force=run.force,
    )
    return _HeldRun(rotation, ports, retries).finish()


class _HeldRun:
    """A run that holds the lock: the states between AcquireLock and ReleaseLock (protocol M1)."""

    def __init__(self, rotation: Rotation, ports: Ports, retries: Retries) -> None:
        self._rotation = rotation
        self._ports = ports
        self._retries = retries
        self._notes: dict[str, Any] = {}

    def finish(self) -> Promoted | None:
        try:
            report = self._prepare_apply_commit()
            if isinstance(report, RotatedRun):  # Before the release (protocol M1).
                recorded = self._retries.call("Audit", lambda: audit.run(report, self._ports))
        except LockstepError as e:
            self._fail(e)
            raise
        except Exception as e:  # noqa: BLE001 - the last line of defence before fdk prints it
            # A bug between the calls. Its text may contain a secret.
            unexpected = UnexpectedError(code=type(e).__name__)
            self._fail(unexpected)
            raise unexpected from None
        if isinstance(report, NothingToDo):
            self._release("ReleaseLockUnchanged", None, proven=report.proven)
            return None
        self._release("ReleaseLock", recorded.release, recorded)
        return recorded.promoted

    def _prepare_apply_commit(self) -> RotatedRun | NothingToDo:
        found: ProbeResult | None = None
        refused: tuple[str, ...] = ()
        for _ in range(PREPARED_AT_MOST):
            request = GenerateRequest(rotation=self._rotation, found=found, refused=refused)
            prepared = self._retries.call("Generate", partial(generate.run, request, self._ports))
            self._rotation = prepared.rotation
            match prepared:
                case NothingToDo():
                    return prepared
                case ProbeRequest():
                    found = self._on_databases("ApplyDb", prepared, ProbeResult)
                    continue
            self._notes |= {"claim": prepared.claim, "adopted_from": prepared.adopted_from}
            applied = self._on_databases("ApplyDb", prepared, *_APPLIED)
            if isinstance(applied, ApplyResult):
                self._notes["databases"] = applied.databases
                return self._commit(prepared, applied)
            found, refused = None, applied.refused
        raise StoresDivergedError(credential=self._ports.credential.id)

    def _commit(self, prepared: Staged, applied: ApplyResult) -> RotatedRun:
        request = UpdateRequest(
            rotation=self._rotation,
            claim=prepared.claim,
            proven=tuple(d.database for d in applied.databases),
            seen=prepared.seen,
        )
        updated = self._retries.call("UpdateSecrets", lambda: update_secrets.run(request, self._ports))
        self._notes["stores"] = updated.stores
        revoked = self._revoke(prepared.claim) if updated.revoke else ()  # After the promotion (protocol M2).
        return RotatedRun(
            rotation=self._rotation,
            claim=prepared.claim,
            adopted_from=prepared.adopted_from,
            databases=applied.databases,
            stores=updated.stores,
            promoted_at=updated.promoted_at,
            revoked=revoked,
        )

    def _revoke(self, claim: Claim) -> tuple[Revoked, ...]:
        request = RevokeRequest(rotation=self._rotation, claim=claim)
        revoked = self._on_databases("RevokeDb", request, RevokeResult).databases
        self._notes["revoked"] = revoked
        return revoked

    def _on_databases(self, state: str, request: DatabaseRequest, *kinds: type[Result]) -> Result:
        result = self._retries.call(state, lambda: apply_db.run(request, self._ports))
        if not isinstance(result, kinds):
            raise UnexpectedError(code=type(result).__name__)
        return result

    def _release(
        self,
        state: str,
        done: Release | None,
        entry: Recorded | None = None,
        proven: tuple[str, ...] = (),
    ) -> None:
        lock, lease = self._ports.lock, self._rotation.lease
        self._retries.call(
            state,
            partial(lock.release, lease, done, entry=entry, proven=proven),
            policy=LOCK_POLICY,
            is_owed=True,
        )

    def _fail(self, error: LockstepError) -> None:
        failed = FailedRun(rotation=self._rotation, error=error.name, **self._notes)
        recorded = None
        with suppress(LockstepError):
            recorded = self._retries.call(
                "AuditFailure", lambda: audit.run(failed, self._ports), is_owed=True
            )
        with suppress(LockstepError):
            state = "ReleaseLockAfterFailure" if recorded else "ReleaseLockUnrecorded"
            self._release(state, None, recorded)
