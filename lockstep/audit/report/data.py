"""The report as plain values: what goes in (evidence) and what the page, JSON and CSV show. Times are aware, UTC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lockstep.audit.report.reading import Order, Other, Run
from lockstep.audit.verify import Verdict
from lockstep.model import Credential

_ORDER = (
    Verdict.VERIFIED,
    Verdict.EMPTY,
    Verdict.NOT_WITNESSED,
    Verdict.UNREADABLE,
    Verdict.NOT_VERIFIED,
)
"""From best to worst."""


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a whole; an empty chain beside another one has no say, and nothing at all is not verified."""
    told = [verdict for verdict in verdicts if verdict is not Verdict.EMPTY] or verdicts
    return max(told, key=_ORDER.index, default=Verdict.NOT_VERIFIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What verification found of one stream.

    Attributes:
        entries: How many were looked at.
        witnessed: Entries that the other stream names, and that are as it says.
        unwitnessed: How many of the last entries no entry of the other stream names; None where it was not read.
        unwitnessed_since: When the first of them was written.
        problems: One sentence each.
        acknowledged: Problems that somebody has acknowledged by name.
        error: Why the stream was unreachable.
    """

    stream: str
    verdict: Verdict
    entries: int = 0
    witnessed: int = 0
    unwitnessed: int | None = None
    unwitnessed_since: datetime | None = None
    problems: tuple[str, ...] = ()
    acknowledged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """An entry of which only the seal was read, since its body is archived.

    Attributes:
        at: None where its seal names no time that can be told.
        what: `run`, or another kind.
    """

    seq: int
    at: datetime | None
    what: str = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvidence:
    """A stream as verification left it.

    Attributes:
        events: The OCSF event of each entry that was read, with its number.
        archived: The entries that were not.
        doubtful: Why an entry does not count, by its number.
    """

    check: Check
    events: Sequence[tuple[int, Mapping[str, object]]] = ()
    archived: Sequence[Archived] = ()
    doubtful: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialEvidence:
    """All streams of a credential, and the plan that it is measured by."""

    credential: Credential
    streams: tuple[StreamEvidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """The life of one generation.

    Attributes:
        stream: The cloud that promoted it.
        base: The generation that its run named as current before; of a heal the one whose login is given again.
        born: When its password was first promoted; earlier than `promoted` for a heal, which gives a login again.
        older: Whether its password was there before: a login that was taken over, or one from before the record.
        begun: When the run that promoted it began.
        superseded: When the next generation was promoted; None for the current one.
        tried: When the run began that showed it dead.
        dead: When it was on record as dead on every database.
        death: `refused`, `unreadable`, or `revoked` by an emergency.
        hurried: Whether the run that showed it dead fulfilled an emergency, which waits for no overlap.
    """

    generation: int
    stream: str
    kind: str
    base: int | None
    born: datetime
    older: bool
    begun: datetime
    promoted: datetime
    superseded: datetime | None = None
    tried: datetime | None = None
    dead: datetime | None = None
    death: str | None = None
    hurried: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A part of the period.

    Attributes:
        rotated: Successes by stream.
        longest_age: The greatest age that the current password had in it; None where no password is on record.
    """

    start: datetime
    end: datetime
    rotated: Mapping[str, int]
    failed: int
    longest_age: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A time without a rotation that is longer than any fault of one cloud explains (protocol R8).

    Attributes:
        is_open: Whether it had not ended when the report was made.
        why: What the log says about it.
    """

    start: datetime
    end: datetime
    is_open: bool
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergency:
    """A revocation.

    Attributes:
        ordered: The order's entry; None where the period holds only the run that fulfilled it.
        over: The run that ended what the order named; None: not on record.
        ended: The generations that it ended.
    """

    ordered: Order | None
    over: Run | None
    ended: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureName:
    """All failures of one name."""

    name: str
    meaning: str
    count: int
    by_stream: Mapping[str, int]
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """Who was behind runs."""

    who: str
    rotated: int
    failed: int
    forced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseProofs:
    """What the runs showed on one database.

    Attributes:
        accepted: Runs in which it accepted the new generation in a real login.
        refused: Generations that it was seen to refuse.
        unreadable: Generations that no store held any more.
    """

    database: str
    accepted: int
    refused: int
    unreadable: int
    last_refused: datetime | None
    enrolled: int
    plaintext: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherKind:
    """All other entries of one kind."""

    what: str
    stream: str
    why: str
    count: int
    first: datetime | None
    last: datetime | None
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of a credential in the period. Durations are None where nothing was measured.

    Attributes:
        between_limit: The longest time between two rotations that a fault of one cloud explains.
        shortest_overlap: The overlap as the entries bound it from below: from the end of the run that promoted the
            next generation to the beginning of the one that showed this one dead.
        short_overlaps: Overlaps that were shorter than the plan's, however the times are read, without emergencies.
        archived: Entries of runs that were not read, so nothing here counts them.
        taken_over: When a login that was there before was taken over last; it is older than the record says.
        unproven: Generations of which two newer ones were promoted and no proof of death is on record.
    """

    rotated: Mapping[str, int]
    failed: int
    healed: int
    adopted: int
    typical_between: timedelta | None
    longest_between: timedelta | None
    between_limit: timedelta
    longest_age: timedelta | None
    age_now: timedelta | None
    shortest_overlap: timedelta | None
    typical_overlap: timedelta | None
    short_overlaps: int
    proven_dead: int
    refused_logins: int
    unreadable: int
    archived: int
    taken_over: datetime | None
    unproven: tuple[int, ...]

    @property
    def rotations(self) -> int:
        """Successes in all streams."""
        return sum(self.rotated.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialReport:
    """The report on one credential.

    Attributes:
        start: The beginning of what is shown: of the period, or of the record where that is later.
        runs: Those of the period, in the order of time.
        plans: The plan digests under which its runs acted, with the first run of each.
        paused: Since when until when scheduled runs were off.
    """

    credential: Credential
    checks: tuple[Check, ...]
    verdict: Verdict
    start: datetime
    end: datetime
    runs: tuple[Run, ...]
    orders: tuple[Order, ...]
    others: tuple[Other, ...]
    figures: Figures
    lives: tuple[Life, ...]
    bins: tuple[Bin, ...]
    gaps: tuple[Gap, ...]
    emergencies: tuple[Emergency, ...]
    failures: tuple[FailureName, ...]
    behind: tuple[Behind, ...]
    proofs: tuple[DatabaseProofs, ...]
    other_kinds: tuple[OtherKind, ...]
    plans: tuple[tuple[str, datetime], ...]
    paused: tuple[tuple[datetime, datetime], ...]

    @property
    def failed(self) -> tuple[Run, ...]:
        """The runs that failed."""
        return tuple(run for run in self.runs if not run.succeeded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole report.

    Attributes:
        lock: Name and region of the lock table, which tells two deployments apart.
    """

    made_at: datetime
    since: datetime
    lock: str
    version: str
    credentials: tuple[CredentialReport, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all credentials."""
        return worst([c.verdict for c in self.credentials])
