"""Tracing in the OCI function, behind the real fdk, and of rotations that both clouds have a part in."""

from collections.abc import Iterator

import pytest

from lockstep.model import Credential
from lockstep.tracing.trace import trace_id
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.otlp import Collector, Manner
from tests.oci_fn.test_func import CANARY, both_serve, result, rotate
from tests.support.traces import ENDPOINT, below, names, of_run, orphans, traced

NOT_SENT = "traces were not sent: "
STEPS = ["generate", "apply_db", "update_secrets", "audit"]


@pytest.fixture(scope="module", name="collector")
def _collector() -> Iterator[Collector]:
    """Where both runners send their traces."""
    with traced() as running:
        yield running


@pytest.fixture(scope="module", name="traced_function")
def _traced_function(estate: Estate, collector: Collector) -> Iterator[FunctionProcess]:
    more = {ENDPOINT: collector.endpoint, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}
    with running_function({**estate.function_environment, **more}) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh(collector: Collector) -> None:
    collector.forget()
    collector.manner = Manner.WELL


def test_a_rotation_of_the_function_is_one_trace(
    collector: Collector, traced_function: FunctionProcess, credential: Credential
) -> None:
    done = result(rotate(traced_function, credential))
    assert done["outcome"] == "rotated"
    [spans] = collector.traces().values()
    assert (collector.refusals, orphans(spans)) == ([], [])
    run = of_run(spans, done["rotation_id"])
    assert (run.trace, run.parent) == (trace_id(credential.id, done["rotation_id"]), None)
    assert run.attributes == {
        "lockstep.credential": credential.id,
        "lockstep.run": done["rotation_id"],
        "lockstep.generation": 1,
        "lockstep.claim": "heal",
        "lockstep.runner": "oci",
        "lockstep.trigger": "manual",
        "lockstep.outcome": "rotated",
    }
    inside = below(spans, run)
    # The first rotation asks first which login works.
    wanted = ["AcquireLock", *STEPS[:2], *STEPS, "ReleaseLock"]
    assert names(inside) == wanted
    assert [s.name.partition(" ")[0] for s in below(spans, inside[0])] == ["acquire"]
    assert {"promote aws", "promote oci"} <= set(names(below(spans, inside[5])))
    assert {s.resource["deployment.environment.name"] for s in spans} == {"test"}
    assert all(run.began <= s.began <= s.ended <= run.ended for s in spans)


def test_what_aws_began_and_oci_finishes_is_one_trace(
    estate: Estate, collector: Collector, traced_function: FunctionProcess, credential: Credential
) -> None:
    rotate(traced_function, credential)
    estate.outside.expire_schedule(credential.id)
    collector.forget()
    crm = estate.servers["crm"]
    crm.kill()
    try:
        began = estate.rotate(credential.id)
    finally:
        crm.start()
    assert began.error == "DatabaseUnreachableError"
    done = result(rotate(traced_function, credential))
    assert (done["outcome"], done["adopted"]) == ("rotated", True)
    [spans] = collector.traces().values()
    assert (collector.refusals, orphans(spans)) == ([], [])
    first = of_run(spans, began.arn.rpartition(":")[2])
    assert first.trace == trace_id(credential.id, began.arn.rpartition(":")[2])
    assert (first.parent, first.is_error, first.attributes["lockstep.runner"]) == (None, True, "aws")
    second = of_run(spans, done["rotation_id"])
    assert (second.parent, second.is_error, second.attributes["lockstep.runner"]) == (first.id, False, "oci")
    assert second.attributes["lockstep.generation"] == first.attributes["lockstep.generation"] == 2
    assert names(below(spans, second)) == ["AcquireLock", *STEPS, "ReleaseLock"]


def test_no_password_or_key_is_in_what_either_cloud_sends(
    estate: Estate, collector: Collector, traced_function: FunctionProcess, credential: Credential
) -> None:
    secret = []
    for by_function in (True, False, True):
        estate.outside.expire_schedule(credential.id)
        if by_function:
            rotate(traced_function, credential)
        else:
            estate.rotate(credential.id)
        secret.append(both_serve(estate, credential).password.reveal())
    sent = b"".join(collector.bodies)
    assert len(collector.traces()) == 3
    for text in (*secret, *estate.confidential, *credential.usernames, CANARY):
        assert text.encode() not in sent


@pytest.mark.parametrize("manner", [Manner.NEVER, Manner.DRIPPING, Manner.ERROR, Manner.ENDLESS])
def test_a_collector_that_fails_fails_no_rotation_and_the_log_says_so(
    estate: Estate,
    collector: Collector,
    traced_function: FunctionProcess,
    credential: Credential,
    manner: Manner,
) -> None:
    estate.outside.expire_schedule(credential.id)
    collector.manner = manner
    logged = traced_function.watch_log()
    assert result(rotate(traced_function, credential))["outcome"] == "rotated"
    assert logged.added().count(NOT_SENT) == 1


def test_every_rotation_of_a_call_is_a_trace_and_they_are_sent_together(
    estate: Estate, collector: Collector, traced_function: FunctionProcess
) -> None:
    for credential in estate.plan.credentials:
        estate.outside.expire_schedule(credential.id)
    answers = traced_function.call().body["results"]
    rotated = [a for a in answers if a["outcome"] == "rotated"]
    assert len(rotated) > 1
    assert collector.traces().keys() == {trace_id(a["credential_id"], a["rotation_id"]) for a in rotated}
    assert len(collector.bodies) == 1
    collector.forget()
    skipped = traced_function.call({"credential_ids": [a["credential_id"] for a in answers]})
    assert {a["outcome"] for a in skipped.body["results"]} == {"skipped"}
    assert collector.bodies == []
