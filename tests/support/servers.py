"""Which servers a test needs."""

import pytest

from sandbox.emulators.databases import DatabaseServer, available


def require(server: type[DatabaseServer]) -> None:
    """Skip where the machine cannot start a server."""
    availability = next(found for kind, found in available().items() if issubclass(server, kind))
    if not availability:
        pytest.skip(availability.missing)
