"""How open sessions are counted and shown, from what servers answered."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import structs

from lockstep.databases.sessions import NotCountable, SessionCounts, mariadb
from lockstep.operate.sessions import Answer, LoginState, OpenSessions, State, document, lines
from lockstep.protocol.errors import AdminCredentialRejectedError, DatabaseUnreachableError
from lockstep.protocol.model import LockRecord
from tests.support.memory import make_plan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PROMOTED = NOW - timedelta(minutes=5)
LOGINS = (
    LoginState(username="a", state=State.CURRENT, generations=(41,)),
    LoginState(username="b", state=State.PREVIOUS, generations=(40,), dies_at=NOW + timedelta(minutes=7)),
)


def server(*, server: str = "one", **counts: int) -> SessionCounts:
    return SessionCounts(server=server, of=counts)


def counted(**answers: Answer) -> OpenSessions:
    credential = make_plan().credentials[0]
    not_before = PROMOTED + credential.schedule.overlap
    return OpenSessions(
        credential=credential,
        record=LockRecord(
            credential_id=credential.id,
            plan=credential.plan_digest,
            current_generation=41,
            not_before=not_before,
        ),
        logins=LOGINS,
        answers={name.replace("_at_", "@"): answer for name, answer in answers.items()},
        now=NOW,
    )


def test_sessions_are_told_by_login_and_database() -> None:
    found = counted(ledger=server(a=3), ledger_at_alias=server(a=3), orders=server(server="two", b=1))
    _, head, *rows = lines(found)
    assert head.split() == ["DATABASE", "USERNAME", "GENERATION", "STATE", "SESSIONS"]
    assert [row.split() for row in rows[:4]] == [
        ["ledger", "a", "41", "current", "3"],
        ["ledger", "b", "40", "previous,", "dies", "in", "7m", "0"],
        ["orders", "a", "41", "current", "0"],
        ["orders", "b", "40", "previous,", "dies", "in", "7m", "1"],
    ]
    assert rows[4:] == ["  ledger@alias: the same server as ledger; its sessions are counted once"]
    assert msgspec.to_builtins(document(found))["servers"] == [
        {"database": "ledger", "sessions": {"a": 3, "b": 0}},
        {"database": "ledger@alias", "same_server_as": "ledger"},
        {"database": "orders", "sessions": {"a": 0, "b": 1}},
    ]


@pytest.mark.parametrize(
    ("answers", "unreachable"),
    [
        ({"ledger": server()}, False),
        ({"ledger": NotCountable(grant="GRANT PROCESS")}, False),
        ({"ledger": DatabaseUnreachableError(database="ledger")}, True),
        ({"ledger": AdminCredentialRejectedError(database="ledger")}, True),
        ({"ledger": server(), "ledger_at_proxy": AdminCredentialRejectedError(database="x")}, False),
        ({"ledger": server(), "ledger_at_replica": DatabaseUnreachableError(database="x")}, True),
    ],
)
def test_what_is_a_failure(answers: dict[str, Answer], *, unreachable: bool) -> None:
    found = counted(**answers)
    assert found.unreachable is unreachable
    text = "\n".join(lines(found))
    for name, answer in found.answers.items():
        assert (f"{name}: cannot be counted" in text) is not isinstance(answer, SessionCounts)


class Session:
    """Answers as a server of MariaDB with sessions of these usernames."""

    def __init__(self, *usernames: str) -> None:
        self._rows = [(username,) for username in usernames]

    def run(self, _sql: str, *_: object) -> tuple[Any, ...]:
        return ("vm:3306:1",)

    def rows(self, _sql: str, *_: object) -> Sequence[tuple[Any, ...]]:
        return self._rows


def test_usernames_are_compared_with_regard_to_case() -> None:
    session: Any = Session("app", "APP", "app")
    credential = structs.replace(make_plan().credentials[0], usernames=("app",))
    assert mariadb(session, credential) == SessionCounts(server="vm:3306:1", of={"app": 2})
