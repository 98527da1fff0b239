"""The one world of the tests: `make_world` builds it, the rest runs rotations in it and checks them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from functions.apply_db import step as apply_db
from functions.generate import step as generate
from functions.update_secrets import step as update_secrets
from lockstep.audit.chain import Entry, parse
from lockstep.audit.entry import NO_PREVIOUS, signer_of
from lockstep.protocol import messages
from lockstep.protocol.deadlines import LEASE, RUN
from lockstep.protocol.model import Credential, LockRecord, Login, SecretStr
from lockstep.protocol.strict_json import read
from oci_fn import sequence
from oci_fn.retries import Retries
from tests.support.memory import FakeClock, MemoryWorld, make_plan
from tests.support.memory_database import FORGOTTEN, MemoryDatabase
from tests.support.memory_lock import MemoryLock
from tests.support.memory_store import MemoryStore

Result = TypeVar("Result")

INTERVAL_SECONDS = 1200.0
"""Longer than the lease: a dead run has lost the lock by the next trigger."""
RUN_SECONDS = RUN.total_seconds()
Fault = BaseException | type[BaseException] | Callable[[], object]
"""What happens at a boundary: it is raised, or called."""


class Killed(BaseException):
    """The process dies. The code under test must not catch this."""


@dataclass(frozen=True)
class Ran:
    """A run that has ended well."""

    promoted: messages.Promoted | None

    @property
    def outcome(self) -> str:
        return "rotated" if self.promoted else "skipped"

    @property
    def generation(self) -> int | None:
        return self.promoted.generation if self.promoted else None

    @property
    def adopted(self) -> bool:
        return self.promoted is not None and self.promoted.adopted


def make_world(
    databases: int | Mapping[str, Any] = 2,
    stores: int | Mapping[str, Any] = 2,
    credentials: Credential | None = None,
    faults: Mapping[str, Fault] | None = None,
    *,
    placeholder: bool = False,
    rotations: int = 0,
    clock: FakeClock | None = None,
    **plan: Any,  # noqa: ANN401 - a plan file's values
) -> MemoryWorld:
    """One credential between its stores and databases, as both runners see it.

    Args:
        databases: How many in memory; or doubles and real drivers by name, to which the missing ones are made.
        stores: 1 for `aws`, 2 for `aws` and `oci`, in memory; or doubles and adapters by name.
        credentials: The credential, with its databases; by default one of `make_plan`.
        faults: What strikes at which boundary, such as `before oci stage app_user`; see `struck`.
        placeholder: The secrets hold a placeholder and no login works; every database is under take-over. Otherwise
            secrets and databases in memory have one login, to be taken over. Either way the plan is ordered to become
            active.
        rotations: How many have been; after them the next one is due.
        clock: Where time is to be told to something else, too.
        plan: More for `make_plan`: the strategy, and keys of the credential.
    """
    number = databases if isinstance(databases, int) else len(databases)
    credential = credentials or make_plan(databases=number, **plan).credentials[0]
    made = {
        s.name: MemoryDatabase(
            s.name, credential.strategy, credential.usernames, verify_hosts=len(s.verify_hosts)
        )
        for s in credential.servers
    }
    if isinstance(stores, int):
        stores = {name: MemoryStore(name, credential) for name in ("aws", "oci")[:stores]}
    world = MemoryWorld(
        credential=credential,
        stores=stores,
        databases=made if isinstance(databases, int) else {**made, **databases},
        lock=MemoryLock(credential.id),
        clock=clock or FakeClock(),
    )
    world.always_in_turn()
    activates(world)
    if placeholder:
        orders(world, take_over=frozenset(world.databases))
    else:
        world.import_login(Login(credential.usernames[0], SecretStr("before-lockstep")))
    for rotation in ("first", "second", "third")[:rotations]:
        rotate(world, rotation)
        world.clock.sleep(INTERVAL_SECONDS)
    strike(world, faults or {})
    return world


def rotate(
    world: MemoryWorld, rotation_id: str, *, runner: str = "aws", force: bool = False, trigger: str = "test"
) -> Ran:
    """One run, from acquiring to releasing the lock, one database after the other."""
    run = messages.RunInput(credential_id=world.credential.id, trigger=trigger, force=force)
    deadline = world.clock.monotonic() + RUN_SECONDS
    retries = Retries(world.clock, deadline=deadline, jitter=lambda: 0.5)
    ports, of = world.ports(runner), cast("messages.Runner", runner)
    return Ran(sequence.rotate(run, ports, retries, rotation_id=rotation_id, runner=of))


def rotate_again(world: MemoryWorld, rotation_id: str, *, runner: str = "aws") -> Ran:
    """The run of the next trigger."""
    world.clock.sleep(INTERVAL_SECONDS)
    return rotate(world, rotation_id, runner=runner)


def held(
    world: MemoryWorld, rotation_id: str = "run-1", *, runner: str = "aws", force: bool = False
) -> messages.Rotation:
    """A run that has just acquired the lock, for tests that call its steps themselves."""
    now = world.clock.now()
    lease = world.lock.acquire(holder=rotation_id, now=now, expires_at=now + LEASE, force=force)
    assert lease
    of = {"credential_id": lease.credential_id, "rotation_id": rotation_id, "runner": runner, "force": force}
    return read(messages.Rotation, {**of, "trigger": "test", "started_at": now, "fence": lease.fence})


def generated(world: MemoryWorld, rotation: messages.Rotation) -> messages.Staged:
    """Run Generate where it stages; its result has the claim, and the run with its plan."""
    result = generate.run(messages.GenerateRequest(rotation=rotation), world.ports(rotation.runner))
    assert isinstance(result, messages.Staged)
    return result


def applied(world: MemoryWorld, staged: messages.Staged) -> messages.ApplyResult:
    """Run ApplyDb."""
    result = asked_to_apply(world, staged)
    assert isinstance(result, messages.ApplyResult)
    return result


def asked_to_apply(world: MemoryWorld, staged: messages.Staged) -> object:
    """Run ApplyDb; whatever it answers."""
    return apply_db.run(staged, world.ports(staged.rotation.runner))


def updated(
    world: MemoryWorld, staged: messages.Staged, proven: Iterable[str] | None = None
) -> messages.UpdateResult:
    """Run UpdateSecrets; by default every database was seen to accept the value."""
    request = messages.UpdateRequest(
        rotation=staged.rotation,
        claim=staged.claim,
        proven=tuple(world.databases if proven is None else proven),
        seen=staged.seen,
    )
    return update_secrets.run(request, world.ports(staged.rotation.runner))


def orders(world: MemoryWorld, **order: object) -> None:
    """Write an order into the lock record, as an operator does, without the lock."""
    world.lock.record = replace(world.lock.record, **order)  # type: ignore[arg-type]  # the test names the fields


def revokes_everything(world: MemoryWorld) -> None:
    """Order an emergency: every generation that was ever claimed is to be revoked (protocol O5)."""
    orders(world, revoke_through=world.lock.record.highest_generation)


def loses_the_lock_table(world: MemoryWorld) -> None:
    """Leave an empty record, as a table that was made again has it."""
    world.lock.record = LockRecord(credential_id=world.credential.id)


def activates(world: MemoryWorld) -> None:
    """Order the world's plan to become the active one (protocol O7)."""
    orders(world, activate=world.credential.plan_digest)


