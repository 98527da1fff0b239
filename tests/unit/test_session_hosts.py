"""The host of a session, as MySQL and MariaDB spell it: the process list with a port, performance_schema without."""

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import structs

from lockstep.databases.sessions import SessionList, mariadb, mysql
from lockstep.protocol.model import Credential
from tests.support.memory import make_plan

ROW = ("app", "10.0.0.1", "web", 7)


class Session:
    """Answers as a server with these sessions."""

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = rows

    def run(self, sql: str, *_: object) -> tuple[Any, ...]:
        return (1,) if sql == "SELECT @@performance_schema" else ("vm:3306:1",)

    def rows(self, _sql: str, *_: object) -> Sequence[tuple[Any, ...]]:
        return self._rows


def credential() -> Credential:
    return structs.replace(make_plan().credentials[0], usernames=("app",))


def hosts(found: object) -> list[str | None]:
    assert isinstance(found, SessionList)
    return [session.host for session in found.sessions]


@pytest.mark.parametrize(
    ("spelt", "host"),
    [
        ("10.0.0.1:45160", "10.0.0.1"),
        ("fd00::1:45160", "fd00::1"),
        ("db.internal:45160", "db.internal"),
        ("localhost", "localhost"),
    ],
)
def test_the_process_list_names_a_port(spelt: str, host: str) -> None:
    session: Any = Session([("app", spelt, "", 7)])
    assert hosts(mariadb(session, credential())) == [host]


@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1", "localhost"])
def test_performance_schema_names_none(host: str) -> None:
    session: Any = Session([("app", host, "web", None)])
    assert hosts(mysql(session, credential())) == [host]


def test_usernames_are_compared_with_regard_to_case() -> None:
    session: Any = Session([ROW, ("APP", *ROW[1:])])
    assert hosts(mysql(session, credential())) == ["10.0.0.1"]
