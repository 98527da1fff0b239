"""The examples of docs/client.md run as they are there, on real servers over TLS, and again after a rotation."""

import sys
from types import ModuleType
from typing import Any

import pytest

from lockstep.client import ClientCredential, CredentialClient
from tests.statemachine.conftest import Case
from tests.statemachine.test_client import ca_file, server
from tests.statemachine.test_client_pools import django_connections
from tests.support.client_page import adapted, examples


def test_the_examples_log_in_and_go_on_after_a_rotation(
    spanning: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    spanning.rotate()
    names = spanning.credential.secret_names
    own = {
        "multi-cloud/app_user": names.app_user,
        "multi-cloud/connection_blob": names.connection_blob,
        "eu-central-1": spanning.world.aws.region,
        "ca.pem": ca_file(server(spanning, "orders")),
    }
    assert ca_file(server(spanning, "ledger")) == own["ca.pem"]
    blocks = [adapted(e, own) for e in examples() if "oci_ring_source" not in e]
    assert len(blocks) == len(examples()) - 1 >= 8
    here: dict[str, Any] = {"__name__": "page"}
    shop = ModuleType("shop.credentials")
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.credentials", shop)
    for generation in (1, 2, 3):
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
        assert (value.generation, client.status.generation, client.status.refusals) == (generation,) * 2 + (
            0,
        )
        spanning.again()