def edit(store: MemoryStore, login: Login) -> None:
    """Put another login into a store's `app_user` by hand."""
    store.edit("app_user", json.dumps({"username": login.username, "password": login.password.reveal()}))


def set_password(world: MemoryWorld, login: Login) -> None:
    """Change a password in every database by hand."""
    for database in world.databases.values():
        database.accounts[login.username].passwords = (login.password.reveal(),)


def known_logins(world: MemoryWorld) -> dict[str, set[tuple[str, str]]]:
    """The logins that each database accepts, as username and password, without those that nobody knows."""
    return {
        name: {
            (username, password)
            for username, account in database.accounts.items()
            for password in account.passwords
            if not password.startswith(FORGOTTEN)
        }
        for name, database in world.databases.items()
    }


def served(world: MemoryWorld) -> dict[str, tuple[int, int, tuple[str, str] | None]]:
    """What each store serves: the generations of both secrets, and the login."""
    with quiet(world):
        currents = {name: store.read_current() for name, store in world.stores.items()}
    return {
        name: (v.generation, v.blob_generation, shown(v.login) if v.login else None)
        for name, v in currents.items()
    }


def shown(login: Login) -> tuple[str, str]:
    """A login as a tuple that a set can hold and a failing test can show."""
    return login.username, login.password.reveal()


def login_of(world: MemoryWorld, generation: int) -> Login:
    """The login of a generation, from the first store."""
    with quiet(world):
        value = next(iter(world.stores.values())).read_generation(generation)
    assert value
    return value.login


def another_login(world: MemoryWorld, password: str = "typed-by-hand") -> Login:
    """A login with the credential's first username and a password that no run has made."""
    return Login(world.credential.usernames[0], SecretStr(password))


# Hooks


def seams(world: MemoryWorld) -> list[tuple[str, Any]]:
    """Every double of the world, with a name."""
    return [
        ("lock", world.lock),
        *world.stores.items(),
        *world.databases.items(),
        *((f"{name} log", log) for name, log in world.audit_logs.items()),
        *((f"{name} signer", signer) for name, signer in world.signers.items()),
    ]


def at_every_boundary(world: MemoryWorld, act: Callable[[str], None]) -> None:
    """Call `act` before and after every operation of every double, until `undisturbed`."""
    for name, double in seams(world):
        double.faults.before = lambda operation, name=name: act(f"before {name} {operation}")
        double.faults.after = lambda operation, name=name: act(f"after {name} {operation}")


