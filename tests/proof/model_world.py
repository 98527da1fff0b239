"""The world of the model: a lock record, two stores, two databases as plain values, and what each call does to them.

A call goes to one part of the world and is atomic there; `effects` lists what can come of it.
"""

from collections.abc import Callable, Iterator
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

    def slot_of(self, generation: int) -> int | None:
        """Where a generation is staged."""
        return next((slot for g, _, slot in self.versions if g == generation), None)


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
Reply = Any
"""Whatever calls take and answer; an exception class is raised."""
ADOPT_BY_SIGHT = frozenset({"adopt by label", "adopt the highest version"})
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
    reply: Reply = None
    wrote: bool = False
    spends: str = ""
    note: str = ""


def effects(part: Part, call: Call, session: tuple[int, int], bugs: frozenset[str]) -> list[Effect]:
    """All ways in which a call can end, the ordinary one first."""
    if isinstance(part, Lock):
        return [_ON_LOCK[call.op](part, *call.args, bugs=bugs)]
    if isinstance(part, Store):
        return [_ON_STORE[call.op](part, *call.args, bugs=bugs)]
    return list(_on_database(part, call, session, bugs))


Bugs = frozenset[str]


def _read_record(lock: Lock, *, bugs: Bugs) -> Effect:
    del bugs
    return Effect(lock, (lock.claim, lock.current, lock.previous, lock.highest))


def _require(lock: Lock, run: Run, claim: Claim, *, bugs: Bugs) -> Effect:
    if _holds(lock, run) and lock.live and lock.claim == claim:
        return _read_record(lock, bugs=bugs)
    return Effect(lock, errors.FenceLostError)


def _raise_fence(lock: Lock, run: Run, *, bugs: Bugs) -> Effect:
    del bugs
    if lock.holder != run.number:
        return Effect(lock, errors.FenceLostError)
    return Effect(lock._replace(fence=lock.fence + 1), lock.fence + 1)


def _claim(lock: Lock, run: Run, claim: Claim, replaces: Claim | None, *, bugs: Bugs) -> Effect:
    claimed = Effect(lock._replace(claim=claim, highest=max(lock.highest, claim.generation)))
    if "claim without a condition" in bugs:
        return claimed
    if not _holds(lock, run):
        return Effect(lock, errors.FenceLostError)
    stands, replaced = (c and c.generation for c in (lock.claim, replaces))
    if (stands == replaced and lock.highest < claim.generation) or bugs & ADOPT_BY_SIGHT:
        return claimed
    return Effect(lock, None if lock.claim == claim else errors.FenceLostError)


def _release(lock: Lock, run: Run, current: int | None, previous: int | None, *, bugs: Bugs) -> Effect:
    is_ours = lock.fence == run.fence and lock.holder in (run.number, 0)
    if not (is_ours or "release without a condition" in bugs):
        return Effect(lock, errors.FenceLostError)
    free = lock._replace(holder=0, live=False)
    if current is None:
        return Effect(free._replace(claim=None) if "claim dropped on failure" in bugs else free)
    return Effect(free._replace(claim=None, current=current, previous=previous, due=False))


def _holds(lock: Lock, run: Run) -> bool:
    return (lock.holder, lock.fence) == (run.number, run.fence)


_ON_LOCK: dict[str, Callable[..., Effect]] = {
    "read": _read_record,
    "require": _require,
    "raise_fence": _raise_fence,
    "claim": _claim,
    "release": _release,
}


def _logins(store: Store, *generations: int | None, bugs: Bugs) -> Effect:
    del bugs
    return Effect(store, tuple(None if g is None else store.find(g) for g in generations))


def _describe(store: Store, generation: int, *, bugs: Bugs) -> Effect:
    """What a promotion looks at first: what it is going to replace; nothing where it is done."""
    del bugs
    slot, serving = store.slot_of(generation), store.serving()
    if serving.generation == generation:
        return Effect(store)
    if serving.generation > generation:
        return Effect(store, errors.FenceLostError)
    return Effect(store, errors.StoreRejectedError if slot is None else store.slots[slot])


def _promote(store: Store, generation: int, seen: Value | None = None, *, bugs: Bugs) -> Effect:
    slot, login = store.slot_of(generation), store.find(generation)
    if slot is None or login is None:
        return Effect(store, errors.StoreRejectedError)
    if store.slots[slot] != seen and "blind promotion" not in bugs:
        return Effect(store, errors.LostCompareAndSetError)
    slots = list(store.slots)
    slots[slot] = Value(generation, login)
    return Effect(store._replace(slots=tuple(slots), edited=False), wrote=True)


def _stage(store: Store, generation: int, login: Login, *, bugs: Bugs) -> Effect:
    """Create if absent, in the slot that serves the lowest; what stands there is the answer."""
    standing = store.find(generation)
    if standing and "new password on retry" not in bugs:
        return Effect(store, standing)
    serving = store.slots.index(store.serving())
    idle = [i for i in range(len(store.slots)) if len(store.slots) == 1 or i != serving]
    slot = min(idle, key=lambda i: store.slots[i].generation)
    others = tuple(v for v in store.versions if v[0] != generation)
    versions = tuple(sorted((*others, (generation, login, slot))))
    return Effect(store._replace(versions=versions, label=generation), login)


_ON_STORE: dict[str, Callable[..., Effect]] = {
    "read_current": lambda store, bugs: Effect(store, store.serving()),  # noqa: ARG005 - one shape for all
    "read_label": lambda store, bugs: Effect(store, store.label),  # noqa: ARG005 - as above
    "read_highest": lambda store, bugs: Effect(store, max(g for g, _, _ in store.versions)),  # noqa: ARG005 - as above
    "read_generation": lambda store, generation, bugs: Effect(store, store.find(generation)),  # noqa: ARG005 - as above
    "logins": _logins,
    "stage": _stage,
    "describe": _describe,
    "promote": _promote,
}


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
