"""What `lockstep status` says to a person: each sentence is true of the record and of what was read."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace as replaced

from lockstep.cli import status
from lockstep.operate import state
from lockstep.operate.documents import Run
from lockstep.operate.state import Answer, StoreSnapshot, state_of
from lockstep.protocol.errors import LockstepError, SecretMalformedError, StoreUnreachableError
from lockstep.protocol.model import LockRecord, StoredValue
from tests.unit.test_cli import BEFORE, BOTH, CLAIM, NOW, PLANNED, SOON, names_of, record, stored

NAMED = names_of(stored())
EDITED = names_of(stored(0, blob=7))


def shown(capsys: pytest.CaptureFixture[str], lock_record: LockRecord, **answers: Answer) -> list[str]:
    """What is shown."""
    depth = "values" if any(isinstance(a, StoredValue) for a in answers.values()) else "names"
    look = StoreSnapshot(depth=depth, answers=answers, pending_since=None)  # type: ignore[arg-type]  # one of two words
    found = state_of(lock_record, PLANNED, look, NOW, has_standby=True, last_run=None, unread={})
    status._show(found, NOW)
    return capsys.readouterr().out.splitlines()


# The record


PROVEN = Run(
    credential=PLANNED.id,
    cloud="aws",
    seq=7,
    rotation_id="run-7",
    ended_at=datetime(2026, 1, 1, tzinfo=UTC),
    outcome="rotated",
    kind="new",
    generation=7,
    base_generation=6,
)
OLDER = frozenset({5, 6, 7})
VALIDITY: dict[str, tuple[LockRecord, Run | None, list[str]]] = {
    "proven": (
        record(valid=OLDER, not_before=SOON),
        PROVEN,
        ["6: proven by the last run, valid until ", "5: may be valid; no run ends it before "],
    ),
    "a reconcile proves nothing of the one before": (
        record(valid=OLDER, not_before=SOON),
        replaced(PROVEN, kind="reconcile"),
        ["6: may be valid; no run ends it before ", "5: may be valid; no run ends it before "],
    ),
    "the last run is of another generation": (
        record(valid=OLDER, not_before=SOON),
        replaced(PROVEN, generation=6, base_generation=5),
        ["6: may be valid; no run", "5: may be valid; no run"],
    ),
    "no run is on record": (
        record(valid=frozenset({6, 7}), not_before=SOON),
        None,
        ["6: may be valid; no run"],
    ),
    "the overlap is over": (
        record(valid=frozenset({6, 7}), not_before=BEFORE),
        PROVEN,
        ["6: may be valid; the next rotation may end it"],
    ),
    "an emergency": (
        record(valid=frozenset({6, 7}), not_before=SOON, revoke_through=6),
        PROVEN,
        ["6: must be revoked, by the emergency order"],
    ),
    # The record counts it as valid, and it follows the current one (protocol C11).
    "in promotion": (
        record(claim=CLAIM, promoting=True, valid=frozenset({6, 7, 8}), not_before=SOON),
        PROVEN,
        ["6: proven by the last run"],
    ),
}


@pytest.mark.parametrize("case", VALIDITY.values(), ids=VALIDITY)
def test_only_what_the_last_run_has_proven_is_valid(
    case: tuple[LockRecord, Run | None, list[str]],
) -> None:
    lock_record, last_run, expected = case
    told = state.lines(lock_record, PLANNED, NOW, has_standby=True, last_run=last_run)
    found = [line for line in told if line.startswith("previous generation ")]
    assert len(found) == len(expected)
    for line, begins in zip(found, expected, strict=True):
        assert line.startswith(f"previous generation {begins}")


@pytest.mark.parametrize(("more", "is_told"), [({}, True), ({"plan": "of-another-plan"}, False)])
def test_no_promotion_is_told_by_another_plans_overlap(more: Mapping[str, object], *, is_told: bool) -> None:
    told = state.lines(record(not_before=SOON, **more), PLANNED, NOW, has_standby=True)
    assert any("promoted at" in line for line in told) is is_told


@pytest.mark.parametrize(
    ("more", "has_standby", "said"),
    [
        ({}, True, "; the turn of oci, the standby"),
        ({}, False, "; the turn of aws"),
        ({"next_due_at": NOW + timedelta(minutes=18)}, True, "; the turn of aws"),
        ({"not_before": NOW + timedelta(minutes=18)}, True, "; the turn of aws"),
        ({"paused": True}, True, "; paused, so no scheduled run begins"),
        ({"paused": True, "next_due_at": BEFORE}, True, "; paused, so no scheduled run begins"),
        ({"next_due_at": BEFORE}, True, ", overdue; the turn of aws"),
    ],
)
def test_whose_turn_it_is(more: Mapping[str, object], said: str, *, has_standby: bool) -> None:
    told = state.lines(record(**{"next_due_at": SOON, **more}), PLANNED, NOW, has_standby=has_standby)
    [due] = [line for line in told if line.startswith("next due")]
    assert due.endswith(f"){said}")


# What was read


def test_an_edit_by_hand_is_told_with_what_was_not_read(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(capsys, record(), aws=EDITED, oci=NAMED)
    assert told[0].endswith(": degraded; not in sync (version names compared, values not read)")
    assert "  store aws: a version that Lockstep did not write, but connection_blob has generation 7" in told
    unread = "not read: the value in aws; whether a run can use it: "
    assert f"  {unread}lockstep status --read-values {PLANNED.id}" in told
    by_values = shown(capsys, record(), aws=stored(0, blob=7), oci=stored())
    assert not any("read-values" in line for line in by_values)
    assert by_values[0].endswith(": degraded; not in sync (values compared)")


@pytest.mark.parametrize(
    ("error", "next_run"),
    [
        (SecretMalformedError(), "change nothing, because what store aws has cannot be used"),
        (StoreUnreachableError(), "not known, because a store was unreachable"),
    ],
)
def test_a_silent_store(capsys: pytest.CaptureFixture[str], error: LockstepError, next_run: str) -> None:
    assert f"  next run: {next_run}" in shown(capsys, record(), aws=error, oci=NAMED)


def test_the_first_rotation_is_on_top_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    empty = replace(stored(0, login=None), blob_generation=0)
    told = shown(capsys, record(current_generation=None, take_over=BOTH), aws=empty)
    assert "  next run: make the first generation" in told
    assert "  store aws: a placeholder, and no login yet" in told