def strike(world: MemoryWorld, faults: Mapping[str, Fault]) -> None:
    """Let each fault happen whenever a run comes to its boundary, until `undisturbed`."""

    def act(boundary: str) -> None:
        fault = faults.get(boundary)
        if isinstance(fault, BaseException) or (isinstance(fault, type) and issubclass(fault, BaseException)):
            raise fault
        if fault:
            fault()

    if faults:
        at_every_boundary(world, act)


@contextmanager
def struck(world: MemoryWorld, faults: Mapping[str, Fault]) -> Iterator[None]:
    """Let faults happen inside the block."""
    strike(world, faults)
    try:
        yield
    finally:
        undisturbed(world)


def undisturbed(world: MemoryWorld) -> None:
    """Remove all hooks."""
    for _, double in seams(world):
        double.faults.before = double.faults.after = lambda _operation: None


@contextmanager
def quiet(world: MemoryWorld) -> Iterator[None]:
    """Switch the hooks off inside the block."""
    doubles = [double for _, double in seams(world)]
    hooks = [(d.faults.before, d.faults.after) for d in doubles]
    undisturbed(world)
    try:
        yield
    finally:
        for double, (before, after) in zip(doubles, hooks, strict=True):
            double.faults.before, double.faults.after = before, after


class Interruption(Generic[Result]):
    """A hook that runs `act` once, at the n-th boundary, with the hooks off.

    Attributes:
        boundary: Where `act` ran; empty if there were fewer boundaries.
        result: What `act` returned.
    """

    def __init__(self, world: MemoryWorld, at: int, act: Callable[[], Result]) -> None:
        self.boundary = ""
        self.result: Result | None = None
        self._world = world
        self._left = at
        self._act = act

    def __call__(self, boundary: str) -> None:
        self._left -= 1
        if self._left == -1:
            self.boundary = boundary
            with quiet(self._world):
                self.result = self._act()


def interrupted(world: MemoryWorld, at: int, act: Callable[[], Result]) -> Interruption[Result]:
    """Run `act` once, at the n-th boundary from now."""
    hook = Interruption(world, at, act)
    at_every_boundary(world, hook)
    return hook


_READS = ("read", "numbers", "look", "describe", "shows", "require", "verify", "sign", "admin_login")


class Death:
    """A hook that kills the process after its n-th change, and at every later boundary.

    A process that dies after a read leaves what one leaves that died before it.

    Args:
        at: From 0.
        look: Called at each boundary before that.

    Attributes:
        boundary: Where it died; empty if there were fewer changes.
    """

    def __init__(self, at: int, look: Callable[[str], object] = lambda _boundary: None) -> None:
        self.boundary = ""
        self._left = at
        self._look = look

    def __call__(self, boundary: str) -> None:
        if not self.boundary:
            self._look(boundary)
            self._left -= boundary.startswith("after") and not any(f" {word}" in boundary for word in _READS)
            if self._left >= 0:
                return
            self.boundary = boundary
        raise Killed


# Checks


def entries(world: MemoryWorld, stream: str) -> list[Entry]:
    """A stream's entries, after a check that they are gapless, chained and signed (invariant I7)."""
    log, signer = world.audit_logs[stream], world.signers[stream]
    found, previous_hash = [], NO_PREVIOUS
    with quiet(world):
        for seq in range(1, max(log.numbers(), default=0) + 1):
            body = log.read(seq)
            assert body, f"a gap at {stream}/{seq}"
            entry = parse(body, credential_id=world.credential.id, stream=stream, seq=seq)
            assert entry.previous_hash == previous_hash
            assert signer_of(signer, entry.rotation_id).verify(entry.digest, entry.mac)
            previous_hash = entry.hash
            found.append(entry)
    return found


def rotation_of(entry: Entry) -> str:
    """The run that an entry records."""
    rotation_id: str = entry.event["metadata"]["uid"]
    return rotation_id


def status_of(entry: Entry) -> str:
    """`Success` or `Failure`."""
    status: str = entry.event["status"]
    return status


def assert_in_sync(world: MemoryWorld, generation: int | None = None) -> None:
    """Check that stores, databases and record agree and the lock is free (invariants I1 and I8)."""
    record = world.lock.record
    if generation is not None:
        assert record.current_generation == generation
    assert (record.holder, record.claim) == (None, None)
    assert world.locked_out() == []
    first, *others = served(world).values()
    assert first[:2] == (record.current_generation, record.current_generation)
    assert all(other == first for other in others)


def assert_on_record(world: MemoryWorld) -> None:
    """Check that both chains are whole, no run has two entries, and each head names an entry (invariant I7)."""
    for stream in world.audit_logs:
        found = entries(world, stream)
        recorded = [rotation_of(e) for e in found]
        assert len(recorded) == len(set(recorded)), f"a run has two entries: {recorded}"
        head = world.lock.record.heads.get(stream)
        if head:
            assert head.hash == found[head.seq - 1].hash
