"""The world of the model: a lock record, two stores, two databases as plain values, and what each call does to them.

A call goes to one part of the world and is atomic there; `effects` lists what can come of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from lockstep import errors
from lockstep.model import Claim

STORES = ("aws", "oci")
DATABASES = ("db-1", "db-2")
LOCK = "lock"

# ---- The world


class Login(NamedTuple):
    """An account, and a password that is known by who made it."""

    user: int
    password: tuple[int, ...]


class Value(NamedTuple):
    """What a slot serves: generation 0 was not written by Lockstep."""

    generation: int
    login: Login


class Lock(NamedTuple):
    """The lock record. `holder` is a run; `live` ends with the lease; `due` stands for the whole schedule."""

    holder: int
    fence: int
    live: bool
    claim: Claim | None
    current: int | None
    previous: int | None
    highest: int
    due: bool


class Store(NamedTuple):
    """One slot: AWS. Several, of which the highest generation wins: the ring.

    `label` is the generation that PENDING names, `edited` whether what is served is a person's doing.
    """

    slots: tuple[Value, ...]
    versions: tuple[tuple[int, Login, int], ...]
    label: int
    edited: bool

    def serving(self) -> Value:
        """What applications get."""
        return max(self.slots, key=lambda v: v.generation)

    def find(self, generation: int) -> Login | None:
        """The value of a generation."""
        if generation == 0:
            return next((v.login for v in self.slots if v.generation == 0), None)
        return next((login for g, login, _ in self.versions if g == generation), None)


class Database(NamedTuple):
    """`passwords` is (primary, secondary) on MySQL, what logs in on MariaDB, one per user where two users alternate.

    `session` is the connection that holds the advisory lock; `refuses` is what its policy has once refused.
    """

    engine: str
    passwords: tuple[tuple[int, ...], ...]
    session: tuple[int, int] | None = None
    refuses: tuple[tuple[int, ...], ...] = ()

    def accepts(self, login: Login) -> bool:
        """A real login."""
        if self.engine == "postgresql":
            return self.passwords[login.user] == login.password
        return login.password in self.passwords


Part = Lock | Store | Database
JUNK = Login(0, (0,))
NOBODY_KNOWS: tuple[int, ...] = ()



# ---- Calls


class Call(NamedTuple):
    """One outside call: what it goes to, and what it asks."""

    to: str
    op: str
    args: tuple[Any, ...] = ()


class Run(NamedTuple):
    """One rotation: its number is its holder name, odd ones are AWS's."""

    number: int
    fence: int
    revokes: bool = False




class Effect(NamedTuple):
    """One way in which a call can end.

    Attributes:
        part: What it went to, afterwards.
        reply: What the caller gets; an exception class is raised.
        wrote: Whether applications or databases notice: what is served, or what logs in, has been written.
        spends: The fault that this way takes out of the budget.
        note: For the story.
    """

    part: Part
    reply: Any = None
    wrote: bool = False
    spends: str = ""
    note: str = ""


def effects(part: Any, call: Call, session: tuple[int, int], bugs: frozenset[str]) -> list[Effect]:
    """All ways in which a call can end, the ordinary one first."""
    if isinstance(part, Lock):
        return [_on_lock(part, call, bugs)]
    if isinstance(part, Store):
        return [_on_store(part, call, bugs)]
    return list(_on_database(part, call, session, bugs))


def _on_lock(lock: Lock, call: Call, bugs: frozenset[str]) -> Effect:
    if call.op == "read":
        return Effect(lock, (lock.claim, lock.current, lock.previous, lock.highest))
    run: Run = call.args[0]
    held = (lock.holder, lock.fence) == (run.number, run.fence)
    if call.op == "require":
        if held and lock.live and lock.claim == call.args[1]:
            return Effect(lock, (lock.claim, lock.current, lock.previous, lock.highest))
        return Effect(lock, errors.FenceLostError)
    if call.op == "claim":
        _, claim, replaces = call.args
        stands = lock.claim.generation if lock.claim else None
        replaced = replaces.generation if replaces else None
        if "claim without a condition" not in bugs:
            fresh = lock.highest < claim.generation
            if not (held and stands == replaced and fresh) and "adopt" not in "".join(bugs):
                return Effect(lock, None if held and lock.claim == claim else errors.FenceLostError)
            if not held:
                return Effect(lock, errors.FenceLostError)
        return Effect(lock._replace(claim=claim, highest=max(lock.highest, claim.generation)))
    _, current, previous = call.args
    if "release without a condition" not in bugs and not (
        lock.fence == run.fence and lock.holder in (run.number, 0)
    ):
        return Effect(lock, errors.FenceLostError)
    free = lock._replace(holder=0, live=False)
    if current is None:
        return Effect(free._replace(claim=None) if "claim dropped on failure" in bugs else free)
    return Effect(free._replace(claim=None, current=current, previous=previous, due=False))


