"""Failures of AWS through the adapters: one try, a bounded wait, the right error (protocol F1, F3, F4)."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from threading import Thread
from typing import Any

import pytest
import trustme
from botocore.stub import Stubber

from lockstep.aws.clients import Keys, aws_client, caller_arn, translated
from lockstep.aws.dynamodb_lock import DynamoDbLock, read_table
from lockstep.aws.dynamodb_orders import DynamoDbOrders
from lockstep.aws.kms import KmsSigner
from lockstep.aws.s3 import S3Folder
from lockstep.aws.secrets_manager import SecretsManagerSecret, read_secret
from lockstep.protocol import errors
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.errors import STORE_ERRORS, LockstepError
from lockstep.protocol.federation import IssuedSession, Sessions
from lockstep.protocol.model import CredentialValue, Login, SecretStr
from lockstep.protocol.orders import Pause
from lockstep.protocol.ports import EntryLog
from lockstep.runtime.system import SystemClock
from lockstep.stores.credential import CredentialStore
from sandbox.emulators.oci.wire import HttpServer, Reply, Request
from tests.contract.aws_fixtures import KEYS, SESSIONS
from tests.contract.harness import CREDENTIAL
from tests.support.logs import s3_log
from tests.support.peer import silent

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


VALUE = CredentialValue(1, Login("app", SecretStr(LEAK)))
call_store = calling("secretsmanager", lambda client: read_secret(client, "aws", "lockstep/admin"))
call_store_as_itself = calling(
    "secretsmanager", lambda client: read_secret(client, "aws", "lockstep/admin"), keys=None
)
call_store_write = calling("secretsmanager", lambda client: open_store(client).stage(VALUE))
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
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def hang_up() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)

        Thread(target=hang_up, daemon=True).start()
        with pytest.raises(expected):
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
        (call_store, 400, as_json("DecryptionFailure"), errors.StoreRejectedError, None),
        (call_store, 400, as_json(f"password is {LEAK}!"), errors.StoreRejectedError, "?"),
        (call_store_write, 400, as_json("EncryptionFailure"), errors.StoreRejectedError, None),
        (call_store, 400, as_json("InvalidRequestException"), errors.StoreRejectedError, None),
        (call_store_write, 400, as_json("LimitExceededException"), errors.StoreQuotaExceededError, ""),
        (call_lock, 400, as_json("ResourceNotFoundException"), errors.LockTableAccessDeniedError, None),
        (call_lock, 400, as_json("ThrottlingException"), errors.LockTableUnreachableError, None),
        (call_lock, 400, as_json("AccessDeniedException"), errors.LockTableAccessDeniedError, None),
        (call_lock, 400, as_json("ValidationException"), errors.LockTableAccessDeniedError, None),
        (call_orders, 400, as_json("AccessDeniedException"), errors.LockTableAccessDeniedError, None),
        (call_table, 400, as_json("AccessDeniedException"), errors.LockTableAccessDeniedError, None),
        (call_table, 400, as_json("ResourceNotFoundException"), errors.LockTableAccessDeniedError, None),
        (call_log, 403, as_xml("AccessDenied"), errors.AuditLogAccessDeniedError, None),
        (call_log, 404, as_xml("NoSuchBucket"), errors.AuditLogAccessDeniedError, None),
        (call_log_read, 404, as_xml("NoSuchBucket"), errors.AuditLogAccessDeniedError, None),
        (call_log_list, 404, as_xml("NoSuchBucket"), errors.AuditLogAccessDeniedError, None),
        (call_log_history, 403, as_xml("AccessDenied"), errors.AuditLogAccessDeniedError, None),
        (call_log_history, 200, b"<html>a proxy", errors.AuditLogUnreachableError, "500"),
        (call_log, 409, as_xml("ConditionalRequestConflict"), errors.AuditLogUnreachableError, None),
        (call_log, 503, as_xml("SlowDown"), errors.AuditLogUnreachableError, None),
        (call_log_head, 503, b"", errors.AuditLogUnreachableError, "503"),
        (call_log_list, 200, b"<html>a proxy", errors.AuditLogUnreachableError, "500"),
        (call_plan, 403, as_xml("AccessDenied"), errors.PlanAccessDeniedError, None),
        (call_plan, 404, as_xml("NoSuchBucket"), errors.PlanAccessDeniedError, None),
        (call_plan, 503, as_xml("SlowDown"), errors.PlanUnreachableError, None),
        (call_plan_create, 403, as_xml("AccessDenied"), errors.PlanAccessDeniedError, None),
        (call_plan_create, 409, as_xml("ConditionalRequestConflict"), errors.PlanUnreachableError, None),
        (call_plan_list, 404, as_xml("NoSuchBucket"), errors.PlanAccessDeniedError, None),
        (call_plan_list, 200, b"<html>a proxy", errors.PlanUnreachableError, "500"),
        (call_signer, 400, as_json("DisabledException"), errors.AuditLogAccessDeniedError, None),
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
