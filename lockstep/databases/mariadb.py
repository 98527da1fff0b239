"""MariaDB: one account with two passwords, by naming an authentication plugin twice."""

from collections.abc import Sequence
from typing import ClassVar

from lockstep.databases.base import AlternatingUsers, StagingStrategy
from lockstep.databases.mysql_family import (
    KnownAccount,
    Matched,
    MySqlFamilyDatabase,
    MySqlSession,
    account_at,
)
from lockstep.databases.verifiers import mysql_native_password
from lockstep.protocol.errors import AccountSetupError, DatabaseReadOnlyError, PrivilegeMissingError
from lockstep.protocol.model import CredentialValue, Login, SecretStr, Strategy

_OPTION_PREVENTS = "1290"  # read_only, or strict_password_validation


class MariaDbDatabase(MySqlFamilyDatabase):
    """MariaDB since 10.4.

    Verifiers are of `mysql_native_password`: of the plugins whose verifiers can be made on the client, the
    only one that PyMySQL and every driver of an application can log in with. An account that had another one
    is changed to it.

    With a password validation plugin and `strict_password_validation` (the default) the server takes no
    verifier; that is an AccountSetupError, since no other password would help.

    The server counts an account's wrong passwords (`max_password_errors`) until a login succeeds or the account is
    altered. An account that it has blocked answers 4150 if it has one password. If it has two it refuses the one that
    is named first as if that were wrong (1045), and the other one logs in and ends the block (tried on 11.8).
    """

    is_mariadb: ClassVar[bool] = True
    takes_refusals_back: ClassVar[bool] = True
    minimum_version: ClassVar[tuple[int, ...]] = (10, 4)

    def matched(self, session: MySqlSession) -> Matched:
        """See `MySqlFamilyDatabase`."""
        account, limit = session.run("SELECT CURRENT_USER(), @@max_password_errors") or ("", None)
        return Matched(account, limit)

    def accounts(self, session: MySqlSession) -> Sequence[KnownAccount] | None:
        """See `MySqlFamilyDatabase`."""
        try:
            rows = session.rows(
                "SELECT User, Host FROM mysql.user WHERE User IN %s", self.credential.usernames
            )
        except PrivilegeMissingError:
            # What `lockstep plan sql` grants was not granted: each login still shows its own account.
            return None
        return [KnownAccount(*row) for row in rows]

    def _accepts_after_all(self, session: MySqlSession, login: Login) -> bool:
        account = _Account(session, self.credential.account_host)
        account.forget_refusals(login.username)
        if self.accepts(login):
            return True
        account.forget_refusals(login.username)
        return False

    def _staging_strategy(self, session: MySqlSession, accounts: Sequence[KnownAccount]) -> StagingStrategy:
        del accounts  # The server keeps no record with them.
        account = _Account(session, self.credential.account_host)
        if self.credential.strategy is Strategy.DUAL_PASSWORD:
            return _DualPassword(account)
        return AlternatingUsers(self.credential, self.name, account.set_only_password, self.random_bytes)


class _Account:
    """`ALTER USER`, which replaces all passwords at once and leaves the account's other options alone."""

    def __init__(self, session: MySqlSession, host: str) -> None:
        self._session = session
        self._account = account_at(host)

    def set_only_password(self, login: Login) -> None:
        self.set_passwords(login.username, login.password)

    def set_passwords(self, username: str, *passwords: SecretStr) -> None:
        methods = " OR ".join(["mysql_native_password USING %s"] * len(passwords))
        verifiers = (mysql_native_password(p).reveal() for p in passwords)
        try:
            self._session.run(f"ALTER USER {self._account} IDENTIFIED VIA {methods}", username, *verifiers)
        except DatabaseReadOnlyError as e:
            if e.where["code"] == _OPTION_PREVENTS and self._session.run("SELECT @@read_only") == (0,):
                raise AccountSetupError(**{**e.where, "code": "verifiers-refused"}) from None
            raise

    def forget_refusals(self, username: str) -> None:
        """Set the account's count of wrong passwords to 0: a change of nothing does that, and keeps ACCOUNT LOCK."""
        self._session.run(f"ALTER USER {self._account}", username)


class _DualPassword:
    """One statement names all passwords that are to stay valid, so each of these is atomic and idempotent."""

    def __init__(self, account: _Account) -> None:
        self._account = account

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        beside = [current.login.password] if current and current.login != pending.login else []
        self._account.set_passwords(pending.login.username, pending.login.password, *beside)

    def recorded(self) -> frozenset[int]:
        return frozenset()

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> Login:
        del drop  # every password that is not named is revoked
        self._account.set_only_password(keep.login)
        return keep.login
