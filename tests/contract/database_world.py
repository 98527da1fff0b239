"""Rotations of the accounts of a real database, between clouds in memory, and what the doctor sees of it."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import structs

from lockstep.databases import mariadb
from lockstep.databases.findings import HERE, Finding, Outcome
from lockstep.databases.inspect import Inspector
from lockstep.operate.doctor.servers import EVERY_CHECK, Databases
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import ClaimKind, Credential, CredentialValue, DatabaseServer, LockRecord, Login
from lockstep.protocol.ports import Database
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.clouds import inspector_of, open_database
from tests.contract.database_harness import ADMIN, SqlHarness
from tests.support.memory import FakeClock
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
    """Rotations of the real accounts, between clouds in memory.

    Attributes:
        refusals: What the successor was shown.
    """

    def __init__(self, harness: SqlHarness) -> None:
        self.refusals = Refusals()
        self.harness, self._server = harness, harness.server
        credential = structs.replace(harness.credential, servers=(harness.server,))
        databases: dict[str, Any] = {harness.server.name: harness.database}
        self.memory = make_world(databases, credentials=credential, placeholder=True)
        self._databases: Any = self.memory.databases  # The real one is among doubles.
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
        """Whether it logs in; this is not counted."""
        return self.harness.open(port=self._server.port).accepts(login)

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


class DoctorWorld:
    """What `lockstep.runtime.clouds.Clouds` gives the doctor, around the server of a harness.

    Attributes:
        folder: For files of a test.
        server: As the plan has it; a test may replace it.
        admin: The rotation user's login; an error: it cannot be read.
        serving: What both stores serve when they are asked.
        timeouts: Of looks; one at a database whose lock somebody holds ends soon.
        logged: What the server has written into its log since this was made.
    """

    def __init__(self, harness: SqlHarness, folder: Path) -> None:
        self.folder, self.harness = folder, harness
        self.server, self.credential = harness.server, harness.credential
        self.admin: Login | LockstepError = ADMIN
        self.record = LockRecord(credential_id=harness.credential.id)
        self.base = harness.value(1)
        self.serving: Callable[[], CredentialValue] = lambda: self.base
        self.clock, self.side_by_side = FakeClock(), one_after_the_other
        self.where, self.timeouts = HERE, Timeouts(lock_seconds=1)
        self.logged = harness.sandbox.watch_general_log()

    def accept_base(self) -> None:
        """Let the server accept what the stores serve, as a rotation has left it."""
        self.harness.stage(None, self.base, self.harness.open())

    def serve(self, value: CredentialValue) -> None:
        self.serving = lambda: value

    def logins(self) -> int:
        """How often the credential's accounts were shown a login, by the server's log."""
        # The first thing that the doctor asks as a role; each account has a test of its own.
        asks = "SELECT current_user::text" if self.harness.is_postgresql else r"Connect\t(?:{names})@"
        return self._count(asks) + (self.refusals() if self.harness.is_postgresql else 0)

    def refusals(self) -> int:
        """How often the credential's accounts were refused, by the server's log."""
        of_postgresql = r"password authentication failed for user \"(?:{names})\""
        of_others = r"Connect\tAccess denied for user '(?:{names})'@"
        return self._count(of_postgresql if self.harness.is_postgresql else of_others)

    def _count(self, line: str) -> int:
        names = "|".join(map(re.escape, self.credential.usernames))
        return len(re.findall(line.replace("{names}", names), self.logged.added()))

    # What the doctor asks of `Clouds`.

    def inspector(self, server: DatabaseServer, credential: Credential) -> Inspector[Any]:
        reached = open_database(server, credential, self._admin, timeouts=self.timeouts)
        return inspector_of(server.engine)(reached)

    def _admin(self) -> Login:
        if isinstance(self.admin, LockstepError):
            raise self.admin
        return self.admin

    def lock(self, _credential: Credential) -> object:
        return SimpleNamespace(read=lambda: self.record)

    def each_store(self, _credential: Credential) -> Sequence[object]:
        return [
            SimpleNamespace(name=name, read_login=lambda: self.serving().login) for name in ("aws", "oci")
        ]

    # Results

    def look(self) -> "Seen":
        """Look once, as one run of the doctor does."""
        credential = structs.replace(self.credential, servers=(self.server,))
        seen = Seen([credential], self, where=self.where)  # type: ignore[arg-type]  # what it asks of Clouds is above
        seen.everything()  # What is not asked for is not looked at.
        return seen


class Seen(Databases):
    """What one look has found."""

    def outcomes(self, check: str) -> set[Outcome]:
        """What became of a check."""
        return {answer.outcome for answer in self.found(check)}

    def everything(self) -> list[Finding]:
        """All findings."""
        return self.found(*EVERY_CHECK)

    def complaints(self) -> list[Finding]:
        """All that did not pass."""
        return [answer for answer in self.everything() if answer.outcome is not Outcome.PASSED]
