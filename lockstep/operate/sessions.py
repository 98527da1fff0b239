"""The open sessions of a credential on all its servers: counted by login, and shown as a table or as JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

from lockstep.databases.sessions import NotCountable, SessionCounts
from lockstep.operate import documents
from lockstep.operate.formatting import clock_time, to_second
from lockstep.operate.state import promoted_at
from lockstep.plan.fields import format_duration
from lockstep.protocol.errors import AdminCredentialRejectedError, LockstepError, line_of
from lockstep.protocol.lock_rule import due_at
from lockstep.protocol.model import Credential, DatabaseServer, LockRecord
from lockstep.runtime.clouds import Clouds

Answer = SessionCounts | NotCountable | LockstepError


# What becomes of the login that each username of a credential has. Pure.


class State(StrEnum):
    """Of the login that a username has now."""

    CURRENT = "current"
    EITHER = "current or previous"
    IN_ROTATION = "in rotation"
    PREVIOUS = "previous"
    OLDER = "older"
    REVOKED = "revoked"
    NOT_ROTATED = "not rotated yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginState:
    """The login of a username.

    Attributes:
        generations: Which it may be, the newest first. With one username all that are valid, since a server does not
            say which password a session used; with several at most one. Empty: none logs in.
        dies_at: When the next rotation may end what is not current, as the schedule stands; None: nothing is scheduled.
        must_die: An emergency is in force, and ends it as soon as a run can.
    """

    username: str
    state: State
    generations: tuple[int, ...] = ()
    dies_at: datetime | None = None
    must_die: bool = False

    def text(self, now: datetime) -> str:
        """The state in words."""
        if self.state in {State.CURRENT, State.NOT_ROTATED}:
            return self.state + (", must die" if self.must_die else "")
        if self.state is State.REVOKED:
            return "revoked, new logins are refused"
        if self.state is State.IN_ROTATION:
            return self.state
        if self.must_die:
            end = "must die"
        elif self.dies_at is None:
            end = "dies with the next rotation"
        elif self.dies_at <= now:
            end = "dies with the next run"
        else:
            end = f"dies in {format_duration(self.dies_at - now)}"
        return f"{self.state}, {'the latter ' if self.state is State.EITHER else ''}{end}"


def login_states(
    record: LockRecord, credential: Credential, username_of: Callable[[int], str | None]
) -> list[LoginState]:
    """The state of each username's login, in the plan's order.

    Args:
        record: The lock record.
        credential: The credential.
        username_of: The username of a generation's value; None where no store holds it. Asked only where there are
            several usernames, since the answer is in the value.
    """
    current = record.current_generation
    if current is None:
        return [LoginState(username=u, state=State.NOT_ROTATED) for u in credential.usernames]
    valid = record.valid | {current}
    if len(credential.usernames) == 1:
        state = State.CURRENT if valid == {current} else State.EITHER
        newest = tuple(sorted(valid, reverse=True))
        return [_login(record, credential.usernames[0], state, newest, dies_at=_next(record))]
    return _of_several(record, credential, _holders({*valid, *_in_flight(record)}, username_of))


def _in_flight(record: LockRecord) -> set[int]:
    return {record.claim.generation} if record.claim else set()


def _holders(generations: set[int], username_of: Callable[[int], str | None]) -> dict[str, int]:
    """The newest generation of each username that has one."""
    found = {username_of(generation): generation for generation in sorted(generations)}
    return {username: generation for username, generation in found.items() if username is not None}


def _of_several(record: LockRecord, credential: Credential, held: Mapping[str, int]) -> list[LoginState]:
    idle = [u for u in credential.usernames if u not in held]
    # Each rotation gives a new value to the username that base does not have (protocol C4).
    turns = [*idle, *sorted((u for u in credential.usernames if u in held), key=lambda u: held[u])]
    previous = max((g for g in held.values() if g < (record.current_generation or 0)), default=0)
    soonest = _next(record)
    found = []
    for username in credential.usernames:
        generation = held.get(username)
        if generation is None:
            found.append(LoginState(username=username, state=State.REVOKED))
            continue
        if generation in _in_flight(record):
            state = State.IN_ROTATION
        elif generation == record.current_generation:
            state = State.CURRENT
        else:
            state = State.PREVIOUS if generation == previous else State.OLDER
        turn: timedelta = credential.schedule.interval * turns.index(username)
        found.append(
            _login(record, username, state, (generation,), dies_at=soonest + turn if soonest else None)
        )
    return found


def _login(
    record: LockRecord,
    username: str,
    state: State,
    generations: tuple[int, ...],
    *,
    dies_at: datetime | None,
) -> LoginState:
    must_die = record.is_revoking and generations[-1] <= (record.revoke_through or 0)
    return LoginState(
        username=username,
        state=state,
        generations=generations,
        dies_at=None if state in {State.CURRENT, State.IN_ROTATION} else dies_at,
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
