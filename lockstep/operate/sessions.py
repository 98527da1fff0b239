"""The open sessions of a credential on all its servers: counted, and shown as a table."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from lockstep.databases.sessions import NotCountable, OpenSession, SessionList
from lockstep.operate.documents import (
    ClientSessions,
    Login,
    LoginState,
    SessionsOfCredential,
    SessionsOfLogin,
    SessionsOfServer,
)
from lockstep.operate.formatting import clock_time, to_second
from lockstep.operate.state import asked, promoted_at
from lockstep.plan.fields import format_duration
from lockstep.protocol.errors import AdminCredentialRejectedError, LockstepError, line_of
from lockstep.protocol.model import Credential, LockRecord
from lockstep.runtime.clouds import Clouds

MOST_CLIENTS = 5
"""So many hosts and applications are shown of a login."""

Answer = SessionList | NotCountable | LockstepError


def login_states(
    record: LockRecord, credential: Credential, username_of: Callable[[int], str | None]
) -> list[Login]:
    """The state of each username's login, in the plan's order.

    Args:
        record: The lock record.
        credential: The credential.
        username_of: The username of a generation's value; None where no store holds it. Asked only where there are
            two usernames, since the answer is in the value.
    """
    current = record.current_generation
    if current is None:
        return [Login(username=u, state="not rotated yet") for u in credential.usernames]
    valid = record.valid | {current}
    if len(credential.usernames) == 1:
        state: LoginState = "current" if valid == {current} else "current or previous"
        generations = tuple(sorted(valid, reverse=True))
        return [Login(username=credential.usernames[0], state=state, generations=generations)]
    claimed = record.claim.generation if record.claim else current
    held = {username_of(generation): generation for generation in sorted({*valid, claimed})}
    states: dict[int | None, LoginState] = {None: "revoked", claimed: "in rotation", current: "current"}
    return [
        Login(
            username=username,
            state=states.get(generation := held.get(username), "previous"),
            generations=() if generation is None else (generation,),
        )
        for username in credential.usernames
    ]


def count_sessions(clouds: Clouds, credential: Credential) -> SessionsOfCredential:
    """Ask every server and verify host, side by side; an error of one is its answer.

    Values are read from the stores only where there are two usernames, to learn which has which generation.

    Raises:
        LockstepError: The lock table, or a store, could not be read.
    """
    record = clouds.lock(credential).read()
    logins = login_states(record, credential, partial(_username_of, clouds, credential))
    servers = [host for server in credential.servers for host in (server, *server.copies)]
    answers = clouds.side_by_side(
        [partial(asked, partial(clouds.open_sessions, server, credential)) for server in servers]
    )
    told = {server.name: answer for server, answer in zip(servers, answers, strict=True)}
    return counted(record, credential, logins, told, clouds.clock.now())


def _username_of(clouds: Clouds, credential: Credential, generation: int) -> str | None:
    held = (store.read_generation(generation) for store in clouds.stores(credential))
    return next((value.login.username for value in held if value), None)


def counted(
    record: LockRecord,
    credential: Credential,
    logins: Sequence[Login],
    answers: Mapping[str, Answer],
    now: datetime,
) -> SessionsOfCredential:
    """What was counted.

    Args:
        record: The lock record.
        credential: The credential.
        logins: Of each username.
        answers: Of each server and verify host, by its name.
        now: When they were asked.
    """
    since, first = promoted_at(record, credential), dict[str, str]()
    servers = []
    for name, answer in answers.items():
        match answer:
            case LockstepError():
                server = SessionsOfServer(database=name, error=answer.name, meaning=line_of(answer))
            case NotCountable(grants=grants):
                server = SessionsOfServer(database=name, grants=grants)
            case SessionList(server=process):
                same = first.setdefault(process, name)
                server = SessionsOfServer(
                    database=name,
                    counted=True,
                    same_server_as=same if same != name else None,
                    ages_are_exact=answer.ages_are_exact,
                    hidden=answer.hidden,
                    grants=answer.grants,
                    sessions=[_of(login.username, answer.sessions, since, now) for login in logins]
                    if same == name
                    else [],
                )
        servers.append(server)
    return SessionsOfCredential(
        credential=credential.id,
        current_generation=record.current_generation,
        promoted_at=to_second(since),
        logins=logins,
        servers=servers,
    )


def _of(
    username: str, sessions: Sequence[OpenSession], since: datetime | None, now: datetime
) -> SessionsOfLogin:
    own = [s for s in sessions if s.username == username]
    ages = [s.age_seconds for s in own if s.age_seconds is not None]
    before = None
    if since and len(ages) == len(own):
        # What is on record is whole seconds, rounded up.
        before = sum(age > max(0.0, (now - since).total_seconds()) + 1 for age in ages)
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


def is_unreachable(found: SessionsOfCredential) -> bool:
    """Whether a server could not be asked. A verify host that refuses the rotation user may be a proxy."""
    of_a_proxy = AdminCredentialRejectedError.__name__
    return any(s.error and not ("@" in s.database and s.error == of_a_proxy) for s in found.servers)


# Text

_HEAD = ("DATABASE", "USERNAME", "GENERATION", "STATE", "SESSIONS", "BEFORE", "OLDEST", "FROM")


def lines(found: SessionsOfCredential, now: datetime) -> Iterator[str]:
    """The table and what must be known of it."""
    current = found.current_generation
    told = "no generation is on record" if current is None else f"generation {current} is current"
    since = f", promoted at {clock_time(found.promoted_at, now)}" if found.promoted_at else ""
    yield f"{found.credential}: {told}{since}"
    rows = [
        _row(server, login, count)
        for server in found.servers
        for login, count in zip(found.logins, server.sessions, strict=False)
    ]
    if rows:
        widths = [max(len(row[i]) for row in [_HEAD, *rows]) for i in range(len(_HEAD))]
        for row in [_HEAD, *rows]:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield f"  {'  '.join(cells)}".rstrip()
    for server in found.servers:
        yield from (f"  {server.database}: {note}" for note in _notes(server))
    if rows and current is not None:
        yield f"  BEFORE: connected before generation {current} was promoted, so with an earlier one."
        if any(login.state == "current or previous" for login in found.logins):
            yield "  One username: no server says which password a session used; those after that may have used either."
        if not all(server.ages_are_exact for server in found.servers if server.counted):
            yield "  At least: MySQL and MariaDB keep no connection time; counted from a session's last statement."


def _row(server: SessionsOfServer, login: Login, count: SessionsOfLogin) -> tuple[str, ...]:
    least = "" if server.ages_are_exact else "at least "
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
    shown = (login.username, generations, login.state, str(count.sessions), before, oldest)
    return (server.database, *shown, ", ".join(clients))


def _notes(server: SessionsOfServer) -> Iterator[str]:
    run = f"as an administrator run there: {'; '.join(server.grants)};"
    if server.same_server_as:
        yield f"the same server as {server.same_server_as}; its sessions are counted once"
    if server.meaning:
        yield f"cannot be counted: {server.meaning}"
    elif not server.counted:
        yield f"cannot be counted, the rotation user sees its own sessions only; {run}"
    elif server.hidden:
        yield f"no {server.hidden}; to see them, {run}"
