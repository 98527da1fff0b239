"""Django's backend for PostgreSQL, logging in with a `CredentialClient`. See `lockstep.client.django.logins`."""

from typing import Any

from django.db.backends.postgresql import base  # type: ignore[import-untyped]  # Django ships no types

from lockstep.client.django.logins import LogsIn
from lockstep.client.drivers import psycopg_opener


class DatabaseWrapper(LogsIn, base.DatabaseWrapper):  # type: ignore[misc]  # Django ships no types
    """A connection of one thread."""

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """With the client's value."""
        return self.log_in(super().get_new_connection, psycopg_opener, conn_params)
