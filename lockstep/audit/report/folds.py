"""The tables of a credential that can be folded. Cells are plain text; the template escapes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lockstep.audit.report.build import who_is_behind
from lockstep.audit.report.data import CredentialReport, Emergency
from lockstep.audit.report.views import Table
from lockstep.audit.report.words import NONE, many, minute, number, span, stamp

MOST_ROWS = 200
"""Rows of a table that lists entries one by one; JSON and CSV have all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A part of the page that can be folded.

    Attributes:
        count: Beside the name.
        is_open: Whether it is unfolded at first.
        empty: The sentence instead of a table without rows.
    """

    name: str
    count: str
    about: str
    table: Table
    is_open: bool = False
    empty: str = ""


def folds(report: CredentialReport) -> Iterator[Fold]:
    """The tables of a credential."""
    yield _gaps(report)
    yield _emergencies(report)
    yield _failure_names(report)
    yield _failures(report)
    yield _behind(report)
    yield _proofs(report)
    yield _orders(report)
    yield _bins(report)
    yield _others(report)


def _gaps(report: CredentialReport) -> Fold:
    rows = [
        (minute(g.start), "not over" if g.is_open else minute(g.end), span(g.end - g.start), "; ".join(g.why))
        for g in reversed(report.gaps)
    ]
    return Fold(
        name="Gaps",
        count=number(len(rows)),
        about=f"Times of more than {span(report.figures.between_limit)} without a rotation: two intervals and a "
        "minute, which is the longest that a fault of one cloud explains.",
        table=_table(("From", "Until", "Length", "What the log says"), rows, numeric=(2,)),
        is_open=bool(rows),
        empty="None: each rotation came in time.",
    )


def _emergencies(report: CredentialReport) -> Fold:
    rows = [_emergency(e) for e in reversed(report.emergencies)]
    columns = (
        "Ordered",
        "By",
        "Everything up to generation",
        "Over",
        "After",
        "By the run",
        "Ended generations",
    )
    return Fold(
        name="Revocations",
        count=number(len(rows)),
        about="Emergencies: a new password at once, and a refused login of everything before it on every database.",
        table=_table(columns, rows, numeric=(2, 4)),
        is_open=bool(rows),
        empty="None in the period.",
    )


def _emergency(e: Emergency) -> tuple[str, ...]:
    took = e.over.at - e.ordered.at if e.over and e.ordered else None
    return (
        stamp(e.ordered.at) if e.ordered else "the order is not on record",
        e.ordered.who if e.ordered else NONE,
        str(e.ordered.through) if e.ordered and e.ordered.through is not None else NONE,
        stamp(e.over.at) if e.over else "not on record",
        span(took),
        f"{e.over.stream.upper()} {e.over.rotation_id}" if e.over else NONE,
        _generations(e.ended),
    )


def _generations(numbers: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(map(str, numbers[:most])) or NONE
    return f"{shown} and {len(numbers) - most} more" if len(numbers) > most else shown


def _failure_names(report: CredentialReport) -> Fold:
    rows = [
        (
            f.name,
            f.meaning or NONE,
            number(f.count),
            ", ".join(f"{stream.upper()} {number(count)}" for stream, count in f.by_stream.items()),
            minute(f.first),
            minute(f.last),
        )
        for f in report.failures
    ]
    return Fold(
        name="Failures by name",
        count=number(len(rows)),
        about="A failed run changes nothing that applications use, and the next one goes on from there.",
        table=_table(("Name", "What it means", "Runs", "In", "First", "Last"), rows, numeric=(2,)),
        is_open=bool(rows),
        empty="No run failed.",
    )


def _failures(report: CredentialReport) -> Fold:
    rows = [
        (
            stamp(run.at),
            f"{run.stream.upper()} {run.seq}",
            run.error or "",
            str(run.generation) if run.generation is not None else "no claim",
            who_is_behind(run),
            run.rotation_id,
        )
        for run in reversed(report.failed)
    ]
    columns = ("At", "Entry", "Name", "Generation", "Behind it", "Run")
    return Fold(
        name="Each failed run",
        count=number(len(rows)),
        about="Newest first.",
        table=_table(columns, rows, numeric=(3,)),
        empty="No run failed.",
    )


def _behind(report: CredentialReport) -> Fold:
    rows = [(b.who, number(b.rotated), number(b.failed), number(b.forced)) for b in report.behind]
    return Fold(
        name="Who was behind the runs",
        count=number(sum(b.rotated + b.failed for b in report.behind)),
        about="A run that is forced comes before it is due, by the wish of a person.",
        table=_table(("Who", "Rotated", "Failed", "Forced"), rows, numeric=(1, 2, 3)),
        is_open=True,
        empty="No run is on record in the period.",
    )


def _proofs(report: CredentialReport) -> Fold:
    rows = [
        (
            p.database,
            number(p.accepted),
            number(p.refused),
            minute(p.last_refused),
            number(p.unreadable),
            number(p.enrolled),
            "without TLS, by consent" if p.plaintext else "TLS",
        )
        for p in report.proofs
    ]
    columns = (
        "Database",
        "Accepted the new one",
        "Old ones refused",
        "Last refusal",
        "Unreadable",
        "Taken over",
        "Transport",
    )
    unproven = report.figures.unproven
    note = f"Without a proof on record: generation {_generations(unproven)}." if unproven else ""
    return Fold(
        name="Proofs by database",
        count=many(report.figures.refused_logins, "refused login"),
        about="Before a password is served, each database accepts it in a real login, and refuses what came before the "
        "current one. “Unreadable” means that no store holds the old value any more, so that no login could be tried. "
        + note,
        table=_table(columns, rows, numeric=(1, 2, 4, 5)),
        is_open=True,
        empty="No run reached a database.",
    )


def _orders(report: CredentialReport) -> Fold:
    rows = [
        (stamp(o.at), o.name, o.who, o.details or NONE, f"{o.stream.upper()} {o.seq}")
        for o in reversed(report.orders)
    ]
    return Fold(
        name="Orders of operators",
        count=number(len(rows)),
        about="Each is on record before it takes effect. Newest first.",
        table=_table(("At", "Order", "By", "Fields", "Entry"), rows),
        empty="None in the period.",
    )


def _bins(report: CredentialReport) -> Fold:
    streams = tuple(check.stream for check in report.checks)
    rows = [
        (
            minute(b.start),
            *(number(b.rotated.get(stream, 0)) for stream in streams),
            number(b.failed),
            span(b.longest_age),
        )
        for b in reversed(report.bins)
    ]
    columns = ("From", *(stream.upper() for stream in streams), "Failed", "Oldest password")
    width = span(report.bins[0].end - report.bins[0].start)
    return Fold(
        name="The charts in numbers",
        count=f"per {width}",
        about="Newest first.",
        table=_table(columns, rows, numeric=tuple(range(1, len(columns)))),
    )


def _others(report: CredentialReport) -> Fold:
    rows = [
        (
            o.what,
            o.stream.upper(),
            number(o.count),
            minute(o.first),
            minute(o.last),
            o.why or NONE,
            o.example or NONE,
        )
        for o in report.other_kinds
    ]
    columns = ("Kind", "Chain", "Entries", "First", "Last", "Not counted because", "Newest one's fields")
    return Fold(
        name="Other entries",
        count=number(len(report.others)),
        about="Entries that are neither a run nor an order, and entries that do not count.",
        table=_table(columns, rows, numeric=(2,)),
        is_open=any(o.why for o in report.other_kinds),
        empty="None in the period.",
    )


def _table(
    columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, numeric: tuple[int, ...] = ()
) -> Table:
    left = len(rows) - MOST_ROWS
    return Table(
        columns=columns,
        rows=tuple(rows[:MOST_ROWS]),
        numeric=numeric,
        note=f"{many(left, 'older row')} left out here; JSON and CSV have all." if left > 0 else "",
    )
