"""The programs of the model: the four steps as generators, and the state machine that strings them together.

Each `yield` is one outside call; between two of them anything can happen. The names are those of `functions/*/step.py`,
and what is decided is decided by `lockstep.decide` itself. `tests.proof.model_replay` holds every program to the code
of its step, call by call.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from lockstep import decide, errors, model
from lockstep.model import Claim, ClaimKind
from tests.proof.model_world import (
    ADOPT_BY_SIGHT,
    DATABASES,
    LOCK,
    NOBODY_KNOWS,
    STORES,
    Call,
    Login,
    Reply,
    Run,
    Value,
)

Calls = Generator[Call, Any, Any]
Step = tuple[str, tuple[Any, ...]]


class Record(NamedTuple):
    """What the steps use of a lock record that they have read."""

    claim: Claim | None
    current: int | None
    previous: int | None
    highest: int


@dataclass(frozen=True)
class Protocol:
    """The programs, and with `bugs` what they would be if a rule were left out."""

    engines: tuple[str, str] = ("mysql", "mysql")
    bugs: frozenset[str] = frozenset()

    def rotation(self, run: Run) -> Generator[Step, Any, None]:  # noqa: C901, PLR0912 - one page, as the state machine is
        """The state machine, from AcquireLock on. What a step returns is sent in; its retries are the checker's."""
        databases = DATABASES if run.number % 2 else DATABASES[::-1]
        probes = replaces = None
        while True:
            outcome, claim = yield "generate", (probes, replaces)
            if outcome == "probe":
                verdicts = {}
                for name in databases:
                    verdicts[name] = yield "probe", (name, claim)
                probes = (claim, tuple(sorted(verdicts.items())))
                continue
            refused = False
            for name in databases[: 1 if "database skipped" in self.bugs else None]:
                refused |= (yield "apply", (name, claim)) == "refused"
            if not refused:
                break
            if replaces:
                raise errors.PasswordRefusedByPolicyError
            if "no withdrawal" not in self.bugs:
                if "fence not raised" not in self.bugs:
                    yield "raise_fence", ()
                for name in databases:
                    yield "retire", ("withdraw", name, claim)
            replaces = claim
        if run.revokes and "revoked before promotion" in self.bugs:
            for name in databases:
                yield "retire", ("revoke", name, claim)
        yield "update_secrets", (claim,)
        if run.revokes:
            for name in databases:
                yield "retire", ("revoke", name, claim)
        yield "audit", (claim,)

    def generate(self, run: Run, probes: Reply, replaces: Claim | None, attempt: tuple[int, int]) -> Calls:  # noqa: C901, PLR0912 - the step, and what it would be without a rule
        """Claim the one generation in flight and stage its value in every store."""
        current: dict[str, Value] = {}
        for name in STORES:
            current[name] = yield Call(name, "read_current")
        record = Record(*(yield Call(LOCK, "read")))
        values = {name: _stored(name, value) for name, value in current.items()}
        lease = model.Lease(credential_id="", holder=str(run.number), fence=run.fence)
        login = None
        decision = decide.decide(_record(record), values)
        if self.bugs & ADOPT_BY_SIGHT:
            decision = yield from self._by_sight(run, current)
        if "heal skipped" in self.bugs and isinstance(decision, decide.Heal):
            decision = decide.Begin(next(iter(current.values())).generation)
        match decision:
            case decide.Adopt(claim=standing) if standing == replaces:
                claim = decide.next_claim(
                    standing.kind, lease, _record(record), values, base_generation=standing.base_generation
                )
                claim = yield from self._claimed(run, record, claim)
            case decide.Adopt(claim=claim):
                if self.bugs & ADOPT_BY_SIGHT:
                    yield Call(LOCK, "claim", (run, claim, None))
                else:
                    yield Call(LOCK, "require", (run, claim))
                if "new password on retry" not in self.bugs:
                    login = yield from _find_generation(claim.generation)
            case decide.Begin(base_generation=base_generation):
                claim = decide.next_claim(
                    ClaimKind.NEW, lease, _record(record), values, base_generation=base_generation
                )
                if "generation reused" in self.bugs:
                    claim = replace(claim, generation=max(run.fence, record.highest + 1))
                claim = yield from self._claimed(run, record, claim)
            case decide.Heal(standing=in_flight):
                if probes is None:
                    candidates = yield from _candidates(record, current, values)
                    if not candidates:
                        raise errors.StoresDivergedError
                    return "probe", candidates
                claim, login = yield from self._healed(
                    run, record, current, probes, in_flight if in_flight != replaces else None
                )
        if login is None:
            base = yield from _find_generation(claim.base_generation)
            login = Login(self._next_user(base), (claim.generation, run.number, *attempt))
        yield from self._staged(run, claim, login)
        return "staged", claim

    def _by_sight(self, run: Run, current: Mapping[str, Value]) -> Generator[Call, Any, decide.Decision]:
        """What the lock record is there to prevent."""
        read = "read_label" if "adopt by label" in self.bugs else "read_highest"
        for name in STORES:
            found = yield Call(name, read)
            if found > current[name].generation:
                claim = Claim(
                    kind=ClaimKind.NEW,
                    generation=found,
                    base_generation=current[name].generation,
                    previous_generation=None,
                    rotation_id=str(run.number),
                )
                return decide.Adopt(claim)
        return decide.Begin(current[STORES[0]].generation)

    def _claimed(self, run: Run, record: Record, claim: Claim) -> Generator[Call, Any, Claim]:
        """Claim, under a name that no store knows yet."""
        while "generation reused" not in self.bugs and (yield from _find_generation(claim.generation)):
            if Record(*(yield Call(LOCK, "read"))).claim != record.claim:
                raise errors.LostCompareAndSetError
            claim = replace(claim, generation=claim.generation + 1)
        yield Call(LOCK, "claim", (run, claim, record.claim))
        return claim

    def _healed(
        self, run: Run, record: Record, current: Mapping[str, Value], probes: Reply, in_flight: Claim | None
    ) -> Generator[Call, Any, tuple[Claim, Login | None]]:
        candidates, verdicts = probes
        best = decide.winner(
            [decide.Candidate(store=name, version=str(i)) for i, (name, _) in enumerate(candidates)],
            dict(verdicts),
        )
        winner: Login = candidates[int(best.version)][1]
        if in_flight:
            healing = in_flight.kind is ClaimKind.HEAL
            known = [(yield from _find_generation(in_flight.generation))]
            if not healing:
                known.append((yield from _find_generation(in_flight.base_generation)))
            if winner in known or (healing and known == [None]):
                yield Call(LOCK, "require", (run, in_flight))
                login = yield from _find_generation(in_flight.generation)
                return in_flight, login or (winner if healing else None)
        lease = model.Lease(credential_id="", holder=str(run.number), fence=run.fence)
        values = {name: _stored(name, value) for name, value in current.items()}
        claim = decide.next_claim(
            ClaimKind.HEAL,
            lease,
            _record(record),
            values,
            base_generation=current[best.store].generation,
        )
        claim = yield from self._claimed(run, record, claim)
        login = yield from _find_generation(claim.generation)
        return claim, login or winner

    def _staged(self, run: Run, claim: Claim, login: Login) -> Calls:
        """The first store decides what the value is; what stands there is copied to the others."""
        order: Sequence[str] = STORES
        if "each stages its own store first" in self.bugs and run.number % 2 == 0:
            order = STORES[::-1]
        if "database before write-ahead" in self.bugs:
            order = STORES[:1]
        for name in order:
            standing = yield Call(name, "stage", (claim.generation, login))
            if name == order[0]:
                login = standing
            elif standing != login and "each stages its own store first" not in self.bugs:
                raise errors.StagedValueConflictError

    def _next_user(self, base: Login | None) -> int:
        users = ("0", "1") if "postgresql" in self.engines else ("0",)
        return int(decide.next_username(users, base and model.Login(str(base.user), model.SecretStr(""))))

    def probe(self, run: Run, database: str, candidates: Sequence[tuple[str, Login]]) -> Calls:
        """Which candidates log in?"""
        del run
        accepted = []
        for _, login in candidates:
            accepted.append((yield Call(database, "accepts", (login,))))
        return tuple(accepted)

    def apply(self, run: Run, database: str, claim: Claim) -> Calls:  # noqa: C901 - as above
        """Make one database accept pending beside base, under its advisory lock, and prove it."""
        pending, base, previous = yield Call(
            STORES[0], "logins", (claim.generation, claim.base_generation, claim.previous_generation)
        )
        base = pending if claim.kind is ClaimKind.HEAL else base
        if "fence read before the advisory lock" in self.bugs:
            yield Call(LOCK, "require", (run, claim))
        if "no advisory lock" not in self.bugs:
            yield Call(database, "exclusive")
        is_blind = "RETAIN without a probe" in self.bugs
        applied_before = not is_blind and (yield Call(database, "accepts", (pending,)))
        if not applied_before:
            if "base not probed" not in self.bugs:
                base_logs_in = (
                    (yield Call(database, "accepts", (base,))) if base else claim.base_generation == 0
                )
                if not base_logs_in:
                    raise errors.CurrentCredentialRejectedError
            if not self.bugs & {"fence not read", "fence read before the advisory lock"}:
                yield Call(LOCK, "require", (run, claim))
            try:
                yield from self._stage(database, base, pending)
            except errors.PasswordRefusedByPolicyError:
                return "refused"
        if "pending not proven" not in self.bugs and not (yield Call(database, "accepts", (pending,))):
            raise errors.PendingCredentialRejectedError
        if base and not applied_before and not (yield Call(database, "accepts", (base,))):
            raise errors.CurrentCredentialRejectedError
        if previous and previous not in (pending, base) and "previous not proven" not in self.bugs:
            yield from self._require_dead(database, previous)
        return "applied"

    def _stage(self, database: str, current: Login | None, pending: Login) -> Calls:
        """`Stager.stage` of the engine."""
        match self.engines[DATABASES.index(database)]:
            case "mysql" if "RETAIN without a probe" in self.bugs:
                yield Call(database, "alter", (pending, True))
            case "mysql" if current is None:
                yield Call(database, "alter", (pending, False))
                yield Call(database, "discard", (pending,))
            case "mysql":
                if (yield Call(database, "accepts", (current,))) and (
                    yield Call(database, "accepts", (pending,))
                ):
                    return
                if "primary not set to base first" not in self.bugs:
                    yield Call(database, "alter", (current, True))
                yield Call(database, "alter", (pending, True))
            case "mariadb":
                beside = (current,) if current else ()
                yield Call(database, "set_passwords", (pending, *beside))
            case _ if current == pending:
                return
            case _:
                yield Call(database, "set_only_password", (pending,))

    def retire(self, run: Run, action: str, database: str, claim: Claim) -> Calls:
        """Make pending (`withdraw`) or base (`revoke`) dead."""
        pending, base, _ = yield Call(STORES[0], "logins", (claim.generation, claim.base_generation, None))
        drop, keep = (base, pending) if action == "revoke" else (pending, base)
        if not (drop and keep and drop != keep):
            return
        if "no advisory lock" not in self.bugs:
            yield Call(database, "exclusive")
        if not (yield Call(database, "accepts", (keep,))):
            raise errors.CurrentCredentialRejectedError
        if "fence not read" not in self.bugs:
            yield Call(LOCK, "require", (run, claim))
        match self.engines[DATABASES.index(database)]:
            case "mysql":
                yield Call(database, "alter", (keep, False))
                yield Call(database, "discard", (keep,))
            case "mariadb":
                yield Call(database, "set_passwords", (keep,))
            case _ if drop.user != keep.user:
                yield Call(database, "set_only_password", (Login(drop.user, NOBODY_KNOWS),))
        yield from self._require_dead(database, drop)

    def _require_dead(self, database: str, login: Login) -> Calls:
        if (yield Call(database, "accepts", (login,))):
            raise errors.PreviousCredentialAcceptedError

    def raise_fence(self, run: Run) -> Calls:
        """Shut out the invocations that were given up; the rest of the run goes under the new fence."""
        return (yield Call(LOCK, "raise_fence", (run,)))

    def update_secrets(self, run: Run, claim: Claim) -> Calls:
        """Promote in every store: what is current, the fence, compare and set."""
        for name in STORES:
            if "database before write-ahead" in self.bugs and name != STORES[0]:
                (login, *_) = yield Call(STORES[0], "logins", (claim.generation, 0, None))
                yield Call(name, "stage", (claim.generation, login))
            if "blind promotion" in self.bugs:
                yield Call(LOCK, "require", (run, claim))
                yield Call(name, "promote", (claim.generation,))
                continue
            seen = yield Call(name, "describe", (claim.generation,))
            if "fence not read before promotion" not in self.bugs:
                yield Call(LOCK, "require", (run, claim))
            if seen:
                yield Call(name, "promote", (claim.generation, seen))

    def audit(self, run: Run, claim: Claim) -> Calls:
        """Audit and ReleaseLock."""
        record = Record(*(yield Call(LOCK, "require", (run, claim))))
        done = decide.release_after(claim, _record(record), _SCHEDULE, started=_NOW, promoted=_NOW)
        yield Call(LOCK, "release", (run, done.current_generation, done.previous_generation))

    def give_up(self, run: Run) -> Calls:
        """ReleaseLockAfterFailure: the claim stays."""
        yield Call(LOCK, "release", (run, None, None))


