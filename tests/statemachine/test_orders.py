"""Commands that give orders, on a running world: the record, the audit log, the exit codes (protocol O2, O9, O11)."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import Result

from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.protocol.model import Login, SecretStr
from lockstep.protocol.orders import accounts_of
from sandbox.plans import DBNAME, LOCK_TABLE
from tests.statemachine.conftest import Case, lockstep, login_text
from tests.support.memory import PLACEHOLDER_TEXT
from tests.support.programs import Ran, ran
from tests.support.servers import connect

OLD, ELSE = "a" * 64, "b" * 64


def recorded(case: Case) -> list[dict[str, Any]]:
    """What the verified chain says of orders."""
    found = [e.event["unmapped"]["lockstep"] for e in case.entries()]
    return [details for details in found if "order" in details]


def test_an_order_is_previewed_given_once_and_seen(mysql: Case) -> None:
    name = mysql.credential.id
    mysql.rotate()
    dry = mysql.run("pause", "--dry-run")
    assert (dry.exit_code, "would give the order pause" in dry.stdout) == (0, True)
    assert not mysql.record().paused
    for how in ("entry 2 of aws", "it was so already"):
        paused = mysql.run("pause")
        assert (paused.exit_code, paused.stdout) == (0, f"{name}: order pause given ({how})\n")
    assert mysql.record().paused
    assert mysql.run("resume").exit_code == 0
    assert not mysql.record().paused
    given = lockstep("take-over", name, "crm")
    assert f"next: lockstep rotate {name} --force" in given.stdout
    assert "to be taken over, until proven: crm" in mysql.run("status").stdout
    assert "databases crm, order take_over, by arn:aws:" in mysql.run("audit", "show").stdout
    mysql.hold_lock("run-7")
    assert "run-7 may still be running, until " in mysql.run("pause").stdout


def test_a_plan_is_ordered_in_place_of_the_active_one_and_what_leaves_is_named(
    spanning: Case, tmp_path: Path
) -> None:
    name, digest = spanning.credential.id, spanning.credential.plan_digest
    # As it is before a plan was ordered.
    spanning.world.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": name}},
        UpdateExpression="REMOVE #plan, activate",
        ExpressionAttributeNames={"#plan": "plan"},
    )
    assert spanning.run("apply", "--from", OLD).exit_code == 1
    assert spanning.run("apply", "--dry-run").exit_code == 0
    assert spanning.record().activate is None
    assert f"next: lockstep status {name} --read-values" in spanning.run("apply").stdout
    assert spanning.record().activate == digest
    spanning.rotate()
    assert "it was so already" in spanning.run("apply").stdout
    # To activate the active plan withdraws another one.
    spanning.set_attribute("activate", {"S": ELSE})
    assert spanning.run("apply").exit_code == 0
    assert spanning.record().activate is None
    spanning.set_attribute("plan", {"S": OLD})

    def applied(change: Mapping[str, object], *words: str) -> Result:
        """Under the world's plan file with a change to the credential."""
        document = YAML(typ="safe").load(spanning.world.plan_file)
        next(c for c in document["credentials"] if c["id"] == name).update(change)
        file = spanning.world.plan_file.with_name(f"{tmp_path.name}.yaml")  # Its CA files are beside it.
        file.write_text(json.dumps(document))
        return spanning.run("apply", "-p", str(file), *words)

    smaller, instead = {"databases": ["orders"]}, f"lockstep apply {name} --from {OLD}"
    for change, words, says in (
        ({}, (), instead),
        ({}, ("--from", ELSE), instead),
        (smaller, ("--from", OLD), "ledger would leave"),
        (smaller, ("--from", OLD), "add: --drop ledger"),
        ({"username": "somebody_else"}, ("--from", OLD), "usernames"),
    ):
        refused = applied(change, *words)
        assert (refused.exit_code, says in refused.stderr) == (1, True), says
    assert spanning.record().activate is None
    assert applied(smaller, "--from", OLD, "--drop", "ledger", "--drop", "gone").exit_code == 0
    assert recorded(spanning)[-1]["leaving"] == ["ledger"]


# Import and retirement


