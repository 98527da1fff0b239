"""The checker: every state that runs, faults and people can lead to, breadth first, so that a story is the shortest.

A state is a tuple of small numbers, one for each part of the world; each number is the index of a value.
A call goes to one part, so what it does is worked out once for each pair of a process and a part, and remembered.
Nothing is hashed down: two states are the same if all their parts are equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from lockstep.protocol.model import Lease
from tests.proof import model_invariants as invariants
from tests.proof.invariants import ViolationError
from tests.proof.model_bounds import SPENDABLE, Budget
from tests.proof.model_process import Interpreter, Process
from tests.proof.model_story import describe, short
from tests.proof.model_world import (
    DATABASES,
    JUNK,
    LOCK,
    LOST,
    STORES,
    Call,
    Database,
    Effect,
    Lock,
    Login,
    Reply,
    Run,
    Store,
    Value,
    acquired,
    effects,
)

State = tuple[int, ...]
"""Ids: lock, stores, databases, budget, the orphan, the runs."""
S_LOCK, S_STORES, S_DATABASES, S_BUDGET, S_ORPHAN, S_RUNS = 0, 1, 3, 5, 6, 7
PART = {LOCK: 0, STORES[0]: 1, STORES[1]: 2, DATABASES[0]: 3, DATABASES[1]: 4}
NONE = 0
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


def _answered(lock: Lock) -> Lock:
    """The record after an operator did what a failed run asked for: plan activated, take-over of what is blocked."""
    take_over = tuple(sorted({*lock.take_over, *lock.blocked}))
    return lock._replace(activate=lock.activate or not lock.plan, take_over=take_over)


def _at_first(engine: str, passwords: tuple[tuple[int, ...], ...]) -> Database:
    match engine:
        case "mysql":
            return Database(engine, passwords, record=(2, 1))
        case "mariadb":
            return Database(engine, tuple(sorted(passwords)))
    return Database(engine, passwords)


@dataclass
class Result:
    """The result of an exploration."""

    states: int
    transitions: int
    violation: ViolationError | None
    story: list[str] = field(default_factory=list)
    cut: bool = False


class Checker:
    """Explores the shipped code on two engines within one budget."""

    def __init__(
        self, engines: tuple[str, str], budget: Budget, *, waives: frozenset[str] = frozenset()
    ) -> None:
        self.engines = engines
        self.interpreter = Interpreter(engines)
        self.waives = waives
        self.budget = budget
        self._values: list[Any] = [None]
        self._ids: dict[Any, int] = {None: NONE}
        self._moves: dict[tuple[int, int], list[tuple[int, Effect, tuple[int, ...]]]] = {}
        self._broken: dict[State, ViolationError | None] = {}
        self._recovered: dict[State, ViolationError | None] = {}

    # ---- Values and ids

    def _id(self, value: Reply) -> int:
        found = self._ids.get(value)
        if found is None:
            found = self._ids[value] = len(self._values)
            self._values.append(value)
        return found

    def start(self) -> State:
        """Rotations are behind it, and the next one is due; what every slot serves logs in, and so does base."""
        newest = 2
        logins = {g: self._login(g) for g in range(1, newest + 1)}
        versions = tuple((g, login, g - 1, 0) for g, login in logins.items())
        ring = Store(tuple(Value(g, login) for g, login in logins.items()), versions, newest, False)
        in_aws = tuple((g, login, 0, 0) for g, login in logins.items())
        aws = Store((Value(newest, logins[newest]),), in_aws, newest, False)
        passwords = tuple(login.password for login in logins.values())
        if "postgresql" not in self.engines:
            passwords = logins[newest].password, logins[newest - 1].password
        parts = [
            Lock(0, newest, False, None, False, newest, tuple(logins), newest, True),
            aws,
            ring,
            *(self._with_past(_at_first(engine, passwords), logins) for engine in self.engines),
            tuple(getattr(self.budget, name) for name in SPENDABLE),
        ]
        return (*map(self._id, parts), *[NONE] * (1 + self.budget.alive))

    def _with_past(self, database: Database, logins: dict[int, Login]) -> Database:
        """What it had before the rotation that is behind it: the password before base, in the place of the newest."""
        if not self.budget.failovers:
            return database
        before = Login(logins[max(logins)].user, (-1,))
        if database.engine == "postgresql":
            passwords = list(database.passwords)
            passwords[before.user] = before.password
            return database._replace(past=((tuple(passwords), database.record),))
        older = (logins[1].password, before.password)
        kept = older if database.engine == "mysql" else tuple(sorted(older))
        return database._replace(past=((kept, (1, None)),))

    def _login(self, generation: int) -> Login:
        user = (generation - 1) % 2 if "postgresql" in self.engines else 0
        return Login(user, (generation,))

    # ---- Transitions

    def _hung_up(self, state: list[int], process: Process) -> None:
        """The connections of a process are closed."""
        for i in (S_DATABASES, S_DATABASES + 1):
            database = self._values[state[i]]
            if database.session == process.session:
                state[i] = self._id(database.unlocked())

    def _looked(self, state: list[int], process: Process, call: Call) -> None:
        """Whether a call has looked at the lock record, and its run still has the lock: then changes may begin."""
        if call.to != LOCK or not invariants.has_lock(self._values[state[S_LOCK]], process.run):
            return
        for i in (S_DATABASES, S_DATABASES + 1):
            database = self._values[state[i]]
            if database.session == process.session:
                state[i] = self._id(database._replace(fenced=True))

    def steps(self, state: State) -> Iterator[Step]:
        """Everything that can happen next."""
        yield from self._world_moves(state)
        for i in range(S_ORPHAN, len(state)):
            if state[i]:
                yield from self._process_moves(state, i)

    def _process_moves(self, state: State, i: int) -> Iterator[Step]:
        process: Process = self._values[state[i]]
        call = self.interpreter.pending(process)
        part = PART[call.to]
        for n, (part_after, effect, afterwards) in enumerate(
            self._moves_of(state[i], process, call, state[part])
        ):
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
                violation = self._unlawful(state, process, call, effect)
                yield Step(("call", i, n, k), self._sorted(new), violation)
        if i == S_ORPHAN:
            return
        if process.replies:
            new = list(state)
            new[i] = self._id(self.interpreter.again(process))
            self._hung_up(new, process)
            yield Step(("again", i), self._sorted(new))
        if process.replies or call.op in LONE_WRITES:
            budget = self._spend(state[S_BUDGET], "twins")
            if budget:
                new = list(state)
                if new[S_ORPHAN]:
                    self._hung_up(new, self._values[new[S_ORPHAN]])
                new[S_BUDGET], new[S_ORPHAN] = budget, self._id(process._replace(orphaned=True))
                new[i] = self._id(process._replace(replies=(), twin=process.twin + 1))
                yield Step(("twin", i), self._sorted(new))

    def _ended_well(self, state: list[int], call: Call, effect: Effect) -> None:
        """Where a database accepts what stores serve, it is as any other; what an emergency has ended may be back."""
        is_done = call.op == "release" and call.args[1] is not None and effect.reply is None
        if not is_done or self._values[state[S_LOCK]].revoke is not None:
            return
        served = [self._values[state[i]].serving().login for i in (S_STORES, S_STORES + 1)]
        for i in (S_DATABASES, S_DATABASES + 1):
            database: Database = self._values[state[i]]
            if all(map(database.accepts, served)):
                state[i] = self._id(database._replace(foreign=""))

    def _read_on(self, state: list[int], i: int, last: Call) -> None:
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
        self, i: int, process: Process, call: Call, part: int
    ) -> list[tuple[int, Effect, tuple[int, ...]]]:
        moves = self._moves.get((i, part))
        if moves is None:
            found = effects(self._values[part], call, process.session)
            moves = self._moves[i, part] = [
                (self._id(e.part), e, tuple(map(self._id, self.interpreter.advanced(process, e.reply))))
                for e in found
            ]
        return moves

    def _world_moves(self, state: State) -> Iterator[Step]:
        lock: Lock = self._values[state[S_LOCK]]
        # Without anybody else, the end of a lease or of a session is no more than a failed call.
        rivals = sum(map(bool, state[S_ORPHAN:])) > 1 or self._values[state[S_BUDGET]][0] > 0
        if lock.live and rivals:
            yield self._changed(state, "the lease ends", {S_LOCK: lock._replace(live=False)})
        if not lock.due:
            yield self._changed(
                state, "the overlap is over and a rotation is due", {S_LOCK: lock._replace(due=True)}
            )
        for i, name in enumerate(DATABASES):
            database: Database = self._values[state[S_DATABASES + i]]
            if database.session and rivals:
                cut = database.unlocked()
                yield self._changed(
                    state, f"{name} ends the session that holds its advisory lock", {S_DATABASES + i: cut}
                )
        yield from self._acquisitions(state, lock)
        yield from self._orders(state, lock)
        yield from self._restores(state)
        yield from self._failovers(state)
        budget = self._spend(state[S_BUDGET], "edits")
        for i, name in enumerate(STORES):
            if budget:
                store: Store = self._values[state[S_STORES + i]]
                older = [login for g, login, *_ in store.versions if 0 < g < store.serving().generation]
                for login in (JUNK, *older):
                    yield self._changed(
                        state,
                        f"a person writes {describe(login)} into {name}",
                        {S_STORES + i: _edited(store, login)},
                        budget,
                    )
        yield from self._losses(state)

    def _failovers(self, state: State) -> Iterator[Step]:
        budget = self._spend(state[S_BUDGET], "failovers")
        for i, name in enumerate(DATABASES):
            database: Database = self._values[state[S_DATABASES + i]]
            for lost in range(1, len(database.past or ()) + 1) if budget else ():
                yield self._changed(
                    state,
                    f"{name} fails over to a replica that lacks the last {lost} of its changes",
                    {S_DATABASES + i: database.failed_over(lost)},
                    budget,
                )

    def _losses(self, state: State) -> Iterator[Step]:
        empty = {S_LOCK: LOST}
        budget = self._spend(state[S_BUDGET], "sudden_losses")
        if budget:
            yield self._changed(state, "the lock table is lost and created again at once", empty, budget)
        first = self._values[self.start()[S_LOCK]]
        for what, lock, label in (
            ("losses", LOST, "the lock table is lost; all runs end, and it is created again"),
            ("rewinds", first, "all runs end, and the lock table is restored to the beginning"),
        ):
            budget = self._spend(state[S_BUDGET], what)
            if budget:
                yield self._changed(self._all_ended(state), label, {S_LOCK: lock}, budget)

    def _all_ended(self, state: State) -> State:
        rest = list(state)
        for i in range(S_ORPHAN, len(state)):
            if state[i]:
                self._hung_up(rest, self._values[state[i]])
                rest[i] = NONE
        return tuple(rest)

    def _acquisitions(self, state: State, lock: Lock) -> Iterator[Step]:
        budget = self._spend(state[S_BUDGET], "terms")
        if not budget:
            return
        number = self.budget.terms - self._values[state[S_BUDGET]][0] + 1
        held = acquired(lock, number)
        if held is None:
            return
        run = Run(number, held.fence)
        empty = [i for i in range(S_RUNS, len(state)) if not state[i]]
        for i in empty[:1] or range(S_RUNS, len(state)):
            new = list(state)
            if new[i]:
                self._hung_up(new, self._values[new[i]])
            new[S_LOCK], new[S_BUDGET], new[i] = (
                self._id(held),
                budget,
                self._id(self.interpreter.start(run)),
            )
            yield Step(("acquire", number, state[i]), self._sorted(new))

    def _orders(self, state: State, lock: Lock) -> Iterator[Step]:
        budget = self._spend(state[S_BUDGET], "revokes")
        if budget and lock.highest:
            # It does not wait for the overlap, and promises none.
            revoking = lock._replace(revoke=lock.highest, due=True)
            yield self._changed(state, "an operator orders the emergency", {S_LOCK: revoking}, budget)
        answered = _answered(lock)
        if answered != lock:
            yield self._changed(state, "an operator orders what the last error names", {S_LOCK: answered})

    def _restores(self, state: State) -> Iterator[Step]:
        budget = self._spend(state[S_BUDGET], "restores")
        for i, name in enumerate(DATABASES):
            if budget:
                backup = self._values[self.start()[S_DATABASES + i]]._replace(foreign="restored")
                yield self._changed(
                    state, f"{name} is restored from a backup", {S_DATABASES + i: backup}, budget
                )

    def _changed(self, state: State, label: str, parts: dict[int, Any], budget: int = 0) -> Step:
        new = list(state)
        for i, value in parts.items():
            new[i] = self._id(value)
        new[S_BUDGET] = budget or state[S_BUDGET]
        return Step(("world", label), tuple(new))

    def _spend(self, budget: int, what: str) -> int:
        """The budget without one of these; 0 where there is none left."""
        if not what:
            return budget
        left = list(self._values[budget])
        i = SPENDABLE.index(what)
        left[i] -= 1
        return self._id(tuple(left)) if left[i] >= 0 else 0

    def _sorted(self, state: list[int]) -> State:
        # Which place a run has says nothing about it.
        return (*state[:S_RUNS], *sorted(state[S_RUNS:], reverse=True))

    # ---- Invariants

    def _world(self, state: State) -> invariants.World:
        return invariants.parts([self._values[i] for i in state[:S_BUDGET]])

    def _unlawful(self, state: State, process: Process, call: Call, effect: Effect) -> ViolationError | None:
        if call.op == "claim" and effect.reply is None:
            return invariants.violation(invariants.at_claim, self._world(state), effect.part)
        is_release = call.op == "release" and call.args[1] is not None and effect.reply is None
        if not (effect.wrote or is_release or call.op == "stage"):
            return None
        if call.op == "stage":
            return invariants.violation(invariants.at_staging, self._world(state), call)
        place = self.interpreter.place(process)
        if place.claim is None:
            return None
        if is_release:
            return invariants.violation(
                invariants.at_release, self._world(state), place.claim, call.args[1].valid
            )
        return invariants.violation(
            partial(invariants.of_write, waives_zombies="I5" in self.waives),
            self._world(state),
            process,
            place.claim,
            call,
            effect,
        )

    def broken(self, state: State) -> ViolationError | None:
        """The first invariant that a state breaks; I8 is checked by running the next run from there."""
        world = state[:S_BUDGET]
        if world not in self._broken:
            check = partial(invariants.in_state, has_overlap=not self.budget.revokes)
            self._broken[world] = invariants.violation(check, self._world(state)) or self._diverges(world)
        return self._broken[world]

    def _diverges(self, world: State) -> ViolationError | None:
        """I8: every process dies here, faults stop, and the next run must bring everything in sync.

        Where a person must act first, the error says so: an operator does that, and the run after it must do it.
        """
        lock = self._values[world[S_LOCK]]
        lock = lock._replace(holder=0, live=False, due=True)
        databases = [self._id(self._values[i].unlocked()) for i in world[S_DATABASES:S_BUDGET]]
        rest = (self._id(lock), *world[S_STORES:S_DATABASES], *databases)
        if rest not in self._recovered:
            self._recovered[rest] = self._recovers(list(rest))
        return self._recovered[rest]

    def _recovers(self, state: list[int]) -> ViolationError | None:
        """Runs, undisturbed, until one does not fail; before each an operator orders what the last one asked for.

        I13 and I14: where some login works everywhere, the first one does not fail, also before a rotation may begin.
        """
        failure = None
        if self._has_cure(state) and (broken := self._is_not_cured(list(state))):
            return broken
        for number in range(RECOVERY, RECOVERY + RECOVERING_RUNS):
            lock: Lock = _answered(self._values[state[S_LOCK]])
            held = acquired(lock._replace(due=True), number)
            assert held
            state[S_LOCK] = self._id(held)
            failure = self._alone(state, self.interpreter.start(Run(number, held.fence)))
            is_over = failure is None and not self._values[state[S_LOCK]].is_revoking
            if is_over or (failure and failure.invariant != "I8"):
                return failure
        return failure or ViolationError("O5", "undisturbed runs do not end an emergency")

    def _has_cure(self, state: list[int]) -> bool:
        """Whether a login that a store holds works on every database, none of which waits for an operator."""
        world = self._world(tuple(state))
        held = [login for store in world.stores for _, login, *_ in store.versions]
        return not world.lock.blocked and any(
            all(d.accepts(login) for d in world.databases) for login in held
        )

    def _is_not_cured(self, state: list[int]) -> ViolationError | None:
        for number, is_due in enumerate((True, False)):
            after = list(state)
            lock: Lock = self._values[after[S_LOCK]]._replace(due=is_due)
            held = acquired(lock._replace(activate=not lock.plan), RECOVERY + number, force=True)
            when = "the first run" if is_due else "the first forced run"
            if held is None:
                return ViolationError("I13" if is_due else "I14", f"{when} does not get the lock")
            after[S_LOCK] = self._id(held)
            if failure := self._alone(after, self.interpreter.start(Run(RECOVERY + number, held.fence))):
                if failure.invariant != "I8":
                    return failure
                return ViolationError("I13" if is_due else "I14", f"{when} does not cure: {failure}")
            world = self._world(tuple(after))
            if not all(d.accepts(s.serving().login) for s in world.stores for d in world.databases):
                return ViolationError(
                    "I13" if is_due else "I14", f"after {when} a store serves what is refused"
                )
        return None

    def _alone(self, state: list[int], process: Process) -> ViolationError | None:
        """One run, undisturbed."""
        i, begun = self._id(process), set[tuple[int, ...]]()
        while True:
            process = self._values[i]
            if not process.replies:
                if (i, *state) in begun:
                    step = self.interpreter.place(process).step
                    return ViolationError("I8", f"an undisturbed run tries {step} for ever")
                begun.add((i, *state))
            call = self.interpreter.pending(process)
            part, effect, afterwards = self._moves_of(i, process, call, state[PART[call.to]])[0]
            if broken := self._unlawful(tuple(state), process, call, effect):
                return broken
            state[PART[call.to]] = part
            if afterwards[0] == NONE:
                return invariants.violation(invariants.at_rest, self._world(tuple(state)))
            i = afterwards[-1]
            if not self._values[i].replies:
                self._hung_up(state, process)
                if self.interpreter.place(self._values[i]).step == "ReleaseLockAfterFailure":
                    lock = self._values[state[S_LOCK]]
                    state[S_LOCK] = self._id(lock._replace(holder=0, live=False))
                    return ViolationError("I8", f"an undisturbed run fails at {call.op} of {call.to}")

    # ---- Exploration

    def explore(self, most: int | None = None) -> Result:
        """Breadth first from the start, until something is broken, everything is seen, or `most` states are."""
        first = self.start()
        parents: dict[State, State | None] = {first: None}
        frontier, transitions = [first], 0
        while frontier:
            following = []
            for state in frontier:
                for step in self.steps(state):
                    transitions += 1
                    new = step.state
                    violation = step.violation
                    if violation is None:
                        if new in parents:
                            continue
                        violation = self.broken(new)
                    parents.setdefault(new, state)
                    if violation:
                        return Result(len(parents), transitions, violation, self._story(parents, state, step))
                    following.append(new)
            frontier = following
            if most and len(parents) > most:
                return Result(len(parents), transitions, None, cut=True)
        return Result(len(parents), transitions, None)

    def _story(self, parents: dict[State, State | None], state: State, last: Step) -> list[str]:
        path = [state]
        while (before := parents[path[-1]]) is not None:
            path.append(before)
        path.reverse()
        lines = [
            self._describe(a, next(step for step in self.steps(a) if step.state == b))
            for a, b in pairwise(path)
        ]
        return [*lines, self._describe(state, last)]

    def _describe(self, state: State, step: Step) -> str:
        kind, *details = step.label
        if kind == "world":
            return str(details[0])
        if kind == "acquire":
            number, dead = details
            dies = f"run {self._values[dead].run.number} is dead; " if dead else ""
            return f"{dies}run {number} gets the lock"
        process: Process = self._values[state[details[0]]]
        state_name = self.interpreter.place(process).step
        who = f"run {process.run.number}{chr(39) * process.twin}, {state_name}: "
        if kind in ("again", "twin"):
            return who + (
                "it is tried again" if kind == "again" else "it is tried again, and the first try goes on"
            )
        call = self.interpreter.pending(process)
        n = details[1]
        _, effect, _ = self._moves_of(state[details[0]], process, call, state[PART[call.to]])[n]
        reply = effect.note or short(effect.reply)
        arguments = ", ".join(short(a) for a in call.args if not isinstance(a, Lease))
        return f"{who}{call.to}.{call.op}({arguments})" + (f" → {reply}" if reply else "")


def _edited(store: Store, login: Login) -> Store:
    """The store once a person has written a login over what is served."""
    slots = tuple(Value(0, login) if value == store.serving() else value for value in store.slots)
    return store._replace(slots=slots, edited=True)
