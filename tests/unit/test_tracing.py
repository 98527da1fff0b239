"""Spans of rotations in a world in memory: what they show, and what can never be in one."""

import inspect
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.face import LambdaFace
from functions.generate import step as generate
from lockstep import errors, ports, wiring
from lockstep.errors import DatabaseUnreachableError, LockstepError, LockTableUnreachableError
from lockstep.messages import GenerateRequest
from lockstep.tracing import ports as tracing_ports
from lockstep.tracing import sending
from lockstep.tracing.ports import traced_ports
from lockstep.tracing.trace import trace_id
from lockstep.tracing.traces import SEND_SECONDS, SPARE_SECONDS, Traces
from lockstep.wiring import NotTraced, hosted_traces
from lockstep.workers import at_the_same_time
from oci_fn import sequence
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest
from tests.fuzz.harness import inputs
from tests.support.lambda_context import TimeLeft
from tests.support.memory import CountingPasswords, MemoryWorld, make_plan
from tests.unit.harness import INTERVAL_SECONDS, RUN_SECONDS, another_login, edit, held

Json = dict[str, Any]
CANARY = "Canary!hunter2"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Sent:
    """Stands for the process that sends."""

    def __init__(self, problem: str | None = None) -> None:
        self.batches: list[list[Json]] = []
        self.seconds: list[float] = []
        self.problem = problem

    def __call__(self, spans: Sequence[Json], seconds: float) -> str | None:
        self.batches.append(json.loads(json.dumps(spans)))
        self.seconds.append(seconds)
        return self.problem

    @property
    def spans(self) -> list[Json]:
        return [span for batch in self.batches for span in batch]


PLAN = make_plan()


def _rotate(world: MemoryWorld, sent: Sent, run: str, *, runner: str = "aws") -> None:
    traces = Traces(clock=world.clock, send=sent)
    request = RunRequest(rotation_id=run, runner=runner, trigger="test")
    retries = Retries(world.clock, deadline=world.clock.monotonic() + RUN_SECONDS, jitter=lambda: 0.5)
    try:
        traces.rotation(sequence.rotate)(request, traces.ports(PLAN.compiled)(world.ports(runner)), retries)
    finally:
        traces.flush(seconds_left=60)


def _again(world: MemoryWorld, sent: Sent, run: str, *, runner: str = "aws") -> None:
    world.clock.sleep(INTERVAL_SECONDS)
    _rotate(world, sent, run, runner=runner)


# What is recorded


PORTS = {
    "LOCK": (ports.Lock, {"recall"}),
    "STORE": (ports.Store, {"name", "served_logins"}),
    "DATABASE": (ports.Database, {"name", "plaintext", "admin"}),
    "STAGER": (ports.Stager, set()),
    "REPLICA": (ports.Replica, {"name"}),
    "AUDIT_LOG": (ports.AuditLog, {"stream"}),
    "SIGNER": (ports.Signer, {"rank"}),
}
"""For each port what makes no call."""


@pytest.mark.parametrize("name", PORTS)
def test_every_call_of_every_port_is_recorded(name: str) -> None:
    port, silent = PORTS[name]
    members = {n for n, _ in inspect.getmembers(port) if not n.startswith("_")}
    assert getattr(tracing_ports, name).keys() == members - silent


def test_traced_ports_are_all_the_ports() -> None:
    world = MemoryWorld.create(PLAN)
    before, after = world.ports(), traced_ports(PLAN.compiled, world.ports())
    same = {"runner", "credential", "side_by_side", "clock", "passwords"}
    for name in before.__dataclass_fields__:
        assert (getattr(before, name) is getattr(after, name)) == (name in same), name
    assert [store.name for store in after.stores] == [store.name for store in before.stores]
    assert list(after.databases) == list(before.databases)
    assert after.audit_log.stream == "aws"
    assert [log.stream for log in after.other_logs()] == ["oci"]


def test_a_call_outside_of_a_run_is_not_recorded() -> None:
    world = MemoryWorld.create(PLAN)
    assert traced_ports(PLAN.compiled, world.ports()).lock.read() == world.lock.record


def test_a_list_that_comes_page_by_page_is_whole() -> None:
    world, sent = MemoryWorld.create(PLAN), Sent()
    for number in range(4):
        _again(world, sent, f"run-{number}")
    traced = traced_ports(PLAN.compiled, world.ports()).audit_log
    for method in ("numbers", "history"):
        expected = list(getattr(world.audit_logs["aws"], method)())
        assert len(expected) == 4
        assert list(getattr(traced, method)()) == expected
    assert list(traced.numbers(after=4)) == []


def test_workers_record_below_the_span_of_their_caller() -> None:
    world = MemoryWorld.create(PLAN)
    world.side_by_side = at_the_same_time
    sent = Sent()
    _rotate(world, sent, "first")
    by_id = {span["id"]: span for span in sent.spans}
    assert len(by_id) == len(sent.spans)
    for span in sent.spans:
        if span["name"].startswith("stage ") and "db.system.name" in span["attributes"]:
            assert by_id[span["parent"]]["name"] == "apply_db"
    assert {s["name"] for s in sent.spans if s["parent"] is None} == {"rotation"}


