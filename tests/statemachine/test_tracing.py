"""The deployed state machine with tracing on: real handlers, databases and a collector that decodes what it gets."""

import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from lockstep.tracing.trace import trace_id
from lockstep.tracing.traces import SEND_SECONDS
from sandbox.aws import Execution
from sandbox.otlp import Collector, Manner, Received
from sandbox.plans import LOCK_TABLE
from tests.statemachine.conftest import Case, login_text
from tests.support.traces import below, names, of_run, orphans, traced

STEPS = ["generate", "apply_db", "update_secrets", "audit"]
SENDING_STEPS = 4


@pytest.fixture(name="collector")
def _collector() -> Iterator[Collector]:
    with traced() as running:
        yield running


def _run(execution: Execution) -> str:
    """The id of the run: the name of the execution."""
    return execution.arn.rpartition(":")[2]


def _only_trace(collector: Collector) -> list[Received]:
    assert collector.refusals == []
    [spans] = collector.traces().values()
    assert orphans(spans) == []
    return spans


def test_a_rotation_is_one_trace_with_its_four_steps(everywhere: Case, collector: Collector) -> None:
    everywhere.settle()
    collector.forget()
    execution = everywhere.rotate()
    assert execution.output["outcome"] == "rotated"
    spans = _only_trace(collector)
    run = of_run(spans, _run(execution))
    assert run.trace == trace_id(everywhere.credential.id, _run(execution))
    assert [s.parent for s in spans if s.parent is None or s is run] == [None]
    assert run.attributes == {
        "lockstep.credential": everywhere.credential.id,
        "lockstep.run": _run(execution),
        "lockstep.generation": 2,
        "lockstep.claim": "new",
        "lockstep.runner": "aws",
        "lockstep.trigger": "manual",
        "lockstep.outcome": "rotated",
    }
    steps = below(spans, run)
    assert names(steps) == STEPS
    assert {(s.kind, s.is_error, s.attributes["lockstep.generation"]) for s in steps} == {
        ("internal", False, 2)
    }
    for earlier, later in pairwise(steps):
        assert earlier.ended <= later.began
    for step in steps:
        assert run.began <= step.began <= step.ended <= run.ended
        for call in below(spans, step):
            assert step.began <= call.began <= call.ended <= step.ended
    assert {s.resource["service.name"] for s in spans} == {"lockstep"}


def test_every_call_of_a_store_the_lock_a_database_or_the_log_is_below_its_step(
    everywhere: Case, collector: Collector
) -> None:
    everywhere.settle()
    collector.forget()
    everywhere.rotate()
    spans = _only_trace(collector)
    calls = {step.name: set(names(_all_below(spans, step))) for step in spans if step.name in STEPS}
    databases = everywhere.credential.databases
    assert {"read_current aws", "prepare aws", "stage aws", f"claim {LOCK_TABLE}"} <= calls["generate"]
    wanted = {
        f"{call} {name}" for name in databases for call in ("accepts", "exclusive", "stage", "admin_login")
    }
    assert {*wanted, f"require {LOCK_TABLE}"} <= calls["apply_db"]
    assert {f"begin_promotion {LOCK_TABLE}", "promote aws", "shows aws"} <= calls["update_secrets"]
    assert {"put audit log of aws", "sign audit log of aws", f"move_head {LOCK_TABLE}"} <= calls["audit"]
    [ledger] = {tuple(sorted(s.attributes.items())) for s in spans if s.name == "stage ledger"}
    server = next(s for s in everywhere.credential.servers if s.name == "ledger")
    assert dict(ledger) == {
        "db.system.name": "postgresql",
        "db.namespace": server.dbname,
        "db.operation.name": "stage",
        "server.address": server.host,
        "server.port": server.port,
    }
    assert {s.kind for s in spans if s.name not in (*STEPS, "rotation")} == {"client"}
    # What came before is refused on every database: an answer, and no error.
    refused = [s for s in spans if s.name.startswith("accepts") and s.attributes["lockstep.answer"] is False]
    assert {s.name.partition(" ")[2] for s in refused} <= set(databases)
    assert not any(s.is_error for s in spans)


