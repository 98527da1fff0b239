"""The function, behind the real fdk, over both clouds and real databases."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.oci.object_storage import ObjectStoragePlanBucket
from lockstep.plan.published import compile_plan, credential_name, folder_of, place_in_oci, write_plan
from lockstep.protocol.model import Credential, Login, SecretStr
from lockstep.protocol.names import slot_name
from lockstep.protocol.schedule import run_key
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox.estate import Estate
from sandbox.fn import Answer, FunctionProcess, running_function
from sandbox.oci.resources import create_audit_bucket
from sandbox.outside import Value, lets_in
from sandbox.plans import LOCK_TABLE
from sandbox.servers import set_password
from tests.contract.oci_fixtures import sandbox_clients
from tests.oci_fn.conftest import broken_plan, entries

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


def test_rotations_end_to_end_on_every_engine(
    estate: Estate, function: FunctionProcess, everywhere: Credential
) -> None:
    before = both_serve(estate, everywhere)
    runs = []
    for generation in (1, 2, 3, 4):
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
    assert [(d["generation"], d["kind"]) for d in details] == [
        (1, "reconcile"),
        (2, "new"),
        (3, "new"),
        (4, "new"),
    ]
    revoked = [[d["revoked"] for d in event["databases"].values()] for event in details[2:]]
    assert revoked == [[{str(g): "refused"}] * len(everywhere.databases) for g in (1, 2)]
    assert [e["metadata"]["uid"] for e in events] == runs
    states = ["ReadPlan", "AcquireLock", "Generate", "ApplyDb", "UpdateSecrets", "Audit", "ReleaseLock"]
    assert [list(function.logged(run)["states_ms"]) for run in runs] == [states] * len(runs)


def test_the_other_keys_of_each_store_survive_runs_of_both_clouds(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    """Each secret of each store keeps its own, in every slot of a ring; one slot was adopted."""
    names = credential.secret_names
    login = both_serve(estate, credential)
    given = {"username": login.username, "password": login.password.reveal(), "engine": "postgres"}
    in_aws, vaults = estate.aws.client("secretsmanager"), estate.oci.client(oci.vault.VaultsClient)
    for secret, text in {names.app_user: given, names.connection_blob: {}}.items():
        in_aws.put_secret_value(SecretId=secret, SecretString=json.dumps({**text, "of": ["aws", secret]}))
        slot = estate.oci.vault.named(slot_name(secret, 1), estate.oci.vault_id)
        adopted = json.dumps({**text, "of": ["oci", secret], "api_key": CANARY})
        content = oci.vault.models.Base64SecretContentDetails(
            content=base64.b64encode(adopted.encode()).decode(), stage="CURRENT"
        )
        vaults.update_secret(slot, oci.vault.models.UpdateSecretDetails(secret_content=content))
    for generation in range(1, 6):
        if generation % 2:
            answer = rotate(function, credential)
            assert result(answer)["generation"] == generation
            assert CANARY not in answer.text
        else:
            assert estate.rotate(credential.id).output["generation"] == generation
        for store in ("aws", "oci"):
            for secret in (names.app_user, names.connection_blob):
                held = estate.outside.serves(store, credential, secret)
                assert (held.generation, json.loads(held.text)["of"]) == (generation, [store, secret])
                assert ("api_key" in json.loads(held.text)) == (store == "oci")
        assert estate.locked_out(credential) == []
        estate.outside.expire_schedule(credential.id)


def test_a_schedule_rotates_what_is_due_and_skips_the_rest(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    rotate(function, credential)
    estate.outside.expire_schedule(credential.id)
    first = function.call()
    assert {r["outcome"] for r in first.body["results"]} == {"rotated"}
    assert {r["credential_id"] for r in first.body["results"]} == {c.id for c in estate.plan.credentials}
    assert len({r["rotation_id"] for r in first.body["results"]}) == len(estate.plan.credentials)
    second = function.call(b"  \n")
    assert second.body == {"results": []}
    for each in estate.plan.credentials:
        assert estate.locked_out(each) == []
    # Other tests need every credential to be due.
    for each in estate.plan.credentials:
        estate.outside.expire_schedule(each.id)


def test_it_skips_while_aws_rotates_and_rotates_when_aws_does_not(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    by_aws = estate.rotate(credential.id)
    assert by_aws.status == "SUCCEEDED", by_aws.cause
    assert result(rotate(function, credential))["outcome"] == "skipped"
    estate.outside.expire_schedule(credential.id)
    by_oci = result(rotate(function, credential))
    assert (by_oci["outcome"], by_oci["generation"]) == ("rotated", by_aws.output["generation"] + 1)
    estate.outside.expire_schedule(credential.id)
    assert estate.rotate(credential.id).output["generation"] == by_oci["generation"] + 1
    both_serve(estate, credential)
    chains = entries(estate, credential)
    # The skipped run has witnessed the first rotation, whose entry is in the other cloud's log alone.
    assert chains["oci"][-1].witness["aws"].seq <= chains["aws"][-2].seq
    assert chains["aws"][-1].witness["oci"].seq <= chains["oci"][-1].seq
    assert estate.locked_out(credential) == []


def test_it_finishes_what_aws_left_half_done(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    rotate(function, credential)
    before = both_serve(estate, credential)
    estate.outside.expire_schedule(credential.id)
    updates = 0

    def refuse_promotion(when: Literal["before", "after"], operation: str, _resource: str) -> None:
        nonlocal updates
        updates += (when, operation) == ("before", "update_secret")
        if updates == 3:  # Two versions are staged.
            estate.oci.faults.refuse("update_secret", status=400, code="InvalidParameter", times=None)

    estate.oci.on_call = refuse_promotion
    failed = estate.rotate(credential.id)
    estate.oci.on_call = None
    estate.oci.faults.clear()
    assert failed.error == "StoreRejectedError"
    assert estate.locked_out(credential) == []

    # One store serves the new value already, so it goes forward under a new generation.
    assert estate.stored_login(credential, "oci") == before
    promoted = estate.stored_login(credential, "aws")
    done = result(rotate(function, credential))
    assert (done["outcome"], done["adopted"]) == ("rotated", False)
    assert both_serve(estate, credential) == promoted != before
    assert estate.locked_out(credential) == []
    statuses = {s: [e.event["status"] for e in es] for s, es in entries(estate, credential).items()}
    assert statuses["aws"][-1] == "Failure"
    assert statuses["oci"][-1] == "Success"


def orders_revocation(estate: Estate, credential: Credential, through: int) -> None:
    """Order an emergency: every generation up to this one is to be revoked."""
    estate.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": credential.id}},
        UpdateExpression="SET revoke_through = :through",
        ExpressionAttributeValues={":through": {"N": str(through)}},
    )


def test_an_emergency_ends_the_previous_value_at_once(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    rotate(function, credential)
    before = both_serve(estate, credential)
    assert result(rotate(function, credential, force=True))["outcome"] == "skipped"  # The overlap is kept.
    lock = DynamoDbLock(estate.aws.client("dynamodb"), LOCK_TABLE, credential.id)
    record = lock.read()
    orders_revocation(estate, credential, record.highest_generation)
    revoked = rotate(function, credential, trigger="incident-7")
    assert result(revoked)["outcome"] == "rotated"
    assert not lock.read().is_revoking
    assert estate.locked_out(credential) == []
    event = entries(estate, credential)["oci"][-1].event["unmapped"]["lockstep"]
    assert (event["trigger"], event["forced"]) == ("incident-7", False)
    assert event["revoked_on_purpose"] == sorted(record.valid)
    value = Value(before.username, before.password.reveal())
    assert not any(lets_in(server, value) for server in credential.servers)


def test_one_credential_that_fails_does_not_stop_the_others(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    rotate(function, credential)
    estate.outside.expire_schedule(credential.id)
    set_password(
        estate.servers["crm"],
        Login(credential.usernames[0], SecretStr("changed-by-hand-1A")),
    )
    answer = function.call()
    assert answer.status == 502
    outcomes = {r["credential_id"]: r for r in answer.body["results"]}
    assert outcomes[credential.id]["error"] == "CurrentCredentialRejectedError"
    others = {r["outcome"] for name, r in outcomes.items() if name != credential.id}
    assert others <= {"rotated", "skipped"}
    assert result(rotate(function, credential))["error"] == "DatabaseBlockedError"
    # After a repair by hand and a retry the next call finishes the rotation.
    login = estate.stored_login(credential, "oci")
    assert login
    set_password(estate.servers["crm"], login)
    estate.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": credential.id}},
        UpdateExpression="DELETE blocked :databases",
        ExpressionAttributeValues={":databases": {"SS": ["crm"]}},
    )
    assert result(rotate(function, credential))["outcome"] == "rotated"
    for each in estate.plan.credentials:
        estate.outside.expire_schedule(each.id)


def test_identities_are_read_again_after_a_refusal(estate: Estate) -> None:
    module = Path(__file__).with_name("refused_func.py")
    with running_function(estate.function_environment, module=module) as function:
        answer = rotate(function, estate.plan.credentials[0])
        assert result(answer)["error"] == "LockTableAccessDeniedError"
        assert function.log.count("forgotten") == 1


# Bad inputs


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"{",
        [],
        "multi-cloud/app-1",
        {"credential_id": 7},
        {"credential_id": None},
        {"credential_id": ""},
        {"credential_id": "with spaces"},
        {"credential_id": "it's"},
        {"credential_id": "multi-cloud/app-1", "trigger": 5},
        {"credential_id": "multi-cloud/app-1", "trigger": None},
        {"credential_id": "multi-cloud/app-1", "trigger": {}},
        {"credential_id": "multi-cloud/app-1", "trigger": "by hand"},
        {"trigger": None},
        {"credential_id": "multi-cloud/app-1", "force": "yes"},
        {"credential_id": "multi-cloud/app-1", "revoke_previous": True},
        {"credential_id": "multi-cloud/app-1", CANARY: True},
        {"credential_id": "multi-cloud/unknown"},
        {"force": True},
    ],
    ids=repr,
)
def test_a_bad_input_changes_nothing_and_is_not_quoted(
    estate: Estate, function: FunctionProcess, body: object
) -> None:
    items = [estate.outside.lock_item(c.id) for c in estate.plan.credentials]
    estate.oci.calls.clear()
    logged = function.watch_log()
    answer = function.call(body)
    assert (answer.status, answer.body["error"]) == (502, "InvalidRequestError")
    assert "Nothing was changed" in answer.body["message"]
    assert estate.oci.calls.records == ()
    assert [estate.outside.lock_item(c.id) for c in estate.plan.credentials] == items
    assert CANARY not in answer.text + logged.added()


@pytest.mark.parametrize("headers", [{"Fn-Call-Id": "not a call id"}, {"Fn-Deadline": "soon"}])
def test_a_bad_call_id_or_deadline_is_refused(
    function: FunctionProcess, credential: Credential, headers: dict[str, str]
) -> None:
    answer = function.call({"credential_id": credential.id}, headers=headers)
    assert (answer.status, answer.body["error"]) == (502, "InvalidRequestError")


def test_a_call_with_too_little_time_changes_nothing(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    item = estate.outside.lock_item(credential.id)
    answer = function.call({"credential_id": credential.id}, seconds=20)
    assert (answer.status, result(answer)["error"]) == (502, "DeadlineExceededError")
    assert estate.outside.lock_item(credential.id) == item


@pytest.mark.parametrize("text", ["version: 1", "{", f"version: 1\n{CANARY}: 1"])
def test_an_invalid_plan_is_reported(estate: Estate, text: str) -> None:
    with broken_plan(estate, text) as function:
        answer = function.call()
        assert answer.status == 502
        assert answer.body["error"] in {"PlanProblemsError", "InvalidPlanError"}


# Nothing leaks


def test_a_foreign_error_shows_only_its_class(estate: Estate) -> None:
    environment = {**estate.function_environment, "CANARY": CANARY}
    module = Path(__file__).with_name("canary_func.py")
    with running_function(environment, module=module) as function:
        answer = function.call()
        assert answer.status == 502
        assert {r["error"] for r in answer.body["results"]} == {"UnexpectedError"}
        assert "code=RuntimeError" in answer.text
        assert CANARY not in answer.text + function.log


def test_an_unreachable_cloud_is_reported(estate: Estate) -> None:
    environment = {**estate.function_environment, "LOCKSTEP_OCI_ENDPOINT": "http://127.0.0.1:9"}
    with running_function(environment) as function:
        answer = function.call({"credential_id": estate.plan.credentials[1].id}, seconds=40)
        # Without OCI nothing signs for a session in AWS, so the lock table is what cannot be reached.
        assert result(answer)["error"] in {"LockTableUnreachableError", "DeadlineExceededError"}


@pytest.fixture
def verbose_function(estate: Estate) -> Iterator[FunctionProcess]:
    """The function with fdk's debug log on."""
    with running_function({**estate.function_environment, "FDK_DEBUG": "true"}) as running:
        yield running


