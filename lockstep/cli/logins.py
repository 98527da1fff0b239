"""What becomes of the login that each username of a credential has, as a pure function over what was read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from lockstep.durations import format_duration
from lockstep.lock_rule import due_at
from lockstep.model import Credential, LockRecord


class State(StrEnum):
    """Of the login that a username has now."""

    CURRENT = "current"
    EITHER = "current or previous"
    IN_ROTATION = "in rotation"
    PREVIOUS = "previous"
    OLDER = "older"
    DEAD = "dead"
    NOT_ROTATED = "not rotated yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginState:
    """The login of a username.

    Attributes:
        generations: Which it may be, the newest first. With one username all that are alive, since a server does not
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
        if self.state is State.DEAD:
            return "dead, new logins are refused"
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


def promoted_at(record: LockRecord, credential: Credential) -> datetime | None:
    """When every store was seen to serve the current generation (protocol C10).

    None where that is not on record, or the plan is not the active one: its overlap may be another.
    """
    if record.current_generation is None or record.not_before is None:
        return None
    if record.plan != credential.plan_digest:
        return None
    return record.not_before - credential.schedule.overlap


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
    alive = record.alive | {current}
    if len(credential.usernames) == 1:
        state = State.CURRENT if alive == {current} else State.EITHER
        newest = tuple(sorted(alive, reverse=True))
        return [_login(record, credential.usernames[0], state, newest, dies_at=_next(record))]
    return _of_several(record, credential, _holders({*alive, *_in_flight(record)}, username_of))


def _in_flight(record: LockRecord) -> set[int]:
    return {record.claim.generation} if record.claim else set()


def _holders(generations: set[int], username_of: Callable[[int], str | None]) -> dict[str, int]:
    """The newest generation of each username that has one."""
    found = {username_of(generation): generation for generation in sorted(generations)}
    return {username: generation for username, generation in found.items() if username is not None}


def _of_several(record: LockRecord, credential: Credential, held: Mapping[str, int]) -> list[LoginState]:
    idle = [u for u in credential.usernames if u not in held]
    # Each rotation gives a new value to the username whose turn was longest ago (protocol V18).
    turns = [*idle, *sorted((u for u in credential.usernames if u in held), key=lambda u: held[u])]
    previous = max((g for g in held.values() if g < (record.current_generation or 0)), default=0)
    soonest = _next(record)
    found = []
    for username in credential.usernames:
        generation = held.get(username)
        if generation is None:
            found.append(LoginState(username=username, state=State.DEAD))
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
