"""How open sessions are counted and shown, from what servers answered."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from lockstep.databases.sessions import NotCountable, OpenSession, SessionList
from lockstep.operate.sessions import MOST_CLIENTS, Answer, LoginState, OpenSessions, State, document, lines
from lockstep.protocol.errors import AdminCredentialRejectedError, DatabaseUnreachableError
from lockstep.protocol.model import LockRecord
from tests.support.memory import make_plan

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PROMOTED = NOW - timedelta(minutes=5)
LOGINS = (
    LoginState(username="a", state=State.CURRENT, generations=(41,)),
    LoginState(username="b", state=State.PREVIOUS, generations=(40,), dies_at=NOW + timedelta(minutes=7)),
)


def session(
    username: str, age: float | None = 10, host: str | None = "10.0.0.1", application: str = "web"
) -> OpenSession:
    return OpenSession(username=username, host=host, application=application, age_seconds=age)


def server(*sessions: OpenSession, server: str = "one", exact: bool = True) -> SessionList:
    return SessionList(server=server, sessions=sessions, ages_are_exact=exact)


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


def test_sessions_are_told_by_login_and_by_the_time_of_the_promotion() -> None:
    found = counted(ledger=server(session("a", 10), session("a", 299), session("a", 302), session("b", 400)))
    [(name, _, [a, b])] = found.counted()
    assert (name, a.sessions, a.connected_before_current, a.oldest_seconds) == ("ledger", 3, 1, 302)
    assert (b.sessions, b.connected_before_current) == (1, 1)
    text = "\n".join(lines(found))
    assert "previous, dies in 7m" in text
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


@pytest.mark.parametrize(
    ("answers", "unreachable"),
    [
        ({"ledger": server()}, False),
        ({"ledger": NotCountable(grants=("GRANT PROCESS",))}, False),
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
        assert (f"{name}: cannot be counted" in text) is not isinstance(answer, SessionList)
