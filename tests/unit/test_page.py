"""What the live page makes of a look at a fleet."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from lockstep.operate.documents import FEW
from lockstep.operate.page.fleet import UNREAD, Asked, bar_of, figures, headline, mark, rows, shared
from lockstep.operate.page.snapshot import Calls, FleetSnapshot, Looker
from lockstep.operate.verdict import Kind
from lockstep.protocol.ports import Table
from tests.support.fleet import NOW, StillClock, look, snapshot_of
from tests.support.memory import make_plan


def test_the_headline_counts_the_gravest_verdict() -> None:
    whole = look(60)
    assert headline(whole) == ("bad", "1 of 60 credentials is down")
    assert next(figures(whole, NOW))[1:3] == ("54 of 60", "5 degraded, 1 down")
    paused = FleetSnapshot(at=NOW, seen={"a": whole.seen["shop/service-00013"]})
    assert headline(paused) == ("warn", "1 of 1 credential is degraded")
    # What was not read is not called healthy.
    of = look(1).seen["shop/service-00000"]
    unread = FleetSnapshot(at=NOW, seen={"a": snapshot_of(of.record, of.credential, {}, [])})
    assert mark(unread.seen["a"]) == ("calm", UNREAD)
    assert headline(unread)[0] == "calm"


def test_what_several_have_alike_is_told_once_and_the_gravest_first() -> None:
    told = shared(look(200))
    kinds = [reason.kind for reason, _ in told]
    assert kinds == sorted(kinds, key=list(Kind).index)
    late = next(ids for reason, ids in told if reason.kind is Kind.OVERDUE)
    assert late == [f"shop/service-{number:05d}" for number in (7, 68, 129, 190)]


def test_what_the_table_alone_says_is_a_reason_too() -> None:
    """A record that cannot be read, and a table that knows nobody: the state of one credential sees neither."""
    whole = list(look(FEW + 1).seen.values())
    [first, second, *_] = whole
    plan: Any = SimpleNamespace(credentials=[one.credential for one in whole], runners=make_plan().runners)
    others = {one.record.credential_id: one.record for one in whole[1:]}
    unreadable = Table(records=others, unreadable={first.credential.id: "NewerFormatError"})
    for table, expected in (
        (unreadable, [[Kind.UNREADABLE], []]),
        (Table(records={}, unreadable={}), [[Kind.OTHER_PLAN, Kind.OVERDUE]] * 2),
    ):
        clouds: Any = SimpleNamespace(clock=StillClock(), lock_table=lambda table=table: table)
        seen = Looker(plan, clouds, Calls(clouds.clock.monotonic)).look((), records_only=True).seen
        found = [[reason.kind for reason in seen[one.credential.id].state.reasons] for one in (first, second)]
        assert found == expected


def test_an_overlap_is_drawn_only_where_the_last_run_has_proven_it() -> None:
    seen = look(1).seen["shop/service-00000"]
    bar = bar_of(seen, NOW)
    assert bar
    assert bar.overlap > 0
    for record, runs in (
        (replace(seen.record, valid=frozenset({40})), seen.runs),
        (seen.record, []),
        (replace(seen.record, revoke_through=39), seen.runs),
    ):
        drawn = bar_of(snapshot_of(record, seen.credential, seen.state.look.answers, runs), NOW)
        assert drawn
        assert (drawn.overlap, "proven" in drawn.title) == (0, False)


@pytest.mark.parametrize(
    ("text", "found"), [("service-00029", 1), ("DOWN", 1), ("degraded", 5), ("overdue", 1), ("nothing", 0)]
)
def test_rows_are_found_by_id_verdict_and_reason_the_gravest_first(text: str, found: int) -> None:
    assert rows(look(60), Asked(q=text))[1] == found
    first, *_ = rows(look(60), Asked())
    assert [mark(one)[1] for one in first][:7] == ["down", *["degraded"] * 5, "healthy"]
