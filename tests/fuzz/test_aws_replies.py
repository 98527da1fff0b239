"""Fuzzed replies of AWS: on real botocore clients, our adapters return a value or raise one of our errors."""

import base64
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.aws.clients import AwsKeys, aws_client, caller_arn
from lockstep.aws.dynamodb_lock import DynamoDbLock
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.aws.kms import KmsDigestKey, KmsSigner
from lockstep.aws.s3 import S3AuditLog
from lockstep.aws.secrets_manager import SecretsManagerSecret, read_secret
from lockstep.protocol.messages import Recorded
from lockstep.protocol.model import (
    Claim,
    ClaimKind,
    CredentialValue,
    Lease,
    LockRecord,
    Login,
    Release,
    SecretStr,
    StoreVersions,
)
from lockstep.protocol.names import VersionNames
from lockstep.protocol.orders import Account, Activate, Pause
from lockstep.protocol.ports import Mac
from lockstep.stores.credential import CredentialStore
from lockstep.stores.readers import NamedStore
from tests.fuzz.garbage_server import GarbageServer
from tests.fuzz.harness import CANARY, inputs, judged
from tests.fuzz.replies import BODIES, replies
from tests.support.fence import fence_held
from tests.support.memory import EPOCH, make_plan

REGION = "eu-central-1"
CREDENTIAL = make_plan().credentials[0]
VERSION = VersionNames(credential_id=CREDENTIAL.id, secret=CREDENTIAL.secret_names.app_user).name_of(7)
ACCOUNT = Account(database="db-1", host="db.example.com", port=3306, username="app")
LEASE = Lease(credential_id=CREDENTIAL.id, holder="run-1", fence=7)
SEEN = LockRecord(credential_id=CREDENTIAL.id, plan="of-a-plan")
CLAIM = Claim(kind=ClaimKind.NEW, generation=7, base_generation=6, rotation_id="run-1")
ENTRY = Recorded(stream="aws", seq=3, hash="d" * 64)
DONE = Release(
    current_generation=7,
    valid=frozenset({6, 7}),
    proven=("db-1",),
    next_due_at=EPOCH,
    not_before=EPOCH,
    rotated_at=EPOCH,
)
VALUE = CredentialValue(7, Login("app", SecretStr(CANARY)))
SEEN_VERSIONS = StoreVersions(store="aws", app_user=VERSION, connection_blob=VERSION)

