"""A simulated day of one credential: triggers of both clouds, lock, schedule, and an AWS that fails as told.

It has the shipped rules (`lockstep.standby`, `lockstep.wall_clock`, `lockstep.timing`) or, to compare, those of the
first edition: a lease of 900 s, and a standby that takes whatever is due. Runs are reduced to when they acquire,
promote and release. Times are seconds from midnight UTC; a runner reads them on its own clock.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from heapq import heappop, heappush
from itertools import pairwise

from lockstep.model import AwsSigns, Schedule
from lockstep.standby import bounds, yields
from lockstep.timing import LEASE, RUN, TOLERANCE, TRIGGER_LATENESS
from lockstep.wall_clock import period

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
    """It releases the lock after a failure; nothing is in flight."""
    FAILS_PENDING = "fails pending"
    """It releases the lock after a failure; a generation is in flight."""
    DIES_PROMOTED = "dies promoted"
    """It promotes, and dies before the release."""
    SLOW = "slow"
    """It promotes just before its execution would time out."""
    SKIPS = "skips"
    """It lives, and never finds the credential due."""
    OTHER_PLAN = "other plan"
    """It acquires the lock, finds that another plan is active, and releases it."""


Behaviour = Callable[[int], Aws]
"""What the trigger with this number comes to."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """By which rules both runners act."""

    lease: float
    run: float
    standby_yields: bool


NEW = Rules(lease=LEASE.total_seconds(), run=RUN.total_seconds(), standby_yields=True)
FIRST_EDITION = Rules(lease=900, run=600, standby_yields=False)


def schedule(interval: timedelta, tolerance: timedelta = TOLERANCE) -> Schedule:
    """A schedule with the plan's default overlap."""
    return Schedule(interval=interval, overlap=interval - 2 * tolerance, tolerance=tolerance)


@dataclass(kw_only=True)
class Day:
    """A day, or several.

    Attributes:
        plan: The credential's schedule.
        behaviour: Of AWS.
        rules: New ones, or those of the first edition.
        standby_every: The shortest interval in the plan, by which the standby is called; 0: the credential's own.
        jitter: How late in its minute a trigger comes, in seconds.
        aws_clock: How far the clock of AWS is ahead, in seconds.
        hours: How long it lasts.
        promoted: When a generation was promoted, and by whom.
    """

    plan: Schedule
    behaviour: Behaviour
    rules: Rules = NEW
    standby_every: float = 0
    jitter: Callable[[], float] = lambda: 0.0
    aws_clock: float = 0
    hours: float = 24
    promoted: list[tuple[float, str]] = field(default_factory=list)
    _free_at: float = 0
    _expires_at: float = 0
    _pending: bool = False
    _next_due_at: float = -DAY
    _not_before: float = -DAY
    _signs: AwsSigns = field(default_factory=AwsSigns)

    @property
    def longest_gap_minutes(self) -> float:
        """From one promotion to the next, or to the end."""
        times = [at for at, _ in self.promoted] + [self.hours * 3600]
        return max(b - a for a, b in pairwise(times)) / 60

    def rotations_by(self, runner: str) -> int:
        """How many generations this runner promoted."""
        return sum(who == runner for _, who in self.promoted)

    def live(self) -> "Day":
        """Let the triggers come, one after the other."""
        every = period(self.plan.interval).total_seconds()
        standby_every = self.standby_every or every
        events: list[tuple[float, int, str]] = []
        for number in range(int(self.hours * 3600 / every)):
            heappush(events, (number * every + self.jitter(), number, "aws"))
        for number in range(int(self.hours * 3600 / standby_every)):
            heappush(events, (standby_every / 2 + number * standby_every + self.jitter(), number, "oci"))
        while events:
            at, number, runner = heappop(events)
            if runner == "aws":
                self._call_aws(at, self.behaviour(number) if number else Aws.WORKS)
            else:
                self._call_oci(at)
        return self

    def _call_aws(self, at: float, comes_to: Aws) -> None:
        clock = at + self.aws_clock
        if comes_to is Aws.DEAD:
            return
        if comes_to is Aws.SKIPS or not self._may_acquire(at, clock):
            self._signs = self._signs.after_skip(_time(clock))
            return
        self._signs = self._signs.after_begin(_time(clock))
        self._acquire(clock)
        if comes_to in {Aws.FAILS, Aws.FAILS_PENDING, Aws.OTHER_PLAN}:
            self._pending |= comes_to is Aws.FAILS_PENDING
            self._free_at = at + QUICK
        elif comes_to is Aws.DIES_PROMOTED:
            self._pending = True
            self.promoted.append((at + QUICK, "aws"))
        elif comes_to in {Aws.WORKS, Aws.SLOW}:
            done = at + (QUICK if comes_to is Aws.WORKS else self.rules.run - 1)
            self._promote(clock, done, self.aws_clock, "aws")
            self._signs = self._signs.after_success(_time(done + self.aws_clock))

    def _call_oci(self, at: float) -> None:
        if not self._may_acquire(at, at):
            return
        if self.rules.standby_yields and not self._pending:
            limits = bounds(self.plan.interval, _time(at))
            if yields(self._signs, _time(self._next_due_at), limits):
                return
        self._acquire(at)
        self._promote(at, at + QUICK, 0, "oci")

    def _held(self, at: float, clock: float) -> bool:
        return at < self._free_at and int(clock) <= int(self._expires_at)

    def _may_acquire(self, at: float, clock: float) -> bool:
        due = self._pending or (self._next_due_at <= clock and self._not_before <= clock)
        return due and not self._held(at, clock)

    def _acquire(self, clock: float) -> None:
        self._expires_at = clock + self.rules.lease
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
