"""Thirty days at 20 minutes: 2,160 intervals, both runners, a moving clock, outages at random.

Everything is in memory but the OCI store: that is the real adapter with the real SDK, over the emulator that holds
its quotas, whose versions are purged half a day late. Seeded: the same seed is the same month.

    python -m tests.proof.thirty_days --days 30 --seed 1
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

from lockstep.errors import (
    DatabaseUnreachableError,
    LockstepError,
    LockTableUnreachableError,
    StoreQuotaExceededError,
    StoreUnreachableError,
)
from lockstep.store_kinds.oci_budget import MAX_IN_USE, MAX_PENDING_DELETION
from lockstep.stores import Stores
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest, rotate
from sandbox.oci import OciSandbox, SandboxClock
from tests.support.memory import EPOCH, FakeClock
from tests.unit.harness import RUN_SECONDS
from tests.unit.ring_world import RingWorld

HALF_INTERVAL = timedelta(minutes=10)
PURGE_LATENESS = timedelta(hours=12)
OUTAGES_A_DAY = 3


@dataclass
class Month:
    """What was seen.

    Attributes:
        outcomes: How often runs ended in each way; failures by their error's name.
        out_of_step: Healthy runs after which something was not in step.
        lockouts: Runs after which a store's current value did not log in somewhere.
    """

    days: int
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    rotated_by: Counter[str] = field(default_factory=Counter)
    outages: Counter[str] = field(default_factory=Counter)
    out_of_step: int = 0
    lockouts: int = 0
    peak_in_use: int = 0
    peak_pending: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether no quota was hit, no login was refused, and every healthy run left everything in step."""
        return (
            self.lockouts == 0
            and self.out_of_step == 0
            and StoreQuotaExceededError.__name__ not in self.outcomes
            and self.peak_in_use <= MAX_IN_USE
            and self.peak_pending <= MAX_PENDING_DELETION
        )


class Weather:
    """Outages: which, when and for how long is drawn from the seed."""

    def __init__(self, world: RingWorld, dice: random.Random, month: Month) -> None:
        self._world = world
        self._dice = dice
        self._month = month
        self._ends_at = EPOCH
        self._begin: Callable[[], Callable[[], None]] | None = None
        self._lift: Callable[[], None] | None = None

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Lift an outage for the length of a block, so that the observer can read."""
        if self._lift:
            self._lift()
        yield
        if self._lift and self._begin:
            self._lift = self._begin()

    def change(self) -> None:
        """Before each trigger: end an outage whose time has come, or begin one."""
        now = self._world.memory.clock.now()
        if self._lift:
            if now >= self._ends_at:
                self._lift()
                self._lift = None
            return
        triggers_a_day = timedelta(days=1) / HALF_INTERVAL
        if self._dice.random() < OUTAGES_A_DAY / triggers_a_day:
            name, self._begin = self._dice.choice(list(self._kinds().items()))
            self._month.outages[name] += 1
            self._lift = self._begin()
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


def live(days: int, seed: int, *, tell: Callable[[Month, int], None] = lambda _month, _day: None) -> Month:
    """Live through the days; see `Month`."""
    month = Month(days=days, seed=seed)
    dice = random.Random(seed)  # noqa: S311 - a replayable draw
    began = time.monotonic()
    clock = FakeClock(EPOCH)
    with OciSandbox(SandboxClock(clock.now)) as sandbox:
        sandbox.vault.behaviour.purge_lateness = PURGE_LATENESS
        world = RingWorld(sandbox, clock, slots=4, alone=False)
        sandbox.on_call = None  # Looked at after each run: at each call it would take hours.
        weather = Weather(world, dice, month)
        for trigger in range(days * 24 * 6):
            weather.change()
            outcome = _run(world, month, "oci" if trigger % 2 else "aws", f"run-{trigger}")
            with weather.calm():
                _look(world, month)
                month.out_of_step += outcome == "rotated" and not _in_step(world)
            next_trigger = EPOCH + HALF_INTERVAL * (trigger + 1)
            clock.sleep(max(0.0, (next_trigger - clock.now()).total_seconds()))
            if trigger % 144 == 143:
                tell(month, trigger // 144 + 1)
    month.seconds = round(time.monotonic() - began, 1)
    return month


def _run(world: RingWorld, month: Month, runner: str, rotation_id: str) -> str:
    clock = world.memory.clock
    ports = replace(
        world.memory.ports(runner),
        stores=Stores([world.memory.stores["aws"], world.ring.store_on(world.ring.vault)]),
    )
    retries = Retries(clock, deadline=clock.monotonic() + RUN_SECONDS, jitter=lambda: 0.5)
    request = RunRequest(rotation_id=rotation_id, runner=runner, trigger="schedule")
    try:
        outcome = rotate(request, ports, retries, run_map=map).outcome
    except LockstepError as error:
        outcome = type(error).__name__
    month.outcomes[outcome] += 1
    if outcome == "rotated":
        month.rotated_by[runner] += 1
    return outcome


def _in_step(world: RingWorld) -> bool:
    record = world.memory.lock.record
    serving = {world.ring.serving(kind)[1] for kind in world.ring.ids}
    serving.add(world.memory.stores["aws"].read_current().generation)
    return serving == {record.current_generation} and record.claim is None and record.holder is None


def _look(world: RingWorld, month: Month) -> None:
    world.sandbox.calls.clear()
    memory = world.memory
    logins = [world.read(), memory.stores["aws"].current_login()]
    month.lockouts += any(
        login and login.password.reveal() not in database.accounts[login.username].passwords
        for login in logins
        for database in memory.databases.values()
    )
    for ids in world.ring.ids.values():
        for secret_id in ids:
            versions = world.ring.console.versions(secret_id)
            pending = sum(v.time_of_deletion is not None for v in versions)
            month.peak_pending = max(month.peak_pending, pending)
            month.peak_in_use = max(month.peak_in_use, len(versions) - pending)


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
