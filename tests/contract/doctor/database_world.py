"""Databases as the doctor sees them: real servers, and stores and lock record in memory."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import structs

from lockstep.databases.findings import HERE, Finding, Outcome
from lockstep.databases.inspect import Inspector
from lockstep.operate.doctor.servers import EVERY_CHECK, Databases
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.errors import LockstepError
from lockstep.protocol.model import Credential, CredentialValue, DatabaseServer, LockRecord, Login
from lockstep.protocol.workers import one_after_the_other
from lockstep.runtime.clouds import inspector_of, open_database
from tests.contract.database_harness import ADMIN, SqlHarness
from tests.support.memory import FakeClock


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
        seen = Seen(Databases([credential], self, where=self.where, silent=frozenset()))  # type: ignore[arg-type]  # what it asks of Clouds is above
        seen.everything()  # What is not asked for is not looked at.
        return seen


class Seen:
    """What one look has found."""

    def __init__(self, databases: Databases) -> None:
        self.databases = databases

    def of(self, check: str) -> list[Finding]:
        """What a check has found."""
        return self.databases.found(check)

    def outcomes(self, check: str) -> set[Outcome]:
        """What became of a check."""
        return {answer.outcome for answer in self.of(check)}

    def everything(self) -> list[Finding]:
        """All findings."""
        return self.databases.found(*EVERY_CHECK)

    def complaints(self) -> list[Finding]:
        """All that did not pass."""
        return [answer for answer in self.everything() if answer.outcome is not Outcome.PASSED]
