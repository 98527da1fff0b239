"""Carries out the statements that change accounts, privileges and databases, and says who may.

Sources: MySQL 8.4 Reference Manual, "Account Management Statements", "Privileges Provided by MySQL";
sql/sql_parse.cc and sql/auth/sql_user.cc of the server for who may do what, and which error comes first.
"""

from typing import assert_never

from sandbox.mysql_fake.accounts import Account, grantor_may
from sandbox.mysql_fake.errors import (
    ACCESS_DENIED,
    DATABASE_ACCESS_DENIED,
    DATABASE_EXISTS,
    GRANT_CREATES_NO_USER,
    NAME_TOO_LONG,
    NO_SUCH_GRANT,
    PASSWORD_EXPIRED,
    PRIVILEGE_MISSING,
    UNKNOWN_DYNAMIC_PRIVILEGE,
    USER_EXISTS,
    USER_MISSING,
    USER_OPERATION_FAILED,
    WRONG_DYNAMIC_LEVEL,
    WRONG_GRANT_LEVEL,
    MySqlError,
)
from sandbox.mysql_fake.privileges import (
    ALL_PRIVILEGES,
    DYNAMIC_PRIVILEGES,
    GLOBAL_ONLY_PRIVILEGES,
    GRANT_OPTION,
    STATIC_PRIVILEGES,
)
from sandbox.mysql_fake.state import ServerState, Session
from sandbox.mysql_fake.statements import (
    EVERYTHING,
    AccountName,
    AccountOptions,
    AlterUser,
    CreateDatabase,
    CreateUser,
    DropUser,
    FlushPrivileges,
    Grant,
    Level,
    Revoke,
)
from sandbox.mysql_fake.wire import Ok

AdministrativeStatement = (
    CreateUser | AlterUser | DropUser | Grant | Revoke | FlushPrivileges | CreateDatabase
)

_MAX_USER_NAME = 32


