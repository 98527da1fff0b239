"""A random life of a credential, in memory: day after day both runners, outages, and an operator at work.

A race begins two rotations after the first day and ends four runs later. A life goes on: what one trouble leaves, the
next one finds. Runs die, freeze while another run goes on, or meet a fault, at any call; outages last up to four hours;
and the operator changes the plan, edits stores, orders emergencies, pauses, restores databases and the lock table, and
sees databases fail over, at any call of a run too. After every call the observer of races looks. A run that fails while
nothing is out of order breaks I8. The same seed is the same life; it ends with the first violation.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

from msgspec import structs

from lockstep.audit.verify import verify
from lockstep.protocol import errors
from lockstep.protocol.model import Credential, LockRecord, Strategy
from lockstep.protocol.orders import Order, Pause, Resume, Revoke
from tests.proof import invariants
from tests.proof.invariants import Snapshot, ViolationError
from tests.proof.memory_observer import RaceObserver, Shown, accounts
from tests.proof.planting import Plant
from tests.proof.races import CALL_SECONDS, decisive_steps, error_at
from tests.support import world as worlds
from tests.support.audit_story import give
from tests.support.memory import EPOCH, Account, MemoryWorld

Act: TypeAlias = Iterator[None]
"""What an operator does: some minutes pass at each `yield`."""
STEP_MINUTES = 5
MINUTES_OF_OUTAGES = (5, 15, 30, 60, 240)
OUTAGES_A_DAY, DISTURBED_PART = 3, 0.25
LONGEST_WAIT_STEPS = 12
LONGEST_ACT_STEPS = 400
"""An act that has not come to its end after so long, which is more than a day, breaks I8."""
INTERVALS_MINUTES = (20, 30)
DATABASES = 4
LONGEST_CALL = 180
"""Disturbances are put at calls of a run below this."""
MOST_REFUSALS = 3
"""Logins that an account refuses in a row at most, where a search follows a disturbance (protocol C5)."""
MOST_VERIFIED = 40
"""So many generations long the audit log is verified after each run."""
VERSIONS_KEPT = 20
"""Of each secret; older ones are deleted, as clouds do."""
NESTED = 3
"""So many runs are under way at most, all but one of them frozen."""
FROZEN_SECONDS = 900
"""Longer than the lease. A run that freezes while two others do, too, ends within the hour that verification grants."""


@dataclass
class Figures:
    """What was seen in a life.

    Attributes:
        outcomes: How often runs ended in each way; failures by their error's name.
        acts: How often the operator did each thing.
        violations: The invariant that did not hold, and when.
        refused: Logins of Lockstep's that a database refused.
        most_refusals: The longest run of them on one account, where none was excused.
        longest_gap_minutes: From one rotation to the next.
        longest_quiet_gap_minutes: Likewise, where no outage, disturbance or act was between.
        generations: How many were made.
    """

    seed: int
    days: float
    engine: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    refused: int = 0
    most_refusals: int = 0
    longest_gap_minutes: int = 0
    longest_quiet_gap_minutes: int = 0
    generations: int = 0


@dataclass
class _Run:
    """A run, and what happens to it at one of its calls: it dies, freezes, fails, loses a reply, or a person acts."""

    rotation_id: str
    what: str
    at: int
    step: int = 0
    is_dead: bool = False


class _OverError(BaseException):
    """The life is over. The code under test must not catch this."""


class LifeObserver(RaceObserver):
    """Leaves out databases that are not ours for now, and begins anew where a person has changed something.

    Attributes:
        left: The databases that no application uses, or that a person has restored.
    """

    def __init__(self, world: MemoryWorld, left: set[str]) -> None:
        self.left = left
        super().__init__(world)

    def snapshot(self) -> Snapshot[Shown]:
        now = super().snapshot()
        return replace(now, databases=[d for d in self.world.databases if d not in self.left])

    def by_a_person(self) -> None:
        """What is different now is not Lockstep's doing."""
        self.has_changed()
        now, record, known = self.snapshot(), self.world.lock.record, worlds.known_logins(self.world)
        if (now.serves, known) != self._outside:
            self._outside = (now.serves, known)
            self._now = {name: accounts(database) for name, database in self.world.databases.items()}
            self._not_ours |= now.locked_out()
            self._first = record.current_generation
            self.watch._until.clear()
        self._claim, self._heads, self.watch.last = record.claim, {}, now


