"""The AWS adapters: labels, calls, objects, keys; and each failure is one error of ours."""

import hashlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Any

import pytest
import trustme
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.compat import HTTPHeaders
from botocore.model import OperationModel
from botocore.stub import Stubber
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import ValidationError
from urllib3 import HTTPResponse

from lockstep.audit.entry import is_signed
from lockstep.aws.clients import AwsKeys, aws_client, caller_arn, translated
from lockstep.aws.dynamodb_lock import DynamoDbLock, read_table
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.aws.kms import KmsDigestKey, KmsSigner
from lockstep.aws.s3 import S3Folder
from lockstep.aws.secrets_manager import SecretsManagerSecret, read_secret
from lockstep.plan.stores import AwsAudit
from lockstep.protocol import errors
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.errors import (
    STORE_ERRORS,
    AuditLogAccessDeniedError,
    LockstepError,
    SecretMalformedError,
)
from lockstep.protocol.federation import IssuedSession, Sessions, rsa_key
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.names import VersionNames
from lockstep.protocol.orders import Pause
from lockstep.protocol.ports import EntryLog
from lockstep.runtime.system import SystemClock
from lockstep.stores.credential import CredentialStore
from sandbox.emulators.aws.resources import create_mac_key
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci.wire import HttpServer, Reply, Request
from sandbox.identities import endless
from tests.contract.aws_fixtures import (
    BUCKET,
    KEYS,
    SESSIONS,
    S3Harness,
    SecretsManagerHarness,
    sandbox_client,
)
from tests.contract.harness import CREDENTIAL
from tests.support.fence import fence_held
from tests.support.logs import s3_log
from tests.support.peer import peer, silent
from tests.support.seals import sealed

