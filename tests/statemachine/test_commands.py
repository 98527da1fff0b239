"""Commands that look and start, on a running world: what they do and print, and how they exit."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lockstep.operate.documents import DOCUMENTS, schema
from lockstep.protocol.orders import Pause
from sandbox.plans import AUDIT_BUCKET
from tests.statemachine.conftest import Case, lockstep
from tests.statemachine.test_rotation import NORMAL

DEAD = "run-that-died"


def _closed(part: Any) -> Any:  # noqa: ANN401 - a schema
    if isinstance(part, list):
        return [_closed(one) for one in part]
    if not isinstance(part, dict):
        return part
    closed = {key: _closed(value) for key, value in part.items()}
    return {**closed, "additionalProperties": False} if "properties" in closed else closed


def document(case: Case, *words: str) -> dict[str, Any]:
    """What a command tells a program: what its schema says, where it has one, and nothing beside it.

    The schema itself lets later versions add fields.
    """
    parsed: dict[str, Any] = json.loads(case.run(*words, "--json").stdout)
    if words[0] in {"status", "history"}:
        checker = jsonschema.Draft202012Validator(_closed(schema(DOCUMENTS[words[0]])))
        checker.evolve(format_checker=checker.FORMAT_CHECKER).validate(parsed)
    return parsed


def told(case: Case, *more: str) -> dict[str, Any]:
    """What `status` says of it in its document."""
    [credential] = document(case, "status", *more)["credentials"]
    return dict(credential)


def test_status_and_history_of_a_credential_that_rotates(mysql: Case) -> None:
    unread, read = told(mysql), told(mysql, "--read-values")
    assert (unread["in_sync"], unread["read"], unread["next_run"]["action"]) == (None, "names", None)
    assert (read["in_sync"], read["read"], read["next_run"]["action"]) == (True, "values", "reconcile")
    mysql.rotate()
    mysql.again()
    shown = mysql.run("status")
    assert (shown.exit_code, ": healthy; in sync (version names compared" in shown.stdout) == (0, True)
    assert "previous generation 1: proven by the last run, valid until " in shown.stdout
    credential = told(mysql)
    said = (credential["verdict"], credential["in_sync"], credential["next_run"]["action"])
    assert (said, credential["current_generation"]) == (("healthy", True, "rotate"), 2)
    assert shown.stdout.partition("; the turn of ")[2].startswith(credential["next_cloud"])
    mysql.order(Pause())  # An entry that is no run's.
    newest, first, why, step = mysql.run("history").stdout.splitlines()
    assert (why.split(": ")[1], step) == ("It is paused", f"  next: lockstep resume {mysql.credential.id}")
    assert " ago), aws: generation 2, rotated in " in newest
    assert "aws: generation 1, rotated in " in first
    assert len(mysql.run("history", "-n", "1").stdout.splitlines()) == 3
    [run_2, run_1] = document(mysql, "history")["runs"]
    assert [run_2[key] for key in ("generation", "outcome", "error", "advice")] == [2, "rotated", None, None]
    assert run_2["seconds"] > 0
    assert run_1["seq"] < run_2["seq"]


def test_the_lock_of_a_dead_run_is_released_and_its_claim_stays(mysql: Case) -> None:
    """A release by hand keeps the claim (protocol L10)."""
    mysql.settle()
    crm = mysql.world.servers["crm"]
    crm.stop()
    try:
        failed = mysql.run("rotate")
    finally:
        crm.start()
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert (mysql.record().holder, mysql.locked_out()) == (None, [])
    assert mysql.entries()[-1].event["status_code"] == "DatabaseUnreachableError"
    assert "failed: DatabaseUnreachableError: " in failed.stderr
    assert "  next: " in failed.stderr
    assert "  pending: generation 2 on 1, begun by " in mysql.run("status").stdout
    mysql.hold_lock(DEAD)
    before = mysql.record()
    assert before.claim
    [record] = document(mysql, "lock", "show")["locks"]
    assert (record["holder"], record["fence"], record["claim"]["generation"]) == (DEAD, 3, 2)

    def release(*words: str, holder: str = DEAD, answer: str | None = None) -> tuple[int, str]:
        shown = mysql.run("lock", "release", "--holder", holder, *words, input=answer)
        return shown.exit_code, shown.output

    code, said = release("--yes", holder="another-run")
    assert (code, f"not freed: the holder is {DEAD}" in said) == (1, True)
    assert release(answer="n\n")[0] == release()[0] == 1  # Without a terminal there is no confirmation.
    assert mysql.record() == before
    code, said = release(answer="y\n")
    assert (code, "Generation 2 stays in flight" in said) == (0, True)
    assert (mysql.record().claim, before.claim.generation) == (before.claim, 2)
    assert "the lock is free already" in release("--yes")[1]
    output = mysql.rotate().output
    assert (output["outcome"], output["generation"], output["adopted"]) == ("rotated", 2, True)


def test_rotate_shows_the_states_of_its_run_or_why_there_was_none(mysql: Case) -> None:
    name = mysql.credential.id
    mysql.rotate()
    told_overlap = r"skipped: nothing to repair, and the overlap ends at [0-9: -]+ \(in .*\)\n$"
    assert re.match(told_overlap, mysql.run("rotate", "--force").stdout)
    mysql.world.outside.expire_schedule(name)
    shown = mysql.run("rotate")
    assert (shown.exit_code, shown.stdout) == (0, "rotated, generation 2 is current\n")
    assert [e.event["unmapped"]["lockstep"]["trigger"] for e in mysql.entries()][1:] == ["cli"]
    started, *states = shown.stderr.splitlines()
    assert started.startswith(f"started {mysql.world.machine_arn.replace(':stateMachine:', ':execution:')}:")
    assert [re.fullmatch(r"  [0-9:]{8}  ([A-Za-z]+)", line)[1] for line in states] == NORMAL  # type: ignore[index]
    again = f"  next: lockstep rotate {name} --force\n"
    early = mysql.run("rotate")
    assert re.match(r"skipped: not due before [0-9: -]+ \(in .*\)\n", early.stdout)
    assert (early.exit_code, early.stdout.endswith(again)) == (0, True)
    mysql.order(Pause())
    assert mysql.run("rotate").stdout == f"skipped: paused, until `lockstep resume {name}`\n{again}"
    mysql.hold_lock(DEAD)
    skipped = document(mysql, "rotate", "--force")
    waits = skipped["waits_for"]
    assert (skipped["outcome"], waits["reason"], waits["holder"]) == ("skipped", "held", DEAD)
    assert [s["state"] for s in skipped["states"]][:2] == ["CheckInput", "AcquireLock"]


def test_what_is_not_deployed_or_not_followed_is_told(mysql: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = mysql.run("rotate", "--stack", "elsewhere")
    assert (stack.exit_code, "--stack NAME" in stack.stderr) == (3, True)
    missing = {"LOCKSTEP_STATE_MACHINE_ARN": f"{mysql.world.machine_arn}-elsewhere"}
    shown = lockstep("rotate", mysql.credential.id, env=missing)
    assert (shown.exit_code, "StateMachineDoesNotExist" in shown.stderr) == (3, True)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lockstep.operate.execution.Execution.followed", interrupted)
    shown = mysql.run("rotate")
    assert shown.exit_code == 130
    assert "not followed any more; the rotation continues: arn:aws:states:" in shown.stderr


def test_a_report_in_each_form_until_the_log_is_cut_short(mysql: Case, tmp_path: Path) -> None:
    name = mysql.credential.id
    mysql.world.make_digests()
    empty = mysql.run("audit", "verify").stdout
    assert empty.endswith(f"{name} aws: no entries yet (0 entries)\nverified\n")
    mysql.rotate()
    mysql.again()
    mysql.order(Pause())
    shown = mysql.run("audit", "verify", "--stores")
    assert shown.exit_code == 0
    assert f"{name} aws: verified (3 entries, 3 not covered by a digest yet)\n" in shown.stdout
    assert document(mysql, "audit", "verify")["verdict"] == "verified"
    [_, newest] = mysql.run("audit", "show", "-n", "2").stdout.splitlines()
    assert " 2: " in newest
    assert "Success, base generation 1, databases crm behind none, outcome applied" in newest
    entries = document(mysql, "audit", "show")["entries"]
    assert [e["event"]["unmapped"]["lockstep"].get("generation") for e in entries] == [None, 2, 1]
    file = tmp_path / "report.html"
    shown = mysql.run("audit", "report", "--since", "1d", "--output", str(file))
    assert (shown.exit_code, shown.stdout, f"{file.name}: verified" in shown.stderr) == (0, "", True)
    assert name in file.read_text()
    assert document(mysql, "audit", "report")["verdict"] == "verified"
    # Object Lock keeps versions, but a delete marker can hide one.
    key = f"aws/{name.replace('/', '.')}/{3:012d}.json"
    mysql.world.aws.client("s3").delete_object(Bucket=AUDIT_BUCKET, Key=key)
    shown = mysql.run("audit", "verify")
    assert (shown.exit_code, "entry 3: hidden by a delete marker" in shown.stdout) == (1, True)
    shown = mysql.run("audit", "report", "-o", str(file))
    assert (shown.exit_code, "NOT VERIFIED" in shown.stderr) == (1, True)
    assert "Not verified" in file.read_text()
