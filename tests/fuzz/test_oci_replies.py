"""Fuzzed replies of OCI: on the real SDK, our adapters return a value or raise one of our errors.

Each input changes the reply of one kind of call. The other calls get valid replies, so every call is reached.
"""

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.object_storage import ObjectStorageAuditLog
from lockstep.oci.vault import Vault, VaultSigner
from lockstep.protocol import names
from lockstep.protocol.model import CredentialValue, Login, SecretStr, StoreVersions
from lockstep.protocol.names import VersionNames
from lockstep.stores.credential import CredentialStore
from lockstep.stores.readers import NamedStore
from lockstep.stores.ring import VaultRing
from tests.fuzz.garbage_server import GarbageServer
from tests.fuzz.harness import CANARY, inputs, judged
from tests.fuzz.replies import BODIES, replies
from tests.support.fence import fence_held
from tests.support.memory import FakeClock, make_plan

CREDENTIAL = make_plan().credentials[0]
SECRET = CREDENTIAL.secret_names.app_user
SECRET_ID = "ocid1.vaultsecret.oc1.eu.aaaa"
VALUE = CredentialValue(7, Login("app", SecretStr(CANARY)))
SEEN_VERSIONS = StoreVersions(store="oci", app_user="0:1", connection_blob="0:1")
NAME = VersionNames(credential_id=CREDENTIAL.id, secret=SECRET).name_of(7)

LIST = [
    {"id": SECRET_ID, "secretName": name, "lifecycleState": "ACTIVE", "vaultId": "v", "compartmentId": "c"}
    for name in (
        names.slot_name(SECRET, 0),
        names.slot_name(CREDENTIAL.secret_names.connection_blob, 0),
        "lockstep.mac",
    )
]
STATE = {
    "id": SECRET_ID,
    "secretName": names.slot_name(SECRET, 0),
    "lifecycleState": "ACTIVE",
    "currentVersionNumber": 1,
}
VERSIONS = [
    {"secretId": SECRET_ID, "versionNumber": 1, "name": None, "stages": ["CURRENT"], "timeOfDeletion": None},
    {"secretId": SECRET_ID, "versionNumber": 2, "name": NAME, "stages": ["PENDING"], "timeOfDeletion": None},
]
TEXT = json.dumps({"username": "app", "password": CANARY, "generation": 7})
BUNDLE = {
    "secretId": SECRET_ID,
    "versionNumber": 2,
    "versionName": NAME,
    "stages": ["CURRENT"],
    "secretBundleContent": {"contentType": "BASE64", "content": base64.b64encode(TEXT.encode()).decode()},
}
OBJECTS = {"objects": [{"name": "oci/multi-cloud.app_user/000000000004.json"}], "prefixes": []}
OBJECT_VERSIONS = {
    "items": [
        {
            "name": "oci/multi-cloud.app_user/000000000004.json",
            "size": 12,
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "timeModified": "2026-01-01T00:00:00.000Z",
            "versionId": "v1",
            "isDeleteMarker": False,
        }
    ],
    "prefixes": [],
}
ENTRY_BODY = b'{"event":{}}'

Call = tuple[str, str]
CALLS: dict[Call, Any] = {
    ("GET", "/versions"): VERSIONS,
    ("GET", "/secrets"): LIST,
    ("GET", f"/secrets/{SECRET_ID}"): STATE,
    ("PUT", f"/secrets/{SECRET_ID}"): STATE,
    ("GET", f"/secretbundles/{SECRET_ID}"): BUNDLE,
    ("POST", "/scheduleDeletion"): {},
    ("GET", "/o"): OBJECTS,
    ("GET", "/objectversions"): OBJECT_VERSIONS,
    ("GET", ".json"): ENTRY_BODY,
    ("HEAD", ".json"): b"",
    ("PUT", ".json"): b"",
}
Operation = Callable[[], object]


@pytest.fixture(scope="module")
def server() -> Iterator[GarbageServer]:
    with GarbageServer() as running:
        yield running


@pytest.fixture(scope="module")
def identity() -> OciIdentity:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return OciIdentity(
        config={
            "tenancy": "ocid1.tenancy.oc1..aaaa",
            "user": "ocid1.user.oc1..aaaa",
            "fingerprint": ":".join(["aa"] * 16),
            "key_content": pem.decode(),
            "region": "eu-frankfurt-1",
        }
    )


