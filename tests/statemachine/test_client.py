"""The client with each driver on real databases: through rotations, with revoked values, and as its page says."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from lockstep.client import (
    ClientCredential,
    CredentialClient,
    connect_asyncpg,
    connect_psycopg,
    connect_psycopg_async,
    connect_pymysql,
)
from tests.statemachine.conftest import Case
from tests.statemachine.test_client_pools import ca_file, client_of, django_connections
from tests.support.client_page import adapted, examples
from tests.unit.test_client import log_in

DRIVERS: dict[Callable[..., Any], tuple[str, str]] = {
    connect_pymysql: ("orders", "ssl_ca"),
    connect_psycopg: ("ledger", "sslrootcert"),
    connect_psycopg_async: ("ledger", "sslrootcert"),
    connect_asyncpg: ("ledger", "ssl_ca"),
}
"""For each a database and the option of a CA file."""


def test_every_driver_and_the_pages_examples_go_on_after_rotations(
    spanning: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of docs/client.md, as they are there."""
    spanning.rotate()
    clients = [client_of(spanning, max_age_seconds=1e9) for _ in DRIVERS]
    names, ca = spanning.credential.secret_names, ca_file(spanning, "orders")
    own = {
        "multi-cloud/ledger_user": names.app_user,
        "multi-cloud/ledger_user.connection": names.connection_blob,
        "eu-central-1": spanning.world.aws.region,
        "ca.pem": ca,
    }
    blocks = [adapted(e, own) for e in examples() if "oci_ring_source" not in e]
    assert len(blocks) == len(examples()) - 1 >= 8
    here: dict[str, Any] = {"__name__": "page"}
    shop = ModuleType("shop.credentials")
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.credentials", shop)
    # During the overlap a cached value still works. Then generation 1 is revoked on every database.
    for generation, cached in ((1, 1), (2, 1), (3, 3)):
        for client, (connect, (database, ca_option)) in zip(clients, DRIVERS.items(), strict=True):
            log_in(connect, client, database=database, **{ca_option: ca})
            assert client.get().generation == cached
        for block in blocks:
            shop.credential = here.get("credential")  # type: ignore[attr-defined]
            exec(compile(block, "docs/client.md", "exec"), here)  # noqa: S102 - the page's examples
        for name in ("orders", "ledger"):
            with here[name].connect() as connection:
                connection.exec_driver_sql("SELECT 1")
            here[name].dispose()
        with django_connections(here["DATABASES"])["default"].cursor() as cursor:
            cursor.execute("SELECT 1")
        here["connection"].close()
        client, value = here["credential"], here["value"]
        assert isinstance(client, CredentialClient)
        assert isinstance(value, ClientCredential)
        assert (value.generation, client.get().generation, client.refusals) == (generation, generation, 0)
        spanning.again()
