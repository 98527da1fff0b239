"""A database server in memory."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

from lockstep.errors import (
    AccountLockedError,
    AdminCredentialRejectedError,
    AdvisoryLockBusyError,
    DatabaseUnreachableError,
    PasswordRefusedByPolicyError,
)
from lockstep.model import CredentialValue, Login, Strategy
from tests.support.faults import Faults


@dataclass
class Account:
    """A database account: the passwords that log in, the newest first."""

    passwords: tuple[str, ...] = ()
    locked: bool = False


class MemoryDatabase:
    """A database server.

    Attributes:
        accounts: By username. One that is missing does not log in.
        unreachable: Nothing answers.
        admin_refused: The rotator admin's own login is refused.
        refuses: The password policy: whether it refuses a password.
        on_login: Called after a login that succeeded, with the database's name.
        replicas: Its verify hosts.
    """

    def __init__(
        self, name: str, strategy: Strategy, usernames: Sequence[str], *, verify_hosts: int = 0
    ) -> None:
        self.faults = Faults()
        self.plaintext = False
        self.accounts = {u: Account() for u in usernames}
        self.unreachable = False
        self.admin_refused = False
        self.refuses: Callable[[str], bool] = lambda _password: False
        self.on_login: Callable[[str, Login], None] = lambda _name, _login: None
        self._name = name
        self._dual = strategy is Strategy.DUAL_PASSWORD
        self._advisory = threading.Lock()
        self._holder: object | None = None
        self.replicas = tuple(
            MemoryReplica(self, f"{name}@replica-{i}:3306") for i in range(1, verify_hosts + 1)
        )

    @property
    def name(self) -> str:
        return self._name

    def accepts(self, login: Login) -> bool:
        with self.faults.around("accepts"):
            self.require_reachable()
            account = self.accounts.get(login.username, Account())
            if login.password.reveal() not in account.passwords:
                return False
            if account.locked:
                raise AccountLockedError(database=self.name)
        self.on_login(self.name, login)
        return True

    def kill_connections(self) -> None:
        """End every admin session, as a restart of the server does: the advisory lock is free again."""
        if self._holder:
            self._holder = None
            self._advisory.release()

    @contextmanager
    def exclusive(self) -> Iterator["MemoryStager"]:
        session = MemoryStager(self)
        try:
            with self.faults.around("lock"):
                self._open(session)
            yield session
        finally:
            if self._holder is session:
                self.kill_connections()

    def _open(self, session: "MemoryStager") -> None:
        self.require_reachable()
        if self.admin_refused:
            raise AdminCredentialRejectedError(database=self.name)
        if not self._advisory.acquire(blocking=False):
            raise AdvisoryLockBusyError(database=self.name)
        self._holder = session

    def require_reachable(self, session: "MemoryStager | None" = None) -> None:
        if self.unreachable or (session and session is not self._holder):
            raise DatabaseUnreachableError(database=self.name)

    def set_passwords(self, username: str, *passwords: str) -> None:
        """What the statement of the strategy does: one password an account, or two."""
        if passwords and self.refuses(passwords[0]):
            raise PasswordRefusedByPolicyError(database=self.name)
        kept = passwords if self._dual else passwords[:1]
        self.accounts[username] = replace(self.accounts[username], passwords=kept)


class MemoryStager:
    """An admin session that holds the advisory lock, until it is killed."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        database = self._database
        with database.faults.around("stage"):
            database.require_reachable(self)
            kept, login = current.login if current else None, pending.login
            beside = (
                [kept.password.reveal()] if kept and kept.username == login.username and kept != login else []
            )
            database.set_passwords(login.username, login.password.reveal(), *beside)

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> None:
        database = self._database
        with database.faults.around("retire"):
            database.require_reachable(self)
            doomed, kept = drop.login, keep.login
            if doomed == kept:
                return
            left = [kept.password.reveal()] if doomed.username == kept.username else []
            account = database.accounts[doomed.username]
            # What is kept is accepted already, so no policy looks at it again.
            database.accounts[doomed.username] = replace(account, passwords=tuple(left))


class MemoryReplica:
    """A copy of a database that applies each change late, and locks accounts that are refused too often.

    Attributes:
        lag_logins: How many logins a change waits for; None: replication has stopped.
        max_refusals: After so many refusals in a row an account is locked; None: never.
        most_refusals: The longest run of refusals of one account that was seen.
        at_once: How many logins were under way at the same time, at most.
        unreachable: Nothing answers.
    """

    def __init__(self, database: MemoryDatabase, name: str) -> None:
        self.faults = Faults()
        self.lag_logins: int | None = 0
        self.max_refusals: int | None = None
        self.most_refusals = 0
        self.at_once = 0
        self.unreachable = False
        self._database = database
        self._name = name
        self._applied = deepcopy(database.accounts)
        self._due: deque[tuple[int, dict[str, Account]]] = deque()
        self._logins = 0
        self._under_way = 0
        self._refusals: Counter[str] = Counter()
        self._guard = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def accepts(self, login: Login) -> bool:
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        try:
            with self.faults.around("accepts"), self._guard:
                return self._accepts(login)
        finally:
            self._under_way -= 1

    def _accepts(self, login: Login) -> bool:
        if self.unreachable:
            raise DatabaseUnreachableError(database=self.name)
        self._replicate()
        self._logins += 1
        username = login.username
        if self.max_refusals is not None and self._refusals[username] >= self.max_refusals:
            raise AccountLockedError(database=self.name)
        accepted = login.password.reveal() in self._applied.get(username, Account()).passwords
        self._refusals[username] = 0 if accepted else self._refusals[username] + 1
        self.most_refusals = max(self.most_refusals, self._refusals[username])
        return accepted

    def _replicate(self) -> None:
        newest = self._due[-1][1] if self._due else self._applied
        if newest != self._database.accounts:
            self._due.append((self._logins, deepcopy(self._database.accounts)))
        while self.lag_logins is not None and self._due and self._logins >= self._due[0][0] + self.lag_logins:
            _, self._applied = self._due.popleft()
