"""The scheduled call of the standby: what it picks, what it hands on, and what becomes of it."""

import json
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from typing import Any
from unittest.mock import Mock

import pytest
from fdk import context  # type: ignore[import-untyped]  # fdk ships no types
from msgspec import structs

from lockstep.plan.compiled import CompiledPlan
from lockstep.plan.published import Index, index_of
from lockstep.protocol.deadlines import BATCH
from lockstep.protocol.errors import (
    EventNotSentError,
    InvalidRequestError,
    LockTableAccessDeniedError,
    NotHandedOnError,
    PlanUnreachableError,
    StoreAccessDeniedError,
)
from lockstep.protocol.events import CloudEvent, Failed
from lockstep.protocol.lock_rule import select_due
from lockstep.protocol.model import LockRecord
from lockstep.protocol.ports import Table
from lockstep.stores.credential import Ports
from oci_fn import func
from oci_fn.dispatching import MOST_BATCHES, overdue, recheck, shares
from oci_fn.publish import SLOW_SECONDS
from tests.support.memory import EPOCH, FakeClock, MemoryWorld, make_plan
from tests.support.world import entries, make_world, strike
from tests.unit.test_standby import schedule

INTERVAL = timedelta(minutes=20)
TURN = EPOCH + timedelta(hours=12, minutes=10)
NUMBER = 30
CANARY = "hunter2-canary"


# What is picked


def test_the_longest_due_comes_first_after_emergencies_and_what_acquire_would_refuse_is_left_out() -> None:
    later, emergency = TURN + timedelta(minutes=1), {"revoke_through": 3, "valid": frozenset({3, 4})}
    due: dict[str, tuple[float | None, dict[str, Any]]] = {
        "a": (20, {}),
        "b": (None, {}),
        "c": (45, {}),
        "d": (12, {"not_before": later}),
        "e": (-5, emergency),
        "early": (-1, {}),
        "paused": (40, {"paused": True}),
        "held": (40, {"holder": "x", "expires_at": later}),
        "paused emergency": (40, {"paused": True, **emergency}),
    }
    records = {
        key: LockRecord(
            credential_id=key,
            next_due_at=None if minutes is None else TURN - timedelta(minutes=minutes),
            **more,
        )
        for key, (minutes, more) in due.items()
    }
    table = Table(records=records, unreadable={"g": "NewerFormatError"})
    found = select_due(dict.fromkeys([*records, "g"], schedule(INTERVAL)), table, now=TURN)
    assert found == ("e", "c", "a", "d", "b", "g")


# How it is shared


