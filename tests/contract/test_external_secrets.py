"""The example for External Secrets in OCI, by the rules of its Oracle provider (protocol V18, V23).

The provider asks Vault for the current version of a secret by its name. What it extracts must be a JSON object of
strings: anything else fails the whole secret. Each key must be one of a Kubernetes Secret.
https://github.com/external-secrets/external-secrets/blob/main/providers/v1/oracle/oracle.go
"""

import json
import re
from base64 import b64decode
from datetime import timedelta
from pathlib import Path
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from ruamel.yaml import YAML

from lockstep.protocol.durations import parse_duration
from tests.support.fence import fence_held
from tests.unit.ring_world import emulated_ring, value

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "external-secrets-oci.yaml"
KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
SHORTEST_OVERLAP = timedelta(minutes=8)
"""Half of the default: the rest is for the application."""


def extracted(text: bytes) -> dict[str, str]:
    found = json.loads(text)
    assert isinstance(found, dict)
    for key, member in found.items():
        assert isinstance(member, str), f"{key} is no string"
        assert KEY.fullmatch(key)
    return found


@pytest.fixture(scope="module")
def documents() -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(EXAMPLE.read_text()))


def test_the_provider_reads_what_the_example_names(documents: list[Any]) -> None:
    store, *externals = documents
    assert store["spec"]["provider"]["oracle"].keys() >= {"vault", "region", "principalType"}
    found = {}
    with emulated_ring(slots=2) as world:
        for generation in (1, 2):  # Each slot has a value.
            world.store.stage(value(generation))
            world.store.promote(generation, fence_held)
        client: Any = world.sandbox.client(oci.secrets.SecretsClient)
        for external in externals:
            assert external["spec"]["secretStoreRef"] == {
                "kind": "SecretStore",
                "name": store["metadata"]["name"],
            }
            [source] = external["spec"]["dataFrom"]
            bundle = client.get_secret_bundle_by_name(source["extract"]["key"], world.sandbox.vault_id)
            found[external["spec"]["target"]["name"]] = extracted(
                b64decode(bundle.data.secret_bundle_content.content)
            )
    user, databases = found["app-user"], found["app-databases"]
    assert re.fullmatch(r"password-[12]", user["password"])
    assert user.keys() >= {"username", "host", "port", "dbname", "engine"}
    assert databases["dsn"].endswith(f"://{user['host']}:{user['port']}/{user['dbname']}")
    for template in documents[2]["spec"]["target"]["template"]["data"].values():
        assert template.removeprefix("{{ .").removesuffix(" }}") in databases
    assert json.loads(databases["databases"])


def test_a_login_is_refreshed_in_time(documents: list[Any]) -> None:
    assert parse_duration(documents[1]["spec"]["refreshInterval"]) <= SHORTEST_OVERLAP
