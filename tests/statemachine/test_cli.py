"""The command line on a running world, after real rotations: its output and its exit codes."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.orders import Pause, Resume
from sandbox.plans import AUDIT_BUCKET
from tests.statemachine.conftest import Case
from tests.support.documents import require_document

DEAD = "run-that-died"


def run(case: Case, *words: str, **more: str) -> Result:
    """Run a command for the case's credential; the plan is in the environment."""
    return CliRunner().invoke(app, [*words, case.credential.id], **more)  # type: ignore[arg-type]  # input only


def document(shown: Result, command: str = "") -> dict[str, Any]:
    """What it printed, which is by the command's schema where that has one."""
    parsed: dict[str, Any] = json.loads(shown.stdout)
    if command:
        require_document(command, parsed)
    return parsed


def key_of(case: Case, seq: int) -> str:
    return f"aws/{case.credential.id.replace('/', '.')}/{seq:012d}.json"


def told(case: Case, *more: str) -> dict[str, Any]:
    """What `status` says of it in its document."""
    [credential] = document(run(case, "status", "--json", *more), "status")["credentials"]
    return dict(credential)


def test_status_and_history_of_a_credential_that_rotates(plain: Case) -> None:
    unread, read = told(plain), told(plain, "--read-values")
    assert (unread["in_sync"], unread["read"], unread["next_run"]["action"]) == (None, "names", None)
    assert (read["in_sync"], read["read"], read["next_run"]["action"]) == (True, "values", "reconcile")
    assert unread["stores"][0]["placeholder"] is None
    before = run(plain, "status").stdout
    assert f"{plain.credential.id}: degraded\n  It was never rotated.\n" in before
    assert "store aws: a version that Lockstep did not write\n" in before
    assert "; or, if the stores hold placeholders only: change nothing: " in before
    assert ": degraded; in sync (values compared)\n" in run(plain, "status", "--read-values").stdout
    assert run(plain, "history").stdout.startswith(f"no runs\n{plain.credential.id}: It was never rotated.\n")
    plain.rotate()
    plain.again()
    shown = run(plain, "status")
    assert shown.exit_code == 0
    for line in (
        *(": healthy; in sync (version names compared, values not read)\n", "store aws: generation 2\n"),
        *("skipped now (not due before", "generation 2: promoted at ", "last run: "),
        "previous generation 1: proven by the last run, valid until ",
    ):
        assert line in shown.stdout
    credential = told(plain)
    assert (credential["verdict"], credential["in_sync"], credential["next_run"]["action"]) == (
        *("healthy", True, "rotate"),
    )
    assert shown.stdout.partition("; the turn of ")[2].startswith(credential["next_cloud"])
    assert (credential["current_generation"], credential["stores"][0]["placeholder"]) == (2, False)
    assert credential["current_since"].endswith("Z")
    plain.order(Pause())  # An entry that is no run's.
    newest, first, why, step = run(plain, "history").stdout.splitlines()
    assert (why.split(": ")[1], step) == ("It is paused", f"  next: lockstep resume {plain.credential.id}")
    assert newest.startswith(plain.credential.id)
    assert " ago), aws: generation 2, rotated in " in newest
    assert "aws: generation 1, rotated in " in first
    assert len(run(plain, "history", "-n", "1").stdout.splitlines()) == 3
    [run_2, run_1] = document(run(plain, "history", "--json"), "history")["runs"]
    assert [run_2[key] for key in ("generation", "outcome", "error", "advice")] == [2, "rotated", None, None]
    assert run_2["seconds"] > 0
    assert run_1["seq"] < run_2["seq"]


def test_a_failed_run_is_told_with_what_fixes_it(plain: Case) -> None:
    plain.settle()
    plain.set_password("crm", "not-the-password")
    failed = plain.rotate()
    assert failed.status == "FAILED"
    for command in ("history", "status"):
        shown = run(plain, command)
        assert f", with {failed.error}: " in shown.stdout
        assert f"  next: lockstep take-over {plain.credential.id} crm\n" in shown.stdout
        assert "not-the-password" not in shown.output
    last = told(plain)["last_run"]
    assert (last["error"], bool(last["advice"])) == (failed.error, True)


