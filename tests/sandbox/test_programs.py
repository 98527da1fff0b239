"""`make bench` fails over its budget, and the command `sandbox` needs a sandbox."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sandbox.bench.budget import CALLS, MACHINE, SMALL, STEPS, SUMS, Goal, figure, goals
from sandbox.bench.measure import small
from sandbox.emulators.databases import MariaDbServer, available
from sandbox.playground.__main__ import app
from sandbox.playground.control import CONTROL, NOT_RUNNING
from sandbox.playground.world import Files

# The bench


@pytest.mark.skipif(not available()[MariaDbServer], reason=available()[MariaDbServer].missing)
def test_a_rotation_stays_in_its_budget_and_locks_nobody_out(tmp_path: Path) -> None:
    figures = small(None, tmp_path, lambda _text: None, repetitions=1, times=2)
    rotation = figures[SMALL][MACHINE]
    assert list(rotation["steps"]) == list(STEPS[SMALL])
    assert rotation["calls"] == sum(step["aws_calls"] for step in rotation["steps"].values())
    assert [f"{g.name}: {figure(figures, g.path)}" for g in goals() if g.verdict(figures) == "FAILS"] == []
    assert (rotation["boundaries"]["refused"], rotation["back to back"]["refused"]) == (0, 0)
    assert rotation["boundaries"]["boundaries"] >= rotation["calls"]
    one_less = rotation["calls"] - 1
    goal = Goal(name="of a call less", path=(SMALL, MACHINE, "calls"), at_most=1, claimed=one_less)
    assert goal.verdict(figures) == "FAILS"


def test_the_page_has_the_counts_of_the_budget() -> None:
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    told = {most for _, most in (*SUMS.values(), *CALLS.values())}
    assert told <= {int(count) for count in re.findall(r"\| (\d+) (?=\|)", page)}


# The command `sandbox`


@pytest.mark.parametrize("words", ["deploy", "standby c", "value s", "edit s", "login orders"])
def test_without_a_sandbox_it_says_how_to_start_one(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("", str(tmp_path / "of-one-that-has-ended")):
        monkeypatch.setenv(CONTROL, address)
        shown = CliRunner().invoke(app, words.split(), input="{}")
        assert (shown.exit_code, shown.stdout, shown.stderr) == (3, "", f"{NOT_RUNNING}\n")


def test_what_a_shell_sources_is_for_its_owner_alone(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write_environment({CONTROL: "/run/control", "WITH_SPACE": "a b"})
    assert files.control() == "/run/control"
    assert files.environment.stat().st_mode & 0o077 == 0
    assert "export WITH_SPACE='a b'\n" in files.environment.read_text()
