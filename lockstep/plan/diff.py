"""What changes between two plans, and the order in which it is safe (protocol O12).

Pure. The old plan is the file of the plan that is active; its digest alone does not say what it stood for.

A value that an application reads must log in wherever that application uses it. So what leaves (a database, a store) is
left by its readers first, what comes is used by its readers last, and the plan becomes active in between. What
no order makes safe is refused; what leaves must be named, because only the operator knows that its readers are gone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from lockstep.plan.compiled import AwsStore, Store
from lockstep.plan.fields import format_duration
from lockstep.plan.model import Plan
from lockstep.protocol.model import Credential, DatabaseServer


class Phase(IntEnum):
    """When a step is done, in this order."""

    READERS_FIRST = 1
    PREPARE = 2
    ACTIVATE = 3
    READERS_LAST = 4
    CLEAN_UP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something to do. Steps of one phase may be done in any order.

    Attributes:
        phase: When.
        what: What it is about: a credential's id, or a path in the plan.
        text: What to do.
    """

    phase: Phase
    what: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A change that is not safe in any order, or not in one step.

    Attributes:
        what: As in `Step`.
        text: Why, and what is safe instead.
    """

    what: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChanges:
    """What lies between two plans.

    Attributes:
        steps: In the order in which they are safe; empty if nothing that matters has changed.
        refusals: If there is one, the new plan must not be deployed.
    """

    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]


def plan_changes(old: Plan, new: Plan, *, drop: Iterable[str] = ()) -> PlanChanges:
    """Compare two plans.

    Args:
        old: The plan that is active.
        new: The plan that is to become active.
        drop: What leaves, after its readers, by name: databases, stores, credentials, the lock table.
    """
    dropped = frozenset(drop)
    comparison = _Comparison(old, new, dropped)
    found = [*comparison.lock(), *comparison.stores(), *comparison.credentials()]
    found += [
        Refusal(what="--drop", text=f"{name} does not leave") for name in sorted(dropped - comparison.leaving)
    ]
    steps = sorted((f for f in found if isinstance(f, Step)), key=lambda step: step.phase)
    return PlanChanges(steps=tuple(steps), refusals=tuple(f for f in found if isinstance(f, Refusal)))


Found = Iterator[Step | Refusal]


class _Comparison:
    """One comparison.

    Attributes:
        leaving: The names of what leaves, of all that was compared so far.
    """

    def __init__(self, old: Plan, new: Plan, dropped: frozenset[str]) -> None:
        self._old = old
        self._new = new
        self._dropped = dropped
        self.leaving: set[str] = set()

    def lock(self) -> Found:
        """The lock table."""
        if self._old.lock == self._new.lock:
            return
        table = self._old.lock.table
        if not self._leaves(table):
            yield Refusal(
                what="lock",
                text="two tables know nothing of each other's claims; pause every credential under the old plan, in "
                f"both clouds, wait until no lease is held, and add --drop {table}",
            )
            return
        yield Step(phase=Phase.READERS_FIRST, what="lock", text="pause every credential under the old plan")
        yield Step(
            phase=Phase.PREPARE, what="lock", text="wait until no lease is held, then make the new table"
        )

    def stores(self) -> Found:
        """Stores that come, leave or move."""
        olds, news = self._old.compiled.stores, self._new.compiled.stores
        for old in olds:
            new = next((new for new in news if _place(new) == _place(old)), None)
            if new is None:
                yield from self._left(
                    old.name,
                    f"store {old.name}",
                    "no application reads it any more; what it holds afterwards dies at a later rotation",
                    "delete its secrets: they hold logins that no longer work",
                )
            elif not isinstance(old, AwsStore) and self._old.slots != self._new.slots:
                yield Refusal(
                    what=f"store {old.name}",
                    text="a vault that is the first store keeps each secret in one slot, and any other in a ring of "
                    "several; leave it first, or behind another store, as it is",
                )
        for new in news:
            if all(_place(new) != _place(old) for old in olds):
                what = f"store {new.name}"
                yield Step(
                    phase=Phase.PREPARE,
                    what=what,
                    text="create its secrets with placeholders, and give rights",
                )
                yield Step(phase=Phase.READERS_LAST, what=what, text="applications may read it")

    def credentials(self) -> Found:
        """Each credential of either plan."""
        news = {credential.id: credential for credential in self._new.credentials}
        for old in self._old.credentials:
            if new := news.pop(old.id, None):
                yield from self._credential(old, new)
            else:
                yield from self._left(
                    old.id, old.id, "no application uses it any more", "delete its secrets and its accounts"
                )
        for new in news.values():
            yield Step(
                phase=Phase.PREPARE,
                what=new.id,
                text="create its accounts (`lockstep plan sql`) and its secrets with placeholders",
            )
            yield Step(phase=Phase.ACTIVATE, what=new.id, text="import its login, or take over its databases")
            yield Step(phase=Phase.READERS_LAST, what=new.id, text="applications may use it")

    def _credential(self, old: Credential, new: Credential) -> Found:
        refusals = list(_what_never_changes(old, new))
        yield from refusals
        if refusals:
            return
        yield from self._databases(old, new)
        yield from _overlaps(old, new)
        if old.plan_digest != new.plan_digest:
            options = "".join(f" --drop {name}" for name in sorted(self._dropped & self._left_of(old, new)))
            yield Step(
                phase=Phase.ACTIVATE,
                what=new.id,
                text="deploy the plan to both clouds, then: "
                f"lockstep apply {new.id} --from {old.plan_digest}{options}",
            )

    def _databases(self, old: Credential, new: Credential) -> Found:
        after = {server.name: server for server in new.servers}
        before = {server.name: server for server in old.servers}
        for name, server in before.items():
            where = f"{new.id}, database {name}"
            stays = after.get(name)
            if stays is None or _server(stays) != _server(server):
                address = f"{server.host}:{server.port}"
                yield from self._left(
                    name,
                    where,
                    f"no application uses it at {address} any more",
                    f"its accounts at {address} keep their last passwords: remove them",
                )
                continue
            for host in sorted({(v.host, v.port) for v in server.verify_hosts} - _verified(stays)):
                yield Step(
                    phase=Phase.READERS_FIRST,
                    what=where,
                    text=f"no application uses it at {host[0]}:{host[1]} any more",
                )
        for name, server in after.items():
            where = f"{new.id}, database {name}"
            if name not in before or _server(before[name]) != _server(server):
                yield Step(
                    phase=Phase.PREPARE,
                    what=where,
                    text="create its accounts (`lockstep plan sql`), and name it for take-over: "
                    f"lockstep take-over {new.id} {name}",
                )
                yield Step(phase=Phase.READERS_LAST, what=where, text="applications may use it")

    def _left(self, name: str, what: str, readers: str, afterwards: str) -> Found:
        """What leaves: with consent the steps, else a refusal."""
        if not self._leaves(name):
            yield Refusal(what=what, text=f"it would leave; when {readers}, add --drop {name}")
            return
        yield Step(phase=Phase.READERS_FIRST, what=what, text=readers)
        yield Step(phase=Phase.CLEAN_UP, what=what, text=afterwards)

    def _leaves(self, name: str) -> bool:
        self.leaving.add(name)
        return name in self._dropped

    def _left_of(self, old: Credential, new: Credential) -> set[str]:
        """The names that `lockstep apply` wants for a credential: databases and stores that it has no more."""
        stores = {store.name for store in self._old.stores} - {store.name for store in self._new.stores}
        return (set(old.databases) - set(new.databases)) | stores


def _place(store: Store) -> tuple[str, ...]:
    """Where its readers find it: of OCI they look for slots by vault and compartment."""
    in_vault = () if isinstance(store, AwsStore) else (store.vault_id, store.compartment_id)
    return (store.name, store.region, *in_vault)


def _what_never_changes(old: Credential, new: Credential) -> Iterator[Refusal]:
    another = "make a credential with another id, and move its applications there"
    if old.strategy is not new.strategy:
        yield Refusal(what=new.id, text=f"the strategy of an id never changes; {another}")
        return
    if new.usernames != old.usernames:
        yield Refusal(
            what=new.id,
            text=f"the usernames {', '.join(old.usernames)} stay, in this order; {another}",
        )
    if old.account_host != new.account_host:
        yield Refusal(what=new.id, text=f"account_host: its accounts would be others; {another}")
    if old.secret_names != new.secret_names:
        names = f"{old.secret_names.app_user} and {old.secret_names.connection_blob}"
        yield Refusal(
            what=new.id,
            text=f"readers of its secrets {names} would keep a value that dies at a later rotation; {another}",
        )


def _overlaps(old: Credential, new: Credential) -> Found:
    before, after = old.schedule.overlap, new.schedule.overlap
    if after < before:
        yield Step(
            phase=Phase.READERS_FIRST,
            what=new.id,
            text=f"applications keep a value for less than {format_duration(after)}, the new overlap",
        )
    if after > before:
        yield Step(
            phase=Phase.READERS_LAST,
            what=new.id,
            text=f"applications may keep a value for up to {format_duration(after)}",
        )


def _server(server: DatabaseServer) -> tuple[object, ...]:
    """What makes a database of the same name the same one."""
    return server.engine, server.host, server.port


def _verified(server: DatabaseServer) -> set[tuple[str, int]]:
    return {(host.host, host.port) for host in server.verify_hosts}
