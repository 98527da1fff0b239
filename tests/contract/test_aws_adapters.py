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
from lockstep.aws.clients import AwsKeys, Keys, aws_client, caller_arn, translated
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


def open_store(client: Any) -> CredentialStore:  # noqa: ANN401 - as `aws_client`
    return CredentialStore("aws", CREDENTIAL, partial(SecretsManagerSecret, client, "aws"))


Call = Callable[..., None]
"""Takes an endpoint and, if wanted, time-outs."""


def calling(service: str, act: Callable[[Any], object], *, keys: Keys | None = SESSIONS) -> Call:
    """A call of an adapter, with a client of its own."""

    def call(endpoint: str, timeouts: CloudTimeouts = SHIPPED) -> None:
        act(aws_client(service, REGION, keys=keys, endpoint=endpoint, timeouts=timeouts))

    return call


def log_of(client: Any) -> EntryLog:  # noqa: ANN401 - as `aws_client`
    return s3_log(client, "bucket", CREDENTIAL.id)


def plan_of(client: Any) -> S3Folder:  # noqa: ANN401 - as `aws_client`
    return S3Folder(client, "bucket", "plans/digest")


call_store = calling("secretsmanager", lambda client: read_secret(client, "aws", "lockstep/admin"))
call_store_as_itself = calling(
    "secretsmanager", lambda client: read_secret(client, "aws", "lockstep/admin"), keys=None
)
call_store_write = calling("secretsmanager", lambda client: open_store(client).stage(value(1)))
call_lock = calling("dynamodb", lambda client: DynamoDbLock(client, "table", "id").read())
call_orders = calling("dynamodb", lambda client: DynamoDbOrders(client, "table", "id").write(Pause()))
call_table = calling("dynamodb", lambda client: read_table(client, "table"))
call_caller = calling("sts", caller_arn)
call_log = calling("s3", lambda client: log_of(client).put(1, b"{}", {}))
call_log_read = calling("s3", lambda client: log_of(client).read(1))
call_log_head = calling("s3", lambda client: log_of(client).look(1))
call_log_list = calling("s3", lambda client: list(log_of(client).numbers()))
call_log_history = calling("s3", lambda client: list(log_of(client).history()))
call_plan = calling("s3", lambda client: plan_of(client).read("index.json", 1000))
call_plan_create = calling("s3", lambda client: plan_of(client).create("index.json", b"{}"))
call_plan_list = calling("s3", lambda client: list(plan_of(client).listed()))
call_signer = calling("kms", lambda client: KmsSigner(client, "key").sign(bytes(32)))

UNREACHABLE: list[tuple[Call, type[LockstepError]]] = [
    (call_store, errors.StoreUnreachableError),
    (call_store_write, errors.StoreUnreachableError),
    (call_lock, errors.LockTableUnreachableError),
    (call_orders, errors.LockTableUnreachableError),
    (call_table, errors.LockTableUnreachableError),
    (call_caller, errors.AuditLogUnreachableError),
    (call_log, errors.AuditLogUnreachableError),
    (call_plan, errors.PlanUnreachableError),
    (call_plan_create, errors.PlanUnreachableError),
    (call_signer, errors.AuditLogUnreachableError),
]


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


def as_json(code: str) -> bytes:
    return json.dumps({"__type": code, "message": f"not with {LEAK}"}).encode()