def test_a_run_that_replaces_the_claim_of_another_begins_a_trace_of_its_own() -> None:
    world = MemoryWorld.create(PLAN)
    sent = Sent()
    _rotate(world, sent, "first")
    world.clock.sleep(INTERVAL_SECONDS)
    world.databases["db-1"].faults.before = _raises(DatabaseUnreachableError())
    with pytest.raises(LockstepError):
        _rotate(world, sent, "second")
    world.databases["db-1"].faults.before = lambda _operation: None
    edit(world.stores["aws"], another_login(world))
    edit(world.stores["oci"], another_login(world))
    sent.batches.clear()
    _again(world, sent, "third", runner="oci")
    claims = {s["attributes"].get("lockstep.claim") for s in sent.spans if s["name"] == "rotation"}
    assert claims == {"heal"}
    assert {s["trace"] for s in sent.spans} == {trace_id(world.credential.id, "third")}


def _raises(error: Exception) -> Callable[[str], None]:
    def hook(_operation: str) -> None:
        raise error

    return hook


def test_times_are_those_of_the_clock() -> None:
    world = MemoryWorld.create(PLAN)
    sent = Sent()
    world.lock.faults.before = lambda _operation: world.clock.sleep(0.25)
    began = world.clock.now()
    _rotate(world, sent, "first")
    [run] = [s for s in sent.spans if s["name"] == "rotation"]
    assert run["began"] == round(began.timestamp() * 1000) * 1_000_000
    assert run["ended"] == round(world.clock.now().timestamp() * 1000) * 1_000_000
    for span in sent.spans:
        if span["attributes"].get("db.system.name") == "aws.dynamodb":
            assert span["ended"] - span["began"] == 250_000_000


# What can never be in one

_OPERATIONS = st.integers(0, 120)
_ERRORS = sorted(
    (c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, LockstepError)),
    key=lambda c: c.__name__,
)
_FIXED = re.compile(
    r"(aws|oci)(-api)?|internal|client|rotation|heal|new|rotated|failed|test|apply|probe|revoke|lockstep"
)


def _allowed(world: MemoryWorld, runs: set[str]) -> set[str]:
    """Every text that a span may hold, besides the fixed ones: names of the plan, of runs and of errors."""
    plan, states = (
        PLAN.compiled,
        {"AcquireLock", "Generate", "ApplyDb", "UpdateSecrets", "Audit", "ReleaseLock"},
    )
    calls = {name for table in PORTS for name in getattr(tracing_ports, table)}
    calls |= {"stage", "promote", "shows_spread"}
    places = {s.name for s in plan.stores} | {s.name for s in world.credential.servers} | {plan.lock.table}
    places |= {"audit log of aws", "audit log of oci"}
    assert plan.oci_stream
    regions = {plan.lock.region, plan.aws_stream.region, plan.oci_stream.region} | {
        s.region for s in plan.stores
    }
    of_servers = {t for s in world.credential.servers for t in (s.host, s.dbname, s.engine.value)}
    return {
        *(f"{call} {place}" for call in calls for place in places),
        *calls,
        *places,
        *regions,
        *of_servers,
        *runs,
        *states,
        *("RevokeDb", "AuditFailure", "ReleaseLockAfterFailure", "NoteSkip", "Witness"),
        *("generate", "apply_db", "update_secrets", "audit", "aws.dynamodb", plan.aws_stream.bucket),
        *(c.__name__ for c in _ERRORS),
        world.credential.id,
    }


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, inner in value.items():
                yield from () if key in ("id", "trace", "parent") else _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)


@inputs(150)
@given(
    failures=st.lists(st.tuples(_OPERATIONS, st.sampled_from(_ERRORS)), max_size=6),
    after=st.booleans(),
    edits=st.booleans(),
)
def test_a_span_holds_names_of_the_plan_and_nothing_else(
    failures: list[tuple[int, type[LockstepError]]], *, after: bool, edits: bool
) -> None:
    """Whatever fails with whatever error, whose every field is a canary."""
    world, sent = MemoryWorld.create(PLAN), Sent()
    _rotate(world, sent, "run-0")
    numbers, at = count(), dict(failures)

    def fail(_operation: str) -> None:
        if error := at.get(next(numbers)):
            raise error(credential=CANARY, database=CANARY, store=CANARY, secret=CANARY, code=CANARY)

    doubles: list[Any] = [world.lock, *world.stores.values(), *world.databases.values()]
    for double in [*doubles, *world.audit_logs.values()]:
        setattr(double.faults, "after" if after else "before", fail)
    for number, runner in enumerate(("aws", "oci", "aws"), start=1):
        if edits and number == 2:
            edit(world.stores["aws"], another_login(world))
        with suppress(LockstepError):
            _again(world, sent, f"run-{number}", runner=runner)
    texts = set(_texts(sent.spans))
    allowed = _allowed(world, {f"run-{n}" for n in range(4)})
    assert {t for t in texts if t not in allowed and not _FIXED.fullmatch(t)} == set()
    whole = json.dumps(sent.spans)
    drawn, policy = CountingPasswords(), world.credential.password_policy
    passwords = [drawn.new_password(policy).reveal() for _ in range(world.passwords.count)]
    assert passwords or failures
    for secret in (CANARY, "before-lockstep", *passwords):
        assert secret not in whole


