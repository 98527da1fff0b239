"""Two or three runners at once, in memory, one call at a time, in the order of a seeded schedule.

Each runner has a thread, and exactly one thread runs at a time. At each call of a port the runner goes on, or the
schedule puts it to sleep and wakes another one. A schedule is a list of events, so each failure can be repeated.

Most random orders find nothing: the runners alternate, and the fence stops one of them at once. One long sleep at the
wrong moment finds more. So a schedule has few events (K. Burckhardt et al., "A randomized scheduler with
probabilistic guarantees of finding bugs", 2010: a bug that takes d switches is found with d-1 random switch points),
and a sleep mostly outlasts the lease, and with it the sessions that databases end when they are idle.
"""

import random
import re
import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, NamedTuple

from lockstep.protocol import errors
from lockstep.protocol.model import Strategy
from tests.proof.invariants import ViolationError
from tests.proof.memory_observer import RaceObserver
from tests.proof.planting import Bug, Plant
from tests.proof.scenarios import SCENARIOS, world_of
from tests.support import world as worlds
from tests.support.memory import MemoryWorld

LONGEST_STEPS = 450
"""The steps of a race of two runners without retries. Events are put at random steps below this."""
CALL_SECONDS = 0.1
"""How long a call takes."""
WAIT_SECONDS = 120.0
What = Literal["sleep", "die", "fail", "lose"]
WHATS: tuple[What, ...] = ("sleep", "die", "fail", "lose")
_DECISIVE = re.compile(
    r"before (.+ (stage|promote)( app_user| connection_blob)?|.+ retire|db-\d lock"
    r"|lock (acquire|claim|require|require_lease|begin_promotion|release)|.+ log put)"
)


class Event(NamedTuple):
    """Something that happens at a step of the whole race.

    Attributes:
        what: The runner sleeps and `to` goes on; it dies; its call fails before the effect; its reply is lost.
        jump: While it sleeps its lease ends.
        kill: While it sleeps the databases end its session, and with it the advisory lock.
    """

    step: int
    what: What
    to: int = 0
    jump: bool = False
    kill: bool = False


class Schedule(NamedTuple):
    """All that a race depends on."""

    seed: int
    scenario: str
    strategy: Strategy
    runners: tuple[str, ...]
    turns: int
    due: tuple[bool, ...]
    recoverer: str
    events: tuple[Event, ...]


def schedule_of(seed: int, *, scenarios: Sequence[str] = tuple(SCENARIOS)) -> Schedule:
    """The schedule of a seed."""
    rng = random.Random(seed)  # noqa: S311 - it must be the same every time
    names = tuple(rng.choice(("aws", "oci")) for _ in range(rng.choice((2, 2, 2, 3))))
    scenario, strategy = rng.choice(scenarios), rng.choice(list(Strategy))
    events, step = list[Event](), 0
    decisive = decisive_steps(scenario, strategy)
    for _ in range(rng.choice((1, 2, 2, 3, 3, 4))):
        # Mostly right at a change, counted from where the runner that was woken begins; else anywhere.
        is_at_change = rng.random() < 0.6
        step = step + rng.choice(decisive) if is_at_change else int(rng.triangular(0, LONGEST_STEPS, 80))
        jump = rng.random() < 0.7
        what, to = rng.choices(WHATS, (7, 1, 1, 1))[0], rng.randrange(len(names))
        events.append(Event(step, what, to, jump=jump, kill=jump and rng.random() < 0.8))
    turns = rng.choice((1, 2, 2, 3))
    return Schedule(
        seed=seed,
        scenario=scenario,
        strategy=strategy,
        runners=names,
        turns=turns,
        due=tuple(rng.random() < 0.7 for _ in range(turns * len(names))),
        recoverer=rng.choice(("aws", "oci")),
        events=tuple(sorted(events, key=lambda e: e.step)),
    )


@cache
def decisive_steps(scenario: str, strategy: Strategy) -> tuple[int, ...]:
    """The steps of a run that nothing disturbs at which it is about to change something, or to read the fence."""
    world, seen = world_of(scenario, strategy), list[str]()
    worlds.at_every_boundary(world, seen.append)
    with suppress(errors.LockstepError):
        worlds.rotate(world, "alone")
    return tuple(i for i, boundary in enumerate(seen, start=1) if _DECISIVE.fullmatch(boundary))


