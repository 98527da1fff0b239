"""The commands that give orders, on a running world: the record, the audit log, the exit codes (protocol O2)."""

from typing import Any

from typer.testing import CliRunner, Result

from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.cli import app
from lockstep.orders import OrderState, accounts_of
from sandbox.plans import LOCK_TABLE
from tests.statemachine.conftest import Case


def run(*words: str, **more: str) -> Result:
    """Run a command; the plan is in the environment."""
    return CliRunner().invoke(app, words, **more)  # type: ignore[arg-type]  # input only


def orders_of(case: Case) -> DynamoDbOrders:
    return DynamoDbOrders(case.world.aws.client("dynamodb"), LOCK_TABLE, case.credential.id)


def state_of(case: Case) -> OrderState:
    return orders_of(case).read()


def recorded(case: Case) -> list[dict[str, Any]]:
    """What the verified chain says of orders."""
    found = [e.event["unmapped"]["lockstep"] for e in case.entries()]
    return [details for details in found if "order" in details]


def status_of(case: Case) -> str:
    return run("status", "-c", case.credential.id).stdout


def test_pause_and_resume(plain: Case) -> None:
    plain.rotate()
    dry = run("pause", plain.credential.id, "--dry-run")
    assert (dry.exit_code, "would record and give the order pause" in dry.stdout) == (0, True)
    assert not state_of(plain).paused

    paused = run("pause", plain.credential.id)
    assert (paused.exit_code, paused.stdout) == (0, f"{plain.credential.id}: paused (entry 2 of aws)\n")
    again = run("pause", plain.credential.id)
    assert (again.exit_code, again.stdout) == (0, f"{plain.credential.id}: paused (it was so already)\n")
    assert state_of(plain).paused
    assert "paused: no scheduled run begins, in either cloud" in status_of(plain)
    assert f"skipped now (paused; lockstep resume {plain.credential.id})" in status_of(plain)

    assert run("resume", plain.credential.id).exit_code == 0
    assert not state_of(plain).paused
    assert "paused" not in status_of(plain)
    assert recorded(plain) == [{"order": "pause"}, {"order": "resume"}]


def test_a_pause_says_which_run_goes_on(plain: Case) -> None:
    plain.hold_lock("run-7", expires_at=4_000_000_000)
    assert "run-7 may still be running, until 2096-" in run("pause", plain.credential.id).stdout


def test_an_order_is_shown_with_who_gave_it(plain: Case) -> None:
    run("enrol", plain.credential.id, "crm")
    shown = run("audit", "show", "-c", plain.credential.id).stdout
    assert "order enrol, databases crm, by arn:aws:" in shown


def test_enrolment_is_given_and_cancelled(plain: Case) -> None:
    enrolled = run("enrol", plain.credential.id, "crm")
    assert enrolled.exit_code == 0
    assert f"{plain.credential.id}: enrolled crm (entry 1 of aws)" in enrolled.stdout
    assert f"next: lockstep rotate --force -c {plain.credential.id}" in enrolled.stdout
    assert state_of(plain).enrol == {"crm"}
    assert "enrolled, until proven: crm" in status_of(plain)
    assert "it was so already" in run("enrol", plain.credential.id, "crm").stdout

    cancelled = run("enrol", plain.credential.id, "crm", "--cancel")
    assert (cancelled.exit_code, "cancelled crm" in cancelled.stdout) == (0, True)
    assert state_of(plain).enrol == frozenset()
    assert [d["order"] for d in recorded(plain)] == ["enrol", "cancel-enrolment"]


def test_an_account_of_another_credential_is_not_enrolled(plain: Case) -> None:
    """The account has an owner in the lock table, who is named (protocol O8)."""
    other = DynamoDbOrders(plain.world.aws.client("dynamodb"), LOCK_TABLE, "multi-cloud/elsewhere")
    [account] = accounts_of(plain.credential)
    other.register(account)
    dry = run("enrol", plain.credential.id, "crm", "--dry-run")
    refused = run("enrol", plain.credential.id, "crm")
    assert (dry.exit_code, refused.exit_code) == (0, 1)
    assert "AccountOwnedError" in refused.stderr
    assert "owner=multi-cloud/elsewhere" in refused.stderr
    assert state_of(plain).enrol == frozenset()


def test_a_muted_database_is_tried_again(plain: Case) -> None:
    plain.world.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": plain.credential.id}},
        UpdateExpression="SET muted = :names",
        ExpressionAttributeValues={":names": {"SS": ["crm", "gone"]}},
    )
    assert "muted after refused logins: crm, gone" in status_of(plain)
    shown = run("retry", plain.credential.id, "crm")
    assert (shown.exit_code, "crm is tried again (entry 1 of aws)" in shown.stdout) == (0, True)
    # A database that left the plan can be cleared too.
    assert run("retry", plain.credential.id, "gone").exit_code == 0
    assert state_of(plain).muted == frozenset()
    assert run("retry", plain.credential.id, "gone").exit_code == 2
    assert run("retry", plain.credential.id, "crm").stdout.endswith("(it was so already)\n")
