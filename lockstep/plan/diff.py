"""What changes between two plans, and the order in which it is safe (protocol O12).

Pure. The old plan is the file of the plan that is active; its digest alone does not say what it stood for.

A value that an application reads must log in wherever that application uses it. So what leaves (a database, a store) is
left by its readers first, what comes is used by its readers last, and the plan becomes active in between. What
no order makes safe is refused. Only the operator knows that the readers of what leaves are gone: `lockstep apply` wants
it named.
"""

from collections.abc import Iterator
from typing import Literal, get_args

from msgspec import Struct

from lockstep.plan.compiled import AwsStore, Store
from lockstep.plan.fields import format_duration
from lockstep.plan.model import Plan
from lockstep.protocol.model import Credential
from lockstep.protocol.strict_json import Message

Phase = Literal["readers_first", "prepare", "activate", "readers_last", "clean_up"]
"""When a step is done, in this order."""


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
    found = [*_lock(old, new), *_stores(old, new), *_credentials(old, new)]
    refusals = tuple(f for f in found if isinstance(f, Refusal))
    steps = sorted(
        (f for f in found if isinstance(f, Step)), key=lambda step: get_args(Phase).index(step.phase)
    )
    return PlanChanges(safe=not refusals, refusals=refusals, steps=tuple(steps))


Found = Iterator[Step | Refusal]


def _comes(what: str, prepare: str, readers: str) -> Found:
    yield Step("prepare", what, prepare)
    yield Step("readers_last", what, f"applications may {readers} it")


def _leaves(what: str, readers: str, afterwards: str) -> Found:
    yield Step("readers_first", what, f"no application {readers}")
    yield Step("clean_up", what, afterwards)


def _lock(old: Plan, new: Plan) -> Found:
    if old.lock != new.lock:
        why = "two tables know nothing of each other's claims: pause every credential under the old plan"
        yield Step("readers_first", "lock", why)
        yield Step("prepare", "lock", "wait until no lease is held, then make the new table")


def _stores(old: Plan, new: Plan) -> Found:
    before, after = ({_place(store): store for store in plan.compiled.stores} for plan in (old, new))
    for place, store in before.items():
        what = f"store {store.name}"
        if place not in after:
            readers = "reads it any more; what it holds afterwards is revoked by a later rotation"
            yield from _leaves(what, readers, "delete its secrets: they hold logins that no longer work")
        elif not isinstance(store, AwsStore) and old.slots != new.slots:
            yield Refusal(
                what,
                "a vault that is the first store keeps each secret in one slot, and any other in a ring of several; "
                "leave it first, or behind another store, as it is",
            )
    for place, store in after.items():
        if place not in before:
            make = "create its secrets with placeholders, and give rights"
            yield from _comes(f"store {store.name}", make, "read")


def _place(store: Store) -> tuple[str, ...]:
    """Where its readers find it: of OCI they look for slots by vault and compartment."""
    in_vault = () if isinstance(store, AwsStore) else (store.vault_id, store.compartment_id)
    return (store.name, store.region, *in_vault)


def _credentials(old: Plan, new: Plan) -> Found:
    stores = {store.name for store in old.stores} - {store.name for store in new.stores}
    for before in old.credentials:
        if after := new.credential(before.id):
            yield from _credential(before, after, stores)
        else:
            yield from _leaves(before.id, "uses it any more", "delete its secrets and its accounts")
    for after in new.credentials:
        if not old.credential(after.id):
            make = "create its accounts (`lockstep plan sql`) and its secrets with placeholders"
            yield from _comes(after.id, make, "use")
            yield Step("activate", after.id, "import its login, or take over its databases")


def _credential(old: Credential, new: Credential, stores: set[str]) -> Found:
    """What changes for a credential.

    Args:
        old: As it is.
        new: As it becomes.
        stores: The names of those that leave.
    """
    fixed = ("strategy", "usernames", "account_host", "secret_names")
    if changed := [name for name in fixed if getattr(old, name) != getattr(new, name)]:
        yield Refusal(
            new.id,
            f"{', '.join(changed)} of an id never changes: applications would keep logins that a later rotation "
            "revokes; make a credential with another id, and move its applications there",
        )
        return
    yield from _databases(old, new)
    before, after = old.schedule.overlap, new.schedule.overlap
    if after < before:
        do = f"applications keep a value for less than {format_duration(after)}, the new overlap"
        yield Step("readers_first", new.id, do)
    elif after > before:
        do = f"applications may keep a value for up to {format_duration(after)}"
        yield Step("readers_last", new.id, do)
    if old.plan_digest != new.plan_digest:
        leaving = sorted((set(old.databases) - set(new.databases)) | stores)
        options = "".join(f" --drop {name}" for name in leaving)
        do = (
            f"deploy the plan to both clouds, then: lockstep apply {new.id} --from {old.plan_digest}{options}"
        )
        yield Step("activate", new.id, do)


def _databases(old: Credential, new: Credential) -> Found:
    # What makes a database the same one.
    before, after = ({(s.name, s.engine, s.host, s.port): s for s in c.servers} for c in (old, new))
    for key, server in before.items():
        where, address = f"{new.id}, database {server.name}", f"{server.host}:{server.port}"
        if key not in after:
            afterwards = f"its accounts at {address} keep their last passwords: remove them"
            yield from _leaves(where, f"uses it at {address} any more", afterwards)
        else:
            hosts = {end.name for end in server.verify_hosts} - {end.name for end in after[key].verify_hosts}
            for host in sorted(hosts):
                yield Step("readers_first", where, f"no application uses it at {host} any more")
    for key, server in after.items():
        if key not in before:
            order = f"lockstep take-over {new.id} {server.name}"
            make = f"create its accounts (`lockstep plan sql`), and name it for take-over: {order}"
            yield from _comes(f"{new.id}, database {server.name}", make, "use")
