"""One look at the clouds for all browsers together, in a bounded number of calls.

How many calls the page makes to the clouds.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from lockstep.operate import state as reading
from lockstep.operate.documents import Run
from lockstep.operate.execution import Entered, Watched
from lockstep.operate.history import last_runs
from lockstep.operate.state import CredentialState, looked_at, state_of, waits_for
from lockstep.operate.watch import Expected, watch
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError, line_of
from lockstep.protocol.lock_rule import is_held
from lockstep.protocol.model import Credential, LockRecord
from lockstep.protocol.ports import Clock, Table
from lockstep.protocol.schedule import AWS, cloud_of
from lockstep.runtime.clouds import Clouds

MINUTE = 60.0


class Calls:
    """The calls of the last minute. For `deadline_guard`; threads may share it.

    Args:
        monotonic: Seconds that only grow.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._made: deque[float] = deque()
        self._lock = threading.Lock()

    def count(self) -> None:
        """A call is about to be sent."""
        with self._lock:
            self._made.append(self._monotonic())

    @property
    def last_minute(self) -> int:
        """How many were made in it."""
        with self._lock:
            while self._made and self._made[0] < self._monotonic() - MINUTE:
                self._made.popleft()
            return len(self._made)


# One look at the clouds, in a bounded number of calls.
#
# Lock records are read at each look: one by one where the plan has few credentials, else the whole table in
# pages. What stores serve, and the audit logs, are read where the record has changed, where somebody looks at
# that credential, and in turns, the longest unread first, as long as the last minute had fewer calls than
# `MOST_CALLS`.

FEW = 25
"""So many lock records are read one by one. Of more the whole table is read, in pages of 1 MB."""
MOST_CALLS = 300
"""In a minute with more calls, no further store and no further log is read."""
READ_AGAIN = timedelta(seconds=60)
"""What stores serve is read again after this time, where nothing has changed."""
READ_AGAIN_IN_TROUBLE = timedelta(seconds=10)
"""The same where they are not in sync, or one did not answer."""
RUNS = 8
"""Of the credential that somebody looks at."""
MOST_EXECUTIONS = 2 * RUNS
"""In one look the steps of no more runs are read; the others' are as they were, or come with the next look."""
NOT_AGAIN = timedelta(seconds=60)
"""For so long a call for the steps of a run is not repeated that has failed."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What is known of a credential.

    Attributes:
        state: As `lockstep status` has it. Its stores are empty while they have not been read since the record changed.
        read_at: When its stores were read; None: not since the record changed.
        runs: The newest first: the last one, or `RUNS` of a credential that somebody looks at.
        steps: The states of runs in AWS, by the id of the run.
        unrotated: Whether no rotation of it ever ended.
        stale: Whether it was not rotated for two intervals, or could not be for as long.
        problem: Why its lock record cannot be read.
    """

    credential: Credential
    state: CredentialState
    read_at: datetime | None = None
    runs: Sequence[Run] = ()
    steps: Mapping[str, Sequence[Entered]] = field(default_factory=dict)
    unrotated: bool = False
    stale: bool = False
    problem: str | None = None

    @property
    def record(self) -> LockRecord:
        """Its lock record."""
        return self.state.record

    def runner(self, now: datetime) -> str | None:
        """The cloud whose run has the lock; None if none has."""
        record = self.record
        return cloud_of(record.holder) if record.holder and is_held(record, now) else None


