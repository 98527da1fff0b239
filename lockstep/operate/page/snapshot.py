"""One look at the clouds for all browsers together, in a bounded number of calls.

Lock records are read at each look: one by one where the plan has few credentials, else the whole table in pages. What
stores serve, and the audit logs, are read where the record has changed, where somebody looks at that credential, and in
turns, the longest unread first; of `MOST_READ` credentials a look.
"""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from operator import itemgetter

from lockstep.operate.documents import FEW
from lockstep.operate.state import CredentialState, evidence_reasons, looked_at, state_of, table_of
from lockstep.operate.verdict import Reason
from lockstep.plan.model import Plan
from lockstep.protocol.errors import LockstepError, line_of
from lockstep.protocol.model import Credential, LockRecord
from lockstep.protocol.ports import Clock, Table
from lockstep.runtime.clouds import Clouds

MOST_READ = 20
"""Of so many credentials stores and logs are read in one look."""
READ_AGAIN = timedelta(seconds=30)
"""What stores serve is read again after this time, where nothing has changed."""
EVIDENCE_AGAIN = timedelta(minutes=5)
"""Whether the logs are confirmed is looked at again after this time: digests are made once an hour."""
RUNS = 8
"""Of the credential that somebody looks at."""


@dataclass(frozen=True, kw_only=True)
class FleetSnapshot:
    """What is known of all credentials.

    Attributes:
        at: When their lock records were read.
        seen: By the credential's id, in the plan's order. A state has no answers while its stores have not been read
            since the record changed.
        evidence: What is the matter with the audit logs as evidence.
        problem: Why the last look failed; what is here is from the one before.
    """

    at: datetime
    seen: Mapping[str, CredentialState]
    evidence: Sequence[Reason] = ()
    problem: str | None = None

    @property
    def running(self) -> list[CredentialState]:
        """The credentials of which a run has the lock."""
        return [one for one in self.seen.values() if one.runner]


class Looker:
    """Looks at the clouds. One thread at a time uses it.

    Args:
        plan: The plan.
        clouds: What the operator reaches.
    """

    def __init__(self, plan: Plan, clouds: Clouds) -> None:
        self._plan = plan
        self._clouds = clouds
        self._kept: dict[str, CredentialState] = {}
        self._asked: Collection[str] = ()
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
        plan, clouds = self._plan, self._clouds
        now = clouds.clock.now()
        table = table_of(clouds, plan.credentials) if self.is_of_few else clouds.lock_table()
        if not records_only:
            if self._evidence_at is None or now - self._evidence_at >= EVIDENCE_AGAIN:
                self._evidence, self._evidence_at = evidence_reasons(plan, clouds, now), now
            for credential in islice(self._in_turn(table, asked, now), MOST_READ):
                newest = RUNS if credential.id in asked else 1
                self._kept[credential.id] = looked_at(plan, clouds, credential, table, now, newest=newest)
            self._asked = asked
        seen = {c.id: self._seen(c, table, now) for c in plan.credentials}
        return FleetSnapshot(at=now, seen=seen, evidence=self._evidence)

    def _in_turn(self, table: Table, asked: Collection[str], now: datetime) -> Iterator[Credential]:
        """The credentials whose stores are to be read: those looked at and changed ones first, then the oldest."""
        due = []
        for credential in self._plan.credentials:
            kept, is_asked = self._kept.get(credential.id), credential.id in asked
            changed = kept is None or not _is_as(kept.record, table.record(credential.id))
            read_at = kept.read_at if kept and kept.read_at else now - READ_AGAIN
            if changed or now - read_at >= READ_AGAIN or (is_asked and credential.id not in self._asked):
                due.append(((not is_asked, not changed, read_at), credential))
        due.sort(key=itemgetter(0))
        return (credential for _, credential in due if credential.id not in table.unreadable)

    def _seen(self, credential: Credential, table: Table, now: datetime) -> CredentialState:
        kept = self._kept.get(credential.id)
        served = kept if kept and _is_as(kept.record, table.record(credential.id)) else None
        state = state_of(
            self._plan,
            table,
            credential,
            now,
            answers=served.answers if served else {},
            runs=kept.runs if kept else (),
            unread=kept.unread if kept else {},
        )
        return replace(state, read_at=served.read_at if served else None)


def _is_as(one: LockRecord, other: LockRecord) -> bool:
    """Whether stores may serve the same under both records, and the logs have the same entries."""
    told = [(r.current_generation, r.claim, r.promoting, r.plan, r.heads) for r in (one, other)]
    return told[0] == told[1]


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
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._looked_at = float("-inf")
        self.latest: FleetSnapshot = looker.look((), records_only=True)

    def ask(self, credential_id: str | None = None) -> None:
        """Somebody looks, at all credentials or at one. If the last look is old, a new one is taken and waited for."""
        moment = self._clock.monotonic()
        with self._lock:
            is_new = credential_id is not None and credential_id not in self._watched()
            if credential_id is not None:
                self._asked[credential_id] = moment
            is_looking = self._thread is not None and self._thread.is_alive()
            if not is_looking and (is_new or moment - self._looked_at > self.seconds):
                self._thread = threading.Thread(target=self._look, args=[self._watched()], daemon=True)
                self._thread.start()
            thread = self._thread
        if thread:
            thread.join(PATIENCE_SECONDS)

    @property
    def seconds(self) -> float:
        """Between two looks, as things are now."""
        if not self._looker.is_of_few:
            return MANY_SECONDS
        return RUNNING_SECONDS if self.latest.running else WATCHED_SECONDS

    def _look(self, watched: Collection[str]) -> None:
        try:
            self.latest = self._looker.look(watched)
        except LockstepError as error:
            self.latest = replace(self.latest, problem=line_of(error))
        except Exception as error:  # noqa: BLE001 - the page must tell it, and the next look may succeed
            self.latest = replace(self.latest, problem=f"UnexpectedError: {type(error).__name__}")
        self._looked_at = self._clock.monotonic()

    def _watched(self) -> list[str]:
        oldest = self._clock.monotonic() - WATCHED_FOR
        return [credential_id for credential_id, at in self._asked.items() if at >= oldest]
