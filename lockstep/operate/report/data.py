"""The report as plain values, which JSON has as they are: times are aware and in UTC, durations are seconds."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from lockstep.audit.confirmed import Verdict
from lockstep.protocol.model import Credential

Time = Annotated[datetime, Meta(tz=True)]


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
        refused: The generations whose login was refused, which proves them revoked.
        unreadable: The generations that no store holds any more, so no login could be tried.
    """

    database: str
    outcome: str
    refused: tuple[int, ...]
    unreadable: tuple[int, ...]
    taken_over: bool
    plaintext: bool


class Run(Struct, frozen=True, kw_only=True):
    """The entry of one run.

    Attributes:
        at: When it ended.
        error: The name of its error; None after a success.
        kind: `new` or `reconcile`; None where it failed before it had a claim.
        base: The generation that was current before; of a reconcile the one whose login is given again.
        ended: The generations that an emergency ended.
    """

    stream: str
    seq: int
    at: Time
    started: Time
    rotation_id: str
    error: str | None
    trigger: str
    forced: bool
    kind: Literal["new", "reconcile"] | None
    generation: int | None
    base: int | None
    adopted_from: str | None
    plan: str | None
    proofs: tuple[Proof, ...]
    ended: tuple[int, ...]

    @property
    def succeeded(self) -> bool:
        """Whether every store serves its generation."""
        return self.error is None

    @property
    def behind(self) -> str:
        """Who was behind it: the schedule of a cloud, or a person."""
        cloud = self.stream.upper()
        match self.trigger, self.stream:
            case "schedule", "oci":
                return "standby, on schedule (OCI)"
            case "schedule", _:
                return f"schedule ({cloud})"
            case "cli", _:
                return f"an operator, by lockstep rotate ({cloud})"
            case "manual", _:
                return f"a person who started it ({cloud})"
        return f"“{self.trigger}” ({cloud})"


class Order(Struct, frozen=True, kw_only=True):
    """The entry of an operator's order.

    Attributes:
        through: Of a revocation: the highest generation that must die.
        lifts_pause: Of a revocation: whether it also resumes.
    """

    stream: str
    seq: int
    at: Time
    name: str
    who: str
    details: str
    through: int | None
    lifts_pause: bool


class Other(Struct, frozen=True, kw_only=True):
    """An entry that is neither, or that does not count.

    Attributes:
        at: None where it names no time that can be believed.
        why: Why it does not count; empty where it is a kind of its own.
    """

    stream: str
    seq: int
    at: Time | None
    what: str
    details: str
    why: str = ""


Record = Run | Order | Other


class Generation(Struct, frozen=True, kw_only=True):
    """One generation that was promoted.

    Attributes:
        stream: The cloud that promoted it.
        base: The generation that its run named as current before; of a reconcile the one whose login is given again.
        born: When its password was first promoted; earlier than `promoted` for a reconcile, which gives a login again.
        older: Whether its password was there before: a login that was taken over, or one from before the record.
        begun: When the run that promoted it began.
        superseded: When the next generation was promoted; None for the current one.
        tried: When the run began that showed it to be revoked.
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
    base: int | None
    born: Time
    older: bool
    begun: Time
    promoted: Time
    superseded: Time | None = None
    tried: Time | None = None
    revoked: Time | None = None
    revocation: Literal["refused", "unreadable", "revoked"] | None = None
    hurried: bool = False
    overlap_seconds: float | None = None
    longest_overlap_seconds: float | None = None


class Period(Struct, frozen=True, kw_only=True):
    """A part of the whole period.

    Attributes:
        rotated: Successes by stream.
        longest_age_seconds: The greatest age that the current password had in it; None where none is on record.
    """

    start: Time
    end: Time
    rotated: dict[str, int]
    failed: int
    longest_age_seconds: float | None


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


class DatabaseProofs(Struct, frozen=True, kw_only=True):
    """What all runs showed on one database.

    Attributes:
        accepted: How often it accepted the new generation in a real login.
        refused: Generations that it was seen to refuse.
        unreadable: Generations that no store held any more.
    """

    database: str
    accepted: int
    refused: int
    unreadable: int
    last_refused: Time | None
    taken_over: int
    plaintext: bool


class Figures(Struct, frozen=True, kw_only=True):
    """The figures of a credential in the period. Durations are None where nothing was measured.

    Attributes:
        between_limit_seconds: The longest time between two rotations that a fault of one cloud explains.
        shortest_overlap_seconds: The overlap as the entries bound it from below: from the end of the run that promoted
            the next generation to the beginning of the one that showed this one to be revoked.
        short_overlaps: Overlaps that were shorter than the plan's, however the times are read, without emergencies.
        archived: Entries of runs that were not read, so nothing here counts them.
        taken_over: When a login that was there before was taken over last; it is older than the record says.
        unproven: Generations of which two newer ones were promoted and no proof of revocation is on record.
    """

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

    @property
    def rotations(self) -> int:
        """Successes in all streams."""
        return sum(self.rotated.values())


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
        start: The beginning of what is shown: of the period, or of the record where that is later.
        runs: Those of the period, in the order of time.
    """

    credential: Planned
    checks: tuple[Check, ...]
    verdict: Verdict
    start: Time
    end: Time
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


class StreamEvidence(Struct, frozen=True, kw_only=True):
    """A stream as verification left it.

    Attributes:
        events: The OCSF event of each entry that was read, with its number.
        archived: Number, time and kind (`run` or another) of the entries of which only the seal was read, since their
            bodies are archived; the time is None where the seal names none that can be told.
        doubtful: Why an entry does not count, by its number.
    """

    check: Check
    events: Sequence[tuple[int, Mapping[str, object]]] = ()
    archived: Sequence[tuple[int, datetime | None, str]] = ()
    doubtful: Mapping[int, str] = field(default_factory=dict)


class CredentialEvidence(Struct, frozen=True, kw_only=True):
    """All streams of a credential, and the plan that it is measured by."""

    credential: Credential
    streams: tuple[StreamEvidence, ...]
