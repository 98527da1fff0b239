"""What both backends share: how a connection is made, and when it is obsolete.

    DATABASES = {
        "default": {
            "ENGINE": "lockstep.client.django.postgresql",
            "NAME": "ledger",
            "OPTIONS": {"credential": "shop.credentials.credential", "overlap_seconds": 600, "sslrootcert": "ca.pem"},
        }
    }

`NAME` is the database's name in the plan; with a `HOST` of your own it is the name on that server. `credential` is the
path of a `CredentialClient`, `overlap_seconds` the plan's `overlap`. All other options are those of Django.
"""

from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured  # type: ignore[import-untyped]  # Django ships no types
from django.utils.module_loading import import_string  # type: ignore[import-untyped]  # likewise

from lockstep.client.drivers import Opener
from lockstep.client.threads import CredentialClient

_OWN = ("credential", "overlap_seconds")
_NOT_PASSED_ON = {*_OWN, "user", "password"}


class LogsIn:
    """A connection of one thread, to be mixed in before Django's `DatabaseWrapper`."""

    settings_dict: dict[str, Any]
    alias: str
    connection: Any
    in_atomic_block: bool

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        options = self.settings_dict["OPTIONS"]
        missing = [name for name in _OWN if name not in options]
        if missing:
            raise ImproperlyConfigured(f"OPTIONS of {self.alias} has no {' and no '.join(missing)}")
        if options.get("pool"):
            raise ImproperlyConfigured("Django's pool keeps one password; leave `pool` out")
        self._overlap_seconds = float(options["overlap_seconds"])

    @property
    def _client(self) -> CredentialClient:
        found: CredentialClient = import_string(self.settings_dict["OPTIONS"]["credential"])
        return found

    def log_in(
        self,
        make: Callable[[dict[str, Any]], Any],
        opener_of: Callable[..., Opener],
        told: dict[str, Any],
    ) -> Any:
        """Log in with the current value, and once more with a newer one if it is refused.

        Args:
            make: Django's own way to make a connection.
            opener_of: Of the driver.
            told: Django's parameters of a connection; the database's name is `dbname`.
        """
        options = {k: v for k, v in told.items() if k not in _NOT_PASSED_ON}
        database = None if "host" in options else options.pop("dbname")
        return self._client.login(
            *opener_of(database=database, connect=lambda **params: make(params), **options)
        )

    def close_if_unusable_or_obsolete(self) -> None:
        """As Django's, which calls it around each request; a connection of a revoked generation is obsolete."""
        is_open = self.connection is not None and not self.in_atomic_block
        if is_open and self._client.is_revoked(self.connection, self._overlap_seconds):
            super().close()  # type: ignore[misc]  # Django's, which comes after this class
        super().close_if_unusable_or_obsolete()  # type: ignore[misc]  # likewise
