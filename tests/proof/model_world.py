"""The world of the model: a lock record, two stores, two databases as plain values, and what each call does to them.

A call goes to one part of the world and is atomic there; `effects` lists what can come of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from lockstep.protocol import errors
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import ChainHead, LockRecord
from lockstep.protocol.orders import (
    Activate,
    CancelTakeOver,
    Order,
    Pause,
    Resume,
    Revoke,
    TakeOver,
)
from tests.support.memory import make_plan
from tests.support.memory_lock import MemoryLock

STORES = ("aws", "oci")
DATABASES = ("db-1", "db-2", "db-3")
"""The most that a world has."""
LOCK = "lock"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LATER = timedelta(minutes=10)
"""Time does not pass in the model: a lease is live or over, a rotation is due or not."""
FAR = NOW + timedelta(days=400)
"""What only a clock that is wrong has written: no time that passes in the model reaches it."""
_CREDENTIAL = make_plan().credentials[0]
INTERVAL = _CREDENTIAL.schedule.interval
DIGEST = _CREDENTIAL.plan_digest
"""Of the plan under which the runs act."""
OTHER_PLAN = "another plan"

# ---- The world


class Login(NamedTuple):
    """A username and a password. The password is named by generation, run, twin and attempt of its maker."""

    user: int
    password: tuple[int, ...]

    def __repr__(self) -> str:
        match self.password:
            case (-2,):
                return "the login of a DBA"
            case (generation,):
                return f"the login of generation {generation}" if generation else "a mistyped password"
            case (generation, run, twin, attempt):
                return f"login {generation} of run {run}" + "'" * (twin + attempt)
        return "a random password"


class Value(NamedTuple):
    """The value of a slot. Generation 0 was not written by Lockstep."""

    generation: int
    login: Login | None
    """None: a text that is no credential."""


class _NoHeads(dict[str, ChainHead]):
    """A record can be a part of a state if all in it is hashable."""

    def __hash__(self) -> int:  # type: ignore[override]  # dict has none
        return 0


LOST = LockRecord(credential_id="", next_due_at=NOW, not_before=NOW, heads=_NoHeads())
"""The record of a table that was lost and made again. The model has no heads, and times are before or after now."""


def is_due(lock: LockRecord) -> bool:
    """Whether a rotation may begin, by what a clock can have written that is right."""
    return all(time is None or time <= NOW or time >= FAR for time in (lock.next_due_at, lock.not_before))


def made_due(lock: LockRecord, due: bool = True) -> LockRecord:  # noqa: FBT001, FBT002 - all that there is to say
    """The record when a rotation may begin, or may not."""
    at = NOW if due else NOW + LATER
    far = {name: FAR for name in ("next_due_at", "not_before") if (getattr(lock, name) or NOW) >= FAR}
    return replace(lock, **{"next_due_at": at, "not_before": at, **far})  # type: ignore[arg-type]  # as it has


class Store(NamedTuple):
    """AWS has one slot. The ring has two here; it serves the one with the highest generation.

    `label` is the generation that is marked as pending. `edited`: a person wrote the value that is served. `versions`:
    generation, value, slot, and the run that claimed it, 0 where the text does not say that.
    """

    slots: tuple[Value, ...]
    versions: tuple[tuple[int, Login, int, int], ...]
    label: int
    edited: bool

    def serving(self) -> Value:
        """What applications get."""
        return max(self.slots, key=lambda v: v.generation)

    def held(self, generation: int) -> tuple[Login, int] | None:
        """The value of a generation, and the run that claimed it."""
        if generation == 0:
            return next(((v.login, 0) for v in self.slots if v.generation == 0 and v.login), None)
        return next(((login, by) for g, login, _, by in self.versions if g == generation), None)

    def find(self, generation: int) -> Login | None:
        """The value of a generation."""
        found = self.held(generation)
        return found and found[0]

    def edited_to(self, login: Login | None) -> "Store":
        """The store once a person has written a login over what is served."""
        slots = tuple(Value(0, login) if value == self.serving() else value for value in self.slots)
        return self._replace(slots=slots, edited=True)

    def imported(self, login: Login) -> "Store":
        """The store once a login was imported: in every slot."""
        return self._replace(slots=tuple(Value(0, login) for _ in self.slots), edited=False)

    def holds(self, login: Login) -> bool:
        """Whether it is the value of any generation."""
        return any(held == login for _, held, *_ in self.versions)

    def slot_of(self, generation: int) -> int | None:
        """Where a generation is staged."""
        return next((slot for g, _, slot, _ in self.versions if g == generation), None)


FAILED_OVER, MEANWHILE = "failed over", "set by a DBA"
WELL, ONCE, REFUSES, STOPPED, GONE = "well", "refuses once", "refuses", "stopped", "gone"
"""What a verify host is. One whose replication has stopped accepts what its database had then."""


class Database(NamedTuple):
    """`passwords` is (primary, secondary) on MySQL, what logs in on MariaDB, one per user where two users alternate.

    `session` is the connection that holds the advisory lock; `fenced`: its process has looked at the lock record since
    then, and its run had the lock. `record` is what MySQL's ATTRIBUTE says of the generations of primary and secondary.
    `foreign`: it was "restored" from a backup, and Lockstep has not changed it since; or has "failed over", and no run
    has ended well since; or was "set by a DBA", and no run has taken the advisory lock since. `past` is what
    it had before its last two changes, the newest first; None where it cannot fail over. `gone`: nothing answers;
    `missed`: it was gone, and no run has ended well since.
    `host` is its verify host; empty: it has none. `copied` is what a host accepts whose replication has stopped.
    """

    engine: str
    passwords: tuple[tuple[int, ...], ...]
    session: tuple[int, int] | None = None
    fenced: bool = False
    record: tuple[int | None, int | None] = (None, None)
    foreign: str = ""
    past: tuple[tuple[Any, Any], ...] | None = None
    gone: bool = False
    missed: bool = False
    host: str = ""
    copied: tuple[tuple[int, ...], ...] | None = None

    def accepts(self, login: Login) -> bool:
        """A real login."""
        if self.engine == "postgresql":
            return self.passwords[login.user] == login.password
        return login.password in self.passwords

    def host_accepts(self, login: Login) -> bool:
        """A login at its verify host."""
        at = self if self.copied is None else self._replace(passwords=self.copied)
        return self.host in (WELL, STOPPED) and at.accepts(login)

    def set_by_dba(self, login: Login, *, discards: bool) -> "Database":
        """The database once a DBA has set a password; MySQL keeps the second one unless it is discarded."""
        if self.engine == "postgresql":
            passwords = _ALTERATIONS["set_only_password"](self, login)
        elif self.engine == "mysql":
            passwords = (login.password, UNKNOWN if discards else self.passwords[1])
        else:
            passwords = (login.password,)
        return self._replace(passwords=passwords, foreign=MEANWHILE)

    def failed_over(self, lost: int) -> "Database":
        """A replica that has not got the last changes, and is the primary now."""
        passwords, record = (self.past or ())[lost - 1]
        past = (self.past or ())[lost:]
        return self._replace(
            passwords=passwords, record=record, session=None, fenced=False, foreign=FAILED_OVER, past=past
        )

    def unlocked(self) -> "Database":
        """The database once the session that holds its advisory lock has ended."""
        return self._replace(session=None, fenced=False)


Part = LockRecord | Store | Database
Reply = Any
"""What calls take and answer. An exception class is raised."""
JUNK = Login(0, (0,))
OF_DBA = (-2,)
"""A password that a DBA has set."""
UNKNOWN: tuple[int, ...] = ()


# ---- Calls


class Call(NamedTuple):
    """One outside call: what it goes to, and what it asks."""

    to: str
    op: str
    args: tuple[Any, ...] = ()
    named: tuple[tuple[str, Any], ...] = ()


class Run(NamedTuple):
    """One rotation: its number is its holder name, odd ones are AWS's."""

    number: int
    fence: int


