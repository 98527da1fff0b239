"""A database server in memory."""

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace

from lockstep.protocol import errors
from lockstep.protocol.model import CredentialValue, Login, SecretStr, Strategy
from tests.support.faults import Faults

FORGOTTEN = "random, of generation "
"""How the password of a retired account begins; only its stager knows the login."""


ADMIN = Login("rotator", SecretStr("of the rotation user"))


@dataclass
class Account:
    """A database account.

    Attributes:
        passwords: Those that log in, the newest first.
        locked: The right password is told so.
        expired: Every password is refused as if it were wrong, as PostgreSQL does after VALID UNTIL.
        recorded: The generations of the two passwords, as MySQL's ATTRIBUTE has them.
    """

    passwords: tuple[str, ...] = ()
    locked: bool = False
    expired: bool = False
    recorded: frozenset[int] = frozenset()


class Refusals:
    """Counts the refusals in a row of each account, and blocks an account that has too many (protocol D18).

    Attributes:
        limit: After so many an account is blocked; None: never.
        most: The longest run that was seen.
        total: All that were seen.
        is_excused: Whether a run of them does not count.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.most = self.total = 0
        self.is_excused: Callable[[], bool] = lambda: False
        self._in_a_row: Counter[str] = Counter()

    def require_unblocked(self, database: str, username: str) -> None:
        if self.limit is not None and self._in_a_row[username] >= self.limit:
            raise errors.AccountLockedError(database=database)

    def count(self, username: str, *, accepted: bool) -> None:
        self.total += not accepted
        self._in_a_row[username] = 0 if accepted or self.is_excused() else self._in_a_row[username] + 1
        self.most = max(self.most, self._in_a_row[username])


class MemoryDatabase:
    """A database server.

    Attributes:
        admin: Whose login its rotation user has; all of a world have the same.
        accounts: By username. One that is missing does not log in.
        unreachable: Nothing answers.
        admin_refused: The rotation user's own login is refused.
        refuses: The password policy: whether it refuses a password.
        on_login: Called after a login that succeeded, with the database's name.
        refusals: The refusals in a row of each account.
        replicas: Its verify hosts.
    """

    def __init__(
        self, name: str, strategy: Strategy, usernames: Sequence[str], *, verify_hosts: int = 0
    ) -> None:
        self.faults = Faults()
        self.plaintext = False
        self.admin = "rotator"
        self.accounts = {u: Account() for u in usernames}
        self.unreachable = False
        self.admin_refused = False
        self.on_login: Callable[[str, Login], None] = lambda _name, _login: None
        self.refusals = Refusals()
        self.name = name
        self._dual = strategy is Strategy.DUAL_PASSWORD
        self._advisory = threading.Lock()
        self._holder: object | None = None
        self.replicas = tuple(
            MemoryReplica(self, f"{name}@replica-{i}:3306") for i in range(1, verify_hosts + 1)
        )

    def accepts(self, login: Login) -> bool:
        with self.faults.around("accepts"):
            self.require_reachable()
            account = self.accounts.get(login.username, Account())
            self.refusals.require_unblocked(self.name, login.username)
            accepted = login.password.reveal() in account.passwords and not account.expired
            self.refusals.count(login.username, accepted=accepted)
            if not accepted:
                return False
            if account.locked:
                raise errors.AccountLockedError(database=self.name)
        self.on_login(self.name, login)
        return True

    def kill_connections(self) -> None:
        """End every admin session, as a restart of the server does: the advisory lock is free again."""
        if self._holder:
            self._holder = None
            self._advisory.release()

    def admin_login(self) -> Login:
        with self.faults.around("admin_login"):
            return ADMIN

    @contextmanager
    def exclusive(self, admin: Login | None = None) -> Iterator["MemoryStager"]:
        assert admin in (None, ADMIN)
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
            raise errors.AdminCredentialRejectedError(database=self.name)
        if not self._advisory.acquire(blocking=False):
            raise errors.AdvisoryLockBusyError(database=self.name)
        self._holder = session

    def require_reachable(self, session: "MemoryStager | None" = None) -> None:
        if self.unreachable or (session and session is not self._holder):
            raise errors.DatabaseUnreachableError(database=self.name)

    def set_passwords(self, username: str, *passwords: str) -> None:
        """What the statement of the strategy does: one password an account, or two."""
        kept = passwords if self._dual else passwords[:1]
        self.accounts[username] = replace(self.accounts[username], passwords=kept)

    def note(self, username: str, *generations: int) -> None:
        """What MySQL's statement records with the account."""
        if self._dual:
            self.accounts[username] = replace(self.accounts[username], recorded=frozenset(generations))

    def recorded(self) -> frozenset[int]:
        return frozenset[int]().union(*(account.recorded for account in self.accounts.values()))


class MemoryStager:
    """An admin session that holds the advisory lock, until it is killed."""

    takes_refusals_back = False

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
            kept_generation = {current.generation} if current and beside else set()
            database.note(login.username, pending.generation, *kept_generation)

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> Login:
        database = self._database
        with database.faults.around("retire"):
            database.require_reachable(self)
            doomed, kept = drop.login, keep.login
            left = kept
            if doomed.username != kept.username:
                left = Login(doomed.username, SecretStr(f"{FORGOTTEN}{drop.generation}"))
            if doomed != kept:
                account = database.accounts[doomed.username]
                # What is kept is accepted already, so no policy looks at it again.
                database.accounts[doomed.username] = replace(account, passwords=(left.password.reveal(),))
            database.note(kept.username, keep.generation)
            return left

    def recorded(self) -> frozenset[int]:
        return self._database.recorded()

    def accepts_after_all(self, login: Login) -> bool:
        self._database.require_reachable(self)
        if self._database.accounts.get(login.username, Account()).expired:
            raise errors.AccountExpiredError(database=self._database.name)
        return False


class MemoryReplica:
    """A copy of a database that applies each change late, and locks accounts that are refused too often.

    Attributes:
        lag_logins: How many logins a change waits for; None: replication has stopped.
        refusals: The refusals in a row of each account.
        at_once: How many logins were under way at the same time, at most.
        unreachable: Nothing answers.
    """

    def __init__(self, database: MemoryDatabase, name: str) -> None:
        self.faults = Faults()
        self.lag_logins: int | None = 0
        self.refusals = Refusals()
        self.at_once = 0
        self.unreachable = False
        self._database = database
        self.name = name
        self._applied = deepcopy(database.accounts)
        self._due: deque[tuple[int, dict[str, Account]]] = deque()
        self._logins = 0
        self._under_way = 0
        self._guard = threading.Lock()

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
            raise errors.DatabaseUnreachableError(database=self.name)
        self._replicate()
        self._logins += 1
        username = login.username
        self.refusals.require_unblocked(self.name, username)
        accepted = login.password.reveal() in self._applied.get(username, Account()).passwords
        self.refusals.count(username, accepted=accepted)
        return accepted

    def _replicate(self) -> None:
        newest = self._due[-1][1] if self._due else self._applied
        if newest != self._database.accounts:
            self._due.append((self._logins, deepcopy(self._database.accounts)))
        while self.lag_logins is not None and self._due and self._logins >= self._due[0][0] + self.lag_logins:
            _, self._applied = self._due.popleft()
