"""Thirty days of a credential's life: both runners, a moving clock, outages at random, and an operator at work.

The life has a first day with placeholders, ten plan changes that reach the clouds in any order, databases restored from
backups, fail-overs, an emergency, a pause, edits, a lost lock table, and a retirement at its end. Everything is in
memory but the OCI store: that is the real adapter with the real SDK, over the emulator that holds its quotas, whose
versions are purged half a day late. The invariants are asked after every call that changes something. Seeded: the same
seed is the same life.

    python -m tests.proof.thirty_days --days 30 --seed 1
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, cast

from lockstep.protocol.errors import (
    DatabaseUnreachableError,
    LockstepError,
    LockTableUnreachableError,
    StoreQuotaExceededError,
    StoreUnreachableError,
)
from lockstep.protocol.messages import RunInput
from lockstep.protocol.ring import MAX_IN_USE, MAX_PENDING_DELETION
from oci_fn.retries import Retries
from oci_fn.sequence import rotate
from sandbox.emulators.oci import OciSandbox, SandboxClock
from tests.proof.life import STORES, LifeObserver, LifeWorld
from tests.proof.life_acts import STEP_MINUTES, Act, Operator
from tests.support.faults import Faults
from tests.support.memory import EPOCH, FakeClock
from tests.support.world import RUN_SECONDS, assert_on_record

if TYPE_CHECKING:
    from lockstep.protocol.messages import Runner

STEP, DAY = timedelta(minutes=STEP_MINUTES), timedelta(days=1)
PURGE_LATENESS = timedelta(hours=12)
OUTAGES_A_DAY = 3
ACTS = {
    "plan_change": 10,
    "restore": 2,
    "fail_over": 2,
    "fail_over_twice": 1,
    "emergency": 1,
    "pause": 1,
    "edit": 2,
    "lost_table": 1,
}
"""What the operator does, and how often, between the first day and the last."""
LATEST_PART = 2
"""After so many times the days, an act that does not come to its end is given up."""


@dataclass
class Month:
    """What was seen.

    Attributes:
        outcomes: How often runs ended in each way; failures by their error's name.
        acts: How often the operator did each thing.
        surprises: Runs that failed although nothing was out of order.
        violations: Invariants that did not hold, and when.
        refused: Logins of Lockstep's that a database refused.
        longest_refusals: The longest run of such refusals on one account.
        longest_gap_minutes: From one rotation to the next, outages and what operators waited for included.
        longest_calm_gap_minutes: Likewise, where there was neither.
    """

    days: int
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    rotated_by: Counter[str] = field(default_factory=Counter)
    outages: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    refused: int = 0
    longest_refusals: int = 0
    longest_gap_minutes: int = 0
    longest_calm_gap_minutes: int = 0
    peak_in_use: int = 0
    peak_pending: int = 0
    unfinished: bool = False

    @property
    def holds(self) -> bool:
        """Whether every invariant held, no quota was hit, and nothing failed that nothing was wrong with."""
        return (
            not (self.violations or self.surprises or self.unfinished)
            and StoreQuotaExceededError.__name__ not in self.outcomes
            and self.peak_in_use <= MAX_IN_USE
            and self.peak_pending <= MAX_PENDING_DELETION
        )


class Weather:
    """Outages: which, when and for how long is drawn from the seed."""

    def __init__(self, world: LifeWorld, dice: random.Random, outages: Counter[str]) -> None:
        self._clock, self._dice, self._outages = world.memory.clock, dice, outages
        self._ends_at = EPOCH
        self._lift: Callable[[], None] | None = None
        memory, oci = world.memory, world.sandbox.faults
        first, *_, last = memory.databases.values()
        self._kinds: dict[str, Callable[[], Callable[[], None]]] = {
            "vault": lambda: oci.outage("vault").lift,
            "vault reads": lambda: oci.outage("secrets").lift,
            "secrets manager": partial(_down, memory.stores["aws"].faults, StoreUnreachableError),
            "first database": partial(_down, first.faults, DatabaseUnreachableError),
            "last database": partial(_down, last.faults, DatabaseUnreachableError),
            "lock table": partial(_down, memory.lock.faults, LockTableUnreachableError),
        }

    @property
    def is_calm(self) -> bool:
        """Whether there is no outage."""
        return self._lift is None

    def change(self) -> None:
        """Every few minutes: end an outage whose time has come, or begin one."""
        now = self._clock.now()
        if self._lift:
            if now >= self._ends_at:
                self._lift()
                self._lift = None
        elif self._dice.random() < OUTAGES_A_DAY / (DAY / STEP):
            name, begin = self._dice.choice(list(self._kinds.items()))
            self._outages[name] += 1
            self._lift = begin()
            self._ends_at = now + timedelta(minutes=self._dice.choice([5, 15, 30, 60, 240]))


def _down(faults: Faults, error: Callable[[], LockstepError]) -> Callable[[], None]:
    """A double answers no more, until what this gives is called."""

    def refuse(_operation: str) -> None:
        raise error()

    faults.before = refuse
    return lambda: setattr(faults, "before", lambda _operation: None)


class Life:
    """A life, a few minutes at a time."""

    def __init__(self, sandbox: OciSandbox, clock: FakeClock, month: Month) -> None:
        self._dice = random.Random(month.seed)  # noqa: S311 - a replayable draw
        self._clock = clock
        self._month = month
        self._world = LifeWorld(sandbox, clock)
        self._observer = LifeObserver(self._world)
        self._operator = Operator(self._world, self._observer, self._dice)
        self._weather = Weather(self._world, self._dice, month.outages)
        self._last_rotation: datetime | None = None
        self._gap_is_calm = True
        self._runs = 0

    def live(self) -> None:
        """Live it to its end."""
        month, program, step = self._month, self._program(), 0
        is_over = False
        while not is_over:
            self._weather.change()
            is_over = next(program, self) is self
            if self._dice.random() < 1 / 60:  # Every few hours.
                self._operator.back_up(self._dice.choice(list(self._world.memory.databases)))
            self._operator.note()
            for runner in STORES:
                if self._is_called(runner, step):
                    self._run(runner)
            step += 1
            self._clock.sleep(max(0.0, (EPOCH + STEP * step - self._clock.now()).total_seconds()))
            self._measure_ring()
            if step * STEP > DAY * month.days * LATEST_PART:
                month.unfinished = is_over = True
        self._observer.look("at the end")
        month.acts, month.violations = self._operator.done, self._observer.violations
        refusals = self._observer.refusals.values()
        month.refused, month.longest_refusals = sum(r.total for r in refusals), max(r.most for r in refusals)
        assert_on_record(self._world.memory)

    def _program(self) -> Act:
        """What the operator does, and when: at random times, one thing after the other."""
        operator, steps = self._operator, DAY * self._month.days // STEP
        yield from operator.do("bootstrap")
        names = list(Counter(ACTS).elements())
        self._dice.shuffle(names)
        for name, at in zip(names, sorted(self._dice.sample(range(steps), k=len(names))), strict=True):
            while self._clock.now() < EPOCH + STEP * at:
                yield
            yield from operator.do(name)
        while self._clock.now() < EPOCH + STEP * steps:
            yield
        yield from operator.do("retire")

    def _is_called(self, runner: str, step: int) -> bool:
        """By wall clock; the standby half an interval after AWS (protocol R2)."""
        interval = self._world.deployed[runner].credential.schedule.interval
        return (STEP * step - (interval / 2 if runner == "oci" else timedelta())) % interval < STEP

    def _run(self, runner: str) -> None:
        self._runs += 1
        month, observer, is_paused = self._month, self._observer, self._world.record.paused
        observer.runner = runner
        retries = Retries(self._clock, deadline=self._clock.monotonic() + RUN_SECONDS, jitter=lambda: 0.5)
        ports, name = self._world.ports(runner), f"run-{self._runs}"
        given = RunInput(credential_id=ports.credential.id, trigger="schedule")
        try:
            promoted = rotate(given, ports, retries, rotation_id=name, runner=cast("Runner", runner))
            outcome = "rotated" if promoted else "skipped"
        except LockstepError as error:
            outcome = type(error).__name__
            if self._weather.is_calm and outcome not in self._operator.expected:
                at = self._clock.now().isoformat(timespec="minutes")
                month.surprises.append(f"{at} {runner}: {outcome}")
        observer.look(f"after a run of {runner}")
        month.outcomes[outcome] += 1
        self._gap_is_calm &= self._weather.is_calm and not self._operator.is_busy
        if outcome == "rotated":
            if observer.failed_over:
                lost = sorted(observer.failed_over)
                observer.violations.append(f"I13: after {name} {lost} refuses what stores serve")
            if is_paused:
                observer.violations.append(f"O4: {name} rotated a paused credential")
            month.rotated_by[runner] += 1
            observer.rotated()
            self._measure_gap()
        observer.runner = ""

    def _measure_gap(self) -> None:
        now, month = self._clock.now(), self._month
        if self._last_rotation:
            gap = (now - self._last_rotation) // timedelta(minutes=1)
            month.longest_gap_minutes = max(month.longest_gap_minutes, gap)
            if self._gap_is_calm:
                month.longest_calm_gap_minutes = max(month.longest_calm_gap_minutes, gap)
        self._last_rotation, self._gap_is_calm = now, True

    def _measure_ring(self) -> None:
        for versions in self._world.ring_versions():
            pending = sum(v.is_pending_deletion for v in versions)
            self._month.peak_pending = max(self._month.peak_pending, pending)
            self._month.peak_in_use = max(self._month.peak_in_use, len(versions) - pending)
        self._world.sandbox.calls.clear()


def live(days: int, seed: int) -> Month:
    """Live through the days; see `Month`."""
    month, clock = Month(days=days, seed=seed), FakeClock(EPOCH)
    with OciSandbox(SandboxClock(clock.now)) as sandbox:
        sandbox.vault.behaviour.purge_lateness = PURGE_LATENESS
        Life(sandbox, clock, month).live()
    return month


def main() -> int:
    """The command; 1 where it does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.thirty_days")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    month = live(**vars(parser.parse_args()))
    sys.stdout.write(json.dumps({**vars(month), "holds": month.holds}) + "\n")
    return 0 if month.holds else 1


if __name__ == "__main__":
    sys.exit(main())