@dataclass(frozen=True, kw_only=True)
class FleetSnapshot:
    """What is known of all credentials.

    Attributes:
        at: When their lock records were read.
        seen: By the credential's id, in the plan's order.
        problem: Why the last look failed; what is here is from the one before.
        steps_problem: Why the steps of runs in AWS are not known.
    """

    at: datetime
    seen: Mapping[str, Snapshot]
    problem: str | None = None
    steps_problem: str | None = None

    def running(self, now: datetime) -> list[Snapshot]:
        """The credentials of which a run has the lock."""
        return [one for one in self.seen.values() if one.runner(now)]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What was read of a credential besides its record, and under which record.

    Attributes:
        is_whole: Whether `runs` are those for a person who looks, and not the last one alone.
    """

    state: CredentialState
    runs: Sequence[Run]
    at: datetime
    is_whole: bool

    def is_old(self, now: datetime) -> bool:
        """Whether it is to be read again, though nothing has changed."""
        after = READ_AGAIN if self.state.is_in_sync else READ_AGAIN_IN_TROUBLE
        return now - self.at >= after


class Looker:
    """Looks at the clouds. One thread uses it.

    Args:
        plan: The plan.
        clouds: What the operator reaches.
        calls: Counts the calls of `clouds`.
        machine: Returns the ARN of the state machine, or of an alias of it.
    """

    def __init__(self, plan: Plan, clouds: Clouds, calls: Calls, machine: Callable[[], str]) -> None:
        self._plan = plan
        self._clouds = clouds
        self._calls = calls
        self._machine = machine
        self._kept: dict[str, _Kept] = {}
        self._steps: dict[str, Sequence[Entered]] = {}
        self._executions: dict[str, Watched] = {}
        self._refused: dict[str, datetime] = {}
        self._steps_problem: str | None = None
        self._executions_left = 0

    @property
    def is_of_few(self) -> bool:
        """Whether the lock records are read one by one."""
        return len(self._plan.credentials) <= FEW

    def look(self, asked: Collection[str], *, records_only: bool = False) -> FleetSnapshot:
        """Look once.

        Args:
            asked: The ids of credentials that somebody looks at.
            records_only: Read no store and no log.

        Raises:
            LockstepError: The lock table cannot be read.
        """
        now = self._clouds.clock.now()
        table = self._table()
        if not records_only:
            self._read(table, asked, now)
        found = watch(table, self._expected(), now=now).ids
        seen = {c.id: self._seen(c, table, found, now) for c in self._plan.credentials}
        return FleetSnapshot(
            at=now, seen=self._with_steps(seen, asked, now), steps_problem=self._steps_problem
        )

    def _table(self) -> Table:
        if not self.is_of_few:
            return self._clouds.lock_table()
        locks = [self._clouds.lock(c) for c in self._plan.credentials]
        records = self._clouds.side_by_side([one.read for one in locks])
        return Table(records={r.credential_id: r for r in records}, unreadable={})

    def _expected(self) -> Expected:
        return Expected(credentials=self._plan.credentials, schedules=True)

    def _read(self, table: Table, asked: Collection[str], now: datetime) -> None:
        for credential in self._in_turn(table, asked, now):
            if self._calls.last_minute >= MOST_CALLS:
                return
            record = _record(credential, table)
            state = looked_at(self._plan, self._clouds, credential, record, now)
            runs = [state.last_run] if state.last_run else []
            if credential.id in asked:
                runs, _ = last_runs(self._plan, self._clouds, credential, record.heads, RUNS)
            self._kept[credential.id] = _Kept(state=state, runs=runs, at=now, is_whole=credential.id in asked)

    def _in_turn(self, table: Table, asked: Collection[str], now: datetime) -> Iterator[Credential]:
        """The credentials whose stores are to be read: those looked at and changed ones first, then the oldest."""
        due = []
        for credential in self._plan.credentials:
            if credential.id in table.unreadable:
                continue
            kept = self._kept.get(credential.id)
            changed = kept is None or _differs(kept.state.record, _record(credential, table))
            is_asked = credential.id in asked
            if kept is None or changed or kept.is_old(now) or (is_asked and not kept.is_whole):
                rank = (not is_asked, not changed, kept.at if kept else now)
                due.append((rank, credential))
        return (credential for _, credential in sorted(due, key=lambda pair: pair[0]))

    def _seen(
        self, credential: Credential, table: Table, found: Mapping[str, Sequence[str]], now: datetime
    ) -> Snapshot:
        record, kept = _record(credential, table), self._kept.get(credential.id)
        if kept is None or _differs(kept.state.record, record):
            state = state_of(
                record,
                credential,
                reading.StoreSnapshot(depth="names", answers={}, pending_since=None),
                now,
                has_standby=self._plan.runners.oci is not None,
                last_run=kept.state.last_run if kept else None,
                unread=kept.state.unread if kept else {},
            )
        else:
            forecast = kept.state.next_run
            next_run = replace(forecast, waits_for=waits_for(record, now)) if forecast else None
            state = replace(kept.state, record=record, next_run=next_run)
        return Snapshot(
            credential=credential,
            state=state,
            read_at=kept.at if kept and state.look.answers else None,
            runs=kept.runs if kept else (),
            unrotated=credential.id in found.get("UnrotatedCredentials", ()) or record.next_due_at is None,
            stale=credential.id in found.get("StaleCredentials", ()),
            problem=table.unreadable.get(credential.id),
        )

    def _with_steps(
        self, seen: Mapping[str, Snapshot], asked: Collection[str], now: datetime
    ) -> Mapping[str, Snapshot]:
        """The same, with the states of the runs in AWS that somebody looks at or that are under way."""
        done = dict(seen)
        self._executions_left = MOST_EXECUTIONS
        for one in sorted(seen.values(), key=lambda one: one.credential.id not in asked):
            wanted = [one.record.holder] if one.record.holder and one.runner(now) == AWS else []
            if one.credential.id in asked:
                wanted += [run.rotation_id for run in one.runs if run.cloud == AWS]
            steps = {name: found for name in wanted if (found := self._states(name, now))}
            if steps:
                done[one.credential.id] = replace(one, steps=steps)
        return done

    def _states(self, name: str, now: datetime) -> Sequence[Entered]:
        known = self._steps.get(name, ())
        refused = self._refused.get(name)
        if (known and all(state.left_at for state in known)) or (refused and now - refused < NOT_AGAIN):
            return known
        if not self._executions_left:
            return known
        self._executions_left -= 1
        try:
            _, known = self._execution(name).look()
        except LockstepError as error:
            self._refused[name], self._steps_problem = now, line_of(error)
            return known
        self._steps_problem = None
        self._steps[name] = known
        kept: dict[str, Any]
        for kept in (self._steps, self._executions, self._refused):
            while len(kept) > RUNS * FEW:
                kept.pop(next(iter(kept)))
        return known

    def _execution(self, name: str) -> Watched:
        if name not in self._executions:
            client = self._clouds.aws("stepfunctions", self._plan.lock.region)
            self._executions[name] = Watched.named(client, self._machine(), name)
        return self._executions[name]


def _record(credential: Credential, table: Table) -> LockRecord:
    return table.records.get(credential.id) or LockRecord(credential_id=credential.id)


def _differs(before: LockRecord, now: LockRecord) -> bool:
    """Whether stores may serve something else, or the logs have new entries."""
    told = [(r.current_generation, r.claim, r.promoting, r.plan, r.heads, r.blocked) for r in (before, now)]
    return told[0] != told[1]


# Looks again and again, for all browsers together: often while somebody looks, rarely while nobody does.

RUNNING_SECONDS = 1.0
"""Between two looks while a run is under way and somebody looks."""
WATCHED_SECONDS = 2.0
"""Between two looks while somebody looks."""
MANY_SECONDS = 30.0
"""The same with more credentials than are read one by one, whether or not a run is under way."""
ALONE_SECONDS = 300.0
"""Between two looks while nobody looks."""
WATCHED_FOR = 30.0
"""So long after a request somebody is taken to look."""
PATIENCE_SECONDS = 1.5
"""So long a request waits for the next look where the last one is old."""
_END_SECONDS = 5.0


class Poller:
    """The last look, and the thread that takes the next one.

    Args:
        looker: Takes a look.
        clock: Measures time.
    """

    def __init__(self, looker: Looker, clock: Clock) -> None:
        self._looker = looker
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._watched_at = float("-inf")
        self._wake = threading.Event()
        self._fresh = threading.Event()
        self._over = False
        self._looked_at = clock.monotonic()
        self.latest: FleetSnapshot = looker.look((), records_only=True)

    def ask(self, credential_id: str | None = None) -> None:
        """Somebody looks, at all credentials or at one. Where the last look is old, the next one is waited for."""
        moment = self._clock.monotonic()
        self._watched_at = moment
        is_new = credential_id is not None and credential_id not in self._watched()
        if credential_id is not None:
            self._asked[credential_id] = moment
        if is_new or moment - self._looked_at > self.seconds:
            self._fresh.clear()
            self._wake.set()
            self._fresh.wait(PATIENCE_SECONDS)

    @property
    def seconds(self) -> float:
        """Between two looks, as things are now."""
        if self._clock.monotonic() - self._watched_at > WATCHED_FOR:
            return ALONE_SECONDS
        if not self._looker.is_of_few:
            return MANY_SECONDS
        return RUNNING_SECONDS if self.latest.running(self._clock.now()) else WATCHED_SECONDS

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look in a thread until the end of the block. A call that is under way is not waited for long."""
        thread = threading.Thread(target=self._look_until_over, name="lockstep-look", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over = True
            self._wake.set()
            thread.join(_END_SECONDS)

    def _look_until_over(self) -> None:
        while not self._over:
            self._wake.clear()
            try:
                self.latest = self._looker.look(self._watched())
            except LockstepError as error:
                self.latest = replace(self.latest, problem=line_of(error))
            except Exception as error:  # noqa: BLE001 - the page must tell it, and the next look may succeed
                self.latest = replace(self.latest, problem=f"UnexpectedError: {type(error).__name__}")
            self._looked_at = self._clock.monotonic()
            self._fresh.set()
            self._wake.wait(self.seconds)

    def _watched(self) -> list[str]:
        oldest = self._clock.monotonic() - WATCHED_FOR
        return [credential_id for credential_id, at in list(self._asked.items()) if at >= oldest]
