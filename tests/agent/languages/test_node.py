"""The recipes for Node.js: `pg` and `mysql2`, with new connections and through pools."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.agent.languages.harness import (
    RECIPES,
    ROOT,
    Machine,
    connects_nowhere,
    gets_over_a_refused_login,
    require_files,
    require_programs,
    running_application,
    survives_rotations,
)

APPLICATION = Path(__file__).with_name("node_application.mjs")


LOGINS = ("pg-login", "mysql2-login")
POOLS = ("pg-pool", "mysql2-pool")
COMMAND = ("node", APPLICATION, RECIPES / "node")


@pytest.fixture(autouse=True)
def _node() -> None:
    require_programs("node")
    require_files(ROOT / "node_modules/pg", ROOT / "node_modules/mysql2")


def test_pools_and_logins_go_through_rotations_of_both_clouds(machine: Machine) -> None:
    with running_application(machine, [*COMMAND, *LOGINS, *POOLS]) as application:
        survives_rotations(machine, application, [*LOGINS, *POOLS])


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_asks_the_agent_again_after_a_refused_login(unaware_machine: Machine, pool: str) -> None:
    with running_application(unaware_machine, [*COMMAND, pool]) as application:
        gets_over_a_refused_login(unaware_machine, application, pool)


def test_a_certificate_for_another_name_is_refused(machine: Machine, misnamed: Mapping[str, str]) -> None:
    connects_nowhere(machine, [*COMMAND, *LOGINS, *POOLS], misnamed, [*LOGINS, *POOLS])