class Life:
    """One life."""

    def __init__(self, seed: int, days: float) -> None:
        self.figures = Figures(seed, days)
        self._dice = random.Random(seed)  # noqa: S311 - a replayable draw
        strategy = self._dice.choice(list(Strategy))
        self.world = worlds.make_world(DATABASES, strategy=strategy, placeholder=self._dice.random() < 0.5)
        worlds.loses_the_lock_table(self.world)
        self.figures.engine = self.world.credential.servers[0].engine.value
        self._decisive = decisive_steps("steady", strategy)
        self._edition = self._plan(frozenset(list(self.world.databases)[:2]), INTERVALS_MINUTES[0])
        self.world.plans = {"aws": self._edition, "oci": self._edition}
        self._observer = LifeObserver(self.world, set(self.world.databases))
        self._running: list[_Run] = []
        self._expected: set[str] = set()
        self._down: dict[str, datetime] = {}
        self._excused_rotations = 0
        self._foreign: set[str] = set()
        self._past: dict[str, list[dict[str, Account]]] = {name: [] for name in self.world.databases}
        self._records: list[LockRecord] = []
        self._last_rotation = EPOCH
        self._is_quiet = True
        self._act = ""
        self._program = self._operate()
        for name, database in self.world.databases.items():
            database.refusals.is_excused = partial(self._foreign.__contains__, name)

    def live(self) -> None:
        """Live it to its end, or to the first violation."""
        worlds.at_every_boundary(self.world, self._boundary)
        step = 0
        try:
            while self._operator_goes_on():
                self._weather()
                for runner in ("aws", "oci"):
                    if self._is_called(runner, step):
                        self._run(runner)
                self._keep_house()
                step += 1
                until = EPOCH + timedelta(minutes=STEP_MINUTES) * step
                self.world.clock.sleep(max(0.0, (until - self.world.clock.now()).total_seconds()))
            worlds.undisturbed(self.world)
            self._require("I7", partial(worlds.assert_on_record, self.world))
        except _OverError:
            pass
        self.figures.refused = sum(d.refusals.total for d in self.world.databases.values())
        self.figures.generations = self.world.lock.record.highest_generation

    # Runs.

    def _is_called(self, runner: str, step: int) -> bool:
        """By wall clock; the standby half an interval after AWS (protocol R2)."""
        interval = int(self.world.plans[runner].schedule.interval.total_seconds() / 60)
        return (STEP_MINUTES * step - (interval // 2 if runner == "oci" else 0)) % interval < STEP_MINUTES

    def _run(self, runner: str, *, force: bool = False) -> None:
        record, world, figures = self.world.lock.record, self.world, self.figures
        is_ordered = record.claim or record.activate or record.take_over or record.is_revoking
        is_alone, what = not self._running, self._draw()
        run = _Run(f"run-{sum(figures.outcomes.values()) + len(self._running)}", *what)
        self._running.append(run)
        try:
            outcome = worlds.rotate(world, run.rotation_id, runner=runner, force=force).outcome
        except errors.LockstepError as error:
            outcome = type(error).__name__
        except worlds.Killed:
            outcome = "died"
        self._running.pop()
        figures.outcomes[outcome] += 1
        is_calm = is_alone and run.what == what[0] == "" and not self._down
        self._is_quiet &= is_calm and not self._expected
        if is_calm and outcome not in {"rotated", "skipped", *self._expected}:
            self._violated("I8", f"{run.rotation_id} of {runner} ends as {outcome}")
        if outcome == "rotated":
            self._measure_gap()
        if is_calm and outcome == "rotated":
            self._excused_rotations -= self._excused_rotations > 0
            if record.paused and not (is_ordered or force):
                self._violated("O4", f"{run.rotation_id} rotates a paused credential")
            generations = [g for found in worlds.served(world).values() for g in found[:2]]
            self._require("I8", lambda: invariants.in_sync(self._observer.snapshot(), generations, outcome))
        self._refusals_are_few(run.rotation_id)
        if is_alone and record.highest_generation < MOST_VERIFIED:
            self._require("I7", self._raises_no_alarm)

    def _draw(self) -> tuple[str, int]:
        what = self._dice.choice(("freeze", "freeze", "die", "fail", "lose", "act"))
        is_at_change = self._dice.random() < 0.6
        at = self._dice.choice(self._decisive) if is_at_change else self._dice.randrange(1, LONGEST_CALL)
        return (what, at) if self._dice.random() < DISTURBED_PART else ("", 0)

    def _boundary(self, boundary: str) -> None:
        run, (when, seam) = self._running[-1], boundary.split()[:2]
        if run.is_dead:
            raise worlds.Killed
        self.world.clock.sleep(CALL_SECONDS)
        if when == "after":
            self._look(boundary)
        elif seam in self._down:
            raise error_at(self.world, boundary)
        run.step += 1
        if (
            run.what
            and run.step >= run.at
            and when == {"fail": "before", "lose": "after"}.get(run.what, when)
        ):
            what, run.what = run.what, ""
            self._happen(what, boundary, run)

    def _happen(self, what: str, boundary: str, run: _Run) -> None:
        self._excused_rotations = 2
        if what == "die":
            run.is_dead = True
            raise worlds.Killed
        if what in ("fail", "lose"):
            raise error_at(self.world, boundary)
        if what == "act":
            self._operator_goes_on()
        elif len(self._running) < NESTED:
            if self._dice.random() < 0.7:
                self.world.clock.sleep(FROZEN_SECONDS)
            for database in self.world.databases.values() if self._dice.random() < 0.6 else ():
                database.kill_connections()
            for _ in range(self._dice.choice((1, 1, 2))):
                self._run(self._dice.choice(("aws", "oci")), force=self._dice.random() < 0.2)

    # What is seen.

    def _look(self, boundary: str) -> None:
        self._require("", lambda: self._observer.look_at(boundary, self._running[-1].rotation_id))

    def _require(self, invariant: str, check: Callable[[], None]) -> None:
        try:
            check()
        except ViolationError as violation:
            self._violated(violation.invariant, violation.what)
        except (AssertionError, errors.LockstepError) as error:
            self._violated(invariant, str(error) or type(error).__name__)

    def _violated(self, invariant: str, what: str) -> None:
        at = self.world.clock.now().isoformat(timespec="minutes")
        self.figures.violations.append(f"seed {self.figures.seed}: {invariant}: {what}, {at}, {self._act}")
        raise _OverError

    def _refusals_are_few(self, when: str) -> None:
        """I1: one in a row; more after a disturbance or fail-over, or where consent makes a search."""
        for name, database in self.world.databases.items():
            most, database.refusals.most = database.refusals.most, 0
            self.figures.most_refusals = max(self.figures.most_refusals, most)
            if most > (MOST_REFUSALS if self._excused_rotations else 1):
                self._violated("I1", f"{name} has refused {most} logins in a row, {when}")

    def _raises_no_alarm(self) -> None:
        """Whatever runs die of, and whatever operators do, verification of the audit log finds nothing."""
        logs = [(log, self.world.signers[stream]) for stream, log in self.world.audit_logs.items()]
        with worlds.quiet(self.world):
            for found in verify(self.world.credential.id, logs):
                assert [str(p) for p in (*found.problems, found.unreadable) if p] == []

    def _measure_gap(self) -> None:
        now, figures = self.world.clock.now(), self.figures
        gap = (now - self._last_rotation) // timedelta(minutes=1)
        figures.longest_gap_minutes = max(figures.longest_gap_minutes, gap)
        if self._is_quiet:
            figures.longest_quiet_gap_minutes = max(figures.longest_quiet_gap_minutes, gap)
        self._last_rotation, self._is_quiet = now, True

    # What happens around them.

    def _weather(self) -> None:
        """End an outage whose time has come, or begin one."""
        now = self.world.clock.now()
        self._down = {seam: until for seam, until in self._down.items() if until > now}
        if self._dice.random() < OUTAGES_A_DAY * STEP_MINUTES / 1440:
            seam = self._dice.choice(("lock", *self.world.stores, *self.world.databases))
            self._down[seam] = now + timedelta(minutes=self._dice.choice(MINUTES_OF_OUTAGES))

    def _keep_house(self) -> None:
        """Delete old versions; keep what databases and the lock table had, for replicas and backups."""
        for store in self.world.stores.values():
            for secret in store._secrets.values():
                kept = {*list(secret.versions)[-VERSIONS_KEPT:], secret.current, secret.previous}
                secret.versions = {v: text for v, text in secret.versions.items() if v in kept}
        for name, database in self.world.databases.items():
            if not self._past[name] or self._past[name][-1] != database.accounts:
                self._past[name] = [*self._past[name], deepcopy(database.accounts)][-8:]
        if self._is_in_sync():
            self._records = [*self._records, self.world.lock.record][-4:]

    def _plan(self, databases: frozenset[str], minutes: int) -> Credential:
        whole = self.world.credential
        return structs.replace(
            whole,
            servers=tuple(s for s in whole.servers if s.name in databases),
            schedule=structs.replace(whole.schedule, interval=timedelta(minutes=minutes), phase=timedelta()),
            plan_digest=f"{sorted(databases)} every {minutes} minutes",
        )

    def _is_in_sync(self) -> bool:
        record = self.world.lock.record
        at_rest = (record.claim, record.holder, record.activate) == (None, None, None)
        with worlds.quiet(self.world):
            generations = {g for found in worlds.served(self.world).values() for g in found[:2]}
        is_active = record.plan == self._edition.plan_digest and not record.take_over
        return at_rest and is_active and not self._running and generations == {record.current_generation}

    # The operator.

    def _operator_goes_on(self) -> bool:
        with worlds.quiet(self.world):
            goes_on = next(self._program, self) is None
        self._observer.by_a_person()
        return goes_on

    def _operate(self) -> Act:
        end = EPOCH + timedelta(days=self.figures.days)
        yield from self._do("bootstrap")
        while self.world.clock.now() < end:
            yield from self._some_time(2 * LONGEST_WAIT_STEPS)
            yield from self._do(self._dice.choice(ACTS))

    def _do(self, name: str) -> Act:
        self._act = name
        self.figures.acts[name] += 1
        self._is_quiet = False
        yield from getattr(self, f"_{name}")()
        yield from self._until(self._is_in_sync)
        self._expected = set()

    def _bootstrap(self) -> Act:
        """The schedules run before any order; then the plan is activated, and accounts are taken over."""
        self._expects(errors.PlanNotActiveError, errors.TakeOverNeededError)
        yield from self._some_time()
        self._activate()
        yield from self._some_time()
        worlds.orders(self.world, take_over=frozenset(self._edition.databases))
        yield from self._until(self._is_in_sync)
        self._observer.left -= set(self._edition.databases)
        self._begin_past(*self.world.databases)

    def _plan_change(self) -> Act:
        """Another plan, deployed to one cloud after the other, and activated before, between or after that."""
        before = set(self._edition.databases)
        changed = {self._dice.choice(list(self.world.databases))}
        after = (before ^ changed) or before
        self._observer.left |= before - after  # Readers leave first, and come last (protocol O12).
        for name in after - before:
            for account in self.world.databases[name].accounts.values():
                account.passwords = ("set-by-a-dba",)
        self._excused_rotations = 2
        self._foreign |= after - before
        self._edition = self._plan(frozenset(after), self._dice.choice(INTERVALS_MINUTES))
        deploy = self.world.plans.__setitem__
        steps = [partial(deploy, "aws", self._edition), partial(deploy, "oci", self._edition)]
        self._expects(errors.PlanNotActiveError)
        for step in self._dice.sample([*steps, partial(self._activate, *(after - before))], 3):
            step()
            yield from self._some_time()
        yield from self._until(self._is_in_sync)
        self._observer.left -= after
        self._foreign -= after
        self._begin_past(*(after - before))

    def _restore(self) -> Act:
        """A database comes back from a backup that knows only what is revoked."""
        name = self._one()
        self.world.databases[name].accounts = deepcopy(self._past[name][0])
        yield from self._is_taken_over(name)

    def _is_taken_over(self, name: str) -> Act:
        """A database knows only what is revoked; in a while the operator orders that its account is set."""
        self._expects(
            errors.CurrentCredentialRejectedError,
            errors.PreviousCredentialAcceptedError,
            errors.StoresDivergedError,
        )
        self._excused_rotations = 2
        self._observer.left.add(name)
        self._foreign.add(name)
        yield from self._some_time()
        worlds.orders(self.world, take_over=self.world.lock.record.take_over | {name})
        yield from self._until(self._is_in_sync)
        taken_at = self.world.lock.record.highest_generation
        # What its other account had is ended by the next value (protocol D5).
        yield from self._until(lambda: self._is_in_sync() and self._current() > taken_at)
        self._observer.left.discard(name)
        self._foreign.discard(name)
        self._begin_past(name)

    def _fail_over(self) -> Act:
        """A database fails over to a replica that lacks its last change, or two.

        Nobody does anything about it, unless the replica knows only what is revoked. A run need not find that: it shows
        one such login in a row (protocol C5).
        """
        name, lost = self._one(), self._dice.choice((2, 2, 3))
        yield from self._until(lambda: len(self._past[name]) >= lost and self._is_in_sync())
        self._excused_rotations = 2
        self.world.databases[name].accounts = deepcopy(self._past[name][-lost])
        valid = {
            worlds.shown(worlds.login_of(self.world, generation))
            for generation in self.world.lock.record.valid
        }
        if valid.isdisjoint(worlds.known_logins(self.world)[name]):
            yield from self._is_taken_over(name)
        else:
            yield

    def _emergency(self) -> Act:
        """A value has leaked: everything up to now is to be revoked."""
        self._give(Revoke(lift_pause=False))
        yield from self._until(lambda: not self.world.lock.record.is_revoking)

    def _pause(self) -> Act:
        """No run for a while."""
        self._give(Pause())
        yield from self._some_time()
        self._give(Resume())
        yield

    def _edit(self) -> Act:
        """A person writes a login into a store: mistyped, or an earlier one; or adds a key."""
        store = self._dice.choice(list(self.world.stores.values()))
        newest = self.world.lock.record.highest_generation
        earlier = [
            worlds.login_of(self.world, g)
            for g in range(max(1, newest - 3), newest)
            if store.read_generation(g)
        ]
        if self._dice.random() < 0.4:
            added = {**json.loads(store.current_text("app_user")), "added": self._dice.random()}
            store.edit("app_user", json.dumps(added))
        else:
            worlds.edit(store, self._dice.choice([worlds.another_login(self.world), *earlier]))
        yield

    def _lost_table(self) -> Act:
        """With no run under way the lock table is made again, empty, or from a backup; the plan is activated again."""
        yield from self._until(lambda: not self._running and bool(self._records))
        self._expects(errors.PlanNotActiveError)
        record = self.world.lock.record
        worlds.loses_the_lock_table(self.world)
        if self._dice.random() < 0.5:
            self.world.lock.record = replace(self._records[0], fence=record.fence, paused=False)
        yield from self._some_time()
        self._activate()
        yield

    # What acts are made of.

    def _give(self, order: Order) -> None:
        give(self.world, order, f"{self.figures.acts.total()}-{order.name}")

    def _current(self) -> int:
        return self.world.lock.record.current_generation or 0

    def _one(self) -> str:
        return self._dice.choice(sorted(self._edition.databases))

    def _begin_past(self, *names: str) -> None:
        for name in names:
            self._past[name] = [deepcopy(self.world.databases[name].accounts)]

    def _expects(self, *kinds: type[errors.LockstepError]) -> None:
        self._expected = {kind.__name__ for kind in kinds}

    def _activate(self, *added: str) -> None:
        take_over = self.world.lock.record.take_over.union(added)
        worlds.orders(self.world, activate=self._edition.plan_digest, take_over=take_over)

    def _some_time(self, steps: int = LONGEST_WAIT_STEPS) -> Act:
        for _ in range(self._dice.randrange(steps)):
            yield

    def _until(self, is_so: Callable[[], bool]) -> Act:
        for _ in range(LONGEST_ACT_STEPS):
            yield
            if is_so():
                return
        self._violated("I8", "it does not come to its end")


ACTS = (
    *["plan_change"] * 2,
    "restore",
    *["fail_over"] * 2,
    "emergency",
    "pause",
    *["edit"] * 2,
    "lost_table",
)
"""What the operator does, one thing after the other."""


def live(seed: int, *, days: float = 1, plant: Plant = nullcontext) -> Figures:
    """Live a life, with a planted bug or without."""
    with plant():
        life = Life(seed, days)
        life.live()
    return life.figures