@pytest.fixture(scope="module")
def clients(server: GarbageServer, identity: OciIdentity) -> OciClients:
    return OciClients(lambda: identity, "eu-frankfurt-1", endpoint=server.endpoint)


def operations(clients: OciClients) -> dict[str, Operation]:
    """Every operation of every OCI adapter, on new objects without state."""
    vault = Vault(
        clients, compartment_id="ocid1.compartment.oc1..a", vault_id="ocid1.vault.oc1..a", store="oci"
    )
    store = CredentialStore("oci", CREDENTIAL, partial(VaultRing, vault, slots=1, clock=FakeClock()))
    named = NamedStore("oci", CREDENTIAL, partial(VaultRing, vault, slots=1, clock=FakeClock()))
    signer = VaultSigner(vault, "lockstep.mac")
    log = ObjectStorageAuditLog(
        clients, namespace="tenant", bucket="lockstep-audit", stream="oci", credential_id=CREDENTIAL.id
    )
    return {
        "read_current": store.read_current,
        "read_version": lambda: store.read_version("0:2"),
        "read_generation": lambda: store.read_generation(7),
        "read_found": lambda: store.read_generation(0),
        "stage": lambda: store.stage(VALUE),
        "promote": lambda: store.promote(7, fence_held),
        "serves": lambda: store.serves(7),
        "promote from seen": lambda: store.prepare_promotion(7, seen=SEEN_VERSIONS)(fence_held),
        "shows": lambda: store.shows(SEEN_VERSIONS),
        "version_of": lambda: store.version_of(7),
        "prune": store.prune,
        "named": named.read,
        "staged_at": lambda: named.staged_at(7),
        "sign": lambda: signer.sign(b"x" * 32),
        "put": lambda: log.put(4, b"{}", {"chain": "{}"}),
        "look": lambda: log.look(4),
        "read": lambda: log.read(4),
        "numbers": lambda: list(log.numbers()),
        "history": lambda: list(log.history()),
    }


def whole(valid: object) -> bytes:
    body = valid if isinstance(valid, bytes) else json.dumps(valid).encode()
    return (
        b"HTTP/1.1 200 OK\r\netag: e1\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)
    )


RIGHT: dict[Call, bytes] = {call: whole(valid) for call, valid in CALLS.items()}


def judge(operation: Operation) -> None:
    with judged("oci"):
        operation()


REACHES: dict[Call, tuple[str, ...]] = {
    ("GET", "/versions"): (
        "read_generation",
        "read_found",
        "stage",
        "promote",
        "promote from seen",
        "version_of",
        "prune",
        "named",
        "staged_at",
    ),
    ("GET", "/secrets"): ("read_current", "serves", "sign", "named"),
    ("GET", f"/secrets/{SECRET_ID}"): ("promote", "promote from seen"),
    ("PUT", f"/secrets/{SECRET_ID}"): ("promote", "promote from seen", "stage"),
    ("GET", f"/secretbundles/{SECRET_ID}"): (
        "read_current",
        "read_version",
        "stage",
        "serves",
        "shows",
        "sign",
    ),
    ("POST", "/scheduleDeletion"): ("prune",),
    ("GET", "/o"): ("numbers",),
    ("GET", "/objectversions"): ("history",),
    ("GET", ".json"): ("read",),
    ("HEAD", ".json"): ("look",),
    ("PUT", ".json"): ("put",),
}
"""Which operations make which call."""


def test_valid_replies_give_values(server: GarbageServer, clients: OciClients) -> None:
    server.replies = RIGHT
    named = operations(clients)
    for name in ("read_version", "read_generation", "sign", "put", "read", "numbers", "history", "named"):
        assert named[name](), name


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
@inputs(25)
@given(st.data())
def test_any_reply(server: GarbageServer, clients: OciClients, call: Call, data: st.DataObject) -> None:
    server.replies = {**RIGHT, call: data.draw(replies(CALLS[call]))}
    judge(operations(clients)[data.draw(st.sampled_from(REACHES[call]))])


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_special_replies(server: GarbageServer, clients: OciClients, call: Call) -> None:
    for body in BODIES:
        server.replies = {**RIGHT, call: whole(body)}
        judge(operations(clients)[REACHES[call][0]])
