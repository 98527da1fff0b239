"""The commands that give orders, on a running world: the record, the audit log, the exit codes (protocol O2)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from typer.testing import Result

from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.protocol.orders import accounts_of
from sandbox.outside import Value, lets_in
from sandbox.plans import LOCK_TABLE
from tests.statemachine.conftest import Case
from tests.statemachine.conftest import lockstep as run


def status_of(case: Case) -> str:
    return run("status", case.credential.id).stdout


def test_pause_and_resume(plain: Case) -> None:
    plain.rotate()
    dry = run("pause", plain.credential.id, "--dry-run")
    assert (dry.exit_code, "would record and give the order pause" in dry.stdout) == (0, True)
    assert not plain.record().paused

    paused = run("pause", plain.credential.id)
    assert (paused.exit_code, paused.stdout) == (0, f"{plain.credential.id}: paused (entry 2 of aws)\n")
    again = run("pause", plain.credential.id)
    assert (again.exit_code, again.stdout) == (0, f"{plain.credential.id}: paused (it was so already)\n")
    assert plain.record().paused
    assert "It is paused: no scheduled run begins." in status_of(plain)
    assert f"skipped now (paused, until `lockstep resume {plain.credential.id}`)" in status_of(plain)
    before = plain.stored_login()
    assert plain.again().output == {"outcome": "skipped"}
    assert plain.stored_login() == before
    assert plain.forced().exit_code == 0
    assert plain.stored_login() != before

    assert run("resume", plain.credential.id).exit_code == 0
    assert not plain.record().paused
    assert "paused" not in status_of(plain)
    assert plain.recorded() == [{"order": "pause"}, {"order": "resume"}]


def test_a_pause_says_which_run_goes_on(plain: Case) -> None:
    plain.hold_lock("run-7", expires_at=4_000_000_000)
    assert "run-7 may still be running, until 2096-" in run("pause", plain.credential.id).stdout


def test_an_order_is_shown_with_who_gave_it(plain: Case) -> None:
    run("take-over", plain.credential.id, "crm")
    shown = run("audit", "show", plain.credential.id).stdout
    assert "order take_over, databases crm, by arn:aws:" in shown


def test_take_over_is_given_and_cancelled(plain: Case) -> None:
    taken_over = run("take-over", plain.credential.id, "crm")
    assert taken_over.exit_code == 0
    assert f"{plain.credential.id}: takes over crm (entry 1 of aws)" in taken_over.stdout
    assert f"next: lockstep rotate {plain.credential.id} --force" in taken_over.stdout
    assert plain.record().take_over == {"crm"}
    assert "to be taken over, until proven: crm" in status_of(plain)
    assert "it was so already" in run("take-over", plain.credential.id, "crm").stdout

    cancelled = run("take-over", plain.credential.id, "crm", "--cancel")
    assert (cancelled.exit_code, "cancelled crm" in cancelled.stdout) == (0, True)
    assert plain.record().take_over == frozenset()
    assert [d["order"] for d in plain.recorded()] == ["take_over", "cancel_take_over"]


def test_an_account_of_another_credential_is_not_taken_over(plain: Case) -> None:
    """The account has an owner in the lock table, who is named (protocol O8)."""
    other = DynamoDbOrders(plain.world.aws.client("dynamodb"), LOCK_TABLE, "multi-cloud/elsewhere")
    [account] = accounts_of(plain.credential)
    other.register(account)
    dry = run("take-over", plain.credential.id, "crm", "--dry-run")
    refused = run("take-over", plain.credential.id, "crm")
    assert (dry.exit_code, refused.exit_code) == (0, 1)
    assert "OrderRefusedError" in refused.stderr
    assert "owner=multi-cloud/elsewhere" in refused.stderr
    assert plain.record().take_over == frozenset()


def test_a_blocked_database_is_tried_again(plain: Case) -> None:
    plain.world.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": plain.credential.id}},
        UpdateExpression="SET blocked = :names",
        ExpressionAttributeValues={":names": {"SS": ["crm", "gone"]}},
    )
    assert ": down\n  crm, or a verify host of it, refuses what stores serve" in status_of(plain)
    shown = run("unblock", plain.credential.id, "crm")
    assert f"next: lockstep rotate {plain.credential.id} --force" in shown.stdout
    assert (shown.exit_code, "crm is tried again (entry 1 of aws)" in shown.stdout) == (0, True)
    # A database that left the plan can be cleared too.
    assert run("unblock", plain.credential.id, "gone").exit_code == 0
    assert plain.record().blocked == frozenset()
    assert run("unblock", plain.credential.id, "gone").exit_code == 2
    assert "(it was so already)" in run("unblock", plain.credential.id, "crm").stdout


# Activation

OLD, ELSE = "a" * 64, "b" * 64


def set_attribute(case: Case, name: str, value: dict[str, Any]) -> None:
    case.world.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": case.credential.id}},
        UpdateExpression="SET #name = :value",
        ExpressionAttributeNames={"#name": name},
        ExpressionAttributeValues={":value": value},
    )


def forget(case: Case, *names: str) -> None:
    """Take attributes out of the record, as it is before a plan was ordered."""
    case.world.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": case.credential.id}},
        UpdateExpression=f"REMOVE {', '.join(f'#{name}' for name in names)}",
        ExpressionAttributeNames={f"#{name}": name for name in names},
    )


def activate(case: Case, *words: str, plan: Path | None = None) -> Result:
    return run("apply", case.credential.id, *words, *(["-p", str(plan)] if plan else []))


def changed_plan(case: Case, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The world's plan file with a change to the case's credential."""
    document = YAML(typ="safe").load(case.world.plan_file)
    change(next(c for c in document["credentials"] if c["id"] == case.credential.id))
    file = case.world.plan_file.with_name(f"{folder.name}.yaml")  # Its CA files are beside it.
    file.write_text(json.dumps(document))
    return file