def test_the_lock_of_a_dead_run_is_released_and_its_claim_stays(mysql: Case) -> None:
    """A release by hand keeps the claim (protocol L10)."""
    mysql.settle()
    crm = mysql.world.servers[mysql.credential.databases[0]]
    crm.stop()
    try:
        assert mysql.rotate().error == "DatabaseUnreachableError"
    finally:
        crm.start()
    pending = run(mysql, "status").stdout
    assert "finish generation 2, begun by" in pending
    assert "  pending: generation 2 on 1, begun by " in pending
    mysql.hold_lock(DEAD)
    before = mysql.lock
    assert f"holder: {DEAD}" in run(mysql, "lock", "show").stdout
    [record] = document(run(mysql, "lock", "show", "--json"))["locks"]
    assert (record["holder"], record["fence"], record["claim"]["generation"]) == (DEAD, 3, 2)
    assert f"skipped now ({DEAD} holds the lock until" in run(mysql, "status").stdout

    def release(*words: str, holder: str = DEAD, answer: str | None = None) -> tuple[int, str]:
        shown = CliRunner().invoke(
            app, ["lock", "release", "--holder", holder, *words, mysql.credential.id], input=answer
        )
        return shown.exit_code, shown.output

    code, said = release("--yes", holder="another-run")
    assert (code, f"not freed: the holder is {DEAD}" in said) == (1, True)
    assert release(answer="n\n")[0] == release()[0] == 1  # Without a terminal there is no confirmation.
    assert mysql.lock == before
    code, said = release(answer="y\n")
    assert (code, "Generation 2 stays in flight" in said) == (0, True)
    assert mysql.lock["pending_generation"] == "2"
    assert "the lock is free already" in release("--yes")[1]
    output = mysql.rotate().output
    assert (output["outcome"], output["generation"], output["adopted"]) == ("rotated", 2, True)
    assert told(mysql)["claim"] is None


# The audit log and its reports


def test_a_report_in_each_form_until_the_log_is_cut_short(plain: Case, tmp_path: Path) -> None:
    plain.world.make_digests()
    empty = run(plain, "audit", "verify").stdout
    assert "; confirmed until " in empty
    assert empty.endswith(f"{plain.credential.id} aws: no entries yet (0 entries)\nverified\n")
    assert run(plain, "audit", "show").stdout == "no entries\n"
    plain.rotate()
    plain.again()
    plain.order(Pause())
    plain.order(Resume())
    shown = run(plain, "audit", "verify", "--stores")
    assert shown.exit_code == 0
    assert f"{plain.credential.id} aws: verified (4 entries, 4 not covered by a digest yet)\n" in shown.stdout
    assert document(run(plain, "audit", "verify", "--json"))["verdict"] == "verified"
    newest = run(plain, "audit", "show", "-n", "3").stdout.splitlines()
    assert [line.split(": ")[0].split()[-1] for line in newest] == ["4", "3", "2"]
    assert "Success, base generation 1, databases crm outcome applied" in newest[2]
    assert ", generation 2, " in newest[2]
    entries = document(run(plain, "audit", "show", "--json"))["entries"]
    assert [e["event"]["unmapped"]["lockstep"].get("generation") for e in entries] == [None, None, 2, 1]
    file = tmp_path / "report.html"
    shown = run(plain, "audit", "report", "--since", "1d", "--output", str(file))
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert f"{file.name}: verified" in shown.stderr
    page = file.read_text()
    assert (page.startswith("<!doctype html>"), plain.credential.id in page) == (True, True)
    shown = run(plain, "audit", "report", "--json")
    assert (shown.exit_code, shown.stderr) == (0, "")
    report = json.loads(shown.stdout)
    (credential,) = report["credentials"]
    assert report["verdict"] == "verified"
    assert credential["figures"]["rotated"] == {"aws": 2}
    assert [order["outcome"] for order in credential["orders"]] == ["pause", "resume"]

    # Object Lock keeps versions, but a delete marker can hide one.
    s3 = plain.world.aws.client("s3")
    s3.delete_object(Bucket=AUDIT_BUCKET, Key=key_of(plain, 4))
    shown = run(plain, "audit", "verify")
    assert shown.exit_code == 1
    assert "entry 4: hidden by a delete marker" in shown.stdout
    shown = run(plain, "audit", "report", "-o", str(file))
    assert (shown.exit_code, "NOT VERIFIED" in shown.stderr) == (1, True)
    assert "Not verified" in file.read_text()
