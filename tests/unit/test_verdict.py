"""One verdict: what is the matter, and the command that helps, as every surface has it (ADR 84)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.operate.documents import Run
from lockstep.operate.state import Answer, CredentialState, StoreSnapshot, state_of
from lockstep.operate.verdict import Kind, Verdict, ranked, verdict_of
from lockstep.operate.watch import METRICS, Expected, watch
from lockstep.protocol.deadlines import IMPORT_LEASE
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    LockstepError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreUnreachableError,
    advice_of,
    told_errors,
)
from lockstep.protocol.model import LockRecord
from lockstep.protocol.ports import Table
from tests.unit.test_cli import BEFORE, BOTH, CLAIM, NOW, PLANNED, SOON, names_of, record, stored

OF = PLANNED.id
DATABASE, *_ = sorted(BOTH)
RUN, TAKE_OVER = f"lockstep rotate {OF} --force", f"lockstep take-over {OF} {' '.join(sorted(BOTH))}"
STEADY = record(next_due_at=SOON, not_before=SOON, valid=frozenset({6, 7}), highest_generation=7)
LONG_AGO = NOW - timedelta(days=2)


def serving(*generations: int) -> dict[str, Answer]:
    return {
        store: names_of(stored(generation))
        for store, generation in zip(("aws", "oci"), generations, strict=False)
    }


def failed(error: str) -> Run:
    return Run(
        credential=OF,
        cloud="aws",
        seq=9,
        rotation_id="run-9",
        ended_at=datetime(2026, 1, 1, tzinfo=UTC),
        outcome="failed",
        error=error,
        meaning="It failed.",
        advice=advice_of(error),
    )


IN_SYNC = serving(7, 7)
Row = tuple[LockRecord, Mapping[str, Answer], str | None, list[tuple[Kind, str]]]
"""The record, what the stores serve, the error of the last run, and what is the matter, with what helps."""
INCIDENTS: dict[str, Row] = {
    "nothing": (STEADY, IN_SYNC, None, []),
    "a run is under way": (
        replace(STEADY, holder="r", expires_at=SOON, claim=CLAIM),
        serving(8, 7),
        None,
        [],
    ),
    "a fail-over that the last run has mended": (
        replace(STEADY, valid=frozenset({5, 6, 7})),
        IN_SYNC,
        None,
        [],
    ),
    "a database refuses what is served": (
        replace(STEADY, blocked=BOTH),
        IN_SYNC,
        "DatabaseBlockedError",
        [(Kind.REFUSED, TAKE_OVER)] * len(BOTH),
    ),
    "the same, with consent": (
        replace(STEADY, blocked=BOTH, take_over=BOTH),
        IN_SYNC,
        "DatabaseBlockedError",
        [(Kind.REFUSED, RUN)] * len(BOTH),
    ),
    "the same, with a plan that is not active": (
        replace(STEADY, blocked=frozenset({DATABASE}), plan="of-another"),
        IN_SYNC,
        None,
        [(kind, f"lockstep apply {OF} --from of-another") for kind in (Kind.REFUSED, Kind.OTHER_PLAN)],
    ),
    "an account is locked": (STEADY, IN_SYNC, "AccountLockedError", [(Kind.REFUSED, RUN)]),
    "what was refused is no longer served": (
        STEADY,
        serving(0, 0),
        "AccountLockedError",
        [(Kind.OUT_OF_SYNC, RUN), (Kind.OUT_OF_SYNC, RUN), (Kind.FAILED, RUN)],
    ),
    "a store has a placeholder": (
        STEADY,
        {"aws": stored(0, login=None), "oci": stored(7)},
        None,
        [(Kind.NO_LOGIN, RUN)],
    ),
    "a secret is malformed": (
        STEADY,
        {"aws": SecretMalformedError(), "oci": names_of(stored(7))},
        None,
        [(Kind.NO_LOGIN, f"lockstep import {OF} --replace")],
    ),
    "a secret is malformed, and it is overdue": (
        replace(STEADY, next_due_at=LONG_AGO, not_before=LONG_AGO),
        {"aws": SecretMalformedError(), "oci": names_of(stored(7))},
        None,
        [(kind, f"lockstep import {OF} --replace") for kind in (Kind.NO_LOGIN, Kind.OVERDUE)],
    ),
    "a revoked generation is served": (STEADY, serving(5, 7), None, [(Kind.REVOKED, RUN)]),
    "a generation is served that Lockstep never made": (
        STEADY,
        serving(5_000, 7),
        "SecretMalformedError",
        [(Kind.OUT_OF_SYNC, f"lockstep import {OF} --replace")],
    ),
    "the one before is served": (STEADY, serving(6, 7), None, [(Kind.OUT_OF_SYNC, RUN)]),
    "a secret was edited": (STEADY, serving(0, 7), None, [(Kind.OUT_OF_SYNC, RUN)]),
    "one store does not answer": (
        STEADY,
        {"aws": StoreUnreachableError(), "oci": names_of(stored(7))},
        "StoreUnreachableError",
        [(Kind.UNREACHABLE, "lockstep doctor")],
    ),
    "the store answers again": (STEADY, IN_SYNC, "StoreUnreachableError", [(Kind.FAILED, RUN)]),
    "the database was unblocked, and no run has looked": (
        STEADY,
        IN_SYNC,
        "DatabaseBlockedError",
        [(Kind.REFUSED, RUN)],
    ),
    "one cloud has an older plan": (STEADY, IN_SYNC, "PlanNotActiveError", [(Kind.FAILED, RUN)]),
    "there is no room until the overlap is over": (
        STEADY,
        IN_SYNC,
        "NoRoomError",
        [(Kind.REFUSED, f"lockstep status {OF} --watch")],
    ),
    "no store has anything that a run can use": (
        STEADY,
        serving(0, 0),
        "StoresDivergedError",
        [
            (Kind.OUT_OF_SYNC, RUN),
            (Kind.OUT_OF_SYNC, RUN),
            (Kind.FAILED, f"lockstep status {OF} --read-values"),
        ],
    ),
    "nothing is known that works, and it was never rotated": (
        record(current_generation=None),
        serving(0, 0),
        "TakeOverNeededError",
        [(kind, f"lockstep status {OF} --read-values") for kind in (Kind.FAILED, Kind.NEW)],
    ),
    "the second secret is malformed": (
        STEADY,
        {
            "aws": SecretMalformedError(secret=PLANNED.secret_names.connection_blob),
            "oci": names_of(stored(7)),
        },
        None,
        [(Kind.OUT_OF_SYNC, "lockstep doctor")],
    ),
    "a run has died": (
        replace(STEADY, holder="run-8", expires_at=BEFORE, claim=CLAIM),
        IN_SYNC,
        None,
        [(Kind.UNFINISHED, RUN)],
    ),
    "the lock never ends": (
        replace(STEADY, holder="run-8"),
        IN_SYNC,
        None,
        [(Kind.STUCK, f"lockstep lock release {OF} --holder run-8")],
    ),
    "another plan is active": (
        replace(STEADY, plan="of-another"),
        IN_SYNC,
        "PlanNotActiveError",
        [(Kind.OTHER_PLAN, f"lockstep apply {OF} --from of-another")],
    ),
    "no plan is active": (
        LockRecord(credential_id=OF),
        serving(0, 0),
        None,
        [(Kind.OTHER_PLAN, f"lockstep apply {OF}")],
    ),
    "this plan is to become the active one": (
        replace(STEADY, plan="of-another", activate=PLANNED.plan_digest),
        IN_SYNC,
        None,
        [],
    ),
    "never rotated, by the names": (
        record(current_generation=None),
        serving(0, 0),
        None,
        [(Kind.NEW, f"lockstep status {OF} --read-values")],
    ),
    "never rotated, and nothing is there": (
        record(current_generation=None),
        {"aws": stored(0, login=None), "oci": stored(0, login=None)},
        None,
        [(Kind.NEW, f"lockstep import {OF}")],
    ),
    "the lock is held for longer than a run may": (
        replace(STEADY, holder="run-8", expires_at=NOW + timedelta(days=365)),
        IN_SYNC,
        None,
        [(Kind.STUCK, f"lockstep lock release {OF} --holder run-8")],
    ),
    "never rotated, and the login is there": (
        record(current_generation=None),
        {"aws": stored(0), "oci": stored(0)},
        None,
        [(Kind.NEW, RUN)],
    ),
    "never rotated, with consent": (
        record(current_generation=None, take_over=BOTH),
        serving(0, 0),
        None,
        [(Kind.NEW, RUN)],
    ),
    "never rotated, with consent on one database alone": (
        record(current_generation=None, take_over=frozenset({DATABASE})),
        {"aws": stored(0, login=None), "oci": stored(0, login=None)},
        "TakeOverNeededError",
        [
            (kind, f"lockstep take-over {OF} {' '.join(sorted(BOTH - {DATABASE}))}")
            for kind in (Kind.FAILED, Kind.NEW)
        ],
    ),
    "the same, by the names": (
        record(current_generation=None, take_over=frozenset({DATABASE})),
        serving(0, 0),
        None,
        [(Kind.NEW, f"lockstep status {OF} --read-values")],
    ),
    "never rotated, and the first run is under way": (
        record(current_generation=None, holder="r", expires_at=SOON),
        {"aws": stored(0), "oci": stored(0)},
        None,
        [(Kind.NEW, f"lockstep status {OF} --watch")],
    ),
    "an import is under way": (
        replace(STEADY, holder="order", expires_at=NOW + IMPORT_LEASE),
        IN_SYNC,
        None,
        [],
    ),
    "the lock never ends, and a revoked generation is served": (
        replace(STEADY, holder="run-8"),
        serving(5, 7),
        None,
        [(kind, f"lockstep lock release {OF} --holder run-8") for kind in (Kind.REVOKED, Kind.STUCK)],
    ),
    "an emergency has left out a database": (
        replace(
            STEADY, revoke_through=6, valid=frozenset({7}), without=frozenset({DATABASE}), take_over=BOTH
        ),
        IN_SYNC,
        None,
        [(Kind.REFUSED, RUN)],
    ),
    "paused": (replace(STEADY, paused=True), IN_SYNC, None, [(Kind.PAUSED, f"lockstep resume {OF}")]),
    "an emergency": (replace(STEADY, revoke_through=7), IN_SYNC, None, [(Kind.EMERGENCY, RUN)]),
    "an emergency without a database that is blocked": (
        replace(STEADY, revoke_through=7, without=BOTH, blocked=BOTH, take_over=BOTH),
        IN_SYNC,
        None,
        [(Kind.EMERGENCY, RUN)],
    ),
    "an emergency that is over": (replace(STEADY, revoke_through=5), IN_SYNC, None, []),
    "overdue": (
        replace(STEADY, next_due_at=LONG_AGO, not_before=LONG_AGO),
        IN_SYNC,
        None,
        [(Kind.OVERDUE, RUN)],
    ),
    "the last run failed": (STEADY, IN_SYNC, "DatabaseUnreachableError", [(Kind.FAILED, RUN)]),
}
DOWN = {Kind.REFUSED, Kind.NO_LOGIN, Kind.REVOKED}

ANSWERS: st.SearchStrategy[Answer] = st.one_of(
    st.integers(0, 9).map(lambda generation: names_of(stored(generation))),
    st.sampled_from(
        [
            SecretMalformedError(),
            SecretMalformedError(secret=PLANNED.secret_names.connection_blob),
            SecretNotFoundError(),
            StoreUnreachableError(),
            stored(0, login=None),
        ]
    ),
)
SETS = st.frozensets(st.sampled_from(sorted(BOTH)))
RECORDS = st.builds(
    replace,
    st.sampled_from([STEADY, record(current_generation=None), replace(STEADY, holder="r", expires_at=SOON)]),
    plan=st.sampled_from([None, "of-another", PLANNED.plan_digest]),
    activate=st.sampled_from([None, PLANNED.plan_digest]),
    claim=st.sampled_from([None, CLAIM]),
    paused=st.booleans(),
    revoke_through=st.none() | st.integers(5, 7),
    take_over=SETS,
    without=SETS,
    blocked=SETS,
)


def state(row: Row, *, unread: Mapping[str, LockstepError] | None = None) -> CredentialState:
    lock_record, answers, error, _ = row
    depth = "values" if any(hasattr(a, "login") for a in answers.values()) else "names"
    look = StoreSnapshot(depth=depth, answers=answers, pending_since=None)  # type: ignore[arg-type]  # one of two words
    last_run = failed(error) if error else None
    return state_of(lock_record, PLANNED, look, NOW, has_standby=True, last_run=last_run, unread=unread or {})


@pytest.mark.parametrize("row", INCIDENTS.values(), ids=INCIDENTS)
def test_an_incident_has_one_verdict_with_its_reasons_and_what_helps(row: Row) -> None:
    found, expected = state(row), row[-1]
    assert [(reason.kind, reason.next) for reason in found.reasons] == expected
    kinds = {kind for kind, _ in expected}
    assert found.verdict is (Verdict.DOWN if kinds & DOWN else Verdict.DEGRADED if kinds else Verdict.HEALTHY)


@pytest.mark.parametrize("row", INCIDENTS.values(), ids=INCIDENTS)
def test_the_watch_says_of_the_record_what_the_state_says(row: Row) -> None:
    """What alarms go by is of the state, less what the lock record does not say; also by which way it ends."""
    lock_record, answers, *_ = row
    no_run = any(
        isinstance(a, SecretMalformedError) for a in answers.values()
    )  # The table does not know that.
    other = replace(STEADY, credential_id="other")
    expected = Expected(credentials=[PLANNED], schedules=True, others={other.credential_id})
    found = watch(Table(records={OF: lock_record, "other": other}, unreadable={}), expected, now=NOW)
    told, by_watch = (
        {(r.kind, r.place, no_run or r.kind is Kind.NEW or r.next) for r in reasons if r.kind in METRICS}
        for reasons in (state(row).reasons, found.reasons.get(OF, []))
    )
    by_last_run = {one for one in told if one[0] is Kind.REFUSED and not one[1]}
    assert by_watch == told - by_last_run


def test_a_secret_that_is_gone_is_down_once_it_was_rotated() -> None:
    answers: dict[str, Answer] = {"aws": SecretNotFoundError(), "oci": names_of(stored(7))}
    for lock_record, kind in ((STEADY, Kind.NO_LOGIN), (record(current_generation=None), Kind.UNREACHABLE)):
        [reason] = [r for r in state((lock_record, answers, None, [])).reasons if r.place]
        assert (reason.kind, reason.next) == (kind, "lockstep secrets create")


def test_a_log_that_does_not_answer_is_told_and_one_that_may_not_be_read_is_not() -> None:
    row = INCIDENTS["nothing"]
    assert [r.kind for r in state(row, unread={"aws": AuditLogUnreachableError()}).reasons] == [
        Kind.UNRECORDED
    ]
    assert state(row, unread={"aws": AuditLogAccessDeniedError()}).verdict is Verdict.HEALTHY


def test_the_runbook_has_each_reason() -> None:
    page = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
    table = page.partition("### What is the matter")[2].partition("###")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert rows == [f"{kind} (down)" if kind in DOWN else kind for kind in Kind]


def test_the_gravest_reason_is_the_first_and_makes_the_verdict() -> None:
    found = [*state(INCIDENTS["paused"]).reasons, *state(INCIDENTS["an account is locked"]).reasons]
    assert [r.kind for r in ranked(found)] == [Kind.REFUSED, Kind.PAUSED]
    assert verdict_of(found) is Verdict.DOWN
    assert verdict_of([]) is Verdict.HEALTHY


@given(RECORDS, st.tuples(ANSWERS, ANSWERS), st.none() | st.sampled_from(sorted(told_errors())))
def test_no_step_is_a_run_that_would_change_nothing(
    found: LockRecord, answers: tuple[Answer, Answer], error: str | None
) -> None:
    judged = state((found, dict(zip(("aws", "oci"), answers, strict=True)), error, []))
    assert (
        judged.next_run is None or judged.next_run.action != "stop" or judged.verdict is not Verdict.HEALTHY
    )
    if judged.next_run and judged.next_run.action == "stop":
        assert RUN not in {reason.next for reason in judged.reasons}
