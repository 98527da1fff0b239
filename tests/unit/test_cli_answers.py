"""With `--json` there is one document on standard output, whatever ends the command."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.audit.checkpoint import sealed
from lockstep.cli import app
from tests.support.memory import MemorySigner
from tests.unit.test_cli import ARN, CREDENTIAL, PLAN
from tests.unit.test_cli_odd_entries import world as world_of_audit
from tests.unit.test_process import environment

world = world_of_audit
"""The fixture."""


@pytest.fixture(autouse=True)
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(PLAN))
    monkeypatch.setenv("LOCKSTEP_PLAN", str(file))
    return file


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # Bound and not listening.
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{held.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        yield


def run(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(app, words, input=given)


def error_of(shown: Result) -> Mapping[str, Any]:
    """The error in the document, whose exit code is that of the command."""
    error: dict[str, Any] = json.loads(shown.stdout)["error"]
    assert error["exit_code"] == shown.exit_code
    return error


def test_what_a_rotation_would_start_is_a_document() -> None:
    words = ("rotate", "--dry-run", "--state-machine-arn", ARN, "--json")
    assert json.loads(run(*words).stdout) == {
        "dry_run": True,
        "order": None,
        "state_machine": ARN,
        "input": {"credential_id": CREDENTIAL, "trigger": "cli", "force": False},
    }
    emergency = json.loads(run(*words, "--revoke-previous").stdout)
    assert (emergency["order"], emergency["input"]["force"]) == ("revoke", True)


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize(("given", "name"), [("n\n", "NotConfirmed"), ("", "Aborted")])
def test_who_does_not_agree_gets_a_document(given: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockstep.cli.orders.require_stdin", lambda _what, _otherwise: None)
    shown = run("rotate", "--revoke-previous", "--state-machine-arn", ARN, "--json", given=given)
    assert (shown.exit_code, error_of(shown)["name"]) == (1, name)


@pytest.mark.usefixtures("world")
def test_a_checkpoint_of_somebody_else_is_refused_in_a_document(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    file.write_text(sealed({}, MemorySigner("stolen"), at=1))
    shown = run("audit", "verify", "--checkpoint", str(file), "--json")
    assert (shown.exit_code, error_of(shown)["name"]) == (1, "CheckpointRefused")


def test_an_error_that_no_command_told_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: object, **__: object) -> int:
        return 7

    monkeypatch.setattr("typer.core.TyperGroup.main", ended)
    shown = run("status", "--json")
    assert (shown.exit_code, error_of(shown)["name"]) == (7, "NoAnswer")


def test_ctrl_c_leaves_a_document() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(300)
        env = environment(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{silent.getsockname()[1]}",
            AWS_ACCESS_KEY_ID="a-key",
            AWS_SECRET_ACCESS_KEY="a-secret",
        )
        words = [sys.executable, "-m", "lockstep", "status", "--json"]
        with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asking:  # noqa: S603 - our own interpreter
            called, _ = silent.accept()
            asking.send_signal(signal.SIGINT)
            told, complaint = asking.communicate(timeout=120)
            called.close()
    assert asking.returncode == 130
    assert json.loads(told)["error"] == {
        "name": "Interrupted",
        "meaning": "ended by Ctrl-C",
        "exit_code": 130,
    }
    assert b"Traceback" not in complaint
