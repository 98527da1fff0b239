"""The statements that the fake understands, parsed."""

from dataclasses import dataclass
from typing import NamedTuple


class AccountName(NamedTuple):
    """The name of an account, `'user'@'host'`."""

    user: str
    host: str = "%"


@dataclass(frozen=True)
class Literal:
    """A constant."""

    value: int | float | str | None


@dataclass(frozen=True)
class Call:
    """A call of a native function."""

    function: str
    arguments: tuple["Expression", ...]


@dataclass(frozen=True)
class SystemVariable:
    """`@@name`."""

    name: str


@dataclass(frozen=True)
class Equals:
    """`left = right`."""

    left: "Expression"
    right: "Expression"


Expression = Literal | Call | SystemVariable | Equals


@dataclass(frozen=True)
class Select:
    """`SELECT` without a table: expressions, each with the name of its column."""

    columns: tuple[tuple[str, Expression], ...]


@dataclass(frozen=True)
class SelectUsers:
    """`SELECT columns FROM mysql.user`, perhaps with equalities that the rows must satisfy."""

    columns: tuple[str, ...]
    where: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ShowWarnings:
    """`SHOW WARNINGS`."""


@dataclass(frozen=True)
class SetVariables:
    """`SET` of session variables."""

    values: tuple[tuple[str, int | str | None], ...]


@dataclass(frozen=True)
class Use:
    """`USE database`."""

    database: str


@dataclass(frozen=True)
class EndTransaction:
    """`COMMIT`, `ROLLBACK`, or a `BEGIN` that ends nothing: there are no tables to change."""


@dataclass(frozen=True)
class Authentication:
    """`IDENTIFIED …`.

    Attributes:
        plugin: The one after WITH; None without WITH.
        password: The one after BY.
        verifier: The one after AS; exactly one of both is given.
    """

    plugin: str | None
    password: str | None
    verifier: bytes | None


@dataclass(frozen=True)
class AccountOptions:
    """What follows the authentication; None leaves a thing as it is."""

    require_tls: bool | None = None
    expire_password: bool | None = None
    lock: bool | None = None


@dataclass(frozen=True)
class CreateUser:
    """`CREATE USER`, of one account."""

    account: AccountName
    if_not_exists: bool
    authentication: Authentication | None
    options: AccountOptions


@dataclass(frozen=True)
class AlterUser:
    """`ALTER USER`, of one account; None is the session's own."""

    account: AccountName | None
    if_exists: bool
    authentication: Authentication | None
    retain_current: bool
    discard_old: bool
    options: AccountOptions


@dataclass(frozen=True)
class DropUser:
    """`DROP USER`, of one account."""

    account: AccountName
    if_exists: bool


class Level(NamedTuple):
    """What a privilege is for: `*.*`, `database.*` or `database.table`."""

    database: str = "*"
    table: str = "*"


EVERYTHING = Level()


@dataclass(frozen=True)
class Grant:
    """`GRANT`; with_grant_option adds the privilege GRANT OPTION."""

    privileges: frozenset[str]
    level: Level
    account: AccountName


@dataclass(frozen=True)
class Revoke:
    """`REVOKE`; no level stands for `REVOKE ALL PRIVILEGES, GRANT OPTION FROM account`."""

    privileges: frozenset[str]
    level: Level | None
    account: AccountName


@dataclass(frozen=True)
class FlushPrivileges:
    """`FLUSH PRIVILEGES`."""


@dataclass(frozen=True)
class CreateDatabase:
    """`CREATE DATABASE`."""

    name: str
    if_not_exists: bool


Statement = (
    Select
    | SelectUsers
    | ShowWarnings
    | SetVariables
    | Use
    | EndTransaction
    | CreateUser
    | AlterUser
    | DropUser
    | Grant
    | Revoke
    | FlushPrivileges
    | CreateDatabase
)
