"""What people are told of an error: the line, the document, and times."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.cli.output import answer, document, exit_code_of
from lockstep.operate.documents import Error
from lockstep.operate.formatting import absolute, clock_time, relative
from lockstep.protocol import errors
from lockstep.protocol.errors import (
    AwsSessionExpiredError,
    EnvironmentalError,
    FenceLostError,
    InvalidPlanError,
    LockTableAccessDeniedError,
    StoreBusyError,
    described,
    family,
    line_of,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("kind", family(EnvironmentalError), ids=lambda kind: kind.__name__)
def test_every_error_of_the_environment_has_a_next_command(kind: type[EnvironmentalError]) -> None:
    assert kind.__module__ == errors.__name__
    assert kind.__name__.endswith("Error")
    assert "`" in kind.advice
    assert len(str(kind()).splitlines()) == 1
    assert exit_code_of(kind) == 3


def test_a_person_is_told_the_cause_and_a_program_both() -> None:
    error = LockTableAccessDeniedError(credential="c")
    error.__cause__ = AwsSessionExpiredError(code="ExpiredToken")
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
        (-0.4, "0 seconds ago"),
        (1, "in 1 second"),
        (2.5, "in 3 seconds"),
        (119, "in 119 seconds"),
        (420, "in 7 minutes"),
        (-7300, "2 hours ago"),
        (-3 * 86400, "3 days ago"),
    ],
)
def test_how_far_away_a_time_is(seconds: float, text: str) -> None:
    assert relative(NOW + timedelta(seconds=seconds), NOW) == text


def test_times_are_local_or_utc() -> None:
    local = (NOW + timedelta(minutes=7)).astimezone()
    assert clock_time(local, NOW) == f"{local:%H:%M:%S} (in 7 minutes)"
    long_ago = NOW - timedelta(days=9)
    assert absolute(long_ago, NOW) == f"{long_ago.astimezone():%Y-%m-%d %H:%M:%S}"
    with answer(["status", "--utc"]) as words:
        assert words == ["status"]
        assert clock_time(local, NOW) == "2026-01-01T12:07:00Z (in 7 minutes)"
    with answer(["status", "--json"]):
        assert clock_time(local, NOW) == "2026-01-01T12:07:00Z"
    with answer(["x", "--", "--utc"]) as words:
        assert words == ["x", "--", "--utc"]


def test_utc_may_stand_anywhere() -> None:
    for words in (["--utc", "status"], ["status", "--utc"]):
        shown = CliRunner().invoke(app, [*words, "-p", "nowhere"])
        assert (shown.exit_code, shown.stdout) == (3, "")
