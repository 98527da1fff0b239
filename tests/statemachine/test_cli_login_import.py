"""Import and retirement on a running world: real databases, the record, the audit log (protocol O9, O11)."""

import json
from pathlib import Path

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


def test_the_login_that_works_is_imported_activated_and_rotated(mysql: Case) -> None:
    login, name = placeholders(mysql), mysql.credential.id
    early = mysql.rotate()
    assert (early.error, "lockstep import" in str(early.cause)) == ("TakeOverNeededError", True)
    username, password = login.username, login.password.reveal()
    for says in ("imported; written into aws (entry 2 of aws)", "no store, all served it"):
        shown = run("import", name, input=login_text(login))
        assert (shown.exit_code, says in shown.stdout) == (0, True), shown.output
        assert f"next: lockstep rotate {name} --force" in shown.stdout
        assert password not in shown.output
        assert (mysql.stored_login(), mysql.locked_out()) == (login, [])
    [entry] = mysql.recorded()
    assert (entry["order"], entry["username"], password in json.dumps(entry)) == ("import", username, False)
    assert run("apply", name).exit_code == 0
    assert mysql.forced().exit_code == 0
    assert (mysql.record().plan, mysql.record().activate) == (mysql.credential.plan_digest, None)
    assert mysql.accepted(login) == ["crm"]
    assert mysql.again().output["outcome"] == "rotated"
    assert mysql.locked_out() == []
    assert mysql.stored_login() != login


def test_a_secret_that_is_missing_is_made(
    mysql: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login, name = placeholders(mysql), mysql.credential.id
    words, secrets = ["import", name], mysql.world.aws.client("secretsmanager")
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    (tmp_path / "cdk.json").write_text(
        '{"context": {"adopt": {"encryption_key": "alias/aws/secretsmanager"}}}'
    )
    monkeypatch.chdir(tmp_path)
    dry = run(*words, "--dry-run", input=login_text(login)).stdout
    assert dry.endswith("would make what is missing in store aws\nwould write it into: aws\n"), dry
    shown = run(*words, input=login_text(login))
    assert (shown.exit_code, shown.stdout.splitlines()[0]) == (0, f"made {name} in store aws"), shown.output
    assert mysql.stored_login() == login


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


def test_what_cannot_be_imported_is_told_with_what_to_do(mysql: Case) -> None:
    def refused(login: Login, *words: str) -> str:
        shown = run("import", mysql.credential.id, *words, input=login_text(login))
        assert shown.exit_code == 1
        assert login.password.reveal() not in shown.output
        return shown.stderr

    login = placeholders(mysql)
    for words in (["--dry-run"], []):
        wrong = Login(login.username, SecretStr("a-wrong-password"))
        assert f"lockstep take-over {mysql.credential.id} crm" in refused(wrong, *words)
    assert "holder" not in mysql.lock
    assert mysql.world.stored_login(mysql.credential) is None
    mysql.edit_secret(login_text(login))
    mysql.rotate()
    mysql.again()
    mysql.again()
    # It was replaced by rotations, and is not wrong.
    assert "generation 3 is current, and no run was refused it: there is nothing to import" in refused(login)
    mysql.hold_lock("run-7")
    assert "a run is under way" in refused(mysql.stored_login())


# Retirement


def test_retirement_puts_on_record_what_is_left_valid(mysql: Case) -> None:
    name = mysql.credential.id
    assert "no generation was ever promoted" in run("retire", name).stdout
    assert mysql.recorded()[-1]["left_valid"] == []
    assert run("resume", name).exit_code == 0
    mysql.rotate()
    mysql.again()
    current = mysql.stored_login()
    client, accounts = mysql.world.aws.client("dynamodb"), accounts_of(mysql.credential)
    for account in accounts:
        DynamoDbOrders(client, LOCK_TABLE, name).register(account)
    mysql.hold_lock("run-7")
    held = run("retire", name)
    assert (held.exit_code, "run-7 holds the lock" in held.stderr) == (1, True)
    assert run("lock", "release", name, "--holder", "run-7", "--yes").exit_code == 0
    run("resume", name)
    dry = run("retire", name, "--dry-run")
    assert (dry.exit_code, dry.stdout.endswith("nothing was changed\n")) == (0, True)
    assert not mysql.record().paused
    shown = run("retire", name)
    assert shown.exit_code == 0
    assert "generation 2 stays current in aws, and logs in" in shown.stdout
    assert "; 1 may log in, too; to end that: lockstep revoke" in shown.stdout
    assert mysql.record().paused
    pause, entry = mysql.recorded()[-2:]
    assert (pause["order"], entry["order"]) == ("pause", "retire")
    assert (entry["left_valid"], entry["databases"], entry["stores"]) == ([1, 2], ["crm"], ["aws"])
    assert (mysql.stored_login(), mysql.locked_out()) == (current, [])
    for account in accounts:  # They are free for another credential.
        DynamoDbOrders(client, LOCK_TABLE, "multi-cloud/heir").register(account)
