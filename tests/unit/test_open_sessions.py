"""What `lockstep sessions` says: who is logged in, by which login, since when; and where that cannot be counted."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from lockstep.databases.sessions import NotCountable, OpenSession, SessionList, mariadb, mysql
from lockstep.operate import sessions
from lockstep.operate.documents import Login, SessionsOfCredential
from lockstep.operate.sessions import MOST_CLIENTS, counted, is_unreachable, login_states
from lockstep.operate.state import promoted_at
from lockstep.protocol.errors import AdminCredentialRejectedError, DatabaseUnreachableError
from lockstep.protocol.model import LockRecord
from tests.unit.test_verdict import CLAIM, NOW, PLANNED, record

DUE = NOW + timedelta(minutes=7)
PROMOTED = NOW - timedelta(minutes=5)


def at(*valid: int, current: int | None = 41, **more: object) -> LockRecord:
    return record(current_generation=current, valid=frozenset(valid), next_due_at=DUE, **more)


TURNS = {40: "a", 41: "b", 42: "a", 43: "b"}
"""The username of each generation."""
LOGINS: dict[str, tuple[LockRecord, str, str]] = {
    "two usernames": (at(40, 41), "ab", "a previous 40; b current 41"),
    "never rotated": (at(current=None), "ab", "a not rotated yet; b not rotated yet"),
    "after a reconcile": (at(40, 41, 43, current=43), "ab", "a previous 40; b current 43"),
    "after an emergency": (at(41), "ab", "a revoked; b current 41"),
    "in flight": (
        at(40, 41, claim=structs.replace(CLAIM, generation=42, base_generation=41)),
        "ab",
        "a in rotation 42; b current 41",
    ),
    # Which of both a server does not say, and no value is read for it.
    "one username": (at(40, 41), "x", "x current or previous 41 40"),
    "one username and one generation": (at(41), "x", "x current 41"),
}


@pytest.mark.parametrize(("found", "usernames", "expected"), LOGINS.values(), ids=LOGINS)
def test_each_login_has_a_state(found: LockRecord, usernames: str, expected: str) -> None:
    def read(generation: int) -> str | None:
        assert len(usernames) > 1
        return TURNS[generation]

    logins = login_states(found, structs.replace(PLANNED, usernames=tuple(usernames)), read)
    assert "; ".join(" ".join(map(str, (o.username, o.state, *o.generations))) for o in logins) == expected


def test_the_promotion_is_an_overlap_before_the_next_may_begin() -> None:
    assert promoted_at(at(not_before=DUE), PLANNED) == DUE - PLANNED.schedule.overlap
    assert promoted_at(at(not_before=DUE, plan="another"), PLANNED) is None, "its overlap may be another"
    assert promoted_at(at(), PLANNED) is None


# Open sessions


def session(username: str, age: float | None = 10, host: str = "10.0.0.1") -> OpenSession:
    return OpenSession(username=username, host=host, application="web", age_seconds=age)


def server(*sessions: OpenSession) -> SessionList:
    return SessionList(server="one", sessions=sessions, ages_are_exact=True)


def counts(**answers: sessions.Answer) -> tuple[SessionsOfCredential, str]:
    """What was counted, as a document and as text."""
    logins = (
        Login(username="a", state="current", generations=(41,)),
        Login(username="b", state="previous", generations=(40,)),
    )
    known = at(not_before=PROMOTED + PLANNED.schedule.overlap)
    named = {name.replace("_at_", "@"): answer for name, answer in answers.items()}
    document = counted(known, PLANNED, logins, named, NOW)
    return document, "\n".join(sessions.lines(document, NOW))


def test_sessions_are_told_by_login_and_by_the_time_of_the_promotion() -> None:
    document, text = counts(ledger=server(*(session("a", age) for age in (10, 299, 302)), session("b", 400)))
    [ledger] = document.servers
    a, b = ledger.sessions
    assert ledger.database == "ledger"
    assert (a.sessions, a.connected_before_current, a.oldest_seconds) == (3, 1, 302)
    assert (b.sessions, b.connected_before_current) == (1, 1)
    assert ("5m2s" in text, "at least" in text) == (True, False)


def test_a_server_with_two_names_is_counted_once_and_a_list_of_clients_begins_with_the_busiest() -> None:
    document, text = counts(ledger=server(session("a")), ledger_at_proxy=server(session("a")))
    assert [(s.same_server_as, len(s.sessions)) for s in document.servers] == [(None, 2), ("ledger", 0)]
    assert "ledger@proxy: the same server as ledger" in text
    many = [session("a", host=f"10.0.0.{n}") for n in range(9)] + [session("a", host="10.0.0.7")]
    document, text = counts(ledger=server(*many))
    assert "10.0.0.7 web (2), " in text
    assert (text.count(" web ("), "and 4 more" in text) == (MOST_CLIENTS, True)
    [ledger] = document.servers
    assert (len(ledger.sessions[0].clients), ledger.sessions[0].clients_in_all) == (9, 9)


def test_what_is_a_failure() -> None:
    rejected = AdminCredentialRejectedError(database="x")
    cases: list[tuple[dict[str, sessions.Answer], bool]] = [
        ({"ledger": NotCountable(grants=("GRANT PROCESS",))}, False),
        ({"ledger": rejected}, True),
        ({"ledger": server(), "ledger_at_proxy": rejected}, False),
        ({"ledger": server(), "ledger_at_replica": DatabaseUnreachableError(database="x")}, True),
    ]
    for answers, unreachable in cases:
        document, text = counts(**answers)
        assert is_unreachable(document) is unreachable
        for name, answer in answers.items():
            told = f"{name.replace('_at_', '@')}: cannot be counted" in text
            assert told is not isinstance(answer, SessionList)


class Server:
    """Answers as a server with these sessions."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = rows

    def run(self, sql: str, *_: object) -> tuple[Any, ...]:
        return (1,) if sql == "SELECT @@performance_schema" else ("vm:3306:1",)

    def rows(self, _sql: str, *_: object) -> Sequence[tuple[Any, ...]]:
        return self._rows


def test_a_host_is_named_without_its_port() -> None:
    """The process list has a port, performance_schema none. Usernames are compared with regard to case."""
    credential = structs.replace(PLANNED, usernames=("app",))
    for sessions_of, spelt, host in (
        (mariadb, "10.0.0.1:45160", "10.0.0.1"),
        (mariadb, "fd00::1:45160", "fd00::1"),
        (mariadb, "localhost", "localhost"),
        (mysql, "fd00::1", "fd00::1"),
    ):
        server: Any = Server(("app", spelt, "web", 7), ("APP", spelt, "web", None))
        found: Any = sessions_of(server, credential)
        assert [session.host for session in found.sessions] == [host]
