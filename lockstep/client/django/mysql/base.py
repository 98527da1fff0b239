"""Django's backend for MySQL and MariaDB, logging in with a `CredentialClient`. See `lockstep.client.django.logins`.

Django knows mysqlclient. PyMySQL is installed in its place, for every database of the process.
"""

import sys
from typing import Any

import pymysql
from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]  # Django ships no types

pymysql.install_as_MySQLdb()  # Before Django's backend imports it.
# Without these, Django's import of `MySQLdb.converters` would load PyMySQL's modules a second time, and `pymysql.err`
# would then have other classes than those that connections raise.
sys.modules |= {
    f"MySQLdb.{name.removeprefix('pymysql.')}": module
    for name, module in sys.modules.items()
    if name.startswith("pymysql.")
}

from django.db.backends.mysql import base  # type: ignore[import-untyped]  # noqa: E402 - see above

from lockstep.client.django.logins import LogsIn  # noqa: E402 - likewise
from lockstep.client.drivers import pymysql_opener  # noqa: E402 - likewise

if base.Database is not pymysql:
    raise ImproperlyConfigured(
        "Django's MySQL backend has loaded mysqlclient already; this one needs PyMySQL"
    )


class DatabaseWrapper(LogsIn, base.DatabaseWrapper):  # type: ignore[misc]  # Django ships no types
    """A connection of one thread."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """With the client's value."""
        told = {("dbname" if k == "database" else k): v for k, v in conn_params.items()}
        return self.log_in(super().get_new_connection, pymysql_opener, told)
