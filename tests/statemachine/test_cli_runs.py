"""What runs do with orders that commands gave: each is fulfilled by a run, and only then gone (protocol O2, O3)."""

import json
from pathlib import Path

from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.model import Login, SecretStr
from sandbox.outside import Value, lets_in
from sandbox.plans import LOCK_TABLE
from tests.statemachine.conftest import Case, failure_names, login_text
from tests.statemachine.test_cli_orders import changed_plan, record_of
from tests.support.memory import PLACEHOLDER_TEXT


def run(*words: str, **more: str) -> Result:
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words, **more)  # type: ignore[arg-type]  # input only


def forced(case: Case) -> Result:
    """As the commands say: rotate by hand."""
    return run("rotate", "--force", "-c", case.credential.id, "--state-machine-arn", case.world.machine_arn)


def logs_in(case: Case, login: Login) -> bool:
    [server] = case.credential.servers
    return lets_in(server, Value(login.username, login.password.reveal()))


def change_password(case: Case, password: str) -> None:
    """Change it on the server, as a person or a restored backup does."""
    [name], [username] = case.credential.databases, case.credential.usernames
    case.world.servers[name].execute_as_superuser(
        [
            f"ALTER USER '{username}' IDENTIFIED BY '{password}'",
            f"ALTER USER '{username}' DISCARD OLD PASSWORD",
        ]
    )


# Pause


def test_a_paused_credential_is_not_rotated_by_the_schedule(plain: Case) -> None:
    plain.rotate()
    before = plain.stored_login()
    assert run("pause", plain.credential.id).exit_code == 0
    assert plain.again().output == {"outcome": "skipped"}
    assert plain.stored_login() == before
    assert forced(plain).exit_code == 0
    assert plain.stored_login() != before
    assert record_of(plain).paused

    assert run("resume", plain.credential.id).exit_code == 0
    assert plain.again().output["outcome"] == "rotated"
    assert plain.locked_out() == []


# The first day


def test_a_login_is_imported_activated_and_rotated(mysql: Case) -> None:
    login = mysql.stored_login()
    mysql.edit_secret(PLACEHOLDER_TEXT)
    early = mysql.rotate()
    assert early.error == "TakeOverNeededError"
    assert "lockstep import" in str(early.cause)
    assert logs_in(mysql, login)

    assert run("import", mysql.credential.id, input=login_text(login)).exit_code == 0
    assert run("plan", "activate", mysql.credential.id).exit_code == 0
    assert forced(mysql).exit_code == 0
    record = record_of(mysql)
    assert (record.plan, record.activate) == (mysql.credential.plan_digest, None)
    assert mysql.locked_out() == []
    assert logs_in(mysql, login)


def test_a_credential_without_a_login_begins_by_take_over(mysql: Case) -> None:
    mysql.edit_secret(PLACEHOLDER_TEXT)
    change_password(mysql, "nobody knows this")
    assert run("take-over", mysql.credential.id, "crm").exit_code == 0
    assert run("plan", "activate", mysql.credential.id).exit_code == 0
    assert forced(mysql).exit_code == 0
    assert mysql.locked_out() == []
    assert record_of(mysql).take_over == frozenset()
    assert not logs_in(mysql, Login(mysql.credential.usernames[0], SecretStr("nobody knows this")))


# Databases that come and go


def test_a_database_that_knows_no_login_comes_back_by_take_over(mysql: Case) -> None:
    mysql.rotate()
    change_password(mysql, "changed by hand")
    assert mysql.again().error is not None
    assert logs_in(mysql, Login(mysql.credential.usernames[0], SecretStr("changed by hand")))
    assert run("take-over", mysql.credential.id, "crm").exit_code == 0
    assert forced(mysql).exit_code == 0
    assert record_of(mysql).take_over == frozenset()
    assert mysql.locked_out() == []


