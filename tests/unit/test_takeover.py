"""AWS stops, and the standby takes over a fleet: a simulated outage of the shipped picking, sharing and turns.

Runs are reduced to how long they take. A detached call is a container of its own while it runs, and a tenancy has a
limited number of them; what finds none waits.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from heapq import heappop, heappush
from itertools import count

import pytest

from lockstep.plan.published import IndexedCredential
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.lock_rule import reason_against, select_due
from lockstep.protocol.model import LockRecord
from lockstep.protocol.ports import Table
from lockstep.protocol.schedule import shards, standby_due_by
from oci_fn.dispatching import LATE, overdue, recheck, shares
from oci_fn.func import LAST_BEGIN_SECONDS
from tests.support.memory import EPOCH
from tests.support.standby import standby_minutes
from tests.unit.standby_day import schedule

INTERVAL = timedelta(minutes=20)
ROTATION, SKIP, START = timedelta(seconds=10), timedelta(seconds=1), timedelta(seconds=3)
CALL = timedelta(seconds=300 - LAST_BEGIN_SECONDS)
"""A call begins no further run after this time."""
CONTAINERS = 120
"""Of 512 MB, in the 60 GB of one availability domain."""


def ids_of(number: int) -> list[str]:
    return [f"team-{n % 40}/app-{n}" for n in range(number)]


@dataclass
class Outage:
    """Credentials that AWS has rotated once, each in its shard's minute, before it stopped."""

    number: int
    containers: int = CONTAINERS
    broken: frozenset[str] = frozenset()
    records: dict[str, LockRecord] = field(default_factory=dict)
    credentials: dict[str, IndexedCredential] = field(default_factory=dict)
    last: dict[str, datetime] = field(default_factory=dict)
    gaps: list[timedelta] = field(default_factory=list)
    runs: int = 0
    most_containers: int = 0
    most_left: int = 0
    _events: list[tuple[datetime, int, str, tuple[str, ...], datetime]] = field(default_factory=list)
    _order: "count[int]" = field(default_factory=count)
    _free: int = 0
    _waiting: deque[tuple[datetime, tuple[str, ...]]] = field(default_factory=deque)

    def last_for(self, hours: int) -> "Outage":
        """Let it last so long."""
        ids = dict.fromkeys(ids_of(self.number), INTERVAL)
        plan = shards(ids)
        for shard in plan:
            for key in shard.credential_ids:
                began = EPOCH + shard.phase + timedelta(seconds=30)
                own = schedule(INTERVAL, phase=shard.phase)
                self.credentials[key] = IndexedCredential(
                    id=key, databases=("db-1",), schedule=own, plan_digest="d"
                )
                self.records[key] = LockRecord(credential_id=key)
                self._rotated(key, began)
        self._free = self.containers
        minutes = standby_minutes(plan)
        for minute in range(20, hours * 60):
            if minute % 60 in minutes:
                self._at(EPOCH + timedelta(minutes=minute, seconds=30), "call", ())
        while self._events and self._events[0][0] < EPOCH + timedelta(hours=hours):
            now, _, kind, batch, until = heappop(self._events)
            self._call(now) if kind == "call" else self._run(now, batch, until)
        return self

    def _at(self, when: datetime, kind: str, batch: tuple[str, ...], until: datetime = EPOCH) -> None:
        heappush(self._events, (when, next(self._order), kind, batch, until))

    def _call(self, now: datetime) -> None:
        batches, left = shares(self._due(now))
        self.most_left = max(self.most_left, len(left))
        self._waiting += [(now, batch) for batch in batches]
        self._start(now)

    def _due(self, now: datetime) -> tuple[str, ...]:
        schedules = {key: credential.schedule for key, credential in self.credentials.items()}
        return select_due(schedules, Table(records=self.records, unreadable={}), now=now)

    def _start(self, now: datetime) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self.most_containers = max(self.most_containers, self.containers - self._free)
            asked_at, batch = self._waiting.popleft()
            begins_at = now + START
            call_id = f"call-{next(self._order)}"
            if begins_at - asked_at > LATE:
                batch = recheck(self._due(now), call_id)
            self._at(begins_at, "run", overdue(batch, call_id), begins_at + CALL)

    def _run(self, now: datetime, batch: tuple[str, ...], until: datetime) -> None:
        if not batch or now >= until:
            self._free += 1
            self._start(now)
            return
        key, *others = batch
        record = self.records[key]
        if reason_against(record, now=now, due_by=standby_due_by(self.credentials[key].schedule, now)):
            now += SKIP
        elif key in self.broken:
            self.records[key] = replace(record, holder="broken", expires_at=now + BROKEN)
            now += BROKEN
        else:
            self.runs += 1
            self.records[key] = replace(record, holder=f"run-{self.runs}", expires_at=now + LEASE)
            self.gaps.append(now + ROTATION - self.last[key])
            self._rotated(key, now)
            now += ROTATION
        self._at(now, "run", tuple(others), until)

    def _rotated(self, key: str, began: datetime) -> None:
        plan, done = self.credentials[key].schedule, began + ROTATION
        self.last[key] = done
        self.records[key] = replace(
            self.records[key],
            holder=None,
            next_due_at=began + plan.interval - plan.tolerance,
            not_before=done + plan.overlap,
        )


@pytest.mark.parametrize("number", [10, 1000])
def test_the_standby_keeps_the_interval_of_a_fleet(number: int) -> None:
    # (protocol R5, R8)
    hours = 2
    outage = Outage(number).last_for(hours)
    assert max(outage.gaps) <= timedelta(minutes=45)
    assert outage.most_left == 0
    # Nothing is rotated more often than its interval says.
    assert outage.runs <= number * hours * 3
    assert outage.runs >= number * (hours * 3 - 2)


BROKEN = timedelta(seconds=80)
"""Of a run that fails: its database takes connections and does not answer, and its steps are tried again."""


def test_with_too_few_containers_nobody_is_left_behind() -> None:
    """A quarter of what is needed: each credential gets older, and none much older than it must."""
    containers, hours = 1, 4
    outage = Outage(500, containers=containers).last_for(hours)
    ages = [EPOCH + timedelta(hours=hours) - at for at in outage.last.values()]
    fastest = outage.number * ROTATION / containers
    assert fastest > 4 * INTERVAL
    assert fastest < max(*outage.gaps, *ages) < 1.5 * fastest


def test_what_takes_the_time_of_its_calls_keeps_nobody_from_its_turn() -> None:
    """Their database is out as well: they are due longest from the first call on, and stay so (protocol R5)."""
    hours, ids = 6, ids_of(100)
    outage = Outage(100, broken=frozenset(ids[:13])).last_for(hours)
    end = EPOCH + timedelta(hours=hours)
    gaps = [*outage.gaps, *(end - at for key, at in outage.last.items() if key not in outage.broken)]
    assert max(gaps) < timedelta(hours=3)
