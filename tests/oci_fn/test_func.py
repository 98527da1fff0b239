"""The function, behind the real fdk, over both clouds and real databases."""

from pathlib import Path
from typing import Any

import pytest

from lockstep.oci.object_storage import ObjectStorageFolder
from lockstep.plan.published import compile_plan, credential_name, folder_of, place_in_oci, write_plan
from lockstep.protocol.model import Credential, Login
from lockstep.protocol.schedule import run_key
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox.estate import Estate
from sandbox.fn import Answer, FunctionProcess, running_function
from sandbox.oci_resources import create_audit_bucket
from tests.contract.oci_fixtures import sandbox_clients
from tests.oci_fn.conftest import entries

CANARY = "canary-7f3a9"


def result(answer: Answer) -> dict[str, Any]:
    """The result of the one credential that was asked for."""
    [found] = answer.body["results"]
    assert isinstance(found, dict)
    return found


def rotate(function: FunctionProcess, credential: Credential, **more: object) -> Answer:
    return function.call({"credential_id": credential.id, **more})


def both_serve(estate: Estate, credential: Credential) -> Login:
    in_aws, in_oci = estate.stored_login(credential, "aws"), estate.stored_login(credential, "oci")
    assert in_aws == in_oci
    assert in_aws is not None
    return in_aws


@pytest.fixture
def everywhere(estate: Estate) -> Credential:
    """The credential with a database on every engine."""
    return estate.plan.credentials[0]


def test_rotations_on_every_engine(estate: Estate, function: FunctionProcess, everywhere: Credential) -> None:
    before, runs = both_serve(estate, everywhere), []
    for generation in (1, 2, 3):
        answer = rotate(function, everywhere)
        assert answer.status == 200, answer.text
        assert (result(answer)["outcome"], result(answer)["generation"]) == ("rotated", generation)
        runs.append(result(answer)["rotation_id"])
        after = both_serve(estate, everywhere)
        assert (after == before) == (generation == 1)  # What was imported works, and stays.
        assert estate.locked_out(everywhere) == []
        before = after
        estate.outside.expire_schedule(everywhere.id)
    events = [e.event for e in entries(estate, everywhere)["oci"]]
    details = [e["unmapped"]["lockstep"] for e in events]
    assert [(d["generation"], d["kind"]) for d in details] == [(1, "reconcile"), (2, "new"), (3, "new")]
    revoked = [d["revoked"] for d in details[2]["databases"].values()]
    assert revoked == [{"1": "refused"}] * len(everywhere.databases)
    assert [e["metadata"]["uid"] for e in events] == runs
    states = ["ReadPlan", "AcquireLock", "Generate", "ApplyDb", "UpdateSecrets", "Audit", "ReleaseLock"]
    assert [list(function.logged(run)["states_ms"]) for run in runs] == [states] * len(runs)