def _find_generation(generation: int) -> Generator[Call, Any, Login | None]:
    for name in STORES:
        found: Login | None = yield Call(name, "read_generation", (generation,))
        if found:
            return found
    return None


def _candidates(
    record: Record, current: Mapping[str, Value], values: Mapping[str, model.StoredValue]
) -> Generator[Call, Any, tuple[tuple[str, Login], ...]]:
    found = [(c.store, current[c.store].login) for c in decide.candidates(_record(record), values)]
    known = [record.current, record.claim.generation if record.claim else None]
    for generation in reversed(known):
        if generation is not None and all(v.generation != generation for v in current.values()):
            for name in STORES:
                login = yield Call(name, "read_generation", (generation,))
                if login:
                    found.insert(0, (name, login))
                    break
    return tuple(found)


_NOW = datetime(2030, 1, 1, tzinfo=UTC)
_SCHEDULE = model.Schedule(interval=timedelta(0), overlap=timedelta(0), tolerance=timedelta(0))


def _record(record: Record) -> model.LockRecord:
    return model.LockRecord(
        credential_id="",
        claim=record.claim,
        current_generation=record.current,
        previous_generation=record.previous,
        highest_generation=record.highest,
    )


def _stored(name: str, value: Value) -> model.StoredValue:
    login = model.Login(str(value.login.user), model.SecretStr(repr(value.login.password)))
    return model.StoredValue(
        login=login, generation=value.generation, blob_generation=value.generation, version=name
    )
