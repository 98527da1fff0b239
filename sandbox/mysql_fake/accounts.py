"""Accounts with their two passwords, and the statements that change them.

Sources: MySQL 8.4 Reference Manual, "ALTER USER Statement", "Password Management"; sql/auth/sql_user.cc of the
server, whose order of checks is kept: it decides which of several errors a client sees.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sandbox.mysql_fake import auth
from sandbox.mysql_fake.errors import (
    EMPTY_PASSWORD_RETAINED,
    PASSWORD_REFUSED_BY_POLICY,
    PLUGIN_NOT_LOADED,
    RETAINED_FOR_EMPTY_PASSWORD,
    RETAINED_ON_PLUGIN_CHANGE,
    USER_OPERATION_FAILED,
    WRONG_HASH_FORMAT,
    MySqlError,
)
from sandbox.mysql_fake.privileges import GRANT_OPTION
from sandbox.mysql_fake.settings import Settings
from sandbox.mysql_fake.statements import (
    EVERYTHING,
    AccountName,
    AccountOptions,
    AlterUser,
    Authentication,
    CreateUser,
    Level,
)


@dataclass(frozen=True)
class Credentials:
    """What an account's clients must know.

    Attributes:
        plugin: How they show it.
        primary: The verifier of the password; empty for the empty password.
        secondary: The verifier that RETAIN CURRENT PASSWORD kept.
    """

    plugin: str
    primary: bytes = field(repr=False)
    secondary: bytes | None = field(default=None, repr=False)

    @property
    def verifiers(self) -> tuple[bytes, ...]:
        """Those that log in, primary first."""
        return (self.primary,) if self.secondary is None else (self.primary, self.secondary)

    def verifier_of(self, password: bytes) -> bytes | None:
        """The verifier that a password satisfies; None for a wrong one."""
        return next((v for v in self.verifiers if auth.matches(self.plugin, v, password)), None)


@dataclass
class Account:
    """A row of mysql.user.

    Attributes:
        credentials: Replaced as a whole, so that a login never meets a change half done.
        privileges: What is granted, by level.
    """

    name: AccountName
    credentials: Credentials
    require_tls: bool = False
    locked: bool = False
    password_expired: bool = False
    privileges: dict[Level, set[str]] = field(default_factory=dict)

    @property
    def plugin(self) -> str:
        """See `Credentials`."""
        return self.credentials.plugin

    @property
    def primary(self) -> bytes:
        """See `Credentials`."""
        return self.credentials.primary

    @property
    def secondary(self) -> bytes | None:
        """See `Credentials`."""
        return self.credentials.secondary

    def accepts(self, password: str) -> bool:
        """Whether this password logs in, as far as it alone decides."""
        return self.credentials.verifier_of(password.encode()) is not None

    def has_privilege(self, privilege: str, level: Level = EVERYTHING) -> bool:
        """Whether it is granted for the level, or for one that contains it."""
        levels = {EVERYTHING, Level(level.database), level}
        return any(privilege in self.privileges.get(granted, ()) for granted in levels)

    def change(self, options: AccountOptions) -> None:
        """Applies what is given of the options."""
        if options.require_tls is not None:
            self.require_tls = options.require_tls
        if options.expire_password is not None:
            self.password_expired = options.expire_password
        if options.lock is not None:
            self.locked = options.lock


@dataclass
class Accounts:
    """All accounts, and how new passwords become verifiers.

    Args:
        settings: Say which plugins are loaded, and what passwords must be like.
        random_bytes: Gives the salts.
    """

    settings: Settings
    random_bytes: Callable[[int], bytes]
    _by_name: dict[AccountName, Account] = field(default_factory=dict)

    def __getitem__(self, name: tuple[str, str]) -> Account:
        return self._by_name[AccountName(*name)]

    def __contains__(self, name: tuple[str, str]) -> bool:
        return AccountName(*name) in self._by_name

    def all(self) -> list[Account]:
        """In the order of the primary key of mysql.user."""
        return [
            self._by_name[name] for name in sorted(self._by_name, key=lambda name: (name.host, name.user))
        ]

    def find(self, name: AccountName) -> Account | None:
        """The account of exactly this name."""
        return self._by_name.get(name)

    def for_login(self, user: str, host: str) -> Account | None:
        """The account that a client from this host gets: the most specific host first."""
        return self._by_name.get(AccountName(user, host)) or self._by_name.get(AccountName(user))

    def create(self, statement: CreateUser, *, session_user: str) -> bool:
        """CREATE USER; False where it exists already and IF NOT EXISTS was said."""
        name, wanted = statement.account, statement.authentication
        exists = name in self._by_name
        plugin = (wanted and wanted.plugin) or auth.CACHING_SHA2
        if wanted is None and not exists:
            wanted = Authentication(None, "", None)
        primary = b"" if wanted is None else self._verifier(plugin, wanted, session_user, "CREATE USER", name)
        if exists:
            if statement.if_not_exists:
                return False
            raise MySqlError(USER_OPERATION_FAILED, "CREATE USER", *name)
        account = Account(name, Credentials(plugin, primary))
        account.change(statement.options)
        self._by_name[name] = account
        return True

    def alter(self, statement: AlterUser, name: AccountName, *, session_user: str) -> Account | None:
        """ALTER USER; None where there is no such account and IF EXISTS was said.

        RETAIN CURRENT PASSWORD keeps whatever is primary at this moment, so the same statement twice leaves
        the new password in both places, and the one before is gone.
        """
        account, wanted = self._by_name.get(name), statement.authentication
        plugin = (wanted and wanted.plugin) or (account.plugin if account else auth.CACHING_SHA2)
        changes_plugin = account is not None and plugin != account.plugin
        if changes_plugin and statement.retain_current:
            raise MySqlError(RETAINED_ON_PLUGIN_CHANGE, *name)
        primary = None if wanted is None else self._verifier(plugin, wanted, session_user, "ALTER USER", name)
        if account is None:
            if statement.if_exists:
                return None
            raise MySqlError(USER_OPERATION_FAILED, "ALTER USER", *name)

        secondary = None if changes_plugin or statement.discard_old else account.secondary
        if statement.retain_current:
            if not account.primary:
                raise MySqlError(EMPTY_PASSWORD_RETAINED, *name)
            if not primary:
                raise MySqlError(RETAINED_FOR_EMPTY_PASSWORD, *name)
            secondary = account.primary
        if primary is None:
            account.credentials = replace(account.credentials, secondary=secondary)
        else:
            account.credentials = Credentials(plugin, primary, secondary if primary else None)
            account.password_expired = account.password_expired and not primary
        account.change(statement.options)
        return account

    def add(self, account: Account) -> None:
        """Puts an account there as it is."""
        self._by_name[account.name] = account

    def drop(self, name: AccountName) -> Account | None:
        """DROP USER; None where there is no such account."""
        return self._by_name.pop(name, None)

    def _verifier(
        self, plugin: str, wanted: Authentication, session_user: str, operation: str, name: AccountName
    ) -> bytes:
        """The verifier that IDENTIFIED BY or AS makes; no policy can look into a ready one."""
        if not self.settings.has_plugin(plugin):
            raise MySqlError(PLUGIN_NOT_LOADED, plugin)
        if wanted.verifier is not None:
            if not auth.is_verifier(plugin, wanted.verifier):
                raise MySqlError(WRONG_HASH_FORMAT)
            return wanted.verifier
        password = wanted.password or ""
        if len(password.encode()) > auth.MAX_PASSWORD_LENGTH and plugin == auth.CACHING_SHA2:
            raise MySqlError(USER_OPERATION_FAILED, operation, *name)
        policy = self.settings.password_policy
        if policy and not policy.allows(password, session_user=session_user):
            raise MySqlError(PASSWORD_REFUSED_BY_POLICY)
        return auth.make_verifier(plugin, password.encode(), self.random_bytes)


def grantor_may(account: Account, privilege: str, level: Level) -> bool:
    """Whether an account may give or take a privilege: it has it itself, and GRANT OPTION beside it."""
    return account.has_privilege(GRANT_OPTION, level) and account.has_privilege(privilege, level)