class Effect(NamedTuple):
    """One way in which a call can end.

    Attributes:
        part: What it went to, afterwards.
        reply: What the caller gets; an exception class is raised.
        wrote: Whether what a store serves, or what logs in, has changed.
        spends: The fault that this effect takes from the budget.
        note: For the story.
    """

    part: Part
    reply: Reply = None
    wrote: bool = False
    spends: str = ""
    note: str = ""


def effects(part: Part, call: Call, session: tuple[int, int]) -> list[Effect]:
    """All ways in which a call can end, the ordinary one first."""
    if isinstance(part, LockRecord):
        return [_on_lock(part, call)]
    if isinstance(part, Store):
        return [_ON_STORE[call.op](part, *call.args)]
    return _on_database(part, call, session)


def orders_of(lock: LockRecord, databases: Sequence[str]) -> Iterator[Order]:
    """Every order that a person can give."""
    yield from (Pause(), Resume(), Revoke(lift_pause=False), Revoke(lift_pause=True))
    for name in databases:
        one = frozenset({name})
        yield Revoke(lift_pause=True, without=one)
        yield from (TakeOver(databases=one), CancelTakeOver(databases=one))
    for digest in (DIGEST, OTHER_PLAN):
        yield Activate(digest=digest, replaces=lock.plan)


