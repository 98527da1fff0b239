"""What `lockstep sessions` says: what becomes of each username's login, and how open sessions are counted and shown."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec import structs

from lockstep.databases.sessions import NotCountable, OpenSession, SessionList
from lockstep.operate.documents import Login, LoginState
from lockstep.operate.sessions import (
    MOST_CLIENTS,
    Answer,
    OpenSessions,
    document,
    lines,
    login_states,
    login_text,
)
from lockstep.operate.state import promoted_at
from lockstep.protocol.errors import AdminCredentialRejectedError, DatabaseUnreachableError
from lockstep.protocol.model import Claim, ClaimKind, Credential, LockRecord, Strategy
from tests.support.memory import make_plan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DUE = NOW + timedelta(minutes=7)
INTERVAL = timedelta(minutes=20)
PROMOTED = NOW - timedelta(minutes=5)


def credential(*usernames: str) -> Credential:
    planned = make_plan(strategy=Strategy.ALTERNATING_USERS).credentials[0]
    return structs.replace(
        planned, usernames=usernames, schedule=structs.replace(planned.schedule, interval=INTERVAL)
    )


def record(*valid: int, current: int | None = 41, **more: object) -> LockRecord:
    known = {"current_generation": current, "valid": frozenset(valid), "next_due_at": DUE}
    return LockRecord(credential_id="app", **{**known, **more})  # type: ignore[arg-type]


CLAIM = Claim(kind=ClaimKind.NEW, generation=42, base_generation=41, rotation_id="run")
TURNS = {38: "c", 39: "d", 40: "a", 41: "b", 42: "a", 43: "b"}
"""The username of each generation."""
LATER = NOW + timedelta(minutes=9)
A, B = "a previous, revoked in 7m, 40", "b current, 41"
PAUSED = f"a previous, revoked by the next rotation, 40; {B}"
LOGINS: dict[str, tuple[LockRecord, str, str]] = {
    "two usernames": (record(40, 41), "ab", f"{A}; {B}"),
    "never rotated": (record(current=None), "ab", "a not rotated yet; b not rotated yet"),
    "after a reconcile": (record(40, 41, 43, current=43), "ab", f"{A}; b current, 43"),
    "after an emergency": (record(41), "ab", f"a revoked, new logins are refused; {B}"),
    "in flight": (record(40, 41, claim=CLAIM), "ab", f"a in rotation, 42; {B}"),
    "of four the one that waited longest ends first": (
        *(record(38, 39, 40, 41), "abcd"),
        f"a previous, revoked in 47m, 40; {B}; c older, revoked in 7m, 38; d older, revoked in 27m, 39",
    ),
    "one without a login has its turn first": (
        *(record(40, 41), "abn"),
        f"a previous, revoked in 27m, 40; {B}; n revoked, new logins are refused",
    ),
    "an overlap": (record(40, 41, not_before=LATER), "ab", f"a previous, revoked in 9m, 40; {B}"),
    "due": (record(40, 41, next_due_at=NOW), "ab", f"a previous, revoked by the next run, 40; {B}"),
    "paused": (record(40, 41, paused=True), "ab", PAUSED),
    "never due": (record(40, 41, next_due_at=None), "ab", PAUSED),
    "an emergency": (
        record(40, 41, revoke_through=41),
        "ab",
        "a previous, to be revoked, 40; b current, to be revoked, 41",
    ),
    "an emergency that is over": (
        *(record(42, current=42, revoke_through=41), "ab"),
        "a current, 42; b revoked, new logins are refused",
    ),
    # Which of both a server does not say, and no value is read for it.
    "one username": (record(40, 41), "x", "x current or previous, the latter revoked in 7m, 41 40"),
    "one username and one generation": (record(41), "x", "x current, 41"),
}


@pytest.mark.parametrize(("found", "usernames", "expected"), LOGINS.values(), ids=LOGINS)
def test_what_becomes_of_each_login(found: LockRecord, usernames: str, expected: str) -> None:
    def read(generation: int) -> str | None:
        assert len(usernames) > 1
        return TURNS[generation]

    told = [
        ", ".join(
            [
                f"{login.username} {login_text(login, NOW)}",
                *filter(None, [" ".join(map(str, login.generations))]),
            ]
        )
        for login in login_states(found, credential(*usernames), read)
    ]
    assert "; ".join(told) == expected


def test_the_promotion_is_an_overlap_before_the_next_may_begin() -> None:
    of = credential("app")
    active = of.plan_digest
    assert promoted_at(record(not_before=DUE, plan=active), of) == DUE - of.schedule.overlap
    assert promoted_at(record(not_before=DUE, plan="another"), of) is None, "its overlap may be another"
    assert promoted_at(record(), of) is None


# Open sessions


def session(
    username: str, age: float | None = 10, host: str | None = "10.0.0.1", application: str = "web"
) -> OpenSession:
    return OpenSession(username=username, host=host, application=application, age_seconds=age)


def server(*sessions: OpenSession) -> SessionList:
    return SessionList(server="one", sessions=sessions, ages_are_exact=True)


def counted(**answers: Answer) -> OpenSessions:
    of = make_plan().credentials[0]
    return OpenSessions(
        credential=of,
        record=record(plan=of.plan_digest, not_before=PROMOTED + of.schedule.overlap),
        logins=(
            Login(username="a", state=LoginState.CURRENT, generations=(41,)),
            Login(username="b", state=LoginState.PREVIOUS, generations=(40,), dies_at=DUE),
        ),
        answers={name.replace("_at_", "@"): answer for name, answer in answers.items()},
        now=NOW,
    )


def test_sessions_are_told_by_login_and_by_the_time_of_the_promotion() -> None:
    found = counted(ledger=server(session("a", 10), session("a", 299), session("a", 302), session("b", 400)))
    [(name, _, [a, b])] = found.counted()
    assert (name, a.sessions, a.connected_before_current, a.oldest_seconds) == ("ledger", 3, 1, 302)
    assert (b.sessions, b.connected_before_current) == (1, 1)
    text = "\n".join(lines(found))
    assert "previous, revoked in 7m" in text
    assert "5m2s" in text
    assert "at least" not in text


def test_a_list_of_clients_is_bounded_and_begins_with_the_busiest() -> None:
    many = [session("a", host=f"10.0.0.{n}") for n in range(9)] + [session("a", host="10.0.0.7")]
    found = counted(ledger=server(*many))
    text = "\n".join(lines(found))
    assert "10.0.0.7 web (2), " in text
    assert text.count("10.0.0.") == MOST_CLIENTS
    assert "and 4 more" in text
    [server_document] = msgspec.to_builtins(document(found))["servers"]
    a, _ = server_document["sessions"]
    assert (len(a["clients"]), a["clients_in_all"]) == (9, 9)


def test_what_a_client_calls_itself_cannot_leave_its_line() -> None:
    found = counted(ledger=server(session("a", application="x\x1b[2J\nledger  b")))
    assert len([line for line in lines(found) if "10.0.0.1" in line]) == 1


UNREACHABLE, REJECTED = DatabaseUnreachableError(database="x"), AdminCredentialRejectedError(database="x")


@pytest.mark.parametrize(
    ("answers", "unreachable"),
    [
        ({"ledger": server()}, False),
        ({"ledger": NotCountable(grants=("GRANT PROCESS",))}, False),
        ({"ledger": UNREACHABLE}, True),
        ({"ledger": REJECTED}, True),
        ({"ledger": server(), "ledger_at_proxy": REJECTED}, False),
        ({"ledger": server(), "ledger_at_replica": UNREACHABLE}, True),
    ],
)
def test_what_is_a_failure(answers: dict[str, Answer], *, unreachable: bool) -> None:
    found = counted(**answers)
    assert found.unreachable is unreachable
    text = "\n".join(lines(found))
    for name, answer in found.answers.items():
        assert (f"{name}: cannot be counted" in text) is not isinstance(answer, SessionList)
