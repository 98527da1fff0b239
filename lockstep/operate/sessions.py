"""The open sessions of a credential on all its servers: counted by login, and shown as a table or as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from lockstep.databases.sessions import NotCountable, SessionCounts
from lockstep.operate import documents
from lockstep.operate.formatting import clock_time, to_second
from lockstep.operate.state import LoginState, login_states, promoted_at
from lockstep.protocol.errors import AdminCredentialRejectedError, LockstepError, line_of
from lockstep.protocol.model import Credential, DatabaseServer, LockRecord
from lockstep.runtime.clouds import Clouds

Answer = SessionCounts | NotCountable | LockstepError


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSessions:
    """What was counted of a credential.

    Attributes:
        answers: Of each server and verify host, by its name.
        now: When it was counted.
    """

    credential: Credential
    record: LockRecord
    logins: Sequence[LoginState]
    answers: dict[str, Answer]
    now: datetime

    @property
    def unreachable(self) -> bool:
        """Whether a server could not be asked. A verify host that refuses the rotation user may be a proxy."""
        return any(
            isinstance(answer, LockstepError)
            and not ("@" in name and isinstance(answer, AdminCredentialRejectedError))
            for name, answer in self.answers.items()
        )

    def same(self) -> dict[str, str]:
        """Names of servers that have answered under another name before, with that name."""
        first: dict[str, str] = {}
        found = {}
        for name, answer in self.answers.items():
            if isinstance(answer, SessionCounts) and first.setdefault(answer.server, name) != name:
                found[name] = first[answer.server]
        return found


def count_sessions(clouds: Clouds, credential: Credential) -> OpenSessions:
    """Ask every server and verify host, side by side; an error of one is its answer.

    Values are read from the stores only where there are several usernames, to learn which has which generation.

    Raises:
        LockstepError: The lock table, or a store, could not be read.
    """
    record = clouds.lock(credential).read()
    logins = login_states(record, credential, partial(_username_of, clouds, credential))
    servers = [host for server in credential.servers for host in (server, *server.copies)]
    answers = clouds.side_by_side([partial(_asked, clouds, credential, server) for server in servers])
    return OpenSessions(
        credential=credential,
        record=record,
        logins=logins,
        answers={server.name: answer for server, answer in zip(servers, answers, strict=True)},
        now=clouds.clock.now(),
    )


def _username_of(clouds: Clouds, credential: Credential, generation: int) -> str | None:
    held = (store.read_generation(generation) for store in clouds.stores(credential))
    return next((value.login.username for value in held if value), None)


def _asked(clouds: Clouds, credential: Credential, server: DatabaseServer) -> Answer:
    try:
        return clouds.sessions(server, credential).count()
    except LockstepError as e:
        return e


# Text

_HEAD = ("DATABASE", "USERNAME", "GENERATION", "STATE", "SESSIONS")


def lines(found: OpenSessions) -> Iterator[str]:
    """The table and what must be known of it."""
    current, promoted = found.record.current_generation, promoted_at(found.record, found.credential)
    told = "no generation is on record" if current is None else f"generation {current} is current"
    since = f", promoted at {clock_time(promoted, found.now)}" if promoted else ""
    yield f"{found.credential.id}: {told}{since}"
    same = found.same()
    counted = {
        name: answer
        for name, answer in found.answers.items()
        if isinstance(answer, SessionCounts) and name not in same
    }
    rows = [
        _row(name, login, answer, found.now) for name, answer in counted.items() for login in found.logins
    ]
    if rows:
        widths = [max(len(row[i]) for row in [_HEAD, *rows]) for i in range(len(_HEAD))]
        for row in [_HEAD, *rows]:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            yield f"  {'  '.join(cells).rstrip()}"
    for name, answer in found.answers.items():
        match answer:
            case NotCountable(grant=grant):
                why = "cannot be counted, the rotation user sees its own sessions only"
                yield f"  {name}: {why}; as an administrator run there: {grant};"
            case LockstepError():
                yield f"  {name}: cannot be counted: {line_of(answer)}"
            case SessionCounts() if name in same:
                yield f"  {name}: the same server as {same[name]}; its sessions are counted once"


def _row(name: str, login: LoginState, answer: SessionCounts, now: datetime) -> tuple[str, ...]:
    generations = " or ".join(map(str, login.generations)) or "-"
    return name, login.username, generations, login.text(now), str(answer.of.get(login.username, 0))


# JSON


def document(found: OpenSessions) -> documents.SessionsOfCredential:
    """For other programs."""
    return documents.SessionsOfCredential(
        credential=found.credential.id,
        current_generation=found.record.current_generation,
        promoted_at=to_second(promoted_at(found.record, found.credential)),
        logins=[
            documents.Login(
                username=login.username,
                state=login.state.value,
                generations=login.generations,
                dies_at=to_second(login.dies_at),
                must_die=login.must_die,
            )
            for login in found.logins
        ],
        servers=[_server_document(found, name, answer) for name, answer in found.answers.items()],
    )


def _server_document(found: OpenSessions, name: str, answer: Answer) -> documents.SessionsOfServer:
    match answer:
        case NotCountable(grant=grant):
            return documents.SessionsOfServer(database=name, grant=grant)
        case LockstepError():
            return documents.SessionsOfServer(database=name, error=answer.name)
    if other := found.same().get(name):
        return documents.SessionsOfServer(database=name, same_server_as=other)
    counts = {login.username: answer.of.get(login.username, 0) for login in found.logins}
    return documents.SessionsOfServer(database=name, sessions=counts)