# When an invocation is over


@pytest.mark.parametrize(("left", "seconds"), [(60.0, SEND_SECONDS), (SPARE_SECONDS + 1, 1.0)])
def test_sending_takes_no_longer_than_its_bound_and_what_the_invocation_has_left(
    left: float, seconds: float
) -> None:
    world, sent = MemoryWorld.create(PLAN), Sent()
    traces = Traces(clock=world.clock, send=sent)
    traces.step(generate.run)(
        GenerateRequest(rotation=held(world)), traces.ports(PLAN.compiled)(world.ports())
    )
    traces.flush(seconds_left=left)
    assert sent.seconds == [seconds]
    traces.flush(seconds_left=left)
    assert len(sent.batches) == 1, "once"


@pytest.mark.parametrize(("problem", "left"), [("no answer in 3.0 s", 60.0), (None, SPARE_SECONDS)])
def test_what_was_not_sent_is_told_in_the_log_and_forgotten(
    caplog: pytest.LogCaptureFixture, problem: str | None, left: float
) -> None:
    caplog.set_level(logging.WARNING, logger="lockstep")
    world, sent = MemoryWorld.create(PLAN), Sent(problem)
    traces = Traces(clock=world.clock, send=sent)
    traces.step(generate.run)(
        GenerateRequest(rotation=held(world)), traces.ports(PLAN.compiled)(world.ports())
    )
    for _ in range(2):
        traces.flush(seconds_left=left)
    assert [r.getMessage() for r in caplog.records] == [
        f"traces were not sent: {problem or 'the invocation has no time left'}"
    ]


def test_a_step_that_fails_is_recorded_and_its_error_goes_on() -> None:
    world, sent = MemoryWorld.create(PLAN), Sent()
    traces = Traces(clock=world.clock, send=sent)
    request = GenerateRequest(rotation=held(world))
    world.lock.faults.before = _raises(LockTableUnreachableError())
    with pytest.raises(LockTableUnreachableError):
        traces.step(generate.run)(request, traces.ports(PLAN.compiled)(world.ports()))
    traces.flush(seconds_left=60)
    assert {s["name"]: s["error"] for s in sent.spans}["generate"] == "LockTableUnreachableError"
    assert {s["trace"] for s in sent.spans} == {trace_id(world.credential.id, "run-1")}


def test_whatever_sending_raises_the_result_of_the_step_is_returned(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def send(_spans: Sequence[Json], _seconds: float) -> str | None:
        raise ValueError(CANARY)

    world = MemoryWorld.create(PLAN)
    traces = Traces(clock=world.clock, send=send)
    monkeypatch.setattr("functions.face.hosted_traces", lambda: traces)
    caplog.set_level(logging.WARNING, logger="lockstep")
    face = LambdaFace(generate.run, GenerateRequest, ports=lambda _id: world.ports())
    assert face({"rotation": held(world).model_dump()}, TimeLeft())["outcome"] == "probe"
    assert "traces were not sent: ValueError" in caplog.text
    assert CANARY not in caplog.text


def test_the_process_that_sends_gets_no_key_of_a_cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", CANARY)
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_RPST", CANARY)
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    given = sending._environment()
    assert CANARY not in given.values()
    assert (given["OTEL_RESOURCE_ATTRIBUTES"], given["https_proxy"]) == ("a=b", "http://proxy:3128")


def test_a_process_that_cannot_begin_is_a_problem_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert sending.send([], 1.0) == "FileNotFoundError"


# On and off


def test_it_is_off_unless_the_environment_names_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ENDPOINT, "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(hosted_traces(), NotTraced)
    monkeypatch.setenv(ENDPOINT, "")
    assert isinstance(hosted_traces(), NotTraced)
    monkeypatch.setenv(ENDPOINT, "http://localhost:4318")
    assert isinstance(hosted_traces(), Traces)
    assert hosted_traces() is hosted_traces()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    assert isinstance(hosted_traces(), NotTraced)


def test_off_means_the_very_same_step_and_ports() -> None:
    off, world = NotTraced(), MemoryWorld.create(PLAN)
    mine = world.ports()
    assert off.ports(PLAN.compiled)(mine) is mine
    assert off.step(generate.run) is generate.run
    assert off.rotation(sequence.rotate) is sequence.rotate


def test_a_bundle_without_tracing_says_so_and_rotates(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(ENDPOINT, "http://localhost:4318")
    monkeypatch.setitem(sys.modules, "lockstep.tracing.traces", None)
    wiring._traces.cache_clear()
    caplog.set_level(logging.WARNING, logger="lockstep")
    world = MemoryWorld.create(PLAN)
    face = LambdaFace(generate.run, GenerateRequest, ports=lambda _id: world.ports())
    assert face({"rotation": held(world).model_dump()}, TimeLeft())["outcome"] == "probe"
    assert "this bundle was built without tracing" in caplog.text
