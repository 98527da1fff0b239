"""The forms of the report: one HTML page of tables, JSON, and CSV with every entry of the period.

The page has no script and makes no request, and a policy in it forbids both; it names the style sheet by its hash.
"""

import base64
import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from jinja2 import Environment

from lockstep.audit.confirmed import Verdict
from lockstep.operate.formatting import many
from lockstep.operate.html.templates import environment, style
from lockstep.operate.report.data import Check, CredentialReport, Record, Report

LOOKS = {
    Verdict.VERIFIED: "good",
    Verdict.NOT_CONFIRMED: "warn",
    Verdict.EMPTY: "warn",
    Verdict.UNREADABLE: "warn",
    Verdict.NOT_VERIFIED: "bad",
}
SENTENCES = {
    Verdict.VERIFIED: "{entries} in {chains}: none is missing, changed or swapped. What is younger than the newest "
    "confirmed digest can have been cut off.",
    Verdict.NOT_CONFIRMED: "{entries} in {chains}: none is missing, changed or swapped. But for three hours no digest "
    "of a cloud was confirmed by the other one: what was cut off since would not be seen.",
    Verdict.EMPTY: "There is no entry yet, so there is nothing to show.",
    Verdict.UNREADABLE: "{lost} of {chains} could not be read, so nothing is said about it.",
    Verdict.NOT_VERIFIED: "{bad} of {chains}, digests of {digests}: there are problems, listed below. An entry that a "
    "problem names is not counted.",
}
"""What a verdict means."""
MOST_PROBLEMS = 100
FORMULA = frozenset("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
"""A cell that begins with one of these, or its full-width form, is a formula to a spreadsheet."""
ATTRIBUTES = {
    "chain": "stream",
    "entry": "seq",
    "at": "at",
    "outcome": "outcome",
    "error": "error",
    "generation": "generation",
    "base": "base_generation",
    "claim": "kind",
    "behind": "behind",
    "forced": "forced",
    "run": "rotation_id",
    "adopted_from": "adopted_from",
    "started": "started",
    "refused": "refused",
    "unreadable": "unreadable",
    "ended": "revoked_on_purpose",
    "who": "who",
    "details": "details",
    "not_counted": "why",
}
"""Of an entry, by the column of CSV that has it; empty where such an entry has none."""
COLUMNS = ("credential", "kind", *ATTRIBUTES)


@cache
def _environment() -> Environment:
    return environment("lockstep.operate.report")


def page(report: Report) -> str:
    """The page. The same report gives the same text."""
    templates = _environment()
    digest = hashlib.sha256(style(templates, "page.css").encode()).digest()
    checks = [check for c in report.credentials for check in c.checks]
    verdicts = [check.verdict for check in checks]
    return templates.get_template("page.html.j2").render(
        r=report,
        style_hash=base64.b64encode(digest).decode(),
        looks=LOOKS,
        sentence=SENTENCES[report.verdict].format(
            entries=many(sum(check.entries for check in checks), "signed entry", "signed entries"),
            chains=many(len(checks), "chain"),
            lost=verdicts.count(Verdict.UNREADABLE),
            bad=verdicts.count(Verdict.NOT_VERIFIED),
            digests=many(sum(d.verdict is Verdict.NOT_VERIFIED for d in report.digests), "cloud"),
        ),
        problems=problems,
        uncounted=uncounted,
    )


def problems(checks: Sequence[Check]) -> Iterator[tuple[str, str, str]]:
    """What verification found: the stream, the kind and the text, worst first for each stream."""
    for check in checks:
        stream = check.stream.upper()
        for text in check.problems[:MOST_PROBLEMS]:
            yield stream, "problem", text
        if len(check.problems) > MOST_PROBLEMS:
            yield stream, "problem", f"and {len(check.problems) - MOST_PROBLEMS} more, in JSON"
        if check.error:
            yield stream, "unreachable", check.error
        for text in check.notes[:MOST_PROBLEMS]:
            yield stream, "note", text


def uncounted(report: CredentialReport) -> Iterator[tuple[str, str, str, list[int]]]:
    """The entries that do not count: chain, kind and reason, with the numbers of those that have them."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for other in report.others:
        found.setdefault((other.stream.upper(), other.outcome, other.why), []).append(other.seq)
    for place, entries in found.items():
        yield *place, entries


def as_json(report: Report) -> str:
    """One JSON document. The same report gives the same text."""
    return msgspec.json.encode(report).decode() + "\n"


def schema() -> dict[str, Any]:
    """The schema of the JSON document (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lockstep audit report",
        **msgspec.json.schema(Report),
    }


def as_csv(report: Report) -> str:
    """One table: for each chain its verdict and problems, then every entry of the period, in the order of time."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for row in _rows(report):
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _rows(report: Report) -> Iterator[Mapping[str, object]]:
    for check in report.digests:
        yield from _of_check(check, {"chain": f"digests of {check.stream}"}, "digests")
    for one in report.credentials:
        name = one.credential.id
        for check in one.checks:
            yield from _of_check(check, {"credential": name, "chain": check.stream}, "entries")
        records: tuple[Record, ...] = (*one.runs, *one.orders, *one.others)
        for record in sorted(records, key=lambda r: (r.at or report.made_at, r.stream, r.seq)):
            cells = {column: getattr(record, attribute, None) for column, attribute in ATTRIBUTES.items()}
            yield {"credential": name, "kind": type(record).__name__.lower(), **cells}


def _of_check(check: Check, where: Mapping[str, object], what: str) -> Iterator[Mapping[str, object]]:
    told = check.error or f"{check.entries} {what}"
    verdict = {"kind": "verdict", "at": check.confirmed_until, "outcome": check.verdict.value}
    yield {**where, **verdict, "details": told}
    for kind, texts in (("problem", check.problems), ("note", check.notes)):
        for text in texts:
            yield {**where, "kind": kind, "details": text}


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return str(msgspec.to_builtins(value))
        case tuple():
            return " ".join(map(str, value))
    text = str(value)
    # An apostrophe makes it text (https://owasp.org/www-community/attacks/CSV_Injection).
    return f"'{text}" if text[:1] in FORMULA else text
