"""MariaDB: one account with two passwords, by naming an authentication plugin twice."""

from typing import ClassVar

from lockstep.databases.base import AlternatingUsers
from lockstep.databases.mysql_family import MySqlFamilyDatabase, MySqlSession, account_at
from lockstep.databases.verifiers import mysql_native_password
from lockstep.model import CredentialValue, Login, SecretStr, Strategy
from lockstep.ports import Stager


class MariaDbDatabase(MySqlFamilyDatabase):
    """MariaDB since 10.4.

    Verifiers are of `mysql_native_password`: of the plugins whose verifiers can be made on the client, the
    only one that PyMySQL and every driver of an application can log in with. An account that had another one
    is changed to it.

    With a password validation plugin and `strict_password_validation` (the default) the server takes no
    verifier; that is an UnsupportedServerError, code 1290, since no other password would help.
    """

    is_mariadb: ClassVar[bool] = True
    minimum_version: ClassVar[tuple[int, ...]] = (10, 4)

    def _stager(self, session: MySqlSession) -> Stager:
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
        self._session.run(f"ALTER USER {self._account} IDENTIFIED VIA {methods}", username, *verifiers)


class _DualPassword:
    """One statement names all passwords that are to stay alive, so each of these is atomic and idempotent."""

    def __init__(self, account: _Account) -> None:
        self._account = account

    def stage(self, *, current: CredentialValue | None, pending: CredentialValue) -> None:
        beside = [current.login.password] if current else []
        self._account.set_passwords(pending.login.username, pending.login.password, *beside)

    def retire(self, *, drop: CredentialValue, keep: CredentialValue) -> None:
        del drop  # every password that is not named is dead
        self._account.set_only_password(keep.login)
