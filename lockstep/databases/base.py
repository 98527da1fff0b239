"""What all engines have in common: when to connect, as whom, and which usernames may be touched."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from hashlib import sha256
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from lockstep.databases.tls import ssl_context
from lockstep.databases.verifiers import RandomBytes
from lockstep.protocol.deadlines import DatabaseTimeouts as Timeouts
from lockstep.protocol.deadlines import DeadlineGuard
from lockstep.protocol.errors import AccountUnusableError, AdminCredentialRejectedError, UnknownUsernameError
from lockstep.protocol.model import (
    AdminCredential,
    AdminIam,
    Credential,
    CredentialValue,
    DatabaseServer,
    Login,
    SecretStr,
)
from lockstep.protocol.ports import Replica, Stager


class LoginRefusedError(Exception):
    """The server says: wrong password or unknown user. Never leaves this package.

    Args:
        *args: Nothing; or, for a refusal that only the stage of the login shows, since a pooler has other words: the
            error that it is where no logins before and after prove it.
    """


class Session(Protocol):
    """A connection of the rotation user."""

    def require_version(self) -> None:
        """Raise UnsupportedServerError if the server is too old, or another engine's."""

    def lock(self, key: bytes) -> None:
        """Take the advisory lock named by 32 bytes, for as long as the session lives, or AdvisoryLockBusyError."""

    def close(self) -> None:
        """End the session; never fails."""


SessionT = TypeVar("SessionT", bound=Session)


class ServerDatabase(ABC, Generic[SessionT]):
    """A `lockstep.protocol.ports.Database`, apart from how its engine is spoken to.

    The advisory lock belongs to a session of the server, so the plan's host must be the server itself. A
    connection pooler that gives each transaction another session (PgBouncer's `pool_mode = transaction`) or a
    proxy that multiplexes breaks it; so does a cluster whose nodes keep such locks apart (Galera) when `host`
    names more than one of them. It is named by the account, so that two plans which name the account under different
    ids exclude each other. On PostgreSQL such a lock belongs to one database of the server: there they do so only if
    they name the same `dbname`.

    Args:
        server: The server.
        credential: Whose logins may be changed; its first username names the advisory lock.
        admin: Fetches the rotation user's login; called again if that login is refused.
        timeouts: Bounds of every wait.
        random_bytes: For salts and for random passwords that are not kept.
        deadline_guard: Called before each connect and each statement.
        replicas: Its verify hosts.
    """

    takes_refusals_back: ClassVar[bool] = False
    """See `lockstep.protocol.ports.Stager`."""

    def __init__(
        self,
        server: DatabaseServer,
        credential: Credential,
        admin: Callable[[], Login],
        *,
        timeouts: Timeouts,
        random_bytes: RandomBytes,
        deadline_guard: DeadlineGuard,
        replicas: tuple[Replica, ...] = (),
    ) -> None:
        self.server = server
        self.replicas = replicas
        self.credential = credential
        self.timeouts = timeouts
        self.random_bytes = random_bytes
        self.deadline_guard = deadline_guard
        self._admin = admin
        self.tls = ssl_context(server)

    @property
    def name(self) -> str:
        """See `lockstep.protocol.ports.Database`."""
        return self.server.name

    @property
    def rotates_itself(self) -> bool:
        """Whether the credential is the rotation user's own (protocol D22)."""
        return self.server.admin == AdminCredential(credential=self.credential.id)

    @property
    def plaintext(self) -> bool:
        """See `lockstep.protocol.ports.Database`."""
        return self.server.plaintext

    def accepts(self, login: Login) -> bool:
        """See `lockstep.protocol.ports.Database`; logs in to the plan's `dbname`, as applications do."""
        try:
            self._try(login)
        except LoginRefusedError as error:
            if error.args:
                raise error.args[0] from None
            return False
        return True

    @property
    def admin(self) -> Hashable:
        """See `lockstep.protocol.ports.Database`; a token is made for one server."""
        admin = self.server.admin
        return (self.server.name, admin) if isinstance(admin, AdminIam) else admin

    def admin_login(self) -> Login:
        """See `lockstep.protocol.ports.Database`."""
        return self._admin()

    @contextmanager
    def as_admin(self, admin: Login | None = None) -> Iterator[SessionT]:
        """A session of the rotation user, without the advisory lock; raises AdminCredentialRejectedError."""
        try:
            session = self._admin_session(admin or self._admin())
        except LoginRefusedError:
            raise AdminCredentialRejectedError(database=self.name) from None
        except AccountUnusableError as e:
            raise AdminCredentialRejectedError(**e.where) from None
        with closing(session):
            yield session

    @contextmanager
    def as_user(self, login: Login) -> Iterator[SessionT]:
        """A session of an application's login; raises as `_log_in`."""
        with closing(self._log_in(login)) as session:
            yield session

    @property
    def lock_key(self) -> bytes:
        """The name of the advisory lock (protocol D1)."""
        return sha256(f"lockstep account {self.credential.usernames[0]}".encode()).digest()

    @contextmanager
    def exclusive(self, admin: Login | None = None) -> Iterator[Stager]:
        """See `lockstep.protocol.ports.Database`."""
        with self.as_admin(admin) as session:
            session.lock(self.lock_key)
            yield KnownUsernames(self, self._stager(session), partial(self._accepts_after_all, session))

    def _open(self, login: Login) -> SessionT:
        session = self._log_in_as_admin(login)
        try:
            session.require_version()
        except BaseException:
            session.close()
            raise
        return session

    def _admin_session(self, login: Login) -> SessionT:
        """Log in as the rotation user; raises as `_log_in` does, and UnsupportedServerError.

        What keeps its login may rotate it meanwhile. So after a refusal the login is fetched again, and shown if it has
        changed; one that was refused is not shown twice (protocol D22).
        """
        try:
            return self._open(login)
        except LoginRefusedError:
            newest = self._admin()
            if newest == login:
                raise
        return self._open(newest)

    @abstractmethod
    def _try(self, login: Login) -> None:
        """Log in as an application, and out again; raises as `_log_in` does."""

    @abstractmethod
    def _log_in(self, login: Login) -> SessionT:
        """Log in to the plan's `dbname`, as applications do.

        Raises:
            LoginRefusedError: Wrong password or unknown user.
            LockstepError: Everything else.
        """

    @abstractmethod
    def _log_in_as_admin(self, admin: Login) -> SessionT:
        """Log in as the rotation user; raises as `_log_in` does."""

    @abstractmethod
    def _stager(self, session: SessionT) -> "StagingStrategy":
        """The strategy of the credential on this engine."""

    @abstractmethod
    def _accepts_after_all(self, session: SessionT, login: Login) -> bool:
        """See `lockstep.protocol.ports.Stager.accepts_after_all`."""


