"""The audit report over real chains of simulated days: its figures, and what it does with doubtful evidence."""

import json
from collections.abc import Sequence
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


def test_every_run_on_record_is_counted_once() -> None:
    report = report_of(told())
    events = {s: [e.event for e in entries(told().world, s)] for s in ("aws", "oci")}
    runs = {s: [e for e in es if e["activity_id"] == 3] for s, es in events.items()}
    rotated = {s: sum(e["status"] == "Success" for e in es) for s, es in runs.items()}
    (credential,) = report.credentials
    assert credential.figures.rotated == rotated
    assert rotated["oci"] > 15
    assert (
        credential.figures.failed == sum(e["status"] == "Failure" for es in runs.values() for e in es) == 25
    )
    assert len(credential.runs) == sum(map(len, runs.values()))
    assert sum(rotated.values()) == credential.figures.rotations
    assert report.verdict is Verdict.VERIFIED


def test_each_gap_says_what_the_log_knows_of_it() -> None:
    report = one(told())
    failed, paused, database, silent = report.gaps
    assert failed.why == (
        "StoreUnreachableError in OCI: 9 failed runs",
        "StoreUnreachableError in AWS: 8 failed runs",
    )
    assert paused.why[0].startswith("paused by an operator from ")
    assert database.why[0] == "DatabaseUnreachableError in AWS: 4 failed runs"
    assert silent.why == ("no run is on record in it",)
    assert all(gap.end - gap.start > timedelta(minutes=41) for gap in report.gaps)
    assert report.figures.longest_age_seconds == max(g.end - g.start for g in report.gaps).total_seconds()


def test_a_standby_that_steps_in_leaves_no_gap() -> None:
    story = AuditStory()
    story.run()
    story.days(1, aws=lambda n: n == 0)
    report = one(story)
    assert report.figures.rotated["oci"] > 40
    assert report.gaps == ()
    assert report.figures.longest_between_seconds is not None
    assert report.figures.longest_between_seconds <= report.figures.between_limit_seconds == 42 * 60


def test_the_password_is_as_old_as_the_time_since_its_promotion() -> None:
    assert min(life.age_seconds for life in one(told()).generations[2:-1]) == INTERVAL_SECONDS
    story = quiet_days(0.5)
    age = one(story).figures.longest_age_seconds
    assert age is not None
    # The first run, a reconcile, is quicker.
    assert INTERVAL_SECONDS <= age < INTERVAL_SECONDS + 10
    story.world.clock.sleep(3 * 3600)
    (gap,) = one(story).gaps
    assert (gap.is_open, gap.end) == (True, story.now)
    assert '<td data-name="Until"><span>not over</span>' in page(report_of(story))


def test_each_generation_lives_until_its_login_is_refused() -> None:
    report = one(told())
    *old, previous, current = report.generations
    assert current.superseded is None
    assert (previous.superseded, previous.revoked) == (current.promoted, None)
    for life, after in pairwise(old):
        assert life.superseded == after.promoted
        assert life.revoked is not None
        assert life.revocation in {"refused", "revoked"}
    figures = report.figures
    assert figures.proven_revoked == sum(life.revocation == "refused" for life in old)
    assert (figures.unproven, figures.short_overlaps) == ((), 0)
    assert figures.shortest_overlap_seconds is not None
    assert figures.shortest_overlap_seconds >= report.credential.overlap_seconds


def test_a_generation_that_nobody_has_shown_to_be_revoked_is_named() -> None:
    story = quiet_days(0.2)
    shown, read = one(story).generations[3].generation, story.verify()
    for entry in read[0].entries:
        entry.event["unmapped"]["lockstep"]["databases"]["db-2"]["revoked"].pop(str(shown), None)
    assert one(story, read).figures.unproven == (shown,)
    assert "1 generation without proof" in page(report_of(story, read))


def test_a_revocation_waits_for_no_overlap_and_shortens_none() -> None:
    story = quiet_days(0.2)
    story.run("oci", trigger="cli", force=True)
    before = one(story).figures.shortest_overlap_seconds
    story.revoke()
    story.days(0.1)
    report = one(story)
    overlaps = [life.overlap_seconds for life in report.generations if life.revocation == "revoked"]
    assert overlaps == [None] * len(overlaps) != []
    assert (report.figures.shortest_overlap_seconds, report.figures.short_overlaps) == (before, 0)


def test_a_period_shows_only_what_is_in_it() -> None:
    whole, last = one(told()), one(told(), days=0.2)
    assert 0 < len(last.runs) < len(whole.runs)
    assert all(run.at >= told().now - 0.2 * DAY for run in last.runs)
    assert last.figures.longest_age_seconds is not None
    assert (last.verdict, last.checks) == (Verdict.VERIFIED, whole.checks)


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
    assert "AuditLogUnreachableError: The audit log or its signing key did not answer." in page(report)


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


def test_an_empty_log_gives_a_page_and_no_form_has_a_secret() -> None:
    report = report_of(AuditStory())
    assert report.verdict is Verdict.EMPTY
    assert "No promotion is on record in the period." in page(report)
    json.loads(as_json(report))
    story = quiet_days(0.1)
    text = page(report_of(story)) + as_json(report_of(story))
    current = story.world.lock.record.current_generation
    assert current
    assert login_of(story.world, current).password.reveal() not in text
