"""The host of a session, as MySQL and MariaDB spell it: the process list with a port, performance_schema without."""

from collections.abc import Sequence
from typing import Any

from msgspec import structs

from lockstep.databases.sessions import mariadb, mysql
from tests.support.memory import make_plan


class Session:
    """Answers as a server with these sessions."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = rows

    def run(self, sql: str, *_: object) -> tuple[Any, ...]:
        return (1,) if sql == "SELECT @@performance_schema" else ("vm:3306:1",)

    def rows(self, _sql: str, *_: object) -> Sequence[tuple[Any, ...]]:
        return self._rows


def test_a_host_is_named_without_its_port() -> None:
    """Usernames are compared with regard to case."""
    credential = structs.replace(make_plan().credentials[0], usernames=("app",))
    for sessions_of, spelt, host in (
        (mariadb, "10.0.0.1:45160", "10.0.0.1"),
        (mariadb, "fd00::1:45160", "fd00::1"),
        (mariadb, "localhost", "localhost"),
        (mysql, "fd00::1", "fd00::1"),
    ):
        server: Any = Session(("app", spelt, "web", 7), ("APP", spelt, "web", None))
        found: Any = sessions_of(server, credential)
        assert [session.host for session in found.sessions] == [host]
