"""The command line on a running world, after real rotations: its output and its exit codes."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
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


def test_status_of_a_credential_that_rotates(plain: Case) -> None:
    before = run(plain, "status")
    assert before.exit_code == 1
    assert before.stdout.startswith(f"{plain.credential.id}: degraded\n  It was never rotated.\n")
    assert f"    next: lockstep status {plain.credential.id} --read-values\n" in before.stdout
    assert "store aws: a version that Lockstep did not write\n" in before.stdout
    assert "; or, if the stores hold placeholders only: change nothing: " in before.stdout
    [unread] = document(run(plain, "status", "--json"), "status")["credentials"]
    assert (unread["in_sync"], unread["read"], unread["next_run"]["action"]) == (None, "names", None)
    assert unread["stores"][0]["placeholder"] is None
    taken_over = run(plain, "status", "--read-values")
    assert ": degraded; in sync, by their values\n  It was never rotated.\n" in taken_over.stdout
    assert f"    next: lockstep rotate {plain.credential.id} --force\n" in taken_over.stdout
    [read] = document(run(plain, "status", "--read-values", "--json"), "status")["credentials"]
    assert (read["in_sync"], read["read"], read["next_run"]["action"]) == (True, "values", "reconcile")
    plain.rotate()
    shown = run(plain, "status")
    assert shown.exit_code == 0
    assert ": healthy; in sync, by the names of the versions\n" in shown.stdout
    assert "store aws: generation 1\n" in shown.stdout
    assert "skipped now (not due before" in shown.stdout
    found = document(run(plain, "status", "--json"), "status")
    [credential] = found["credentials"]
    assert (found["verdict"], credential["verdict"], credential["in_sync"]) == ("healthy", "healthy", True)
    assert (credential["current_generation"], credential["next_run"]["action"]) == (1, "rotate")
    assert credential["stores"][0]["placeholder"] is False


def test_status_tells_since_when_a_generation_is_pending(mysql: Case) -> None:
    mysql.settle()
    began = datetime.now(UTC)
    crm = mysql.world.servers[mysql.credential.databases[0]]
    crm.stop()
    try:
        assert mysql.rotate().error == "DatabaseUnreachableError"
    finally:
        crm.start()
    shown = run(mysql, "status").stdout
    assert "  pending: generation 2 on 1, since " in shown
    assert ", begun by " in shown
    [told] = document(run(mysql, "status", "--json"), "status")["credentials"]
    since = datetime.fromisoformat(told["pending_since"])
    assert began - timedelta(seconds=2) < since < datetime.now(UTC)
    [by_value] = document(run(mysql, "status", "--read-values", "--json"), "status")["credentials"]
    assert by_value["pending_since"] == told["pending_since"]
    assert mysql.again().status == "SUCCEEDED"
    [after] = document(run(mysql, "status", "--json"), "status")["credentials"]
    assert (after["claim"], after["pending_since"]) == (None, None)


def test_status_of_a_secret_that_is_malformed(plain: Case) -> None:
    plain.rotate()
    login = plain.stored_login()
    plain.edit_secret(f"{login.password.reveal()}, not JSON")
    malformed = run(plain, "status", "--read-values")
    assert (malformed.exit_code, ": down; not in sync" in malformed.stdout) == (5, True)
    found = document(run(plain, "status", "--read-values", "--json"), "status")
    assert found["credentials"][0]["stores"] == [{"store": "aws", "error": "SecretMalformedError"}]
    assert login.password.reveal() not in malformed.output


def test_a_log_is_confirmed_by_its_digests_and_an_empty_chain_has_no_say(plain: Case) -> None:
    plain.world.make_digests()
    shown = run(plain, "audit", "verify")
    assert (shown.exit_code, shown.stdout.splitlines()[-1]) == (0, "verified")
    assert "; confirmed until " in shown.stdout
    assert f"{plain.credential.id} aws: no entries yet (0 entries)\n" in shown.stdout
    assert run(plain, "audit", "show").stdout == "no entries\n"


def test_the_audit_log_verifies_until_it_is_changed(plain: Case) -> None:
    plain.world.make_digests()
    plain.rotate()
    plain.again()
    plain.again()
    shown = run(plain, "audit", "verify", "--stores")
    assert shown.exit_code == 0
    assert f"{plain.credential.id} aws: verified (3 entries, 3 not covered by a digest yet)\n" in shown.stdout
    assert document(run(plain, "audit", "verify", "--json"))["verdict"] == "verified"

    newest = run(plain, "audit", "show", "-n", "2").stdout.splitlines()
    assert [line.split(": ")[0].split()[-1] for line in newest] == ["3", "2"]
    assert "Success, generation 3, base generation 2, databases crm: applied" in newest[0]
    entries = document(run(plain, "audit", "show", "--json"))["entries"]
    assert [e["event"]["unmapped"]["lockstep"]["generation"] for e in entries] == [3, 2, 1]

    s3 = plain.world.aws.client("s3")
    body = s3.get_object(Bucket=AUDIT_BUCKET, Key=key_of(plain, 2))["Body"].read()
    forged = body.replace(b'"Success"', b'"Failure"')
    s3.put_object(Bucket=AUDIT_BUCKET, Key=key_of(plain, 2), Body=forged, ChecksumAlgorithm="SHA256")
    shown = run(plain, "audit", "verify")
    assert shown.exit_code == 1
    assert "entry 2: is malformed" in shown.stdout
    assert "entry 2: written more than once" in shown.stdout


def test_a_foreign_object_is_a_problem(plain: Case) -> None:
    plain.rotate()
    s3 = plain.world.aws.client("s3")
    for number in (2, 999_999_999):
        s3.put_object(Bucket=AUDIT_BUCKET, Key=key_of(plain, number), Body=b"{}", ChecksumAlgorithm="SHA256")
    assert plain.again().status == "SUCCEEDED"
    shown = run(plain, "audit", "verify")
    assert shown.exit_code == 1
    assert "entry 2: is malformed; entry 3 has stepped over it" in shown.stdout
    assert "entry 999999999: is malformed" in shown.stdout


def test_the_lock_of_a_dead_run_is_released_and_its_claim_stays(mysql: Case) -> None:
    """A release by hand keeps the claim (protocol L10)."""
    mysql.settle()
    crm = mysql.world.servers[mysql.credential.databases[0]]
    crm.stop()
    try:
        assert mysql.rotate().error == "DatabaseUnreachableError"
    finally:
        crm.start()
    assert "finish generation 2, begun by" in run(mysql, "status").stdout
    mysql.hold_lock(DEAD)
    before = mysql.lock

    shown = run(mysql, "lock", "show")
    assert (shown.exit_code, f"holder: {DEAD}" in shown.stdout) == (0, True)
    [record] = document(run(mysql, "lock", "show", "--json"))["locks"]
    assert (record["holder"], record["fence"], record["claim"]["generation"]) == (DEAD, 3, 2)
    assert f"skipped now ({DEAD} holds the lock until" in run(mysql, "status").stdout

    another = run(mysql, "lock", "release", "--holder", "another-run", "--yes")
    assert (another.exit_code, f"not freed: the holder is {DEAD}" in another.stderr) == (1, True)
    dry = run(mysql, "lock", "release", "--holder", DEAD, "--dry-run")
    assert (dry.exit_code, "nothing was changed" in dry.stdout) == (0, True)
    assert run(mysql, "lock", "release", "--holder", DEAD, input="n\n").exit_code == 1
    # Without a terminal there is no confirmation.
    assert run(mysql, "lock", "release", "--holder", DEAD).exit_code == 1
    assert mysql.lock == before

    freed = run(mysql, "lock", "release", "--holder", DEAD, input="y\n")
    assert freed.exit_code == 0
    assert "Generation 2 stays in flight" in freed.stdout
    assert mysql.lock["pending_generation"] == "2"
    again = run(mysql, "lock", "release", "--holder", DEAD, "--yes")
    assert (again.exit_code, "the lock is free already" in again.stderr) == (1, True)
    output = mysql.rotate().output
    assert (output["outcome"], output["generation"], output["adopted"]) == ("rotated", 2, True)


# History


def test_history_shows_the_newest_runs_first(plain: Case) -> None:
    before = run(plain, "history").stdout
    assert before.startswith(f"no runs\n{plain.credential.id}: It was never rotated.\n")
    plain.rotate()
    plain.again()
    plain.order(Pause())  # An entry that is no run's.
    *shown, why, step = run(plain, "history").stdout.splitlines()
    assert (why.split(": ")[1], step) == ("It is paused", f"  next: lockstep resume {plain.credential.id}")
    assert [line.split(", trigger")[0].split(" in ")[0].split("aws: ")[1] for line in shown] == [
        "generation 2, rotated",
        "generation 1, rotated",
    ]
    assert shown[0].startswith(plain.credential.id)
    assert " ago), aws: " in shown[0]
    assert len(run(plain, "history", "-n", "1").stdout.splitlines()) == 3
    [newest, first] = document(run(plain, "history", "--json"), "history")["runs"]
    assert (newest["generation"], newest["outcome"], newest["error"], newest["advice"]) == (
        2,
        "rotated",
        None,
        None,
    )
    assert newest["seconds"] > 0
    assert first["ended_at"] < newest["ended_at"] or first["seq"] < newest["seq"]


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
    [credential] = document(run(plain, "status", "--json"), "status")["credentials"]
    assert credential["last_run"]["error"] == failed.error
    assert credential["last_run"]["advice"]


def test_status_says_who_rotates_next_and_since_when_the_value_is_current(plain: Case) -> None:
    plain.rotate()
    plain.again()
    shown = run(plain, "status").stdout
    assert "generation 2: promoted at " in shown
    assert "previous generation 1: proven by the last run, valid until " in shown
    turn = shown.partition("; the turn of ")[2]
    assert "last run: " in shown
    utc = run(plain, "status", "--utc").stdout
    assert "promoted at 20" in utc
    [credential] = document(run(plain, "status", "--json"), "status")["credentials"]
    assert credential["next_cloud"] in {"aws", "oci"}
    assert turn.startswith(credential["next_cloud"])
    assert credential["current_since"].endswith("Z")


# Reports


def test_a_report_in_each_form(plain: Case, tmp_path: Path) -> None:
    plain.world.make_digests()
    plain.rotate()
    plain.again()
    plain.order(Pause())
    plain.order(Resume())
    files = [tmp_path / f"report.{suffix}" for suffix in ("html", "json", "csv")]
    for file in files:
        shown = run(plain, "audit", "report", "--since", "1d", "--output", str(file))
        assert (shown.exit_code, shown.stdout) == (0, "")
        assert f"{file.name}: verified" in shown.stderr
    page, told, table = (file.read_text() for file in files)
    assert page.startswith("<!doctype html>")
    assert plain.credential.id in page
    (credential,) = json.loads(told)["credentials"]
    assert credential["figures"]["rotated"] == {"aws": 2}
    assert [order["outcome"] for order in credential["orders"]] == ["pause", "resume"]
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["record"] for row in rows] == ["verdict", "verdict", "run", "run", "order", "order"]
    shown = run(plain, "audit", "report", "--json")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert json.loads(shown.stdout)["verdict"] == "verified"


def test_a_log_that_was_cut_short_does_not_verify_and_its_report_says_so(plain: Case, tmp_path: Path) -> None:
    plain.rotate()
    plain.again()
    # Object Lock keeps the version, but a delete marker can hide it.
    plain.world.aws.client("s3").delete_object(Bucket=AUDIT_BUCKET, Key=key_of(plain, 2))
    shown = run(plain, "audit", "verify")
    assert shown.exit_code == 1
    assert "entry 2: hidden by a delete marker" in shown.stdout
    shown = run(plain, "audit", "report", "-o", str(tmp_path / "report.html"))
    assert (shown.exit_code, "NOT VERIFIED" in shown.stderr) == (1, True)
    assert "Not verified" in (tmp_path / "report.html").read_text()
