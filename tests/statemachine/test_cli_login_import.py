"""Import and retirement on a running world: real databases, the record, the audit log (protocol O9, O11)."""

import json
from typing import Any

import pytest

from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.protocol.model import Login, SecretStr
from lockstep.protocol.orders import accounts_of
from sandbox.plans import LOCK_TABLE
from tests.statemachine.conftest import Case, login_text
from tests.statemachine.conftest import lockstep as run
from tests.support.memory import PLACEHOLDER_TEXT


def placeholders(case: Case) -> Login:
    """Take the login out of the store, as before the first day; return it."""
    login = case.stored_login()
    case.edit_secret(PLACEHOLDER_TEXT)
    return login


FORMS = {
    "JSON": login_text,
    "two lines": lambda login: f"{login.username}\n{login.password.reveal()}\n",
    "two lines of Windows": lambda login: f"{login.username}\r\n{login.password.reveal()}\r\n",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_login_that_works_is_imported_from_standard_input(mysql: Case, form: Any) -> None:  # noqa: ANN401 - a row of the table
    login = placeholders(mysql)
    shown = run("import", mysql.credential.id, input=form(login))
    assert shown.exit_code == 0
    assert "imported; written into aws (entry 1 of aws)" in shown.stdout
    assert f"next: lockstep rotate {mysql.credential.id} --force" in shown.stdout
    assert mysql.stored_login() == login
    assert mysql.locked_out() == []
    again = run("import", mysql.credential.id, input=form(login))
    assert (again.exit_code, "no store, all served it" in again.stdout) == (0, True)
    [entry] = mysql.recorded()
    assert (entry["order"], entry["username"]) == ("import", login.username)
    assert login.password.reveal() not in shown.output + again.output + json.dumps(entry)


def test_an_imported_login_is_activated_and_rotated(mysql: Case) -> None:
    login = placeholders(mysql)
    early = mysql.rotate()
    assert early.error == "TakeOverNeededError"
    assert "lockstep import" in str(early.cause)
    assert run("import", mysql.credential.id, input=login_text(login)).exit_code == 0
    assert run("apply", mysql.credential.id).exit_code == 0
    assert mysql.forced().exit_code == 0
    assert (mysql.record().plan, mysql.record().activate) == (mysql.credential.plan_digest, None)
    assert mysql.accepted(login) == ["crm"]
    assert mysql.again().output["outcome"] == "rotated"
    assert mysql.locked_out() == []
    assert mysql.stored_login() != login


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
    mysql.set_password("crm", "changed by hand")
    handed = run("import", mysql.credential.id, input=login_text(changed))
    assert (handed.exit_code, mysql.stored_login()) == (0, changed)
    assert f"next: lockstep rotate {mysql.credential.id} --force" in handed.stdout
    assert mysql.forced().exit_code == 0
    assert mysql.locked_out() == []
    assert mysql.accepted(changed) == ["crm"]


def test_a_login_is_read_from_another_secret(mysql: Case) -> None:
    login = placeholders(mysql)
    mysql.world.aws.client("secretsmanager").create_secret(
        Name="before/lockstep", SecretString=login_text(login, engine="mysql")
    )
    words = ["import", mysql.credential.id]
    assert run(*words, "--from-secret", "before/lockstep", "--dry-run").stdout.endswith(
        "would write it into: aws\n"
    )
    assert run(*words, "--from-secret", "before/lockstep").exit_code == 0
    assert mysql.stored_login() == login
    missing = run(*words, "--from-secret", "before/nothing")
    assert (missing.exit_code, "SecretNotFoundError" in missing.stderr) == (3, True)
    assert run(*words, "--from-secret", "before/lockstep", "--store", "oci").exit_code == 2


def test_a_login_that_a_database_refuses_is_not_imported(mysql: Case) -> None:
    login = placeholders(mysql)
    wrong = json.dumps({"username": login.username, "password": "a-wrong-password"})
    for words in (["--dry-run"], []):
        refused = run("import", mysql.credential.id, *words, input=wrong)
        assert refused.exit_code == 1
        assert f"lockstep take-over {mysql.credential.id} crm" in refused.stderr
        assert "a-wrong-password" not in refused.output
    assert "holder" not in mysql.lock
    assert mysql.world.stored_login(mysql.credential) is None


def test_a_login_that_was_replaced_is_told_from_one_that_is_wrong(mysql: Case) -> None:
    mysql.rotate()
    old = mysql.stored_login()
    mysql.again()
    mysql.again()
    refused = run("import", mysql.credential.id, input=login_text(old))
    assert refused.exit_code == 1
    assert "generation 3 is current, and no run was refused it: there is nothing to import" in refused.stderr


def test_an_import_ends_what_a_dba_has_begun(mysql: Case) -> None:
    """The database refuses what every store serves; following `next:` ends that."""
    mysql.rotate()
    mysql.set_password("crm", "changed by hand")
    changed = Login(mysql.credential.usernames[0], SecretStr("changed by hand"))
    assert mysql.again().status == "FAILED"
    assert mysql.record().blocked == {"crm"}
    imported = run("import", mysql.credential.id, input=login_text(changed))
    assert "runs log in to crm again" in imported.stdout
    assert imported.stdout.endswith(f"next: lockstep rotate {mysql.credential.id} --force\n")
    assert mysql.forced().exit_code == 0
    assert mysql.locked_out() == []


def test_an_import_says_what_to_do_about_a_run(mysql: Case) -> None:
    login = placeholders(mysql)
    mysql.hold_lock("run-7")
    refused = run("import", mysql.credential.id, input=login_text(login))
    assert (refused.exit_code, "a run is under way" in refused.stderr) == (1, True)


# Retirement


def test_retirement_puts_on_record_what_is_left_valid(mysql: Case) -> None:
    mysql.rotate()
    mysql.again()
    current = mysql.stored_login()
    orders = DynamoDbOrders(mysql.world.aws.client("dynamodb"), LOCK_TABLE, mysql.credential.id)
    for account in accounts_of(mysql.credential):
        orders.register(account)
    dry = run("retire", mysql.credential.id, "--dry-run")
    assert (dry.exit_code, dry.stdout.endswith("nothing was changed\n")) == (0, True)
    assert not mysql.record().paused

    shown = run("retire", mysql.credential.id)
    assert shown.exit_code == 0
    assert "generation 2 stays current in aws, and logs in" in shown.stdout
    assert "generation 1 may log in, too" in shown.stdout
    assert mysql.record().paused
    assert [e["order"] for e in mysql.recorded()] == ["pause", "retire"]
    entry = mysql.recorded()[-1]
    assert (entry["left_valid"], entry["databases"], entry["stores"]) == ([1, 2], ["crm"], ["aws"])
    assert mysql.stored_login() == current
    assert mysql.locked_out() == []
    other = DynamoDbOrders(mysql.world.aws.client("dynamodb"), LOCK_TABLE, "multi-cloud/heir")
    for account in accounts_of(mysql.credential):
        other.register(account)


def test_a_credential_is_not_retired_while_a_run_is_under_way(mysql: Case) -> None:
    mysql.hold_lock("run-7")
    shown = run("retire", mysql.credential.id)
    assert (shown.exit_code, "run-7 holds the lock" in shown.stderr) == (1, True)


def test_a_login_that_was_never_rotated_is_retired_as_it_was(mysql: Case) -> None:
    assert "no generation was ever promoted" in run("retire", mysql.credential.id).stdout
    assert mysql.recorded()[-1]["left_valid"] == []
