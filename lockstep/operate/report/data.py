"""The report as plain values, which JSON has as they are: times are aware and in UTC, durations are seconds."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from lockstep.audit.confirmed import Verdict
from lockstep.protocol.messages import DatabaseOutcome, RevocationResult

Time = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0)]
"""A number of something, or a generation."""
TRIGGERS = {
    "schedule": "schedule",
    "cli": "an operator, by lockstep rotate",
    "manual": "a person who started it",
}
"""Who was behind a run, by what it calls its trigger."""


class Check(Struct, frozen=True, kw_only=True):
    """What verification found of one stream, or of the digests of one.

    Attributes:
        entries: How many were looked at, or how many digests.
        confirmed_until: When the newest digest was made that the other cloud has confirmed.
        problems: One sentence each.
        error: Why the stream was unreachable.
    """

    stream: str
    verdict: Verdict
    entries: int = 0
    confirmed_until: Time | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str | None = None


class Proof(Struct, frozen=True, kw_only=True):
    """What a run showed on one database.

    Attributes:
        outcome: Either says that it accepted the new login.
        revoked: How generations were shown to be revoked: it refused the login, or no store holds the value any more,
            so that no login could be tried.
    """

    outcome: DatabaseOutcome
    revoked: dict[Count, RevocationResult] = {}
    taken_over: bool = False
    plaintext: bool = False

    def revoked_as(self, result: RevocationResult) -> list[int]:
        """The generations that were shown to be revoked in one way."""
        return [generation for generation, how in self.revoked.items() if how is result]


class Run(Struct, frozen=True, kw_only=True):
    """The entry of one run.

    Attributes:
        at: When it ended.
        error: The name of its error; None after a success.
        kind: `new` or `reconcile`; None where it failed before it had a claim.
        base_generation: The one that was current before; of a reconcile the one whose login is given again.
        revoked_on_purpose: The generations that an emergency ended.
        databases: What it showed on each.
    """

    stream: str
    seq: int
    at: Time
    started: Time
    rotation_id: str
    error: str | None
    trigger: str
    forced: bool = False
    kind: Literal["new", "reconcile"] | None = None
    generation: Count | None = None
    base_generation: Count | None = None
    adopted_from: str | None = None
    plan: str | None = None
    revoked_on_purpose: tuple[Count, ...] = ()
    databases: dict[str, Proof] = {}

    def __post_init__(self) -> None:
        """A success names what it promoted."""
        if self.succeeded and (self.generation is None or self.kind is None):
            raise ValueError

    @property
    def succeeded(self) -> bool:
        """Whether every store serves its generation."""
        return self.error is None

    @property
    def outcome(self) -> str:
        """The same in a word."""
        return "rotated" if self.succeeded else "failed"

    @property
    def refused(self) -> int:
        """Logins of old generations that databases refused."""
        return sum(len(proof.revoked_as(RevocationResult.REFUSED)) for proof in self.databases.values())

    @property
    def unreadable(self) -> int:
        """Old generations that were not tried, by database."""
        return sum(len(proof.revoked_as(RevocationResult.UNREADABLE)) for proof in self.databases.values())

    @property
    def behind(self) -> str:
        """Who was behind it: the schedule of a cloud, or a person."""
        return f"{TRIGGERS.get(self.trigger, self.trigger)} ({self.stream.upper()})"


class Order(Struct, frozen=True, kw_only=True):
    """The entry of an operator's order, whose name is its outcome.

    Attributes:
        details: Its fields, in a line.
        lifts_pause: Of a revocation: whether it also resumes.
    """

    stream: str
    seq: int
    at: Time
    outcome: str
    who: str
    details: str
    lifts_pause: bool


class Other(Struct, frozen=True, kw_only=True):
    """An entry that counts for nothing.

    Attributes:
        at: None where it names no time that there is.
        outcome: What it calls itself.
        why: Why it does not count.
    """

    stream: str
    seq: int
    at: Time | None
    outcome: str
    details: str
    why: str


Record = Run | Order | Other


class Generation(Struct, kw_only=True):
    """One generation that was promoted.

    Attributes:
        stream: The cloud that promoted it.
        born: When its password was first promoted; earlier than `promoted` for a reconcile, which gives a login again.
        older: Whether its password was there before: a login that was taken over, or one from before the record.
        between_seconds: Since the promotion of the generation before it; None for the first on record.
        superseded: When the next generation was promoted; None for the current one.
        age_seconds: Of its password, when it was superseded, or now.
        revoked: When it was on record as revoked on every database.
        revocation: `refused`, `unreadable`, or `revoked` by an emergency.
        hurried: Whether the run that showed it to be revoked fulfilled an emergency, which waits for no overlap.
        overlap_seconds: For how long it logged in beside the next one, at least; None while it does, of an emergency,
            and where the next generation on record was not the next one.
        longest_overlap_seconds: For how long at most.
    """

    generation: int
    stream: str
    kind: Literal["new", "reconcile"] | None
    born: Time
    older: bool
    promoted: Time
    between_seconds: float | None
    superseded: Time | None = None
    age_seconds: float = 0.0
    revoked: Time | None = None
    revocation: Literal["refused", "unreadable", "revoked"] | None = None
    hurried: bool = False
    overlap_seconds: float | None = None
    longest_overlap_seconds: float | None = None


class Period(Struct, kw_only=True):
    """A day or an hour in which something is on record.

    Attributes:
        rotated: Successes by stream.
        longest_age_seconds: The greatest age at which a password was replaced in it, or that it has now; None where
            none was.
    """

    start: Time
    end: Time
    rotated: dict[str, int]
    failed: int = 0
    longest_age_seconds: float | None = None


class Gap(Struct, frozen=True, kw_only=True):
    """A time without a rotation that is longer than any fault of one cloud explains (protocol R8).

    Attributes:
        is_open: Whether it had not ended when the report was made.
        why: What the log says about it.
    """

    start: Time
    end: Time
    is_open: bool
    why: tuple[str, ...]


class DatabaseProofs(Struct, kw_only=True):
    """What all runs showed on one database.

    Attributes:
        accepted: How often it accepted the new generation in a real login.
        refused: Generations that it was seen to refuse.
        unreadable: Generations that no store held any more.
    """

    database: str
    accepted: int = 0
    refused: int = 0
    unreadable: int = 0
    last_refused: Time | None = None
    taken_over: int = 0
    plaintext: bool = False


class Figures(Struct, frozen=True, kw_only=True):
    """The figures of a credential in the period. Durations are None where nothing was measured.

    Attributes:
        rotated: Successes by stream.
        between_limit_seconds: The longest time between two rotations that a fault of one cloud explains.
        shortest_overlap_seconds: The overlap as the entries bound it from below: from the end of the run that promoted
            the next generation to the beginning of the one that showed this one to be revoked.
        short_overlaps: Overlaps that were shorter than the plan's, however the times are read, without emergencies.
        archived: Entries of runs that were not read, so nothing here counts them.
        taken_over: When a login that was there before was taken over last; it is older than the record says.
        unproven: Generations of which two newer ones were promoted and no proof of revocation is on record.
    """

    rotations: int
    rotated: dict[str, int]
    failed: int
    reconciled: int
    adopted: int
    typical_between_seconds: float | None
    longest_between_seconds: float | None
    between_limit_seconds: float
    longest_age_seconds: float | None
    shortest_overlap_seconds: float | None
    short_overlaps: int
    proven_revoked: int
    refused_logins: int
    archived: int
    taken_over: Time | None
    unproven: tuple[int, ...]


class Planned(Struct, frozen=True, kw_only=True):
    """What today's plan says of a credential."""

    id: str
    strategy: str
    usernames: tuple[str, ...]
    databases: tuple[str, ...]
    interval_seconds: float
    overlap_seconds: float
    plan: str


class CredentialReport(Struct, frozen=True, kw_only=True):
    """The report on one credential.

    Attributes:
        runs: Those of the period, in the order of time.
    """

    credential: Planned
    checks: tuple[Check, ...]
    verdict: Verdict
    runs: tuple[Run, ...]
    orders: tuple[Order, ...]
    others: tuple[Other, ...]
    figures: Figures
    generations: tuple[Generation, ...]
    periods: tuple[Period, ...]
    gaps: tuple[Gap, ...]
    proofs: tuple[DatabaseProofs, ...]


class Report(Struct, frozen=True, kw_only=True):
    """The whole report. Times are RFC 3339 in UTC, durations are seconds.

    Attributes:
        format: It grows with a change that an old reader does not understand.
        verdict: The worst of all credentials, and of the digests.
        lock: Name and region of the lock table, which tells two deployments apart.
    """

    format: Literal[1] = 1
    verdict: Verdict
    made_at: Time
    since: Time
    lock: str
    version: str
    digests: tuple[Check, ...]
    credentials: tuple[CredentialReport, ...]
