"""The rotation as a sequence of step calls: `statemachine.asl.json` for a runner without Step Functions (protocol R1).

`lockstep.timing` has the retry policies of both clouds. A test compares the order of the calls with the order of the
states.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError

from functions.apply_db import step as apply_db
from functions.audit import step as audit
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.errors import (
    InvalidRequestError,
    LockstepError,
    PasswordRefusedByPolicyError,
    UnexpectedError,
)
from lockstep.messages import (
    ApplyRequest,
    CandidateRef,
    DatabaseOutcome,
    DatabaseRequest,
    DatabaseResult,
    FailedRun,
    GenerateRequest,
    GenerateResult,
    ProbeNeeded,
    ProbeRequest,
    ProbeResult,
    Probes,
    ReleaseValues,
    RetireRequest,
    RetireResult,
    RotatedRun,
    Rotation,
    Staged,
    UpdateRequest,
    UpdateResult,
)
from lockstep.model import Claim, Release
from lockstep.ports import Ports
from lockstep.timing import LEASE, LOCK_POLICY
from lockstep.workers import at_the_same_time
from oci_fn.retries import Retries

Result = TypeVar("Result")


class RunMap(Protocol):
    """How the branches of a Map state run. The built-in `map` runs them one after the other."""

    def __call__(self, branch: Callable[[str], Result], databases: Iterable[str], /) -> Iterable[Result]:
        """The result of the branch for each database, in their order."""


def side_by_side(branch: Callable[[str], Result], databases: Iterable[str], /) -> Iterable[Result]:
    """Run the branches in threads (protocol M10)."""
    return at_the_same_time([partial(branch, database) for database in databases])


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """The request for a run: the input of the state machine, with the runner and the rotation id."""

    rotation_id: str
    runner: str
    trigger: str
    force: bool = False
    revoke_previous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """The outcome `rotated`, with the generation that is current now, or `skipped`."""

    outcome: str
    generation: int | None = None
    adopted: bool = False
    audit_seq: int | None = None


def rotate(
    request: RunRequest, ports: Ports, retries: Retries, *, run_map: RunMap = side_by_side
) -> RunResult:
    """Rotate the credential if it is due.

    Args:
        request: The request.
        ports: The ports.
        retries: Retries the calls until its deadline.
        run_map: Runs the branches for the databases.

    Raises:
        InvalidRequestError: The input is not valid; nothing was changed.
        LockstepError: The run failed. If the audit log and the lock table answer, the failure is on record and the lock
            is free again (protocol M8).
    """
    now = ports.clock.now().replace(microsecond=0)
    rotation = _rotation(request, ports.credential.id, now)
    lease = retries.call(
        ("AcquireLock",),
        lambda: ports.lock.acquire(
            holder=rotation.rotation_id,
            now=now,
            expires_at=now + LEASE,
            force=rotation.force,
            revoke_previous=rotation.revoke_previous,
        ),
        policy=LOCK_POLICY,
    )
    if lease is None:
        return RunResult(outcome="skipped")
    held = rotation.model_copy(update={"fence": lease.fence})
    return _HeldRun(held, ports, retries, run_map).finish()


def _rotation(request: RunRequest, credential_id: str, now: datetime) -> Rotation:
    try:
        return Rotation.model_validate(
            {**asdict(request), "credential_id": credential_id, "started_at": now, "fence": 0}
        )
    except ValidationError:
        # The error's text quotes the input. Nothing was acquired yet.
        raise InvalidRequestError(credential=credential_id) from None


class _HeldRun:
    """A run that holds the lock: the states between AcquireLock and ReleaseLock (protocol M1)."""

    def __init__(self, rotation: Rotation, ports: Ports, retries: Retries, run_map: RunMap) -> None:
        self._rotation = rotation
        self._ports = ports
        self._retries = retries
        self._run_map = run_map
        self._notes: dict[str, object] = {}

    def finish(self) -> RunResult:
        try:
            report = self._prepare_apply_commit()
            # Before the release (protocol M7).
            recorded = self._retries.call(("Audit",), lambda: audit.run(report, self._ports))
        except LockstepError as e:
            self._fail(e)
            raise
        except Exception as e:  # noqa: BLE001 - the last line of defence before fdk prints it
            # A bug between the calls. Its text may contain a secret.
            unexpected = UnexpectedError(code=type(e).__name__)
            self._fail(unexpected)
            raise unexpected from None
        self._retries.call(
            ("ReleaseLock",),
            lambda: self._ports.lock.release(self._rotation.lease, _release(recorded.release)),
            policy=LOCK_POLICY,
            is_owed=True,
        )
        return RunResult(
            outcome="rotated",
            generation=recorded.release.current_generation,
            adopted=report.adopted,
            audit_seq=recorded.seq,
        )

    def _prepare_apply_commit(self) -> RotatedRun:
        prepared = self._prepare(replaces=None)
        applied = self._apply(prepared)
        if any(r.outcome is DatabaseOutcome.REFUSED_BY_POLICY for r in applied):
            self._withdraw(prepared.claim)  # Once in a run (protocol M5).
            prepared = self._prepare(replaces=prepared.claim)
            applied = self._apply(prepared)
            if any(r.outcome is DatabaseOutcome.REFUSED_BY_POLICY for r in applied):
                raise PasswordRefusedByPolicyError
        return self._commit(prepared, applied)

    def _prepare(self, *, replaces: Claim | None) -> Staged:
        request = GenerateRequest(rotation=self._rotation, replaces=replaces)
        result = self._generate(request)
        while isinstance(result, ProbeNeeded):
            result = self._generate(request.model_copy(update={"probes": self._probe(result.candidates)}))
        self._notes |= {"claim": result.claim, "adopted": result.adopted}
        return result

    def _probe(self, candidates: tuple[CandidateRef, ...]) -> Probes:
        probed = self._map(
            ("ProbeDb", "ProbeOneDb"),
            lambda d: ProbeRequest(
                action="probe", rotation=self._rotation, database=d, candidates=candidates
            ),
            ProbeResult,
        )
        return Probes(candidates=candidates, databases=probed)

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        return self._retries.call(("Generate",), lambda: generate.run(request, self._ports))

    def _apply(self, prepared: Staged) -> tuple[DatabaseResult, ...]:
        applied = self._map(
            ("ApplyDb", "ApplyOneDb"),
            lambda d: ApplyRequest(rotation=self._rotation, claim=prepared.claim, database=d),
            DatabaseResult,
        )
        self._notes["databases"] = applied
        return applied

    def _withdraw(self, claim: Claim) -> None:
        self._raise_fence()
        self._map(
            ("WithdrawDb", "WithdrawOneDb"),
            lambda d: RetireRequest(action="withdraw", rotation=self._rotation, claim=claim, database=d),
            RetireResult,
        )

    def _raise_fence(self) -> None:
        """Stop abandoned branches from bringing the refused password back after its withdrawal (protocol L5)."""
        lease = self._retries.call(
            ("RaiseFence",),
            lambda: self._ports.lock.raise_fence(self._rotation.lease),
            policy=LOCK_POLICY,
        )
        self._rotation = self._rotation.model_copy(update={"fence": lease.fence})

    def _commit(self, prepared: Staged, applied: tuple[DatabaseResult, ...]) -> RotatedRun:
        updated = self._promote(prepared.claim)  # Before any revocation (protocol M6).
        revoked = self._revoke(prepared.claim) if self._rotation.revoke_previous else ()
        return RotatedRun(
            rotation=self._rotation,
            claim=prepared.claim,
            adopted=prepared.adopted,
            databases=applied,
            stores=updated.stores,
            promoted_at=updated.promoted_at,
            revoked=revoked,
        )

    def _promote(self, claim: Claim) -> UpdateResult:
        updated = self._retries.call(
            ("UpdateSecrets",),
            lambda: update_secrets.run(UpdateRequest(rotation=self._rotation, claim=claim), self._ports),
        )
        self._notes["stores"] = updated.stores
        return updated

    def _revoke(self, claim: Claim) -> tuple[RetireResult, ...]:
        revoked = self._map(
            ("RevokeDb", "RevokeOneDb"),
            lambda d: RetireRequest(action="revoke", rotation=self._rotation, claim=claim, database=d),
            RetireResult,
        )
        self._notes["revoked"] = revoked
        return revoked

    def _map(
        self, path: tuple[str, ...], request: Callable[[str], DatabaseRequest], kind: type[Result]
    ) -> tuple[Result, ...]:
        def branch(database: str) -> Result:
            try:
                result: Any = self._retries.call(path, lambda: apply_db.run(request(database), self._ports))
            except PasswordRefusedByPolicyError:  # An answer, so the other branches finish (protocol M4).
                if kind is not DatabaseResult:
                    raise
                result = DatabaseResult(database=database, outcome=DatabaseOutcome.REFUSED_BY_POLICY)
            if not isinstance(result, kind):
                raise UnexpectedError(code=type(result).__name__)
            return result

        return tuple(self._run_map(branch, self._ports.databases))

    def _fail(self, error: LockstepError) -> None:
        failed = FailedRun.model_validate(
            {"rotation": self._rotation, "error": type(error).__name__, **self._notes}
        )
        with suppress(LockstepError):
            self._retries.call(("AuditFailure",), lambda: audit.run(failed, self._ports), is_owed=True)
        with suppress(LockstepError):
            self._retries.call(
                ("ReleaseLockAfterFailure",),
                lambda: self._ports.lock.release(self._rotation.lease, None),
                policy=LOCK_POLICY,
                is_owed=True,
            )


def _release(values: ReleaseValues) -> Release:
    return Release(
        current_generation=values.current_generation,
        previous_generation=values.previous_generation,
        next_due_at=datetime.fromtimestamp(values.next_due_at, UTC),
        not_before=datetime.fromtimestamp(values.not_before, UTC),
    )
