"""`lockstep doctor --in-cloud` and its function in OCI: it looks from where it runs, and can start nothing."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from oci.exceptions import ServiceError  # type: ignore[import-untyped]  # the SDK ships no types
from oci.functions import FunctionsInvokeClient  # type: ignore[import-untyped]  # likewise
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.protocol.names import DEFAULT_STACK
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from lockstep.runtime.wiring import DOCTOR_VARIABLE
from sandbox.deployed_world import DOCTOR_ID, FUNCTION_ID, know_functions
from sandbox.emulators.oci import write_config_file
from sandbox.estate import Estate, environment
from sandbox.fn import FunctionProcess, running_function
from tests.support.lambda_context import NO_LOOKS

LOOK = {"doctor": "look"}


def records(estate: Estate) -> dict[str, Any]:
    """Every item of the lock table."""
    items = estate.aws.client("dynamodb").scan(TableName=estate.plan.lock.table)["Items"]
    return {item["credential_id"]["S"]: item for item in items}


def of(findings: list[dict[str, str]], check: str) -> set[str]:
    return {f["outcome"] for f in findings if f["check"] == check}


@pytest.fixture(name="diagnosing", scope="module")
def _diagnosing(estate: Estate) -> Iterator[FunctionProcess]:
    """The function that only looks."""
    with running_function({**estate.function_environment, DOCTOR_VARIABLE: "1"}) as running:
        yield running


def test_the_function_looks_at_everything_that_it_uses_and_changes_nothing(
    estate: Estate, diagnosing: FunctionProcess
) -> None:
    before, logged = records(estate), diagnosing.watch_log()
    served = {c.id: estate.stored_login(c, "oci") for c in estate.plan.credentials}
    answer = diagnosing.call(LOOK)
    assert answer.status == 200, answer.text
    found = answer.body["findings"]
    assert [f for f in found if f["outcome"] != "passed"] == []
    assert {f["where"] for f in found} == {"oci/rotate"}
    checks = {f["check"] for f in found}
    assert {"inside.session", "inside.access"} <= checks
    assert {f"database.{what}" for what in ("route", "tls", "admin", "accounts", "login")} <= checks
    subjects = {f["subject"] for f in found if f["check"] == "database.login"}
    assert len(subjects) >= len(estate.plan.credentials)
    assert answer.body["plans"] == {c.id: c.plan_digest for c in estate.plan.credentials}
    assert records(estate) == before
    assert {c.id: estate.stored_login(c, "oci") for c in estate.plan.credentials} == served
    for secret in [*estate.confidential, *(s.password.reveal() for s in served.values() if s)]:
        assert secret not in answer.text
        assert secret not in logged.added()


def test_what_is_no_look_is_refused_and_starts_nothing_and_a_look_by_the_standby(
    estate: Estate, function: FunctionProcess, diagnosing: FunctionProcess
) -> None:
    before, run = records(estate), {"credential_id": "multi-cloud/app-1", "force": True}
    inputs = [*NO_LOOKS, {}, run, {"credential_ids": ["multi-cloud/app-1"]}]
    answers = [function.call(LOOK), *(diagnosing.call(body) for body in inputs)]
    assert {(a.status, a.body["error"]) for a in answers} == {(502, "InvalidRequestError")}
    assert records(estate) == before


@pytest.fixture(name="deployed")
def _deployed(estate: Estate, function: FunctionProcess, diagnosing: FunctionProcess) -> Iterator[Estate]:
    """The functions under the names that Terraform gives them."""
    know_functions(estate.oci, DEFAULT_STACK, function, diagnosing)
    yield estate
    estate.oci.deployment.applications, estate.oci.deployment.functions = [], []


def test_who_may_diagnose_starts_no_forced_rotation(deployed: Estate) -> None:
    """FN_INVOCATION on the doctor's function is all that docs/iam-oci.md gives for `--in-cloud`."""
    oci, before = deployed.oci, records(deployed)
    key = oci.new_api_key("diagnostician", "FN_INVOCATION", resource=DOCTOR_ID)
    client = FunctionsInvokeClient(key, service_endpoint=oci.endpoint)
    order = {"credential_id": deployed.plan.credentials[0].id, "trigger": "mine", "force": True}
    with pytest.raises(ServiceError) as refused:
        client.invoke_function(FUNCTION_ID, invoke_function_body=json.dumps(order).encode())
    assert refused.value.status == 404
    assert records(deployed) == before


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
            [f"aws/{s}" for s in ("generate", "apply_db", "update_secrets", "audit", "watch")], "not_asked"
        ),
    }
    assert code == 3
    assert {f["command"].partition(",")[0] for f in found if f["outcome"] != "passed"} == {"make deploy-aws"}
    assert {f["where"] for f in found if f["check"] == "database.login"} == {"here", "oci/rotate"}
    assert of(found, "inside.plan") == {"passed"}


def test_a_login_that_one_place_has_seen_refused_is_shown_by_no_other(deployed: Estate) -> None:
    """The command here shows it, the function not: two refusals would lock an account that has a limit of two."""
    credential = deployed.plan.credentials[-1]
    [database] = credential.databases
    login = deployed.stored_login(credential)
    assert login
    change = f"ALTER USER '{login.username}'@'%' IDENTIFIED BY "
    server = deployed.servers[database]
    server.execute_as_superuser(f"{change}'changed outside'")
    try:
        _, found = doctor(deployed, "--only", "database")
    finally:
        server.execute_as_superuser(f"{change}'{login.password.reveal()}'")
    subjects = {database, f"{database} {login.username}"}
    about = {
        (f["where"], f["outcome"])
        for f in found
        if f["check"] == "database.login" and f["subject"] in subjects
    }
    assert about >= {("here", "failed"), ("oci/rotate", "not_asked")}
    assert ("oci/rotate", "failed") not in about
