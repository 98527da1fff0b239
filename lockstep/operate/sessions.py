"""The open sessions of a credential on all its servers: counted, and shown as a table or as JSON."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from lockstep.databases.sessions import NotCountable, OpenSession, SessionList
from lockstep.operate import documents
from lockstep.operate.documents import ClientSessions, Login, LoginState, SessionsOfLogin
from lockstep.operate.formatting import clock_time, to_second
from lockstep.operate.state import promoted_at
from lockstep.plan.fields import format_duration
from lockstep.protocol.errors import AdminCredentialRejectedError, LockstepError, line_of
from lockstep.protocol.lock_rule import due_at
from lockstep.protocol.model import Credential, DatabaseServer, LockRecord
from lockstep.runtime.clouds import Clouds

MOST_CLIENTS = 5
"""So many hosts and applications are shown of a login."""

Answer = SessionList | NotCountable | LockstepError


# What becomes of the login that each username of a credential has. Pure.


def login_text(login: Login, now: datetime) -> str:
    """The state of a login in words."""
    match login.state:
        case LoginState.CURRENT | LoginState.NOT_ROTATED:
            return login.state + (", to be revoked" if login.must_die else "")
        case LoginState.REVOKED:
            return "revoked, new logins are refused"
        case LoginState.IN_ROTATION:
            return login.state
    if login.must_die:
        end = "to be revoked"
    elif login.dies_at is None:
        end = "revoked by the next rotation"
    elif login.dies_at <= now:
        end = "revoked by the next run"
    else:
        end = f"revoked in {format_duration(login.dies_at - now)}"
    return f"{login.state}, {'the latter ' if login.state is LoginState.EITHER else ''}{end}"


def login_states(
    record: LockRecord, credential: Credential, username_of: Callable[[int], str | None]
) -> list[Login]:
    """The state of each username's login, in the plan's order.

    Args:
        record: The lock record.
        credential: The credential.
        username_of: The username of a generation's value; None where no store holds it. Asked only where there are
            several usernames, since the answer is in the value.
    """
    current = record.current_generation
    if current is None:
        return [Login(username=u, state=LoginState.NOT_ROTATED) for u in credential.usernames]
    valid = record.valid | {current}
    if len(credential.usernames) == 1:
        state = LoginState.CURRENT if valid == {current} else LoginState.EITHER
        newest = tuple(sorted(valid, reverse=True))
        return [_login(record, credential.usernames[0], state, newest, dies_at=_next(record))]
    return _of_several(record, credential, _holders({*valid, *_in_flight(record)}, username_of))


def _in_flight(record: LockRecord) -> set[int]:
    return {record.claim.generation} if record.claim else set()


def _holders(generations: set[int], username_of: Callable[[int], str | None]) -> dict[str, int]:
    """The newest generation of each username that has one."""
    found = {username_of(generation): generation for generation in sorted(generations)}
    return {username: generation for username, generation in found.items() if username is not None}


def _of_several(record: LockRecord, credential: Credential, held: Mapping[str, int]) -> list[Login]:
    idle = [u for u in credential.usernames if u not in held]
    # Each rotation gives a new value to the username that base does not have (protocol C4).
    turns = [*idle, *sorted((u for u in credential.usernames if u in held), key=lambda u: held[u])]
    previous = max((g for g in held.values() if g < (record.current_generation or 0)), default=0)
    soonest = _next(record)
    found = []
    for username in credential.usernames:
        generation = held.get(username)
        if generation is None:
            found.append(Login(username=username, state=LoginState.REVOKED))
            continue
        if generation in _in_flight(record):
            state = LoginState.IN_ROTATION
        elif generation == record.current_generation:
            state = LoginState.CURRENT
        else:
            state = LoginState.PREVIOUS if generation == previous else LoginState.OLDER
        turn: timedelta = credential.schedule.interval * turns.index(username)
        found.append(
            _login(record, username, state, (generation,), dies_at=soonest + turn if soonest else None)
        )
    return found


def _login(
    record: LockRecord,
    username: str,
    state: LoginState,
    generations: tuple[int, ...],
    *,
    dies_at: datetime | None,
) -> Login:
    must_die = record.is_revoking and generations[-1] <= (record.revoke_through or 0)
    return Login(
        username=username,
        state=state,
        generations=generations,
        dies_at=None if state in {LoginState.CURRENT, LoginState.IN_ROTATION} else dies_at,
        must_die=must_die,
    )


def _next(record: LockRecord) -> datetime | None:
    """From when on a scheduled run rotates; None where none does."""
    if record.paused or record.next_due_at is None:
        return None
    return due_at(record)


# The open sessions.


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSessions:
    """What was counted of a credential.

    Attributes:
        answers: Of each server and verify host, by its name.
        now: When it was counted.
    """

    credential: Credential
    record: LockRecord
    logins: Sequence[Login]
    answers: dict[str, Answer]
    now: datetime

    @property
    def current(self) -> int | None:
        """The current generation."""
        return self.record.current_generation

    @property
    def promoted_at(self) -> datetime | None:
        """When it was promoted."""
        return promoted_at(self.record, self.credential)

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
            if isinstance(answer, SessionList) and first.setdefault(answer.server, name) != name:
                found[name] = first[answer.server]
        return found

    def counted(self) -> Iterator[tuple[str, SessionList, list[SessionsOfLogin]]]:
        """Each server that was counted, once, with the sessions of each login."""
        same = self.same()
        for name, answer in self.answers.items():
            if isinstance(answer, SessionList) and name not in same:
                yield name, answer, [self._count(login.username, answer.sessions) for login in self.logins]

    def _count(self, username: str, sessions: Sequence[OpenSession]) -> SessionsOfLogin:
        own = [s for s in sessions if s.username == username]
        ages = [s.age_seconds for s in own if s.age_seconds is not None]
        before = None
        if self.promoted_at and len(ages) == len(own):
            # What is on record is whole seconds, rounded up.
            since = max(0.0, (self.now - self.promoted_at).total_seconds()) + 1
            before = sum(age > since for age in ages)
        clients = Counter((s.host, s.application) for s in own)
        return SessionsOfLogin(
            username=username,
            sessions=len(own),
            connected_before_current=before,
            oldest_seconds=round(max(ages), 1) if ages else None,
            clients=[
                ClientSessions(host=host, application=application, sessions=count)
                for (host, application), count in clients.most_common(10 * MOST_CLIENTS)
            ],
            clients_in_all=len(clients),
        )


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
        return clouds.sessions(server, credential).list_sessions()
    except LockstepError as e:
        return e


# Text

_HEAD = ("DATABASE", "USERNAME", "GENERATION", "STATE", "SESSIONS", "BEFORE", "OLDEST", "FROM")


def lines(found: OpenSessions) -> Iterator[str]:
    """The table and what must be known of it."""
    current = (
        "no generation is on record" if found.current is None else f"generation {found.current} is current"
    )
    since = f", promoted at {clock_time(found.promoted_at, found.now)}" if found.promoted_at else ""
    yield f"{found.credential.id}: {current}{since}"
    rows = [
        _row(name, answer, login, count, found.now)
        for name, answer, counts in found.counted()
        for login, count in zip(found.logins, counts, strict=True)
    ]
    if rows:
        widths = [max(len(row[i]) for row in [_HEAD, *rows]) for i in range(len(_HEAD))]
        for row in [_HEAD, *rows]:
            yield (
                "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )
    yield from (f"  {line}" for line in _notes(found))


def _row(
    name: str, answer: SessionList, login: Login, count: SessionsOfLogin, now: datetime
) -> tuple[str, ...]:
    least = "" if answer.ages_are_exact else "at least "
    before = oldest = "?" if count.sessions else "-"
    if count.sessions and count.connected_before_current is not None:
        before = f"{least}{count.connected_before_current}"
    if count.oldest_seconds is not None:
        oldest = least + format_duration(timedelta(seconds=count.oldest_seconds))
    clients = [
        f"{' '.join(filter(None, (one.host, one.application))) or 'unnamed'} ({one.sessions})"
        for one in count.clients[:MOST_CLIENTS]
    ]
    if count.clients_in_all > MOST_CLIENTS:
        clients.append(f"and {count.clients_in_all - MOST_CLIENTS} more")
    generations = " or ".join(map(str, login.generations)) or "-"
    shown = (login.username, generations, login_text(login, now), str(count.sessions), before, oldest)
    return (name, *shown, ", ".join(clients))


def _notes(found: OpenSessions) -> Iterator[str]:
    for name, other in found.same().items():
        yield f"{name}: the same server as {other}; its sessions are counted once"
    for name, answer in found.answers.items():
        match answer:
            case NotCountable(grants=grants):
                why = "cannot be counted, the rotation user sees its own sessions only"
                yield f"{name}: {why}; as an administrator run there: {'; '.join(grants)};"
            case SessionList(hidden=hidden, grants=grants) if hidden:
                yield f"{name}: no {hidden}; to see them, as an administrator run there: {'; '.join(grants)};"
            case LockstepError():
                yield f"{name}: cannot be counted: {line_of(answer)}"
    yield from _meaning(found)


def _meaning(found: OpenSessions) -> Iterator[str]:
    answers = [answer for _, answer, _ in found.counted()]
    if not answers or found.current is None:
        return
    yield f"BEFORE: connected before generation {found.current} was promoted, so with an earlier one."
    if any(login.state is LoginState.EITHER for login in found.logins):
        yield "With one username no server says which password a session used: those after that may have used either."
    if not all(answer.ages_are_exact for answer in answers):
        yield "At least: MySQL and MariaDB keep no time of connection; counted from a session's last statement."


# JSON


def document(found: OpenSessions) -> documents.SessionsOfCredential:
    """For other programs. Ages are seconds."""
    return documents.SessionsOfCredential(
        credential=found.credential.id,
        current_generation=found.current,
        promoted_at=to_second(found.promoted_at),
        logins=found.logins,
        servers=[_server_document(found, name, answer) for name, answer in found.answers.items()],
    )


def _server_document(found: OpenSessions, name: str, answer: Answer) -> documents.SessionsOfServer:
    if not isinstance(answer, SessionList):
        grants, error = ((), answer.name) if isinstance(answer, LockstepError) else (answer.grants, None)
        return documents.SessionsOfServer(database=name, counted=False, error=error, grants=grants)
    return documents.SessionsOfServer(
        database=name,
        counted=True,
        same_server_as=found.same().get(name),
        ages_are_exact=answer.ages_are_exact,
        grants=answer.grants,
        sessions=next((counts for counted, _, counts in found.counted() if counted == name), []),
    )
