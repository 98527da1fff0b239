"""The forms of the audit report: a page that loads and runs nothing, JSON by its schema, CSV that is no formula.

What entries hold is untrusted: whoever may write to a bucket may have written it.
"""

import base64
import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
                "databases": {
                    name: {
                        "outcome": "applied",
                        "revoked": {str(generation - 2): "refused"} if generation > 2 else {},
                    }
                    for name in ("db-1", "db-2")
                },
                **details,
            }
        },
    }


def failure(at: int, code: object, **more: object) -> dict[str, Any]:
    return {**event(at, 1), "status_id": 2, "status_code": code, **more}


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
    """Reads a page: its tags, its references, its texts; raises where a tag is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.references += [value or "" for name, value in attrs if name in {"href", "src", "xlink:href"}]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


# The page


def test_the_page_is_whole_and_refers_to_nothing_outside_itself() -> None:
    text = page(report_of(told()))
    reader = Reader(text)
    assert "script" not in reader.tags
    assert not {"style", "onload", "onclick", "onerror"} & reader.attributes
    assert all(reference.startswith("#") for reference in reader.references)
    assert "@import" not in text
    assert "url(" not in text
    assert {f'id="{r[1:]}"' in text for r in reader.references} == {True}


def test_the_policy_of_the_page_allows_its_own_style_and_nothing_else() -> None:
    text = page(report_of(told()))
    style = text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert (
        f"content=\"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\""
        in text
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_is_escaped_and_bounded_wherever_it_is(text: str) -> None:
    everywhere = failure(
        milliseconds(399),
        text,
        metadata={"uid": text},
        unmapped={
            "lockstep": {
                "trigger": text,
                "adopted_from": text,
                "plan": text,
                "databases": {text: {"outcome": text, "revoked": {text: text, "1": "refused"}}},
            }
        },
    )
    order = {
        "time": milliseconds(399),
        "actor": {"user": {"name": text}},
        "unmapped": {"lockstep": {"order": text, text: [text] * 50, "deep": {text: {text: text}}}},
    }
    other = {"time": milliseconds(399), "activity_name": text, "unmapped": {"lockstep": {text: text}}}
    success = event(milliseconds(399), 5, plan=text)
    report = made(success, everywhere, order, other, problems=(text,))
    shown = page(report)
    reader = Reader(shown)
    assert "script" not in reader.tags
    assert "img" not in reader.tags
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    assert len(shown) < 200_000
    shown.encode()
    table = as_csv(report)
    assert not [c for c in table if not c.isprintable() and c not in "\r\n"]
    assert len(table) + len(as_json(report)) < 100_000


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        [10**400, -1, 2**53, 2**63, "refused", "schedule", "new", "reconcile", "revoke", "1", "²"]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
KNOWN = ("trigger", "forced", "kind", "generation", "base_generation", "adopted_from", "plan", "order")
DETAILS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(KNOWN, VALUES),
        "revoked_on_purpose": st.one_of(VALUES, st.lists(LEAVES, max_size=4)),
        "revoke_through": VALUES,
        "databases": st.one_of(
            VALUES,
            st.dictionaries(
                st.text(max_size=5),
                st.fixed_dictionaries(
                    {},
                    optional={
                        "outcome": VALUES,
                        "revoked": VALUES,
                        "taken_over": VALUES,
                        "plaintext": VALUES,
                    },
                ),
                max_size=3,
            ),
        ),
    },
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "activity_id": st.one_of(st.just(3), VALUES),
        "activity_name": VALUES,
        "time": st.one_of(st.integers(milliseconds(0), milliseconds(401)), VALUES),
        "start_time": st.one_of(st.integers(milliseconds(0), milliseconds(401)), VALUES),
        "status_id": st.one_of(st.just(1), st.just(2), VALUES),
        "status_code": VALUES,
        "actor": VALUES,
        "metadata": VALUES,
        "unmapped": st.one_of(st.fixed_dictionaries({"lockstep": DETAILS}), VALUES),
    },
)


@given(st.lists(EVENTS, max_size=5))
def test_no_event_of_any_type_is_an_error(events: list[dict[str, Any]]) -> None:
    report = made(*events, since=datetime(1970, 1, 1, tzinfo=UTC))
    Reader(page(report))
    jsonschema.Draft202012Validator(schema()).validate(json.loads(as_json(report)))
    (credential,) = report.credentials
    assert len(credential.runs) + len(credential.orders) + len(credential.others) == len(events)
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
    ],
    ids=range(10),
)
def test_a_value_becomes_a_short_line(value: object, text: str) -> None:
    assert line(clean(value)) == text


def test_a_long_value_is_cut_and_says_so() -> None:
    assert shown("x" * 10**7) == "x" * LONGEST + f"… (and {10**7 - LONGEST} more characters)"
    assert len(line(clean(["y" * 1000] * 1000))) == LONGEST_LINE + 1
    assert line(clean(json.loads("[" * 900 + "]" * 900))) == "?"


# JSON


def test_json_is_by_its_schema() -> None:
    document = json.loads(as_json(report_of(told())))
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(document)
    (credential,) = document["credentials"]
    assert document["format"] == 1
    assert credential["credential"]["interval_seconds"] == 1200
    assert len(credential["runs"]) == len(report_of(told()).credentials[0].runs)
    assert credential["figures"]["longest_between_seconds"] == 18_000


# CSV


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_is_a_formula(begin: str) -> None:
    text = f"{begin}cmd|'/c calc'!A1"
    order = {
        "time": milliseconds(399),
        "actor": {"user": {"name": text}},
        "unmapped": {"lockstep": {"order": text}},
    }
    table = as_csv(made(failure(milliseconds(399), text), order, problems=(text,)))
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


# Bounds


def test_a_year_of_one_credential_is_a_page_of_bounded_size() -> None:
    """26,280 rotations, and one in fifty a failure before it."""
    minute = 60_000
    first = milliseconds(34)
    events: list[dict[str, Any]] = []
    for number in range(26_280):
        at = first + number * 20 * minute
        if number % 50 == 0:
            events.append(failure(at - 10 * minute, f"Error{number % 7}"))
        events.append(event(at, number + 1))
    began = time.process_time()
    report = made(*events)
    shown = page(report)
    seconds = time.process_time() - began
    (credential,) = report.credentials
    assert credential.figures.rotations == 26_280
    assert credential.figures.failed == 526
    assert len(shown) < 500_000
    assert seconds < 20  # Of this process; 1.2 s measured.
    assert "326 more rows left out here; JSON and CSV have all." in shown
