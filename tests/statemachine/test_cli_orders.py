"""The commands that give orders, on a running world: the record, the audit log, the exit codes (protocol O2)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from typer.testing import Result

from sandbox.plans import LOCK_TABLE
from tests.statemachine.conftest import Case
from tests.statemachine.conftest import lockstep as run


def status_of(case: Case) -> str:
    return run("status", case.credential.id).stdout


def test_pause_and_resume(plain: Case) -> None:
    name = plain.credential.id
    plain.rotate()
    dry = run("pause", name, "--dry-run")
    assert (dry.exit_code, "would give the order pause" in dry.stdout) == (0, True)
    assert not plain.record().paused
    for how in ("entry 2 of aws", "it was so already"):
        paused = run("pause", name)
        assert (paused.exit_code, paused.stdout) == (0, f"{name}: order pause given ({how})\n")
    assert plain.record().paused
    assert "It is paused: no scheduled run begins." in status_of(plain)
    assert f"skipped now (paused, until `lockstep resume {name}`)" in status_of(plain)
    before = plain.stored_login()
    assert plain.again().output == {"outcome": "skipped"}
    assert plain.stored_login() == before
    assert plain.forced().exit_code == 0
    assert plain.stored_login() != before
    assert run("resume", name).exit_code == 0
    assert not plain.record().paused
    assert "paused" not in status_of(plain)
    assert [d["order"] for d in plain.recorded()] == ["pause", "resume"]
    plain.hold_lock("run-7", expires_at=4_000_000_000)
    assert "run-7 may still be running, until 2096-" in run("pause", name).stdout


def test_take_over_is_given_and_cancelled(plain: Case) -> None:
    name = plain.credential.id
    taken_over = run("take-over", name, "crm")
    assert taken_over.exit_code == 0
    assert f"{name}: order take_over given (entry 1 of aws)" in taken_over.stdout
    assert f"next: lockstep rotate {name} --force" in taken_over.stdout
    assert plain.record().take_over == {"crm"}
    assert "to be taken over, until proven: crm" in status_of(plain)
    cancelled = run("take-over", name, "crm", "--cancel")
    assert (cancelled.exit_code, "order cancel_take_over given" in cancelled.stdout) == (0, True)
    assert plain.record().take_over == frozenset()
    assert "databases crm, order take_over, by arn:aws:" in run("audit", "show", name).stdout


def test_a_blocked_database_is_tried_again(plain: Case) -> None:
    set_attribute(plain, "blocked", {"SS": ["crm", "gone"]})
    assert ": down\n  crm, or a verify host of it, refuses what stores serve" in status_of(plain)
    shown = run("unblock", plain.credential.id, "crm")
    assert f"next: lockstep rotate {plain.credential.id} --force" in shown.stdout
    assert (shown.exit_code, "order unblock given (entry 1 of aws)" in shown.stdout) == (0, True)
    # A database that left the plan can be cleared too.
    assert run("unblock", plain.credential.id, "gone").exit_code == 0
    assert plain.record().blocked == frozenset()
    assert run("unblock", plain.credential.id, "gone").exit_code == 2


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


def activate(case: Case, *words: str, plan: Path | None = None) -> Result:
    return run("apply", case.credential.id, *words, *(["-p", str(plan)] if plan else []))


def changed_plan(case: Case, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The world's plan file with a change to the case's credential."""
    document = YAML(typ="safe").load(case.world.plan_file)
    change(next(c for c in document["credentials"] if c["id"] == case.credential.id))
    file = case.world.plan_file.with_name(f"{folder.name}.yaml")  # Its CA files are beside it.
    file.write_text(json.dumps(document))
    return file


