"""What `lockstep sessions` says: the state of each username's login, and how open sessions are counted and shown."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from lockstep.databases.sessions import NotCountable, OpenSession, SessionList
from lockstep.operate.documents import Login, SessionsOfCredential
from lockstep.operate.sessions import MOST_CLIENTS, Answer, counted, is_unreachable, lines, login_states
from lockstep.operate.state import promoted_at
from lockstep.protocol.errors import AdminCredentialRejectedError, DatabaseUnreachableError
from lockstep.protocol.model import Claim, ClaimKind, Credential, LockRecord, Strategy
from tests.support.memory import make_plan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DUE = NOW + timedelta(minutes=7)
PROMOTED = NOW - timedelta(minutes=5)


def credential(usernames: str) -> Credential:
    planned = make_plan(strategy=Strategy.ALTERNATING_USERS).credentials[0]
    return structs.replace(planned, usernames=tuple(usernames))


def record(*valid: int, current: int | None = 41, **more: object) -> LockRecord:
    known = {"current_generation": current, "valid": frozenset(valid), "next_due_at": DUE}
    return LockRecord(credential_id="app", **{**known, **more})  # type: ignore[arg-type]


CLAIM = Claim(kind=ClaimKind.NEW, generation=42, base_generation=41, rotation_id="run")
TURNS = {40: "a", 41: "b", 42: "a", 43: "b"}
"""The username of each generation."""
LOGINS: dict[str, tuple[LockRecord, str, str]] = {
    "two usernames": (record(40, 41), "ab", "a previous 40; b current 41"),
    "never rotated": (record(current=None), "ab", "a not rotated yet; b not rotated yet"),
    "after a reconcile": (record(40, 41, 43, current=43), "ab", "a previous 40; b current 43"),
    "after an emergency": (record(41), "ab", "a revoked; b current 41"),
    "in flight": (record(40, 41, claim=CLAIM), "ab", "a in rotation 42; b current 41"),
    # Which of both a server does not say, and no value is read for it.
    "one username": (record(40, 41), "x", "x current or previous 41 40"),
    "one username and one generation": (record(41), "x", "x current 41"),
}


@pytest.mark.parametrize(("found", "usernames", "expected"), LOGINS.values(), ids=LOGINS)
def test_each_login_has_a_state(found: LockRecord, usernames: str, expected: str) -> None:
    def read(generation: int) -> str | None:
        assert len(usernames) > 1
        return TURNS[generation]

    logins = login_states(found, credential(usernames), read)
    assert "; ".join(" ".join(map(str, (o.username, o.state, *o.generations))) for o in logins) == expected


def test_the_promotion_is_an_overlap_before_the_next_may_begin() -> None:
    of = credential("a")
    active = of.plan_digest
    assert promoted_at(record(not_before=DUE, plan=active), of) == DUE - of.schedule.overlap
    assert promoted_at(record(not_before=DUE, plan="another"), of) is None, "its overlap may be another"
    assert promoted_at(record(), of) is None


# Open sessions


def session(
    username: str, age: float | None = 10, host: str = "10.0.0.1", application: str = "web"
) -> OpenSession:
    return OpenSession(username=username, host=host, application=application, age_seconds=age)


def server(*sessions: OpenSession) -> SessionList:
    return SessionList(server="one", sessions=sessions, ages_are_exact=True)


def found(**answers: Answer) -> tuple[SessionsOfCredential, str]:
    """What was counted, as a document and as text."""
    of = make_plan().credentials[0]
    logins = (
        Login(username="a", state="current", generations=(41,)),
        Login(username="b", state="previous", generations=(40,)),
    )
    known = record(plan=of.plan_digest, not_before=PROMOTED + of.schedule.overlap)
    named = {name.replace("_at_", "@"): answer for name, answer in answers.items()}
    document = counted(known, of, logins, named, NOW)
    return document, "\n".join(lines(document, NOW))


def test_sessions_are_told_by_login_and_by_the_time_of_the_promotion() -> None:
    document, text = found(ledger=server(*(session("a", age) for age in (10, 299, 302)), session("b", 400)))
    [ledger] = document.servers
    a, b = ledger.sessions
    assert ledger.database == "ledger"
    assert (a.sessions, a.connected_before_current, a.oldest_seconds) == (3, 1, 302)
    assert (b.sessions, b.connected_before_current) == (1, 1)
    assert ("5m2s" in text, "at least" in text) == (True, False)


def test_a_server_with_two_names_is_counted_once() -> None:
    document, text = found(ledger=server(session("a")), ledger_at_proxy=server(session("a")))
    assert [(s.same_server_as, len(s.sessions)) for s in document.servers] == [(None, 2), ("ledger", 0)]
    assert "ledger@proxy: the same server as ledger" in text


def test_a_list_of_clients_is_bounded_and_begins_with_the_busiest() -> None:
    many = [session("a", host=f"10.0.0.{n}") for n in range(9)] + [session("a", host="10.0.0.7")]
    document, text = found(ledger=server(*many))
    assert "10.0.0.7 web (2), " in text
    assert (text.count(" web ("), "and 4 more" in text) == (MOST_CLIENTS, True)
    [ledger] = document.servers
    assert (len(ledger.sessions[0].clients), ledger.sessions[0].clients_in_all) == (9, 9)


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
    document, text = found(**answers)
    assert is_unreachable(document) is unreachable
    for name, answer in answers.items():
        told = f"{name.replace('_at_', '@')}: cannot be counted" in text
        assert told is not isinstance(answer, SessionList)
