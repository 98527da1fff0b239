"""The forms of the audit report: a page that loads and runs nothing, JSON by its schema, CSV that is no formula.

What entries hold is untrusted: whoever may write to a bucket may have written it.
"""

import base64
import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest

from lockstep.audit.chain import Entry
from lockstep.audit.verify import Problem, Verification
from lockstep.operate.report.build import Report, build, report_on
from lockstep.operate.report.entries import LONGEST, LONGEST_LINE, clean, line, shown
from lockstep.operate.report.forms import COLUMNS, as_csv, as_json, page, schema
from lockstep.protocol.ports import Mac
from tests.support.memory import EPOCH, make_plan
from tests.unit.test_audit_report import report_of, told

NOW = EPOCH + timedelta(days=400)
VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
C1 = "".join(map(chr, range(0x80, 0xA0)))
HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% include 'page.css' %}",
    f"admin{BIDI}txt",
    f"a{C1}b\x00\x1b[31m\r\n",
    "\ud800 lone",
    "x" * 10_000_000,
]


def milliseconds(days: float) -> int:
    return round((EPOCH + timedelta(days=days)).timestamp() * 1000)


def event(at: int, generation: int, **details: object) -> dict[str, Any]:
    """The event of a success, as `lockstep.audit.entry` makes it."""
    revoked = {str(generation - 2): "refused"} if generation > 2 else {}
    return {
        "activity_id": 3,
        "activity_name": "Password Change",
        "time": at,
        "start_time": at - 9000,
        "status_id": 1,
        "status": "Success",
        "metadata": {"uid": f"run-{generation}"},
        "unmapped": {
            "lockstep": {
                "trigger": "schedule",
                "forced": False,
                "kind": "new",
                "generation": generation,
                "base_generation": generation - 1,
                "adopted_from": None,
                "plan": "a-plan",
                "revoked_on_purpose": [],
                "databases": {n: {"outcome": "applied", "revoked": revoked} for n in ("db-1", "db-2")},
                **details,
            }
        },
    }


def failure(at: int, code: object, **more: object) -> dict[str, Any]:
    return {**event(at, 1), "status_id": 2, "status_code": code, **more}


def order(text: str, **details: object) -> dict[str, Any]:
    who = {"actor": {"user": {"name": text}}}
    return {"time": milliseconds(399), **who, "unmapped": {"lockstep": {"order": "pause", **details}}}


def entry(seq: int, event: Mapping[str, Any]) -> Entry:
    """An entry with this event, at its time or at the end of all times."""
    at, details = event.get("time"), event.get("unmapped")
    is_order = isinstance(details, dict) and isinstance(of := details.get("lockstep"), dict) and "order" in of
    return Entry(
        credential="a/credential",
        stream="aws",
        seq=seq,
        previous_hash="",
        rotation_id="order-1" if is_order else "run-1",
        time=at if type(at) is int else 10**15,
        event_hash="",
        stepped_over=None,
        differs=None,
        format=1,
        event=event,
        mac=Mac(key_id="", value=b""),
        digest=b"",
        hash="",
    )


def made(
    *events: Mapping[str, object], problems: tuple[str, ...] = (), since: datetime = NOW - timedelta(days=500)
) -> Report:
    """A report on these events, in one stream that is verified."""
    found = Verification(
        stream="aws",
        entries=[entry(seq, event) for seq, event in enumerate(events, start=1)],
        problems=[Problem(text) for text in problems],
    )
    on = report_on(make_plan().credentials[0], [found], since=since, now=NOW)
    return build([on], since=since, now=NOW)