def test_the_login_that_works_is_imported_once_and_rotated(
    mysql: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, login, secrets = mysql.credential.id, mysql.stored_login(), mysql.world.aws.client("secretsmanager")
    mysql.edit_secret(PLACEHOLDER_TEXT)
    early = mysql.rotate()
    assert (early.error, "lockstep import" in str(early.cause)) == ("TakeOverNeededError", True)
    secrets.create_secret(Name="before/lockstep", SecretString=login_text(login, engine="mysql"))
    secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    key = {"context": {"adopt": {"encryption_key": "alias/aws/secretsmanager"}}}
    (tmp_path / "cdk.json").write_text(json.dumps(key))
    monkeypatch.chdir(tmp_path)

    def imported(given: Login, *words: str, code: int = 0) -> Result:
        shown = mysql.run("import", *words, input=login_text(given))
        assert (shown.exit_code, given.password.reveal() in shown.output) == (code, False), shown.output
        return shown

    dry = imported(login, "--dry-run").stdout
    assert dry.endswith("would make what is missing in store aws\nwould write it into: aws\n"), dry
    wrong = Login(login.username, SecretStr("a-wrong-password"))
    for words in (["--dry-run"], []):
        assert f"lockstep take-over {name} crm" in imported(wrong, *words, code=1).stderr
    assert mysql.record().holder is None
    missing = mysql.run("import", "--from-secret", "before/nothing")
    assert (missing.exit_code, "SecretNotFoundError" in missing.stderr) == (3, True)
    done = mysql.run("import", "--from-secret", "before/lockstep")
    assert done.stdout.splitlines()[0] == f"made {name} in store aws", done.output
    again = imported(login).stdout
    assert "no store, all served it" in again
    assert f"next: lockstep rotate {name} --force" in again
    assert (mysql.stored_login(), mysql.locked_out()) == (login, [])
    [entry] = recorded(mysql)
    assert (entry["order"], entry["username"]) == ("import", login.username)
    mysql.rotate()
    mysql.again()
    mysql.again()
    assert mysql.stored_login() != login
    # It was replaced by rotations.
    assert "lockstep doctor --only database.login" in imported(login, code=1).stderr
    mysql.hold_lock("run-7")
    assert "a run is under way" in imported(mysql.stored_login(), code=1).stderr


def test_retirement_puts_on_record_what_is_left_valid(mysql: Case) -> None:
    name = mysql.credential.id
    assert "no generation was ever promoted" in mysql.run("retire").stdout
    assert recorded(mysql)[-1]["left_valid"] == []
    assert mysql.run("resume").exit_code == 0
    mysql.rotate()
    mysql.again()
    client, accounts = mysql.world.aws.client("dynamodb"), accounts_of(mysql.credential)
    for account in accounts:
        DynamoDbOrders(client, LOCK_TABLE, name).register(account)
    mysql.hold_lock("run-7")
    held = mysql.run("retire")
    assert (held.exit_code, "run-7 holds the lock" in held.stderr) == (1, True)
    assert mysql.run("lock", "release", "--holder", "run-7", "--yes").exit_code == 0
    mysql.run("resume")
    dry = mysql.run("retire", "--dry-run")
    assert (dry.exit_code, dry.stdout.endswith("nothing was changed\n")) == (0, True)
    assert not mysql.record().paused
    shown = mysql.run("retire")
    assert shown.exit_code == 0
    assert "generation 2 stays current in aws, and logs in" in shown.stdout
    assert "; 1 may log in, too; to end that: lockstep revoke" in shown.stdout
    assert mysql.record().paused
    pause, entry = recorded(mysql)[-2:]
    assert (pause["order"], entry["order"]) == ("pause", "retire")
    assert (entry["left_valid"], entry["databases"], entry["stores"]) == ([1, 2], ["crm"], ["aws"])
    assert mysql.locked_out() == []
    for account in accounts:  # They are free for another credential.
        DynamoDbOrders(client, LOCK_TABLE, "multi-cloud/heir").register(account)


# Emergencies


def test_an_emergency_is_an_order_and_a_run_that_waits_for_no_pause(mysql: Case) -> None:
    mysql.rotate()
    before = mysql.stored_login()
    mysql.run("pause")
    refused = mysql.run("revoke", "--yes")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert ("code=paused" in refused.stderr, "--resume" in refused.stderr) == (True, True)
    assert mysql.record().revoke_through is None
    mysql.hold_lock("run-7")
    held = mysql.run("revoke", "--yes", "--resume")
    assert (held.exit_code, held.stdout.split(" until ")[0]) == (1, "skipped: run-7 holds the lock")
    assert "not over: generations up to 1 may still log in" in held.stderr
    assert recorded(mysql)[-1]["lifts_pause"]
    assert (mysql.record().paused, mysql.record().is_revoking) == (False, True)
    assert mysql.run("lock", "release", "--holder", "run-7", "--yes").exit_code == 0
    done = mysql.run("revoke", "--yes", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["status"], found["outcome"]) == (0, "SUCCEEDED", "rotated")
    assert "RevokeDb" in [s["state"] for s in found["states"]]
    assert not mysql.record().is_revoking
    assert (mysql.locked_out(), mysql.accepted(before)) == ([], [])


def test_an_emergency_shows_who_would_break_and_asks(spanning: Case) -> None:
    def revoke(answer: str | None, *words: str) -> Ran:
        """At a terminal where there is somebody to answer."""
        ours, theirs = pty.openpty()
        try:
            if answer is not None:
                os.write(ours, answer.encode())
            return ran(
                [sys.executable, "-m", "lockstep", "revoke", spanning.credential.id, *words],
                env={**os.environ, "LOCKSTEP_STATE_MACHINE_ARN": spanning.world.machine_arn},
                stdin=subprocess.DEVNULL if answer is None else theirs,
            )
        finally:
            os.close(ours)
            os.close(theirs)

    spanning.rotate()
    spanning.again()
    first = spanning.stored_login()
    with ExitStack() as stack:
        for _ in range(3):
            session = connect(spanning.world.servers["ledger"], first, DBNAME, "worker")
            stack.enter_context(closing(session))
        spanning.again()
        second = spanning.stored_login()
        # Where nobody can be asked, it takes consent in its words.
        refused = revoke(None)
        assert (refused.returncode, refused.stdout, "add --yes" in refused.stderr) == (2, "", True)
        declined = revoke("n\n")
        assert (declined.returncode, declined.stdout) == (1, "")
        for told in (
            *("previous", "worker (3)", "not revoked"),
            "Open sessions go on; their next login is refused until they read the new value",
        ):
            assert told in declined.stderr
        assert spanning.stored_login() == second
        done = revoke("y\n", "--json")
        assert (done.returncode, json.loads(done.stdout)["outcome"]) == (0, "rotated"), done.stderr
        assert spanning.accepted(first) == spanning.accepted(second) == []
        # The server has ended no session.
        [credential] = json.loads(spanning.run("sessions", "--json").stdout)["credentials"]
        [ledger] = [server for server in credential["servers"] if server["database"] == "ledger"]
        assert {r["username"]: r["sessions"] for r in ledger["sessions"]}[first.username] == 3
