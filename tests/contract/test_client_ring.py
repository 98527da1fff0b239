"""The client reads the ring in OCI: by version names, over HTTP, also after edits and deletions."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.client import CredentialClient, oci_ring_source
from lockstep.client.cache import Source
from lockstep.protocol.errors import SecretMalformedError, SecretNotFoundError, StoreUnreachableError
from lockstep.protocol.ring import SLOTS
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.emulators.oci import write_config_file
from tests.contract.harness import CREDENTIAL
from tests.contract.oci_fixtures import VaultRingHarness
from tests.support.client_page import adapted, examples
from tests.support.ring_world import advance, emulated_ring, value


@pytest.fixture
def world() -> Iterator[VaultRingHarness]:
    with emulated_ring() as harness:
        yield harness


@pytest.fixture
def source(world: VaultRingHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    config = write_config_file(tmp_path, "application", world.sandbox.config())
    monkeypatch.setenv(CONFIG_FILE_VARIABLE, str(config))
    monkeypatch.setenv(OCI_ENDPOINT_VARIABLE, world.sandbox.endpoint)
    return oci_ring_source(
        CREDENTIAL.secret_names.app_user,
        region="eu-frankfurt-1",
        compartment_id=world.sandbox.compartment_id,
        vault_id=world.sandbox.vault_id,
        credential_id=CREDENTIAL.id,
    )


def test_the_highest_generation_is_read_whatever_a_copy_claims(
    world: VaultRingHarness, source: Source
) -> None:
    with pytest.raises(SecretMalformedError, match="never rotated: `lockstep rotate --force CREDENTIAL`"):
        source()
    newest = SLOTS + 1
    advance(world, *range(1, newest + 1))
    found, login = source(), value(newest).login
    assert (found.username, found.password, found.generation) == (login.username, login.password, newest)
    older = next(i for i in world.ids["app_user"] if i != world.serving("app_user")[0])
    copied = {"username": "app", "password": "copied-by-hand", "generation": 999}
    world.console.edit(older, json.dumps(copied))
    assert source() == found
    for secret_id in world.ids["app_user"]:
        world.console.remove(secret_id)
    with pytest.raises(SecretNotFoundError):
        source()


def test_the_pages_example_reads_the_ring_and_the_next_source_where_the_vault_does_not_answer(
    world: VaultRingHarness, source: Source
) -> None:
    advance(world, 1)
    names = CREDENTIAL.secret_names
    own = {
        "multi-cloud/ledger_user": names.app_user,
        "multi-cloud/ledger_user.connection": names.connection_blob,
        "ocid1.compartment.oc1..aaaa": world.sandbox.compartment_id,
        "ocid1.vault.oc1.eu-frankfurt-1.aaaa": world.sandbox.vault_id,
    }
    [example] = [e for e in examples() if "oci_ring_source" in e]
    here: dict[str, CredentialClient] = {}
    exec(compile(adapted(example, own), "docs/client.md", "exec"), here)  # noqa: S102 - the page's example
    found = here["credential"].get()
    assert found == source()
    kept = here["credential"].kept
    assert kept
    assert kept.source == "oci"
    assert found.databases.keys() == {server.name for server in CREDENTIAL.servers}
    world.sandbox.stop()
    with pytest.raises(StoreUnreachableError):
        source()
    assert CredentialClient([source, lambda: found]).get() == found