def test_a_password_that_was_changed_during_a_rotation_is_imported(mysql: Case) -> None:
    """The claim is open: no store can serve its value, so anything may replace it."""
    mysql.rotate()
    crm = mysql.world.servers["crm"]
    crm.stop()
    try:
        assert mysql.again().error == "DatabaseUnreachableError"
    finally:
        crm.start()
    assert mysql.lock["pending_generation"] == "2"
    changed = Login(mysql.credential.usernames[0], SecretStr("changed by hand"))
    change_password(mysql, "changed by hand")
    handed = run("import", mysql.credential.id, input=login_text(changed))
    assert (handed.exit_code, mysql.stored_login()) == (0, changed)
    assert "next: lockstep rotate --force" in handed.stdout
    assert forced(mysql).exit_code == 0
    assert mysql.locked_out() == []
    assert logs_in(mysql, changed)


# Plans


def test_a_run_under_another_plan_changes_nothing_until_it_is_activated(mysql: Case, tmp_path: Path) -> None:
    """The record holds the digest of a plan with a longer interval, as after its activation by the other cloud."""
    mysql.rotate()
    other = changed_plan(mysql, tmp_path, lambda c: c.update(interval="24h"))
    active = mysql.credential.plan_digest
    ordered = run("plan", "activate", mysql.credential.id, "--from", active, "-p", str(other))
    assert ordered.exit_code == 0
    wanted = record_of(mysql).activate
    assert wanted not in {None, active}

    before = mysql.stored_login()
    assert mysql.again().output["outcome"] == "rotated", "the active plan rotates until the new one is active"
    mysql.world.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": mysql.credential.id}},
        UpdateExpression="SET #plan = :wanted REMOVE activate",
        ExpressionAttributeNames={"#plan": "plan"},
        ExpressionAttributeValues={":wanted": {"S": str(wanted)}},
    )
    between = mysql.stored_login()
    assert before != between
    assert mysql.again().error == "PlanNotActiveError"
    assert mysql.stored_login() == between

    back = run("plan", "activate", mysql.credential.id, "--from", str(wanted))
    assert back.exit_code == 0
    assert forced(mysql).exit_code == 0
    assert record_of(mysql).plan == active
    assert mysql.locked_out() == []


# Emergencies


def test_an_emergency_that_died_is_finished_by_a_scheduled_run(mysql: Case) -> None:
    mysql.rotate()
    leaked = mysql.stored_login()
    crm = mysql.world.servers["crm"]
    crm.stop()
    try:
        died = run(
            "rotate",
            *("--revoke-previous", "--yes"),
            *("-c", mysql.credential.id, "--state-machine-arn", mysql.world.machine_arn),
        )
    finally:
        crm.start()
    assert died.exit_code == 1
    assert record_of(mysql).is_revoking
    assert mysql.rotate().output["outcome"] == "rotated"
    assert not record_of(mysql).is_revoking
    assert not logs_in(mysql, leaked)
    assert mysql.locked_out() == []
    assert failure_names(mysql.entries()) == [None, None, "DatabaseUnreachableError", None]


def test_an_emergency_just_after_a_rotation_leaves_one_value_valid(mysql: Case) -> None:
    first = mysql.stored_login()
    mysql.rotate()
    second = mysql.stored_login()
    done = run(
        "rotate",
        *("--revoke-previous", "--yes", "--json"),
        *("-c", mysql.credential.id, "--state-machine-arn", mysql.world.machine_arn),
    )
    assert json.loads(done.stdout)["outcome"] == "rotated"
    assert not logs_in(mysql, first)
    assert not logs_in(mysql, second)
    assert mysql.locked_out() == []


def test_a_retired_credential_leaves_on_record_what_is_alive(mysql: Case) -> None:
    mysql.rotate()
    mysql.again()
    valid = mysql.entries()[-1].event["unmapped"]["lockstep"]["generation"]
    assert run("retire", mysql.credential.id).exit_code == 0
    assert mysql.again().output == {"outcome": "skipped"}
    details = mysql.entries()[-1].event["unmapped"]["lockstep"]
    assert valid in details["left_valid"]
    assert logs_in(mysql, mysql.stored_login())
