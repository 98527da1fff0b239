"""The audit report over real chains of simulated days: its figures, and what it does with doubtful evidence."""

import json
from datetime import timedelta
from functools import cache
from itertools import pairwise

import pytest

from lockstep.audit.confirmed import Verdict, worst
from lockstep.audit.verify import Problem, Verification
from lockstep.operate.report.build import CredentialReport, Report, build, report_on
from lockstep.operate.report.forms import as_json, page
from lockstep.protocol.errors import AuditLogUnreachableError
from tests.support.audit_story import AuditStory, whole_story
from tests.support.world import entries, login_of

DAY = timedelta(days=1)
INTERVAL = timedelta(minutes=20)


@cache
def told() -> AuditStory:
    """The whole story, told once; tests do not change it."""
    return whole_story(2)


def report_of(story: AuditStory, *, days: float = 90) -> Report:
    return of_what_was_read(story, story.verify(), days=days)


def of_what_was_read(story: AuditStory, found: list[Verification], *, days: float = 90) -> Report:
    since, now = story.now - days * DAY, story.now
    on = report_on(story.world.credential, found, since=since, now=now)
    return build([on], since=since, now=now, lock="lockstep, eu-central-1")


def one(story: AuditStory, *, days: float = 90) -> CredentialReport:
    (credential,) = report_of(story, days=days).credentials
    return credential


# Figures


def test_every_run_on_record_is_counted_once() -> None:
    report = one(told())
    events = {s: [e.event for e in entries(told().world, s)] for s in ("aws", "oci")}
    runs = {s: [e for e in es if e["activity_id"] == 3] for s, es in events.items()}
    rotated = {s: sum(e["status"] == "Success" for e in es) for s, es in runs.items()}
    assert report.figures.rotated == rotated
    assert rotated["oci"] > 15
    assert report.figures.failed == sum(e["status"] == "Failure" for es in runs.values() for e in es) == 25
    assert len(report.runs) == sum(map(len, runs.values()))
    assert sum(rotated.values()) == report.figures.rotations
    assert report.verdict is Verdict.VERIFIED


def test_each_gap_says_what_the_log_knows_of_it() -> None:
    failed, paused, database, silent = one(told()).gaps
    assert failed.why == (
        "StoreUnreachableError in OCI: 9 failed runs",
        "StoreUnreachableError in AWS: 8 failed runs",
    )
    assert paused.why[0].startswith("paused by an operator from ")
    assert database.why[0] == "DatabaseUnreachableError in AWS: 4 failed runs"
    assert silent.why == ("no run is on record in it",)
    assert all(gap.end - gap.start > timedelta(minutes=41) for gap in one(told()).gaps)


def test_a_standby_that_steps_in_leaves_no_gap() -> None:
    story = AuditStory()
    story.run()
    story.days(1, aws=lambda n: n == 0)
    report = one(story)
    assert report.figures.rotated["oci"] > 40
    assert report.gaps == ()
    assert report.figures.longest_between_seconds is not None
    assert report.figures.longest_between_seconds <= report.figures.between_limit_seconds == 42 * 60


def test_a_gap_that_is_not_over_is_told() -> None:
    story = AuditStory()
    story.days(0.5)
    story.world.clock.sleep(3 * 3600)
    (gap,) = one(story).gaps
    assert (gap.is_open, gap.end) == (True, story.now)
    assert '<td data-name="Until"><span>not over</span>' in page(report_of(story))


def test_the_password_is_as_old_as_the_time_since_its_promotion() -> None:
    report = one(told())
    longest = max(gap.end - gap.start for gap in report.gaps).total_seconds()
    assert report.figures.longest_age_seconds == longest
    assert min(life.age_seconds for life in report.generations[2:-1]) == INTERVAL.total_seconds()
    story = AuditStory()
    story.days(0.5)
    age = one(story).figures.longest_age_seconds
    assert age is not None
    # The first run, a reconcile, is quicker.
    assert INTERVAL.total_seconds() <= age < INTERVAL.total_seconds() + 10


def test_each_generation_lives_until_its_login_is_refused() -> None:
    report = one(told())
    *old, previous, current = report.generations
    assert current.superseded is None
    assert previous.superseded == current.promoted
    assert previous.revoked is None
    for life, after in pairwise(old):
        assert life.superseded == after.promoted
        assert life.revoked is not None
        assert life.revocation in {"refused", "revoked"}
    assert report.figures.proven_revoked == sum(life.revocation == "refused" for life in old)
    assert report.figures.unproven == ()
    assert report.figures.short_overlaps == 0
    assert report.figures.shortest_overlap_seconds is not None
    assert report.figures.shortest_overlap_seconds >= report.credential.overlap_seconds


def test_a_generation_that_nobody_has_shown_to_be_revoked_is_named() -> None:
    story = AuditStory()
    story.days(0.2)
    whole = report_of(story)
    (given,) = whole.credentials
    shown = given.generations[3].generation
    read = story.verify()
    for entry in read[0].entries:
        entry.event["unmapped"]["lockstep"]["databases"]["db-2"]["revoked"].pop(str(shown), None)
    doubted = of_what_was_read(story, read)
    assert doubted.credentials[0].figures.unproven == (shown,)
    assert "1 generation without proof" in page(doubted)


