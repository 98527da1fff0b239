"""Events of both runners and of operators, live: the deployed state machine, the real fdk, real databases.

An event says only what has happened already. What becomes of it changes nothing: no rotation takes longer, and no login
is refused, where EventBridge or Notifications refuse, hang or throttle.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.model import Credential
from lockstep.protocol.orders import TakeOver
from oci_fn.publish import SLOW_SECONDS
from sandbox import plans
from sandbox.emulators.aws import Execution
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.emulators.oci.faults import Fault
from sandbox.estate import Estate, Settings, running_estate
from sandbox.fn import FunctionProcess
from sandbox.plans import LOCK_TABLE
from sandbox.watching import CloudEvent

PREFIX = "dev.lockstep.credential."


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """MariaDB, both clouds, a credential for each test, and events in both clouds."""
    servers = {"orders": MariaDbServer(authority=CertificateAuthority(tmp_path_factory.mktemp("ca")))}
    credentials = [plans.credential(f"multi-cloud/app-{n}", "orders", username=f"app_{n}") for n in range(14)]
    settings = Settings(audit_tier="Standard", events=True)
    folder = tmp_path_factory.mktemp("estate")
    with running_estate(credentials, servers, folder=folder, settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def left(estate: Estate) -> list[Credential]:
    return list(estate.plan.credentials)


@pytest.fixture
def credential(left: list[Credential], estate: Estate) -> Credential:
    """One that no other test has used, and nothing to be read yet."""
    estate.events.on_bus()
    estate.events.on_topic()
    return left.pop()


def by_aws(estate: Estate, credential: Credential) -> Execution:
    """A rotation as if it were due; Step Functions tells that it has ended."""
    estate.outside.expire_schedule(credential.id)
    execution = estate.rotate(credential.id)
    estate.events.ended(execution)
    return execution


def by_oci(estate: Estate, function: FunctionProcess, credential: Credential) -> dict[str, Any]:
    estate.outside.expire_schedule(credential.id)
    answer = function.call({"credential_id": credential.id, "trigger": "test"})
    [found] = answer.body["results"]
    assert isinstance(found, dict)
    return found


def types(events: list[CloudEvent]) -> list[str]:
    return [event["type"].removeprefix(PREFIX) for event in events]


def run(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(app, words, input=given)


# What is told


def test_both_runners_tell_of_their_rotations_and_of_no_run_that_was_skipped(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    assert by_aws(estate, credential).output["outcome"] == "rotated"
    [first] = estate.events.on_bus()  # The activation's reconcile, after which nothing dies.
    assert (first["data"]["kind"], first["data"]["generation"]) == ("reconcile", 1)
    assert first["data"]["overlap_ends_at"] is None

    skipped = estate.rotate(credential.id)
    assert skipped.output == {"outcome": "skipped"}
    assert [r.function_error for r in estate.events.ended(skipped)] == [None]
    assert function.call({"credential_id": credential.id}).body["results"][0]["outcome"] == "skipped"
    assert (estate.events.on_bus(), estate.events.on_topic()) == ([], [])

    asked: list[str] = []
    estate.outside.expire_schedule(credential.id)
    execution = estate.rotate(credential.id)
    assert estate.events.on_bus() == []  # The rotation itself makes no call for it.
    estate.aws.on_request = lambda service, operation: asked.append(f"{service} {operation}")
    estate.events.ended(execution)
    estate.aws.on_request = None
    assert asked == ["events PutEvents"]
    promoted, dies = sorted(estate.events.on_bus(), key=lambda e: str(e["type"]), reverse=True)
    assert types([promoted, dies]) == ["promoted", "previous-dies"]
    data = promoted["data"]
    expected = {"runner": "aws", "kind": "new", "generation": 2, "previous_generation": 1}
    assert data | expected | {"stores": ["aws", "oci"], "entry": execution.output["audit"]} == data
    assert data["overlap_ends_at"] == dies["data"]["dies_at"]

    assert by_oci(estate, function, credential)["outcome"] == "rotated"
    assert estate.events.on_bus() == []
    in_oci = estate.events.on_topic()
    assert types(in_oci) == ["promoted", "previous-dies"]
    assert [e["data"]["generation"] for e in in_oci] == [3, 3]
    assert (in_oci[0]["data"]["runner"], in_oci[0]["source"]) == ("oci", promoted["source"])
    assert estate.locked_out(credential) == []


def test_a_failed_run_is_told_with_the_name_of_its_error(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    estate.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": credential.id}},
        UpdateExpression="ADD blocked :databases",
        ExpressionAttributeValues={":databases": {"SS": ["orders"]}},
    )
    assert by_aws(estate, credential).status == "FAILED"
    assert by_oci(estate, function, credential)["outcome"] == "failed"
    [of_aws], [of_oci] = estate.events.on_bus(), estate.events.on_topic()
    for event, runner, trigger in ((of_aws, "aws", "manual"), (of_oci, "oci", "test")):
        assert event["type"] == f"{PREFIX}failed"
        expected = {"runner": runner, "trigger": trigger, "status": "failed", "error": "DatabaseBlockedError"}
        assert event["data"] | expected == event["data"]


# What operators do


def test_what_operators_do_is_told_in_both_clouds(estate: Estate, credential: Credential) -> None:
    by_aws(estate, credential)
    estate.events.on_bus()
    for words in (("pause", credential.id), ("resume", credential.id), ("retire", credential.id)):
        assert run(*words).exit_code == 0
    told = ["paused", "resumed", "paused", "retired"]  # To retire is to pause, too.
    on_bus, on_topic = estate.events.on_bus(), estate.events.on_topic()
    assert sorted(types(on_bus)) == sorted(told)
    assert types(on_topic) == told
    assert {e["id"] for e in on_bus} == {e["id"] for e in on_topic}
    entries = [e["data"]["entry"] for e in on_topic]
    assert [e["stream"] for e in entries] == ["aws"] * 4
    assert sorted(e["seq"] for e in entries) == [e["seq"] for e in entries]
    assert run("pause", credential.id).exit_code == 0
    assert on_topic[-1]["data"]["left_valid"] == [1]
    assert (estate.events.on_bus(), estate.events.on_topic()) == ([], [])  # It was paused already.


def test_an_import_is_told_as_adopted(estate: Estate, credential: Credential) -> None:
    login = estate.stored_login(credential)
    assert login
    placeholder = json.dumps({"placeholder": True})
    name = credential.secret_names.app_user
    estate.aws.client("secretsmanager").put_secret_value(SecretId=name, SecretString=placeholder)
    text = json.dumps({"username": login.username, "password": login.password.reveal()})
    shown = run("import", credential.id, given=text)
    assert shown.exit_code == 0, shown.output
    [event] = estate.events.on_bus()
    assert event["type"] == f"{PREFIX}adopted"
    assert event["data"]["stores"] == ["aws"]
    assert event["data"]["databases"] == ["orders"]
    assert login.password.reveal() not in json.dumps(event)


def test_a_refused_event_is_told_and_the_command_succeeds(estate: Estate, credential: Credential) -> None:
    estate.aws.event_fault = lambda: "InternalFailure"
    try:
        shown = run("pause", credential.id)
    finally:
        estate.aws.event_fault = None
    assert shown.exit_code == 0
    assert f"{credential.id}: done, but events.aws did not take its event: InternalFailure" in shown.stderr
    assert types(estate.events.on_topic()) == ["paused"]
    assert estate.outside.lock_item(credential.id)["paused"] == {"BOOL": True}


# What is not sent changes nothing


def test_no_rotation_of_oci_waits_for_events(
    estate: Estate, function: FunctionProcess, credential: Credential
) -> None:
    """Those of AWS send none: Step Functions tells of them."""
    logged = function.watch_log()
    for fault in _faults_of_the_topic(estate):
        with fault:
            assert by_oci(estate, function, credential)["outcome"] == "rotated"
            assert fault.hits == 1  # After one that is not sent the others are not tried.
    assert estate.locked_out(credential) == []
    lines = [line for line in logged.added().splitlines() if "events_not_sent" in line]
    told = [json.loads(line[line.index("{") :]) for line in lines]
    assert [e["error"] for e in told] == ["TooManyRequests", "InternalServerError", "ReadTimeout"]
    assert told[-1]["events_not_sent"] == 2


def _faults_of_the_topic(estate: Estate) -> Iterator[Fault]:
    faults, publish = estate.oci.faults, "publish_message"
    yield faults.refuse(publish, status=429, code="TooManyRequests", times=None)
    yield faults.refuse(publish, status=500, code="InternalServerError", times=None)
    yield faults.hang(publish, times=None)


def test_what_is_sent_holds_no_password_and_no_address(estate: Estate, credential: Credential) -> None:
    estate.order(credential, TakeOver(databases=frozenset({"orders"})))
    passwords = []
    for _ in range(3):
        by_aws(estate, credential)
        login = estate.stored_login(credential)
        assert login
        passwords.append(login.password.reveal())
    events = estate.events.on_bus()
    assert types(events).count("promoted") == 3
    text = json.dumps(events)
    for secret in (*passwords, *estate.confidential, "127.0.0.1", "localhost"):
        assert secret not in text


def test_a_slow_topic_is_left_for_the_rest_of_the_call(estate: Estate, function: FunctionProcess) -> None:
    def slow(when: str, operation: str, _resource: str) -> None:
        if (when, operation) == ("before", "publish_message"):
            time.sleep(0.6 * SLOW_SECONDS)  # It is answered in time, and two of them take too long.

    function.call()  # Each now has a value before the next one: two events of its next run, whichever is first.
    for credential in estate.plan.credentials:
        estate.outside.expire_schedule(credential.id)
    estate.events.on_topic()
    estate.oci.on_call = slow
    try:
        answer = function.call()
    finally:
        estate.oci.on_call = None
    rotated = [r for r in answer.body["results"] if r["outcome"] == "rotated"]
    assert 1 <= len(estate.events.on_topic()) < len(rotated)
