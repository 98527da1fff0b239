"""The forms of the report: one HTML page of tables, JSON, and CSV with every entry of the period.

The page has no script and makes no request, and a policy in it forbids both; it names the style sheet by its hash.
"""

import base64
import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import msgspec
from jinja2 import Environment

from lockstep.operate.formatting import many
from lockstep.operate.html.templates import environment, style
from lockstep.operate.report.build import Check, Report
from lockstep.operate.report.entries import Order, Other, Record, Run

FORMULA = frozenset("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
"""A cell that begins with one of these, or its full-width form, is a formula to a spreadsheet."""
LEFT_OUT = frozenset({"databases", "lifts_pause"})
"""Of an entry: the numbers of the one are in `refused` and `unreadable`, the other is among `details`."""
FIELDS = (
    *Run.__struct_fields__,
    "refused",
    "unreadable",
    *Order.__struct_fields__,
    *Other.__struct_fields__,
)
COLUMNS = (
    "credential",
    "record",
    *(name for name in dict.fromkeys(("at", "outcome", *FIELDS)) if name not in LEFT_OUT),
)
"""Of CSV, by their names in JSON. `record` is what a row is: a verdict, a problem, a note, or the kind of an entry."""


@cache
def _environment() -> Environment:
    return environment("lockstep.operate.report")


def page(report: Report) -> str:
    """The page. The same report gives the same text."""
    templates = _environment()
    digest = hashlib.sha256(style(templates, "page.css").encode()).digest()
    checks = [check for c in report.credentials for check in c.checks]
    return templates.get_template("page.html.j2").render(
        r=report,
        style_hash=base64.b64encode(digest).decode(),
        entries=many(sum(check.entries for check in checks), "signed entry", "signed entries"),
        chains=many(len(checks), "chain"),
    )


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
        yield from _of_check(check, "", "digests")
    for one in report.credentials:
        for check in one.checks:
            yield from _of_check(check, one.credential.id, "entries")
        records: tuple[Record, ...] = (*one.runs, *one.orders, *one.others)
        for record in sorted(records, key=lambda r: (r.at or report.made_at, r.stream, r.seq)):
            cells = {name: getattr(record, name, None) for name in COLUMNS}
            yield {**cells, "credential": one.credential.id, "record": type(record).__name__.lower()}


def _of_check(check: Check, credential: str, what: str) -> Iterator[Mapping[str, object]]:
    where = {"credential": credential, "stream": check.stream}
    told = check.error or f"{check.entries} {what}"
    verdict = {"record": "verdict", "at": check.confirmed_until, "outcome": check.verdict.value}
    yield {**where, **verdict, "details": told}
    for record, texts in (("problem", check.problems), ("note", check.notes)):
        for text in texts:
            yield {**where, "record": record, "details": text}


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
