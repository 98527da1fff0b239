"""What an operator does in a credential's life: each act is a generator that lets some minutes pass at each `yield`.

An act says which errors of runs it makes likely. A run that fails in any other way, while nothing is out of order,
breaks I8.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import TypeAlias

from lockstep.protocol.errors import (
    CurrentCredentialRejectedError,
    DatabaseBlockedError,
    LockstepError,
    PlanNotActiveError,
    PreviousCredentialAcceptedError,
    StoresDivergedError,
    TakeOverNeededError,
)
from lockstep.protocol.model import LockRecord
from tests.proof.life import ALL_DATABASES, CREDENTIAL_ID, STORES, Edition, LifeObserver, LifeWorld
from tests.support.memory_database import Account
from tests.support.world import known_logins

Act: TypeAlias = Iterator[None]
STEP_MINUTES = 5
LONGEST_WAIT_STEPS = 12
"""How long an operator takes for the next thing, at most: an hour."""
SHORTEST_INTERVAL_MINUTES, LONGEST_INTERVAL_MINUTES = 20, 30
FOREIGN = "set-by-a-dba"


class Operator:
    """Does one thing after the other.

    Attributes:
        edition: The plan that is active, or is to become so.
        expected: The errors of runs that are no surprise now.
        done: How often each act was done.
    """

    def __init__(self, world: LifeWorld, observer: LifeObserver, dice: random.Random) -> None:
        self.edition: Edition = world.deployed["aws"]
        self.expected: set[str] = set()
        self.done: Counter[str] = Counter()
        self._world = world
        self._observer = observer
        self._dice = dice
        self._databases = world.memory.databases
        self._backups = {d: deepcopy(database.accounts) for d, database in self._databases.items()}
        self._past: dict[str, list[dict[str, Account]]] = {d: [] for d in self._databases}

    @property
    def is_busy(self) -> bool:
        """Whether an act keeps runs from rotating."""
        return bool(self.expected) or self._world.record.paused

    def back_up(self, database: str) -> None:
        """Keep a copy of a database's accounts."""
        self._backups[database] = deepcopy(self._databases[database].accounts)

    def note(self) -> None:
        """Keep what the databases accept, if that has changed: a replica may be that far behind."""
        for name, database in self._databases.items():
            past = self._past[name]
            if not past or past[-1] != database.accounts:
                self._past[name] = [*past, deepcopy(database.accounts)][-4:]

    def do(self, name: str) -> Act:
        """One act, counted when it has come to its end."""
        yield from getattr(self, name)()
        self.done[name] += 1

    def bootstrap(self) -> Act:
        """The schedules run before any order; then the plan is activated, and accounts are taken over."""
        with self._expecting(PlanNotActiveError, TakeOverNeededError):
            yield from self._some_time()
            self._activate()
            yield from self._some_time()
            self._world.order(take_over=frozenset(self.edition.databases))
            yield from self._until(self._in_sync)
            self._observer.readers.update(self.edition.databases)

    def plan_change(self) -> Act:
        """Another plan, deployed to one cloud after the other, and activated before, between or after that."""
        before, after = self.edition, self._another_edition()
        added = set(after.databases).difference(before.databases)
        # Readers leave first, and come last (protocol O12).
        self._observer.readers -= set(before.databases).difference(after.databases)
        for database in added:
            self._databases[database].accounts = {"app": Account(passwords=(FOREIGN,))}
        self.edition = after
        steps = [partial(self._world.deployed.__setitem__, runner, after) for runner in STORES]
        orders: list[Callable[[], None]] = [*steps, partial(self._activate, *added)]
        self._dice.shuffle(orders)
        with self._expecting(PlanNotActiveError):
            for order in orders:
                order()
                yield from self._some_time()
            yield from self._until(self._in_sync)
            self._observer.readers |= added

    def restore(self) -> Act:
        """A database comes back from a backup that knows only old passwords; the operator orders its take-over."""
        database = self._dice.choice(sorted(self._observer.readers))
        with self._expecting(
            CurrentCredentialRejectedError,
            DatabaseBlockedError,
            PreviousCredentialAcceptedError,
            StoresDivergedError,
        ):
            self._observer.restored.add(database)
            with self._observer.by_a_person():
                self._databases[database].accounts = deepcopy(self._backups[database])
            yield from self._some_time()
            self._world.order(take_over=self._world.record.take_over | {database})
            yield from self._until(lambda: not self._world.record.take_over and self._in_sync())
            self._observer.restored.discard(database)

    def fail_over(self, lost: int = 1) -> Act:
        """A database fails over to a replica that lacks its last change; nobody does anything about it."""
        database = self._dice.choice(sorted(self._observer.readers))
        yield from self._until(lambda: self._in_sync() and len(self._past[database]) > lost)
        with self._observer.by_a_person():
            self._observer.failed_over.add(database)
            self._databases[database].accounts = deepcopy(self._past[database][-1 - lost])
        yield from self._until(lambda: database not in self._observer.failed_over)
        yield from self._until(self._in_sync)

    def fail_over_twice(self) -> Act:
        """The replica lacks the last two changes."""
        yield from self.fail_over(lost=2)

    def emergency(self) -> Act:
        """A value has leaked: everything up to now is to be revoked."""
        self._world.order(revoke_through=self._world.record.highest_generation)
        yield from self._until(lambda: not self._world.record.is_revoking)

    def pause(self) -> Act:
        """No run for a while."""
        self._world.order(paused=True)
        yield from self._some_time()
        self._world.order(paused=False)
        yield from self._until(self._in_sync)

    def edit(self) -> Act:
        """A person moves a store back to the value before the current one, which still works."""
        yield from self._until(lambda: self._in_sync() and self._previous() is not None)
        store = self._world.memory.stores["aws"]
        found = store.secret("app_user").read_generation(self._previous() or 0)
        assert found
        assert found.text
        with self._observer.by_a_person():
            store.edit("app_user", found.text)
        yield from self._until(self._in_sync)

    def lost_table(self) -> Act:
        """The lock table is lost while no run is under way, made again empty, and the plan activated again."""
        with self._expecting(PlanNotActiveError):
            self._world.memory.lock.record = LockRecord(credential_id=CREDENTIAL_ID)
            yield from self._some_time()
            self._activate()
            yield from self._until(self._in_sync)

    def retire(self) -> Act:
        """At rest, the credential is paused for good."""
        yield from self._until(self._in_sync)
        self._world.order(paused=True)
        yield from self._some_time()

    # What acts are made of.

    def _another_edition(self) -> Edition:
        now = self.edition
        minutes = SHORTEST_INTERVAL_MINUTES + LONGEST_INTERVAL_MINUTES - now.minutes
        choices = [now._replace(minutes=minutes)]
        if len(now.databases) < len(ALL_DATABASES):
            free = [d for d in ALL_DATABASES if d not in now.databases]
            choices += [now._replace(databases=(*now.databases, self._dice.choice(free)))] * 2
        if len(now.databases) > 1:
            leaving = self._dice.choice(now.databases)
            choices += [now._replace(databases=tuple(d for d in now.databases if d != leaving))] * 2
        return self._dice.choice(choices)

    def _activate(self, *added: str) -> None:
        take_over = self._world.record.take_over.union(added)
        self._world.order(activate=self.edition.credential.plan_digest, take_over=take_over)

    def _in_sync(self) -> bool:
        record = self._world.record
        at_rest = record.claim is None and record.holder is None and record.current_generation is not None
        is_active = (record.plan, record.activate) == (self.edition.credential.plan_digest, None)
        return at_rest and is_active and set(self._world.generations()) == {record.current_generation}

    def _previous(self) -> int | None:
        """The newest generation below the current one that logs in wherever applications use it."""
        record, let_in = self._world.record, known_logins(self._world.memory)
        for generation in sorted(record.valid - {record.current_generation}, reverse=True):
            login = self._observer.holds(generation)["aws"]
            if all(login in let_in[d] for d in self._observer.readers):
                return generation
        return None

    def _some_time(self) -> Act:
        for _ in range(self._dice.randrange(LONGEST_WAIT_STEPS)):
            yield

    def _until(self, is_so: Callable[[], bool]) -> Act:
        yield
        while not is_so():
            yield

    @contextmanager
    def _expecting(self, *errors: type[LockstepError]) -> Iterator[None]:
        self.expected = {error.__name__ for error in errors}
        yield
        self.expected = set()