GET_SECRET = {
    "ARN": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:s",
    "Name": "multi-cloud/app_user",
    "VersionId": VERSION,
    "SecretString": json.dumps({"username": "app", "password": CANARY, "generation": 7}),
    "VersionStages": ["AWSCURRENT"],
    "CreatedDate": 1767225600.0,
}
DESCRIBE_SECRET = {"Name": "multi-cloud/app_user", "VersionIdsToStages": {VERSION: ["AWSCURRENT"]}}
VERSIONS = {
    "Name": "multi-cloud/app_user",
    "Versions": [{"VersionId": VERSION, "VersionStages": ["AWSCURRENT"], "CreatedDate": 1767225600.0}],
}
ITEM = {
    "credential_id": {"S": CREDENTIAL.id},
    "holder": {"S": "run-1"},
    "fence": {"N": "7"},
    "expires_at": {"N": "1767225600"},
    "claim_kind": {"S": "new"},
    "pending_generation": {"N": "7"},
    "base_generation": {"N": "6"},
    "claim_rotation_id": {"S": "run-1"},
    "current_generation": {"N": "6"},
    "plan": {"S": "of-a-plan"},
    "format": {"N": "1"},
    "valid": {"NS": ["5", "6"]},
    "paused": {"BOOL": True},
    "activate": {"S": "of-another-plan"},
    "revoke_through": {"N": "5"},
    "take_over": {"SS": ["db-1"]},
    "blocked": {"SS": ["db-2"]},
    "highest_generation": {"N": "7"},
    "next_due_at": {"N": "1767225600"},
    "not_before": {"N": "1767225600"},
    "head_aws": {"M": {"seq": {"N": "3"}, "hash": {"S": "d" * 64}, "rotation_id": {"S": "run-1"}}},
}
ORDERS = {
    **ITEM,
    "paused": {"BOOL": True},
    "plan": {"S": "a" * 64},
    "activate": {"S": "b" * 64},
    "revoke_through": {"N": "7"},
    "take_over": {"SS": ["db-1"]},
    "blocked": {"SS": ["db-2"]},
    "owned_by": {"S": "multi-cloud/other"},
}
CALLER = (
    b'<?xml version="1.0"?><GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
    b"<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/ops</Arn></GetCallerIdentityResult>"
    b"</GetCallerIdentityResponse>"
)
LISTING = (
    b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>b</Name><Prefix>aws/</Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
    b"<Contents><Key>aws/multi-cloud.app_user/000000000004.json</Key>"
    b"<LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>7</Size></Contents></ListBucketResult>"
)
OBJECT_VERSIONS = (
    b'<?xml version="1.0"?><ListVersionsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<Name>b</Name><Prefix>aws/</Prefix><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
    b"<Version><Key>aws/multi-cloud.app_user/000000000004.json</Key><VersionId>v2</VersionId><IsLatest>true</IsLatest>"
    b"<LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>7</Size></Version>"
    b"<DeleteMarker><Key>aws/multi-cloud.app_user/000000000003.json</Key><VersionId>v1</VersionId>"
    b"<IsLatest>true</IsLatest><LastModified>2026-01-01T00:00:00.000Z</LastModified></DeleteMarker>"
    b"</ListVersionsResult>"
)
XML_ERROR = (
    f'<?xml version="1.0"?><Error><Code>PreconditionFailed</Code><Message>{CANARY}</Message></Error>'.encode()
)

Operation = Callable[[], object]


@pytest.fixture(scope="module")
def server() -> Iterator[GarbageServer]:
    with GarbageServer() as running:
        yield running


def operations(server: GarbageServer) -> dict[str, list[Operation]]:
    """Every operation of every AWS adapter, by the service that it calls."""
    keys = AwsKeys(access_key_id="AKIA", secret_access_key=SecretStr("a-secret"))
    secrets, dynamodb, kms, s3 = (
        aws_client(service, REGION, keys=keys, endpoint=server.endpoint)
        for service in ("secretsmanager", "dynamodb", "kms", "s3")
    )
    store = CredentialStore("aws", CREDENTIAL, partial(SecretsManagerSecret, secrets, "aws"))
    named = NamedStore("aws", CREDENTIAL, partial(SecretsManagerSecret, secrets, "aws"))
    lock = DynamoDbLock(dynamodb, "lockstep", CREDENTIAL.id)
    orders = DynamoDbOrders(dynamodb, "lockstep", CREDENTIAL.id)
    sts = aws_client("sts", REGION, keys=keys, endpoint=server.endpoint)
    signer = KmsSigner(kms, "alias/lockstep")
    log = S3AuditLog(s3, "lockstep-audit", "aws", CREDENTIAL.id)
    return {
        "secretsmanager": [
            store.read_current,
            lambda: store.read_version(VERSION),
            lambda: store.read_generation(7),
            lambda: store.read_generation(0),
            lambda: store.stage(VALUE),
            lambda: store.serves(7),
            lambda: store.shows(SEEN_VERSIONS),
            lambda: store.version_of(0),
            lambda: read_secret(secrets, "aws", "lockstep/admin/orders"),
        ],
        "secretsmanager labels": [
            lambda: store.promote(7, fence_held),
            lambda: store.promote(8, fence_held),
            lambda: store.prepare_promotion(7, seen=SEEN_VERSIONS)(fence_held),
            named.read,
        ],
        "secretsmanager versions": [lambda: named.staged_at(7)],
        "dynamodb": [
            lock.read,
            lambda: lock.acquire(
                holder="run-1",
                now=EPOCH,
                expires_at=EPOCH + timedelta(minutes=15),
                force=False,
            ),
            lambda: lock.claim(LEASE, CLAIM, over=SEEN, plan="of-a-plan", served=(6,)),
            lambda: lock.begin_promotion(LEASE, CLAIM, now=EPOCH),
            lambda: lock.require(LEASE, CLAIM, promoting=False, now=EPOCH - timedelta(days=1)),
            lambda: lock.block(LEASE, ["db-1"]),
            lambda: lock.release(LEASE, DONE, entry=ENTRY),
        ],
        "dynamodb orders": [
            lambda: orders.write(Pause()),
            lambda: orders.write(Activate(digest="a" * 64, replaces="b" * 64)),
            lambda: orders.hold(holder="order-1", now=EPOCH, expires_at=EPOCH + timedelta(minutes=10)),
            lambda: orders.register(ACCOUNT),
            lambda: orders.unregister(ACCOUNT),
        ],
        "sts": [lambda: caller_arn(sts)],
        "kms": [
            lambda: signer.sign(b"x" * 32),
            lambda: signer.verify(b"x" * 32, Mac(key_id="k", value=b"y" * 32)),
            lambda: KmsDigestKey(kms, "alias/lockstep-digests").sign(b"x" * 32),
            lambda: KmsDigestKey(kms, "alias/lockstep-digests").public_key(),
        ],
        "s3 list": [lambda: list(log.numbers())],
        "s3 versions": [lambda: list(log.history())],
        "s3": [lambda: log.put(4, b"{}", {"chain": "{}"}), lambda: log.look(4), lambda: log.read(4)],
    }


