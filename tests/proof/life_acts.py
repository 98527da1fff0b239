"""What an operator does in a credential's life: each act is a generator that lets some minutes pass at each `yield`.

An act says which errors of runs it makes likely. A run that fails in any other way, while nothing is out of order,
breaks I8.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
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
from tests.proof.life import (
    ALL_DATABASES,
    CREDENTIAL_ID,
    STORES,
    Edition,
    LifeObserver,
    LifeWorld,
)
from tests.support.memory_database import Account

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
        self.done: dict[str, int] = {}
        self._world = world
        self._observer = observer
        self._dice = dice
        self._backups = {d: deepcopy(database.accounts) for d, database in world.memory.databases.items()}
        self._past: dict[str, list[dict[str, Account]]] = {d: [] for d in world.memory.databases}

    @property
    def is_busy(self) -> bool:
        """Whether an act keeps runs from rotating."""
        return bool(self.expected) or self._world.record.paused

    def back_up(self, database: str) -> None:
        """Keep a copy of a database's accounts."""
        self._backups[database] = deepcopy(self._world.memory.databases[database].accounts)

    def note(self) -> None:
        """Keep what the databases accept, if that has changed: a replica may be that far behind."""
        for name, database in self._world.memory.databases.items():
            past = self._past[name]
            if not past or past[-1] != database.accounts:
                self._past[name] = [*past, deepcopy(database.accounts)][-4:]

    def bootstrap(self) -> Act:
        """The schedules run before any order; then the plan is activated, and accounts are taken over."""
        with self._expecting(PlanNotActiveError, TakeOverNeededError):
            yield from self._some_time()
            self._world.order(activate=self.edition.credential.plan_digest)
            yield from self._some_time()
            self._world.order(take_over=frozenset(self.edition.databases))
            yield from self._until(self._in_sync)
            self._observer.readers.update(self.edition.databases)
            self._count("bootstraps")

    def plan_change(self) -> Act:
        """Another plan, deployed to one cloud after the other, and activated before, between or after that."""
        before, after = self.edition, self._another_edition()
        added, dropped = (
            set(x.databases).difference(y.databases) for x, y in ((after, before), (before, after))
        )
        self._observer.readers -= dropped  # Readers leave first, and come last (protocol O12).
        for database in added:
            self._world.memory.databases[database].accounts = {"app": Account(passwords=(FOREIGN,))}
        self.edition = after
        steps: list[Callable[[], None]] = [partial(self._deploy, runner) for runner in STORES]
        steps.append(lambda: self._activate(added))
        self._dice.shuffle(steps)
        with self._expecting(PlanNotActiveError):
            for step in steps:
                step()
                yield from self._some_time()
            yield from self._until(self._in_sync)
            self._observer.readers |= added
            self._count("plan changes")

    def restore(self) -> Act:
        """A database comes back from a backup that knows only old passwords; the operator orders its take-over."""
        database = self._dice.choice(sorted(self._observer.readers))
        errors = (
            CurrentCredentialRejectedError,
            DatabaseBlockedError,
            PreviousCredentialAcceptedError,
            StoresDivergedError,
        )
        with self._expecting(*errors):
            self._observer.restored.add(database)
            with self._observer.by_a_person():
                self._world.memory.databases[database].accounts = deepcopy(self._backups[database])
            yield from self._some_time()
            self._world.order(take_over=self._world.record.take_over | {database})
            yield from self._until(lambda: not self._world.record.take_over and self._in_sync())
            self._observer.restored.discard(database)
            self._count("restores")

    def fail_over(self) -> Act:
        """A database fails over to a replica that lacks its last change; nobody does anything about it."""
        yield from self._fail_over(lost=1)

    def fail_over_twice(self) -> Act:
        """The replica lacks the last two changes."""
        yield from self._fail_over(lost=2)

    def _fail_over(self, *, lost: int) -> Act:
        database = self._dice.choice(sorted(self._observer.readers))
        yield from self._until(lambda: self._in_sync() and len(self._past[database]) > lost)
        with self._observer.by_a_person():
            self._observer.failed_over.add(database)
            self._world.memory.databases[database].accounts = deepcopy(self._past[database][-1 - lost])
        yield from self._until(lambda: database not in self._observer.failed_over)
        yield from self._until(self._in_sync)
        self._count("fail-overs")

    def emergency(self) -> Act:
        """A value has leaked: everything up to now is to be revoked."""
        self._world.order(revoke_through=self._world.record.highest_generation)
        yield from self._until(lambda: not self._world.record.is_revoking)
        self._count("emergencies")

    def pause(self) -> Act:
        """No run for a while."""
        self._world.order(paused=True)
        yield from self._some_time()
        self._world.order(paused=False)
        yield from self._until(self._in_sync)
        self._count("pauses")

    def edit(self) -> Act:
        """A person moves a store back to the value before the current one, which still works."""
        yield from self._until(lambda: self._in_sync() and self._previous() is not None)
        store, previous = self._world.memory.stores["aws"], self._previous()
        found = store.secret("app_user").read_generation(previous or 0)
        assert found
        assert found.text
        with self._observer.by_a_person():
            store.edit("app_user", found.text)
        yield from self._until(self._in_sync)
        self._count("edits")

    def lost_table(self) -> Act:
        """The lock table is lost while no run is under way, made again empty, and the plan activated again."""
        with self._expecting(PlanNotActiveError):
            self._world.memory.lock.record = LockRecord(credential_id=CREDENTIAL_ID)
            yield from self._some_time()
            self._world.order(activate=self.edition.credential.plan_digest)
            yield from self._until(self._in_sync)
            self._count("lost tables")

    def retire(self) -> Act:
        """At rest, the credential is paused for good."""
        yield from self._until(self._in_sync)
        self._world.order(paused=True)
        self._count("retirements")
        yield from self._some_time()

    # What acts are made of.

    def _another_edition(self) -> Edition:
        now = self.edition
        choices = [replace(now, minutes=SHORTEST_INTERVAL_MINUTES + LONGEST_INTERVAL_MINUTES - now.minutes)]
        if len(now.databases) < len(ALL_DATABASES):
            free = [d for d in ALL_DATABASES if d not in now.databases]
            choices += [replace(now, databases=(*now.databases, self._dice.choice(free)))] * 2
        if len(now.databases) > 1:
            leaving = self._dice.choice(now.databases)
            choices += [replace(now, databases=tuple(d for d in now.databases if d != leaving))] * 2
        return self._dice.choice(choices)

    def _deploy(self, runner: str) -> None:
        self._world.deployed[runner] = self.edition

    def _activate(self, added: set[str]) -> None:
        take_over = self._world.record.take_over | added
        self._world.order(activate=self.edition.credential.plan_digest, take_over=take_over)

    def _in_sync(self) -> bool:
        record = self._world.record
        digest = self.edition.credential.plan_digest
        at_rest = record.claim is None and record.holder is None and record.current_generation is not None
        is_active = (record.plan, record.activate) == (digest, None)
        return at_rest and is_active and set(self._world.generations()) == {record.current_generation}

    def _previous(self) -> int | None:
        """The newest generation below the current one that logs in wherever applications use it."""
        record = self._world.record
        for generation in sorted(record.valid - {record.current_generation}, reverse=True):
            login = self._world.holds(generation)["aws"]
            if all(login in self._world.accepted(d) for d in self._observer.readers):
                return generation
        return None

    def _some_time(self) -> Act:
        for _ in range(self._dice.randrange(LONGEST_WAIT_STEPS)):
            yield

    def _until(self, is_so: Callable[[], bool]) -> Act:
        yield
        while not is_so():
            yield

    def _count(self, what: str) -> None:
        self.done[what] = self.done.get(what, 0) + 1

    @contextmanager
    def _expecting(self, *errors: type[LockstepError]) -> Iterator[None]:
        self.expected = {error.__name__ for error in errors}
        yield
        self.expected = set()
