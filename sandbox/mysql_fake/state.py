"""What the server knows and how it stands; shared by all of its threads under one condition."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Condition

from sandbox.mysql_fake.accounts import Account, Accounts
from sandbox.mysql_fake.auth import FastDigests
from sandbox.mysql_fake.errors import MySqlError
from sandbox.mysql_fake.faults import Faults
from sandbox.mysql_fake.general_log import GeneralLog
from sandbox.mysql_fake.locks import UserLocks
from sandbox.mysql_fake.settings import Settings
from sandbox.mysql_fake.statements import EVERYTHING, AccountName
from sandbox.mysql_fake.variables import Variables
from sandbox.mysql_fake.wire import Status

# How often a session that waits for a lock looks whether its client is still there; MySQL does once a second.
_POLL_SECONDS = 0.02


class ServerGoneError(Exception):
    """The server ends; what it has not done yet, it will not do."""


@dataclass(kw_only=True)
class Session:
    """A client that is logged in.

    Attributes:
        host: Where the client is.
        account: Which account it got; the host part may be a pattern.
        global_privileges: As they were at the login: a later GRANT or REVOKE on `*.*` shows in new sessions only.
        password_expired: Nothing but a change of the own password is allowed.
        is_client_there: Looks at the connection.
    """

    connection_id: int
    user: str
    host: str
    account: AccountName
    global_privileges: frozenset[str]
    variables: Variables
    password_expired: bool
    is_client_there: Callable[[], bool]
    database: str | None = None
    warnings: list[tuple[str, MySqlError]] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """What every answer tells the client."""
        autocommit = Status.AUTOCOMMIT if self.variables.autocommit else Status(0)
        no_escapes = "NO_BACKSLASH_ESCAPES" in self.variables.sql_mode
        return autocommit | (Status.NO_BACKSLASH_ESCAPES if no_escapes else Status(0))

    def may(self, *privileges: str) -> bool:
        """Whether the session has one of these on everything."""
        return not self.global_privileges.isdisjoint(privileges)


@dataclass(eq=False)
class ServerState:
    """Everything but the sockets. All but `log` and `fast_digests` is used in a turn only.

    Args:
        settings: The configuration.
        now: The time for the general log.
        random_bytes: For salts and nonces.
    """

    settings: Settings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    random_bytes: Callable[[int], bytes] = secrets.token_bytes
    condition: Condition = field(default_factory=Condition)
    databases: set[str] = field(
        default_factory=lambda: {"mysql", "information_schema", "performance_schema", "sys"}
    )
    fast_digests: FastDigests = field(default_factory=FastDigests)
    faults: Faults = field(default_factory=Faults)
    running: bool = False
    paused: bool = False

    def __post_init__(self) -> None:
        self.accounts = Accounts(self.settings, self.random_bytes)
        self.locks = UserLocks(self.condition)
        self.log = GeneralLog(self.now)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """What happens in a turn happens as a whole, not while the server is paused, and not after its end.

        Raises:
            ServerGoneError: The server ended first.
        """
        with self.condition:
            self._wait_while_paused()
            yield

    def wait_for_turn(self) -> None:
        """Waits while the server is paused; ServerGoneError where it has ended."""
        with self.turn():
            pass

    def wait(self, session: Session, seconds: float) -> bool:
        """Interrupts a turn for some time at most; False when the client has gone meanwhile."""
        self.condition.wait(min(seconds, _POLL_SECONDS))
        self._wait_while_paused()
        return session.is_client_there()

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Interrupts a turn until something has happened."""
        self.condition.wait_for(lambda: happened() or not self.running)
        self._wait_while_paused()

    def account_of(self, session: Session) -> Account | None:
        """The session's account, unless it was dropped."""
        return self.accounts.find(session.account)

    def global_privileges(self, account: Account) -> frozenset[str]:
        """What a new session of this account may do everywhere."""
        return frozenset(account.privileges.get(EVERYTHING, ()))

    def _wait_while_paused(self) -> None:
        self.condition.wait_for(lambda: not self.paused or not self.running)
        if not self.running:
            raise ServerGoneError
