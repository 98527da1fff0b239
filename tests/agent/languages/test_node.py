"""The recipes for Node.js: `pg` and `mysql2`, with new connections and through pools."""

import os
import socket
import subprocess
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


def test_an_agent_that_does_not_answer_is_waited_for_ten_seconds(tmp_path: Path) -> None:
    """Callers that wait with it have a login that goes on to work."""
    (tmp_path / "token").write_text("a-token")
    recipe = f"import {{ login }} from '{RECIPES}/node/lockstep.mjs';"
    program = f"{recipe} await login('a').catch((e) => console.log(e.name))"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            **os.environ,
            "LOCKSTEP_AGENT": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "LOCKSTEP_TOKEN_FILE": str(tmp_path / "token"),
            "LOCKSTEP_SECRET": "a",
        }
        done = subprocess.run(  # noqa: S603 - a file of ours
            ["node", "--input-type=module", "-e", program],  # noqa: S607 - wherever it is installed
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    assert done.stdout == "TimeoutError\n"


def test_a_certificate_of_another_authority_is_refused(
    machine: Machine, other_authority: Mapping[str, str]
) -> None:
    connects_nowhere(machine, [*COMMAND, *LOGINS, *POOLS], other_authority, [*LOGINS, *POOLS])


def test_a_certificate_for_another_name_is_refused(machine: Machine, misnamed: Mapping[str, str]) -> None:
    connects_nowhere(machine, [*COMMAND, *LOGINS, *POOLS], misnamed, [*LOGINS, *POOLS])
