"""When the model asks for the invariants, in every state and at every write, and what it shows of its world."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from lockstep.protocol.model import Claim, ClaimKind, LockRecord
from tests.proof import invariants
from tests.proof import model_world as model
from tests.proof.invariants import Snapshot, ViolationError
from tests.proof.model_process import Process


def violation(check: Callable[..., None], *arguments: object) -> ViolationError | None:
    """What a check raises."""
    try:
        check(*arguments)
    except ViolationError as found:
        return found
    return None


def has_lock(lock: LockRecord, run: model.Run) -> bool:
    """Whether no other run has acquired the lock since a run did, and the run has not released it."""
    return (lock.holder, lock.fence) == (str(run.number), run.fence)


class World:
    """The parts of the world, without the processes.

    Attributes:
        foreign: The databases that a person, or a failure of theirs, has set.
        missed: Those that were gone.
        excused: What is foreign, and in an emergency, until all is well, what was gone (protocol I17).
    """

    def __init__(self, parts: Sequence[model.Part | None]) -> None:
        named = zip((model.LOCK, *model.STORES, *model.DATABASES), parts, strict=True)
        self._parts = {name: part for name, part in named if part is not None}
        self.lock: LockRecord = self._parts["lock"]  # type: ignore[assignment]  # as the checker lays them out
        self.stores: dict[str, model.Store] = {s: self._parts[s] for s in model.STORES}  # type: ignore[misc]  # likewise
        self.databases: dict[str, model.Database] = {
            name: part for name, part in self._parts.items() if isinstance(part, model.Database)
        }
        self.foreign = [name for name, database in self.databases.items() if database.foreign]
        self.missed = [name for name, database in self.databases.items() if database.missed]
        self.excused = {*self.foreign, *(self.missed if self.lock.revoke_through is not None else ())}

    def _with(self, name: str, part: model.Part) -> "World":
        parts = {**self._parts, name: part}
        return World([parts.get(n) for n in (model.LOCK, *model.STORES, *model.DATABASES)])

    @cached_property
    def now(self) -> Snapshot[model.Login]:
        """What invariants are asked of."""
        claim, stores = self.lock.claim, self.stores.items()
        return Snapshot(
            databases=list(self.databases),
            serves={name: store.serving().login for name, store in stores},
            holds={name: store.find(claim.generation) for name, store in stores} if claim else {},
            lets_in=lambda database, login: self.databases[database].accepts(login),
            record=self.lock,
        )

    def in_state(self, *, has_overlap: bool) -> None:
        """What holds in every state."""
        now, when = self.now, "in a state"
        invariants.write_ahead(now, self._made(), lambda store, login: self.stores[store].holds(login), when)
        first, second = self.stores.values()
        for generation, login, *_ in first.versions:
            if self.lock.claim and not self.lock.promoting and self.lock.claim.generation == generation:
                invariants.one_value(generation, (login, second.find(generation)), when)
        # A change from outside Lockstep has locked applications out: an edit, or a database from a backup.
        edited = [name for name, store in self.stores.items() if store.edited]
        excused = [
            f"{s} at {d}" for s in model.STORES for d in self.databases if s in edited or d in self.excused
        ]
        invariants.no_lockout(now, when, excused=excused)
        through = self.lock.revoke_through
        if through is not None and not self.lock.is_revoking and not self.excused:
            leaked = [login for generation, login, *_ in first.versions if generation <= through]
            invariants.emergency_is_over(now, leaked, f"after the order through {through}")
        if has_overlap:
            invariants.overlap_is_kept(now, self._promised(), when)

    def of_write(self, process: Process, call: model.Call, effect: model.Effect) -> None:
        """I3 and I12, which depend on what is written."""
        when = f"run {process.run.number} writes to {call.to}"
        if isinstance(effect.part, model.Database):
            # I12: no statement ends a login that works there and that a store serves, but what somebody has typed.
            before = self.databases[call.to]
            for name, store in self.stores.items() if before.foreign != model.MEANWHILE else ():
                login = store.serving().login
                if login and before.accepts(login) and not effect.part.accepts(login) and not store.edited:
                    raise ViolationError(
                        "I12", f"{call.to} does not accept what {name} serves any more, {when}"
                    )
        else:
            after, excused = self._with(call.to, effect.part).now, set(self.foreign)
            if self.lock.is_revoking:
                excused |= self.lock.take_over.intersection(self.missed)
            invariants.promoted_is_proven(
                self.now, after, when, is_proven=lambda d, value: d in excused or after.lets_in(d, value)
            )
            # Whatever may be passed over, one database accepts what a store begins to serve.
            for served, value in after.serves.items():
                if (
                    value
                    and value != self.now.serves[served]
                    and not (after.accepting(value) or self.foreign)
                ):
                    raise ViolationError("I3", f"{served} serves what no database accepts, {when}")

    def no_zombie(self, process: Process, claim: Claim, call: model.Call) -> None:
        """I5, which depends on who writes."""
        run, lock = process.run, self.lock
        # A lost lock table takes the claim away while its holder is at work. That is no zombie write.
        is_lost = lock.fence < run.fence
        # A promotion that was sent before a reconcile came is a write of a value that every database accepts.
        is_reconciled = lock.claim is not None and lock.claim.kind is ClaimKind.RECONCILE
        is_promotion = call.to in model.STORES and is_reconciled and claim.generation in lock.valid
        # A change counts from a look at the fence: nobody else has come to this database since.
        database = self.databases.get(call.to)
        is_begun = database and database.fenced and model.holds_advisory_lock(database, process.session)
        if not (is_lost or is_promotion or is_begun):
            when, keeps_claim = f"run {run.number} writes to {call.to}", lock.claim == claim
            invariants.no_zombie_write(holds_lock=has_lock(lock, run), keeps_claim=keeps_claim, when=when)

    def at_staging(self, call: model.Call) -> None:
        """I16: a reconcile gives no login that another one, which is not done, has given already.

        A lost record begins anew, and so does a promotion whose database fails over.
        """
        generation, login, *_ = call.args
        lock = self.lock
        if lock.current_generation is None or lock.claim is None or self.foreign:
            return
        later = range(max(lock.current_generation, login.password[0]) + 1, generation)
        given = [g for g, held, *_ in self.stores[call.to].versions if held == login and g in later]
        if given and lock.claim.kind is ClaimKind.RECONCILE and lock.claim.generation == generation:
            raise ViolationError("I16", f"generation {generation} gives what {given} give, at {call.to}")

    def at_claim(self, after: LockRecord) -> None:
        """I4: what is in promotion gives its place to a reconcile alone."""
        if self.lock.promoting:
            claimed = self._with("lock", after)
            invariants.one_in_flight(self.now, claimed.now, "when another one is claimed")

    def at_release(self, claim: Claim, valid: Collection[int]) -> None:
        """I9: when a new value is done, no database accepts what is not valid on record; one that was restored may."""
        if claim.kind is ClaimKind.RECONCILE:
            return
        through = self.lock.revoke_through
        if through is not None and self.lock.is_revoking and claim.generation > through:
            valid = [claim.generation]
        store = self.stores[model.STORES[0]]
        live = [store.find(g) for g in valid]
        past = [login for _, login, *_ in store.versions if login not in live]
        now = replace(self.now, databases=[name for name in self.databases if name not in self.excused])
        invariants.past_is_revoked(now, past, live, f"when generation {claim.generation} is done")

    def at_rest(self) -> None:
        """I8: a run without any disturbance has brought everything in sync."""
        generations = [store.serving().generation for store in self.stores.values()]
        answering = [name for name, database in self.databases.items() if not database.gone]
        now = replace(self.now, databases=[name for name in answering if name not in self.excused])
        invariants.in_sync(now, generations, "after an undisturbed run")

    def _made(self) -> set[model.Login]:
        """Every login that works and that a run has made."""
        return {
            model.Login(user if database.engine == "postgresql" else 0, password)
            for database in self.databases.values()
            for user, password in enumerate(database.passwords)
            if len(password) > 1
        }

    def _promised(self) -> Iterable[model.Login]:
        """What must log in although it is not served any more."""
        lock, store = self.lock, self.stores[model.STORES[0]]
        older = [g for g in lock.valid if lock.current_generation is not None and g < lock.current_generation]
        if model.is_due(lock) or not older or self.foreign:
            return []
        previous, current = store.find(max(older)), store.find(lock.current_generation or 0)
        if previous is None or (current and current.password[0] != lock.current_generation):
            return []  # A reconcile renames a login that works; it promises no new overlap.
        return [previous]