# ---- The lock record: the double in memory decides. It passes the same contract tests as the DynamoDB adapter.


def acquired(lock: LockRecord, holder: int, *, force: bool = False) -> LockRecord | None:
    """The record once a run has the lock; None where it does not get it."""
    double = _double(lock)
    lease = double.acquire(
        holder=str(holder), now=NOW, expires_at=NOW + LATER, force=force, interval=INTERVAL
    )
    return double.record if lease else None


def _on_lock(lock: LockRecord, call: Call) -> Effect:
    double, reply = _double(lock), None
    try:
        reply = getattr(double, call.op)(*call.args, **dict(call.named))
    except LockstepError as e:
        reply = type(e)
    if isinstance(reply, LockRecord):
        # No step asks who has the lock.
        reply = replace(_plain(reply), holder=None, fence=0, expires_at=None)
    return Effect(_plain(double.record), reply)


def _double(lock: LockRecord) -> MemoryLock:
    double = MemoryLock("")
    double.record = lock
    return double


def _plain(record: LockRecord) -> LockRecord:
    """Without what says nothing in the model, where time does not pass."""
    return replace(made_due(record, is_due(record)), rotated_by=None, rotated_at=None, heads=LOST.heads)


# ---- The stores


def _describe(store: Store, generation: int) -> Effect:
    """What a promotion is going to replace; None if it is done already."""
    slot, serving = store.slot_of(generation), store.serving()
    if serving.generation == generation:
        return Effect(store)
    if serving.generation > generation:
        return Effect(store, errors.FenceLostError)
    return Effect(store, errors.StoreRejectedError if slot is None else store.slots[slot])


def _promote(store: Store, generation: int, *seen: Value, slot: int | None = None) -> Effect:
    """Compare and set; without `seen`, set."""
    slot, login = store.slot_of(generation) if slot is None else slot, store.find(generation)
    if slot is None or login is None:
        return Effect(store, errors.StoreRejectedError)
    if seen and store.slots[slot] != seen[0]:
        return Effect(store, errors.LostCompareAndSetError)
    slots = list(store.slots)
    slots[slot] = Value(generation, login)
    return Effect(store._replace(slots=tuple(slots), edited=False), wrote=True)


def staging_slot(slots: tuple[Value, ...]) -> int:
    """The slot that takes the next generation: the one with the lowest, which is not the one that is served."""
    serving = slots.index(max(slots, key=lambda v: v.generation))
    idle = [i for i in range(len(slots)) if len(slots) == 1 or i != serving]
    return min(idle, key=lambda i: slots[i].generation)


