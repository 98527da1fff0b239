"""The checker: every state that runs, faults and people can lead to, breadth first, so that a story is the shortest.

A state is a tuple of small numbers, one for each part of the world; each number is the index of a value.
A call goes to one part, so what it does is worked out once for each pair of a process and a part, and remembered.
Nothing is hashed down: two states are the same if all their parts are equal.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from lockstep.protocol.model import Lease, LockRecord
from lockstep.protocol.orders import Revoke
from tests.proof import model_world as model
from tests.proof.invariants import ViolationError
from tests.proof.model_bounds import Budget
from tests.proof.model_invariants import World, has_lock, violation
from tests.proof.model_process import Interpreter, Process
from tests.support.memory_lock import ordered

State = tuple[int, ...]
"""Ids: lock, stores, databases (0 where there are fewer), budget, the orphan, the runs."""
Events = Iterator[tuple[str, str, dict[int, Any]]]
"""What time, failures and people do: what it takes from the budget, its text, and the parts that change."""
S_LOCK, S_STORES, S_DATABASES, S_BUDGET, S_ORPHAN, S_RUNS = 0, 1, 3, 6, 7, 8
PART = {name: i for i, name in enumerate((model.LOCK, *model.STORES, *model.DATABASES))}
NONE = 0
ALIVE = 2
"""Runs that can be alive at once, all but one of them without the lock."""
LONE_WRITES = ("release",)
"""Steps that are one call. A call that was left running may be done later."""
READS = ("accepts", "recorded")
"""Calls that change nothing, on a database."""
RECOVERY = 99
"""The first run that comes when all faults are over."""
RECOVERING_RUNS = 3
"""The most that it takes: one that fails and says what it needs, one that has it, and one for an emergency."""


class Step(NamedTuple):
    """A transition: its text, the state after it, and the invariant that it broke."""

    label: tuple[Any, ...]
    state: State
    violation: ViolationError | None = None


class Result(NamedTuple):
    """The result of an exploration."""

    states: int
    transitions: int
    violation: ViolationError | None = None
    story: tuple[str, ...] = ()


def _freed(lock: LockRecord) -> LockRecord:
    """The record when every lease is over that a clock can have written that is right."""
    if lock.expires_at and lock.expires_at >= model.FAR:
        return lock
    return replace(lock, holder=None, expires_at=None)


def _has_far(lock: LockRecord) -> bool:
    """Whether a time stands in the record that no clock can have written that is right."""
    return any(time and time >= model.FAR for time in (lock.expires_at, lock.next_due_at, lock.not_before))


class Checker:
    """Explores the shipped code on some engines within one budget."""

    def __init__(
        self, engines: tuple[str, ...], budget: Budget, *, waives: frozenset[str] = frozenset()
    ) -> None:
        self.engines = engines
        self.interpreter = Interpreter(engines, has_host=bool(budget.hosts))
        self.waives = waives
        self.budget = budget
        self._values: list[Any] = [None]
        self._ids: dict[Any, int] = {None: NONE}
        self._moves: dict[tuple[int, int], list[tuple[int, model.Effect, tuple[int, ...]]]] = {}
        self._broken: dict[State, ViolationError | None] = {}
        self._recovered: dict[State, ViolationError | None] = {}
        self.first = self._start()

    # ---- Values and ids

    def _id(self, value: model.Reply) -> int:
        found = self._ids.get(value)
        if found is None:
            found = self._ids[value] = len(self._values)
            self._values.append(value)
        return found

    def _start(self) -> State:
        """Rotations are behind it, and the next one is due; what every slot serves logs in, and so does base."""
        alternating = "postgresql" in self.engines
        base, newest = model.Login(0, (1,)), model.Login(int(alternating), (2,))
        ring = model.Store(
            (model.Value(1, base), model.Value(2, newest)), ((1, base, 0, 0), (2, newest, 1, 0)), 2, False
        )
        aws = model.Store((model.Value(2, newest),), ((1, base, 0, 0), (2, newest, 0, 0)), 2, False)
        recorded = {"current_generation": 2, "highest_generation": 2, "valid": frozenset({1, 2})}
        lock = replace(model.LOST, fence=2, plan=model.DIGEST, **recorded)  # type: ignore[arg-type]  # as it has
        databases = [self._at_first(engine, newest.user) for engine in self.engines]
        if self.budget.hosts:
            databases[-1] = databases[-1]._replace(host=model.WELL)
        lacking = [None] * (len(model.DATABASES) - len(databases))
        return (*map(self._id, (lock, aws, ring, *databases, *lacking, self.budget)), *[NONE] * (1 + ALIVE))

    def _at_first(self, engine: str, user: int) -> model.Database:
        """A database; where it can fail over, with what it had before the rotation that is behind it."""
        kept: tuple[int | None, int | None] = (1, None)
        if engine == "postgresql":
            kept, made = (None, None), model.Database(engine, ((1,), (2,)))
            before = ((-1,), (2,)) if user == 0 else ((1,), (-1,))
        elif engine == "mysql":
            made, before = model.Database(engine, ((2,), (1,)), record=(2, 1)), ((1,), (-1,))
        else:
            made, before = model.Database(engine, ((1,), (2,))), ((-1,), (1,))
        return made._replace(past=((before, kept),)) if self.budget.failovers else made

    # ---- Transitions

    def _databases(self, state: State | list[int]) -> list[tuple[int, str, model.Database]]:
        """Their places in a state, with their names."""
        places = enumerate(model.DATABASES[: len(self.engines)], S_DATABASES)
        return [(i, name, self._values[state[i]]) for i, name in places]

    def _hung_up(self, state: list[int], process: Process) -> None:
        """The connections of a process are closed."""
        for i, _, database in self._databases(state):
            if database.session == process.session:
                state[i] = self._id(database.unlocked())

    def _looked(self, state: list[int], process: Process, call: model.Call) -> None:
        """Whether a call has looked at the lock record, and its run still has the lock: then changes may begin."""
        if call.to != model.LOCK or not has_lock(self._values[state[S_LOCK]], process.run):
            return
        for i, _, database in self._databases(state):
            if database.session == process.session:
                state[i] = self._id(database._replace(fenced=True))

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that can happen next."""
        for spends, label, parts in self._events(state):
            new = list(state)
            for i, value in parts.items():
                new[i] = self._id(value)
            new[S_BUDGET] = self._spend(state[S_BUDGET], spends)
            yield Step(("world", label), tuple(new))
        yield from self._acquisitions(state)
        for i in range(S_ORPHAN, len(state)):
            if state[i]:
                yield from self._process_moves(state, i)

    def _events(self, state: State) -> Events:
        lock: LockRecord = self._values[state[S_LOCK]]
        left: Budget = self._values[state[S_BUDGET]]
        # Without anybody else, the end of a lease or of a session is no more than a failed call.
        rivals = sum(map(bool, state[S_ORPHAN:])) > 1 or left.terms > 0
        if lock.expires_at and lock.expires_at > model.NOW and rivals:
            yield "", "the lease ends", {S_LOCK: replace(lock, expires_at=model.NOW - model.LATER)}
        if not model.is_due(lock):
            yield "", "the overlap is over and a rotation is due", {S_LOCK: model.made_due(lock)}
        for i, name, database in self._databases(state):
            if database.session and rivals:
                yield "", f"{name} ends the session that holds its advisory lock", {i: database.unlocked()}
        if lock.activate not in (None, model.DIGEST) and not (lock.claim or lock.holder):
            under_another = replace(lock, plan=lock.activate, activate=None)
            yield "", "a run under another plan makes it active", {S_LOCK: under_another}
        yield from self._acts_of_people(state, lock, left)
        yield from self._orders(state, lock) if left.orders else ()
        yield from self._acts_of_a_dba(state) if left.dbas else ()
        yield from self._wrong_times(lock) if left.clocks else ()
        yield from self._outages(state, left)
        yield from self._failures(state, left)

    def _acts_of_people(self, state: State, lock: LockRecord, left: Budget) -> Events:
        if left.revokes and lock.highest_generation:
            # It does not wait for the overlap, and promises none.
            revoking = replace(model.made_due(lock), revoke_through=lock.highest_generation)
            yield "revokes", "an operator orders the emergency", {S_LOCK: revoking}
        if (answered := self._answered(state)) != lock:
            yield "", "an operator orders what the last error names", {S_LOCK: answered}
        for i, name in enumerate(model.STORES, S_STORES) if left.edits else ():
            store: model.Store = self._values[state[i]]
            older = [login for g, login, *_ in store.versions if 0 < g <= store.serving().generation]
            for login in (model.JUNK, *older):
                yield "edits", f"a person writes {login} into {name}", {i: store.edited_to(login)}
        for i, name in enumerate(model.STORES, S_STORES) if left.texts else ():
            label = f"a person writes what is no credential into {name}"
            yield "texts", label, {i: self._values[state[i]].edited_to(None)}

    def _answered(self, state: State | list[int], *, has_failed: bool = False) -> LockRecord:
        """The record after an operator did what a run that fails asks for: plan activated, accounts taken over.

        Where nothing works that may be known; and where a run has failed, since it may not show all that is known.
        """
        world = self._world(state)
        lock, stores = world.lock, world.stores.values()
        known = {login for store in stores if (login := store.serving().login)}
        if not has_failed:
            known |= {login for store in stores for _, login, *_ in store.versions}
        lost = {name for name, database in world.databases.items() if not any(map(database.accepts, known))}
        activate = lock.activate if lock.plan == model.DIGEST else model.DIGEST
        return replace(lock, activate=activate, take_over=lock.take_over | lost, paused=False)

    def _orders(self, state: State, lock: LockRecord) -> Events:
        databases = self._databases(state)
        for order in model.orders_of(lock, [name for _, name, _ in databases]):
            given = ordered(lock, order)
            if isinstance(order, Revoke) and given != lock:
                given = model.made_due(given)  # It does not wait for the overlap, and promises none.
            if given != lock:
                yield "orders", f"somebody orders {order}", {S_LOCK: given}
        if not lock.holder or not lock.expires_at or lock.expires_at <= model.NOW:
            yield from self._imports(state, lock) if not lock.promoting else ()
        else:
            freed = replace(lock, holder=None, expires_at=None)
            yield "orders", "somebody frees the lock of a run that is alive", {S_LOCK: freed}

    def _imports(self, state: State, lock: LockRecord) -> Events:
        """What `lockstep import` does with a login that works everywhere; also where it dies after the first store."""
        databases = [database for *_, database in self._databases(state)]
        stores = {i: self._values[state[i]] for i in range(S_STORES, S_DATABASES)}
        known = dict.fromkeys(login for store in stores.values() for _, login, *_ in store.versions)
        # It takes each advisory lock to show the login, after it has taken the lock.
        for login in known if not any(d.session for d in databases) else ():
            if all(d.accepts(login) and (not d.host or d.host_accepts(login)) for d in databases):
                imported = {i: store.imported(login) for i, store in stores.items()}
                taken = replace(lock, fence=lock.fence + 1, holder=None, expires_at=None)
                label = f"somebody imports {login}"
                yield "orders", label, {S_LOCK: taken, **imported}
                yield "orders", f"{label}, into aws alone", {S_LOCK: taken, S_STORES: imported[S_STORES]}

    def _acts_of_a_dba(self, state: State) -> Events:
        databases = self._databases(state)
        serving: model.Login = self._values[state[S_STORES]].serving().login or model.JUNK
        login = model.Login(serving.user, model.OF_DBA)
        stores = {i: self._values[state[i]].edited_to(login) for i in range(S_STORES, S_DATABASES)}
        for discards in (False, True) if "mysql" in self.engines else (False,):
            changed = {i: d.set_by_dba(login, discards=discards) for i, _, d in databases}
            how = "a DBA sets a password" + (" alone" if discards else "")
            yield "dbas", f"{how} in every database and in both stores", {**changed, **stores}
            yield "dbas", f"{how} in every database and in aws", {**changed, S_STORES: stores[S_STORES]}
            yield "dbas", f"{how} in every database", changed
            for i, name, _ in databases:
                yield "dbas", f"{how} in {name}", {i: changed[i]}

    def _wrong_times(self, lock: LockRecord) -> Events:
        for name in ("next_due_at", "not_before"):
            far: Any = {name: model.FAR}
            yield "clocks", f"a clock that is wrong writes {name}", {S_LOCK: replace(lock, **far)}
        held = replace(lock, holder=lock.holder or "a run that died", expires_at=model.FAR)
        yield "clocks", "a clock that is wrong writes the end of a lease", {S_LOCK: held}

    def _outages(self, state: State, left: Budget) -> Events:
        for i, name, database in self._databases(state):
            if database.gone:
                yield "", f"{name} is back", {i: database._replace(gone=False)}
            elif left.outages:
                yield "outages", f"{name} is gone", {i: database.unlocked()._replace(gone=True, missed=True)}
            if database.host not in ("", model.WELL):
                yield "", f"the host of {name} is well", {i: database._replace(host=model.WELL, copied=None)}
            elif database.host and left.hosts:
                for what in (model.ONCE, model.REFUSES, model.GONE):
                    yield "hosts", f"the host of {name} {what}", {i: database._replace(host=what)}
                stopped = database._replace(host=model.STOPPED, copied=database.passwords)
                yield "hosts", f"the replication to the host of {name} stops", {i: stopped}
            if database.engine == "mysql" and left.attributes:
                for record in {(None, None), database.record[::-1], (1, None)} - {database.record}:
                    label = f"the ATTRIBUTE in {name} says {record}"
                    yield "attributes", label, {i: database._replace(record=record)}

    def _failures(self, state: State, left: Budget) -> Events:
        databases = self._databases(state)
        for i, name, database in databases:
            if left.restores:
                backup = self._values[self.first[i]]._replace(foreign="restored")
                yield "restores", f"{name} is restored from a backup", {i: backup}
            for lost in range(1, len(database.past or ()) + 1) if left.failovers else ():
                label = f"{name} fails over to a replica that lacks the last {lost} of its changes"
                yield "failovers", label, {i: database.failed_over(lost)}
        if left.sudden_losses:
            yield "sudden_losses", "the lock table is lost and created again at once", {S_LOCK: model.LOST}
        if left.losses:
            ended: dict[int, Any] = {i: database.unlocked() for i, _, database in databases}
            ended |= dict.fromkeys(range(S_ORPHAN, len(state)))
            label = "the lock table is lost; all runs end, and it is created again"
            yield "losses", label, {S_LOCK: model.LOST, **ended}

    def _acquisitions(self, state: State) -> Iterator[Step]:
        budget = self._spend(state[S_BUDGET], "terms")
        number = self.budget.terms - self._values[state[S_BUDGET]].terms + 1
        held = model.acquired(self._values[state[S_LOCK]], number) if budget else None
        if held is None:
            return
        empty = [i for i in range(S_RUNS, len(state)) if not state[i]]
        for i in empty[:1] or range(S_RUNS, len(state)):
            new = list(state)
            if new[i]:
                self._hung_up(new, self._values[new[i]])
            new[S_LOCK], new[S_BUDGET] = self._id(held), budget
            new[i] = self._id(self.interpreter.start(model.Run(number, held.fence)))
            yield Step(("acquire", number, state[i]), self._sorted(new))

    def _process_moves(self, state: State, i: int) -> Iterator[Step]:
        process: Process = self._values[state[i]]
        call = self.interpreter.pending(process)
        part = PART[call.to]
        moves = self._moves_of(state[i], process, call, state[part])
        for n, (part_after, effect, afterwards) in enumerate(moves):
            budget = self._spend(state[S_BUDGET], effect.spends)
            if not budget:
                continue
            for k, after in enumerate(afterwards):
                new = list(state)
                new[part], new[S_BUDGET], new[i] = part_after, budget, after
                self._looked(new, process, call)
                self._ended_well(new, call, effect)
                if after == NONE or not self._values[after].replies:
                    self._hung_up(new, process)
                self._read_on(new, i, call)
                broken = self._unlawful(state, process, call, effect)
                yield Step(("call", i, n, k), self._sorted(new), broken)
        if i == S_ORPHAN:
            return
        if process.replies:
            new = list(state)
            new[i] = self._id(self.interpreter.again(process))
            self._hung_up(new, process)
            yield Step(("again", i), self._sorted(new))
        budget = self._spend(state[S_BUDGET], "twins")
        if budget and (process.replies or call.op in LONE_WRITES):
            new = list(state)
            if new[S_ORPHAN]:
                self._hung_up(new, self._values[new[S_ORPHAN]])
            new[S_BUDGET], new[S_ORPHAN] = budget, self._id(process._replace(orphaned=True))
            new[i] = self._id(process._replace(replies=(), twin=process.twin + 1))
            yield Step(("twin", i), self._sorted(new))

    def _ended_well(self, state: list[int], call: model.Call, effect: model.Effect) -> None:
        """Where a database accepts what stores serve, it is as any other; what an emergency has ended may be back."""
        is_done = call.op == "release" and call.args[1] is not None and effect.reply is None
        lock: LockRecord = self._values[state[S_LOCK]]
        if not is_done or lock.is_revoking:
            return
        served = [self._values[state[i]].serving().login for i in (S_STORES, S_STORES + 1)]
        for i, _, database in self._databases(state):
            if all(login and database.accepts(login) for login in served):
                foreign = "" if lock.revoke_through is None else database.foreign
                state[i] = self._id(database._replace(foreign=foreign, missed=database.gone))

    def _read_on(self, state: list[int], i: int, last: model.Call) -> None:
        """Take what a process reads next together with its last call, where nothing that matters can come between.

        A staged value never changes. And while a session holds the advisory lock, nobody else changes its database;
        what happens after the session was cut is explored from before its reads.
        """
        while state[i]:
            process: Process = self._values[state[i]]
            call = self.interpreter.pending(process)
            is_more = call.op in READS and (call.to, last.op) in ((last.to, "accepts"), (last.to, "alter"))
            if not (is_more or call.op == "versions"):
                return
            ((_, _, afterwards),) = self._moves_of(state[i], process, call, state[PART[call.to]])
            if len(afterwards) > 1 or not afterwards[0] or not self._values[afterwards[0]].replies:
                return
            state[i], last = afterwards[0], call

    def _moves_of(
        self, i: int, process: Process, call: model.Call, part: int
    ) -> list[tuple[int, model.Effect, tuple[int, ...]]]:
        moves = self._moves.get((i, part))
        if moves is None:
            found = model.effects(self._values[part], call, process.session)
            moves = self._moves[i, part] = [
                (self._id(e.part), e, tuple(map(self._id, self.interpreter.advanced(process, e.reply))))
                for e in found
            ]
        return moves

    def _spend(self, budget: int, what: str) -> int:
        """The budget without one of these; 0 where there is none left."""
        if not what:
            return budget
        left: Budget = self._values[budget]
        much = getattr(left, what)
        return self._id(left._replace(**{what: much - 1})) if much else 0

    def _sorted(self, state: list[int]) -> State:
        # Which place a run has says nothing about it.
        return (*state[:S_RUNS], *sorted(state[S_RUNS:], reverse=True))

    # ---- Invariants

    def _world(self, state: State | list[int]) -> World:
        return World([self._values[i] for i in state[:S_BUDGET]])

    def _unlawful(
        self, state: State | list[int], process: Process, call: model.Call, effect: model.Effect
    ) -> ViolationError | None:
        is_done = effect.reply is None
        if call.op == "claim" and is_done:
            return violation(self._world(state).at_claim, effect.part)
        if call.op == "stage":
            return violation(self._world(state).at_staging, call)
        claim = self.interpreter.place(process).claim
        if claim is None:
            return None
        if call.op == "release" and call.args[1] is not None and is_done:
            return violation(self._world(state).at_release, claim, call.args[1].valid)
        if not effect.wrote:
            return None
        world = self._world(state)
        zombie = None if "I5" in self.waives else violation(world.no_zombie, process, claim, call)
        return zombie or violation(world.of_write, process, call, effect)

    def broken(self, state: State) -> ViolationError | None:
        """The first invariant that a state breaks; I8 is checked by running the next run from there."""
        world = state[:S_BUDGET]
        if world not in self._broken:
            check = partial(self._world(world).in_state, has_overlap=self.budget.promises_overlap)
            self._broken[world] = violation(check) or self._diverges(world)
        return self._broken[world]

    def _diverges(self, world: State) -> ViolationError | None:
        """I8: every process dies here, faults stop, and the next run must bring everything in sync.

        Where a person must act first, the error says so: an operator does that, and the run after it must do it.
        """
        lock = _freed(model.made_due(self._values[world[S_LOCK]]))
        state = [self._id(lock), *world[S_STORES:S_BUDGET]]
        for i, _, database in self._databases(world):
            state[i] = self._id(database.unlocked())
        rest = tuple(state)
        if rest not in self._recovered:
            self._recovered[rest] = self._is_delayed(list(rest)) or self._recovers(self._healed(rest))
        return self._recovered[rest]

    def _healed(self, state: State) -> list[int]:
        """The state when all outages are over."""
        healed = list(state)
        for i, _, database in self._databases(state):
            host = model.WELL if database.host else ""
            healed[i] = self._id(database._replace(gone=False, host=host, copied=None))
        return healed

    def _is_delayed(self, state: list[int]) -> ViolationError | None:
        """I17: with consent for what is gone, neither a database nor a verify host ends an emergency late.

        But a host that accepts what is to be revoked keeps it open.
        """
        lock, databases = self._values[state[S_LOCK]], self._databases(state)
        gone = {name for _, name, database in databases if database.gone}
        is_bad = gone or any(database.host in (model.REFUSES, model.GONE) for *_, database in databases)
        is_open = any(database.host == model.STOPPED for *_, database in databases)
        if not lock.is_revoking or not is_bad or is_open or len(gone) == len(databases):
            return None
        for number in range(RECOVERY, RECOVERY + RECOVERING_RUNS):
            answered = self._answered(state)
            answered = replace(answered, take_over=answered.take_over | gone)
            held = model.acquired(model.made_due(answered), number)
            failure = self._alone(state, held, number) if held else None
            if not self._values[state[S_LOCK]].is_revoking:
                return None
        return ViolationError("I17", f"an emergency waits for what is gone: {failure}")

    def _recovers(self, state: list[int]) -> ViolationError | None:
        """Runs, undisturbed, until one does not fail; before each an operator orders what the last one asked for.

        I13 and I14: where some login works everywhere, the first one does not fail, also before a rotation may begin.
        """
        failure = None
        if self._has_cure(state) and (broken := self._is_not_cured(state)):
            return broken
        for number in range(RECOVERY, RECOVERY + RECOVERING_RUNS):
            answered = self._answered(state, has_failed=failure is not None)
            held = model.acquired(model.made_due(answered), number)
            if held is None:
                return ViolationError("I14", "a time that cannot be keeps a run from the lock")
            failure = self._alone(state, held, number)
            lock: LockRecord = self._values[state[S_LOCK]]
            is_over = failure is None and not lock.is_revoking and not _has_far(lock)
            if is_over or (failure and failure.invariant != "I8"):
                return failure
        if failure is None and _has_far(self._values[state[S_LOCK]]):
            return ViolationError("I14", "undisturbed runs leave a time that cannot be in the record")
        return failure or ViolationError("O5", "undisturbed runs do not end an emergency")

    def _has_cure(self, state: list[int]) -> bool:
        """Whether a login that a store holds or serves works on every database."""
        world = self._world(state)
        held = [login for store in world.stores.values() for _, login, *_ in store.versions]
        served = [login for store in world.stores.values() if (login := store.serving().login)]
        return any(
            all(database.accepts(login) for database in world.databases.values())
            for login in (*held, *served)
        )

    def _is_not_cured(self, state: list[int]) -> ViolationError | None:
        for number, (invariant, due) in enumerate((("I13", True), ("I14", False)), RECOVERY):
            after, lock = list(state), model.made_due(self._values[state[S_LOCK]], due)
            activate = None if lock.plan == model.DIGEST else model.DIGEST
            held = model.acquired(replace(lock, activate=activate), number, force=True)
            when = "the first run" if due else "the first forced run"
            if held is None:
                return ViolationError(invariant, f"{when} does not get the lock")
            if failure := self._alone(after, held, number):
                is_other = failure.invariant != "I8"
                return failure if is_other else ViolationError(invariant, f"{when} does not cure: {failure}")
            if self._world(after).now.locked_out():
                return ViolationError(invariant, f"after {when} a store serves what is refused")
        return None

    def _alone(self, state: list[int], held: LockRecord, number: int) -> ViolationError | None:
        """One run, undisturbed, that has got the lock."""
        state[S_LOCK] = self._id(held)
        i, begun = self._id(self.interpreter.start(model.Run(number, held.fence))), set[tuple[int, ...]]()
        while True:
            process: Process = self._values[i]
            if not process.replies:
                if (i, *state) in begun:
                    step = self.interpreter.place(process).step
                    return ViolationError("I8", f"an undisturbed run tries {step} for ever")
                begun.add((i, *state))
            call = self.interpreter.pending(process)
            part, effect, afterwards = self._moves_of(i, process, call, state[PART[call.to]])[0]
            if broken := self._unlawful(state, process, call, effect):
                return broken
            state[PART[call.to]] = part
            if afterwards[0] == NONE:
                return violation(self._world(state).at_rest)
            i = afterwards[-1]
            if not self._values[i].replies:
                self._hung_up(state, process)
                if self.interpreter.place(self._values[i]).step == "ReleaseLockAfterFailure":
                    state[S_LOCK] = self._id(_freed(self._values[state[S_LOCK]]))
                    return ViolationError("I8", f"an undisturbed run fails at {call.op} of {call.to}")

    # ---- Exploration

    def explore(self) -> Result:
        """Breadth first from the start, until something is broken or everything is seen."""
        parents: dict[State, State | None] = {self.first: None}
        frontier, transitions = [self.first], 0
        while frontier:
            following = []
            for state in frontier:
                for step in self.steps(state):
                    transitions += 1
                    broken = step.violation
                    if broken is None:
                        if step.state in parents:
                            continue
                        broken = self.broken(step.state)
                    parents.setdefault(step.state, state)
                    if broken:
                        story = tuple(self._story(parents, state, step))
                        return Result(len(parents), transitions, broken, story)
                    following.append(step.state)
            frontier = following
        return Result(len(parents), transitions)

    def _story(self, parents: dict[State, State | None], state: State, last: Step) -> Iterator[str]:
        path = [state]
        while (before := parents[path[-1]]) is not None:
            path.append(before)
        for a, b in pairwise(reversed(path)):
            yield self._describe(a, next(step for step in self.steps(a) if step.state == b))
        yield self._describe(state, last)

    def _describe(self, state: State, step: Step) -> str:
        kind, *details = step.label
        if kind == "world":
            return str(details[0])
        if kind == "acquire":
            number, dead = details
            dies = f"run {self._values[dead].run.number} is dead; " if dead else ""
            return f"{dies}run {number} gets the lock"
        process: Process = self._values[state[details[0]]]
        who = f"run {process.run.number}{chr(39) * process.twin}, {self.interpreter.place(process).step}: "
        if kind != "call":
            return f"{who}it is tried again{', and the first try goes on' * (kind == 'twin')}"
        call = self.interpreter.pending(process)
        _, effect, _ = self._moves_of(state[details[0]], process, call, state[PART[call.to]])[details[1]]
        asked = (*call.args, *(value for _, value in call.named))
        arguments = ", ".join(repr(a) for a in asked if not isinstance(a, Lease))
        return f"{who}{call.to}.{call.op}({arguments}) → {effect.note or effect.reply}"