def test_more_than_fits_leaves_out_neither_the_oldest_nor_the_newest() -> None:
    most = BATCH * MOST_BATCHES
    due = [f"c{n:05}" for n in range(10_000)]
    batches, left = shares(due)
    handed = [c for batch in batches for c in batch]
    assert len(batches) == MOST_BATCHES
    assert handed == due[: most * 3 // 4] + due[-most // 4 :]
    assert sorted([*handed, *left]) == due


def test_each_call_begins_at_another_one_and_one_that_waited_anywhere() -> None:
    """What is due longest may take all the time of its calls, and stays so (protocol R5)."""
    due, calls = [f"c{n:02}" for n in range(40)], [f"call-{n}" for n in range(300)]
    oldest = due[:BATCH]
    in_turn = [overdue(oldest, call) for call in calls]
    assert {first for first, *_ in in_turn} == set(oldest)
    assert all(sorted(order) == oldest for order in in_turn)
    late = [recheck(due, call) for call in calls]
    assert {len(batch) for batch in late} == {BATCH}
    assert {key for batch in late for key in batch} == set(due)
    assert 150 < late.count(tuple(oldest)) < 250


# The function


class Fleet:
    """Credentials with worlds of their own, a function over them, and what it hands on to itself.

    AWS has rotated them, each a little later than the one before, and then no more. It is the function's runner, too.
    """

    def __init__(self, number: int = NUMBER) -> None:
        self.clock = FakeClock(TURN)
        self.worlds: dict[str, MemoryWorld] = {}
        for n in random.Random(7).sample(range(number), number):  # noqa: S311 - an order that is not that of the ids
            key = f"multi-cloud/app-{n:03}"
            world = self.worlds[key] = make_world(databases=1, id=key, clock=self.clock)
            due = TURN - timedelta(minutes=60) + timedelta(seconds=n)
            world.lock.record = replace(world.lock.record, next_due_at=due)
        plan = make_plan(databases=1).compiled
        all_of_them = tuple(world.credential for world in self.worlds.values())
        self._plan, self._index = plan, index_of(structs.replace(plan, credentials=all_of_them))
        self.queued: list[dict[str, Any]] = []
        self.sent: list[CloudEvent] = []
        self.sending: Callable[[], object] = lambda: None
        """What becomes of events after they were sent."""
        self.running: Callable[[], object] = lambda: None
        """What happens before a run has ports."""
        self.hands_on, self.index_is_out = True, False
        self.refuses_calls = self.bucket_fails = 0
        """So many calls does the service not take; so many times does the bucket of the plan not answer."""
        self.calls = self.runners = self.forgot = 0
        """How often it was called, asked for a runner, and told to forget identities."""

    def runner(self) -> Any:  # noqa: ANN401 - what the function needs of one
        self.runners += 1
        return self

    def event_sink(self, _cloud: str) -> Any:  # noqa: ANN401 - what has `send`
        return self.plan and self

    def send(self, events: Sequence[CloudEvent]) -> None:
        self.sent += events
        self.sending()

    @property
    def plan(self) -> CompiledPlan:
        if self.index_is_out:
            raise PlanUnreachableError
        return self._plan

    def _bucket(self) -> None:
        self.bucket_fails -= 1
        if self.bucket_fails >= 0:
            raise PlanUnreachableError

    @property
    def index(self) -> Index:
        self._bucket()
        return self._index

    def ports(self, credential_id: str) -> Ports:
        if credential_id not in self.worlds:
            raise InvalidRequestError(credential=credential_id)
        self.running()
        self._bucket()
        return self.worlds[credential_id].ports("oci")

    def lock_table(self) -> Table:
        return Table(records={key: w.lock.read() for key, w in self.worlds.items()}, unreadable={})

    def own_function(self) -> Any:  # noqa: ANN401 - what has `call`
        return self if self.hands_on else None

    def call(self, event: dict[str, Any]) -> None:
        """As the service: it takes a call, and makes it later."""
        self.refuses_calls -= 1
        if self.refuses_calls >= 0:
            raise NotHandedOnError
        self.queued.append(json.loads(json.dumps(event)))

    def asked(self, body: object = None) -> tuple[int, dict[str, Any]]:
        """Call the function."""
        self.calls += 1
        deadline = (self.clock.now() + timedelta(seconds=300)).isoformat()
        asked = context.InvokeContext("app", "app", "fn", "fn", f"call-{self.calls}", deadline=deadline)
        data = BytesIO(b"" if body is None else json.dumps(body).encode())
        function = func.Function(self.runner, clock=self.clock, leave=lambda: None, forget=self.forget)
        answer = function(asked, data)
        return answer.status(), json.loads(answer.body())

    def forget(self) -> None:
        self.forgot += 1

    def detached(self) -> list[tuple[int, dict[str, Any]]]:
        """Let what was handed on run, in the order in which it was."""
        queued, self.queued = sorted(self.queued, key=json.dumps), []
        return [self.asked(event) for event in queued]

    @property
    def rotations(self) -> dict[str, int]:
        return {key: len(entries(world, "oci")) for key, world in self.worlds.items()}


def test_all_that_is_overdue_is_handed_on_oldest_first_and_rotated_once() -> None:
    # (protocol R5)
    there = Fleet()
    status, body = there.asked()
    assert (status, body) == (200, {"results": [], "handed_on": NUMBER, "batches": 3})
    oldest = sorted(there.worlds)  # They were asked for at the same time.
    batches = sorted(event["credential_ids"] for event in there.queued)
    assert batches == [oldest[i : i + BATCH] for i in range(0, NUMBER, BATCH)]
    assert {event["trigger"] for event in there.queued} == {"schedule"}
    # The next schedule comes while these are under way.
    first, *others = sorted(there.queued, key=json.dumps)
    there.queued = [first]
    there.detached()
    status, again = there.asked()
    assert (status, again["handed_on"]) == (200, NUMBER - BATCH)
    there.queued += others
    assert {status for status, _ in there.detached()} == {200}
    assert set(there.rotations.values()) == {1}
    assert all(world.locked_out() == [] for world in there.worlds.values())
    assert there.asked() == (200, {"results": []})


def test_a_call_that_waited_for_long_does_what_is_due_longest_by_then() -> None:
    # (protocol R5)
    there = Fleet()
    there.asked()
    oldest = sorted(there.worlds)[:BATCH]
    *_, last = sorted(there.queued, key=json.dumps)
    assert not set(last["credential_ids"]) & set(oldest)
    there.clock.sleep(60)
    in_time = there.asked(last)[1]["results"]
    assert sorted(r["credential_id"] for r in in_time) == sorted(last["credential_ids"])
    there.clock.sleep(61)
    late = there.asked(last)[1]["results"]
    assert sorted((r["credential_id"], r["outcome"]) for r in late) == [(key, "rotated") for key in oldest]


def test_a_batch_that_is_not_taken_is_done_by_the_call_itself_and_a_failure_touches_no_other() -> None:
    # (protocol R5)
    there = Fleet()
    there.refuses_calls = 1
    status, body = there.asked()
    assert (status, body["error"], body["batches"], body["handed_on"]) == (502, "NotHandedOnError", 2, 20)
    assert {r["outcome"] for r in body["results"]} == {"rotated"}
    broken = there.queued[0]["credential_ids"][3]
    strike(there.worlds[broken], {"before aws read_current": StoreAccessDeniedError})
    answers = there.detached()
    assert sorted(status for status, _ in answers) == [200, 502]
    outcomes = {r["credential_id"]: r["outcome"] for _, body in answers for r in body["results"]}
    assert {key for key, outcome in outcomes.items() if outcome != "rotated"} == {broken}
    assert set(there.rotations.values()) == {1}


@pytest.mark.parametrize(
    ("bug", "error", "forgot"),
    [
        (LockTableAccessDeniedError(), "LockTableAccessDeniedError", 1),
        (RuntimeError(f"login failed for {CANARY}", {"password": CANARY}), "UnexpectedError", 0),
    ],
)
def test_what_a_run_raises_is_told_by_its_name_and_a_refused_identity_is_read_again(
    bug: Exception, error: str, forgot: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    there = Fleet(2)
    there.running = Mock(side_effect=bug)
    status, body = there.asked({"credential_ids": sorted(there.worlds)})
    assert (status, [r["error"] for r in body["results"]]) == (502, [error] * 2)
    assert there.forgot == 2 * forgot
    assert there.runners == 3  # (protocol E18): one for each run, one for all events.
    told = [(e.data.runner, e.data.status, e.data.error) for e in there.sent if isinstance(e.data, Failed)]
    assert told == [("oci", "failed", error)] * 2
    assert CANARY not in json.dumps(body) + caplog.text


def test_a_call_that_has_no_time_left_begins_no_further_run_and_says_so() -> None:
    there = Fleet(20)
    there.hands_on, there.running = False, lambda: there.clock.sleep(50)
    status, body = there.asked()
    done = [r["credential_id"] for r in body["results"]]
    assert (status, body["left"]) == (502, 20 - len(done))
    assert {r["outcome"] for r in body["results"]} == {"rotated"}
    for _ in range(20 // len(done)):
        _, body = there.asked()
    assert "left" not in body
    assert set(there.rotations.values()) == {1}


@pytest.mark.parametrize("body", [None, {"credential_id": "multi-cloud/app-000"}])
def test_a_bucket_that_does_not_answer_once_costs_nobody_a_turn(body: object) -> None:
    # (protocol F3)
    there = Fleet(2)
    there.bucket_fails = 1  # The index.
    status, _ = there.asked(body)
    assert (status, set(there.rotations.values())) == (200, {1} if body is None else {0, 1})


def test_no_rotation_waits_for_what_only_events_need_and_an_unknown_id_is_named_and_stops_no_other() -> None:
    # (protocol E18)
    there = Fleet(2)
    there.index_is_out = True
    status, body = there.asked({"credential_ids": ["nobody", *sorted(there.worlds)]})
    found = {r["credential_id"]: r.get("error", r["outcome"]) for r in body["results"]}
    assert (status, found.pop("nobody")) == (502, "InvalidRequestError")
    assert (found, there.sent) == (dict.fromkeys(there.worlds, "rotated"), [])


@pytest.mark.parametrize(
    ("sending", "errors"),
    [
        (Mock(side_effect=EventNotSentError(code="InternalServerError")), ["InternalServerError"] * 3),
        (Mock(side_effect=ValueError(CANARY)), ["ValueError"] * 3),
        (None, ["slow"] * 2),
    ],
)
def test_after_events_that_are_not_sent_or_take_long_no_others_are_tried(
    sending: Callable[[], object] | None, errors: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    # (protocol E18)
    there = Fleet(3)
    there.sending = sending or (lambda: there.clock.sleep(SLOW_SECONDS + 1))
    status, _ = there.asked({"credential_ids": sorted(there.worlds)})
    assert (status, set(there.rotations.values()), len(there.sent)) == (200, {1}, 1)
    lines = [json.loads(line) for line in caplog.messages if "events_not_sent" in line]
    assert [(line["events_not_sent"], line["error"]) for line in lines] == [(1, e) for e in errors]


@pytest.mark.parametrize(
    "body",
    [
        {"credential_id": "nobody"},
        *({"credential_id": "multi-cloud/app-000", "interval": n} for n in (0, 10**9 + 1, 1.5, "1", True)),
        *({"credential_ids": ids} for ids in ([], ["a", "a"], [f"c{n}" for n in range(101)])),
    ],
)
def test_what_is_out_of_bounds_or_unknown_is_refused_before_a_run(body: object) -> None:
    # (protocol R6)
    there = Fleet(1)
    status, answer = there.asked(body)
    assert (status, answer) == (502, {"error": "InvalidRequestError", "message": answer["message"]})
    assert set(there.rotations.values()) == {0}
