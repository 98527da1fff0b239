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
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
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
from tests.support.memory import EPOCH, FakeClock
from tests.support.world import RUN_SECONDS, assert_on_record

if TYPE_CHECKING:
    from lockstep.protocol.messages import Runner

STEP = timedelta(minutes=STEP_MINUTES)
PURGE_LATENESS = timedelta(hours=12)
OUTAGES_A_DAY = 3
PLAN_CHANGES = 10
OTHER_ACTS = (
    "restore",
    "restore",
    "fail_over",
    "fail_over",
    "fail_over_twice",
    "emergency",
    "pause",
    "edit",
    "edit",
    "lost_table",
)
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
    acts: dict[str, int] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    refused: int = 0
    longest_refusals: int = 0
    longest_gap_minutes: int = 0
    longest_calm_gap_minutes: int = 0
    peak_in_use: int = 0
    peak_pending: int = 0
    unfinished: bool = False
    seconds: float = 0.0

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

    def __init__(self, world: LifeWorld, dice: random.Random, month: Month) -> None:
        self._world = world
        self._dice = dice
        self._month = month
        self._ends_at = EPOCH
        self._lift: Callable[[], None] | None = None

    @property
    def is_calm(self) -> bool:
        """Whether there is no outage."""
        return self._lift is None

    def change(self) -> None:
        """Every few minutes: end an outage whose time has come, or begin one."""
        now = self._world.memory.clock.now()
        if self._lift:
            if now >= self._ends_at:
                self._lift()
                self._lift = None
            return
        if self._dice.random() < OUTAGES_A_DAY / (timedelta(days=1) / STEP):
            name, begin = self._dice.choice(list(self._kinds().items()))
            self._month.outages[name] += 1
            self._lift = begin()
            self._ends_at = now + timedelta(minutes=self._dice.choice([5, 15, 30, 60, 240]))

    def _kinds(self) -> dict[str, Callable[[], Callable[[], None]]]:
        memory, oci = self._world.memory, self._world.sandbox
        databases = list(memory.databases.values())

        def down(faults: object, error: Callable[[], LockstepError]) -> Callable[[], None]:
            def refuse(_operation: str) -> None:
                raise error()

            faults.before = refuse  # type: ignore[attr-defined]  # every double has this seam
            return lambda: setattr(faults, "before", lambda _operation: None)

        return {
            "vault": lambda: oci.faults.outage("vault").lift,
            "vault reads": lambda: oci.faults.outage("secrets").lift,
            "secrets manager": lambda: down(memory.stores["aws"].faults, StoreUnreachableError),
            "first database": lambda: down(databases[0].faults, DatabaseUnreachableError),
            "last database": lambda: down(databases[-1].faults, DatabaseUnreachableError),
            "lock table": lambda: down(memory.lock.faults, LockTableUnreachableError),
        }