def _all_below(spans: list[Received], parent: Received) -> list[Received]:
    found = below(spans, parent)
    return [*found, *(s for child in found for s in _all_below(spans, child))]


def test_a_failed_run_names_its_error_and_the_run_that_finishes_it_joins_its_trace(
    spanning: Case, collector: Collector
) -> None:
    spanning.settle()
    collector.forget()
    ledger = spanning.world.servers["ledger"]
    ledger.kill()
    try:
        failed = spanning.rotate()
    finally:
        ledger.start()
    assert failed.error == "DatabaseUnreachableError"
    spans = _only_trace(collector)
    first = of_run(spans, _run(failed))
    assert (first.is_error, first.attributes["error.type"]) == (True, "DatabaseUnreachableError")
    assert first.attributes["lockstep.outcome"] == "failed"
    *tries, audit = [s for s in below(spans, first) if s.name != "generate"]
    assert len(tries) > 1, "each try is a span"
    assert {(s.name, s.attributes["error.type"]) for s in tries} == {("apply_db", "DatabaseUnreachableError")}
    assert (audit.name, audit.is_error) == ("audit", False)
    finished = spanning.rotate()
    assert finished.output["adopted"] is True
    spans = _only_trace(collector)
    assert [s for s in spans if s.parent is None] == [first]
    second = of_run(spans, _run(finished))
    assert second.parent == first.id
    assert names(below(spans, second)) == STEPS


def test_a_heal_is_one_trace_with_its_probe(mariadb: Case, collector: Collector) -> None:
    mariadb.settle()
    collector.forget()
    mariadb.edit_secret(login_text(mariadb.stored_login(), note="by hand"))
    execution = mariadb.again()
    assert execution.output["kind"] == "heal"
    spans = _only_trace(collector)
    run = of_run(spans, _run(execution))
    assert run.attributes["lockstep.claim"] == "heal"
    steps = below(spans, run)
    assert names(steps) == ["generate", "apply_db", "generate", "apply_db", "update_secrets", "audit"]
    actions = [s.attributes.get("lockstep.action") for s in steps]
    assert actions == [None, "probe", None, "apply", None, None]


def test_a_skipped_run_leaves_no_trace(mariadb: Case, collector: Collector) -> None:
    mariadb.rotate()
    collector.forget()
    assert mariadb.rotate().output == {"outcome": "skipped"}
    assert collector.bodies == []


def test_no_password_is_in_what_is_sent(everywhere: Case, collector: Collector) -> None:
    everywhere.settle()
    passwords = []
    for _ in range(3):
        everywhere.again()
        passwords.append(everywhere.stored_login())
    sent = b"".join(collector.bodies)
    assert len(sent) > 10_000
    secret = [login.password.reveal() for login in passwords] + list(everywhere.world.confidential)
    usernames = set(everywhere.credential.usernames) | {"lockstep_rotator"}
    for text in (*secret, *usernames):
        assert text.encode() not in sent
    for word in (b"SELECT", b"ALTER", b"SCRAM-SHA", b"caching_sha2"):
        assert word not in sent


@pytest.mark.parametrize("manner", [m for m in Manner if m is not Manner.WELL])
def test_a_collector_that_fails_holds_a_rotation_up_for_a_bounded_time_and_fails_nothing(
    mariadb: Case, collector: Collector, manner: Manner
) -> None:
    mariadb.settle()
    collector.forget()
    collector.manner = manner
    began = time.monotonic()
    execution = mariadb.rotate()
    assert execution.output["outcome"] == "rotated", execution.cause
    # The bound, with what a rotation takes on a busy machine.
    assert time.monotonic() - began < SENDING_STEPS * SEND_SECONDS + 20
    assert mariadb.locked_out() == []
    assert collector.spans == []


def test_a_collector_that_is_not_there_fails_nothing(mariadb: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    with traced() as collector:
        pass
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint)
    assert mariadb.rotate().output["outcome"] == "rotated"