VALID = {
    "secretsmanager": GET_SECRET,
    "secretsmanager labels": DESCRIBE_SECRET,
    "secretsmanager versions": VERSIONS,
    "dynamodb": {"Item": ITEM, "Attributes": ITEM},
    "dynamodb orders": {"Item": ORDERS, "Attributes": ORDERS},
    "sts": CALLER,
    "kms": {
        "Mac": base64.b64encode(b"y" * 32).decode(),
        "MacValid": True,
        "KeyId": "k",
        "MacAlgorithm": "HMAC_SHA_256",
        "Signature": base64.b64encode(b"z" * 256).decode(),
        "PublicKey": base64.b64encode(b"z" * 294).decode(),
    },
    "s3 list": LISTING,
    "s3 versions": OBJECT_VERSIONS,
    "s3": XML_ERROR,
}


@pytest.fixture(scope="module")
def prepared(server: GarbageServer) -> dict[str, list[Operation]]:
    return operations(server)


def judge(service: str, operation: Operation) -> None:
    with judged(f"aws {service}"):
        operation()


def whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)


def test_valid_replies_give_values(server: GarbageServer, prepared: dict[str, list[Operation]]) -> None:
    for service in (
        "secretsmanager",
        "secretsmanager versions",
        "dynamodb",
        "dynamodb orders",
        "sts",
        "kms",
        "s3 list",
    ):
        valid = VALID[service]
        server.reply = whole(valid if isinstance(valid, bytes) else json.dumps(valid).encode())
        assert prepared[service][0]() is not None


@pytest.mark.parametrize("service", VALID)
@inputs(70)
@given(st.data())
def test_any_reply(
    server: GarbageServer, prepared: dict[str, list[Operation]], service: str, data: st.DataObject
) -> None:
    server.reply = data.draw(replies(VALID[service]))
    judge(service, data.draw(st.sampled_from(prepared[service])))


@pytest.mark.parametrize("service", VALID)
def test_special_replies(server: GarbageServer, prepared: dict[str, list[Operation]], service: str) -> None:
    for body in BODIES:
        server.reply = whole(body)
        for operation in prepared[service]:
            judge(service, operation)
