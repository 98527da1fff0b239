"""`lockstep rotate` on a running world: what it starts, what it shows, and why it was skipped."""

import re
import time

import pytest

from lockstep.protocol.orders import Pause
from tests.statemachine.conftest import Case
from tests.statemachine.test_cli import DEAD, document, run
from tests.statemachine.test_cli_orders import set_attribute
from tests.statemachine.test_rotation import NORMAL


def test_rotate_finds_the_state_machine_and_shows_its_states(plain: Case) -> None:
    plain.settle()
    shown = run(plain, "rotate")
    assert (shown.exit_code, shown.stdout) == (0, "rotated, generation 2 is current\n")
    assert plain.locked_out() == []
    assert [e.event["unmapped"]["lockstep"]["trigger"] for e in plain.entries()][1:] == ["cli"]
    started, *states = shown.stderr.splitlines()
    assert started.startswith(f"started {plain.world.machine_arn.replace(':stateMachine:', ':execution:')}:")
    assert [re.fullmatch(r"  [0-9:]{8}  ([A-Za-z]+)", line)[1] for line in states] == NORMAL  # type: ignore[index]
    forced = run(plain, "revoke", "--yes", "--json")
    told = document(forced)
    assert (told["status"], told["outcome"]) == ("SUCCEEDED", "rotated")
    assert "RevokeDb" in [s["state"] for s in told["states"]]
    assert all(s["entered_at"].endswith("Z") for s in told["states"])
    assert "AcquireLock" not in forced.stderr


def test_rotate_says_why_and_until_when_it_was_skipped(plain: Case) -> None:
    def skipped(*words: str) -> str:
        shown = run(plain, "rotate", *words)
        assert shown.exit_code == 0
        return shown.stdout

    plain.rotate()
    told_overlap = r"skipped: nothing to repair, and the overlap ends at [0-9: -]+ \(in .*\)\n$"
    assert re.match(told_overlap, skipped("--force"))
    set_attribute(plain, "not_before", {"N": "1"})
    again = f"  next: lockstep rotate {plain.credential.id} --force\n"
    assert re.match(r"skipped: not due before [0-9: -]+ \(in .*\)\n", early := skipped())
    assert early.endswith(again)
    plain.order(Pause())
    assert skipped() == f"skipped: paused, until `lockstep resume {plain.credential.id}`\n{again}"
    plain.hold_lock(DEAD, expires_at=int(time.time()) + 400)
    assert skipped("--force").startswith(f"skipped: {DEAD} holds the lock until ")
    told = document(run(plain, "rotate", "--json"))
    assert (told["outcome"], told["waits_for"]["reason"]) == ("skipped", "held")
    assert told["waits_for"]["holder"] == DEAD
    assert told["waits_for"]["until"].endswith("Z")
    assert [s["state"] for s in told["states"]][:2] == ["CheckInput", "AcquireLock"]


def test_rotate_says_why_a_rotation_failed_and_what_fixes_it(plain: Case) -> None:
    plain.rotate()
    plain.world.outside.expire_schedule(plain.credential.id)
    set_attribute(plain, "plan", {"S": "of-another-plan"})
    another = run(plain, "rotate")
    set_attribute(plain, "plan", {"S": plain.credential.plan_digest})
    plain.edit_secret("not JSON")
    malformed = run(plain, "rotate")
    for shown, error in ((malformed, "SecretMalformedError"), (another, "PlanNotActiveError")):
        assert (shown.exit_code, shown.stdout) == (1, "")
        assert f"failed: {error}: " in shown.stderr
        assert "  next: " in shown.stderr


def test_what_is_not_deployed_is_told_with_exit_code_3(plain: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = run(plain, "rotate", "--stack", "elsewhere")
    assert (stack.exit_code, "--stack NAME" in stack.stderr) == (3, True)
    monkeypatch.setenv("LOCKSTEP_STATE_MACHINE_ARN", f"{plain.world.machine_arn}-elsewhere")
    shown = run(plain, "rotate")
    assert (shown.exit_code, "StateMachineDoesNotExist" in shown.stderr) == (3, True)


def test_who_ends_the_command_is_told_what_goes_on(plain: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lockstep.operate.execution.Execution.followed", interrupted)
    shown = run(plain, "rotate")
    assert shown.exit_code == 130
    assert "not followed any more; the rotation continues: arn:aws:states:" in shown.stderr
