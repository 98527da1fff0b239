"""Carries statements out."""

import json
import math
from typing import assert_never

from sandbox.mysql_fake.accounts import Account
from sandbox.mysql_fake.administration import Administration, may_enter
from sandbox.mysql_fake.errors import (
    DATABASE_ACCESS_DENIED,
    PASSWORD_EXPIRED,
    TABLE_ACCESS_DENIED,
    UNKNOWN_COLUMN,
    UNKNOWN_DATABASE,
    WRONG_ARGUMENT_COUNT,
    MySqlError,
)
from sandbox.mysql_fake.parser import FUNCTIONS, parse
from sandbox.mysql_fake.state import ServerState, Session
from sandbox.mysql_fake.statements import (
    AlterUser,
    Call,
    CreateDatabase,
    CreateUser,
    DropUser,
    EndTransaction,
    Equals,
    Expression,
    FlushPrivileges,
    Grant,
    Level,
    Literal,
    Revoke,
    Select,
    SelectUsers,
    SetVariables,
    ShowWarnings,
    Statement,
    SystemVariable,
    Use,
)
from sandbox.mysql_fake.wire import Column, ColumnType, Ok, Result, Rows

Value = int | str | None

_LOCK_FUNCTIONS = frozenset({"GET_LOCK", "IS_FREE_LOCK", "IS_USED_LOCK", "RELEASE_ALL_LOCKS", "RELEASE_LOCK"})
_USER_COLUMNS = (
    "user",
    "host",
    "plugin",
    "ssl_type",
    "account_locked",
    "password_expired",
    "user_attributes",
)
_MASK = "<masked>"


class Engine:
    """Parses and carries out statements, each in a turn of the state."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._administration = Administration(state)

    def execute(self, session: Session, sql: str) -> Result:
        """Carries out one statement.

        Raises:
            MySqlError: It failed, and changed nothing.
        """
        parsed = parse(
            sql,
            sql_mode=session.variables.sql_mode,
            retain_with_hash=self._state.settings.retain_with_hash,
        )
        # A statement that cannot be parsed is not logged: nobody knows where in it a password may be.
        self._state.log.write(session.connection_id, "Query", parsed.loggable)
        if not isinstance(parsed.statement, ShowWarnings):
            session.warnings.clear()
        if session.password_expired and not isinstance(parsed.statement, SetVariables | AlterUser):
            raise MySqlError(PASSWORD_EXPIRED)
        return self._carry_out(session, parsed.statement)

    def use(self, session: Session, database: str) -> None:
        """Makes a database the session's default one."""
        account = self._state.account_of(session)
        if account is None or not may_enter(account, database):
            raise MySqlError(DATABASE_ACCESS_DENIED, *session.account, database)
        if database not in self._state.databases:
            raise MySqlError(UNKNOWN_DATABASE, database)
        session.database = database

    def _carry_out(self, session: Session, statement: Statement) -> Result:
        match statement:
            case Select():
                return self._select(session, statement)
            case SelectUsers():
                return self._select_users(session, statement)
            case ShowWarnings():
                return _warnings(session)
            case SetVariables():
                for name, value in statement.values:
                    session.variables.set(name, value)
            case Use():
                self.use(session, statement.database)
            case EndTransaction():
                pass
            case (
                CreateUser()
                | AlterUser()
                | DropUser()
                | Grant()
                | Revoke()
                | FlushPrivileges()
                | CreateDatabase()
            ):
                return self._administration.carry_out(session, statement)
            case _:
                assert_never(statement)
        return Ok()

    def _select(self, session: Session, statement: Select) -> Rows:
        row = [self._value(session, expression) for _, expression in statement.columns]
        columns = [
            Column(name, ColumnType.TEXT if isinstance(value, str) else ColumnType.INTEGER)
            for (name, _), value in zip(statement.columns, row, strict=True)
        ]
        return Rows(columns, [row])

    def _value(self, session: Session, expression: Expression) -> Value:
        match expression:
            case Literal(value):
                return str(value) if isinstance(value, float) else value
            case SystemVariable(name):
                return session.variables.get(name)
            case Equals():
                left, right = self._value(session, expression.left), self._value(session, expression.right)
                return None if left is None or right is None else int(str(left) == str(right))
            case Call():
                return self._call(session, expression)
            case _:
                assert_never(expression)

    def _call(self, session: Session, call: Call) -> Value:
        arguments = [self._value(session, argument) for argument in call.arguments]
        if len(arguments) != FUNCTIONS[call.function]:
            raise MySqlError(WRONG_ARGUMENT_COUNT, call.function)
        if call.function in _LOCK_FUNCTIONS:
            return self._lock_function(session, call.function, arguments)
        values: dict[str, Value] = {
            "CONNECTION_ID": session.connection_id,
            "CURRENT_USER": f"{session.account.user}@{session.account.host}",
            "DATABASE": session.database,
            "USER": f"{session.user}@{session.host}",
            "VERSION": self._state.settings.version,
        }
        return values[call.function]

    def _lock_function(self, session: Session, function: str, arguments: list[Value]) -> Value:
        locks, owner = self._state.locks, session.connection_id
        if function == "RELEASE_ALL_LOCKS":
            return locks.release_all(owner=owner)
        name = None if arguments[0] is None else str(arguments[0])
        if function == "GET_LOCK":
            return locks.acquire(
                name,
                _whole_seconds(arguments[1]),
                owner=owner,
                wait=lambda seconds: self._state.wait(session, seconds),
            )
        if function == "RELEASE_LOCK":
            return locks.release(name, owner=owner)
        holder = locks.owner_of(name)
        return holder if function == "IS_USED_LOCK" else int(holder is None)

    def _select_users(self, session: Session, statement: SelectUsers) -> Rows:
        reader = self._state.account_of(session)
        if reader is None or not reader.has_privilege("SELECT", Level("mysql", "user")):
            raise MySqlError(TABLE_ACCESS_DENIED, "SELECT", *session.account, "user")
        for column in (*statement.columns, *(column for column, _ in statement.where)):
            if column.lower() not in _USER_COLUMNS:
                raise MySqlError(UNKNOWN_COLUMN, column)
        columns = [
            Column(name, ColumnType.JSON if name.lower() == "user_attributes" else ColumnType.TEXT)
            for name in statement.columns
        ]
        rows = [
            [row[name.lower()] for name in statement.columns]
            for row in map(_user_row, self._state.accounts.all())
            if all(row[name.lower()] == value for name, value in statement.where)
        ]
        return Rows(columns, rows)


def _user_row(account: Account) -> dict[str, str | None]:
    """The columns of mysql.user that are modelled; the secondary password's verifier is masked."""
    attributes = {"additional_password": _MASK} if account.secondary is not None else None
    values = (
        account.name.user,
        account.name.host,
        account.plugin,
        "ANY" if account.require_tls else "",
        "Y" if account.locked else "N",
        "Y" if account.password_expired else "N",
        json.dumps(attributes) if attributes else None,
    )
    return dict(zip(_USER_COLUMNS, values, strict=True))


def _warnings(session: Session) -> Rows:
    columns = (
        Column("Level", ColumnType.TEXT),
        Column("Code", ColumnType.INTEGER),
        Column("Message", ColumnType.TEXT),
    )
    return Rows(columns, [(level, warning.number, warning.message) for level, warning in session.warnings])


def _whole_seconds(value: Value) -> int:
    """GET_LOCK rounds its time-out to whole seconds; NULL and text that is no number count as 0."""
    try:
        return math.floor(float(value or 0) + 0.5)
    except ValueError:
        return 0
