"""A database server in memory."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    """

    def __init__(self, name: str, strategy: Strategy, usernames: Sequence[str]) -> None:
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
