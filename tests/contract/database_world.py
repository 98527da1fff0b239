"""Rotations of the accounts of a real database, between clouds in memory."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec import structs

from lockstep.databases import mariadb
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import ClaimKind, CredentialValue, Login
from lockstep.protocol.ports import Database
from tests.contract.database_harness import SqlHarness
from tests.support.memory import MemoryDatabase
from tests.support.world import INTERVAL_SECONDS, make_world, rotate, rotate_again

STEADY = 3
"""Rotations at the beginning: each account has had a password that is superseded by then."""


@dataclass
class Refusals:
    """What a server was shown: refusals, and the longest run of them on one account.

    Attributes:
        point: Called before and after each login.
    """

    refused: int = 0
    most: int = 0
    point: Callable[[], None] = lambda: None
    _in_a_row: Counter[str] = field(default_factory=Counter)

    def watch(self, database: Database) -> None:
        """Count the logins of an adapter from now on, its own while staging included."""
        genuine = database.accepts

        def accepts(login: Login) -> bool:
            self.point()
            try:
                accepted = genuine(login)
            except LockstepError as error:
                if "stage" in error.where:  # A pooler's refusal.
                    self._count(login, accepted=False)
                raise
            self._count(login, accepted=accepted)
            self.point()
            return accepted

        database.accepts = accepts  # type: ignore[method-assign]

    def _count(self, login: Login, *, accepted: bool) -> None:
        self.refused += not accepted
        self._in_a_row[login.username] = 0 if accepted else self._in_a_row[login.username] + 1
        self.most = max(self.most, self._in_a_row[login.username])

    def forget(self, username: str) -> None:
        """The server has set an account's own count back."""
        self._in_a_row[username] = 0


class World:
    """Rotations of the real accounts, between clouds in memory; the other database, if there is one, loses nothing.

    Attributes:
        refusals: What the successor was shown.
    """

    def __init__(self, harness: SqlHarness, *, has_other: bool = False) -> None:
        self.refusals = Refusals()
        self.harness, self._server = harness, harness.server
        self._databases: dict[str, Any] = {harness.server.name: harness.database}
        credential, planned = harness.credential, [harness.server]
        if has_other:
            planned.append(structs.replace(harness.server, name="other"))
            self._databases["other"] = MemoryDatabase("other", credential.strategy, credential.usernames)
        credential = structs.replace(credential, servers=tuple(planned))
        self.memory = make_world(self._databases, credentials=credential, placeholder=True)
        self._databases = self.memory.databases  # type: ignore[assignment]  # the real one among doubles
        rotate(self.memory, "first")
        for number in range(1, STEADY):
            rotate_again(self.memory, f"steady-{number}")

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Inside, what MariaDB's rotation user takes back is no refusal in a row."""
        genuine = mariadb._Account.forget_refusals

        def forget(account: Any, username: str) -> None:  # noqa: ANN401 - of another module's own
            genuine(account, username)
            self.refusals.forget(username)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mariadb._Account, "forget_refusals", forget)
            yield

    def fail_over(self, port: int) -> None:
        """The name of the real database leads to another server from now on, which is told what it is shown."""
        self._server = structs.replace(self._server, port=port)
        successor = self.harness.open(port=port)
        self.refusals.watch(successor)
        self._databases[self._server.name] = successor

    def run(self, *, forced: bool = False) -> ClaimKind | None:
        """The next run, of the other cloud: at its trigger, or at once by hand; what it was, None for nothing."""
        if not forced:
            self.memory.clock.sleep(INTERVAL_SECONDS)
        promoted = rotate(self.memory, "cure", runner="oci", force=forced).promoted
        return ClaimKind(promoted.kind) if promoted else None

    def served(self) -> list[Login]:
        """What each store serves."""
        found = [store.current_login() for store in self.memory.stores.values()]
        return [login for login in found if login]

    def current(self) -> CredentialValue:
        """What the first store serves."""
        login, *_ = self.served()
        return CredentialValue(self.memory.lock.record.highest_generation, login)

    def works(self, login: Login) -> bool:
        """Whether it logs in on every database; this is not counted."""
        successor = self.harness.open(port=self._server.port)
        others = [d for name, d in self._databases.items() if name != self._server.name]
        return all(database.accepts(login) for database in (successor, *others))

    def assert_cured(self) -> None:
        """Both stores serve one login, which works on every database, and nobody is asked for anything."""
        first, second = self.served()
        assert first == second
        assert self.works(first)
        record = self.memory.lock.record
        assert (record.holder, record.claim) == (None, None)
        assert (record.blocked, record.take_over) == (frozenset(), frozenset())

    def assert_goes_on(self) -> None:
        """The rotation after the cure makes a new value beside the one that the cure serves."""
        cured, *_ = self.served()
        rotate_again(self.memory, "following")
        self.assert_cured()
        assert self.served()[0] != cured
        assert self.works(cured)
        assert self.refusals.most <= 1