class Reader(HTMLParser):
    """Reads a page: its tags, its attributes; raises where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


# The page


def test_the_page_is_whole_and_refers_to_nothing_outside_itself() -> None:
    text = page(report_of(told()))
    reader = Reader(text)
    assert "script" not in reader.tags
    assert not {"style", "onload", "onclick", "onerror"} & {name for name, _ in reader.attributes}
    references = {value or "" for name, value in reader.attributes if name in {"href", "src", "xlink:href"}}
    assert {f"#{id_}" for name, id_ in reader.attributes if name == "id"} >= references != set()
    assert not [word for word in ("@import", "url(") if word in text]
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_is_escaped_and_bounded_wherever_it_is(text: str) -> None:
    everywhere = {
        "trigger": text,
        "adopted_from": text,
        "plan": text,
        "databases": {text: {"outcome": text, "revoked": {text: text, "1": "refused"}}},
    }
    at = milliseconds(399)
    report = made(
        event(at, 5, plan=text),
        failure(at, text, metadata={"uid": text}, unmapped={"lockstep": everywhere}),
        order(text, **{"order": text, text: [text] * 50, "deep": {text: {text: text}}}),
        {"time": at, "activity_name": text, "unmapped": {"lockstep": {text: text}}},
        problems=(text,),
    )
    shown = page(report)
    assert not {"script", "img"} & Reader(shown).tags
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    assert len(shown) < 200_000
    shown.encode()
    table = as_csv(report)
    assert not [c for c in table if not c.isprintable() and c not in "\r\n"]
    assert len(table) + len(as_json(report)) < 100_000


ODD: tuple[object, ...] = (
    *(None, True, 0, -1, 2**53, 2**63, 10**400, 1.5, float("nan"), float("inf")),
    *("", "x", "²", "1", "refused", "schedule", "revoke", [], ["x"], [1, None, {}], {}, {"x": {"y": [0]}}),
    {"1": "refused", "x": "refused", "-1": 1},
)


def exchanged(of: Any, value: object) -> Iterator[Any]:  # noqa: ANN401 - JSON
    """A document with each of its parts, in turn, left out or exchanged for a value."""
    for name in of if isinstance(of, dict) else ():
        rest = {n: part for n, part in of.items() if n != name}
        yield rest
        yield {**rest, name: value}
        yield from ({**rest, name: part} for part in exchanged(of[name], value))


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[:20])
def test_no_event_of_any_type_is_an_error(value: object) -> None:
    at = milliseconds(399)
    whole = (event(at, 5, revoke_through=3), failure(at, "X"), order("anna", revoke_through=4))
    events = [each for one in whole for each in exchanged(one, value)]
    report = made(*events, since=datetime(1960, 1, 1, tzinfo=UTC))
    Reader(page(report))
    jsonschema.Draft202012Validator(schema()).validate(json.loads(as_json(report)))
    (credential,) = report.credentials
    assert len(credential.runs) + len(credential.orders) + len(credential.others) == len(events) > 100
    assert len(list(csv.reader(io.StringIO(as_csv(report))))) == 2 + len(events)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("\u202e", "<U+202E>"),
        ("\x9b", "<U+009B>"),
        (10**5000, "?"),
        (None, "none"),
        (True, "yes"),
        (1.5, "?"),
        ([1, "a"], "1 a"),
        ([], "none"),
        ({"a_b": 1}, "a b 1"),
        (json.loads("[" * 900 + "]" * 900), "?"),
    ],
    ids=range(11),
)
def test_a_value_becomes_a_short_line(value: object, text: str) -> None:
    assert line(clean(value)) == text


def test_a_long_value_is_cut_and_says_so() -> None:
    assert shown("x" * 10**7) == "x" * LONGEST + f"… (and {10**7 - LONGEST} more characters)"
    assert len(line(clean(["y" * 1000] * 1000))) == LONGEST_LINE + 1


# JSON and CSV


def test_json_is_by_its_schema() -> None:
    document = json.loads(as_json(report_of(told())))
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(document)
    (credential,) = document["credentials"]
    assert document["format"] == 1
    assert credential["credential"]["interval_seconds"] == 1200
    assert len(credential["runs"]) == len(report_of(told()).credentials[0].runs)
    assert credential["figures"]["longest_between_seconds"] == 18_000


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_is_a_formula(begin: str) -> None:
    text = f"{begin}cmd|'/c calc'!A1"
    table = as_csv(made(failure(milliseconds(399), text), order(text, order=text), problems=(text,)))
    cells = [cell for row in csv.reader(io.StringIO(table)) for cell in row]
    assert f"'{text}" in cells
    assert not [cell for cell in cells if cell.startswith(begin)]


def test_csv_has_every_entry_of_the_period() -> None:
    report = report_of(told())
    (credential,) = report.credentials
    rows = list(csv.DictReader(io.StringIO(as_csv(report))))
    assert tuple(rows[0]) == COLUMNS
    records = [row["record"] for row in rows]
    assert records.count("verdict") == 2
    assert records.count("run") == len(credential.runs)
    assert records.count("order") == len(credential.orders) == 3
    assert sum(row["outcome"] == "failed" for row in rows) == credential.figures.failed
    assert sum(int(row["refused"] or 0) for row in rows) == sum(p.refused for p in credential.proofs)
    assert {row["stream"] for row in rows} == {"aws", "oci"}
    times = [row["at"] for row in rows if row["at"]]
    assert times == sorted(times)


def test_a_year_of_one_credential_is_a_page_of_bounded_size() -> None:
    """26,280 rotations, and one in fifty a failure before it."""
    events: list[dict[str, Any]] = []
    for number in range(26_280):
        at = milliseconds(34) + number * 20 * 60_000
        events += [failure(at - 600_000, f"Error{number % 7}")] if number % 50 == 0 else []
        events.append(event(at, number + 1))
    began = time.process_time()
    report = made(*events)
    shown = page(report)
    assert time.process_time() - began < 20  # 1.2 s measured
    (credential,) = report.credentials
    assert (credential.figures.rotations, credential.figures.failed) == (26_280, 526)
    assert len(shown) < 500_000
    assert "326 more rows left out here; JSON and CSV have all." in shown
