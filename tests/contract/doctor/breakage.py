"""A way to break what the doctor looks at on a database."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from lockstep.protocol.findings import Outcome
from lockstep.protocol.model import ROTATOR, Engine
from tests.contract.doctor.database_world import DoctorWorld

Break = Callable[[DoctorWorld, ExitStack], None]
MYSQL = ("mysql-dual",)
MARIADB = ("mariadb-dual",)
FAMILY = (*MYSQL, *MARIADB)
POSTGRESQL = ("postgresql",)
EACH = (*FAMILY, *POSTGRESQL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakage:
    """One way.

    Attributes:
        name: For the test's name.
        check: The check that complains.
        worlds: On which servers.
        how: Breaks it; what is pushed on the stack mends it.
        says: Part of what the check says.
        outcome: Of its complaint.
        shows: How many logins of the credential's accounts reach the server.
    """

    name: str
    check: str
    worlds: tuple[str, ...]
    how: Break
    says: str
    outcome: Outcome = Outcome.FAILED
    shows: int = 1


def execute(world: DoctorWorld, stack: ExitStack, statement: str, mend: str | None = None) -> None:
    """Run a statement now, and one that mends it afterwards; both name the account of base as {account}."""
    found = names(world)
    world.harness.execute(statement.format(**found))
    if mend:
        stack.callback(world.harness.execute, mend.format(**found))


def names(world: DoctorWorld) -> dict[str, str]:
    username = world.base.login.username
    family = world.server.engine is not Engine.POSTGRESQL
    account = f"'{username}'@'%'" if family else username
    rotator = f"'{ROTATOR}'@'%'" if family else ROTATOR
    return {"account": account, "username": username, "rotator": rotator, "owner": world.credential.owner}


def by(statement: str, mend: str | None = None) -> Break:
    """Break it by SQL."""
    return lambda world, stack: execute(world, stack, statement, mend)
