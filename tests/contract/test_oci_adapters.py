"""What only the OCI adapters promise: what their failures mean, permissions, archived objects, keys, identities."""

import base64
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from lockstep.errors import (
    AuditConflictError,
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    LockstepError,
    LostCompareAndSetError,
    SecretMalformedError,
    SecretNotFoundError,
    StoreAccessDeniedError,
    StoreBusyError,
    StoreQuotaExceededError,
    StoreRejectedError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.identity import aws_access_key, oci_api_key, own_oci_identity
from lockstep.oci import clients
from lockstep.oci.clients import OciClients, OciIdentity, Trouble, diagnose
from lockstep.oci.object_storage_audit import ObjectStorageAuditLog
from lockstep.oci.vault import Vault
from lockstep.oci.vault_signer import VaultSigner
from lockstep.ports import EntrySummary
from sandbox.oci import OciSandbox
from tests.contract.oci_fixtures import BUCKET, OciConsole, sandbox_clients, sandbox_vault

ENTRY = EntrySummary(seq=1, hash="b" * 64, previous_hash="0" * 64, rotation_id="oci-1")


@pytest.fixture
def sandbox() -> Iterator[OciSandbox]:
    with OciSandbox() as running:
        yield running


@pytest.fixture
def console(sandbox: OciSandbox) -> OciConsole:
    return OciConsole(sandbox)


def audit_log(sandbox: OciSandbox, config: dict[str, str] | None = None) -> ObjectStorageAuditLog:
    return ObjectStorageAuditLog(
        sandbox_clients(sandbox, config),
        namespace=sandbox.namespace,
        bucket=BUCKET,
        stream="oci",
        credential_id="multi-cloud/app_user",
    )


# What failures mean


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "InvalidParameter", StoreRejectedError),
        (400, "LimitExceeded", StoreQuotaExceededError),
        (400, "QuotaExceeded", StoreQuotaExceededError),
        (401, "NotAuthenticated", StoreAccessDeniedError),
        (403, "NotAuthorized", StoreAccessDeniedError),
        (404, "NotAuthorizedOrNotFound", SecretNotFoundError),
        (409, "IncorrectState", StoreBusyError),
        (409, "Conflict", StoreBusyError),
        (412, "NoEtagMatch", LostCompareAndSetError),
        (429, "TooManyRequests", StoreThrottledError),
        (500, "InternalServerError", StoreUnreachableError),
        (503, "ServiceUnavailable", StoreUnreachableError),
        (501, "NotImplemented", StoreRejectedError),
    ],
)
def test_a_refusal_keeps_its_code_and_loses_its_text(
    sandbox: OciSandbox, console: OciConsole, status: int, code: str, expected: type[LockstepError]
) -> None:
    secret_id = console.create_secret("secret", "text")
    vault = sandbox_vault(sandbox)
    with sandbox.faults.refuse("get_secret", status=status, code=code), pytest.raises(expected) as error:
        vault.state("secret", secret_id)
    assert error.value.where == {"store": "oci", "secret": "secret", "code": code}
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__
    assert "armed fault" not in str(error.value)


def test_each_call_is_made_once_and_no_circuit_opens(sandbox: OciSandbox, console: OciConsole) -> None:
    secret_id = console.create_secret("secret", "text")
    vault = sandbox_vault(sandbox)
    with sandbox.faults.refuse("get_secret", status=500, code="InternalServerError", times=None):
        for _ in range(15):
            with pytest.raises(StoreUnreachableError):
                vault.state("secret", secret_id)
    assert sandbox.calls.count("get_secret") == 15
    assert vault.state("secret", secret_id).current_number == 1


@pytest.mark.parametrize("lose", ["drop_request", "drop_reply"])
def test_a_lost_connection_is_no_answer(sandbox: OciSandbox, console: OciConsole, lose: str) -> None:
    secret_id = console.create_secret("secret", "text")
    getattr(sandbox.faults, lose)("get_secret")
    with pytest.raises(StoreUnreachableError):
        sandbox_vault(sandbox).state("secret", secret_id)


def test_silence_is_no_answer(
    sandbox: OciSandbox, console: OciConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "READ_TIMEOUT_SECONDS", 0.2)
    secret_id = console.create_secret("secret", "text")
    with sandbox.faults.hang("get_secret"), pytest.raises(StoreUnreachableError) as error:
        sandbox_vault(sandbox).state("secret", secret_id)
    assert error.value.where["code"] == "ReadTimeout"


