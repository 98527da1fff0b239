"""`lockstep doctor --in-cloud` and the function in OCI: it looks from where it runs, and starts nothing."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.operate.doctor.oci import FUNCTION
from lockstep.protocol.model import Engine
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.databases import DatabaseServer
from sandbox.estate import Estate, environment
from sandbox.fn import FunctionProcess
from sandbox.oci import write_config_file
from sandbox.servers import engine_of

FUNCTION_ID, APPLICATION_ID = "ocid1.fnfunc.oc1..rotate", "ocid1.fnapp.oc1..lockstep"
LOOK = {"doctor": "look"}


def records(estate: Estate) -> dict[str, Any]:
    """Every item of the lock table."""
    items = estate.aws.client("dynamodb").scan(TableName=estate.plan.lock.table)["Items"]
    return {item["credential_id"]["S"]: item for item in items}


def of(findings: list[dict[str, str]], check: str) -> set[str]:
    return {f["outcome"] for f in findings if f["check"] == check}


def test_the_function_looks_at_everything_that_it_uses_and_changes_nothing(
    estate: Estate, function: FunctionProcess
) -> None:
    before, logged = records(estate), function.watch_log()
    served = {c.id: estate.stored_login(c, "oci") for c in estate.plan.credentials}
    answer = function.call(LOOK)
    assert answer.status == 200, answer.text
    found = answer.body["findings"]
    assert [f for f in found if f["outcome"] != "passed"] == []
    assert {f["where"] for f in found} == {"oci/rotate"}
    checks = {f["check"] for f in found}
    assert {"inside.session", "inside.lock-record", "inside.stores", "inside.audit-log"} <= checks
    assert {
        "database.address",
        "database.tls",
        "database.admin",
        "database.login",
        "database.access",
    } <= checks
    subjects = {f["subject"] for f in found if f["check"] == "database.login"}
    assert len(subjects) >= len(estate.plan.credentials)
    assert answer.body["plans"] == {c.id: c.plan_digest for c in estate.plan.credentials}
    assert records(estate) == before
    assert {c.id: estate.stored_login(c, "oci") for c in estate.plan.credentials} == served
    for secret in [*estate.confidential, *(s.password.reveal() for s in served.values() if s)]:
        assert secret not in answer.text
        assert secret not in logged.added()


@pytest.mark.parametrize(
    "body",
    [
        {"doctor": "rotate"},
        {"doctor": "look", "credential_id": "multi-cloud/app-1"},
        {"doctor": "look", "force": True},
        {"doctor": "look", "host": "elsewhere.example"},
        {"doctor": "look", "silent": ["or ders"]},
        {"doctor": "look", "silent": "orders"},
        {"doctor": None},
    ],
)
def test_what_is_no_request_of_the_doctor_is_refused_and_starts_nothing(
    estate: Estate, function: FunctionProcess, body: object
) -> None:
    before = records(estate)
    answer = function.call(body)
    assert (answer.status, answer.body["error"]) == (502, "InvalidRequestError")
    assert records(estate) == before


def test_a_database_that_another_place_has_seen_refuse_is_shown_no_login(function: FunctionProcess) -> None:
    found = function.call({**LOOK, "silent": ["crm"]}).body["findings"]
    assert of([f for f in found if f["subject"].startswith("crm")], "database.login") == {"not_asked"}
    assert of([f for f in found if f["subject"] == "crm"], "database.tls") == {"passed"}


@pytest.fixture(name="deployed")
def _deployed(estate: Estate, function: FunctionProcess) -> Iterator[Estate]:
    """The function under the names that Terraform gives it."""
    here = {"compartmentId": estate.oci.own_compartment_id, "lifecycleState": "ACTIVE"}
    deployment = estate.oci.deployment
    deployment.applications = [{**here, "id": APPLICATION_ID, "displayName": DEFAULT_STACK}]
    deployment.functions = [
        {
            **here,
            "id": FUNCTION_ID,
            "applicationId": APPLICATION_ID,
            "displayName": FUNCTION,
            "invokeEndpoint": estate.oci.endpoint,
        }
    ]

    def invoked(body: bytes) -> tuple[int, bytes]:
        answer = function.call(body)
        return answer.status, answer.text.encode()

    estate.oci.functions.code[FUNCTION_ID] = invoked
    yield estate
    deployment.applications, deployment.functions = [], []


def doctor(estate: Estate, *words: str) -> tuple[int, list[dict[str, str]]]:
    config = write_config_file(estate.folder, "operator", estate.oci.config())
    variables: Mapping[str, str] = {
        **estate.aws.environment(),
        OCI_ENDPOINT_VARIABLE: estate.oci.endpoint,
        CONFIG_FILE_VARIABLE: str(config),
    }
    with environment(variables):
        shown = CliRunner().invoke(
            app, ["doctor", "--in-cloud", "--json", "--plan", str(estate.plan_file), *words]
        )
    assert shown.exception is None or isinstance(shown.exception, SystemExit), shown.output
    return shown.exit_code, json.loads(shown.stdout)["findings"]


def test_the_command_asks_the_function_and_tells_which_are_not_deployed(deployed: Estate) -> None:
    code, found = doctor(deployed, "--only", "inside", "--only", "database")
    functions = {f["where"]: f["outcome"] for f in found if f["check"] == "inside.function"}
    assert functions == {
        "oci/rotate": "passed",
        **dict.fromkeys(
            [f"aws/{s}" for s in ("generate", "apply_db", "update_secrets", "audit", "watch")], "failed"
        ),
    }
    assert code == 1
    assert {f["command"].partition(",")[0] for f in found if f["outcome"] == "failed"} == {"make deploy-aws"}
    assert {f["where"] for f in found if f["check"] == "database.login"} == {"here", "oci/rotate"}
    assert of(found, "inside.plan") == of(found, "inside.clock") == {"passed"}


def test_a_login_that_one_place_has_seen_refused_is_shown_by_no_other(deployed: Estate) -> None:
    """The command here shows it, the function not: two refusals would lock an account that has a limit of two."""
    credential = deployed.plan.credentials[-1]
    server = deployed.servers[credential.databases[0]]
    login = deployed.stored_login(credential)
    assert login
    assert engine_of(server) is not Engine.POSTGRESQL
    account = f"'{login.username}'@'%'"
    _execute(server, f"ALTER USER {account} IDENTIFIED BY 'changed outside'")
    try:
        _, found = doctor(deployed, "--only", "database")
    finally:
        password = login.password.reveal()
        _execute(server, f"ALTER USER {account} IDENTIFIED BY '{password}'")
    database = credential.databases[0]
    subjects = {database, f"{database} {login.username}"}
    of_login = [f for f in found if f["check"] == "database.login" and f["subject"] in subjects]
    about = {(f["where"], f["outcome"]) for f in of_login}
    assert ("here", "failed") in about
    assert ("oci/rotate", "not_asked") in about
    assert ("oci/rotate", "failed") not in about


def _execute(server: DatabaseServer, statement: str) -> None:
    server.execute_as_superuser(statement)