class StagingStrategy(Protocol):
    """The part of `lockstep.protocol.ports.Stager` that depends on the strategy."""

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        """See `lockstep.protocol.ports.Stager`."""

    def recorded(self) -> frozenset[int]:
        """See `lockstep.protocol.ports.Stager`."""

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> Login:
        """See `lockstep.protocol.ports.Stager`."""


class KnownUsernames:
    """A stager that refuses every account that is not the credential's."""

    def __init__(
        self,
        database: ServerDatabase[Any],
        staging_strategy: StagingStrategy,
        second_look: Callable[[Login], bool],
    ) -> None:
        self.takes_refusals_back = database.takes_refusals_back
        self._database = database
        self._staging_strategy = staging_strategy
        self._second_look = second_look

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        """See `lockstep.protocol.ports.Stager`; raises UnknownUsernameError."""
        self._require(pending.login, *([current.login] if current else []))
        self._staging_strategy.stage(current=current, pending=pending)

    def recorded(self) -> frozenset[int]:
        """See `lockstep.protocol.ports.Stager`."""
        return self._staging_strategy.recorded()

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> Login:
        """See `lockstep.protocol.ports.Stager`; raises UnknownUsernameError."""
        self._require(drop.login, keep.login)
        return self._staging_strategy.retire(drop=drop, keep=keep)

    def accepts_after_all(self, login: Login) -> bool:
        """See `lockstep.protocol.ports.Stager`; raises UnknownUsernameError."""
        self._require(login)
        return self._second_look(login)

    def _require(self, *logins: Login) -> None:
        credential = self._database.credential
        if not {login.username for login in logins} <= set(credential.usernames):
            raise UnknownUsernameError(credential=credential.id, database=self._database.name)


class AlternatingUsers:
    """The strategy of two logins with one password each: the one that is idle gets the next password.

    Args:
        credential: For errors.
        database: For errors.
        set_password: Gives an account a password, and takes all others from it.
        random_bytes: For the password of a retired account.
    """

    def __init__(
        self,
        credential: Credential,
        database: str,
        set_password: Callable[[Login], None],
        random_bytes: RandomBytes,
    ) -> None:
        self._credential = credential
        self._database = database
        self._set_password = set_password
        self._random_bytes = random_bytes

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        """Set the idle account's password, again if it has it; current's account is never touched (protocol D13)."""
        if current and current.login == pending.login:
            return
        if current and current.login.username == pending.login.username:
            raise UnknownUsernameError(credential=self._credential.id, database=self._database)
        self._set_password(pending.login)

    def recorded(self) -> frozenset[int]:
        """Nothing: an account does not say which password it has."""
        return frozenset()

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> Login:
        """Give the dropped account a random password, which only the returned login holds.

        Where both logins are one account's, the one password it has is `keep`'s and `drop` is revoked already.
        """
        if drop.login.username == keep.login.username:
            return keep.login
        random = Login(drop.login.username, SecretStr(self._random_bytes(32).hex()))
        self._set_password(random)
        return random


# Names and texts of a plan in SQL that is shown to people, or sent.

CHANGE_OWN: Final = "change_own"
"""The function by which a rotation user's roles on PostgreSQL change each other, in a schema named like their owner."""


def identifier(name: str) -> str:
    """A name of the plan as an SQL identifier; names of a plan hold no quotes."""
    return f'"{name}"'


def quoted(text: str) -> str:
    """A text as an SQL literal; it holds no backslash."""
    return "'" + text.replace("'", "''") + "'"


def listed(texts: Sequence[str]) -> str:
    """Texts as SQL literals, with commas between them."""
    return ", ".join(map(quoted, texts))
