"""What the live page makes of a look at a fleet."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lockstep.operate.documents import FEW
from lockstep.operate.page.fleet import UNREAD, bar_of, figures, headline, mark, rows, shared
from lockstep.operate.page.snapshot import FleetSnapshot, Looker
from lockstep.operate.verdict import Kind
from lockstep.protocol.ports import Table
from tests.support.fleet import NOW, StillClock, look, state_by
from tests.support.memory import make_plan


def test_the_headline_counts_the_gravest_verdict() -> None:
    whole = look(60)
    assert headline(whole) == ("bad", "1 of 60 credentials is down")
    assert next(figures(whole, NOW))[1:3] == ("54 of 60", "5 degraded, 1 down")
    paused = FleetSnapshot(at=NOW, seen={"a": whole.seen["shop/service-00013"]})
    assert headline(paused) == ("warn", "1 of 1 credential is degraded")
    # What was not read is not called healthy.
    of = look(1).seen["shop/service-00000"]
    unread = FleetSnapshot(at=NOW, seen={"a": state_by(of.record, of.credential, {}, [])})
    assert mark(unread.seen["a"]) == ("calm", UNREAD)
    assert headline(unread)[0] == "calm"


def test_what_several_have_alike_is_told_once_and_the_gravest_first() -> None:
    told = shared(look(200))
    kinds = [reason.kind for reason, _ in told]
    assert kinds == sorted(kinds, key=list(Kind).index)
    late = next(ids for reason, ids in told if reason.kind is Kind.OVERDUE)
    assert late == [f"shop/service-{number:05d}" for number in (7, 68, 129, 190)]


def test_a_record_that_cannot_be_read_hides_no_other() -> None:
    whole = list(look(FEW + 1).seen.values())
    plan: Any = SimpleNamespace(credentials=[one.credential for one in whole], runners=make_plan().runners)
    ids = [one.credential.id for one in whole]
    others = {one.record.credential_id: one.record for one in whole[1:]}
    table = Table(records=others, unreadable={ids[0]: "NewerFormatError"})
    clouds: Any = SimpleNamespace(clock=StillClock(), lock_table=lambda: table)
    seen = Looker(plan, clouds).look((), records_only=True).seen
    found = [[reason.kind for reason in seen[of].reasons] for of in ids[:2]]
    assert found == [[Kind.UNREADABLE], []]


def test_an_overlap_is_drawn_only_where_the_last_run_has_proven_it() -> None:
    seen = look(1).seen["shop/service-00000"]
    for record, runs, is_drawn in (
        (seen.record, seen.runs, True),
        (replace(seen.record, valid=frozenset({40})), seen.runs, False),
        (seen.record, [], False),
        (replace(seen.record, revoke_through=39), seen.runs, False),
    ):
        bar = bar_of(state_by(record, seen.credential, seen.answers, runs), NOW)
        assert bar
        assert (bar.overlap > 0, "proven" in bar.title) == (is_drawn, is_drawn)


@pytest.mark.parametrize(
    ("text", "found"), [("service-00029", 1), ("DOWN", 1), ("degraded", 5), ("overdue", 1), ("nothing", 0)]
)
def test_rows_are_found_by_id_verdict_and_reason_the_gravest_first(text: str, found: int) -> None:
    assert len(rows(look(60), text)) == found
    first = [mark(one)[1] for one in rows(look(60), "")]
    assert first[:7] == ["down", *["degraded"] * 5, "healthy"]