def test_it_skips_while_aws_rotates_and_rotates_when_aws_does_not(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    before = {stream: len(found) for stream, found in entries(estate, credential).items()}
    by_aws = estate.rotate(credential.id)
    assert by_aws.status == "SUCCEEDED", by_aws.cause
    assert result(rotate(function, credential))["outcome"] == "skipped"
    estate.outside.expire_schedule(credential.id)
    by_oci = result(rotate(function, credential))
    assert (by_oci["outcome"], by_oci["generation"]) == ("rotated", by_aws.output["generation"] + 1)
    estate.outside.expire_schedule(credential.id)
    assert estate.rotate(credential.id).output["generation"] == by_oci["generation"] + 1
    both_serve(estate, credential)
    added = {
        stream: len(found) - before.get(stream, 0) for stream, found in entries(estate, credential).items()
    }
    assert added == {"aws": 2, "oci": 1}
    assert estate.locked_out(credential) == []


# Bad inputs


def test_a_bad_input_changes_nothing_and_is_not_quoted(estate: Estate, function: FunctionProcess) -> None:
    """More of them are in tests/fuzz."""
    items = [estate.outside.lock_item(c.id) for c in estate.plan.credentials]
    estate.oci.calls.clear()
    logged = function.watch_log()
    known = {"credential_id": "multi-cloud/app-1"}
    bodies: list[object] = [
        *(b"\xff", b"{", [], {"credential_id": 7}, {"credential_id": "with spaces"}, {"force": True}),
        *({**known, **more} for more in ({"trigger": "by hand"}, {"force": "yes"}, {CANARY: True})),
        {"credential_id": "multi-cloud/unknown"},
    ]
    for body in bodies:
        answer = function.call(body)
        assert (answer.status, answer.body["error"]) == (502, "InvalidRequestError"), body
        assert "Nothing was changed" in answer.body["message"]
        assert CANARY not in answer.text
    assert estate.oci.calls.records == ()
    assert [estate.outside.lock_item(c.id) for c in estate.plan.credentials] == items
    assert CANARY not in logged.added()


@pytest.mark.parametrize("headers", [{"Fn-Call-Id": "not a call id"}, {"Fn-Deadline": "soon"}])
def test_a_bad_call_id_or_deadline_is_refused(
    function: FunctionProcess, credential: Credential, headers: dict[str, str]
) -> None:
    answer = function.call({"credential_id": credential.id}, headers=headers)
    assert (answer.status, answer.body["error"]) == (502, "InvalidRequestError")


# Nothing leaks


def test_no_secret_is_in_any_answer_or_log(estate: Estate, credential: Credential) -> None:
    """With fdk's debug log on."""
    shown, passwords = "", []
    with running_function({**estate.function_environment, "FDK_DEBUG": "true"}) as verbose:
        for _ in range(2):
            shown += rotate(verbose, credential).text
            passwords.append(both_serve(estate, credential).password.reveal())
            estate.outside.expire_schedule(credential.id)
        shown += verbose.log
    assert '"outcome": "rotated"' in shown
    assert [s for s in [*estate.confidential, *passwords] if s in shown] == []


def test_an_invalid_plan_is_reported(estate: Estate) -> None:
    file = estate.plan_file.with_name("broken.yaml")
    file.write_text(f"version: 1\n{CANARY}: 1")
    with running_function({**estate.function_environment, PLAN_VARIABLE: str(file)}) as function:
        answer = function.call()
    assert (answer.status, answer.body["error"]) == (502, "PlanProblemsError")


# Cold start


def test_a_published_plan_is_verified_before_a_rotation(estate: Estate, credential: Credential) -> None:
    """Who writes to its bucket stops rotations, and sends no login elsewhere."""
    # CA files are not below this folder, so their paths stay whole.
    published = compile_plan(estate.plan.compiled, estate.plan.shards, Path("/var/empty"))
    place = place_in_oci(estate.plan.compiled, published.digest)
    create_audit_bucket(estate.oci, place.bucket, tier="Standard")
    estate.oci.identity.permit("lockstep-function", "OBJECT_READ", resource=place.bucket)
    clients = sandbox_clients(estate.oci)
    own = ObjectStorageFolder(
        clients, namespace=place.namespace, bucket=place.bucket, folder=folder_of(place.digest)
    )
    write_plan(own, published, published.files, clock=SystemClock(), done=lambda _: None)
    environment = {**estate.function_environment, PLAN_VARIABLE: str(place)}
    with running_function(environment) as function:
        answer = rotate(function, credential)
        assert result(answer)["outcome"] == "rotated", answer.text
        assert function.call({"credential_id": "multi-cloud/none"}).body["error"] == "InvalidRequestError"
    name = credential_name(run_key(credential.id))
    forged = published.files[name].replace(b'"host":"localhost"', b'"host":"elsewhere"')
    assert forged != published.files[name]
    clients.objects.delete_object(place.namespace, place.bucket, f"{folder_of(place.digest)}/{name}")
    assert own.create(name, forged)
    login = both_serve(estate, credential)
    with running_function(environment) as function:
        answer = rotate(function, credential, force=True)
    assert answer.status == 502
    assert result(answer)["error"] == "PlanDocumentRefusedError"
    assert both_serve(estate, credential) == login
    assert estate.locked_out(credential) == []