def test_a_revocation_waits_for_no_overlap_and_shortens_none() -> None:
    story = AuditStory()
    story.days(0.2)
    story.run("oci", trigger="cli", force=True)
    before = one(story).figures.shortest_overlap_seconds
    story.revoke()
    story.days(0.1)
    report = one(story)
    revoked = [life for life in report.generations if life.revocation == "revoked"]
    assert revoked
    assert all(life.overlap_seconds is None for life in revoked)
    assert (report.figures.shortest_overlap_seconds, report.figures.short_overlaps) == (before, 0)


def test_a_period_shows_only_what_is_in_it() -> None:
    whole, last = one(told()), one(told(), days=0.2)
    assert len(last.runs) < len(whole.runs)
    assert all(run.at >= told().now - 0.2 * DAY for run in last.runs)
    assert last.figures.longest_age_seconds is not None
    assert last.verdict is Verdict.VERIFIED
    assert last.checks == whole.checks


# Doubtful evidence


def test_a_changed_entry_is_named_and_not_counted() -> None:
    story = AuditStory()
    story.days(0.2)
    good = one(story).figures.rotations
    log = story.world.audit_logs["aws"]
    body, metadata = log.entries[5]
    log.entries[5] = (body.replace(b'"trigger":"schedule"', b'"trigger":"scheduld"'), metadata)
    report = report_of(story)
    assert report.verdict is Verdict.NOT_VERIFIED
    assert report.credentials[0].figures.rotations == good - 1
    assert "entry 5: is " in page(report)


@pytest.mark.parametrize(
    ("problem", "lost"),
    [
        (Problem("is signed with a key that was retired before", 5), 1),
        (Problem("is signed with a key that was retired before", 5, 7), 3),
        (Problem("began from generation 4, which no entry records", 6), 0),
        (Problem("is missing", 10**12, 10**15), 0),
        (Problem("1 object is not an entry", 0), 0),
    ],
    ids=str,
)
def test_an_entry_that_a_problem_names_is_not_counted(problem: Problem, lost: int) -> None:
    story = AuditStory()
    story.days(0.2)
    found = story.verify()
    found[0].problems.append(problem)
    (report,) = of_what_was_read(story, found).credentials
    assert report.figures.rotations == one(story).figures.rotations - lost
    assert [other.why for other in report.others] == [problem.what] * lost


def test_a_stream_that_is_unreachable_is_told_beside_the_other_ones_verdict() -> None:
    story = AuditStory()
    story.days(0.2)

    def fail(_operation: str) -> None:
        raise AuditLogUnreachableError(stream="oci")

    story.world.audit_logs["oci"].faults.before = fail
    report = report_of(story)
    aws, oci = report.credentials[0].checks
    assert (aws.verdict, oci.verdict) == (Verdict.VERIFIED, Verdict.UNREADABLE)
    assert report.verdict is Verdict.UNREADABLE
    text = page(report)
    assert "AuditLogUnreachableError: The audit log or its signing key did not answer." in text


def test_an_archived_run_is_not_counted_and_explains_its_gap() -> None:
    """Its seal has a time, and its event is not read: it may be the rotation that seems to be missing."""
    story = AuditStory()
    story.days(0.5)
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
    assert gap.why == (f"{unread} archived entries in it, which may be rotations, not read",)
    text = page(report_of(story))
    assert f"{unread} archived runs not read" in text
    assert "it is archived: restore it to have it read" in text
    assert "their seals were verified, their events were not read" in text


@pytest.mark.parametrize(
    ("streams", "whole"),
    [
        ([Verdict.VERIFIED, Verdict.EMPTY], Verdict.VERIFIED),
        ([Verdict.EMPTY, Verdict.EMPTY], Verdict.EMPTY),
        ([Verdict.EMPTY, Verdict.NOT_VERIFIED], Verdict.NOT_VERIFIED),
        ([Verdict.VERIFIED, Verdict.UNREADABLE], Verdict.UNREADABLE),
        ([Verdict.UNREADABLE, Verdict.NOT_VERIFIED], Verdict.NOT_VERIFIED),
        ([], Verdict.NOT_VERIFIED),
    ],
    ids=str,
)
def test_the_verdict_of_a_whole_is_the_worst(streams: list[Verdict], whole: Verdict) -> None:
    assert worst(streams) is whole


def test_an_empty_log_gives_a_page() -> None:
    report = report_of(AuditStory())
    assert report.verdict is Verdict.EMPTY
    assert "No promotion is on record in the period." in page(report)
    json.loads(as_json(report))


# The same for the same


def test_no_secret_is_in_any_form() -> None:
    story = AuditStory()
    story.days(0.1)
    report = report_of(story)
    text = page(report) + as_json(report)
    for generation in (story.world.lock.record.current_generation or 0,):
        assert login_of(story.world, generation).password.reveal() not in text
