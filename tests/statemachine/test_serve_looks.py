"""What the live page asks of AWS, on a plan of many credentials: bounded, what is looked at first, nothing twice."""

from collections import Counter

from lockstep.operate.access import operator
from lockstep.operate.page.fleet import Condition, condition
from lockstep.operate.page.snapshot import MOST_CALLS, MOST_EXECUTIONS, Calls, Looker
from lockstep.runtime.system import SystemClock
from tests.statemachine.conftest import Case

MOST_FOR_RECORDS = 4 + MOST_EXECUTIONS
"""Pages of the lock table, each of a megabyte, and the runs that other tests have left under way."""
MOST_FOR_ONE = 40
"""Calls for the stores, the log and the steps of one credential, at most."""


def test_many_credentials_are_read_in_bounded_calls(plain: Case) -> None:
    assert plain.rotate().status == "SUCCEEDED"
    clock, plan, asked = SystemClock(), plain.world.plan, plain.credential.id
    calls = Calls(lambda: 0.0)  # All within one minute, however long this machine takes.
    looker = Looker(plan, operator(plan, deadline_guard=calls.count), calls, lambda: plain.world.machine_arn)
    first = looker.look((), records_only=True)
    assert 1 <= calls.last_minute <= MOST_FOR_RECORDS
    assert len(first.seen) == len(plan.credentials)
    assert condition(first.seen[asked], clock.now()) is Condition.UNREAD
    second = looker.look([asked])
    assert MOST_CALLS <= calls.last_minute <= MOST_CALLS + MOST_FOR_ONE
    seen = second.seen[asked]
    assert condition(seen, clock.now()) is Condition.IN_SYNC
    assert [run.generation for run in seen.runs] == [1]
    assert {"Generate", "ApplyDb", "UpdateSecrets"} <= {s.name for s in seen.steps[seen.runs[0].rotation_id]}
    told = Counter(one.read_at is None for one in second.seen.values())
    assert min(told[True], told[False]) > 10
    before = calls.last_minute
    third = looker.look([asked])
    # Nothing has changed, and there were enough calls in this minute.
    assert 1 <= calls.last_minute - before <= MOST_FOR_RECORDS
    assert third.seen[asked].runs == seen.runs
