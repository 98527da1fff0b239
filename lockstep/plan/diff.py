"""What changes between two plans, and the order in which it is safe (protocol O12).

Pure. The old plan is the file of the plan that is active; its digest alone does not say what it stood for.

A value that an application reads must log in wherever that application uses it. So what leaves (a database, a store) is
left by its readers first, what comes is used by its readers last, and the plan becomes active in between. What
no order makes safe is refused. Only the operator knows that the readers of what leaves are gone: `lockstep apply` wants
it named.
"""

from collections.abc import Iterator
from enum import StrEnum, auto

from msgspec import Struct

from lockstep.plan.compiled import AwsStore, Store
from lockstep.plan.fields import format_duration
from lockstep.plan.model import Plan
from lockstep.protocol.model import Credential, DatabaseServer
from lockstep.protocol.strict_json import Message


class Phase(StrEnum):
    """When a step is done, in this order."""

    READERS_FIRST = auto()
    PREPARE = auto()
    ACTIVATE = auto()
    READERS_LAST = auto()
    CLEAN_UP = auto()


class Step(Struct, frozen=True):
    """Something to do. Steps of one phase may be done in any order.

    Attributes:
        phase: When.
        what: What it is about: a credential's id, or a path in the plan.
        do: What to do.
    """

    phase: Phase
    what: str
    do: str


class Refusal(Struct, frozen=True):
    """A change that is not safe in any order.

    Attributes:
        what: As in `Step`.
        why: Why, and what is safe instead.
    """

    what: str
    why: str


class PlanChanges(Message):
    """What lies between two plans.

    Attributes:
        safe: Whether the new plan may be deployed: nothing is refused.
        refusals: Why not.
        steps: In the order in which they are safe; empty if nothing that matters has changed.
    """

    safe: bool
    refusals: tuple[Refusal, ...]
    steps: tuple[Step, ...]


def plan_changes(old: Plan, new: Plan) -> PlanChanges:
    """Compare two plans.

    Args:
        old: The plan that is active.
        new: The plan that is to become active.
    """
    comparison = _Comparison(old, new)
    found = [*comparison.lock(), *comparison.stores(), *comparison.credentials()]
    refusals = tuple(f for f in found if isinstance(f, Refusal))
    steps = sorted((f for f in found if isinstance(f, Step)), key=lambda step: list(Phase).index(step.phase))
    return PlanChanges(safe=not refusals, refusals=refusals, steps=tuple(steps))


Found = Iterator[Step | Refusal]