def _on_store(store: Store, call: Call, bugs: frozenset[str]) -> Effect:
    serving = store.serving()
    match call.op:
        case "read_current":
            return Effect(store, serving)
        case "read_label":
            return Effect(store, store.label)
        case "read_highest":
            return Effect(store, max(g for g, _, _ in store.versions))
        case "read_generation":
            return Effect(store, store.find(call.args[0]))
        case "logins":
            return Effect(store, tuple(None if g is None else store.find(g) for g in call.args))
        case "stage":
            return _staged(store, *call.args, overwrites="new password on retry" in bugs)
    generation = call.args[0]
    slot = next((slot for g, _, slot in store.versions if g == generation), None)
    if slot is None:
        return Effect(store, errors.StoreRejectedError)
    if call.op == "describe":
        if serving.generation == generation:
            return Effect(store, None)
        if serving.generation > generation:
            return Effect(store, errors.FenceLostError)
        return Effect(store, store.slots[slot])
    if call.op == "promote" and store.slots[slot] != call.args[1]:
        return Effect(store, errors.LostCompareAndSetError)
    slots = list(store.slots)
    slots[slot] = Value(generation, store.find(generation) or JUNK)
    return Effect(store._replace(slots=tuple(slots), edited=False), wrote=True)


def _staged(store: Store, generation: int, login: Login, *, overwrites: bool) -> Effect:
    standing = store.find(generation)
    if standing and not overwrites:
        return Effect(store, standing)
    serving = store.slots.index(store.serving())
    idle = [i for i in range(len(store.slots)) if len(store.slots) == 1 or i != serving]
    slot = min(idle, key=lambda i: store.slots[i].generation)
    others = tuple(v for v in store.versions if v[0] != generation)
    versions = tuple(sorted((*others, (generation, login, slot))))
    return Effect(store._replace(versions=versions, label=generation), login)


def _on_database(
    database: Database, call: Call, session: tuple[int, int], bugs: frozenset[str]
) -> Iterator[Effect]:
    if call.op == "accepts":
        yield Effect(database, database.accepts(call.args[0]))
        return
    if call.op == "exclusive":
        if database.session is None:
            yield Effect(database._replace(session=session))
        else:
            yield Effect(database, errors.AdvisoryLockBusyError)
        return
    if database.session != session and "no advisory lock" not in bugs:
        yield Effect(database, errors.DatabaseUnreachableError)
        return
    before, asked = database.passwords, call.args[0].password
    refused = database._replace(refuses=(*database.refuses, asked))
    if asked in database.refuses and asked not in before:
        yield Effect(database, errors.PasswordRefusedByPolicyError)
        return
    after = _ALTERATIONS[call.op](database, *call.args)
    yield Effect(database._replace(passwords=after), wrote=after != before)
    if after != before:
        yield Effect(database, spends="deaf", note="it says so, but nothing has changed")
    if call.op == "set_passwords":
        yield Effect(
            database._replace(passwords=tuple(sorted({*after, *before}))),
            wrote=True,
            spends="clinging",
            note="what was there goes on logging in",
        )
    if asked not in (*before, NOBODY_KNOWS):
        yield Effect(refused, errors.PasswordRefusedByPolicyError, spends="refusals")


def _alter(database: Database, login: Login, retains: bool) -> tuple[tuple[int, ...], ...]:  # noqa: FBT001 - as in SQL
    primary, secondary = database.passwords
    return login.password, (primary if retains else secondary)


def _discard(database: Database, _login: Login) -> tuple[tuple[int, ...], ...]:
    return database.passwords[0], NOBODY_KNOWS


def _set_passwords(_database: Database, *logins: Login) -> tuple[tuple[int, ...], ...]:
    return tuple(sorted({login.password for login in logins}))


def _set_only_password(database: Database, login: Login) -> tuple[tuple[int, ...], ...]:
    passwords = list(database.passwords)
    passwords[login.user] = login.password
    return tuple(passwords)


_ALTERATIONS: dict[str, Callable[..., tuple[tuple[int, ...], ...]]] = {
    "alter": _alter,
    "discard": _discard,
    "set_passwords": _set_passwords,
    "set_only_password": _set_only_password,
}