def test_nobody_there_is_no_answer(sandbox: OciSandbox) -> None:
    vault = sandbox_vault(sandbox)
    sandbox.stop()
    with pytest.raises(StoreUnreachableError):
        vault.secret_id("secret")


def test_a_certificate_that_does_not_verify_is_not_mended_by_waiting() -> None:
    wrong = oci.exceptions.RequestException(oci._vendor.requests.exceptions.SSLError("wrong host"))
    assert diagnose(wrong) == (Trouble.REJECTED, "SSLError")


@pytest.mark.parametrize("reply", [b"<html>a proxy's page</html>", b"{}", b"[1]", b'"text"', b"\xff"])
def test_a_reply_of_something_else_is_no_answer(sandbox: OciSandbox, reply: bytes) -> None:
    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            identity = OciIdentity(config=sandbox.config())
            endpoint = f"http://127.0.0.1:{proxy.server_port}"
            vault = sandbox_vault(sandbox, OciClients(lambda: identity, "eu-frankfurt-1", endpoint=endpoint))
            with pytest.raises(StoreUnreachableError):
                vault.read("secret", "ocid1.vaultsecret.oc1..a")
        finally:
            proxy.shutdown()
            thread.join()


def test_a_missing_permission_to_list_is_no_missing_secret(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("secret", "text")
    vault = sandbox_vault(sandbox, sandbox_clients(sandbox, sandbox.new_api_key("nobody")))
    with pytest.raises(StoreAccessDeniedError):
        vault.secret_id("secret")


def test_a_secret_made_anew_is_found_under_its_new_ocid(sandbox: OciSandbox, console: OciConsole) -> None:
    vault = sandbox_vault(sandbox)
    old = console.create_secret("secret", "text")
    assert vault.secret_id("secret") == old
    console.remove(old)
    with pytest.raises(SecretNotFoundError):
        vault.read_named("secret")
    assert vault.secret_id("secret") is None
    console.restore(old)
    assert vault.text("secret", vault.read_named("secret")) == "text"


def test_a_binary_secret_is_malformed(sandbox: OciSandbox, console: OciConsole) -> None:
    secret_id = console.create_secret("secret", "text")
    content = oci.vault.models.Base64SecretContentDetails(content=base64.b64encode(b"\xff\xfe").decode())
    console.vaults.update_secret(secret_id, oci.vault.models.UpdateSecretDetails(secret_content=content))
    vault = sandbox_vault(sandbox)
    with pytest.raises(SecretMalformedError):
        vault.text("secret", vault.read_named("secret"))


# Identities


def reading(sandbox: OciSandbox, identities: list[dict[str, str]]) -> tuple[Vault, list[int]]:
    """A vault whose identity is read from a list, and how often it was."""
    reads: list[int] = []

    def identity() -> OciIdentity:
        reads.append(1)
        return OciIdentity(config=identities[min(len(reads), len(identities)) - 1])

    return sandbox_vault(sandbox, OciClients(identity, "eu-frankfurt-1", endpoint=sandbox.endpoint)), reads


def test_a_key_that_was_replaced_is_read_again(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("secret", "text")
    may = ("SECRET_INSPECT", "SECRET_READ", "SECRET_BUNDLE_READ")
    old, new = sandbox.new_api_key("lockstep", *may), sandbox.new_api_key("lockstep")
    vault, reads = reading(sandbox, [old, new])
    vault.read_named("secret")
    sandbox.identity.delete_api_key(old)
    with pytest.raises(StoreUnreachableError) as error:  # Worth the state machine's retry.
        vault.read_named("secret")
    assert error.value.where["code"] == "NotAuthenticated"
    assert vault.text("secret", vault.read_named("secret")) == "text"
    assert len(reads) == 2


def test_a_key_that_never_worked_is_refused_for_good(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("secret", "text")
    deleted = sandbox.new_api_key("lockstep", "SECRET_INSPECT")
    sandbox.identity.delete_api_key(deleted)
    vault, reads = reading(sandbox, [deleted])
    for _ in range(2):
        with pytest.raises(StoreAccessDeniedError):
            vault.read_named("secret")
    assert len(reads) == 1


def test_an_api_key_is_read_from_the_fields_that_oci_gives_it(sandbox: OciSandbox) -> None:
    config = sandbox.config()
    text = json.dumps({**config, "private_key": config["key_content"]})
    identity = oci_api_key(text, store="aws", secret="lockstep/oci-key")
    assert identity.config == config
    assert config["key_content"] not in repr(identity)


@pytest.mark.parametrize("text", ["hunter2", '"hunter2"', '{"tenancy": "hunter2"}', '{"access_key_id": 7}'])
@pytest.mark.parametrize("read", [oci_api_key, aws_access_key])
def test_a_secret_that_is_no_key_is_told_and_not_quoted(read: Callable[..., object], text: str) -> None:
    with pytest.raises(StoreAccessDeniedError) as error:
        read(text, store="aws", secret="lockstep/key")
    assert error.value.where == {"store": "aws", "secret": "lockstep/key", "code": "not-a-key"}
    assert "hunter2" not in str(error.value)


def test_an_access_key_does_not_show_itself() -> None:
    text = '{"access_key_id": "AKIA", "secret_access_key": "hunter2"}'
    keys = aws_access_key(text, store="oci", secret="lockstep.aws-key")
    assert keys.secret_access_key.reveal() == "hunter2"
    assert "hunter2" not in repr(keys)


def test_outside_oci_only_a_named_config_file_counts(
    sandbox: OciSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sandbox.config()
    (tmp_path / "key.pem").write_text(config.pop("key_content"))
    lines = [f"{name}={value}" for name, value in config.items()]
    text = "\n".join(["[DEFAULT]", *lines, f"key_file={tmp_path / 'key.pem'}", "log_requests=true", ""])
    (tmp_path / ".oci").mkdir()
    (tmp_path / ".oci" / "config").write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("OCI_CONFIG_FILE", raising=False)
    monkeypatch.delenv("OCI_RESOURCE_PRINCIPAL_VERSION", raising=False)
    with pytest.raises(StoreAccessDeniedError):
        own_oci_identity()
    monkeypatch.setenv("OCI_CONFIG_FILE", str(tmp_path / ".oci" / "config"))
    identity = own_oci_identity()
    assert identity.config["log_requests"] is False
    assert identity.config["user"] == config["user"]
    monkeypatch.setenv("OCI_CONFIG_FILE", str(tmp_path / "missing"))
    with pytest.raises(StoreAccessDeniedError) as error:
        own_oci_identity()
    assert error.value.where == {"code": "ConfigFileNotFound"}


def test_inside_oci_the_resource_principal_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCI_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_VERSION", "2.2")
    with pytest.raises(StoreAccessDeniedError) as error:  # There is no token here.
        own_oci_identity()
    assert error.value.where == {"code": "ValueError"}


# The audit log


def test_a_writer_that_may_create_and_inspect_can_append_and_nothing_else(
    sandbox: OciSandbox, console: OciConsole
) -> None:
    console.create_bucket(BUCKET, tier="Archive")
    writer = sandbox.new_api_key("lockstep", "OBJECT_CREATE", "OBJECT_INSPECT", resource=BUCKET)
    log = audit_log(sandbox, writer)
    assert log.put(b"{}", ENTRY)
    assert not log.put(b"{}", ENTRY)
    assert log.summary(1) == ENTRY
    assert log.last_seq() == 1
    with pytest.raises(AuditLogUnreachableError) as error:
        log.read(1)
    assert error.value.where["code"] == "BucketNotFound"  # OCI's answer to a missing permission.


def test_an_archived_entry_says_that_it_has_to_be_restored(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET, tier="Archive")
    log = audit_log(sandbox)
    log.put(b'{"entry":1}', ENTRY)
    with pytest.raises(AuditLogUnreachableError) as error:
        log.read(1)
    assert error.value.where == {"stream": "oci", "seq": "1", "code": "NotRestored"}
    name = "oci/multi-cloud.app_user/000000000001.json"
    details = oci.object_storage.models.RestoreObjectsDetails(object_name=name)
    console.storage.restore_objects(sandbox.namespace, BUCKET, details)
    sandbox.clock.advance(timedelta(hours=1))
    assert log.read(1) == b'{"entry":1}'


def test_a_bucket_that_is_not_found_is_worth_another_try(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET)
    log = audit_log(sandbox)
    sandbox.faults.bucket_not_found(times=1)
    with pytest.raises(AuditLogUnreachableError) as error:
        log.put(b"{}", ENTRY)
    assert error.value.where["code"] == "BucketNotFound"
    assert log.put(b"{}", ENTRY)


def test_a_body_that_was_changed_on_its_way_is_refused(
    sandbox: OciSandbox, console: OciConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    console.create_bucket(BUCKET)
    log_clients = sandbox_clients(sandbox)
    log = ObjectStorageAuditLog(
        log_clients, namespace=sandbox.namespace, bucket=BUCKET, stream="oci", credential_id="c"
    )
    put = log_clients.objects.put_object
    monkeypatch.setattr(
        log_clients.objects,
        "put_object",
        lambda n, b, name, body, **more: put(n, b, name, body + b" ", **more),
    )
    with pytest.raises(AuditLogAccessDeniedError):
        log.put(b"{}", ENTRY)
    assert log.last_seq() == 0


def test_an_object_of_somebody_else_is_a_conflict(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET)
    console.storage.put_object(sandbox.namespace, BUCKET, "oci/multi-cloud.app_user/000000000001.json", b"{}")
    with pytest.raises(AuditConflictError):
        audit_log(sandbox).summary(1)


def test_a_missing_bucket_and_a_refused_key_are_told(sandbox: OciSandbox) -> None:
    with pytest.raises(AuditLogUnreachableError) as error:
        audit_log(sandbox).last_seq()
    assert error.value.where["code"] == "BucketNotFound"
    deleted = sandbox.new_api_key("lockstep")
    sandbox.identity.delete_api_key(deleted)
    with pytest.raises(AuditLogAccessDeniedError):
        audit_log(sandbox, deleted).last_seq()


def test_the_last_seq_is_found_across_pages(
    sandbox: OciSandbox, console: OciConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lockstep.oci.object_storage_audit._PAGE", 3)
    console.create_bucket(BUCKET)
    log = audit_log(sandbox)
    for seq in range(1, 9):
        log.put(b"{}", EntrySummary(seq=seq, hash="b", previous_hash="a", rotation_id="oci-1"))
    console.storage.put_object(sandbox.namespace, BUCKET, "oci/multi-cloud.app_user2/000000000099.json", b"")
    console.storage.put_object(sandbox.namespace, BUCKET, "oci/multi-cloud.app_user/notes.txt", b"")
    assert log.last_seq() == 8


# The signing key


def test_an_older_key_goes_on_verifying(sandbox: OciSandbox, console: OciConsole) -> None:
    secret_id = console.create_secret("lockstep.mac", "an old key, which is long enough to be one")
    old = VaultSigner(sandbox_vault(sandbox), "lockstep/mac")
    mac = old.sign(b"digest")
    console.edit(secret_id, "a new key, which is long enough to be one, too")
    new = VaultSigner(sandbox_vault(sandbox), "lockstep/mac")
    assert (old.key_id, new.key_id) == ("lockstep.mac:1", "lockstep.mac:2")
    assert old.sign(b"digest") == mac
    assert not new.verify(b"digest", mac)
    assert new.of("lockstep.mac:1").verify(b"digest", mac)
    for another in ("another:1", "lockstep.mac:one", "lockstep.mac"):
        with pytest.raises(AuditLogAccessDeniedError):
            new.of(another)
    with pytest.raises(AuditLogAccessDeniedError):
        new.of("lockstep.mac:9").verify(b"digest", mac)


def test_a_key_that_is_too_short_or_missing_is_refused(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("lockstep.mac", "31 bytes is one too few for it.")
    for name in ("lockstep.mac", "lockstep.missing"):
        with pytest.raises(AuditLogAccessDeniedError):
            VaultSigner(sandbox_vault(sandbox), name).sign(b"digest")


def test_a_key_that_cannot_be_read_now_is_worth_another_try(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("lockstep.mac", "a key which is long enough to be one")
    signer = VaultSigner(sandbox_vault(sandbox), "lockstep.mac")
    with sandbox.faults.outage("secrets"), pytest.raises(AuditLogUnreachableError):
        signer.sign(b"digest")
    assert signer.sign(b"digest")


def test_a_key_is_read_once_and_never_logged(
    sandbox: OciSandbox, console: OciConsole, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "a key which is long enough to be one"
    console.create_secret("lockstep.mac", key)
    signer = VaultSigner(sandbox_vault(sandbox), "lockstep.mac")
    for _ in range(3):
        signer.verify(b"digest", signer.sign(b"digest"))
    assert sandbox.calls.count("get_secret_bundle") == 1
    assert key not in caplog.text
    assert base64.b64encode(key.encode()).decode() not in caplog.text
    assert key not in repr(signer)