def as_xml(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>not with {LEAK}</Message></Error>".encode()


# Outages


@pytest.mark.parametrize(("call", "expected"), UNREACHABLE)
def test_no_connection_a_cut_one_and_silence_are_outages(call: Call, expected: type[LockstepError]) -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.recv(65536)

    with peer(hang_up) as port, pytest.raises(expected):
        call(f"http://127.0.0.1:{port}")
    with pytest.raises(expected):
        call(f"http://127.0.0.1:{port}")
    hasty = CloudTimeouts(read_seconds=0.2)
    with silent() as (port, waited), pytest.raises(expected) as error:
        call(f"http://127.0.0.1:{port}", hasty)
    assert error.value.where["code"] == "ReadTimeoutError"
    [seconds] = waited  # One try.
    assert seconds < SHIPPED.read_seconds - 1


def test_the_shipped_time_outs_are_seconds() -> None:
    config = aws_client("s3", REGION, keys=SESSIONS).meta.config
    assert (config.connect_timeout, config.read_timeout) == (3, 5)
    assert config.retries["total_max_attempts"] == 1


# Refusals


@pytest.mark.parametrize(
    ("call", "status", "body", "expected", "code"),
    [
        (call_store, 400, as_json("AccessDeniedException"), errors.StoreAccessDeniedError, None),
        (call_store_as_itself, 400, as_json("ExpiredTokenException"), errors.StoreAccessDeniedError, None),
        (call_store, 400, as_json("ThrottlingException"), errors.StoreThrottledError, None),
        (call_store, 500, as_json("Whatever"), errors.StoreUnreachableError, None),
        (call_store, 503, b"<html>busy</html>", errors.StoreUnreachableError, "503"),
        (call_store, 400, as_json(f"password is {LEAK}!"), errors.StoreRejectedError, "?"),
        (call_store_write, 400, as_json("EncryptionFailure"), errors.StoreRejectedError, None),
        (call_store_write, 400, as_json("LimitExceededException"), errors.StoreQuotaExceededError, ""),
        (call_lock, 400, as_json("ResourceNotFoundException"), errors.LockTableAccessDeniedError, None),
        (call_lock, 400, as_json("ThrottlingException"), errors.LockTableUnreachableError, None),
        (call_lock, 400, as_json("AccessDeniedException"), errors.LockTableAccessDeniedError, None),
        (call_orders, 400, as_json("AccessDeniedException"), errors.LockTableAccessDeniedError, None),
        (call_table, 400, as_json("ResourceNotFoundException"), errors.LockTableAccessDeniedError, None),
        (call_log, 403, as_xml("AccessDenied"), errors.AuditLogAccessDeniedError, None),
        (call_log_read, 404, as_xml("NoSuchBucket"), errors.AuditLogAccessDeniedError, None),
        (call_log_list, 404, as_xml("NoSuchBucket"), errors.AuditLogAccessDeniedError, None),
        (call_log_history, 403, as_xml("AccessDenied"), errors.AuditLogAccessDeniedError, None),
        (call_log_history, 200, b"<html>a proxy", errors.AuditLogUnreachableError, "500"),
        (call_log, 409, as_xml("ConditionalRequestConflict"), errors.AuditLogUnreachableError, None),
        (call_log_head, 503, b"", errors.AuditLogUnreachableError, "503"),
        (call_log_list, 200, b"<html>a proxy", errors.AuditLogUnreachableError, "500"),
        (call_plan, 403, as_xml("AccessDenied"), errors.PlanAccessDeniedError, None),
        (call_plan, 503, as_xml("SlowDown"), errors.PlanUnreachableError, None),
        (call_plan_create, 403, as_xml("AccessDenied"), errors.PlanAccessDeniedError, None),
        (call_plan_list, 200, b"<html>a proxy", errors.PlanUnreachableError, "500"),
        (call_signer, 400, as_json("AccessDeniedException"), errors.AuditLogAccessDeniedError, None),
        (call_signer, 500, as_json("DependencyTimeoutException"), errors.AuditLogUnreachableError, None),
    ],
)
def test_each_refusal_is_its_error_after_one_try(
    call: Call,
    status: int,
    body: bytes,
    expected: type[LockstepError],
    code: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_access_key.reveal())
    with replying(Reply(status, body=body)) as (endpoint, asked), pytest.raises(expected) as error:
        call(endpoint)
    assert type(error.value) is expected
    # S3 says no more of an object that is missing, so a list is asked too.
    may_be_missing = (call, status) == (call_plan, 403)
    assert len(asked) == (2 if may_be_missing else 1)
    assert error.value.where.get("code", "") == (error_code_in(body) if code is None else code)
    assert LEAK not in f"{error.value} {error.value!r}"


def error_code_in(body: bytes) -> str:
    text = body.decode()
    return text.partition("<Code>")[2].partition("</Code>")[0] or str(json.loads(text)["__type"])


def test_an_untrusted_certificate_is_rejected_and_not_an_outage() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with (
        replying(Reply(200, body=b"{}"), context) as (endpoint, _),
        pytest.raises(errors.StoreRejectedError) as error,
    ):
        call_store(endpoint)
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
