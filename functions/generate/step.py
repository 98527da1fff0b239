"""Generate: claim the one generation in flight and stage its value in every store.

1. Read what every store serves, and the lock record. If one cannot be read, stop: nothing was changed (protocol C1).
2. Compare the plan, and decide: adopt, begin, or reconcile.
3. Claim, under the fence: from here on the lock record names the generation (protocol C4). Beside it, look at what
   staging needs.
4. Stage the value, first in the store that decides what the value is, then in all others (protocol V1).

Whether a store holds a value under the name of a new generation, staging finds out, and the value says for which claim
it was staged (protocol C3, V22).

No database accepts the value yet (protocol I2, M2), and this step has no access to a database: for a reconcile it asks
for a search among the candidates and is called again.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from msgspec import structs

from lockstep.protocol import decide
from lockstep.protocol.decide import (
    next_username,
    require_active,
    require_plausible,
    require_same_plan,
)
from lockstep.protocol.errors import (
    InvalidRequestError,
    LostCompareAndSetError,
    StagedValueConflictError,
    StoresDivergedError,
)
from lockstep.protocol.lock_rule import believed
from lockstep.protocol.messages import (
    Candidate,
    CandidateRef,
    GenerateRequest,
    GenerateResult,
    NothingToDo,
    ProbeRequest,
    ProbeResult,
    Rotation,
    Staged,
)
from lockstep.protocol.model import (
    Claim,
    ClaimKind,
    CredentialValue,
    LockRecord,
    Login,
    StoredValue,
    StoreVersions,
)
from lockstep.protocol.workers import run_all
from lockstep.stores.credential import Ports

Stage = Callable[[CredentialValue], tuple[StoreVersions, ...]]


def run(request: GenerateRequest, ports: Ports) -> GenerateResult:
    """Prepare the rotation.

    Returns:
        The claim, staged in every store; the candidates to search among, for a reconcile; or that nothing is to be
        done yet.

    Raises:
        FenceLostError: Another run holds the lock.
        PlanNotActiveError: This runner's plan is not the active one.
        TakeOverNeededError: There are only placeholders, and no consent to take the accounts over.
        NewerFormatError: A newer build wrote the record or a secret; nothing was changed.
        StoresDivergedError: There is no login to try.
    """
    values, read = run_all(ports.side_by_side, ports.stores.served, ports.lock.read)  # (1)
    record = believed(read, ports.clock.now(), ports.credential.schedule.interval)
    served = ports.stores.recognized(values, record)
    require_active(record, ports.credential)  # (2)
    plan = ports.credential.plan_digest
    head = record.heads.get(request.rotation.runner)
    rotation = structs.replace(
        request.rotation,
        plan=request.rotation.plan or plan,
        head=head.seq if head else None,
        replaced=tuple(name for name, value in served.items() if value.malformed),
    )
    require_same_plan(rotation, ports.credential)
    require_plausible(record, served)
    decision = decide.decide(
        record,
        served,
        plan=plan,
        databases=ports.databases,
        now=ports.clock.now(),
        is_refused=bool(request.refused),
    )
    preparation = Preparation(rotation=rotation, ports=ports, record=record, served=served)
    match decision:
        case decide.Adopt(claim=claim):
            try:
                return preparation.adopted(claim)
            except StagedValueConflictError:
                # A foreign value stands under its name somewhere: no store can serve it yet, so it is replaced.
                return preparation.begun(claim.base_generation)
        case decide.Begin(base_generation=base_generation):
            return preparation.begun(base_generation)
        case decide.Reconcile():
            if request.found is None:
                return preparation.search(request.refused)
            return preparation.reconciled(request.found)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What follows from the decision.

    Attributes:
        rotation: The run, with its plan.
        record: The lock record, as the decision saw it.
        served: Likewise, what every store serves.
    """

    rotation: Rotation
    ports: Ports
    record: LockRecord
    served: Mapping[str, StoredValue]

    def adopted(self, claim: Claim) -> Staged:
        """Finish an open claim, with the value that was staged for it, or a new one where no store has any."""
        self._require(claim)
        held = self.ports.stores.find_generation(claim.generation)
        if held and (held.claim_id != claim.rotation_id or self.ports.stores.lacks_keys(claim.generation)):
            raise StagedValueConflictError(generation=claim.generation)
        login = held.login if held else self._new_login(self._next_username(claim))
        return self._staged(claim, self.ports.stores.stage, login)

    def begun(self, base_generation: int) -> Staged:
        """Claim a new generation, and stage a new password."""
        claim = self._next_claim(ClaimKind.NEW, base_generation)
        return self._claimed_and_staged(claim, partial(self._new_login, self._next_username(claim)))

    def search(self, refused: tuple[str, ...]) -> ProbeRequest:
        """Ask the databases which candidate works."""
        candidates = self._candidates()
        if not candidates:
            raise StoresDivergedError(credential=self.ports.credential.id)
        return ProbeRequest(rotation=self.rotation, candidates=candidates, refused=refused)

    def reconciled(self, found: ProbeResult) -> GenerateResult:
        """Serve from every store what the search has found; or finish a claim that does, or nothing, where all do."""
        record, served, stores = self.record, self.served, self.ports.stores
        plan = self.ports.credential.plan_digest
        value = stores.read_version(store=found.winner.store, version=found.winner.version)
        if value is None:
            raise LostCompareAndSetError(store=found.winner.store)
        if value.login.username not in self.ports.credential.usernames:
            raise InvalidRequestError(credential=self.ports.credential.id)
        in_flight = stores.find_generation(record.claim.generation) if record.claim else None
        is_known = record.valid.issuperset(found.accepted)
        claim = decide.can_finish(record, served, plan=plan, held=in_flight, winner=value.login)
        if claim and is_known and not (record.promoting and found.beside):
            with suppress(StagedValueConflictError):
                if not stores.lacks_keys(claim.generation):
                    self._require(claim)
                    staged = self._staged(claim, stores.stage, value.login)
                    return structs.replace(staged, promoting=record.promoting, beside=found.beside)
        is_served = all(v.login == value.login for v in served.values())
        is_over = is_served and not (record.is_half_done or found.beside)
        if is_over and is_known and decide.is_as_recorded(record, served, plan=plan):
            return NothingToDo(rotation=self.rotation, proven=found.proven)
        claim = self._next_claim(ClaimKind.RECONCILE, value.generation)
        staged = self._claimed_and_staged(claim, lambda: value.login, accepted=found.accepted)
        return structs.replace(staged, beside=found.beside)

    # ---- Claims and values

    def _require(self, claim: Claim) -> None:
        """The look at the fence before the value of a claim in flight is staged where a store lacks it."""
        lease, now = self.rotation.lease, self.ports.clock.now()
        self.ports.lock.require(lease, claim, promoting=self.record.promoting, now=now)

    def _claimed_and_staged(
        self, claim: Claim, new_login: Callable[[], Login], *, accepted: tuple[int, ...] = ()
    ) -> Staged:
        """(3), (4): claim, and stage.

        A value of another claim under the name was staged before the lock table was lost. It must not come back as the
        new value: by now its username may be the one that is current, and that account would be changed. So the claim
        is replaced once, by one under whose name no store holds a value (protocol C3, V22).
        """
        served = {g for v in self.served.values() for g in (v.generation, v.blob_generation) if g}
        valid = served.union(accepted)
        try:
            return self._staged(claim, self._claimed(claim, self.record, valid, is_new=True), new_login())
        except StagedValueConflictError:
            record, claim = self._free_claim(claim)
            return self._staged(claim, self._claimed(claim, record, valid, is_new=False), new_login())

    def _claimed(self, claim: Claim, over: LockRecord, valid: set[int], *, is_new: bool) -> Stage:
        """(3) Claim, and look beside that at what staging needs."""
        plan = self.ports.credential.plan_digest
        return run_all(
            self.ports.side_by_side,
            partial(self.ports.lock.claim, self.rotation.lease, claim, over=over, plan=plan, served=valid),
            partial(self.ports.stores.prepare, claim.generation, is_new=is_new),
        )[1]

    def _staged(self, claim: Claim, stage: Stage, login: Login) -> Staged:
        seen = stage(CredentialValue(claim.generation, login, claim.rotation_id))
        adopted_from = claim.rotation_id if claim.rotation_id != self.rotation.rotation_id else None
        return Staged(rotation=self.rotation, claim=claim, adopted_from=adopted_from, seen=seen)

    def _next_claim(self, kind: ClaimKind, base_generation: int) -> Claim:
        return Claim(
            kind=kind,
            generation=decide.next_generation(self.record, self.served.values()),
            base_generation=base_generation,
            rotation_id=self.rotation.rotation_id,
        )

    def _free_claim(self, taken: Claim) -> tuple[LockRecord, Claim]:
        """The record with the claim whose name is taken, and a claim under whose name no store holds a value."""
        record = self.ports.lock.read()
        claim = structs.replace(taken, generation=taken.generation + 1)
        if record.claim != taken:
            # Replaced in the meantime: a twin of this step is running (protocol F4).
            raise LostCompareAndSetError(generation=taken.generation)
        while self.ports.stores.find_generation(claim.generation):
            claim = structs.replace(claim, generation=claim.generation + 1)
        return record, claim

    def _next_username(self, claim: Claim) -> str:
        base = next((v.login for v in self.served.values() if v.generation == claim.base_generation), None)
        return next_username(self.ports.credential.usernames, base=base)

    def _new_login(self, username: str) -> Login:
        return Login(username, self.ports.passwords.new_password(self.ports.credential.password_policy))

    # ---- Candidates of a search

    def _candidates(self) -> tuple[Candidate, ...]:
        """Each distinct login whose username the plan names, the best first (protocol C5)."""
        found: list[tuple[Candidate, Login]] = []
        places = decide.ranked_generations(self.record, self.served)
        for held in self.ports.side_by_side([partial(self._candidate, where) for where in places]):
            if held and held[1].username in self.ports.credential.usernames:
                _join(found, *held)
        return tuple(candidate for candidate, _ in found)

    def _candidate(self, where: int | str) -> tuple[Candidate, Login] | None:
        if isinstance(where, str):
            value = self.served[where]
            ref = CandidateRef(store=where, version=value.version)
            found = Candidate(ref=ref, generations=(value.generation,), stores=(where,))
            return (found, value.login) if value.login else None
        held = self.ports.stores.find_version(where)
        return (Candidate(ref=held[0], generations=(where,)), held[1].login) if held else None


def _join(found: list[tuple[Candidate, Login]], candidate: Candidate, login: Login) -> None:
    """Add a login, or that it is also held in another place."""
    for i, (known, same) in enumerate(found):
        if same == login:
            joined = structs.replace(
                known,
                generations=tuple(dict.fromkeys([*known.generations, *candidate.generations])),
                stores=tuple(dict.fromkeys([*known.stores, *candidate.stores])),
            )
            found[i] = joined, login
            return
    found.append((candidate, login))
