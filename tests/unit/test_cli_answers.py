"""With `--json` there is one document on standard output, whatever ends the command."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.cli.output import answer, document, exit_code_of, plan_file, words_left
from lockstep.operate.documents import Error
from lockstep.operate.formatting import absolute, clock_time, relative
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    FenceLostError,
    InvalidPlanError,
    LockTableAccessDeniedError,
    StoreBusyError,
    described,
    line_of,
)
from tests.contract.test_process import environment
from tests.unit.test_cli import PLAN


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


@pytest.mark.usefixtures("unreachable")
@pytest.mark.parametrize(("given", "name"), [("n\n", "NotConfirmed"), ("", "Aborted")])
def test_who_does_not_agree_gets_a_document(given: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lockstep.cli.orders.require_stdin", lambda _what, _otherwise: None)
    shown = run("revoke", "--json", given=given)
    assert (shown.exit_code, error_of(shown)["name"]) == (1, name)


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


# Errors


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("problem", Environment, ids=lambda problem: problem.name)
def test_every_problem_of_the_environment_has_a_next_command(problem: Environment) -> None:
    assert "`" in problem.advice
    told = line_of(EnvironmentalError(problem))
    assert told == f"{problem.error_name}: {problem.meaning} {problem.advice}"
    assert len(told.splitlines()) == 1
    assert exit_code_of(EnvironmentalError) == 3


def test_a_person_is_told_the_cause_and_a_program_both() -> None:
    error = LockTableAccessDeniedError(credential="c")
    error.__cause__ = EnvironmentalError(Environment.AWS_SESSION_EXPIRED, code="ExpiredToken")
    assert line_of(error).startswith(
        "AwsSessionExpiredError: The AWS session has expired. [code=ExpiredToken] "
    )
    assert document(error) == Error(
        name="AwsSessionExpiredError",
        meaning="The AWS session has expired.",
        where={"code": "ExpiredToken"},
        next="Log in again: `aws sso login`.",
        during="LockTableAccessDeniedError",
    )


def test_a_foreign_cause_is_not_told() -> None:
    error = StoreBusyError(store="aws")
    error.__cause__ = ValueError("hunter2")
    assert described(error) is error
    assert "hunter2" not in line_of(error)


@pytest.mark.parametrize(
    ("kind", "code"), [(FenceLostError, 1), (InvalidPlanError, 2), (StoreBusyError, 3)], ids=str
)
def test_exit_codes(kind: type[LockTableAccessDeniedError], code: int) -> None:
    assert exit_code_of(kind) == code


def test_there_is_always_one_document() -> None:
    shown = CliRunner().invoke(app, ["status", "--json", "-p", "nowhere"])
    assert json.loads(shown.stdout)["error"]["name"] == "PlanMissingError"
    wrong = CliRunner().invoke(app, ["status", "--json", "--no-such-option"])
    assert json.loads(wrong.stdout)["error"]["exit_code"] == wrong.exit_code == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds ago"),
        (0.4, "in 1 second"),
        (2.5, "in 3 seconds"),
        (420, "in 7 minutes"),
        (-7300, "2 hours ago"),
    ],
)
def test_how_far_away_a_time_is(seconds: float, text: str) -> None:
    assert relative(NOW + timedelta(seconds=seconds), NOW) == text


def test_times_are_local_or_utc() -> None:
    local = (NOW + timedelta(minutes=7)).astimezone()
    assert clock_time(local, NOW) == f"{local:%H:%M:%S} (in 7 minutes)"
    long_ago = NOW - timedelta(days=9)
    assert absolute(long_ago, NOW) == f"{long_ago.astimezone():%Y-%m-%d %H:%M:%S}"
    with answer():
        assert list(words_left(["status", "--utc"])) == ["status"]
        assert clock_time(local, NOW) == "2026-01-01T12:07:00Z (in 7 minutes)"
    with answer():
        assert list(words_left(["--json", "status"])) == ["status"]
        assert clock_time(local, NOW) == "2026-01-01T12:07:00Z"


@pytest.mark.parametrize(
    ("given", "left", "file"),
    [
        (["status"], ["status"], "lockstep.yaml"),
        (["-p", "a.yaml", "status"], ["status"], "a.yaml"),
        (["audit", "--plan", "a.yaml", "show", "-n", "5"], ["audit", "show", "-n", "5"], "a.yaml"),
        (["status", "--plan=a.yaml"], ["status"], "a.yaml"),
        (["status", "-pa.yaml", "-p", "b.yaml"], ["status"], "b.yaml"),
        (["x", "--", "--utc", "-p", "a.yaml"], ["x", "--", "--utc", "-p", "a.yaml"], "lockstep.yaml"),
    ],
)
def test_options_of_the_whole_command_stand_anywhere(
    given: list[str], left: list[str], file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LOCKSTEP_PLAN")
    with answer():
        assert list(words_left(given)) == left
        assert plan_file() == Path(file)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["status", "--plan"], "--plan: it needs an argument"),
        (["status", "-p", "--json"], "-p: it needs an argument"),
        (["plan", "schema", "-p", "a.yaml"], "plan schema reads no plan; leave out --plan"),
        (["pause", "--all", "--json"], "pause prints no JSON document; leave out --json"),
    ],
)
def test_an_option_of_the_whole_command_that_means_nothing(words: list[str], told: str) -> None:
    shown = CliRunner().invoke(app, words)
    assert (shown.exit_code, told in shown.stderr) == (2, True)
