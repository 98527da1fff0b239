"""The report as JSON and as CSV, with every entry of the period. docs/audit-report.schema.json is JSON's contract."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

from lockstep.audit.report.build import who_is_behind
from lockstep.audit.report.data import Check, CredentialReport, Report
from lockstep.audit.report.reading import Order, Other, Record, Run
from lockstep.model import Credential

FORMAT = 1
"""Of the JSON document; it grows with a change that an old reader does not understand."""
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
    """One JSON document. Times are RFC 3339 in UTC, durations are seconds. The same report gives the same text."""
    document = {"format": FORMAT, "verdict": report.verdict.value, **_plain(report)}
    return json.dumps(document, separators=(",", ":")) + "\n"


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any type that the report has
    match value:
        case datetime():
            return f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return {name: _plain(part) for name, part in value.items()}
        case tuple() | list():
            return [_plain(part) for part in value]
    return _object(value) if is_dataclass(value) else value


def _object(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    if isinstance(value, Credential):
        return _plan_of(value)
    return {key_of(field.name, field.type): _plain(getattr(value, field.name)) for field in fields(value)}


def key_of(name: str, kind: Any) -> str:  # noqa: ANN401 - a type
    """The name of a field in JSON: that of a duration says its unit."""
    return f"{name}_seconds" if timedelta in (kind, *get_args(kind)) else name


def _plan_of(credential: Credential) -> dict[str, Any]:
    return {
        "id": credential.id,
        "strategy": credential.strategy.value,
        "usernames": list(credential.usernames),
        "databases": list(credential.databases),
        "interval_seconds": credential.schedule.interval.total_seconds(),
        "overlap_seconds": credential.schedule.overlap.total_seconds(),
        "plan": credential.plan_digest,
    }


def as_csv(report: Report) -> str:
    """One table: for each chain its verdict and problems, then every entry of the period, in the order of time."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\r\n")
    writer.writeheader()
    for credential in report.credentials:
        for row in _rows(credential, report.made_at):
            writer.writerow({name: _cell(value) for name, value in row.items()})
    return text.getvalue()


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return str(_plain(value))
        case tuple():
            return " ".join(map(str, value))
    text = str(value)
    # An apostrophe makes it text (https://owasp.org/www-community/attacks/CSV_Injection).
    return f"'{text}" if text[:1] in FORMULA else text


def _rows(report: CredentialReport, now: datetime) -> Iterator[dict[str, object]]:
    name = report.credential.id
    for check in report.checks:
        yield {"credential": name, "chain": check.stream, "kind": "verdict", **_verdict(check)}
        for kind, texts in (
            ("problem", check.problems),
            ("acknowledged", check.acknowledged),
            ("note", check.notes),
        ):
            for text in texts:
                yield {"credential": name, "chain": check.stream, "kind": kind, "details": text}
    records: list[Record] = [*report.runs, *report.orders, *report.others]
    for record in sorted(records, key=lambda r: (r.at or now, r.stream, r.seq)):
        where = {"credential": name, "chain": record.stream, "entry": record.seq, "at": record.at}
        yield {**where, **_entry(record)}


def _verdict(check: Check) -> dict[str, object]:
    tail = "unknown" if check.unwitnessed is None else check.unwitnessed
    told = f"{check.entries} entries, {check.witnessed} witnessed, unwitnessed: {tail}"
    return {"outcome": check.verdict.value, "details": check.error or told}


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
                "behind": who_is_behind(record),
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
