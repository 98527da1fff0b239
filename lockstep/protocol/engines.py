"""The engines that a plan can name: one row each.

To add an engine, add a member to `lockstep.protocol.model.Engine` and a row here, and write its driver
(`lockstep.runtime.databases.driver_of`), its provisioning, its listing of sessions and what can be asked of it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lockstep.protocol.model import Engine, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What Lockstep has to know about an engine.

    Attributes:
        dsn_scheme: The scheme of the URLs in `connection_blob`.
        strategies: Those that its accounts allow.
        own_accounts: Accounts of the server itself or of its host, which are never an application's.
        longest_username: In characters.
        accounts_have_hosts: Whether an account is a username and a host, so that one username can be several accounts.
        is_refusal: Whether an error of an application's driver means that the server refuses the login.
    """

    dsn_scheme: str
    strategies: frozenset[Strategy]
    own_accounts: re.Pattern[str]
    longest_username: int
    accounts_have_hosts: bool
    is_refusal: Callable[[Exception], bool]


def is_mysql_refusal(error: Exception) -> bool:
    """Whether a PyMySQL error is 1045, access denied."""
    return bool(error.args) and error.args[0] == 1045  # noqa: PLR2004 - ER_ACCESS_DENIED_ERROR


def is_postgresql_refusal(error: Exception) -> bool:
    """Whether a psycopg error is a refused password.

    libpq gives no SQLSTATE for a failed connection (https://www.psycopg.org/psycopg3/docs/api/errors.html), so the
    server's message is read.
    """
    return getattr(error, "sqlstate", None) == "28P01" or "password authentication failed" in str(error)


ENGINES: Mapping[Engine, EngineSpec] = {
    Engine.MYSQL: EngineSpec(
        dsn_scheme="mysql",
        strategies=frozenset(Strategy),
        own_accounts=re.compile("root|rdsadmin"),
        longest_username=32,
        accounts_have_hosts=True,
        is_refusal=is_mysql_refusal,
    ),
    Engine.MARIADB: EngineSpec(
        dsn_scheme="mariadb",
        strategies=frozenset(Strategy),
        own_accounts=re.compile("root|rdsadmin|mysql|PUBLIC"),
        longest_username=128,
        accounts_have_hosts=True,
        is_refusal=is_mysql_refusal,
    ),
    Engine.POSTGRESQL: EngineSpec(
        dsn_scheme="postgresql",
        strategies=frozenset({Strategy.ALTERNATING_USERS}),  # a role has one password
        own_accounts=re.compile("postgres|rdsadmin|public|none|pg_.*"),
        longest_username=63,
        accounts_have_hosts=False,
        is_refusal=is_postgresql_refusal,
    ),
}
