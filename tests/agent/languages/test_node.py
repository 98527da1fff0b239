"""The recipes for Node.js: `pg` and `mysql2`, with new connections and through pools."""

from pathlib import Path

import pytest

from tests.agent.languages.harness import (
    RECIPES,
    ROOT,
    Machine,
    gets_over_a_refused_login,
    require_files,
    require_programs,
    running_application,
    survives_rotations,
)

APPLICATION = Path(__file__).with_name("node_application.mjs")


POOLS = ("pg-pool", "mysql2-pool")


@pytest.fixture(autouse=True)
def _node() -> None:
    require_programs("node")
    require_files(ROOT / "node_modules/pg", ROOT / "node_modules/mysql2")


def test_pools_and_logins_go_through_rotations_of_both_clouds(machine: Machine) -> None:
    ways = ("pg-login", "mysql2-login", *POOLS)
    with running_application(machine, ["node", APPLICATION, RECIPES / "node", *ways]) as application:
        survives_rotations(machine, application, ways)


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_asks_the_agent_again_after_a_refused_login(unaware_machine: Machine, pool: str) -> None:
    with running_application(unaware_machine, ["node", APPLICATION, RECIPES / "node", pool]) as application:
        gets_over_a_refused_login(unaware_machine, application, pool)
