"""What is known of credentials, as a page shows it: figures, reasons, rows, ages, bars. Pure."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from operator import attrgetter, itemgetter
from typing import NamedTuple

from lockstep.operate.formatting import NONE, absolute, many, number, relative, span
from lockstep.operate.page.snapshot import FleetSnapshot
from lockstep.operate.state import CredentialState
from lockstep.operate.verdict import GRAVITY, Kind, Reason, Verdict, ranked
from lockstep.protocol.lock_rule import due_at

LOOKS = {Verdict.DOWN: "bad", Verdict.DEGRADED: "warn", Verdict.HEALTHY: "good"}
ROWS = 50
"""Of the table."""
UNREAD = "not read yet"
STEPS = 8
"""Parts of an interval that the map tells apart."""


class Bar(NamedTuple):
    """The life of the current value until the next one is due, in percent of the bar.

    `overlap` is until where the value before it is valid, as far as the last run has proven that.
    """

    now: float
    overlap: float
    due: float
    title: str
    late: bool


def mark(seen: CredentialState) -> tuple[str, str]:
    """The look and the word of the verdict. Nothing is called healthy before its stores were read."""
    verdict = seen.verdict
    if verdict is Verdict.HEALTHY and seen.read_at is None:
        return "calm", UNREAD
    return LOOKS[verdict], verdict.value


def headline(look: FleetSnapshot) -> tuple[str, str]:
    """The look and the words of one sentence on all credentials."""
    counts, whole = _counts(look), many(len(look.seen), "credential")
    for verdict in (Verdict.DOWN, Verdict.DEGRADED):
        if count := counts[verdict]:
            return LOOKS[verdict], f"{number(count)} of {whole} {'is' if count == 1 else 'are'} {verdict}"
    if counts[UNREAD]:
        return "calm", f"{number(counts[Verdict.HEALTHY])} of {whole} healthy, the others were not read yet"
    if look.evidence:
        return "warn", "The credentials are healthy, the audit log is not confirmed"
    return "good", "The credential is healthy" if len(look.seen) == 1 else f"All {whole} are healthy"


def _counts(look: FleetSnapshot) -> Counter[str]:
    return Counter(mark(one)[1] for one in look.seen.values())


def figures(look: FleetSnapshot, now: datetime) -> Iterator[tuple[str, str, str, bool]]:
    """The figures of all credentials: name, value, a note, and whether it is bad."""
    counts, everything = _counts(look), list(look.seen.values())
    unread = f", {number(counts[UNREAD])} {UNREAD}" if counts[UNREAD] else ""
    of = f"{number(counts[Verdict.HEALTHY])} of {number(len(everything))}"
    others = f"{number(counts[Verdict.DEGRADED])} degraded, {number(counts[Verdict.DOWN])} down{unread}"
    yield "Healthy", of, others, counts[Verdict.DOWN] > 0
    oldest = min((one for one in everything if one.promoted_at), key=attrgetter("promoted_at"), default=None)
    age, told = None, "none was rotated yet"
    if oldest:
        age = age_of(oldest, now)
        told = f"{oldest.credential.id}; its interval is {span(oldest.credential.schedule.interval)}"
    yield "Oldest value", span(age), told, oldest is not None and is_overdue(oldest)
    due = [
        (due_at(one.record) or now, one)
        for one in everything
        if one.record.next_due_at and not one.record.paused
    ]
    at, told = NONE, "nothing is scheduled"
    if due:
        when, first = min(due, key=itemgetter(0))
        at = "due" if when <= now else relative(when, now)
        told = f"{first.credential.id} by {first.next_cloud.upper()}, {absolute(when, now)}"
    yield "Next rotation", at, told, False
    claims = sum(one.record.claim is not None for one in everything)
    yield "In flight", number(claims), f"{many(len(look.running), 'run')} under way", False


def shared(look: FleetSnapshot) -> list[tuple[Reason, list[str]]]:
    """Everything that is the matter, the gravest first, each with the credentials that have it alike."""
    found: dict[tuple[Kind, str], tuple[Reason, list[str]]] = {
        (r.kind, r.text): (r, []) for r in look.evidence
    }
    for one in look.seen.values():
        for reason in one.reasons:
            found.setdefault((reason.kind, reason.text), (reason, []))[1].append(one.credential.id)
    return [found[reason.kind, reason.text] for reason in ranked(reason for reason, _ in found.values())]


def rows(look: FleetSnapshot, asked: str) -> list[CredentialState]:
    """The credentials that have a text in their id, a database, the verdict or a reason; the gravest first."""
    found = (one for one in look.seen.values() if _has(one, asked.lower()))
    return sorted(found, key=lambda one: GRAVITY[one.reasons[0].kind] if one.reasons else len(GRAVITY))


def _has(one: CredentialState, text: str) -> bool:
    told = (one.credential.id, *one.credential.databases, mark(one)[1], *(r.kind for r in one.reasons))
    return any(text in each.lower() for each in told)


def age_of(seen: CredentialState, now: datetime) -> timedelta | None:
    """How long the current generation has been served; None where none was promoted."""
    return max(now - seen.promoted_at, timedelta()) if seen.promoted_at else None


def is_overdue(seen: CredentialState) -> bool:
    """Whether it was not rotated for two intervals."""
    return any(reason.kind is Kind.OVERDUE for reason in seen.reasons)


def bar_of(seen: CredentialState, now: datetime) -> Bar | None:
    """The bar of a credential; None where nothing was promoted."""
    record, since = seen.record, seen.promoted_at
    if since is None:
        return None
    due = record.next_due_at or since + seen.credential.schedule.interval
    is_proven = seen.proven_previous is not None and not record.is_revoking
    overlap = record.not_before if is_proven and record.not_before else since
    end = max(due, now, overlap, since + timedelta(seconds=1))
    now_at, overlap_at, due_at_ = (
        round(100 * min(max((moment - since) / (end - since), 0.0), 1.0), 1) for moment in (now, overlap, due)
    )
    before = f", the value before it is proven for {span(overlap - now)} more" if overlap > now else ""
    when = f"due in {span(due - now)}" if due > now else f"due since {span(now - due)}"
    title = f"current for {span(now - since)}{before}, {when}"
    return Bar(now_at, overlap_at, due_at_, title, is_overdue(seen))


def cell(seen: CredentialState, now: datetime) -> tuple[str, str]:
    """The look and the title of a cell of the map; a look is `a0` to `a8`, by the share of the interval, or a word."""
    of, age = seen.credential.id, age_of(seen, now)
    if age is None:
        return "none", f"{of}: never rotated"
    if seen.record.paused:
        return "off", f"{of}: {span(age)}, paused"
    if is_overdue(seen):
        return "late", f"{of}: {span(age)}, late"
    step = int(STEPS * (age / seen.credential.schedule.interval))
    return f"a{min(step, STEPS)}", f"{of}: {span(age)}"


def phases(seen: CredentialState) -> list[str]:
    """How far the run that has the lock is, by the lock record: what it has done, and what it does."""
    record = seen.record
    if record.claim is None:
        return ["took the lock", "reading"]
    claimed = ["took the lock", f"claimed generation {record.claim.generation}"]
    if not record.promoting:
        return [*claimed, "the databases accept it"]
    return [*claimed, "every database has accepted it", "the stores take it over"]
