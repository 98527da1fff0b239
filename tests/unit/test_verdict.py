"""One verdict: the next run, what is the matter, the command that helps (ADR 84), and what the watch counts of it."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from msgspec import structs

from functions.watch.report import line
from lockstep.operate.documents import Run
from lockstep.operate.state import Answer, CredentialState, forecast, in_sync, lines, possible, state_of
from lockstep.operate.verdict import Kind, Verdict
from lockstep.operate.watch import COUNTED, METRICS, SHOWN, Expected, Found, watch
from lockstep.protocol import errors
from lockstep.protocol.deadlines import IMPORT_LEASE
from lockstep.protocol.model import Claim, ClaimKind, Credential, LockRecord, Login, SecretStr, StoredValue
from lockstep.protocol.ports import Table
from lockstep.stores.credential import StoredNames
from sandbox.emulators.aws.alarms import embedded
from tests.support.memory import make_plan
from tests.unit.test_plan_mistakes import ROOT

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SOON, BEFORE = NOW + timedelta(minutes=5), NOW - timedelta(minutes=5)
LOGIN = Login("app", SecretStr("a"))
CLAIM = Claim(kind=ClaimKind.NEW, generation=8, base_generation=7, rotation_id="run-8")
PLAN = make_plan()
PLANNED = PLAN.credentials[0]
OF = PLANNED.id
BOTH = frozenset(PLANNED.databases)


def stored(generation: int = 7, login: Login | None = LOGIN, blob: int | None = None) -> StoredValue:
    return StoredValue(
        login=login,
        generation=generation,
        blob_generation=generation if blob is None else blob,
        version=f"v{generation}",
    )


def record(**more: object) -> LockRecord:
    known = {"current_generation": 7, "valid": frozenset({6, 7}), "plan": PLANNED.plan_digest}
    return LockRecord(credential_id=OF, **{**known, **more})  # type: ignore[arg-type]


UNROTATED: dict[str, Any] = {"current_generation": None}
LEAKED: dict[str, Any] = {"revoke_through": 7}
YEAR = timedelta(days=365)
BY_A_WRONG_CLOCK: dict[str, Any] = {
    "holder": "run-8",
    "expires_at": NOW + YEAR,
    "next_due_at": NOW + YEAR,
    "not_before": NOW + YEAR,
}
UNUSABLE = replace(stored(0, login=None), malformed=errors.SecretMalformedError())
Forecast = tuple[LockRecord, list[StoredValue], bool, str, str | None]
FORECASTS: dict[str, Forecast] = {
    "due": (record(), [stored(), stored()], True, "rotate", None),
    "import": (record(**UNROTATED), [stored(0)], True, "reconcile", None),
    "not due": (record(next_due_at=SOON, not_before=BEFORE), [stored()], True, "rotate", "not due"),
    "overlap": (record(next_due_at=BEFORE, not_before=SOON), [stored()], True, "reconcile", None),
    "held": (record(holder="run-8", expires_at=SOON), [stored()], True, "rotate", "run-8 holds"),
    "no end": (record(holder="run-8"), [stored()], True, "rotate", None),
    "an end, a due time that cannot be": (record(**BY_A_WRONG_CLOCK), [stored()], True, "rotate", None),
    "holder is dead": (record(holder="run-8", expires_at=BEFORE), [stored()], True, "rotate", None),
    "half done": (record(claim=CLAIM, next_due_at=SOON), [stored(), stored()], True, "finish", None),
    "promoted": (record(claim=CLAIM, promoting=True), [stored(8), stored(8)], True, "reconcile", None),
    "half promoted": (record(claim=CLAIM, promoting=True), [stored(8), stored(7)], False, "reconcile", None),
    "edited": (record(), [stored(0), stored()], False, "reconcile", None),
    "no credential": (record(), [UNUSABLE, stored()], False, "reconcile", None),
    "edited everywhere": (record(), [stored(0), stored(0)], False, "reconcile", None),
    "blob behind": (record(), [stored(7, blob=6)], False, "reconcile", None),
    "placeholder": (record(**UNROTATED), [stored(0, login=None)], False, "stop", None),
    "bootstrap": (record(take_over=BOTH, **UNROTATED), [stored(0, login=None)], False, "rotate", None),
    "another plan": (record(plan="of-another-plan"), [stored()], True, "stop", None),
    "activation": (record(plan=None, activate=PLANNED.plan_digest), [stored()], True, "reconcile", None),
    "paused": (record(paused=True), [stored()], True, "rotate", "paused"),
    "emergency": (record(next_due_at=SOON, not_before=SOON, **LEAKED), [stored()], True, "rotate", None),
    "emergency, paused": (record(paused=True, **LEAKED), [stored()], True, "rotate", "paused"),
}


def names_of(value: StoredValue) -> StoredNames:
    return StoredNames(
        generation=value.generation, blob_generation=value.blob_generation, version=value.version
    )


DECIDED_BY_VALUES = {"import", "placeholder", "bootstrap"}
"""Nothing was rotated yet, so the stores hold what Lockstep did not write: names do not say what."""


@pytest.mark.parametrize("name", FORECASTS)
def test_the_forecast_follows_the_rules_and_names_tell_the_same_or_nothing(name: str) -> None:
    """By values it follows Acquire and Generate; what names tell is that, never something else (ADR 59)."""
    lock_record, values, expected_in_sync, action, waits_for = FORECASTS[name]
    by_values = possible({f"store-{n}": v for n, v in enumerate(values)})
    by_names = possible({f"store-{n}": names_of(v) for n, v in enumerate(values)})
    found, named = (forecast(lock_record, cases, PLANNED, now=NOW) for cases in (by_values, by_names))
    assert (in_sync(lock_record, by_values), found.action) == (expected_in_sync, action)
    assert (waits_for or "") in (found.waits_for.meaning if found.waits_for else "")
    assert (waits_for is None) == (found.waits_for is None) == (named.waits_for is None)
    if name in DECIDED_BY_VALUES:
        assert (in_sync(lock_record, by_names), named.action) == (None, None)
        assert "if the stores hold placeholders only" in named.meaning
    else:
        assert (in_sync(lock_record, by_names), named.action) == (expected_in_sync, action)


# What a person is told of it


def said(lock_record: LockRecord, last_run: Run | None = None, *, has_standby: bool = True) -> list[str]:
    plan, table = make_plan(stores=2 if has_standby else 1), Table(records={OF: lock_record}, unreadable={})
    found = state_of(plan, table, PLANNED, NOW, runs=[last_run] if last_run else [])
    return list(lines(found, NOW))


PROVEN = Run(
    credential=OF,
    cloud="aws",
    seq=7,
    rotation_id="run-7",
    ended_at=datetime(2026, 1, 1, tzinfo=UTC),
    outcome="rotated",
    kind="new",
    generation=7,
    base_generation=6,
)
PAIR = record(valid=frozenset({6, 7}), not_before=SOON)
OLDER = replace(PAIR, valid=frozenset({5, 6, 7}))
PROMOTING = replace(PAIR, claim=CLAIM, promoting=True, valid=frozenset({6, 7, 8}))
RECONCILE = structs.replace(PROVEN, kind="reconcile")
MAY_BE = "may be valid; no run ends it before "
VALIDITY: dict[str, tuple[LockRecord, Run | None, list[str]]] = {
    "proven": (OLDER, PROVEN, ["6: proven by the last run, valid until ", f"5: {MAY_BE}"]),
    "a reconcile proves nothing of the one before": (OLDER, RECONCILE, [f"6: {MAY_BE}", f"5: {MAY_BE}"]),
    "the last run is of another generation": (PAIR, structs.replace(PROVEN, generation=6), [f"6: {MAY_BE}"]),
    "no run is on record": (PAIR, None, [f"6: {MAY_BE}"]),
    "the overlap is over": (replace(PAIR, not_before=BEFORE), PROVEN, ["6: may be valid; the next rotation"]),
    "an emergency": (replace(PAIR, revoke_through=6), PROVEN, ["6: must be revoked, by the emergency order"]),
    # The record counts it as valid, and it follows the current one (protocol C11).
    "in promotion": (PROMOTING, PROVEN, ["6: proven by the last run"]),
}


@pytest.mark.parametrize(("lock_record", "last_run", "expected"), VALIDITY.values(), ids=VALIDITY)
def test_only_what_the_last_run_has_proven_is_valid(
    lock_record: LockRecord, last_run: Run | None, expected: list[str]
) -> None:
    found = [told for told in said(lock_record, last_run) if told.startswith("previous generation ")]
    assert len(found) == len(expected)
    for told, begins in zip(found, expected, strict=True):
        assert told.startswith(f"previous generation {begins}")


LATER = NOW + timedelta(minutes=18)


@pytest.mark.parametrize(
    ("found", "has_standby", "ends"),
    [
        (record(next_due_at=SOON), True, "; the turn of oci, the standby"),
        (record(next_due_at=SOON), False, "; the turn of aws"),
        (record(next_due_at=LATER), True, "; the turn of aws"),
        (record(next_due_at=SOON, not_before=LATER), True, "; the turn of aws"),
        (record(next_due_at=BEFORE, paused=True), True, "; paused, so no scheduled run begins"),
        (record(next_due_at=BEFORE), True, ", overdue; the turn of aws"),
    ],
)
def test_whose_turn_it_is(found: LockRecord, ends: str, *, has_standby: bool) -> None:
    [due] = [told for told in said(found, has_standby=has_standby) if told.startswith("next due")]
    assert due.endswith(f"){ends}")


# Incidents

DATABASE, *_ = sorted(BOTH)
RUN = f"lockstep rotate {OF} --force"
STEADY = record(next_due_at=SOON, not_before=SOON, valid=frozenset({6, 7}), highest_generation=7)
LONG_AGO = NOW - timedelta(days=2)
Answers = Mapping[str, Answer]


def serving(aws: int, oci: int) -> Answers:
    return {"aws": names_of(stored(aws)), "oci": names_of(stored(oci))}


IN_SYNC, NOT_OURS = serving(7, 7), serving(0, 0)
MALFORMED: Answers = {**IN_SYNC, "aws": errors.SecretMalformedError()}
NO_ADDRESSES: Answers = {
    **IN_SYNC,
    "aws": errors.SecretMalformedError(secret=PLANNED.secret_names.connection_blob),
}
NO_BLOB = replace(stored(), malformed=errors.SecretMalformedError())
SECRET_GONE: Answers = {**IN_SYNC, "aws": errors.SecretNotFoundError()}
UNREACHED: Answers = {**IN_SYNC, "aws": errors.StoreUnreachableError()}
PLACEHOLDERS: Answers = dict.fromkeys(("aws", "oci"), stored(0, login=None))
ONE_PLACEHOLDER: Answers = {**PLACEHOLDERS, "oci": stored(7)}
IMPORTED: Answers = dict.fromkeys(("aws", "oci"), stored(0))
CHANGED, LOCKED, NEEDED = "CurrentCredentialRejectedError", "AccountLockedError", "TakeOverNeededError"
UNREACHABLE, CONTENT, ANOTHER = "StoreUnreachableError", "SecretMalformedError", "of-another"
NEVER = record(current_generation=None)


class Incident(NamedTuple):
    """The record, what the stores serve, the error of the last run, and what is the matter, with what helps."""

    record: LockRecord
    answers: Answers
    error: str | None
    reasons: list[tuple[Kind, str]]


def matter(
    helps: str,
    *kinds: Kind,
    of: LockRecord = STEADY,
    served: Answers = IN_SYNC,
    error: str | None = None,
    **changes: object,
) -> Incident:
    return Incident(replace(of, **changes), served, error, [(kind, helps) for kind in kinds])  # type: ignore[arg-type]  # fields


REFUSED, OUT_OF_SYNC, FAILED, NEW = Kind.REFUSED, Kind.OUT_OF_SYNC, Kind.FAILED, Kind.NEW
EDITED, LOST = (OUT_OF_SYNC, OUT_OF_SYNC), (Kind.NO_LOGIN, Kind.OVERDUE)
IMPORT, REPLACE = f"lockstep import {OF}", f"lockstep import {OF} --replace"
LOOK, WAIT = f"lockstep status {OF} --read-values", f"lockstep status {OF} --watch"
ACTIVATE = f"lockstep apply {OF} --from {ANOTHER}"
FIRST, DOCTOR, RESUME = f"lockstep apply {OF}", "lockstep doctor", f"lockstep resume {OF}"
CREATE = "lockstep secrets create"
LATE = replace(STEADY, next_due_at=LONG_AGO, not_before=LONG_AGO)
EMPTY = LockRecord(credential_id=OF)
RUNS_FIRST = replace(NEVER, holder="r", expires_at=SOON)
ONE = frozenset({DATABASE})
AGREED_ON_ONE = replace(NEVER, take_over=ONE)
REST = f"lockstep take-over {OF} {' '.join(sorted(BOTH - ONE))}"
PASSED_OVER: dict[str, Any] = {"take_over": ONE, "revoke_through": 6, "valid": frozenset({7})}
INCIDENTS: dict[str, Incident] = {
    "nothing": matter(RUN),
    "a run is under way": matter(RUN, served=serving(8, 7), holder="r", expires_at=SOON, claim=CLAIM),
    "a fail-over that the last run has mended": matter(RUN, valid=frozenset({5, 6, 7})),
    "a database refuses what is served": matter(f"{DOCTOR} --only database.login", REFUSED, error=CHANGED),
    "the same, with consent": matter(RUN, REFUSED, Kind.TAKE_OVER, error=CHANGED, take_over=ONE),
    "the same, under another plan": matter(ACTIVATE, REFUSED, Kind.OTHER_PLAN, error=CHANGED, plan=ANOTHER),
    "an account is locked": matter(RUN, REFUSED, error=LOCKED),
    "what was refused is not served": matter(RUN, *EDITED, FAILED, served=NOT_OURS, error=LOCKED),
    "a store has a placeholder": matter(RUN, Kind.NO_LOGIN, served=ONE_PLACEHOLDER),
    "an empty secret, and overdue": matter(REPLACE, *LOST, served=MALFORMED, of=LATE),
    "a text that is no credential": matter(RUN, Kind.NO_LOGIN, served={**IN_SYNC, "aws": UNUSABLE}),
    "the same in the second secret": matter(RUN, OUT_OF_SYNC, served={**IN_SYNC, "aws": NO_BLOB}),
    "the same, and never rotated": Incident(
        NEVER, {**IMPORTED, "aws": UNUSABLE}, None, [(Kind.UNREACHABLE, REPLACE), (NEW, IMPORT)]
    ),
    "a revoked generation is served": matter(RUN, Kind.REVOKED, served=serving(5, 7)),
    "the newest, which was revoked": matter(RUN, Kind.REVOKED, served=serving(8, 7), highest_generation=8),
    "what Lockstep never made": matter(REPLACE, OUT_OF_SYNC, served=serving(5_000, 7), error=CONTENT),
    "a secret is gone": matter(CREATE, Kind.NO_LOGIN, served=SECRET_GONE),
    "a secret is gone, and was never written": Incident(
        NEVER, SECRET_GONE, None, [(Kind.UNREACHABLE, CREATE), (NEW, IMPORT)]
    ),
    "a secret was edited": matter(RUN, OUT_OF_SYNC, served=serving(0, 7)),
    "one store does not answer": matter(DOCTOR, Kind.UNREACHABLE, served=UNREACHED, error=UNREACHABLE),
    "the store answers again": matter(RUN, FAILED, error=UNREACHABLE),
    "one cloud has an older plan": matter(RUN, FAILED, error="PlanNotActiveError"),
    "there is no room until the overlap is over": matter(WAIT, REFUSED, error="NoRoomError"),
    "no store has anything that a run can use": Incident(
        STEADY, NOT_OURS, "StoresDivergedError", [*((kind, RUN) for kind in EDITED), (FAILED, LOOK)]
    ),
    "never rotated, and nothing works": matter(LOOK, FAILED, NEW, of=NEVER, served=NOT_OURS, error=NEEDED),
    "the second secret is malformed": matter(DOCTOR, OUT_OF_SYNC, served=NO_ADDRESSES),
    "a run has died": matter(RUN, Kind.UNFINISHED, holder="run-8", expires_at=BEFORE, claim=CLAIM),
    "the lock never ends": matter(RUN, holder="run-8"),
    "times that cannot be": matter(RUN, Kind.OVERDUE, **BY_A_WRONG_CLOCK),
    "an import is under way": matter(RUN, holder="order", expires_at=NOW + IMPORT_LEASE),
    "another plan is active": matter(ACTIVATE, Kind.OTHER_PLAN, error="PlanNotActiveError", plan=ANOTHER),
    "no plan is active": matter(FIRST, Kind.OTHER_PLAN, of=EMPTY, served=NOT_OURS),
    "this plan is to become the active one": matter(RUN, plan=ANOTHER, activate=PLANNED.plan_digest),
    "never rotated, by the names": matter(LOOK, NEW, of=NEVER, served=NOT_OURS),
    "never rotated, and nothing is there": matter(IMPORT, NEW, of=NEVER, served=PLACEHOLDERS),
    "never rotated, and the login is there": matter(RUN, NEW, of=NEVER, served=IMPORTED),
    "never rotated, with consent": matter(RUN, NEW, of=NEVER, served=NOT_OURS, take_over=BOTH),
    "the same, on one database": matter(
        REST, FAILED, NEW, of=AGREED_ON_ONE, served=PLACEHOLDERS, error=NEEDED
    ),
    "the same, by the names": matter(LOOK, NEW, of=AGREED_ON_ONE, served=NOT_OURS),
    "never rotated, and the first run is under way": matter(WAIT, NEW, of=RUNS_FIRST, served=IMPORTED),
    "an emergency has passed over a database": matter(RUN, Kind.TAKE_OVER, **PASSED_OVER),
    "paused": matter(RESUME, Kind.PAUSED, paused=True),
    "an emergency": matter(RUN, Kind.EMERGENCY, **LEAKED),
    "an emergency, and consent": matter(RUN, Kind.EMERGENCY, take_over=BOTH, **LEAKED),
    "an emergency that is over": matter(RUN, revoke_through=5),
    "overdue": matter(RUN, Kind.OVERDUE, of=LATE),
    "the last run failed": matter(RUN, FAILED, error="DatabaseUnreachableError"),
}
DOWN = {Kind.REFUSED, Kind.NO_LOGIN, Kind.REVOKED}


def state(row: Incident, *, unread: Mapping[str, errors.LockstepError] | None = None) -> CredentialState:
    failed = structs.replace(
        PROVEN, outcome="failed", error=row.error, advice=errors.advice_of(row.error or "")
    )
    runs = [failed] if row.error else []
    table = Table(records={OF: row.record}, unreadable={})
    return state_of(PLAN, table, PLANNED, NOW, answers=row.answers, runs=runs, unread=unread or {})


@pytest.mark.parametrize("row", INCIDENTS.values(), ids=INCIDENTS)
def test_an_incident_has_one_verdict_with_its_reasons_and_what_helps(row: Incident) -> None:
    found, expected = state(row), row.reasons
    assert [(reason.kind, reason.next) for reason in found.reasons] == expected
    kinds = {kind for kind, _ in expected}
    # No step is a run that would change nothing.
    if found.next_run and found.next_run.action == "stop":
        assert (found.verdict is Verdict.HEALTHY, RUN in {step for _, step in expected}) == (False, False)
    assert [kind for kind, _ in expected] == sorted((k for k, _ in expected), key=list(Kind).index)
    assert found.verdict is (Verdict.DOWN if kinds & DOWN else Verdict.DEGRADED if kinds else Verdict.HEALTHY)


@pytest.mark.parametrize("row", INCIDENTS.values(), ids=INCIDENTS)
def test_the_watch_says_of_the_record_what_the_state_says(row: Incident) -> None:
    """What alarms go by is of the state, less what the lock record does not say; also by which way it ends."""
    no_run = any(isinstance(a, errors.SecretMalformedError) for a in row.answers.values())
    # The table does not know that.
    found = look(row.record, replace(STEADY, credential_id="other"), others=frozenset({"other"}))
    told, by_watch = (
        {(r.kind, r.place, no_run or r.kind is Kind.NEW or r.next) for r in reasons if r.kind in METRICS}
        for reasons in (state(row).reasons, found.reasons.get(OF, []))
    )
    assert by_watch == told - {one for one in told if one[0] is Kind.REFUSED and not one[1]}


def test_a_log_that_does_not_answer_is_told() -> None:
    row = INCIDENTS["nothing"]
    [reason] = state(row, unread={"aws": errors.AuditLogUnreachableError()}).reasons
    assert reason.kind is Kind.UNRECORDED
    # One that may not be read is not.
    assert state(row, unread={"aws": errors.AuditLogAccessDeniedError()}).verdict is Verdict.HEALTHY


def test_troubleshooting_has_each_reason_and_begins_each_symptom_with_a_command() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    symptoms = page.split("\n## ")[1:]
    assert [s for s in symptoms if not re.match(r".+\n\n`lockstep [^`]+`\n\n", s)] == []
    told = [kind for s in symptoms if "Reason: " in s for kind in re.findall(r"\*([a-z -]+)\*", s.lower())]
    assert {*told} == {*Kind}


# What the watch counts in a lock table

INTERVAL = PLANNED.schedule.interval
OTHER = structs.replace(PLANNED, id="other")
TWO = (PLANNED, OTHER)
ROTATED = record(next_due_at=NOW + INTERVAL / 2, not_before=NOW + INTERVAL / 4, rotated_by="f-1-0a1b")
UNKNOWN = LockRecord(credential_id=OF, plan=PLANNED.plan_digest)
TO_BE_ACTIVE = LockRecord(credential_id=OF, activate=PLANNED.plan_digest)
UNREADABLE = {OF: "NewerFormatError"}
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
STALE_AFTER = INTERVAL + PLANNED.schedule.tolerance
"""After its due time: it is due an interval, less the tolerance, after its last rotation began."""


def look(
    *records: LockRecord,
    credentials: tuple[Credential, ...] = (PLANNED,),
    unreadable: Mapping[str, str] | None = None,
    schedules: bool = True,
    canary: str | None = None,
    others: frozenset[str] = frozenset(),
) -> Found:
    table = Table(records={r.credential_id: r for r in records}, unreadable=unreadable or {})
    expected = Expected(credentials=credentials, schedules=schedules, canary=canary, others=others)
    return watch(table, expected, now=NOW)


def due_since(ago: timedelta, **more: object) -> LockRecord:
    return replace(ROTATED, next_due_at=NOW - ago, not_before=NOW - timedelta(days=10), **more)  # type: ignore[arg-type]


OLD = due_since(timedelta(days=9))
ROWS: dict[str, tuple[LockRecord, set[str]]] = {
    "in sync": (ROTATED, set()),
    "due, and not yet stale": (due_since(STALE_AFTER - SECOND), set()),
    "stale": (due_since(STALE_AFTER), {"StaleCredentials"}),
    "the overlap moves the due time": (
        replace(ROTATED, next_due_at=NOW - 2 * INTERVAL, not_before=NOW),
        set(),
    ),
    "a due time out of reach, by a clock that was ahead": (due_since(-YEAR), {"StaleCredentials"}),
    "a clock that is a little ahead": (due_since(-INTERVAL - MINUTE), set()),
    "never rotated, with consent": (replace(UNKNOWN, take_over=ONE), {"UnrotatedCredentials"}),
    "paused, however stale": (replace(OLD, paused=True), {"PausedCredentials"}),
    "to become active, and never rotated": (TO_BE_ACTIVE, {"UnrotatedCredentials"}),
    "another plan is active": (replace(ROTATED, plan="another"), {"PlanNotActiveCredentials"}),
    "an emergency": (replace(ROTATED, revoke_through=6), {"RevokingCredentials"}),
    "consent": (replace(ROTATED, take_over=ONE), {"TakeOverDatabases"}),
    "consent for a database that left the plan": (replace(ROTATED, take_over=frozenset({"gone"})), set()),
}


def test_a_record_counts_as() -> None:
    for name, (one, kinds) in ROWS.items():
        found = look(one)
        assert (set(found.ids), {name for name in COUNTED if found.metrics[name]}) == (kinds, kinds), name


def test_nothing_is_stale_or_missing_while_schedules_are_off() -> None:
    for records in ((OLD,), (UNKNOWN,), (LockRecord(credential_id=OF),), ()):
        assert look(*records, schedules=False).ids == {}


def test_a_lost_table_makes_every_credential_stale_and_is_judged_by_all_of_the_plan() -> None:
    left_by_a_run = LockRecord(credential_id=OTHER.id, fence=1)
    for records in ((), (left_by_a_run,)):
        found = look(*records, credentials=TWO)
        assert found.metrics["StaleCredentials"] == found.metrics["PlanNotActiveCredentials"] == 2
    # A new credential beside others is not a lost table, whichever are looked at.
    some = look(ROTATED, credentials=(OTHER,), others=frozenset({OF}))
    for found in (look(ROTATED, credentials=TWO), some):
        assert found.ids == {"PlanNotActiveCredentials": [OTHER.id]}
    lost = look(credentials=(OTHER,), others=frozenset({OF}))
    assert (lost.metrics["Credentials"], lost.metrics["StaleCredentials"]) == (1, 1)


def test_what_cannot_be_read_is_counted_and_what_is_not_in_the_plan_is_not() -> None:
    assert look(unreadable=UNREADABLE).ids == {"UnreadableRecords": [f"{OF}: NewerFormatError"]}
    assert (
        look(ROTATED, replace(OLD, credential_id="gone"), unreadable={"foreign": "NewerFormatError"}).ids
        == {}
    )


def test_the_canary_is_as_old_as_the_last_rotation_if_that_was_in_aws() -> None:
    """A rotation of the standby does not show that a deployment works."""
    by_aws = replace(ROTATED, rotated_at=NOW - 90 * SECOND)
    for known in (by_aws, replace(by_aws, paused=True)):
        assert look(known, canary=OF).metrics["CanarySeconds"] == 90
    for nothing in (
        look(by_aws),
        look(replace(by_aws, rotated_by="1f0e.0"), canary=OF),
        look(UNKNOWN, canary=OF),
        look(unreadable=UNREADABLE, canary=OF),
    ):
        assert "CanarySeconds" not in nothing.metrics


def test_a_hundred_stale_credentials_make_one_short_line_of_which_cloudwatch_takes_every_metric() -> None:
    many = tuple(structs.replace(PLANNED, id=f"team/{n}") for n in range(100))
    found = look(*(replace(OLD, credential_id=c.id) for c in many), credentials=many)
    text = line(found, stack="lockstep", now=NOW)
    document = json.loads(text)
    *shown, more = document["ids"]["StaleCredentials"]
    assert (document["StaleCredentials"], len(shown), more) == (100, SHOWN, "and 80 more")
    assert len(text) < 4000
    points = embedded(text, now=NOW.timestamp())
    assert {p.name for p in points} == {*COUNTED, "Credentials"}
    assert {p.namespace for p in points} == {"Lockstep/lockstep"}
    assert {p.dimensions for p in points} == {frozenset({("Stack", "lockstep")})}
