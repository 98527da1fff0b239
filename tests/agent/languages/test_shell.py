"""The shell recipes: psql with `.pgpass`, mariadb with `my.cnf`."""

from pathlib import Path

from tests.agent.languages.harness import (
    RECIPES,
    Machine,
    require_programs,
    running_application,
    survives_rotations,
)

APPLICATION = Path(__file__).with_name("shell_application.sh")


def test_a_script_logs_in_through_rotations_of_both_clouds(machine: Machine) -> None:
    require_programs("psql", "mariadb")
    with running_application(machine, ["sh", APPLICATION, RECIPES / "shell"]) as application:
        survives_rotations(machine, application, ["psql", "mariadb"])