class _Comparison:
    """One comparison."""

    def __init__(self, old: Plan, new: Plan) -> None:
        self._old = old
        self._new = new

    def lock(self) -> Found:
        """The lock table."""
        if self._old.lock == self._new.lock:
            return
        yield Step(
            Phase.READERS_FIRST,
            "lock",
            "two tables know nothing of each other's claims: pause every credential under the old plan",
        )
        yield Step(Phase.PREPARE, "lock", "wait until no lease is held, then make the new table")

    def stores(self) -> Found:
        """Stores that come, leave or move."""
        olds, news = self._old.compiled.stores, self._new.compiled.stores
        for old in olds:
            new = next((new for new in news if _place(new) == _place(old)), None)
            if new is None:
                yield from _left(
                    f"store {old.name}",
                    "no application reads it any more; what it holds afterwards is revoked by a later rotation",
                    "delete its secrets: they hold logins that no longer work",
                )
            elif not isinstance(old, AwsStore) and self._old.slots != self._new.slots:
                yield Refusal(
                    f"store {old.name}",
                    "a vault that is the first store keeps each secret in one slot, and any other in a ring of "
                    "several; leave it first, or behind another store, as it is",
                )
        for new in news:
            if all(_place(new) != _place(old) for old in olds):
                what = f"store {new.name}"
                yield Step(Phase.PREPARE, what, "create its secrets with placeholders, and give rights")
                yield Step(Phase.READERS_LAST, what, "applications may read it")

    def credentials(self) -> Found:
        """Each credential of either plan."""
        news = {credential.id: credential for credential in self._new.credentials}
        for old in self._old.credentials:
            if new := news.pop(old.id, None):
                yield from self._credential(old, new)
            else:
                yield from _left(
                    old.id, "no application uses it any more", "delete its secrets and its accounts"
                )
        for new in news.values():
            yield Step(
                Phase.PREPARE,
                new.id,
                "create its accounts (`lockstep plan sql`) and its secrets with placeholders",
            )
            yield Step(Phase.ACTIVATE, new.id, "import its login, or take over its databases")
            yield Step(Phase.READERS_LAST, new.id, "applications may use it")

    def _credential(self, old: Credential, new: Credential) -> Found:
        refusals = list(_what_never_changes(old, new))
        yield from refusals
        if refusals:
            return
        yield from self._databases(old, new)
        yield from _overlaps(old, new)
        if old.plan_digest != new.plan_digest:
            options = "".join(f" --drop {name}" for name in sorted(self._left_of(old, new)))
            yield Step(
                Phase.ACTIVATE,
                new.id,
                "deploy the plan to both clouds, then: "
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
                yield from _left(
                    where,
                    f"no application uses it at {address} any more",
                    f"its accounts at {address} keep their last passwords: remove them",
                )
                continue
            for host in sorted({(v.host, v.port) for v in server.verify_hosts} - _verified(stays)):
                yield Step(
                    Phase.READERS_FIRST, where, f"no application uses it at {host[0]}:{host[1]} any more"
                )
        for name, server in after.items():
            where = f"{new.id}, database {name}"
            if name not in before or _server(before[name]) != _server(server):
                yield Step(
                    Phase.PREPARE,
                    where,
                    "create its accounts (`lockstep plan sql`), and name it for take-over: "
                    f"lockstep take-over {new.id} {name}",
                )
                yield Step(Phase.READERS_LAST, where, "applications may use it")

    def _left_of(self, old: Credential, new: Credential) -> set[str]:
        """The names that `lockstep apply` wants for a credential: databases and stores that it has no more."""
        stores = {store.name for store in self._old.stores} - {store.name for store in self._new.stores}
        return (set(old.databases) - set(new.databases)) | stores


def _left(what: str, readers: str, afterwards: str) -> Found:
    yield Step(Phase.READERS_FIRST, what, readers)
    yield Step(Phase.CLEAN_UP, what, afterwards)


def _place(store: Store) -> tuple[str, ...]:
    """Where its readers find it: of OCI they look for slots by vault and compartment."""
    in_vault = () if isinstance(store, AwsStore) else (store.vault_id, store.compartment_id)
    return (store.name, store.region, *in_vault)


def _what_never_changes(old: Credential, new: Credential) -> Iterator[Refusal]:
    another = "make a credential with another id, and move its applications there"
    if old.strategy is not new.strategy:
        yield Refusal(new.id, f"the strategy of an id never changes; {another}")
        return
    if new.usernames != old.usernames:
        yield Refusal(new.id, f"the usernames {', '.join(old.usernames)} stay, in this order; {another}")
    if old.account_host != new.account_host:
        yield Refusal(new.id, f"account_host: its accounts would be others; {another}")
    if old.secret_names != new.secret_names:
        names = f"{old.secret_names.app_user} and {old.secret_names.connection_blob}"
        yield Refusal(
            new.id,
            f"readers of its secrets {names} would keep a password that a later rotation revokes; {another}",
        )


def _overlaps(old: Credential, new: Credential) -> Found:
    before, after = old.schedule.overlap, new.schedule.overlap
    if after < before:
        yield Step(
            Phase.READERS_FIRST,
            new.id,
            f"applications keep a value for less than {format_duration(after)}, the new overlap",
        )
    if after > before:
        yield Step(
            Phase.READERS_LAST, new.id, f"applications may keep a value for up to {format_duration(after)}"
        )


def _server(server: DatabaseServer) -> tuple[object, ...]:
    """What makes a database of the same name the same one."""
    return server.engine, server.host, server.port


def _verified(server: DatabaseServer) -> set[tuple[str, int]]:
    return {(host.host, host.port) for host in server.verify_hosts}
