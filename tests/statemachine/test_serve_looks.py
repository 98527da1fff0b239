"""What the live page asks of AWS, on a plan of many credentials: bounded, what is looked at first, nothing twice."""

import pytest

from lockstep.operate.page import snapshot
from lockstep.operate.page.fleet import UNREAD, mark
from lockstep.operate.page.snapshot import Looker
from lockstep.plan.published import WholePlan
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.identity import OPERATOR
from tests.statemachine.conftest import Case

MOST_FOR_RECORDS = 4
"""Pages of the lock table, each of a megabyte."""


def test_many_credentials_are_read_in_bounded_calls(plain: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MOST_READ", 1)
    monkeypatch.setattr(snapshot, "FEW", 1)
    assert plain.rotate().status == "SUCCEEDED"
    plan, asked, calls = plain.world.plan, plain.credential.id, list[None]()
    looker = Looker(
        plan, Clouds(WholePlan(plan.compiled), OPERATOR, deadline_guard=lambda: calls.append(None))
    )
    first = looker.look((), records_only=True)
    assert 1 <= len(calls) <= MOST_FOR_RECORDS
    assert len(first.seen) == len(plan.credentials)
    assert mark(first.seen[asked]) == ("calm", UNREAD)
    second = looker.look([asked])
    seen = second.seen[asked]
    assert mark(seen) == ("good", "healthy")
    assert [run.generation for run in seen.runs] == [1]
    assert [of for of, one in second.seen.items() if one.read_at] == [asked]
    # Nothing has changed of what was read: the others have their turn.
    third = looker.look([asked])
    assert third.seen[asked].read_at == seen.read_at
    assert sum(one.read_at is not None for one in third.seen.values()) == min(2, len(plan.credentials))