class Failure(NamedTuple):
    """An invariant that did not hold."""

    schedule: Schedule
    invariant: str
    what: str

    def __str__(self) -> str:
        return f"seed {self.schedule.seed}: {self.invariant}: {self.what}; {self.schedule}"


def play(schedule: Schedule, plant: Plant = nullcontext) -> Failure | None:
    """Run a race and what follows it; the first invariant that does not hold, or None.

    Args:
        schedule: What happens when.
        plant: A bug; the world before the race is made without it.
    """
    race = Race(schedule)
    try:
        with plant():
            race.run()
    except ViolationError as violation:
        return Failure(schedule, violation.invariant, violation.what)
    return None


def hunt(bug: Bug, *, schedules: int) -> tuple[Failure | None, int]:
    """Look for a planted bug: what shows it, and how many schedules it took, that of the catalogue's seed first."""
    assert bug.races
    for tries, seed in enumerate((bug.races.seed, *range(schedules)), 1):
        found = play(schedule_of(seed, scenarios=bug.races.scenarios), bug.plant)
        if found and found.invariant in bug.races.caught_as:
            return found, tries
    return None, schedules


@dataclass(eq=False)
class Participant:
    """A runner's thread."""

    index: int
    runner: str
    awake: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    rotation_id: str = ""
    finished: bool = False
    dead: bool = False