def test_the_first_plan_is_ordered_without_an_old_one_and_each_other_in_place_of_it(plain: Case) -> None:
    digest = plain.credential.plan_digest
    # As it is before a plan was ordered.
    plain.world.aws.client("dynamodb").update_item(
        TableName=LOCK_TABLE,
        Key={"credential_id": {"S": plain.credential.id}},
        UpdateExpression="REMOVE #plan, activate",
        ExpressionAttributeNames={"#plan": "plan"},
    )
    assert activate(plain, "--from", OLD).exit_code == 1
    assert activate(plain, "--dry-run").exit_code == 0
    assert plain.record().activate is None
    ordered = activate(plain)
    assert ordered.exit_code == 0
    assert ": order activate given (entry 1 of aws)" in ordered.stdout
    assert f"next: lockstep status {plain.credential.id} --read-values" in ordered.stdout
    assert plain.record().activate == digest
    assert f"to become the active plan: {digest}" in status_of(plain)
    plain.rotate()
    assert "it was so already" in activate(plain).stdout
    # To activate the active plan withdraws another one.
    set_attribute(plain, "activate", {"S": ELSE})
    withdrawn = activate(plain)
    assert (withdrawn.exit_code, "given (entry 3 of aws)" in withdrawn.stdout) == (0, True)
    assert plain.record().activate is None
    set_attribute(plain, "plan", {"S": OLD})
    assert f"not the active one: the active one is {OLD}." in status_of(plain)
    for refused in (activate(plain), activate(plain, "--from", ELSE)):
        assert refused.exit_code == 1
        assert f"lockstep apply {plain.credential.id} --from {OLD}" in refused.stderr
    assert activate(plain, "--from", OLD).exit_code == 0
    assert plain.record().activate == digest


def test_a_database_that_leaves_is_named_and_usernames_never_change(spanning: Case, tmp_path: Path) -> None:
    spanning.rotate()
    set_attribute(spanning, "plan", {"S": OLD})
    smaller = changed_plan(spanning, tmp_path / "smaller", lambda c: c.update(databases=["orders"]))
    renamed = changed_plan(spanning, tmp_path / "renamed", lambda c: c.update(username="somebody_else"))
    for plan, drop, says in (
        (smaller, (), "ledger would leave"),
        (smaller, (), "add: --drop ledger"),
        (renamed, (), "usernames"),
    ):
        refused = activate(spanning, "--from", OLD, *drop, plan=plan)
        assert (refused.exit_code, says in refused.stderr) == (1, True), says
    assert spanning.record().activate is None
    assert (
        activate(spanning, "--from", OLD, "--drop", "ledger", "--drop", "gone", plan=smaller).exit_code == 0
    )
    assert spanning.recorded()[-1]["leaving"] == ["ledger"]


# Emergencies


def emergency(case: Case, *words: str) -> Result:
    env = {"LOCKSTEP_STATE_MACHINE_ARN": case.world.machine_arn}
    return run("revoke", case.credential.id, "--yes", *words, env=env)


def test_an_emergency_is_an_order_and_a_run_that_waits_for_no_pause(plain: Case) -> None:
    plain.rotate()
    before = plain.stored_login()
    run("pause", plain.credential.id)
    refused = emergency(plain)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert ("code=paused" in refused.stderr, "--resume" in refused.stderr) == (True, True)
    assert plain.record().revoke_through is None
    done = emergency(plain, "--resume", "--json")
    assert (done.exit_code, json.loads(done.stdout)["outcome"]) == (0, "rotated")
    assert "emergency through generation 1 ordered" in done.stderr
    assert plain.recorded()[-1]["lifts_pause"]
    assert (plain.record().paused, plain.record().is_revoking) == (False, False)
    assert "emergency" not in status_of(plain)
    assert (plain.locked_out(), plain.accepted(before)) == ([], [])


def test_an_emergency_that_finds_the_lock_held_stands_in_the_record(plain: Case) -> None:
    plain.rotate()
    plain.hold_lock("run-7")
    shown = emergency(plain)
    assert (shown.exit_code, shown.stdout.split(" until ")[0]) == (1, "skipped: run-7 holds the lock")
    assert "not over: generations up to 1 may still log in" in shown.stderr
    assert plain.record().is_revoking
    assert "Emergency: every generation up to 1 must be revoked" in status_of(plain)
