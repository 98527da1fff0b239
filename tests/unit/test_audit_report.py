"""The audit report: its figures over real chains of simulated days, doubtful evidence, and a page that runs nothing.

What entries hold is untrusted: whoever may write to a bucket may have written it.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import combinations, pairwise
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from lockstep.audit.chain import Entry
from lockstep.audit.confirmed import Verdict, worst
from lockstep.audit.verify import Problem, Verification
from lockstep.operate.documents import schema
from lockstep.operate.report.build import CredentialReport, Report, as_json, build, page, report_on
from lockstep.protocol.errors import AuditLogUnreachableError
from tests.support.audit_story import AuditStory, whole_story
from tests.support.memory import EPOCH, make_plan
from tests.support.world import entries, login_of

DAY = timedelta(days=1)
INTERVAL_SECONDS = 1200.0


@cache
def told() -> AuditStory:
    """The whole story, told once; tests do not change it."""
    return whole_story(2)


def quiet_days(days: float) -> AuditStory:
    story = AuditStory()
    story.days(days)
    return story


def report_of(story: AuditStory, found: Sequence[Verification] | None = None, *, days: float = 90) -> Report:
    """On what verification found, by default now."""
    since, now = story.now - days * DAY, story.now
    on = report_on(story.world.credential, found or story.verify(), since=since, now=now)
    return build([on], since=since, now=now, lock="lockstep, eu-central-1")


def one(
    story: AuditStory, found: Sequence[Verification] | None = None, *, days: float = 90
) -> CredentialReport:
    (credential,) = report_of(story, found, days=days).credentials
    return credential


# Figures


def test_the_whole_story_is_in_the_figures() -> None:
    events = {s: [e.event for e in entries(told().world, s)] for s in ("aws", "oci")}
    runs = {s: [e for e in es if e["activity_id"] == 3] for s, es in events.items()}
    rotated = {s: sum(e["status"] == "Success" for e in es) for s, es in runs.items()}
    failures = sum(e["status"] == "Failure" for es in runs.values() for e in es)
    report = one(told())
    figures = report.figures
    assert (report.verdict, figures.rotated, figures.failed) == (Verdict.VERIFIED, rotated, failures)
    assert (rotated["oci"] > 15, failures) == (True, 25)
    assert len(report.runs) == sum(map(len, runs.values()))
    assert sum(rotated.values()) == figures.rotations
    # Each gap says how many runs failed in it.
    failed, _paused, database, silent = report.gaps
    assert (failed.failed, silent.failed) == (17, 0)
    assert sum(run.error == "DatabaseUnreachableError" for run in report.runs) <= database.failed
    assert all(gap.end - gap.start > timedelta(minutes=41) for gap in report.gaps)
    between = max(b.promoted - a.promoted for a, b in pairwise(report.generations))
    assert figures.longest_between_seconds == between.total_seconds()
    assert figures.between_limit_seconds == 42 * 60
    assert figures.longest_age_seconds == max(g.end - g.start for g in report.gaps).total_seconds()
    # Each generation lives until its login is refused.
    *old, previous, current = report.generations
    assert current.superseded is None
    assert (previous.superseded, previous.revoked) == (current.promoted, None)
    for life, after in pairwise(old):
        assert life.superseded == after.promoted
        assert life.revoked is not None
        assert life.revocation in {"refused", "revoked"}
    assert {life.overlap_seconds for life in old if life.revocation == "revoked"} == {None}
    assert figures.proven_revoked == sum(life.revocation == "refused" for life in old)
    assert figures.unproven == ()
    assert figures.shortest_overlap_seconds is not None
    assert figures.shortest_overlap_seconds >= report.credential.overlap_seconds
    # The password is as old as the time since its promotion.
    assert min(life.age_seconds for life in report.generations[2:-1]) == INTERVAL_SECONDS
    # A period shows only what is in it.
    last = one(told(), days=0.2)
    assert 0 < len(last.runs) < len(report.runs)
    assert all(run.at >= told().now - 0.2 * DAY for run in last.runs)
    assert (last.verdict, last.checks) == (Verdict.VERIFIED, report.checks)


def test_a_silence_of_now_is_a_gap_that_is_not_over() -> None:
    story = quiet_days(0.5)
    age = one(story).figures.longest_age_seconds
    assert age is not None
    # The first run, a reconcile, is quicker.
    assert INTERVAL_SECONDS <= age < INTERVAL_SECONDS + 10
    story.world.clock.sleep(3 * 3600)
    (gap,) = one(story).gaps
    assert (gap.is_open, gap.end) == (True, story.now)


def test_a_generation_that_nobody_has_shown_to_be_revoked_is_named() -> None:
    story = quiet_days(0.2)
    shown, read = one(story).generations[3].generation, story.verify()
    for entry in read[0].entries:
        entry.event["unmapped"]["lockstep"]["databases"]["db-2"]["revoked"].pop(str(shown), None)
    assert one(story, read).figures.unproven == (shown,)


# Doubtful evidence


def test_an_entry_that_a_problem_names_is_not_counted() -> None:
    story = quiet_days(0.2)
    good = one(story).figures.rotations
    retired = "is signed with a key that was retired before"
    for problem, lost in (
        (Problem(retired, 5), 1),
        (Problem(retired, 5, 7), 3),
        (Problem("began from generation 4, which no entry records", 6), 0),
        (Problem("is missing", 10**12, 10**15), 0),
        (Problem("1 object is not an entry", 0), 0),
    ):
        found = story.verify()
        found[0].problems.append(problem)
        report = one(story, found)
        assert report.figures.rotations == good - lost, problem
        assert [other.why for other in report.others] == [problem.what] * lost
    log = story.world.audit_logs["aws"]
    body, metadata = log.entries[5]
    log.entries[5] = (body.replace(b'"trigger":"schedule"', b'"trigger":"scheduld"'), metadata)
    assert one(story).figures.rotations == good - 1
    assert one(story).verdict is Verdict.NOT_VERIFIED
    assert "entry 5: is " in page(report_of(story))


def test_a_stream_that_is_unreachable_is_told_beside_the_other_ones_verdict() -> None:
    story = quiet_days(0.2)

    def fail(_operation: str) -> None:
        raise AuditLogUnreachableError(stream="oci")

    story.world.audit_logs["oci"].faults.before = fail
    report = report_of(story)
    assert [c.verdict for c in report.credentials[0].checks] == [Verdict.VERIFIED, Verdict.UNREADABLE]
    assert report.verdict is Verdict.UNREADABLE
    assert "AuditLogUnreachableError: " in page(report)


def test_an_archived_run_is_not_counted_and_explains_its_gap() -> None:
    """Its seal has a time, and its event is not read: it may be the rotation that seems to be missing."""
    story = quiet_days(0.5)
    whole = one(story)
    log = story.world.audit_logs["aws"]
    archived = range(10, 21)
    read = log.read

    def restored_only(number: int) -> bytes | None:
        if number in archived:
            raise AuditLogUnreachableError(stream="aws", code="NotRestored")
        return read(number)

    log.read = restored_only  # type: ignore[method-assign]  # as an Archive bucket reads
    report = one(story)
    unread = sum(run.stream == "aws" and run.seq in archived for run in whole.runs)
    assert report.figures.rotations == whole.figures.rotations - unread
    assert report.figures.archived == unread > 5
    (gap,) = report.gaps
    assert (gap.archived, gap.failed) == (unread, 0)
    assert f"{unread} archived runs not read" in page(report_of(story))


def test_the_verdict_of_a_whole_is_the_worst() -> None:
    ranks = (Verdict.EMPTY, Verdict.VERIFIED, Verdict.UNREADABLE, Verdict.NOT_VERIFIED)
    for better, worse in combinations(ranks, 2):
        assert worst([better, worse]) is worst([worse, better]) is worse
    assert worst([]) is Verdict.NOT_VERIFIED


# Its forms


NOW = EPOCH + timedelta(days=400)
HOSTILE = [
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% include 'page.css' %}",
    "admin\u202a\u202e\u2066\u2069\u200e\u061ctxt\x80\x9b\x00\x1b[31m\r\n \ud800 lone",
    "x" * 10_000_000,
]


@cache
def samples() -> tuple[Entry, Entry, Entry]:
    """A success, a failure and an order, with what the report reads of their events."""
    read = ("activity_id", "start_time", "status_id", "status_code", "actor", "unmapped")
    found = [e for v in told().verify() for e in v.entries]
    success = next(e for e in found if (e.promoted or 0) > 5)
    failed = next(e for e in found if e.event["status"] == "Failure")
    order = next(e for e in found if "order" in e.details)
    success, failed, order = (
        replace(e, event={n: e.event[n] for n in read if n in e.event}) for e in (success, failed, order)
    )
    return success, failed, order


def made(*found: Entry, problems: tuple[str, ...] = ()) -> Report:
    """A report on these entries, in one stream that is verified."""
    numbered = [replace(entry, seq=seq) for seq, entry in enumerate(found, start=1)]
    read = Verification(stream="aws", entries=numbered, problems=[Problem(text) for text in problems])
    since = datetime(1960, 1, 1, tzinfo=UTC)
    on = report_on(make_plan().credentials[0], [read], since=since, now=NOW)
    return build([on], since=since, now=NOW)


def hostile(text: str) -> Report:
    """A report on entries that have a text wherever there may be one."""
    success, failed, order = samples()
    everywhere = {
        "trigger": text,
        "adopted_from": text,
        "plan": text,
        "databases": {text: {"outcome": text, "revoked": {text: text, "1": "refused"}}},
    }
    given = {"order": text, text: [text] * 50, "deep": {text: {text: text}}}
    return made(
        replace(
            success, event={**success.event, "unmapped": {"lockstep": {**success.details, "plan": text}}}
        ),
        replace(failed, event={"activity_id": 3, "status_code": text, "unmapped": {"lockstep": everywhere}}),
        replace(order, event={"actor": {"user": {"name": text}}, "unmapped": {"lockstep": given}}),
        replace(success, event={"activity_name": text, "unmapped": {"lockstep": {text: text}}}),
        problems=(text,),
    )


def tags(text: str) -> set[str]:
    return set(re.findall(r"<([a-z][a-z0-9]*)", text))


def test_the_page_refers_to_nothing_outside_itself() -> None:
    text = page(report_of(told()))
    attributes = re.findall(r'([\w:-]+)="([^"]*)"', text)
    assert "script" not in tags(text)
    assert not [name for name, _ in attributes if name == "style" or name.startswith("on")]
    references = {value for name, value in attributes if name in {"href", "src", "xlink:href"}}
    assert {f"#{id_}" for name, id_ in attributes if name == "id"} >= references != set()
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not [word for word in ("@import", "url(") if word in style]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert f'content="{policy}"' in text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_is_escaped_and_bounded_wherever_it_is(text: str) -> None:
    report = hostile(text)
    shown = page(report)
    assert not {"script", "img"} & tags(shown)
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    assert len(shown) < 200_000
    shown.encode()
    assert len(as_json(report)) < 100_000


ODD: tuple[object, ...] = (
    *(None, -1, 2**63, 10**400, float("nan"), "", "²", "1", [1, None, {}], {"x": {"y": [0]}}),
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
    odd = [replace(e, event=event) for e in samples() for event in exchanged(e.event, value)]
    report = made(*odd, replace(samples()[0], time=10**15))
    assert page(report)
    jsonschema.Draft202012Validator(schema(Report)).validate(json.loads(as_json(report)))
    (credential,) = report.credentials
    assert len(credential.runs) + len(credential.orders) + len(credential.others) == len(odd) + 1 > 100


def test_json_is_by_its_schema_and_no_form_has_a_secret() -> None:
    story = quiet_days(0.1)
    text = as_json(report_of(story))
    jsonschema.Draft202012Validator.check_schema(schema(Report))
    jsonschema.Draft202012Validator(schema(Report)).validate(json.loads(text))
    current = story.world.lock.record.current_generation
    assert current
    assert login_of(story.world, current).password.reveal() not in text + page(report_of(story))
    empty = report_of(AuditStory())
    assert (empty.verdict, "No promotion is on record" in page(empty)) == (Verdict.EMPTY, True)


def test_a_long_period_of_one_credential_is_a_page_of_bounded_size() -> None:
    """None of its rotations proves a revocation."""
    success, _, _ = samples()
    found: list[Entry] = []
    for number in range(3_000):
        details = {**success.details, "generation": number + 1, "base_generation": number, "databases": {}}
        event = {**success.event, "unmapped": {"lockstep": details}}
        found.append(replace(success, time=success.time + number * 20 * 60_000, event=event))
    report = made(*found)
    shown = page(report)
    (credential,) = report.credentials
    assert (credential.figures.rotations, len(credential.figures.unproven)) == (3_000, 2_998)
    assert len(shown) < 500_000
    assert "2,800 more rows left out here; JSON has all." in shown
