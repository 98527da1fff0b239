"""Fuzzed replies of both clouds: on the real SDKs, our adapters return a value or raise one of our errors.

Each input changes the reply of one kind of call; the other calls get valid replies, so every call is reached.
"""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.aws.clients import AwsKeys, aws_client, caller_arn
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.aws.kms import KmsDigestKey, KmsSigner
from lockstep.aws.secrets_manager import SecretsManagerSecret, read_secret
from lockstep.oci.clients import OciClients, OciIdentity
from lockstep.oci.ring import VaultRing
from lockstep.oci.vault import Vault, VaultSigner
from lockstep.protocol import model, names
from lockstep.protocol.messages import Recorded
from lockstep.protocol.names import VersionNames
from lockstep.protocol.orders import Account, Activate, Pause
from lockstep.protocol.ports import Mac
from lockstep.stores.credential import CredentialStore
from sandbox.emulators.oci import OciSandbox
from sandbox.identities import endless
from tests.fuzz.garbage_server import GarbageServer, garbage_server
from tests.fuzz.harness import CANARY, Json, documents, inputs, judged, mangled, mutated, spelled
from tests.support.fence import fence_held
from tests.support.logs import object_storage_log, s3_log
from tests.support.memory import EPOCH, FakeClock, make_plan

# Replies that a cloud does not send: cut, wrong, huge, or from a proxy

STATUSES = (*[200] * 4, 204, 206, 301, 307, 400, 401, 403, 404, 409, 412, 413, 429, 500, 503, 599, 999)
XML_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]><x>&d;</x>'
)
BODIES = (
    *(b"", b"null", b"[]", b"{}", b'""', b"7", b"\x00", b"\xff\xfe\xfd", b"\xef\xbb\xbf{}", b"[" * 5000),
    *(b'{"Item":' * 2000, b"<a>" * 5000, b"<Error></Error>", b"<Error><Code/></Error>", XML_BOMB),
    b"<Error><Code>" + CANARY.encode(),
    b"<html><body>Proxy says no to " + CANARY.encode() + b"</body></html>",
    # Valid JSON, because OCI's SDK guesses the character set of anything else, which takes seconds for each megabyte.
    b'{"x":"' + b"x" * 300_000 + b'"}',
    b'{"__type":7}',
    b'{"__type":"","message":null}',
    b'{"__type":"com.amazonaws#ThrottlingException","message":"' + CANARY.encode() + b'"}',
    b'{"__type":"ResourceNotFoundException","message":"' + CANARY.encode() + b'"}',
    b'{"__type":"ConditionalCheckFailedException","Item":{"fence":{"N":"x"}}}',
    b'{"__type":"ConditionalCheckFailedException","Item":7}',
    b'{"code":"LimitExceeded","message":"' + CANARY.encode() + b'"}',
    b'{"code":7,"message":[]}',
)
HEADERS = (
    *("", "content-type: application/json", "content-type: text/html; charset=nonsense", "no-colon"),
    *("content-encoding: gzip", "content-encoding: br", "transfer-encoding: chunked", "x-amz-crc32: 1"),
    *("x-amz-crc32: x", "x-amzn-errortype: ", "x-amzn-query-error: ;", "x-amz-checksum-sha256: AAAA"),
    *("x-amz-meta-seq: x", "x-amz-bucket-region: nowhere", "location: http://127.0.0.1:1/", "etag: x"),
    *("date: yesterday", "last-modified: yesterday", "retry-after: never", "opc-next-page: x"),
)


def whole(valid: object) -> bytes:
    """A valid reply with a body: a document, or bytes."""
    body = valid if isinstance(valid, bytes) else json.dumps(valid).encode()
    head = b"etag: e1\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(
        body
    )
    return b"HTTP/1.1 200 OK\r\n%s\r\n%s" % (head, body)


