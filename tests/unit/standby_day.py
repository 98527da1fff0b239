"""A simulated day of one credential: triggers of both clouds, lock, schedule, and an AWS that fails as told.

It has the shipped rules (`lockstep.protocol.schedule`, `lockstep.protocol.deadlines`).
Runs are reduced to when they acquire, promote and release. Times are seconds from midnight UTC; a runner reads them on
its own clock.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from heapq import heappop, heappush
from itertools import pairwise

from lockstep.protocol.deadlines import LAST_START, LEASE, RUN, TOLERANCE, TRIGGER_LATENESS
from lockstep.protocol.model import Schedule
from lockstep.protocol.schedule import period, standby_due_by, turn_after

DAY = 86400
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
QUICK = 8
"""Seconds from acquiring to the promotion, and to the release."""


class Aws(Enum):
    """What one trigger of AWS comes to."""

    WORKS = "works"
    DEAD = "dead"
    """No execution starts, or it reaches neither lock nor log."""
    HANGS = "hangs"
    """It acquires the lock and does nothing more, until its execution has timed out."""
    FAILS = "fails"
    """It releases the lock after a failure, or finds that another plan is active; nothing is in flight."""
    FAILS_PENDING = "fails pending"
    """It releases the lock after a failure; a generation is in flight."""
    DIES_PROMOTED = "dies promoted"
    """It promotes, and dies before the release."""
    SLOW = "slow"
    """It promotes just before its execution would time out."""


Behaviour = Callable[[int], Aws]
"""What the trigger with this number comes to."""


def schedule(
    interval: timedelta, tolerance: timedelta = TOLERANCE, *, phase: timedelta = timedelta()
) -> Schedule:
    """A schedule with the plan's default overlap."""
    return Schedule(interval=interval, overlap=interval - 2 * tolerance, tolerance=tolerance, phase=phase)


@dataclass(kw_only=True)
class Day:
    """A day, or several.

    Attributes:
        plan: The credential's schedule.
        behaviour: Of AWS.
        others_every: Other credentials have the standby called this often, in seconds, from midnight; 0: none.
        jitter: How late in its minute a trigger comes, in seconds.
        position: How long after its trigger AWS starts the run of this credential, in seconds.
        aws_clock: How far the clock of AWS is ahead, in seconds.
        standby_until: When the standby is last called, in seconds.
        hours: How long it lasts.
        promoted: When a generation was promoted, and by whom.
    """

    plan: Schedule
    behaviour: Behaviour
    others_every: float = 0
    jitter: Callable[[], float] = lambda: 0.0
    position: Callable[[], float] = lambda: 0.0
    aws_clock: float = 0
    standby_until: float = float("inf")
    hours: float = 24
    promoted: list[tuple[float, str]] = field(default_factory=list)
    _free_at: float = 0
    _expires_at: float = 0
    _pending: bool = False
    _next_due_at: float = -DAY
    _not_before: float = -DAY

    @property
    def longest_gap_minutes(self) -> float:
        """From one promotion to the next, or to the end."""
        times = [at for at, _ in self.promoted] + [self._ends_at]
        return max(b - a for a, b in pairwise(times)) / 60

    @property
    def _ends_at(self) -> float:
        return self.plan.phase.total_seconds() + self.hours * 3600

    def live(self) -> "Day":
        """Let the triggers come, one after the other."""
        every = period(self.plan.interval).total_seconds()
        after = turn_after(self.plan.interval).total_seconds()
        phase = self.plan.phase.total_seconds()
        events: list[tuple[float, int, str]] = []
        for number in range(int(self.hours * 3600 / every)):
            late = self.jitter() + self.position()
            if late <= LAST_START.total_seconds():
                heappush(events, (phase + number * every + late, number, "aws"))
        calls = [phase + after + number * 2 * after for number in range(int(self.hours * 3600 / after / 2))]
        if self.others_every:
            others = (number * self.others_every for number in range(int(self._ends_at / self.others_every)))
            calls += [at for at in others if at > phase + LAST_START.total_seconds()]
        for number, called in enumerate(call for call in calls if call <= self.standby_until):
            heappush(events, (called + self.jitter(), number, "oci"))
        while events:
            at, number, runner = heappop(events)
            if runner == "aws":
                self._call_aws(at, self.behaviour(number) if number else Aws.WORKS)
            else:
                self._call_oci(at)
        return self

    def _call_aws(self, at: float, comes_to: Aws) -> None:
        clock = at + self.aws_clock
        if comes_to is Aws.DEAD or not self._may_rotate(at, clock, due_by=clock):
            return
        self._acquire(clock)
        if comes_to in {Aws.FAILS, Aws.FAILS_PENDING}:
            self._pending |= comes_to is Aws.FAILS_PENDING
            self._free_at = at + QUICK
        elif comes_to is Aws.DIES_PROMOTED:
            self._pending = True
            self.promoted.append((at + QUICK, "aws"))
        elif comes_to in {Aws.WORKS, Aws.SLOW}:
            done = at + (QUICK if comes_to is Aws.WORKS else RUN.total_seconds() - 1)
            self._promote(clock, done, self.aws_clock, "aws")

    def _call_oci(self, at: float) -> None:
        due_by = (standby_due_by(self.plan, _time(at)) - MIDNIGHT).total_seconds()
        if self._may_rotate(at, at, due_by=due_by):
            self._acquire(at)
            self._promote(at, at + QUICK, 0, "oci")

    def _held(self, at: float, clock: float) -> bool:
        return at < self._free_at and int(clock) <= int(self._expires_at)

    def _may_rotate(self, at: float, clock: float, *, due_by: float) -> bool:
        is_due = int(self._next_due_at) <= due_by and self._not_before <= clock
        return (self._pending or is_due) and not self._held(at, clock)

    def _acquire(self, clock: float) -> None:
        self._expires_at = clock + LEASE.total_seconds()
        self._free_at = float("inf")

    def _promote(self, clock: float, done: float, ahead: float, runner: str) -> None:
        self.promoted.append((done, runner))
        self._free_at = done
        self._pending = False
        self._next_due_at = clock + (self.plan.interval - self.plan.tolerance).total_seconds()
        self._not_before = done + ahead + self.plan.overlap.total_seconds()


def _time(seconds: float) -> datetime:
    return MIDNIGHT + timedelta(seconds=int(seconds))


def dice(seed: int) -> random.Random:
    """Chance that can be repeated."""
    return random.Random(seed)  # noqa: S311 - not for secrets


def late(seed: int) -> Callable[[], float]:
    """Triggers at random within their minute."""
    chance = dice(seed)
    return lambda: chance.uniform(0, TRIGGER_LATENESS.total_seconds() - 1)


def somewhere(seed: int) -> Callable[[], float]:
    """Positions in a shard at random, as far as a run with the latest trigger is not left to the standby."""
    chance = dice(seed + 1000)
    return lambda: chance.uniform(0, (LAST_START - TRIGGER_LATENESS).total_seconds())
