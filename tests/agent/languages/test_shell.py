"""The shell recipes: psql with `.pgpass`, mariadb with `my.cnf`."""

import subprocess
from pathlib import Path

import pytest

from tests.agent.languages.harness import (
    BOTH,
    RECIPES,
    Machine,
    require_programs,
    running_application,
    survives_rotations,
)
from tests.agent.process import until

APPLICATION = Path(__file__).with_name("shell_application.sh")


def test_a_script_logs_in_through_rotations_of_both_clouds(machine: Machine) -> None:
    require_programs("psql", "mariadb")
    with running_application(machine, ["sh", APPLICATION, RECIPES / "shell"]) as application:
        survives_rotations(machine, application, ["psql", "mariadb"])


@pytest.mark.parametrize(
    ("script", "query"),
    [("psql.sh", ["-c", "SELECT 1"]), ("mariadb.sh", ["-e", "SELECT 1"])],
    ids=["psql", "mariadb"],
)
def test_a_script_goes_on_after_a_refused_login(
    unaware_machine: Machine, script: str, query: list[str]
) -> None:
    require_programs("psql", "mariadb", "curl")

    def run(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(  # noqa: S603 - a file of ours
            ["/bin/sh", str(RECIPES / "shell" / name), *arguments],
            env=unaware_machine.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert run(script, *query).returncode == 0
    for by in BOTH:
        unaware_machine.rotate(by)
    assert run(script, *query).returncode != 0
    refreshed = run("refresh.sh")
    assert (refreshed.returncode, refreshed.stdout, refreshed.stderr) == (0, "", "")
    until(lambda: run(script, *query).returncode == 0 or None)
