"""The report as JSON and as CSV, with every entry of the period.

python -m lockstep.operate.report.tables prints the JSON Schema.
"""

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from lockstep.operate.report.data import Check, CredentialReport, Order, Other, Record, Report, Run

FORMULA = frozenset("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
"""A cell that begins with one of these, or its full-width form, is a formula to a spreadsheet."""
COLUMNS = (
    *("credential", "chain", "entry", "at", "kind", "outcome", "error", "generation", "base", "claim"),
    *(
        "behind",
        "forced",
        "run",
        "adopted_from",
        "started",
        "refused",
        "unreadable",
        "ended",
        "who",
        "details",
    ),
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
    rows = [row for check in report.digests for row in _of_check(check, "", f"digests of {check.stream}")]
    rows += [row for credential in report.credentials for row in _rows(credential, report.made_at)]
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


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


def _rows(report: CredentialReport, now: datetime) -> Iterator[dict[str, object]]:
    name = report.credential.id
    for check in report.checks:
        yield from _of_check(check, name, check.stream)
    records: list[Record] = [*report.runs, *report.orders, *report.others]
    for record in sorted(records, key=lambda r: (r.at or now, r.stream, r.seq)):
        where = {"credential": name, "chain": record.stream, "entry": record.seq, "at": record.at}
        yield {**where, **_entry(record)}


def _of_check(check: Check, credential: str, chain: str) -> Iterator[dict[str, object]]:
    where = {"credential": credential, "chain": chain}
    told = check.error or f"{check.entries} {'entries' if credential else 'digests'}"
    yield {
        **where,
        "at": check.confirmed_until,
        "kind": "verdict",
        "outcome": check.verdict.value,
        "details": told,
    }
    for kind, texts in (("problem", check.problems), ("note", check.notes)):
        for text in texts:
            yield {**where, "kind": kind, "details": text}


def _entry(record: Record) -> dict[str, object]:
    match record:
        case Run():
            return {
                "kind": "run",
                "outcome": "rotated" if record.succeeded else "failed",
                "error": record.error,
                "generation": record.generation,
                "base": record.base,
                "claim": record.kind,
                "behind": record.behind,
                "forced": record.forced,
                "run": record.rotation_id,
                "adopted_from": record.adopted_from,
                "started": record.started,
                "refused": sum(len(proof.refused) for proof in record.proofs),
                "unreadable": sum(len(proof.unreadable) for proof in record.proofs),
                "ended": record.ended,
            }
        case Order():
            return {"kind": "order", "outcome": record.name, "who": record.who, "details": record.details}
        case Other():
            why = f"not counted: {record.why}; " if record.why else ""
            return {"kind": "other", "outcome": record.what, "details": f"{why}{record.details}"}
