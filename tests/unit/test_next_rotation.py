"""What `lockstep status` says to a person: each sentence is true of the record and of what was read."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import jsonschema
import msgspec
import pytest

from lockstep.cli import status
from lockstep.operate import state
from lockstep.operate.documents import History, Run, Status
from lockstep.operate.state import Answer, StoreSnapshot, document, state_of
from lockstep.protocol.errors import (
    LockstepError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreUnreachableError,
)
from lockstep.protocol.model import LockRecord, StoredValue
from tests.support.documents import require_document
from tests.unit.test_cli import BEFORE, BOTH, CLAIM, FORECASTS, NOW, PLANNED, SOON, names_of, record, stored

NAMED = names_of(stored())
EDITED = names_of(stored(0, blob=7))


def lines(lock_record: LockRecord, *, has_standby: bool = True) -> list[str]:
    return list(state.lines(lock_record, PLANNED, NOW, has_standby=has_standby))


def shown(
    capsys: pytest.CaptureFixture[str], lock_record: LockRecord, **answers: Answer
) -> tuple[list[str], int | None]:
    """What is shown, and the exit code."""
    depth = "values" if any(isinstance(a, StoredValue) for a in answers.values()) else "names"
    look = StoreSnapshot(depth=depth, answers=answers, pending_since=None)  # type: ignore[arg-type]  # one of two words
    found = state_of(lock_record, PLANNED, look, NOW, has_standby=True, last_run=None, unread={})
    status._show(found, NOW)
    return capsys.readouterr().out.splitlines(), found.exit_code


# The record


def test_what_is_in_promotion_is_not_a_previous_generation() -> None:
    """The record counts it as valid, and it follows the current one (protocol C11)."""
    found = lines(record(claim=CLAIM, promoting=True, valid=frozenset({6, 7, 8}), not_before=SOON))
    [previous] = [line for line in found if line.startswith("previous")]
    assert previous.startswith("previous generation 6: sure to log in until ")


def test_several_are_valid_after_a_reconcile_and_none_is_said_to_end_at_once() -> None:
    found = " ".join(lines(record(valid=frozenset({5, 6, 7}), not_before=BEFORE)))
    assert (
        "previous generations 5, 6: the overlap ended 5 minutes ago, so the next rotation may end them"
        in found
    )
    revoked = " ".join(lines(record(valid=frozenset({6, 7}), not_before=SOON, revoke_through=6)))
    assert "previous generation 6: must die, by the emergency order" in revoked


def test_a_promotion_is_not_told_by_the_overlap_of_another_plan() -> None:
    assert any("promoted at" in line for line in lines(record(not_before=SOON)))
    assert not any("promoted at" in line for line in lines(record(not_before=SOON, plan="of-another-plan")))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "; the turn of oci, the standby"),
        ({"next_due_at": NOW + timedelta(minutes=18)}, "; the turn of aws"),
        ({"not_before": NOW + timedelta(minutes=18)}, "; the turn of aws"),
        ({"paused": True}, "; paused, so no scheduled run begins"),
        ({"paused": True, "next_due_at": BEFORE}, "; paused, so no scheduled run begins"),
        ({"next_due_at": BEFORE}, ", overdue; the turn of aws"),
    ],
)
def test_whose_turn_it_is(more: Mapping[str, object], said: str) -> None:
    [due] = [line for line in lines(record(**{"next_due_at": SOON, **more})) if line.startswith("next due")]
    assert due.endswith(f"){said}")


def test_without_a_standby_it_is_always_the_turn_of_aws() -> None:
    assert lines(record(next_due_at=SOON), has_standby=False)[-1].endswith("; the turn of aws")


# What was read


def test_an_edit_by_hand_is_told_with_what_was_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    told, code = shown(capsys, record(), aws=EDITED, oci=NAMED)
    assert (told[0].endswith(": NOT IN SYNC, by the names of the versions"), code) == (True, 1)
    assert "  store aws: a version that Lockstep did not write, but connection_blob has generation 7" in told
    unread = "not read: the value in aws; whether a run can use it: "
    assert f"  {unread}lockstep status --read-values -c {PLANNED.id}" in told


def test_by_values_nothing_is_left_to_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    told, code = shown(capsys, record(), aws=stored(0, blob=7), oci=stored())
    assert (code, any("read-values" in line for line in told)) == (1, False)
    assert told[0].endswith(": NOT IN SYNC, by their values")


@pytest.mark.parametrize(
    ("error", "code", "verdict", "next_run"),
    [
        (
            SecretMalformedError(),
            1,
            "NOT IN SYNC",
            "change nothing, because what store aws has cannot be used",
        ),
        (
            SecretNotFoundError(),
            1,
            "NOT IN SYNC",
            "change nothing, because what store aws has cannot be used",
        ),
        (StoreUnreachableError(), 3, "NOT KNOWN", "not known, because a store was unreachable"),
    ],
)
def test_a_store_that_gives_no_answer(
    capsys: pytest.CaptureFixture[str], error: LockstepError, code: int, verdict: str, next_run: str
) -> None:
    told, found = shown(capsys, record(), aws=error, oci=NAMED)
    assert (found, verdict in told[0]) == (code, True)
    assert f"  next run: {next_run}" in told


def test_a_database_that_is_taken_over_is_not_told_as_blocked(capsys: pytest.CaptureFixture[str]) -> None:
    blocked, _ = shown(capsys, record(blocked=BOTH), aws=NAMED)
    assert any(line.startswith("  blocked after refused logins: ") for line in blocked)
    taken_over, _ = shown(capsys, record(blocked=BOTH, take_over=BOTH), aws=NAMED)
    assert any(line.startswith("  to be taken over, until proven: ") for line in taken_over)
    assert not any("blocked" in line for line in taken_over)


def test_the_first_rotation_is_on_top_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    empty = replace(stored(0, login=None), blob_generation=0)
    told, _ = shown(capsys, record(current_generation=None, take_over=BOTH), aws=empty)
    assert "  next run: make the first generation" in told
    assert "  store aws: a placeholder, and no login yet" in told


# The documents


IN_LOG = partial(
    Run,
    credential=PLANNED.id,
    cloud="aws",
    seq=7,
    rotation_id="run-7",
    ended_at=datetime(2026, 1, 1, tzinfo=UTC),
)
RUN = IN_LOG(outcome="failed", error="PlanNotActiveError", trigger="schedule")
ARCHIVED = IN_LOG(outcome="archived")


@pytest.mark.parametrize("case", FORECASTS.values(), ids=FORECASTS)
def test_each_state_of_a_credential_is_by_the_schema(
    case: tuple[LockRecord, list[StoredValue], bool, str, str | None],
) -> None:
    record, values, *_ = case
    read: dict[str, Answer] = {f"store-{n}": v for n, v in enumerate(values)}
    named: dict[str, Answer] = {name: names_of(v) for name, v in zip(read, values, strict=True)}
    for look in (
        StoreSnapshot(depth="values", answers=read, pending_since=None),
        StoreSnapshot(depth="names", answers=named, pending_since=NOW),
        StoreSnapshot(depth="names", answers={**named, "away": StoreUnreachableError()}, pending_since=None),
        StoreSnapshot(depth="names", answers=named, pending_since=StoreUnreachableError()),
    ):
        for last_run in (None, RUN, ARCHIVED):
            state = state_of(record, PLANNED, look, NOW, has_standby=True, last_run=last_run, unread={})
            told = Status(in_sync=bool(state.is_in_sync), credentials=[document(state, NOW)])
            require_document("status", msgspec.to_builtins(told))


def test_a_run_is_by_the_schema() -> None:
    for run in (RUN, ARCHIVED):
        require_document("history", msgspec.to_builtins(History(runs=[run], problems=[])))


def test_a_field_that_the_schema_lacks_is_found() -> None:
    with pytest.raises(jsonschema.ValidationError, match="new_field"):
        require_document("history", {"runs": [], "problems": [], "new_field": 1})
