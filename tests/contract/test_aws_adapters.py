"""The AWS adapters: labels, calls, objects, keys; and each failure is one error of ours."""

import hashlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import Mock, patch

import pytest
from botocore.exceptions import ClientError, SSLError
from botocore.stub import Stubber
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from lockstep.aws.clients import AwsKeys, aws_client, caller_arn, diagnose, translated
from lockstep.aws.dynamodb_lock import DynamoDbLock, read_table
from lockstep.aws.kms import KmsDigestKey, KmsSigner
from lockstep.aws.s3 import S3Folder
from lockstep.aws.secrets_manager import SecretsManagerSecret, read_secret
from lockstep.protocol import errors
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.federation import IssuedSession, Sessions, rsa_key
from lockstep.protocol.model import SecretStr
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ports import EntryLog
from lockstep.runtime.system import SystemClock
from sandbox.emulators.aws.resources import create_mac_key
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci.wire import HttpServer, Reply, Request
from sandbox.identities import endless, make_role
from tests.contract import clouds
from tests.support.fence import fence_held
from tests.support.logs import s3_log
from tests.support.memory import EntryObjects
from tests.support.peer import peer, silent
from tests.support.ring_world import value

METADATA = {"chain": "{}", "mac": "{}"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[AwsSandbox]:
    with AwsSandbox() as running:
        yield running


@pytest.fixture
def secrets(sandbox: AwsSandbox) -> clouds.SecretsManagerHarness:
    return clouds.SecretsManagerHarness(sandbox, clouds.another_credential())


@pytest.fixture(scope="module")
def bucket(sandbox: AwsSandbox) -> clouds.S3Bucket:
    return clouds.S3Bucket(sandbox)


def rotate(secrets: clouds.SecretsManagerHarness, *generations: int) -> None:
    for generation in generations:
        secrets.store.stage(value(generation))
        secrets.store.promote(generation, fence_held)


def calls(sandbox: AwsSandbox, operation: Callable[[], object]) -> list[str]:
    made: list[str] = []
    with patch.object(sandbox, "on_request", lambda _service, name: made.append(name)):
        operation()
    return made


# Secrets


def test_a_binary_login_is_malformed_and_such_a_connection_is_replaced(
    secrets: clouds.SecretsManagerHarness,
) -> None:
    rotate(secrets, 1)
    secrets.console.put_secret_value(SecretId=secrets.names["connection_blob"], SecretBinary=b"by hand")
    assert secrets.store.read_current().blob_generation == 0
    rotate(secrets, 2)
    assert secrets.store.serves(2)
    secrets.console.put_secret_value(SecretId=secrets.names["app_user"], SecretBinary=b"hunter2")
    found = secrets.store.read_current()
    assert (found.login, "code=binary" in str(found.malformed)) == (None, True)
    # So is one without a value, which is not missing.
    secrets.remove("app_user")
    secrets.console.create_secret(Name=secrets.names["app_user"])
    for operation in (secrets.store.read_current, lambda: secrets.store.promote(1, fence_held)):
        with pytest.raises(errors.SecretMalformedError):
            operation()


def test_a_rotation_takes_few_calls_and_labels_the_current_and_the_previous_version(
    secrets: clouds.SecretsManagerHarness,
) -> None:
    rotate(secrets, 1)

    def rotation() -> None:
        store = secrets.store
        store.read_current()
        store.stage(value(2))
        assert store.shows(store.promote(2, fence_held))
        store.prune()

    assert calls(secrets.sandbox, rotation) == [
        *["GetSecretValue"] * 2,
        *["PutSecretValue"] * 2,
        *["DescribeSecret"] * 2,
        *["UpdateSecretVersionStage"] * 2,
        *["GetSecretValue"] * 2,
    ]
    names = VersionNames(credential_id=secrets.credential.id, secret=secrets.names["app_user"])
    listed = secrets.console.list_secret_version_ids(SecretId=names.secret)["Versions"]
    labels = {names.generation_of(v["VersionId"]): set(v["VersionStages"]) for v in listed}
    # AWSPENDING stays on the version with AWSCURRENT; on any other it would tell AWS that a rotation is under way.
    assert labels == {1: {"AWSPREVIOUS"}, 2: {"AWSCURRENT", "AWSPENDING"}}


# The audit log's objects


def test_an_entry_is_an_object_with_checksum_class_and_metadata(bucket: clouds.S3Bucket) -> None:
    log, objects = bucket.log("multi-cloud/app"), EntryObjects("aws", "multi-cloud/app")
    log.put(42, b"{}", METADATA)
    key = objects.key(42)
    assert key.endswith("/000000000042.json")
    head = bucket.console.head_object(Bucket=clouds.BUCKET, Key=key, ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="
    assert head.get("StorageClass", "STANDARD") == "STANDARD"
    assert (head["ContentType"], head["Metadata"]) == ("application/json", METADATA)
    bucket.put(objects.key(1), b"{}")
    assert not log.put(1, b"{}", METADATA)
    assert log.look(1) == {}


# The audit log as the role of a runner meets it

LIST: dict[str, Any] = {
    "Action": "s3:ListBucket",
    "Resource": f"arn:aws:s3:::{clouds.BUCKET}",
    "Condition": {"StringLike": {"s3:prefix": "aws/*"}},
}
READ: dict[str, Any] = {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{clouds.BUCKET}/aws/*"}
ROLES: dict[str, tuple[tuple[dict[str, Any], ...], int, object]] = {
    "reads an entry": ((READ, LIST), 1, METADATA),
    # S3 answers 403 then, as neither HEAD nor GET has a prefix; the next number, and a forged head's, are such objects.
    "who may list one folder sees that an object is missing": ((READ, LIST), 2, None),
    "an object that may not be read is not missing": ((LIST,), 1, errors.AuditLogAccessDeniedError),
    "who may not list is not told that an object is missing": ((READ,), 2, errors.AuditLogAccessDeniedError),
}


def test_what_a_role_sees_of_an_object(sandbox: AwsSandbox, bucket: clouds.S3Bucket) -> None:
    bucket.log("multi-cloud/read").put(1, b"{}", METADATA)
    for number, (name, (may, seq, expected)) in enumerate(ROLES.items()):
        key, role = f"key-{number}", f"reader-{number}"
        make_role(sandbox, role, trust={"Principal": "*", "Action": "sts:AssumeRole"}, may=may)
        sandbox.guard.know(key, role)
        keys = AwsKeys(access_key_id=key, secret_access_key=SecretStr("sandbox"))
        client = aws_client("s3", sandbox.region, keys=endless(keys), endpoint=sandbox.url)
        own = s3_log(client, clouds.BUCKET, "multi-cloud/read")
        if isinstance(expected, type):
            for refused in (own.look, own.read):
                with pytest.raises(errors.AuditLogAccessDeniedError):
                    refused(seq)
        else:
            assert (own.look(seq), own.read(seq)) == (expected, expected and b"{}"), name


def test_an_object_with_a_strangers_key_is_no_obstacle(bucket: clouds.S3Bucket) -> None:
    """S3 refuses what was encrypted with a customer's key (SSE-C): a HEAD with 400, which has no body, alone."""
    log = bucket.log("multi-cloud/sse")
    log.put(1, b"{}", METADATA)
    answers = {"head_object": "400", "get_object": "InvalidRequest"}
    refused = {
        name: Mock(side_effect=ClientError({"Error": {"Code": code}}, name)) for name, code in answers.items()
    }
    with patch.multiple(bucket.client, **refused):
        assert [(log.look(seq), log.read(seq)) for seq in (1, 2)] == [({}, b""), (None, None)]


# Keys


DIGEST = hashlib.sha256(b"chain").digest()


def test_an_alias_of_another_key_leaves_entries_of_a_retired_key_valid(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), clouds.sandbox_client(sandbox, "kms")
    old, new = create_mac_key(kms), create_mac_key(kms)
    alias = "alias/lockstep-mac"
    kms.create_alias(AliasName=alias, TargetKeyId=old)
    before = KmsSigner(client, alias).sign(DIGEST)
    kms.update_alias(AliasName=alias, TargetKeyId=new)
    signer = KmsSigner(client, alias, retired=[old])
    after = signer.sign(DIGEST)
    assert (before.key_id, after.key_id) == (old, new)
    assert [signer.verify(DIGEST, mac) for mac in (before, after)] == [True, True]
    assert signer.rank(before.key_id) < signer.rank(after.key_id)
    assert not KmsSigner(client, alias).verify(DIGEST, before)
    assert not signer.verify(DIGEST, replace(before, key_id=new))
    assert not signer.verify(DIGEST, replace(after, key_id=alias))  # An entry names a key by its ARN.


def test_the_key_of_digests_signs_what_its_public_half_verifies(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), clouds.sandbox_client(sandbox, "kms")
    arn = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/lockstep-digests", TargetKeyId=arn)
    key = KmsDigestKey(client, arn)
    assert calls(sandbox, lambda: [key.public_key() for _ in range(2)]) == ["GetPublicKey"]
    assert calls(sandbox, lambda: key.sign(DIGEST)) == ["Sign"]
    public = rsa_key(key.public_key())
    for one in (key, KmsDigestKey(client, arn.rpartition(":key/")[0] + ":alias/lockstep-digests")):
        public.verify(one.sign(DIGEST), DIGEST, PKCS1v15(), Prehashed(SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(key.sign(DIGEST), hashlib.sha256(b"other").digest(), PKCS1v15(), Prehashed(SHA256()))


# Failures: one try, a bounded wait, the right error (protocol F1, F3, F4)

LEAK = "hunter2"
REGION = "eu-central-1"
SHIPPED = CloudTimeouts()


def log_of(client: Any) -> EntryLog:  # noqa: ANN401 - as `aws_client`
    return s3_log(client, "bucket", clouds.CREDENTIAL.id)


ACTS: dict[str, tuple[str, str, Callable[[Any], object]]] = {
    "stage": (
        "secretsmanager",
        "Store",
        lambda client: SecretsManagerSecret(client, "aws", clouds.APP_USER_VERSIONS).prepare(1)("text"),
    ),
    "its own store": ("secretsmanager", "Store", lambda client: read_secret(client, "aws", "lockstep/admin")),
    "store": ("secretsmanager", "Store", lambda client: read_secret(client, "aws", "lockstep/admin")),
    "lock": ("dynamodb", "LockTable", lambda client: DynamoDbLock(client, "table", "id").read()),
    "table": ("dynamodb", "LockTable", lambda client: read_table(client, "table")),
    "caller": ("sts", "AuditLog", caller_arn),
    "put": ("s3", "AuditLog", lambda client: log_of(client).put(1, b"{}", {})),
    "read": ("s3", "AuditLog", lambda client: log_of(client).read(1)),
    "look": ("s3", "AuditLog", lambda client: log_of(client).look(1)),
    "history": ("s3", "AuditLog", lambda client: list(log_of(client).history())),
    "plan": ("s3", "Plan", lambda client: S3Folder(client, "bucket", "plans/digest").read("index.json", 99)),
    "public key": ("kms", "AuditLog", lambda client: KmsDigestKey(client, "key").public_key()),
    "digest": ("kms", "AuditLog", lambda client: KmsDigestKey(client, "key").sign(DIGEST)),
    "sign": ("kms", "AuditLog", lambda client: KmsSigner(client, "key").sign(bytes(32))),
}
"""Calls of the adapters: the service, and how the names of their errors begin."""


def call(name: str, endpoint: str, timeouts: CloudTimeouts = SHIPPED) -> None:
    service, _, act = ACTS[name]
    keys = None if name == "its own store" else clouds.SESSIONS
    act(aws_client(service, REGION, keys=keys, endpoint=endpoint, timeouts=timeouts))


def error_of(name: str, kind: str) -> type[errors.LockstepError]:
    found: type[errors.LockstepError] = getattr(errors, f"{ACTS[name][1]}{kind}Error")
    return found


@contextmanager
def replying(reply: Reply) -> Iterator[tuple[str, list[Request]]]:
    """A server that gives every request the same reply: its address, and what it was asked."""
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return reply

    server = HttpServer(answer)
    server.start()
    yield f"http://localhost:{server.port}", asked
    server.stop()


# Outages


@pytest.mark.parametrize(
    "name", {(service, family): name for name, (service, family, _) in ACTS.items()}.values()
)
def test_no_connection_a_cut_one_and_silence_are_outages(name: str) -> None:
    expected = error_of(name, "Unreachable")

    def hang_up(said: bytes, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(said)

    # The beginning of a document alone would be refused for good.
    for said in (b"", b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"document":'):
        with peer(partial(hang_up, said)) as port, pytest.raises(expected):
            call(name, f"http://127.0.0.1:{port}")
    with pytest.raises(expected):
        call(name, f"http://127.0.0.1:{port}")
    hasty = CloudTimeouts(read_seconds=0.2)
    with silent() as (port, waited), pytest.raises(expected) as error:
        call(name, f"http://127.0.0.1:{port}", hasty)
    assert error.value.where["code"] == "ReadTimeoutError"
    [seconds] = waited  # One try.
    assert seconds < SHIPPED.read_seconds - 1


def test_the_shipped_time_outs_are_seconds() -> None:
    config = aws_client("s3", REGION, keys=clouds.SESSIONS).meta.config
    assert (config.connect_timeout, config.read_timeout) == (3, 5)
    assert config.retries["total_max_attempts"] == 1


# Refusals


REFUSALS: tuple[tuple[str, int, str | bytes, str], ...] = (
    ("store", 400, "AccessDeniedException", "AccessDenied"),
    ("its own store", 400, "ExpiredTokenException", "AccessDenied"),
    ("store", 400, "ThrottlingException", "Throttled"),
    ("store", 500, "Whatever", "Unreachable"),
    ("store", 503, b"<html>busy</html>", "Unreachable"),
    ("store", 400, f"password is {LEAK}!", "Rejected"),
    ("stage", 400, "EncryptionFailure", "Rejected"),
    ("stage", 400, "LimitExceededException", "QuotaExceeded"),
    ("lock", 400, "ResourceNotFoundException", "AccessDenied"),
    ("table", 400, "ResourceNotFoundException", "AccessDenied"),
    ("put", 403, "AccessDenied", "AccessDenied"),
    ("put", 409, "ConditionalRequestConflict", "Unreachable"),
    ("read", 404, "NoSuchBucket", "AccessDenied"),
    ("look", 503, b"", "Unreachable"),
    ("history", 200, b"<html>a proxy", "Unreachable"),
    ("plan", 503, "SlowDown", "Unreachable"),
    ("public key", 400, "NotFoundException", "AccessDenied"),
    ("digest", 400, "NotFoundException", "AccessDenied"),
    ("sign", 400, "AccessDeniedException", "AccessDenied"),
)
TOLD = {f"password is {LEAK}!": "?", "LimitExceededException": "", b"<html>a proxy": "500"}
"""The code of the error, where it is not the one that AWS said, or the status."""


@pytest.mark.parametrize(("name", "status", "said", "kind"), REFUSALS)
def test_each_refusal_is_its_error_after_one_try(
    name: str, status: int, said: str | bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", clouds.KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", clouds.KEYS.secret_access_key.reveal())
    xml = f"<Error><Code>{said!s}</Code><Message>not with {LEAK}</Message></Error>"
    text = xml if ACTS[name][0] == "s3" else json.dumps({"__type": str(said), "message": f"not with {LEAK}"})
    body = said if isinstance(said, bytes) else text.encode()
    expected = error_of(name, kind)
    with replying(Reply(status, body=body)) as (endpoint, asked), pytest.raises(expected) as error:
        call(name, endpoint)
    assert type(error.value) is expected
    assert len(asked) == 1
    code = TOLD.get(said, said if isinstance(said, str) else str(status))
    assert error.value.where.get("code", "") == code
    assert LEAK not in f"{error.value} {error.value!r}"


def test_an_untrusted_certificate_is_rejected_and_not_an_outage() -> None:
    wrong = SSLError(endpoint_url="https://localhost", error=ValueError())
    assert diagnose(wrong) == (errors.ErrorKind.REJECTED, "SSLError")


@pytest.mark.parametrize(
    ("code", "error", "is_kept"),
    [
        ("ExpiredTokenException", errors.StoreUnreachableError, False),
        ("UnrecognizedClientException", errors.StoreAccessDeniedError, False),
        ("InvalidClientTokenId", errors.StoreAccessDeniedError, False),
        ("InvalidAccessKeyId", errors.StoreAccessDeniedError, False),
        ("InvalidToken", errors.StoreAccessDeniedError, False),
        ("AccessDeniedException", errors.StoreAccessDeniedError, True),
        ("ThrottlingException", errors.StoreThrottledError, True),
    ],
)
def test_an_unknown_identity_is_used_no_more(
    code: str, error: type[errors.LockstepError], *, is_kept: bool
) -> None:
    """A session whose role was made anew, and a key that was replaced (protocol R19)."""
    made = (
        IssuedSession(session=replace(clouds.KEYS, access_key_id=f"ASIA{n}"), seconds=900) for n in range(9)
    )
    sessions = Sessions(lambda: next(made), SystemClock())
    client = aws_client("dynamodb", REGION, keys=sessions)
    first = sessions()
    with Stubber(client) as stubbed:
        stubbed.add_client_error("list_tables", service_error_code=code)
        with pytest.raises(error), translated(errors.STORE_ERRORS, store="aws"):
            client.list_tables()
    assert (sessions() is first) == is_kept