def replies(valid: Json) -> st.SearchStrategy[bytes]:
    """A reply whose status, headers, body and length may each be wrong.

    Args:
        valid: The body of a valid reply: a document, or bytes if it is not JSON.
    """
    right = valid if isinstance(valid, bytes) else json.dumps(valid).encode()
    wrong = mangled(right) if isinstance(valid, bytes) else mutated(valid).map(lambda d: spelled(d).encode())
    others = st.sampled_from([right, *BODIES]) | documents.map(lambda d: spelled(d).encode())
    return (wrong | wrong | others).flatmap(framed)


@st.composite
def framed(draw: st.DrawFn, body: bytes) -> bytes:
    """A body as a reply, whole or cut."""
    status = draw(st.sampled_from(STATUSES))
    headers = [
        line.encode() + b"\r\n" for line in draw(st.lists(st.sampled_from(HEADERS), max_size=2)) if line
    ]
    length = draw(st.sampled_from([len(body)] * 5 + [0, len(body) + 7, len(body) // 2, None]))
    if length is not None:
        headers.append(b"content-length: %d\r\n" % length)
    reply = b"HTTP/1.1 %d x\r\n%sconnection: close\r\n\r\n%s" % (status, b"".join(headers), body)
    match draw(st.sampled_from(["whole"] * 6 + ["cut", "no head", "garbage"])):
        case "cut":
            return reply[: draw(st.integers(0, min(len(reply), 400)))]
        case "no head":
            return body
        case "garbage":
            return draw(st.binary(max_size=40))
        case _:
            return reply


# The adapters

Operation = Callable[[], object]
Call = tuple[str, str]
CREDENTIAL = make_plan().credentials[0]
NAMES = CREDENTIAL.secret_names
VERSION = VersionNames(credential_id=CREDENTIAL.id, secret=NAMES.app_user).name_of(7)
VALUE = model.CredentialValue(7, model.Login("app", model.SecretStr(CANARY)))
TEXT = json.dumps({"username": "app", "password": CANARY, "generation": 7})


class Kind(NamedTuple):
    """Operations of adapters, whose replies are changed.

    Attributes:
        valid: The body of the reply that is changed.
        call: Which calls get it; all that the service has, unless given.
        gives: The first operation gives a value where that reply is valid.
    """

    valid: Any
    operations: list[Operation]
    call: Call = ("", "")
    gives: bool = True


# AWS: what a service answers, whatever is called

ITEM = {
    **{key: {"S": CREDENTIAL.id} for key in ("credential_id", "owned_by")},
    **{key: {"S": "run-1"} for key in ("holder", "claim_rotation_id")},
    **{key: {"N": "7"} for key in ("fence", "pending_generation", "highest_generation")},
    **{key: {"N": "6"} for key in ("base_generation", "current_generation")},
    **{key: {"N": "1767225600"} for key in ("expires_at", "next_due_at", "not_before")},
    "claim_kind": {"S": "new"},
    "format": {"N": "1"},
    "valid": {"NS": ["5", "6"]},
    "paused": {"BOOL": True},
    "plan": {"S": "a" * 64},
    "activate": {"S": "b" * 64},
    "revoke_through": {"N": "5"},
    "take_over": {"SS": ["db-1"]},
    "blocked": {"SS": ["db-2"]},
    "head_aws": {"M": {"seq": {"N": "3"}, "hash": {"S": "d" * 64}, "rotation_id": {"S": "run-1"}}},
}
AT = b"<LastModified>2026-01-01T00:00:00.000Z</LastModified>"


def xml(root: str, inner: bytes, version: str = "http://s3.amazonaws.com/doc/2006-03-01/") -> bytes:
    opening, closing = f'<?xml version="1.0"?><{root} xmlns="{version}">'.encode(), f"</{root}>".encode()
    return opening + inner + closing


def entry(number: int) -> bytes:
    return b"<Key>aws/multi-cloud.app_user/%012d.json</Key>" % number + AT


BUCKET = b"<Name>b</Name><Prefix>aws/</Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
LISTING = BUCKET + b"<Contents>" + entry(4) + b"<ETag>e</ETag><Size>7</Size></Contents>"
LATEST = b"<VersionId>v1</VersionId><IsLatest>true</IsLatest>"
HISTORY = (
    BUCKET
    + (b"<Version>" + entry(4) + LATEST + b"<Size>7</Size></Version>")
    + (b"<DeleteMarker>" + entry(3) + LATEST + b"</DeleteMarker>")
)
CALLER = b"<GetCallerIdentityResult><Arn>arn:aws:iam::1:user/ops</Arn></GetCallerIdentityResult>"
ERROR = f"<Error><Code>PreconditionFailed</Code><Message>{CANARY}</Message></Error>".encode()


def in_aws(endpoint: str) -> dict[str, Kind]:
    """Every operation of every AWS adapter, by what is answered."""
    keys = AwsKeys(access_key_id="AKIA", secret_access_key=model.SecretStr("a-secret"))
    client = partial(aws_client, region="eu-central-1", keys=endless(keys), endpoint=endpoint)
    secrets, dynamodb, kms, s3 = map(client, ("secretsmanager", "dynamodb", "kms", "s3"))
    store = CredentialStore("aws", CREDENTIAL, partial(SecretsManagerSecret, secrets, "aws"))
    lock = DynamoDbLock(dynamodb, "lockstep", CREDENTIAL.id)
    orders = DynamoDbOrders(dynamodb, "lockstep", CREDENTIAL.id)
    signer, digests = KmsSigner(kms, "alias/lockstep"), KmsDigestKey(kms, "alias/lockstep-digests")
    log = s3_log(s3, "lockstep-audit", CREDENTIAL.id)
    lease = model.Lease(credential_id=CREDENTIAL.id, holder="run-1", fence=7)
    claim = model.Claim(kind=model.ClaimKind.NEW, generation=7, base_generation=6, rotation_id="run-1")
    done = model.Release(
        current_generation=7,
        valid=frozenset({6, 7}),
        proven=("db-1",),
        **dict.fromkeys(("next_due_at", "not_before", "rotated_at"), EPOCH),
    )
    seen = model.StoreVersions(store="aws", app_user=VERSION, connection_blob=VERSION)
    old = model.LockRecord(credential_id=CREDENTIAL.id, plan="of-a-plan")
    account = Account(database="db-1", host="db.example.com", port=3306, username="app")
    recorded = Recorded(stream="aws", seq=3, hash="d" * 64)
    held = {"now": EPOCH, "expires_at": EPOCH + timedelta(minutes=15)}
    label = {"VersionId": VERSION, "VersionStages": ["AWSCURRENT"], "CreatedDate": 1767225600.0}
    key = {name: base64.b64encode(b"z" * 256).decode() for name in ("Mac", "Signature", "PublicKey")}
    sign: list[Operation] = [
        lambda: signer.sign(b"x" * 32),
        lambda: signer.verify(b"x" * 32, Mac(key_id="k", value=b"y" * 32)),
        lambda: digests.sign(b"x" * 32),
        digests.public_key,
    ]
    return {
        "a value": Kind(
            {
                "ARN": "arn:aws:secretsmanager:eu-central-1:1:secret:s",
                "Name": "s",
                **label,
                "SecretString": TEXT,
            },
            [
                store.read_current,
                partial(store.read_version, VERSION),
                *(partial(store.read_generation, generation) for generation in (7, 0)),
                partial(store.stage, VALUE),
                partial(store.serves, 7),
                partial(store.shows, seen),
                partial(store.version_of, 0),
                partial(read_secret, secrets, "aws", "lockstep/admin/orders"),
            ],
        ),
        "labels": Kind(
            {"Name": "multi-cloud/app_user", "VersionIdsToStages": {VERSION: ["AWSCURRENT"]}},
            [
                *(partial(store.promote, generation, fence_held) for generation in (7, 8)),
                lambda: store.prepare_promotion(7, seen=seen)(fence_held),
                store.read_names,
            ],
            gives=False,
        ),
        "a record": Kind(
            {"Item": ITEM, "Attributes": ITEM},
            [
                lock.read,
                partial(lock.acquire, holder="run-1", force=False, **held),
                partial(lock.claim, lease, claim, over=old, plan="of-a-plan", served=(6,)),
                partial(lock.begin_promotion, lease, claim, now=EPOCH),
                partial(lock.require, lease, claim, promoting=False, now=EPOCH - timedelta(days=1)),
                partial(lock.block, lease, ["db-1"]),
                partial(lock.release, lease, done, entry=recorded),
                partial(orders.write, Pause()),
                partial(orders.write, Activate(digest="a" * 64, replaces="b" * 64)),
                partial(orders.hold, holder="order-1", **held),
                partial(orders.register, account),
                partial(orders.unregister, account),
            ],
        ),
        "a caller": Kind(
            xml("GetCallerIdentityResponse", CALLER, "https://sts.amazonaws.com/doc/2011-06-15/"),
            [partial(caller_arn, client("sts"))],
        ),
        "a key": Kind({**key, "MacValid": True, "KeyId": "k", "MacAlgorithm": "HMAC_SHA_256"}, sign),
        "a list": Kind(xml("ListBucketResult", LISTING), [lambda: list(log.numbers())]),
        "a history": Kind(xml("ListVersionsResult", HISTORY), [lambda: list(log.history())]),
        "an error": Kind(
            ERROR,
            [partial(log.put, 4, b"{}", {"chain": "{}"}), partial(log.look, 4), partial(log.read, 4)],
            gives=False,
        ),
    }


# OCI: what one call answers

SECRET_ID = "ocid1.vaultsecret.oc1.eu.aaaa"
SECRET = {"id": SECRET_ID, "lifecycleState": "ACTIVE"}
OF_SECRET = f"/secrets/{SECRET_ID}"
LISTED = [
    {**SECRET, "secretName": name, "vaultId": "v", "compartmentId": "c"}
    for name in (
        *(names.slot_name(name, 0) for name in (NAMES.app_user, NAMES.connection_blob)),
        "lockstep.mac",
    )
]
STATE = {**SECRET, "secretName": names.slot_name(NAMES.app_user, 0), "currentVersionNumber": 1}
OF_VERSION = {"secretId": SECRET_ID, "timeOfDeletion": None}
VERSIONS = [
    {**OF_VERSION, "versionNumber": 1, "name": None, "stages": ["CURRENT"]},
    {**OF_VERSION, "versionNumber": 2, "name": VERSION, "stages": ["PENDING"]},
]
CONTENT = {"contentType": "BASE64", "content": base64.b64encode(TEXT.encode()).decode()}
BUNDLE = {"secretId": SECRET_ID, "versionNumber": 2, "versionName": VERSION, "stages": ["CURRENT"]}
OBJECT = "oci/multi-cloud.app_user/000000000004.json"
WRITTEN = {"timeCreated": "2026-01-01T00:00:00.000Z", "timeModified": "2026-01-01T00:00:00.000Z"}
OBJECT_VERSION = {"name": OBJECT, "size": 12, "versionId": "v1", "isDeleteMarker": False, **WRITTEN}


def in_oci(clients: OciClients) -> dict[str, Kind]:
    """Every operation of every OCI adapter, on new objects without state, by the call whose reply is changed."""
    vault = Vault(
        clients, compartment_id="ocid1.compartment.oc1..a", vault_id="ocid1.vault.oc1..a", store="oci"
    )
    ring = partial(VaultRing, vault, slots=1, clock=FakeClock())
    store = CredentialStore("oci", CREDENTIAL, ring)
    sign = partial(VaultSigner(vault, "lockstep.mac").sign, b"x" * 32)
    log = object_storage_log(clients, "tenant", "lockstep-audit", CREDENTIAL.id)
    seen = model.StoreVersions(store="oci", app_user="0:1", connection_blob="0:1")
    stage, serves, promote = (
        partial(store.stage, VALUE),
        partial(store.serves, 7),
        partial(store.promote, 7, fence_held),
    )
    promotions: list[Operation] = [promote, lambda: store.prepare_promotion(7, seen=seen)(fence_held)]
    found: list[Operation] = [partial(store.read_generation, generation) for generation in (7, 0)]
    versions: list[Operation] = [
        *found,
        stage,
        *promotions,
        partial(store.version_of, 7),
        store.prune,
        store.read_names,
    ]
    bundles: list[Operation] = [
        partial(store.read_version, "0:2"),
        store.read_current,
        stage,
        serves,
        partial(store.shows, seen),
        sign,
    ]
    put = partial(log.put, 4, b"{}", {"chain": "{}"})
    kinds = [
        Kind(VERSIONS, versions, ("GET", "/versions")),
        Kind(LISTED, [sign, store.read_names, store.read_current, serves], ("GET", "/secrets")),
        Kind(STATE, promotions, ("GET", OF_SECRET), gives=False),
        Kind(STATE, [*promotions, stage], ("PUT", OF_SECRET), gives=False),
        Kind({**BUNDLE, "secretBundleContent": CONTENT}, bundles, ("GET", f"/secretbundles/{SECRET_ID}")),
        Kind({}, [store.prune], ("POST", "/scheduleDeletion"), gives=False),
        Kind({"objects": [{"name": OBJECT}], "prefixes": []}, [lambda: list(log.numbers())], ("GET", "/o")),
        Kind(
            {"items": [OBJECT_VERSION], "prefixes": []},
            [lambda: list(log.history())],
            ("GET", "/objectversions"),
        ),
        Kind(b'{"event":{}}', [partial(log.read, 4)], ("GET", ".json")),
        Kind(b"", [partial(log.look, 4)], ("HEAD", ".json"), gives=False),
        Kind(b"", [put], ("PUT", ".json")),
    ]
    return {" ".join(kind.call): kind for kind in kinds}


@pytest.fixture(scope="module")
def server() -> Iterator[GarbageServer]:
    with garbage_server() as running:
        yield running


@pytest.fixture(scope="module")
def kinds(server: GarbageServer) -> dict[str, Kind]:
    key = OciIdentity(config=OciSandbox().config())
    return in_aws(server.endpoint) | in_oci(
        OciClients(lambda: key, "eu-frankfurt-1", endpoint=server.endpoint)
    )


EVERY = in_aws("http://127.0.0.1:1") | in_oci(OciClients(lambda: pytest.fail("asked"), "eu-frankfurt-1"))


def answer(server: GarbageServer, kinds: dict[str, Kind], kind: Kind, reply: bytes) -> None:
    """Answer the calls of a kind so, and every other one as is right."""
    server.reply = reply
    server.replies = {
        other.call: reply if other.call == kind.call else whole(other.valid)
        for other in kinds.values()
        if all(other.call) and all(kind.call)
    }


@pytest.mark.parametrize("name", [name for name, kind in EVERY.items() if kind.gives])
def test_valid_replies_give_values(server: GarbageServer, kinds: dict[str, Kind], name: str) -> None:
    answer(server, kinds, kinds[name], whole(kinds[name].valid))
    assert kinds[name].operations[0]() is not None


@pytest.mark.parametrize("name", EVERY)
@inputs(50)
@given(st.data())
def test_any_reply(server: GarbageServer, kinds: dict[str, Kind], name: str, data: st.DataObject) -> None:
    answer(server, kinds, kinds[name], data.draw(replies(kinds[name].valid)))
    with judged():
        data.draw(st.sampled_from(kinds[name].operations))()


@pytest.mark.parametrize("name", EVERY)
def test_special_replies(server: GarbageServer, kinds: dict[str, Kind], name: str) -> None:
    for body in BODIES:
        answer(server, kinds, kinds[name], whole(body))
        for operation in kinds[name].operations:
            with judged():
                operation()