def test_no_secret_is_in_any_answer_or_log(
    estate: Estate, verbose_function: FunctionProcess, credential: Credential
) -> None:
    shown = ""
    passwords = []
    for _ in range(2):
        shown += rotate(verbose_function, credential).text
        passwords.append(both_serve(estate, credential).password.reveal())
        estate.outside.expire_schedule(credential.id)
    shown += verbose_function.log
    assert '"outcome": "rotated"' in shown
    leaked = [s for s in [*estate.confidential, *passwords] if s in shown]
    assert leaked == []


# Cold start


def test_a_cold_start_takes_seconds(estate: Estate) -> None:
    skipped = estate.plan.credentials[1]
    with running_function(estate.function_environment) as function:
        rotate(function, skipped)
        cold_seconds = time.monotonic() - function.started_at
        began = time.monotonic()
        assert result(rotate(function, skipped))["outcome"] == "skipped"
        warm_seconds = time.monotonic() - began
    assert warm_seconds < cold_seconds < 30


def test_a_published_plan_is_verified_before_a_credential_is_rotated(
    estate: Estate, credential: Credential
) -> None:
    """Who writes to its bucket stops rotations, and sends no login elsewhere."""
    # CA files are not below this folder, so their paths stay whole.
    published = compile_plan(estate.plan.compiled, estate.plan.shards, Path("/var/empty"))
    place = place_in_oci(estate.plan.compiled, published.digest)
    create_audit_bucket(estate.oci, place.bucket, tier="Standard")
    estate.oci.identity.permit("lockstep-function", "OBJECT_READ", resource=place.bucket)
    own = ObjectStoragePlanBucket(
        sandbox_clients(estate.oci),
        namespace=place.namespace,
        bucket=place.bucket,
        folder=folder_of(place.digest),
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
    own.delete(name)
    assert own.create(name, forged)
    login = both_serve(estate, credential)
    with running_function(environment) as function:
        answer = rotate(function, credential, force=True)
    assert answer.status == 502
    assert result(answer)["error"] == "PlanDocumentRefusedError"
    assert both_serve(estate, credential) == login
    assert estate.locked_out(credential) == []