def test_the_first_plan_is_ordered_without_an_old_one(plain: Case) -> None:
    digest = plain.credential.plan_digest
    forget(plain, "plan", "activate")
    assert activate(plain, "--from", OLD).exit_code == 1
    assert activate(plain, "--dry-run").exit_code == 0
    assert plain.record().activate is None
    ordered = activate(plain)
    assert ordered.exit_code == 0
    assert f": ordered {digest} (entry 1 of aws)" in ordered.stdout
    assert f"next: lockstep status {plain.credential.id} --read-values" in ordered.stdout
    assert plain.record().activate == digest
    assert f"to become the active plan: {digest}" in status_of(plain)
    assert "it was so already" in activate(plain).stdout
    assert plain.recorded() == [{"order": "activate", "plan": digest, "replaces": None, "leaving": []}]


def test_the_plan_that_is_replaced_must_be_named(plain: Case) -> None:
    plain.rotate()
    set_attribute(plain, "plan", {"S": OLD})
    assert f"not the active one: the active one is {OLD}." in status_of(plain)
    unnamed, wrong = activate(plain), activate(plain, "--from", ELSE)
    for refused in (unnamed, wrong):
        assert refused.exit_code == 1
        assert f"lockstep apply {plain.credential.id} --from {OLD}" in refused.stderr
    assert activate(plain, "--from", OLD).exit_code == 0
    assert plain.record().activate == plain.credential.plan_digest


def test_a_database_that_leaves_must_be_named(spanning: Case, tmp_path: Path) -> None:
    spanning.rotate()
    set_attribute(spanning, "plan", {"S": OLD})
    smaller = changed_plan(spanning, tmp_path, lambda c: c.update(databases=["orders"]))
    refused = activate(spanning, "--from", OLD, plan=smaller)
    assert (refused.exit_code, "ledger would leave" in refused.stderr) == (1, True)
    assert "add: --drop ledger" in refused.stderr
    wrong = activate(spanning, "--from", OLD, "--drop", "ledger", "--drop", "orders", plan=smaller)
    assert (wrong.exit_code, "orders does not leave" in wrong.stderr) == (1, True)
    assert spanning.record().activate is None
    assert activate(spanning, "--from", OLD, "--drop", "ledger", plan=smaller).exit_code == 0
    assert spanning.recorded()[-1]["leaving"] == ["ledger"]


def test_the_usernames_of_a_credential_never_change(spanning: Case, tmp_path: Path) -> None:
    spanning.rotate()
    set_attribute(spanning, "plan", {"S": OLD})
    renamed = changed_plan(spanning, tmp_path, lambda c: c.update(username="somebody_else"))
    refused = activate(spanning, "--from", OLD, plan=renamed)
    assert (refused.exit_code, "usernames" in refused.stderr) == (1, True)
    assert spanning.record().activate is None


def test_to_activate_the_active_plan_withdraws_another(plain: Case) -> None:
    set_attribute(plain, "plan", {"S": plain.credential.plan_digest})
    forget(plain, "activate")
    assert "it was so already" in activate(plain).stdout
    set_attribute(plain, "activate", {"S": ELSE})
    withdrawn = activate(plain)
    assert (withdrawn.exit_code, "active (entry 1 of aws)" in withdrawn.stdout) == (0, True)
    assert plain.record().activate is None


# Emergencies


def emergency(case: Case, *words: str) -> Result:
    env = {"LOCKSTEP_STATE_MACHINE_ARN": case.world.machine_arn}
    return run("revoke", case.credential.id, "--yes", *words, env=env)


def test_an_emergency_is_an_order_and_a_run(plain: Case) -> None:
    plain.rotate()
    before = plain.stored_login()
    done = emergency(plain, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["outcome"] == "rotated"
    assert "emergency through generation 1 ordered" in done.stderr
    assert plain.recorded() == [{"order": "revoke", "revoke_through": 1, "lifts_pause": False}]
    assert plain.locked_out() == []
    assert not plain.record().is_revoking
    assert "emergency" not in status_of(plain)
    [server] = plain.credential.servers
    assert not lets_in(server, Value(before.username, before.password.reveal()))


def test_an_emergency_on_a_paused_credential_says_so(plain: Case) -> None:
    plain.rotate()
    run("pause", plain.credential.id)
    refused = emergency(plain)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "code=paused" in refused.stderr
    assert "--resume" in refused.stderr
    assert plain.record().revoke_through is None
    assert emergency(plain, "--resume").exit_code == 0
    assert not plain.record().paused


def test_an_emergency_that_finds_the_lock_held_stands_in_the_record(plain: Case) -> None:
    plain.rotate()
    plain.hold_lock("run-7")
    shown = emergency(plain)
    assert (shown.exit_code, shown.stdout.split(" until ")[0]) == (1, "skipped: run-7 holds the lock")
    assert "not over: generations up to 1 may still log in" in shown.stderr
    assert plain.record().is_revoking
    assert "Emergency: every generation up to 1 must be revoked" in status_of(plain)
