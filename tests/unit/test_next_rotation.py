"""What `lockstep status` says to a person: each sentence is true of the record and of what was read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace as replaced

from lockstep.cli import status
from lockstep.operate import state
from lockstep.operate.documents import Run
from lockstep.operate.state import Answer, state_of
from lockstep.protocol.errors import SecretMalformedError, StoreUnreachableError
from lockstep.protocol.model import LockRecord
from lockstep.protocol.ports import Table
from tests.support.memory import make_plan
from tests.unit.test_cli import BEFORE, BOTH, CLAIM, NOW, PLANNED, SOON, names_of, record, stored

NAMED = names_of(stored())
EDITED = names_of(stored(0, blob=7))


def table(lock_record: LockRecord) -> Table:
    return Table(records={PLANNED.id: lock_record}, unreadable={})


def shown(capsys: pytest.CaptureFixture[str], lock_record: LockRecord, **answers: Answer) -> list[str]:
    """What is shown."""
    status._show(state_of(make_plan(), table(lock_record), PLANNED, NOW, answers=answers), NOW)
    return capsys.readouterr().out.splitlines()


def told(lock_record: LockRecord, last_run: Run | None = None, *, has_standby: bool = True) -> list[str]:
    runs = [last_run] if last_run else []
    plan = make_plan(stores=2 if has_standby else 1)
    found = state_of(plan, table(lock_record), PLANNED, NOW, runs=runs)
    return list(state.lines(found, NOW))


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
TWO = record(valid=frozenset({6, 7}), not_before=SOON)
OLDER = replace(TWO, valid=frozenset({5, 6, 7}))
MAY_BE = "may be valid; no run ends it before "
VALIDITY: dict[str, tuple[LockRecord, Run | None, list[str]]] = {
    "proven": (OLDER, PROVEN, ["6: proven by the last run, valid until ", f"5: {MAY_BE}"]),
    "a reconcile proves nothing of the one before": (
        *(OLDER, replaced(PROVEN, kind="reconcile")),
        [f"6: {MAY_BE}", f"5: {MAY_BE}"],
    ),
    "the last run is of another generation": (TWO, replaced(PROVEN, generation=6), [f"6: {MAY_BE}"]),
    "no run is on record": (TWO, None, [f"6: {MAY_BE}"]),
    "the overlap is over": (
        *(replace(TWO, not_before=BEFORE), PROVEN),
        ["6: may be valid; the next rotation may end it"],
    ),
    "an emergency": (
        *(replace(TWO, revoke_through=6), PROVEN),
        ["6: must be revoked, by the emergency order"],
    ),
    # The record counts it as valid, and it follows the current one (protocol C11).
    "in promotion": (
        *(replace(TWO, claim=CLAIM, promoting=True, valid=frozenset({6, 7, 8})), PROVEN),
        ["6: proven by the last run"],
    ),
}


@pytest.mark.parametrize("case", VALIDITY.values(), ids=VALIDITY)
def test_only_what_the_last_run_has_proven_is_valid(
    case: tuple[LockRecord, Run | None, list[str]],
) -> None:
    lock_record, last_run, expected = case
    found = [line for line in told(lock_record, last_run) if line.startswith("previous generation ")]
    assert len(found) == len(expected)
    for line, begins in zip(found, expected, strict=True):
        assert line.startswith(f"previous generation {begins}")


def test_no_promotion_is_told_by_another_plans_overlap() -> None:
    for of, is_told in ((TWO, True), (replace(TWO, plan="of-another-plan"), False)):
        assert any("promoted at" in line for line in told(of)) is is_told


LATER = NOW + timedelta(minutes=18)


@pytest.mark.parametrize(
    ("found", "has_standby", "said"),
    [
        (record(next_due_at=SOON), True, "; the turn of oci, the standby"),
        (record(next_due_at=SOON), False, "; the turn of aws"),
        (record(next_due_at=LATER), True, "; the turn of aws"),
        (record(next_due_at=SOON, not_before=LATER), True, "; the turn of aws"),
        (record(next_due_at=BEFORE, paused=True), True, "; paused, so no scheduled run begins"),
        (record(next_due_at=BEFORE), True, ", overdue; the turn of aws"),
    ],
)
def test_whose_turn_it_is(found: LockRecord, said: str, *, has_standby: bool) -> None:
    [due] = [line for line in told(found, has_standby=has_standby) if line.startswith("next due")]
    assert due.endswith(f"){said}")


# What was read


def test_an_edit_by_hand_is_told_by_names_and_by_values(capsys: pytest.CaptureFixture[str]) -> None:
    told = shown(capsys, record(), aws=EDITED, oci=NAMED)
    assert told[0].endswith(": degraded; not in sync (version names compared, values not read)")
    assert "  store aws: a version that Lockstep did not write, but connection_blob has generation 7" in told
    by_values = shown(capsys, record(), aws=stored(0, blob=7), oci=stored())
    assert by_values[0].endswith(": degraded; not in sync (values compared)")


def test_what_a_store_lacks_decides_the_next_run(capsys: pytest.CaptureFixture[str]) -> None:
    for answer, next_run in (
        (SecretMalformedError(), "change nothing, because what store aws has cannot be used"),
        (StoreUnreachableError(), "not known, because a store was unreachable"),
    ):
        assert f"  next run: {next_run}" in shown(capsys, record(), aws=answer, oci=NAMED)
    empty = replace(stored(0, login=None), blob_generation=0)
    first = shown(capsys, record(current_generation=None, take_over=BOTH), aws=empty)
    assert "  next run: make the first generation" in first
    assert "  store aws: a placeholder, and no login yet" in first