def _stage(store: Store, generation: int, login: Login, run: int, place: int | None) -> Effect:
    """Create if absent; answer what is there afterwards, for whose claim, and whether this call has created it.

    Args:
        store: Where.
        generation: The generation.
        login: Its value.
        run: The run that claimed it.
        place: The slot that was chosen by what the slots served; None: chosen now, after a look at every slot.
    """
    for held, standing, slot, by in store.versions:
        if held == generation and place in (None, slot):
            return Effect(store, (standing, by, False))
    slot = staging_slot(store.slots) if place is None else place
    versions = tuple(sorted((*store.versions, (generation, login, slot, run))))
    return Effect(store._replace(versions=versions, label=generation), (login, run, True))


_ON_STORE: dict[str, Callable[..., Effect]] = {
    "read_current": lambda store: Effect(store, store.slots),
    "read_label": lambda store: Effect(store, store.label),
    "read_generation": lambda store, generation: Effect(store, store.held(generation)),
    "versions": lambda store: Effect(store, tuple((g, (login, by)) for g, login, _, by in store.versions)),
    "stage": _stage,
    "describe": _describe,
    "promote": _promote,
    "promote_from": lambda store, generation, slot, seen: _promote(store, generation, seen, slot=slot),
}


# ---- The databases


def holds_advisory_lock(database: Database, session: tuple[int, int]) -> bool:
    """Whether a session may change accounts."""
    return database.session == session


def _on_database(database: Database, call: Call, session: tuple[int, int]) -> list[Effect]:
    is_of_host = call.op == "host_accepts"
    if database.host == GONE if is_of_host else database.gone:
        return [Effect(database, errors.DatabaseUnreachableError)]
    if is_of_host or call.op == "accepts":
        accepts = database.host_accepts if is_of_host else database.accepts
        recovers = is_of_host and database.host == ONCE
        return [Effect(database._replace(host=WELL) if recovers else database, accepts(call.args[0]))]
    if call.op == "exclusive":
        is_free = database.session is None
        foreign = FAILED_OVER if database.foreign == MEANWHILE else database.foreign
        locked = Effect(database._replace(session=session, foreign=foreign))
        return [locked if is_free else Effect(database, errors.AdvisoryLockBusyError)]
    if not holds_advisory_lock(database, session):
        return [Effect(database, errors.DatabaseUnreachableError)]
    if call.op == "recorded":
        return [Effect(database, database.record)]
    before, after = database.passwords, _ALTERATIONS[call.op](database, *call.args)
    record = call.args[-1] if call.op in ("alter", "discard") and call.args[-1] else database.record
    past = database.past
    if past is not None and (after, record) != (before, database.record):
        past = ((before, database.record), *past)[:2]
    foreign = database.foreign if database.foreign in (FAILED_OVER, MEANWHILE) else ""
    done = database._replace(passwords=after, record=record, foreign=foreign, past=past)
    is_changed = after != before
    found = [Effect(done, wrote=is_changed)]
    if is_changed:
        note = "it acknowledges the change, but does not make it"
        found.append(Effect(database, spends="deaf", note=note))
    if call.op == "set_passwords":
        both = database._replace(passwords=tuple(sorted({*after, *before})))
        note = "the old passwords keep logging in"
        found.append(Effect(both, wrote=True, spends="clinging", note=note))
    return found


_ALTERATIONS: dict[str, Callable[..., tuple[tuple[int, ...], ...]]] = {
    "alter": lambda d, login, retains, _: (login.password, d.passwords[0 if retains else 1]),
    "discard": lambda d, _login, _record: (d.passwords[0], UNKNOWN),
    "set_passwords": lambda _, *logins: tuple(sorted({login.password for login in logins})),
    "set_only_password": lambda d, login: tuple(
        login.password if user == login.user else password for user, password in enumerate(d.passwords)
    ),
}
"""What each statement leaves of a database's passwords."""
