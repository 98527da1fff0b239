"""What the page shows as tables. Cells are plain text; the template escapes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from lockstep.audit.report.data import Check, CredentialReport, Emergency, Report
from lockstep.audit.report.words import many, minute, number, span
from lockstep.audit.verify import Verdict

MOST_PROBLEMS = 100
WITNESSED_WITHIN = timedelta(minutes=75)
"""A chain's end that has had no witness for longer is marked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table.

    Attributes:
        columns: Their names.
        numeric: The numbers of the columns that hold numbers.
        note: What is left out.
        verdict: The number of the column that holds verdicts.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    note: str = ""
    verdict: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure at the head of a credential."""

    name: str
    value: str
    note: str
    bad: bool = False


def figures(report: CredentialReport) -> tuple[Figure, ...]:
    """The figures of a credential."""
    f, schedule = report.figures, report.credential.schedule
    late, over = f.longest_between, f.between_limit
    tail = [check.unwitnessed for check in report.checks if check.unwitnessed is not None]
    dates = [check.unwitnessed_since for check in report.checks if check.unwitnessed_since]
    return (
        Figure(
            name="Rotations",
            value=number(f.rotations),
            note=", ".join(f"{stream.upper()} {number(count)}" for stream, count in f.rotated.items())
            + (f"; {many(f.archived, 'archived run')} not read" if f.archived else ""),
            bad=f.archived > 0,
        ),
        Figure(
            name="Longest time between two",
            value=span(late),
            note=f"limit {span(over)}; {many(len(report.gaps), 'gap')}; typically {span(f.typical_between)}",
            bad=late is not None and late > over,
        ),
        Figure(
            name="Oldest password in use",
            value=span(f.longest_age),
            note=f"the plan changes it every {span(schedule.interval)}"
            + (f"; the one taken over on {f.taken_over:%Y-%m-%d} is older" if f.taken_over else ""),
            bad=f.longest_age is not None and f.longest_age > over,
        ),
        Figure(
            name="Old passwords proven dead",
            value=number(f.proven_dead),
            note=f"by {many(f.refused_logins, 'refused login')}"
            + (f"; {many(len(f.unproven), 'generation')} without proof" if f.unproven else ""),
            bad=bool(f.unproven),
        ),
        Figure(
            name="Failed runs",
            value=number(f.failed),
            note=f"{number(f.adopted)} taken over by another run, {many(f.healed, 'heal')}",
        ),
        Figure(
            name="Shortest overlap",
            value=span(f.shortest_overlap),
            note=f"the plan keeps it for {span(schedule.overlap)}"
            + (f"; {f.short_overlaps} were shorter" if f.short_overlaps else ""),
            bad=f.short_overlaps > 0,
        ),
        Figure(
            name="Revocations",
            value=number(len(report.emergencies)),
            note=_emergency_note(report.emergencies),
            bad=any(e.over is None for e in report.emergencies),
        ),
        Figure(
            name="Not yet witnessed",
            value=many(sum(tail), "entry", "entries") if tail else "unknown",
            note=f"since {minute(min(dates))}" if dates else "by the other cloud's chain",
            bad=not tail or (bool(dates) and report.end - min(dates) > WITNESSED_WITHIN),
        ),
    )


def _emergency_note(emergencies: Sequence[Emergency]) -> str:
    if not emergencies:
        return "none in the period"
    took = [e.over.at - e.ordered.at for e in emergencies if e.over and e.ordered]
    return f"slowest {span(max(took))} from order to proof" if took else "not finished on record"


def overview(report: Report) -> Table:
    """One line for each credential."""
    return Table(
        columns=(
            "Credential",
            "Verdict",
            "Rotations",
            "AWS",
            "OCI",
            "Failed",
            "Longest between",
            "Gaps",
            "Revocations",
        ),
        rows=tuple(
            (
                c.credential.id,
                c.verdict,
                number(c.figures.rotations),
                number(c.figures.rotated.get("aws", 0)),
                number(c.figures.rotated.get("oci", 0)),
                number(c.figures.failed),
                span(c.figures.longest_between),
                number(len(c.gaps)),
                number(len(c.emergencies)),
            )
            for c in report.credentials
        ),
        numeric=(2, 3, 4, 5, 6, 7, 8),
        verdict=1,
    )


def checks(report: CredentialReport) -> Table:
    """The verdict of each chain."""
    return Table(
        columns=("Chain", "Verdict", "Entries", "Witnessed", "Newest entries without a witness"),
        rows=tuple(
            (
                check.stream.upper(),
                check.verdict,
                number(check.entries),
                number(check.witnessed),
                _tail(check),
            )
            for check in report.checks
        ),
        numeric=(2, 3),
        verdict=1,
    )


def _tail(check: Check) -> str:
    if check.unwitnessed is None:
        return "unknown: the other chain was not read"
    if not check.unwitnessed:
        return "none"
    since = f", since {minute(check.unwitnessed_since)}" if check.unwitnessed_since else ""
    return f"{check.unwitnessed}{since}"


def problems(check: Check) -> tuple[tuple[str, str], ...]:
    """What verification found, each with its kind, worst first."""
    listed = [("problem", text) for text in check.problems[:MOST_PROBLEMS]]
    if len(check.problems) > MOST_PROBLEMS:
        listed.append(("problem", f"and {len(check.problems) - MOST_PROBLEMS} more, in JSON"))
    if check.error:
        listed.append(("unreachable", check.error))
    listed += [("acknowledged", text) for text in check.acknowledged[:MOST_PROBLEMS]]
    return (*listed, *(("note", text) for text in check.notes[:MOST_PROBLEMS]))


def _newest(checks: Sequence[Check]) -> str:
    count = sum(check.unwitnessed or 0 for check in checks)
    since = min((check.unwitnessed_since for check in checks if check.unwitnessed_since), default=None)
    if not count:
        return "All of them are witnessed."
    return f"{many(count, 'entry', 'entries')} at the end, since {minute(since)}: no witness yet."


def verdict_sentence(report: Report) -> str:
    """What the verdict means."""
    all_of_them = [check for c in report.credentials for check in c.checks]
    entries = many(sum(check.entries for check in all_of_them), "signed entry", "signed entries")
    bad = sum(check.verdict is Verdict.NOT_VERIFIED for check in all_of_them)
    lost = sum(check.verdict is Verdict.UNREADABLE for check in all_of_them)
    match report.verdict:
        case Verdict.VERIFIED:
            return (
                f"{entries} in {many(len(all_of_them), 'chain')}: none is missing, changed or swapped, "
                f"and each cloud's chain agrees with what the other has seen of it. {_newest(all_of_them)}"
            )
        case Verdict.NOT_WITNESSED:
            return (
                f"{entries}: none is missing, changed or swapped. No other cloud's chain was read, "
                "so an end that was cut off would not be seen."
            )
        case Verdict.EMPTY:
            return "There is no entry yet, so there is nothing to show."
        case Verdict.UNREADABLE:
            return (
                f"{many(lost, 'chain')} of {len(all_of_them)} could not be read, so nothing is said about it."
            )
        case _:
            return (
                f"{bad} of {many(len(all_of_them), 'chain')}: there are problems, listed with each credential. "
                "Entries with a wrong signature or hash are not counted."
            )