class Life:
    """A life, a few minutes at a time."""

    def __init__(self, sandbox: OciSandbox, clock: FakeClock, month: Month) -> None:
        self._dice = random.Random(month.seed)  # noqa: S311 - a replayable draw
        self._clock = clock
        self._month = month
        self._world = LifeWorld(sandbox, clock)
        self._observer = LifeObserver(self._world)
        self._operator = Operator(self._world, self._observer, self._dice)
        self._weather = Weather(self._world, self._dice, month)
        self._last_rotation: datetime | None = None
        self._gap_is_calm = True
        self._run_number = 0

    def live(self, tell: Callable[[Month, int], None]) -> None:
        """Live it to its end."""
        month, program, step = self._month, self._program(), 0
        is_over = False
        while not is_over:
            self._weather.change()
            is_over = next(program, self) is self
            self._back_up()
            self._operator.note()
            for runner in STORES:
                if self._is_called(runner, step):
                    self._run(runner)
            step += 1
            self._clock.sleep(max(0.0, (EPOCH + STEP * step - self._clock.now()).total_seconds()))
            self._measure_ring()
            if step % (timedelta(days=1) // STEP) == 0:
                tell(month, step * STEP // timedelta(days=1))
            if step * STEP > timedelta(days=month.days) * LATEST_PART:
                month.unfinished = is_over = True
        self._end()

    def _program(self) -> Act:
        """What the operator does, and when: at random times, one thing after the other."""
        operator, steps = self._operator, timedelta(days=self._month.days) // STEP
        yield from operator.bootstrap()
        names = ["plan_change"] * PLAN_CHANGES + list(OTHER_ACTS)
        self._dice.shuffle(names)
        for name, at in zip(names, sorted(self._dice.sample(range(steps), k=len(names))), strict=True):
            while self._clock.now() < EPOCH + STEP * at:
                yield
            yield from getattr(operator, name)()
        while self._clock.now() < EPOCH + STEP * steps:
            yield
        yield from operator.retire()

    def _back_up(self) -> None:
        if self._dice.random() < 1 / 60:  # Every few hours.
            self._operator.back_up(self._dice.choice(list(self._world.memory.databases)))

    def _is_called(self, runner: str, step: int) -> bool:
        """By wall clock; the standby half an interval after AWS (protocol R2)."""
        interval = self._world.deployed[runner].credential.schedule.interval
        return (STEP * step - (interval / 2 if runner == "oci" else timedelta())) % interval < STEP

    def _run(self, runner: str) -> None:
        self._run_number += 1
        self._observer.runner, is_paused = runner, self._world.record.paused
        retries = Retries(self._clock, deadline=self._clock.monotonic() + RUN_SECONDS, jitter=lambda: 0.5)
        ports, name = self._world.ports(runner), f"run-{self._run_number}"
        given = RunInput(credential_id=ports.credential.id, trigger="schedule")
        try:
            promoted = rotate(given, ports, retries, rotation_id=name, runner=cast("Runner", runner))
            outcome = "rotated" if promoted else "skipped"
        except LockstepError as error:
            outcome = type(error).__name__
            if self._weather.is_calm and outcome not in self._operator.expected:
                at = self._clock.now().isoformat(timespec="minutes")
                self._month.surprises.append(f"{at} {runner}: {outcome}")
        self._observer.look(f"after a run of {runner}")
        if outcome == "rotated" and self._observer.failed_over:
            lost = sorted(self._observer.failed_over)
            self._observer.violations.append(f"I13: after {name} {lost} refuses what stores serve")
        if is_paused and outcome == "rotated":
            self._observer.violations.append(f"O4: {name} rotated a paused credential")
        self._month.outcomes[outcome] += 1
        self._gap_is_calm &= self._weather.is_calm and not self._operator.is_busy
        if outcome == "rotated":
            self._month.rotated_by[runner] += 1
            self._observer.rotated()
            self._measure_gap()
        self._observer.runner = ""

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

    def _end(self) -> None:
        month = self._month
        self._observer.look("at the end")
        month.acts, month.violations = self._operator.done, self._observer.violations
        month.refused, month.longest_refusals = self._observer.refused_logins()
        assert_on_record(self._world.memory)


def live(days: int, seed: int, *, tell: Callable[[Month, int], None] = lambda _month, _day: None) -> Month:
    """Live through the days; see `Month`."""
    month, began, clock = Month(days=days, seed=seed), time.monotonic(), FakeClock(EPOCH)
    with OciSandbox(SandboxClock(clock.now)) as sandbox:
        sandbox.vault.behaviour.purge_lateness = PURGE_LATENESS
        Life(sandbox, clock, month).live(tell)
    month.seconds = round(time.monotonic() - began, 1)
    return month


def main() -> int:
    """The command; 1 where it does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    def tell(month: Month, day: int) -> None:
        sys.stderr.write(f"day {day}: {dict(month.outcomes)}\n")

    month = live(arguments.days, arguments.seed, tell=tell)
    sys.stdout.write(json.dumps({**vars(month), "holds": month.holds}) + "\n")
    return 0 if month.holds else 1


if __name__ == "__main__":
    sys.exit(main())