METADATA = {"chain": "{}", "mac": "{}"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[AwsSandbox]:
    with AwsSandbox() as running:
        yield running


@pytest.fixture(scope="module", name="all_secrets")
def _all_secrets(sandbox: AwsSandbox) -> SecretsManagerHarness:
    return SecretsManagerHarness(sandbox)


@pytest.fixture(scope="module", name="logs")
def _logs(sandbox: AwsSandbox) -> S3Harness:
    return S3Harness(sandbox)


@pytest.fixture
def secrets(all_secrets: SecretsManagerHarness) -> SecretsManagerHarness:
    return all_secrets.anew()


@pytest.fixture
def log(logs: S3Harness) -> S3Harness:
    return logs.anew()


def value(generation: int) -> CredentialValue:
    return CredentialValue(generation, Login("app", SecretStr(f"password-{generation}")))


def rotate(secrets: SecretsManagerHarness, *generations: int) -> None:
    for generation in generations:
        secrets.store.stage(value(generation))
        secrets.store.promote(generation, fence_held)


def calls(client: BaseClient, operation: Callable[[], object]) -> list[str]:
    made: list[str] = []

    def count(model: OperationModel, **_event: object) -> None:
        made.append(model.name)

    client.meta.events.register("before-call", count)
    operation()
    client.meta.events.unregister("before-call", count)
    return made


# Secrets


def test_the_labels_name_the_current_and_the_previous_version(secrets: SecretsManagerHarness) -> None:
    rotate(secrets, 1, 2)
    names = VersionNames(credential_id=secrets.credential.id, secret=secrets.names["app_user"])
    listed = secrets.console.list_secret_version_ids(SecretId=names.secret)["Versions"]
    labels = {names.generation_of(v["VersionId"]): set(v["VersionStages"]) for v in listed}
    # AWSPENDING stays on the version with AWSCURRENT; on any other it would tell AWS that a rotation is under way.
    assert labels == {1: {"AWSPREVIOUS"}, 2: {"AWSCURRENT", "AWSPENDING"}}


def test_a_binary_login_is_malformed_and_such_a_connection_is_replaced(
    secrets: SecretsManagerHarness,
) -> None:
    rotate(secrets, 1)
    secrets.console.put_secret_value(SecretId=secrets.names["connection_blob"], SecretBinary=b"by hand")
    assert secrets.store.read_current().blob_generation == 0
    rotate(secrets, 2)
    assert secrets.store.serves(2)
    secrets.console.put_secret_value(SecretId=secrets.names["app_user"], SecretBinary=b"hunter2")
    with pytest.raises(SecretMalformedError, match="code=binary"):
        secrets.store.read_current()


def test_a_secret_without_a_value_is_malformed_and_not_missing(secrets: SecretsManagerHarness) -> None:
    secrets.remove("app_user")
    secrets.console.create_secret(Name=secrets.names["app_user"])
    for operation in (secrets.store.read_current, lambda: secrets.store.promote(1, fence_held)):
        with pytest.raises(SecretMalformedError):
            operation()


def test_a_rotation_takes_few_calls(secrets: SecretsManagerHarness) -> None:
    store, client = secrets.store, secrets.client
    store.read_current()
    store.stage(value(1))
    # What people wrote is compared before it is replaced.
    assert calls(client, lambda: store.promote(1, fence_held)) == [
        *["DescribeSecret", "GetSecretValue", "GetSecretValue"] * 2,
        *["UpdateSecretVersionStage"] * 2,
    ]

    def rotation() -> None:
        store.read_current()
        store.stage(value(2))
        version = store.promote(2, fence_held)
        assert store.shows(version)
        store.prune()

    assert calls(client, rotation) == [
        *["GetSecretValue"] * 2,
        *["PutSecretValue"] * 2,
        *["DescribeSecret"] * 2,
        *["UpdateSecretVersionStage"] * 2,
        *["GetSecretValue"] * 2,
    ]
    assert calls(client, lambda: store.promote(2, fence_held)) == ["DescribeSecret"] * 2


# The audit log's objects


def test_an_entry_is_an_object_with_checksum_class_and_metadata(log: S3Harness) -> None:
    log.log.put(42, b"{}", METADATA)
    key = log.objects.key(42)
    assert key.endswith("/000000000042.json")
    head = log.console.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o="
    assert head.get("StorageClass", "STANDARD") == "STANDARD"
    assert head["ContentType"] == "application/json"
    assert head["Metadata"] == METADATA
    log.plant("000000000001.json")
    assert not log.log.put(1, b"{}", METADATA)
    assert log.log.look(1) == {}


def test_a_history_that_does_not_advance_is_an_error(log: S3Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    page = {"IsTruncated": True, "NextKeyMarker": "aws/1", "NextVersionIdMarker": "1"}
    monkeypatch.setattr(log.client, "list_object_versions", lambda **_: page)
    with pytest.raises(errors.AuditLogUnreachableError):
        list(log.log.history())


# The audit log as the role of a runner meets it

ARN = f"arn:aws:s3:::{BUCKET}"
LIST = {
    "Effect": "Allow",
    "Action": "s3:ListBucket",
    "Resource": ARN,
    "Condition": {"StringLike": {"s3:prefix": "aws/*"}},
}
READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{ARN}/aws/*"}
TRUST = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
ROLES: dict[str, tuple[tuple[object, ...], int, object]] = {
    "reads an entry": ((READ, LIST), 1, METADATA),
    # S3 answers 403 then, as neither HEAD nor GET has a prefix; the next number, and a forged head's, are such objects.
    "who may list one folder sees that an object is missing": ((READ, LIST), 2, None),
    "an object that may not be read is not missing": ((LIST,), 1, AuditLogAccessDeniedError),
    "who may not list is not told that an object is missing": ((READ,), 2, AuditLogAccessDeniedError),
}


def policy(*statements: object) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.mark.parametrize("name", ROLES)
def test_what_a_role_sees_of_an_object(sandbox: AwsSandbox, log: S3Harness, name: str) -> None:
    may, seq, expected = ROLES[name]
    log.log.put(1, b"{}", METADATA)
    role = f"reader-{list(ROLES).index(name)}"
    iam = sandbox.client("iam")
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=policy(TRUST))
    iam.put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=policy(*may))
    sandbox.guard.know(f"key-of-{role}", role)
    keys = AwsKeys(access_key_id=f"key-of-{role}", secret_access_key=SecretStr("sandbox"))
    client = aws_client("s3", sandbox.region, keys=endless(keys), endpoint=sandbox.url)
    own = s3_log(client, BUCKET, log.objects.prefix.split("/")[1])
    if isinstance(expected, type):
        for refused in (own.look, own.read):
            with pytest.raises(AuditLogAccessDeniedError):
                refused(seq)
    else:
        assert (own.look(seq), own.read(seq)) == (expected, expected and b"{}")


def test_an_object_with_a_strangers_key_is_no_obstacle(log: S3Harness) -> None:
    """S3 answers 400 to a HEAD of an object that was encrypted with a customer's key (SSE-C)."""

    def refused(**_: object) -> AWSResponse:
        return AWSResponse("", 400, HTTPHeaders(), HTTPResponse(BytesIO(), preload_content=False))

    log.log.put(1, b"{}", METADATA)
    log.client.meta.events.register("before-send.s3.HeadObject", refused)
    assert (log.log.look(1), log.log.look(2)) == ({}, None)
    log.client.meta.events.unregister("before-send.s3.HeadObject", refused)


# Keys


DIGEST = hashlib.sha256(b"chain").digest()


def test_an_alias_of_another_key_leaves_entries_of_a_retired_key_valid(
    sandbox: AwsSandbox,
) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
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
    with pytest.raises(ValidationError, match="an alias may name another key by now"):
        AwsAudit(bucket="audit", mac_key="alias/new", retired_mac_keys=("alias/old",))


def test_in_aws_one_key_signs_runs_and_another_one_orders(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    orders = KmsSigner(client, create_mac_key(kms))
    signer = KmsSigner(client, create_mac_key(kms), orders=orders)
    for entry_id, mine, other in (("run-1", signer, orders), ("order-1", orders, signer)):
        found = sealed({"time": 0}, signer=signer, rotation_id=entry_id).stored
        assert found.mac == mine.sign(found.digest)
        forged = replace(found, mac=other.sign(found.digest))
        # Nobody knows which key a newer build signs with.
        newer = replace(forged, seal=None, is_newer=True)
        assert [is_signed(signer, one) for one in (found, forged, newer)] == [True, False, True]


def test_the_key_of_digests_signs_what_its_public_half_verifies(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    arn = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/lockstep-digests", TargetKeyId=arn)
    key = KmsDigestKey(client, arn)
    assert calls(client, lambda: [key.public_key() for _ in range(2)]) == ["GetPublicKey"]
    assert calls(client, lambda: key.sign(DIGEST)) == ["Sign"]
    public = rsa_key(key.public_key())
    for one in (key, KmsDigestKey(client, arn.rpartition(":key/")[0] + ":alias/lockstep-digests")):
        public.verify(one.sign(DIGEST), DIGEST, PKCS1v15(), Prehashed(SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(key.sign(DIGEST), hashlib.sha256(b"other").digest(), PKCS1v15(), Prehashed(SHA256()))


def test_what_cannot_sign_a_digest_is_told_without_foreign_text(sandbox: AwsSandbox) -> None:
    kms, client = sandbox.client("kms"), sandbox_client(sandbox, "kms")
    keys = {
        "NotFoundException": KmsDigestKey(client, "alias/no-such-key"),
        "InvalidKeyUsageException": KmsDigestKey(client, create_mac_key(kms)),
    }
    for code, key in keys.items():
        with pytest.raises(AuditLogAccessDeniedError) as error:
            key.sign(DIGEST)
        assert error.value.where["code"] == code
    with pytest.raises(AuditLogAccessDeniedError):
        keys["NotFoundException"].public_key()


# Failures: one try, a bounded wait, the right error (protocol F1, F3, F4)

LEAK = "hunter2"
REGION = "eu-central-1"
SHIPPED = CloudTimeouts()


def store_of(client: Any) -> CredentialStore:  # noqa: ANN401 - as `aws_client`
    return CredentialStore("aws", CREDENTIAL, partial(SecretsManagerSecret, client, "aws"))


def log_of(client: Any) -> EntryLog:  # noqa: ANN401 - as `aws_client`
    return s3_log(client, "bucket", CREDENTIAL.id)


def plan_of(client: Any) -> S3Folder:  # noqa: ANN401 - as `aws_client`
    return S3Folder(client, "bucket", "plans/digest")


ACTS: dict[str, tuple[str, str, Callable[[Any], object]]] = {
    "its own store": ("secretsmanager", "Store", lambda client: read_secret(client, "aws", "lockstep/admin")),
    "store": ("secretsmanager", "Store", lambda client: read_secret(client, "aws", "lockstep/admin")),
    "stage": ("secretsmanager", "Store", lambda client: store_of(client).stage(value(1))),
    "lock": ("dynamodb", "LockTable", lambda client: DynamoDbLock(client, "table", "id").read()),
    "order": ("dynamodb", "LockTable", lambda client: DynamoDbOrders(client, "table", "id").write(Pause())),
    "table": ("dynamodb", "LockTable", lambda client: read_table(client, "table")),
    "caller": ("sts", "AuditLog", caller_arn),
    "put": ("s3", "AuditLog", lambda client: log_of(client).put(1, b"{}", {})),
    "read": ("s3", "AuditLog", lambda client: log_of(client).read(1)),
    "look": ("s3", "AuditLog", lambda client: log_of(client).look(1)),
    "list": ("s3", "AuditLog", lambda client: list(log_of(client).numbers())),
    "history": ("s3", "AuditLog", lambda client: list(log_of(client).history())),
    "plan": ("s3", "Plan", lambda client: plan_of(client).read("index.json", 1000)),
    "publish": ("s3", "Plan", lambda client: plan_of(client).create("index.json", b"{}")),
    "published": ("s3", "Plan", lambda client: list(plan_of(client).listed())),
    "sign": ("kms", "AuditLog", lambda client: KmsSigner(client, "key").sign(bytes(32))),
}
"""Calls of the adapters: the service, and how the names of their errors begin."""


def call(name: str, endpoint: str, timeouts: CloudTimeouts = SHIPPED) -> None:
    service, _, act = ACTS[name]
    keys = None if name == "its own store" else SESSIONS
    act(aws_client(service, REGION, keys=keys, endpoint=endpoint, timeouts=timeouts))


def error_of(name: str, kind: str) -> type[LockstepError]:
    found: type[LockstepError] = getattr(errors, f"{ACTS[name][1]}{kind}Error")
    return found


@contextmanager
def replying(reply: Reply, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[Request]]]:
    """A server that gives every request the same reply: its address, and what it was asked."""
    asked: list[Request] = []

    def answer(request: Request) -> Reply:
        asked.append(request)
        return reply

    server = HttpServer(answer, context=tls)
    server.start()
    yield f"{'https' if tls else 'http'}://localhost:{server.port}", asked
    server.stop()


# Outages


@pytest.mark.parametrize(
    "name", {(service, family): name for name, (service, family, _) in ACTS.items()}.values()
)
def test_no_connection_a_cut_one_and_silence_are_outages(name: str) -> None:
    expected = error_of(name, "Unreachable")

    def hang_up(connection: socket.socket) -> None:
        connection.recv(65536)

    with peer(hang_up) as port, pytest.raises(expected):
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
    config = aws_client("s3", REGION, keys=SESSIONS).meta.config
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
    ("lock", 400, "ThrottlingException", "Unreachable"),
    ("order", 400, "AccessDeniedException", "AccessDenied"),
    ("table", 400, "ResourceNotFoundException", "AccessDenied"),
    ("put", 403, "AccessDenied", "AccessDenied"),
    ("put", 409, "ConditionalRequestConflict", "Unreachable"),
    ("read", 404, "NoSuchBucket", "AccessDenied"),
    ("look", 503, b"", "Unreachable"),
    ("list", 404, "NoSuchBucket", "AccessDenied"),
    ("list", 200, b"<html>a proxy", "Unreachable"),
    ("history", 403, "AccessDenied", "AccessDenied"),
    ("history", 200, b"<html>a proxy", "Unreachable"),
    ("plan", 403, "AccessDenied", "AccessDenied"),
    ("plan", 503, "SlowDown", "Unreachable"),
    ("publish", 403, "AccessDenied", "AccessDenied"),
    ("published", 200, b"<html>a proxy", "Unreachable"),
    ("sign", 400, "AccessDeniedException", "AccessDenied"),
    ("sign", 500, "DependencyTimeoutException", "Unreachable"),
)
TOLD = {f"password is {LEAK}!": "?", "LimitExceededException": "", b"<html>a proxy": "500"}
"""The code of the error, where it is not the one that AWS said, or the status."""


@pytest.mark.parametrize(("name", "status", "said", "kind"), REFUSALS)
def test_each_refusal_is_its_error_after_one_try(
    name: str, status: int, said: str | bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key.reveal())
    xml = f"<Error><Code>{said!s}</Code><Message>not with {LEAK}</Message></Error>"
    text = xml if ACTS[name][0] == "s3" else json.dumps({"__type": str(said), "message": f"not with {LEAK}"})
    body = said if isinstance(said, bytes) else text.encode()
    expected = error_of(name, kind)
    with replying(Reply(status, body=body)) as (endpoint, asked), pytest.raises(expected) as error:
        call(name, endpoint)
    assert type(error.value) is expected
    # S3 says no more of an object that is missing, so a list is asked too.
    assert len(asked) == (2 if (name, status) == ("plan", 403) else 1)
    code = TOLD.get(said, said if isinstance(said, str) else str(status))
    assert error.value.where.get("code", "") == code
    assert LEAK not in f"{error.value} {error.value!r}"


def test_an_untrusted_certificate_is_rejected_and_not_an_outage() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with (
        replying(Reply(200, body=b"{}"), context) as (endpoint, _),
        pytest.raises(errors.StoreRejectedError) as error,
    ):
        call("store", endpoint)
    assert error.value.where["code"] == "SSLError"


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
def test_an_unknown_identity_is_used_no_more(code: str, error: type[LockstepError], *, is_kept: bool) -> None:
    """A session whose role was made anew, and a key that was replaced (protocol R19)."""
    made = (IssuedSession(session=replace(KEYS, access_key_id=f"ASIA{n}"), seconds=900) for n in range(9))
    sessions = Sessions(lambda: next(made), SystemClock())
    client = aws_client("dynamodb", REGION, keys=sessions)
    first = sessions()
    with Stubber(client) as stubbed:
        stubbed.add_client_error("list_tables", service_error_code=code)
        with pytest.raises(error), translated(STORE_ERRORS, store="aws"):
            client.list_tables()
    assert (sessions() is first) == is_kept