class Administration:
    """Account management, in a turn of the state."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def carry_out(self, session: Session, statement: AdministrativeStatement) -> Ok:
        """Carries out one statement; MySqlError when it fails, and then nothing has changed."""
        match statement:
            case CreateUser():
                self._create_user(session, statement)
            case AlterUser():
                self._alter_user(session, statement)
            case DropUser():
                self._drop_user(session, statement)
            case Grant() | Revoke():
                self._change_privileges(session, statement)
            case FlushPrivileges():
                _require(session, "RELOAD", "FLUSH_PRIVILEGES")
                self._state.fast_digests.clear()
            case CreateDatabase():
                return self._create_database(session, statement)
            case _:
                assert_never(statement)
        return Ok()

    def _create_user(self, session: Session, statement: CreateUser) -> None:
        _require(session, "CREATE USER")
        _check_user_name(statement.account)
        if not self._state.accounts.create(statement, session_user=session.account.user):
            session.warnings.append(("Note", MySqlError(USER_EXISTS, *statement.account)))

    def _alter_user(self, session: Session, statement: AlterUser) -> None:
        name = statement.account or session.account
        is_own = name == session.account
        changes_password_only = (
            statement.authentication is not None
            and statement.authentication.plugin is None
            and statement.options == AccountOptions()
        )
        if is_own and (changes_password_only or statement.discard_old):
            if statement.retain_current or statement.discard_old:
                _require(session, "CREATE USER", "APPLICATION_PASSWORD_ADMIN")
        else:
            _require(session, "CREATE USER")
        if session.password_expired and not (is_own and statement.authentication):
            raise MySqlError(PASSWORD_EXPIRED)
        self._protect_system_user(session, name)

        before = self._state.accounts.find(name)
        old_verifiers = before.credentials.verifiers if before else ()
        account = self._state.accounts.alter(statement, name, session_user=session.account.user)
        if account is None:
            session.warnings.append(("Note", MySqlError(USER_MISSING, *name)))
            return
        if statement.authentication:
            self._state.fast_digests.forget(old_verifiers)
        if is_own:
            session.password_expired = account.password_expired

    def _drop_user(self, session: Session, statement: DropUser) -> None:
        _require(session, "CREATE USER")
        self._protect_system_user(session, statement.account)
        account = self._state.accounts.drop(statement.account)
        if account is not None:
            self._state.fast_digests.forget(account.credentials.verifiers)
        elif statement.if_exists:
            session.warnings.append(("Note", MySqlError(USER_MISSING, *statement.account)))
        else:
            raise MySqlError(USER_OPERATION_FAILED, "DROP USER", *statement.account)

    def _protect_system_user(self, session: Session, name: AccountName) -> None:
        """An account with SYSTEM_USER is changed by such accounts alone."""
        account = self._state.accounts.find(name)
        if account is not None and account.has_privilege("SYSTEM_USER"):
            _require(session, "SYSTEM_USER")

    def _change_privileges(self, session: Session, statement: Grant | Revoke) -> None:
        account = self._state.accounts.find(statement.account)
        if account is None:
            missing = GRANT_CREATES_NO_USER if isinstance(statement, Grant) else NO_SUCH_GRANT
            raise MySqlError(missing, *statement.account)
        self._protect_system_user(session, statement.account)
        if statement.level is None:
            _require(session, "CREATE USER")
            account.privileges.clear()
            return
        level, privileges = statement.level, _expand(statement.privileges, statement.level)
        self._check_grantor(session, privileges, level)
        if isinstance(statement, Grant):
            account.privileges.setdefault(level, set()).update(privileges)
        elif level == EVERYTHING or level in account.privileges:
            account.privileges.setdefault(level, set()).difference_update(privileges)
        else:
            raise MySqlError(NO_SUCH_GRANT, *statement.account)

    def _check_grantor(self, session: Session, privileges: frozenset[str], level: Level) -> None:
        grantor = self._state.account_of(session)
        if grantor is not None and all(grantor_may(grantor, privilege, level) for privilege in privileges):
            return
        if level == EVERYTHING:
            raise MySqlError(ACCESS_DENIED, *session.account, "YES")
        raise MySqlError(DATABASE_ACCESS_DENIED, *session.account, level.database)

    def _create_database(self, session: Session, statement: CreateDatabase) -> Ok:
        account = self._state.account_of(session)
        if account is None or not account.has_privilege("CREATE", Level(statement.name)):
            raise MySqlError(DATABASE_ACCESS_DENIED, *session.account, statement.name)
        if statement.name in self._state.databases:
            exists = MySqlError(DATABASE_EXISTS, statement.name)
            if not statement.if_not_exists:
                raise exists
            session.warnings.append(("Note", exists))
        self._state.databases.add(statement.name)
        return Ok(affected_rows=1)


def may_enter(account: Account, database: str) -> bool:
    """Whether an account may make a database its default one."""
    held = {
        p
        for level, granted in account.privileges.items()
        if level.database in {"*", database}
        for p in granted
    }
    opens = STATIC_PRIVILEGES - GLOBAL_ONLY_PRIVILEGES - {GRANT_OPTION, "USAGE"}
    return database in {"information_schema", "performance_schema"} or not held.isdisjoint(opens)


def _require(session: Session, *privileges: str) -> None:
    if not session.may(*privileges):
        raise MySqlError(PRIVILEGE_MISSING, " or ".join(privileges))


def _check_user_name(name: AccountName) -> None:
    if len(name.user) > _MAX_USER_NAME:
        raise MySqlError(NAME_TOO_LONG, name.user, "user name", _MAX_USER_NAME)


def _expand(privileges: frozenset[str], level: Level) -> frozenset[str]:
    """The single privileges that are meant at this level."""
    dynamic = privileges - STATIC_PRIVILEGES - {ALL_PRIVILEGES}
    if level != EVERYTHING:
        if dynamic:
            raise MySqlError(WRONG_DYNAMIC_LEVEL, min(dynamic))
        if privileges & GLOBAL_ONLY_PRIVILEGES:
            raise MySqlError(WRONG_GRANT_LEVEL)
    if dynamic - DYNAMIC_PRIVILEGES:
        raise MySqlError(UNKNOWN_DYNAMIC_PRIVILEGE, min(dynamic - DYNAMIC_PRIVILEGES))
    named = privileges - {ALL_PRIVILEGES, "USAGE"}
    if ALL_PRIVILEGES not in privileges:
        return named
    everything = STATIC_PRIVILEGES | DYNAMIC_PRIVILEGES if level == EVERYTHING else STATIC_PRIVILEGES
    excluded = {GRANT_OPTION, "USAGE"} | (GLOBAL_ONLY_PRIVILEGES if level != EVERYTHING else frozenset())
    return named | (everything - excluded)