class Race:
    """One race."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.scenario = SCENARIOS[schedule.scenario]
        self.world: MemoryWorld = world_of(schedule.scenario, schedule.strategy)
        self.step = 0
        self._events = list(schedule.events)
        self._due = list(schedule.due)
        self._participants = [Participant(i, runner) for i, runner in enumerate(schedule.runners)]
        self.running = self._participants[0]
        self._over = threading.Semaphore(0)
        self._failure: BaseException | None = None
        self.observer = RaceObserver(self.world)

    def run(self) -> None:
        """Play it; raises ViolationError."""
        worlds.at_every_boundary(self.world, self._boundary)
        for p in self._participants:
            threading.Thread(target=self._live, args=(p,), name=f"race {p.index}", daemon=True).start()
        self.running.awake.release()
        if not self._over.acquire(timeout=WAIT_SECONDS):
            raise RuntimeError(f"the race of seed {self.schedule.seed} does not end")
        worlds.undisturbed(self.world)
        self._raise()
        self._aftermath()

    def _aftermath(self) -> None:
        world, recoverer = self.world, self.schedule.recoverer
        for database in world.databases.values():
            database.kill_connections()
            vars(database).pop("set_passwords", None)  # From here on the databases behave.
        world.plans.clear()  # What was deployed to one cloud is now deployed to both.
        if self.scenario.untouched:
            self.observer.untouched("db-2", self.scenario.untouched)
            self._refusals_are_few()
            return
        worlds.at_every_boundary(world, self._look_only)
        self.running = Participant(9, recoverer)
        runs = (("recovery", recoverer), ("following", "aws"), ("last", "oci"))
        generations = [self._undisturbed(name, runner) for name, runner in runs]
        worlds.undisturbed(world)
        self._raise()
        self._refusals_are_few()
        self._in_sync(generations[-1])
        live = {worlds.shown(worlds.login_of(world, g)) for g in generations[-2:]}
        for name, let_in in worlds.known_logins(world).items():
            if let_in != live:
                what = f"{name} lets in {len(let_in)} logins, {len(let_in - live)} of them revoked ones"
                raise ViolationError("I9", what)

    def _refusals_are_few(self) -> None:
        """I1: no account comes closer to being locked than one login takes back.

        Where a database has not got what stores serve, a run that dies between the refusal and the login that takes it
        back leaves another one to the next run; where a person has changed every account, nothing takes a refusal back,
        and each run shows two. A run that has slept until its sessions ended, and with them the advisory lock, can wake
        up between another run's refusal and the login that takes it back.
        """
        events = self.schedule.events
        most = 1 + sum(event.kill for event in events)
        if self.scenario.unlike_stores:
            most = 1 + len(events)
        elif self.schedule.scenario == "changed-by-dba":
            most = 2 * self.schedule.turns * len(self.schedule.runners) + len(events)
        for name, database in self.world.databases.items():
            if database.refusals.most > most:
                raise ViolationError("I1", f"{name} has refused {database.refusals.most} logins in a row")

    def _undisturbed(self, name: str, runner: str) -> int:
        """A run of the next trigger; the generation that is current then."""
        self.running.rotation_id = name
        try:
            outcome = worlds.rotate_again(self.world, name, runner=runner)
        except errors.PreviousCredentialAcceptedError:
            if self.schedule.scenario != "sticky":
                raise ViolationError("I9", f"{name} finds valid what should be revoked") from None
            _unstick(self.world)
            return self._undisturbed(f"{name}-again", runner)
        except (errors.LockstepError, worlds.Killed) as e:
            self._raise()
            raise ViolationError("I8", f"{name} fails: {type(e).__name__}") from None
        if outcome.outcome != "rotated":
            raise ViolationError("I8", f"{name} ended as {outcome.outcome}")
        return outcome.generation or 0

    def _in_sync(self, generation: int) -> None:
        try:
            worlds.assert_in_sync(self.world, generation)
        except AssertionError as e:
            raise ViolationError("I8", f"not in sync: {e}") from None
        try:
            worlds.assert_on_record(self.world)
        except (AssertionError, errors.LockstepError) as e:
            raise ViolationError("I7", f"the record is not whole: {e or type(e).__name__}") from None

    # Threads.

    def _live(self, me: Participant) -> None:
        me.awake.acquire()
        try:
            for turn in range(self.schedule.turns):
                if me.dead:
                    break
                if self._due.pop(0) if self._due else True:
                    self.world.clock.sleep(worlds.INTERVAL_SECONDS)
                me.rotation_id = f"run-{me.index}-{turn}"
                with suppress(errors.LockstepError):
                    worlds.rotate(self.world, me.rotation_id, runner=me.runner)
        except worlds.Killed:
            pass
        except BaseException as e:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = self._failure or e
        me.finished = True
        left = [p for p in self._participants if not p.finished]
        for p in left:
            p.dead = p.dead or isinstance(self._failure, ViolationError)
        if left:
            self._wake(left[0])
        else:
            self._over.release()

    def _wake(self, other: Participant) -> None:
        self.running = other
        other.awake.release()

    # Boundaries.

    def _boundary(self, boundary: str) -> None:
        me = self.running
        if me.dead:
            raise worlds.Killed
        self._look_only(boundary)
        self.step += 1
        while self._events and self._events[0].step <= self.step:
            is_before, what = boundary.startswith("before"), self._events[0].what
            if (what == "fail" and not is_before) or (what == "lose" and is_before):
                return
            self._happen(self._events.pop(0), boundary, me)

    def _happen(self, event: Event, boundary: str, me: Participant) -> None:
        if event.what == "die":
            me.dead = True
            raise worlds.Killed
        if event.what in ("fail", "lose"):
            raise error_at(self.world, boundary)
        other = self._participants[event.to % len(self._participants)]
        if other is me or other.finished:
            return
        if event.jump:
            self.world.clock.sleep(worlds.INTERVAL_SECONDS)
        for database in self.world.databases.values() if event.kill else ():
            database.kill_connections()
        self._wake(other)
        me.awake.acquire()
        if me.dead:
            raise worlds.Killed

    def _look_only(self, boundary: str) -> None:
        me = self.running
        self.world.clock.sleep(CALL_SECONDS)
        # At once, so that no other call's effect is taken for this one's.
        if not boundary.startswith("before"):
            try:
                self.observer.look_at(boundary, me.rotation_id)
            except ViolationError as violation:
                self._failure = self._failure or violation
                me.dead = True
                # Any Exception would be taken for a failure of the run, and the run would go on to record it.
                raise worlds.Killed from None

    def _raise(self) -> None:
        if self._failure:
            raise self._failure


def error_at(world: MemoryWorld, boundary: str) -> errors.LockstepError:
    """What a call fails with; a database ends the session."""
    seam = boundary.split()[1]
    if seam in world.databases:
        world.databases[seam].kill_connections()
        return errors.DatabaseUnreachableError(database=seam)
    if seam == "lock":
        return errors.LockTableUnreachableError()
    if seam in world.stores and "log" not in boundary and "signer" not in boundary:
        return errors.StoreUnreachableError(store=seam)
    return errors.AuditLogUnreachableError()


def _unstick(world: MemoryWorld) -> None:
    """An operator has read the alarm and ended the old value."""
    claim = world.lock.record.claim
    assert claim
    live = {worlds.shown(worlds.login_of(world, g)) for g in (claim.generation, claim.base_generation)}
    for database in world.databases.values():
        for username, account in database.accounts.items():
            account.passwords = tuple(p for p in account.passwords if (username, p) in live)
