"""The report as one HTML page of tables: no script, no request, and a policy that forbids both.

The policy names the style sheet by its hash. Cells are plain text; the template escapes them.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment

from lockstep.audit.verify import Verdict
from lockstep.operate.formatting import NONE, error_text, many, minute, number, span, stamp
from lockstep.operate.html.templates import environment, style
from lockstep.operate.report.data import Check, CredentialReport, Report

LOOKS = {
    Verdict.VERIFIED: "good",
    Verdict.EMPTY: "warn",
    Verdict.NOT_WITNESSED: "warn",
    Verdict.UNREADABLE: "warn",
    Verdict.NOT_VERIFIED: "bad",
}
MOST_PROBLEMS = 100
MOST_ROWS = 200
"""Rows of a table; JSON and CSV have all."""
MOST_NUMBERS = 12
"""Generations that one cell names."""
WITNESSED_WITHIN = 75 * 60
"""Seconds. A chain's end that has had no witness for longer is marked."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A table with its heading.

    Attributes:
        empty: The sentence instead of a table without rows.
    """

    name: str
    about: str
    table: Table
    empty: str = "None in the period."


@cache
def _environment() -> Environment:
    return environment("lockstep.operate.report")


def page(report: Report) -> str:
    """The page. The same report gives the same text."""
    templates = _environment()
    digest = hashlib.sha256(style(templates, "page.css").encode()).digest()
    return templates.get_template("page.html.j2").render(
        r=report,
        style_hash=base64.b64encode(digest).decode(),
        looks=LOOKS,
        sentence=verdict_sentence(report),
        overview=overview(report),
        figures=figures,
        problems=problems,
        sections=sections,
    )


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


def _newest(checks: Sequence[Check]) -> str:
    count = sum(check.unwitnessed or 0 for check in checks)
    since = min((check.unwitnessed_since for check in checks if check.unwitnessed_since), default=None)
    if not count:
        return "All of them are witnessed."
    return f"{many(count, 'entry', 'entries')} at the end, since {minute(since)}: no witness yet."


def overview(report: Report) -> Table:
    """One line for each credential."""
    clouds = ("aws", "oci")
    return Table(
        columns=(
            *("Credential", "Verdict", "Rotations", "AWS", "OCI", "Failed"),
            *("Longest between", "Gaps"),
        ),
        rows=tuple(
            (
                c.credential.id,
                c.verdict,
                number(c.figures.rotations),
                *(number(c.figures.rotated.get(cloud, 0)) for cloud in clouds),
                number(c.figures.failed),
                span(c.figures.longest_between_seconds),
                number(len(c.gaps)),
            )
            for c in report.credentials
        ),
        numeric=(2, 3, 4, 5, 6, 7),
        verdict=1,
    )


def figures(report: CredentialReport) -> tuple[Figure, ...]:
    """The figures of a credential."""
    f, planned = report.figures, report.credential
    late, over = f.longest_between_seconds, f.between_limit_seconds
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
            note=f"limit {span(over)}; {many(len(report.gaps), 'gap')}; "
            f"typically {span(f.typical_between_seconds)}",
            bad=late is not None and late > over,
        ),
        Figure(
            name="Oldest password in use",
            value=span(f.longest_age_seconds),
            note=f"the plan changes it every {span(planned.interval_seconds)}"
            + (f"; the one taken over on {f.taken_over:%Y-%m-%d} is older" if f.taken_over else ""),
            bad=f.longest_age_seconds is not None and f.longest_age_seconds > over,
        ),
        Figure(
            name="Old passwords proven revoked",
            value=number(f.proven_revoked),
            note=f"by {many(f.refused_logins, 'refused login')}"
            + (f"; {many(len(f.unproven), 'generation')} without proof" if f.unproven else ""),
            bad=bool(f.unproven),
        ),
        Figure(
            name="Failed runs",
            value=number(f.failed),
            note=f"{number(f.adopted)} taken over by another run, {many(f.reconciled, 'reconcile')}",
        ),
        Figure(
            name="Shortest overlap",
            value=span(f.shortest_overlap_seconds),
            note=f"the plan keeps it for {span(planned.overlap_seconds)}"
            + (f"; {f.short_overlaps} were shorter" if f.short_overlaps else ""),
            bad=f.short_overlaps > 0,
        ),
        Figure(
            name="Orders",
            value=number(len(report.orders)),
            note=many(sum(o.name == "revoke" for o in report.orders), "revocation"),
        ),
        Figure(
            name="Not yet witnessed",
            value=many(sum(tail), "entry", "entries") if tail else "unknown",
            note=f"since {minute(min(dates))}" if dates else "by the other cloud's chain",
            bad=not tail or (bool(dates) and (report.end - min(dates)).total_seconds() > WITNESSED_WITHIN),
        ),
    )


def problems(report: CredentialReport) -> Iterator[tuple[str, str, str]]:
    """What verification found: the chain, the kind and the text, worst first for each chain."""
    for check in report.checks:
        stream = check.stream.upper()
        for text in check.problems[:MOST_PROBLEMS]:
            yield stream, "problem", text
        if len(check.problems) > MOST_PROBLEMS:
            yield stream, "problem", f"and {len(check.problems) - MOST_PROBLEMS} more, in JSON"
        if check.error:
            yield stream, "unreachable", check.error
        for text in check.acknowledged[:MOST_PROBLEMS]:
            yield stream, "acknowledged", text
        for text in check.notes[:MOST_PROBLEMS]:
            yield stream, "note", text


def sections(report: CredentialReport) -> Iterator[Section]:
    """The tables of a credential."""
    yield _checks(report)
    yield _rotations(report)
    yield _overlaps(report)
    yield _gaps(report)
    yield _failures(report)
    yield _proofs(report)
    yield _orders(report)
    yield _uncounted(report)


def _checks(report: CredentialReport) -> Section:
    return Section(
        name="Verdict of each chain",
        about="The whole chain was verified, from its first entry on, not the period alone. An entry that the other "
        "cloud's chain names cannot be cut off without a contradiction.",
        table=Table(
            columns=("Chain", "Verdict", "Entries", "Witnessed", "Newest entries without a witness"),
            rows=tuple(
                (c.stream.upper(), c.verdict, number(c.entries), number(c.witnessed), _tail(c))
                for c in report.checks
            ),
            numeric=(2, 3),
            verdict=1,
        ),
    )


def _tail(check: Check) -> str:
    if check.unwitnessed is None:
        return "unknown: the other chain was not read"
    if not check.unwitnessed:
        return "none"
    since = f", since {minute(check.unwitnessed_since)}" if check.unwitnessed_since else ""
    return f"{check.unwitnessed}{since}"


def _rotations(report: CredentialReport) -> Section:
    streams = tuple(check.stream for check in report.checks)
    rows = [
        (
            minute(p.start),
            *(number(p.rotated.get(stream, 0)) for stream in streams),
            number(p.failed),
            span(p.longest_age_seconds),
        )
        for p in reversed(report.periods)
        if any(p.rotated.values()) or p.failed or p.longest_age_seconds is not None
    ]
    columns = ("From", *(stream.upper() for stream in streams), "Failed", "Oldest password")
    width = span(report.periods[0].end - report.periods[0].start)
    return Section(
        name="Rotations by cloud, and age of the password",
        about=f"Per {width}, newest first. The plan's interval is {span(report.credential.interval_seconds)}, "
        f"and {span(report.figures.between_limit_seconds)} the longest that a fault of one cloud explains.",
        table=_table(columns, rows, numeric=tuple(range(1, len(columns)))),
        empty="No run is on record in the period.",
    )


def _overlaps(report: CredentialReport) -> Section:
    rows = [
        (
            str(g.generation),
            g.stream.upper(),
            stamp(g.promoted),
            stamp(g.superseded) if g.superseded else "current",
            f"{g.revocation} {stamp(g.revoked)}" if g.revoked else "not on record",
            span(g.overlap_seconds),
        )
        for g in reversed(report.generations)
    ]
    columns = ("Generation", "By", "Promoted", "Superseded", "Login shown to be revoked", "Overlap at least")
    unproven = report.figures.unproven
    note = f" Without a proof on record: generation {_numbers(unproven)}." if unproven else ""
    return Section(
        name="Overlap",
        about="Newest first. How long each password still logged in beside the next one. “Unreadable” means that no "
        f"store holds the old value any more, so that no login could be tried.{note}",
        table=_table(columns, rows, numeric=(0, 5)),
        empty="No promotion is on record in the period.",
    )


def _gaps(report: CredentialReport) -> Section:
    rows = [
        (minute(g.start), "not over" if g.is_open else minute(g.end), span(g.end - g.start), "; ".join(g.why))
        for g in reversed(report.gaps)
    ]
    return Section(
        name="Gaps",
        about=f"Times of more than {span(report.figures.between_limit_seconds)} without a rotation: two intervals and "
        "a minute, which is the longest that a fault of one cloud explains.",
        table=_table(("From", "Until", "Length", "What the log says"), rows, numeric=(2,)),
        empty="None: each rotation came in time.",
    )


def _numbers(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:MOST_NUMBERS])) or NONE
    return f"{shown} and {len(numbers) - MOST_NUMBERS} more" if len(numbers) > MOST_NUMBERS else shown


def _failures(report: CredentialReport) -> Section:
    rows = [
        (
            stamp(run.at),
            f"{run.stream.upper()} {run.seq}",
            run.error or "",
            error_text(run.error or "") or NONE,
            str(run.generation) if run.generation is not None else "no claim",
            run.behind,
            run.rotation_id,
        )
        for run in reversed(report.runs)
        if not run.succeeded
    ]
    columns = ("At", "Entry", "Name", "What it means", "Generation", "Behind it", "Run")
    return Section(
        name="Failed runs",
        about="Newest first. A failed run changes nothing that applications use, and the next one goes on from there.",
        table=_table(columns, rows, numeric=(4,)),
        empty="No run failed.",
    )


def _proofs(report: CredentialReport) -> Section:
    rows = [
        (
            p.database,
            number(p.accepted),
            number(p.refused),
            minute(p.last_refused),
            number(p.unreadable),
            number(p.taken_over),
            "without TLS, by consent" if p.plaintext else "TLS",
        )
        for p in report.proofs
    ]
    columns = (
        *("Database", "Accepted the new one", "Old ones refused", "Last refusal", "Unreadable"),
        *("Taken over", "Transport"),
    )
    return Section(
        name="Proofs by database",
        about="Before a password is served, each database accepts it in a real login, and refuses what came before the "
        "current one.",
        table=_table(columns, rows, numeric=(1, 2, 4, 5)),
        empty="No run reached a database.",
    )


def _orders(report: CredentialReport) -> Section:
    rows = [
        (stamp(o.at), o.name, o.who, o.details or NONE, f"{o.stream.upper()} {o.seq}")
        for o in reversed(report.orders)
    ]
    return Section(
        name="Orders of operators",
        about="Each is on record before it takes effect. Newest first.",
        table=_table(("At", "Order", "By", "Fields", "Entry"), rows),
    )


def _uncounted(report: CredentialReport) -> Section:
    found: dict[tuple[str, str, str], list[int]] = {}
    for other in report.others:
        if other.why:
            found.setdefault((other.stream.upper(), other.what, other.why), []).append(other.seq)
    rows = [(stream, _numbers(entries), what, why) for (stream, what, why), entries in found.items()]
    return Section(
        name="Entries that do not count",
        about="They are in no figure.",
        table=_table(("Chain", "Entries", "Kind", "Because"), rows),
    )


def _table(
    columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, numeric: tuple[int, ...] = ()
) -> Table:
    left = len(rows) - MOST_ROWS
    return Table(
        columns=columns,
        rows=tuple(rows[:MOST_ROWS]),
        numeric=numeric,
        note=f"{many(left, 'more row')} left out here; JSON and CSV have all." if left > 0 else "",
    )
