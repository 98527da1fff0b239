"""What the live page asks of AWS, on a plan of many credentials: bounded, what is looked at first, nothing twice."""

from collections import Counter

import pytest

from lockstep.operate.access import operator
from lockstep.operate.page import snapshot
from lockstep.operate.page.fleet import UNREAD, mark
from lockstep.operate.page.snapshot import Calls, Looker
from tests.statemachine.conftest import Case

MOST_FOR_RECORDS = 4
"""Pages of the lock table, each of a megabyte."""
MOST_FOR_ONE = 40
"""Calls for the stores and the log of one credential, at most."""


MOST_CALLS = 60
"""Fewer than a page of the shipped size, so that the plan of the tests is too large for a look."""


def test_many_credentials_are_read_in_bounded_calls(plain: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MOST_CALLS", MOST_CALLS)
    assert plain.rotate().status == "SUCCEEDED"
    plan, asked = plain.world.plan, plain.credential.id
    calls = Calls(lambda: 0.0)  # All within one minute, however long this machine takes.
    looker = Looker(plan, operator(plan, deadline_guard=calls.count), calls)
    first = looker.look((), records_only=True)
    assert 1 <= calls.last_minute <= MOST_FOR_RECORDS
    assert len(first.seen) == len(plan.credentials)
    assert mark(first.seen[asked]) == ("calm", UNREAD)
    second = looker.look([asked])
    assert MOST_CALLS <= calls.last_minute <= MOST_CALLS + MOST_FOR_ONE
    seen = second.seen[asked]
    assert mark(seen) == ("good", "healthy")
    assert [run.generation for run in seen.runs] == [1]
    told = Counter(one.read_at is None for one in second.seen.values())
    assert min(told[True], told[False]) > 10
    before = calls.last_minute
    third = looker.look([asked])
    # Nothing has changed, and there were enough calls in this minute.
    assert 1 <= calls.last_minute - before <= MOST_FOR_RECORDS
    assert third.seen[asked].runs == seen.runs
