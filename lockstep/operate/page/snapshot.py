"""One look at the clouds for all browsers together, in a bounded number of calls.

Lock records are read at each look: one by one where the plan has few credentials, else the whole table in pages. What
stores serve, and the audit logs, are read where the record has changed, where somebody looks at that credential, and in
turns, the longest unread first, as long as the last minute had fewer calls than `MOST_CALLS`.
"""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lockstep.operate.documents import FEW, Run
from lockstep.operate.history import last_runs
from lockstep.operate.state import (
    UNREAD,
    CredentialState,
    evidence_reasons,
    looked_at,
    promoted_at,
    state_of,
    table_of,
)
from lockstep.operate.verdict import Reason, ranked
from lockstep.operate.watch import Expected, watch
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError, line_of
from lockstep.protocol.model import Credential, LockRecord
from lockstep.protocol.ports import Clock, Table
from lockstep.protocol.schedule import cloud_of
from lockstep.runtime.clouds import Clouds

MINUTE = 60.0
MOST_CALLS = 300
"""In a minute with more calls, no further store and no further log is read."""
READ_AGAIN = timedelta(seconds=60)
"""What stores serve is read again after this time, where nothing has changed."""
READ_AGAIN_IN_TROUBLE = timedelta(seconds=10)
"""The same where they are not in sync, or one did not answer."""
EVIDENCE_AGAIN = timedelta(minutes=5)
"""Whether the logs are confirmed is looked at again after this time: digests are made once an hour."""
RUNS = 8
"""Of the credential that somebody looks at."""


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


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What is known of a credential.

    Attributes:
        state: As `lockstep status` has it. Its stores are empty while they have not been read since the record changed.
        read_at: When its stores were read; None: not since the record changed.
        runs: The newest first: the last one, or `RUNS` of a credential that somebody looks at.
        is_whole: Whether these are `RUNS`.
    """

    state: CredentialState
    read_at: datetime | None = None
    runs: Sequence[Run] = ()
    is_whole: bool = False

    @property
    def credential(self) -> Credential:
        """As the plan has it."""
        return self.state.credential

    @property
    def record(self) -> LockRecord:
        """Its lock record."""
        return self.state.record

    @property
    def promoted_at(self) -> datetime | None:
        """Since when the current generation is served; None where that is not on record."""
        return promoted_at(self.record, self.credential)

    @property
    def runner(self) -> str | None:
        """The cloud whose run has the lock; None if none has."""
        return cloud_of(self.record.holder) if self.record.holder and self.state.is_running else None

    def is_of(self, record: LockRecord) -> bool:
        """Whether stores may serve the same as under another record, and the logs have no new entries."""
        told = [
            (r.current_generation, r.claim, r.promoting, r.plan, r.heads, r.blocked)
            for r in (self.record, record)
        ]
        return told[0] == told[1]

    def is_old(self, now: datetime) -> bool:
        """Whether it is to be read again, though nothing has changed."""
        after = READ_AGAIN if self.state.is_in_sync else READ_AGAIN_IN_TROUBLE
        return self.read_at is None or now - self.read_at >= after


@dataclass(frozen=True, kw_only=True)
class FleetSnapshot:
    """What is known of all credentials.

    Attributes:
        at: When their lock records were read.
        seen: By the credential's id, in the plan's order.
        evidence: What is the matter with the audit logs as evidence.
        problem: Why the last look failed; what is here is from the one before.
    """

    at: datetime
    seen: Mapping[str, Snapshot]
    evidence: Sequence[Reason] = ()
    problem: str | None = None

    @property
    def running(self) -> list[Snapshot]:
        """The credentials of which a run has the lock."""
        return [one for one in self.seen.values() if one.runner]


class Looker:
    """Looks at the clouds. One thread uses it.

    Args:
        plan: The plan.
        clouds: What the operator reaches.
        calls: Counts the calls of `clouds`.
    """

    def __init__(self, plan: Plan, clouds: Clouds, calls: Calls) -> None:
        self._plan = plan
        self._clouds = clouds
        self._calls = calls
        self._kept: dict[str, Snapshot] = {}
        self._evidence: Sequence[Reason] = ()
        self._evidence_at: datetime | None = None

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
        found = watch(table, Expected(credentials=self._plan.credentials, schedules=True), now=now).reasons
        seen = {c.id: self._seen(c, table, found.get(c.id, ()), now) for c in self._plan.credentials}
        return FleetSnapshot(at=now, seen=seen, evidence=self._evidence)

    def _table(self) -> Table:
        if not self.is_of_few:
            return self._clouds.lock_table()
        return table_of(self._clouds, self._plan.credentials)

    def _read(self, table: Table, asked: Collection[str], now: datetime) -> None:
        if self._evidence_at is None or now - self._evidence_at >= EVIDENCE_AGAIN:
            self._evidence = evidence_reasons(self._plan, self._clouds, now)
            self._evidence_at = now
        for credential in self._in_turn(table, asked, now):
            if self._calls.last_minute >= MOST_CALLS:
                return
            record = table.record(credential.id)
            state = looked_at(self._plan, self._clouds, credential, record, now)
            runs = [state.last_run] if state.last_run else []
            if credential.id in asked:
                runs, _ = last_runs(self._plan, self._clouds, credential, record.heads, RUNS)
            self._kept[credential.id] = Snapshot(
                state=state, read_at=now, runs=runs, is_whole=credential.id in asked
            )

    def _in_turn(self, table: Table, asked: Collection[str], now: datetime) -> Iterator[Credential]:
        """The credentials whose stores are to be read: those looked at and changed ones first, then the oldest."""
        due = []
        for credential in self._plan.credentials:
            kept, is_asked = self._kept.get(credential.id), credential.id in asked
            changed = kept is None or not kept.is_of(table.record(credential.id))
            if kept is None or changed or kept.is_old(now) or (is_asked and not kept.is_whole):
                rank = (not is_asked, not changed, kept.read_at if kept and kept.read_at else now)
                due.append((rank, credential))
        due.sort(key=lambda pair: pair[0])
        return (credential for _, credential in due if credential.id not in table.unreadable)

    def _seen(
        self, credential: Credential, table: Table, by_table: Sequence[Reason], now: datetime
    ) -> Snapshot:
        record, kept = table.record(credential.id), self._kept.get(credential.id)
        served = kept if kept and kept.is_of(record) else None
        state = state_of(
            record,
            credential,
            served.state.look if served else UNREAD,
            now,
            has_standby=self._plan.runners.oci is not None,
            last_run=kept.state.last_run if kept else None,
            unread=kept.state.unread if kept else {},
        )
        # What the table alone says: that a record cannot be read, and that all of them are gone.
        known = () if credential.id in table.unreadable else state.reasons
        kinds = {reason.kind for reason in known}
        reasons = ranked([*known, *(reason for reason in by_table if reason.kind not in kinds)])
        return Snapshot(
            state=replace(state, reasons=reasons),
            read_at=served.read_at if served else None,
            runs=kept.runs if kept else (),
        )


# Looks for all browsers together, as long as somebody looks.

RUNNING_SECONDS = 1.0
"""Between two looks while a run is under way."""
WATCHED_SECONDS = 2.0
"""Between two looks while none is."""
MANY_SECONDS = 30.0
"""The same with more credentials than are read one by one, whether or not a run is under way."""
WATCHED_FOR = 30.0
"""So long after a request somebody is taken to look at its credential."""
PATIENCE_SECONDS = 1.5
"""So long a request waits for a new look; if that takes longer, it is for the next request."""
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
        self._wake = threading.Event()
        self._fresh = threading.Event()
        self._over = False
        self._looked_at = clock.monotonic()
        self.latest: FleetSnapshot = looker.look((), records_only=True)
        self._wake.set()

    def ask(self, credential_id: str | None = None) -> None:
        """Somebody looks, at all credentials or at one. If the last look is old, a new one is taken and waited for."""
        moment = self._clock.monotonic()
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
        if not self._looker.is_of_few:
            return MANY_SECONDS
        return RUNNING_SECONDS if self.latest.running else WATCHED_SECONDS

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
        while self._wake.wait() and not self._over:
            self._wake.clear()
            try:
                self.latest = self._looker.look(self._watched())
            except LockstepError as error:
                self.latest = replace(self.latest, problem=line_of(error))
            except Exception as error:  # noqa: BLE001 - the page must tell it, and the next look may succeed
                self.latest = replace(self.latest, problem=f"UnexpectedError: {type(error).__name__}")
            self._looked_at = self._clock.monotonic()
            self._fresh.set()

    def _watched(self) -> list[str]:
        oldest = self._clock.monotonic() - WATCHED_FOR
        return [credential_id for credential_id, at in list(self._asked.items()) if at >= oldest]
