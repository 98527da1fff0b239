"""How many statements a login and an advisory lock take, by the server's own log: each is a round trip."""

import re

import pytest

from lockstep.protocol.model import Engine
from sandbox.growing import Growing
from tests.contract.database_harness import SQL_WORLDS, SqlHarness, value_of

pytest_plugins = ["tests.contract.database_fixtures"]

_STATEMENT = re.compile(r" Query\t|statement: ")


logging_worlds = pytest.mark.parametrize(
    "world", [name for name in SQL_WORLDS if "plaintext" not in name], indirect=True
)
"""Those whose server writes every statement down."""


def _statements(logged: Growing[str]) -> list[str]:
    return [line for line in logged.added().splitlines() if _STATEMENT.search(line)]


@logging_worlds
def test_a_login_takes_a_statement_only_where_the_server_must_name_the_account(world: SqlHarness) -> None:
    value = value_of(world, 1)
    with world.database.exclusive() as stager:
        stager.stage(current=None, pending=value)
    logged = world.sandbox.watch_general_log()
    assert world.database.accepts(value.login)
    # Which account it is, and when the server locks it, MySQL and MariaDB are asked (protocol D17, D18).
    expected = 0 if world.server.engine is Engine.POSTGRESQL else 1
    assert len(_statements(logged)) == expected


@logging_worlds
def test_an_advisory_lock_takes_one_statement_or_three(world: SqlHarness) -> None:
    logged = world.sandbox.watch_general_log()
    with world.database.exclusive():
        pass
    # Bounds and lock at once; or character set and bounds, the lock, and which accounts there are.
    expected = 1 if world.server.engine is Engine.POSTGRESQL else 3
    assert len(_statements(logged)) == expected
