"""Behaviour that only the OCI clients have: the errors for their failures, and the identities that they use."""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from lockstep.oci.clients import ErrorKind, OciClients, OciIdentity, diagnose
from lockstep.oci.kms import VaultDigestKey
from lockstep.oci.object_storage import ObjectStorageAuditLog
from lockstep.oci.vault import Vault, VaultSigner
from lockstep.protocol.deadlines import CloudTimeouts, DeadlineGuard, always
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    EnvironmentalError,
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
from lockstep.protocol.federation import rsa_key
from lockstep.protocol.ports import Mac
from lockstep.runtime.identity import aws_access_key, oci_api_key, own_oci_identity
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.keys import Key
from sandbox.oci_resources import create_audit_bucket, create_signing_key
from tests.contract.oci_fixtures import BUCKET, OciConsole, sandbox_clients, sandbox_vault


@pytest.fixture
def sandbox() -> Iterator[OciSandbox]:
    with OciSandbox() as running:
        yield running


@pytest.fixture
def console(sandbox: OciSandbox) -> OciConsole:
    return OciConsole(sandbox)


# Failures


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "InvalidParameter", StoreRejectedError),
        (400, "LimitExceeded", StoreQuotaExceededError),
        (400, "QuotaExceeded", StoreQuotaExceededError),
        (401, "NotAuthenticated", StoreAccessDeniedError),
        (403, "NotAuthorized", StoreAccessDeniedError),
        (404, "NotAuthorizedOrNotFound", StoreAccessDeniedError),  # The list shows the secret.
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
    cause = error.value.__cause__
    assert cause is None or isinstance(cause, EnvironmentalError)
    assert error.value.__suppress_context__
    assert "armed fault" not in str(cause)
    assert "armed fault" not in str(error.value)


def test_each_call_is_made_once_and_no_circuit_breaker_opens(
    sandbox: OciSandbox, console: OciConsole
) -> None:
    secret_id = console.create_secret("secret", "text")
    vault = sandbox_vault(sandbox)
    with sandbox.faults.refuse("get_secret", status=500, code="InternalServerError", times=None):
        for _ in range(15):
            with pytest.raises(StoreUnreachableError):
                vault.state("secret", secret_id)
    assert sandbox.calls.count("get_secret") == 15
    assert vault.state("secret", secret_id).current_number == 1


@pytest.mark.parametrize("lose", ["drop_request", "drop_reply"])
def test_a_lost_connection_is_an_outage(sandbox: OciSandbox, console: OciConsole, lose: str) -> None:
    secret_id = console.create_secret("secret", "text")
    getattr(sandbox.faults, lose)("get_secret")
    with pytest.raises(StoreUnreachableError):
        sandbox_vault(sandbox).state("secret", secret_id)


def test_a_server_that_does_not_answer_is_an_outage(sandbox: OciSandbox, console: OciConsole) -> None:
    hasty = sandbox_clients(sandbox, timeouts=CloudTimeouts(read_seconds=0.2))
    secret_id = console.create_secret("secret", "text")
    with sandbox.faults.hang("get_secret"), pytest.raises(StoreUnreachableError) as error:
        sandbox_vault(sandbox, hasty).state("secret", secret_id)
    assert error.value.where["code"] == "ReadTimeout"


def test_an_untrusted_certificate_is_rejected_and_not_an_outage() -> None:
    wrong = oci.exceptions.RequestException(oci._vendor.requests.exceptions.SSLError("wrong host"))
    assert diagnose(wrong) == (ErrorKind.REJECTED, "SSLError")


@pytest.mark.parametrize("reply", [b"<html>a proxy's page</html>", b"{}", b"[1]", b'"text"', b"\xff"])
def test_a_reply_that_is_not_from_oci_is_an_outage(sandbox: OciSandbox, reply: bytes) -> None:
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


def test_a_missing_permission_to_list_is_access_denied(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("secret", "text")
    vault = sandbox_vault(sandbox, sandbox_clients(sandbox, sandbox.new_api_key("no-grants")))
    with pytest.raises(StoreAccessDeniedError):
        vault.secret_id("secret")


def test_a_deleted_secret_is_looked_up_again(sandbox: OciSandbox, console: OciConsole) -> None:
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


def reading(
    sandbox: OciSandbox, identities: list[dict[str, str]], deadline_guard: DeadlineGuard = always
) -> tuple[Vault, list[int]]:
    """A vault whose identity is read from a list, and one item for each read."""
    reads: list[int] = []

    def identity() -> OciIdentity:
        reads.append(1)
        return OciIdentity(config=identities[min(len(reads), len(identities)) - 1])

    clients = OciClients(identity, "eu-frankfurt-1", endpoint=sandbox.endpoint, deadline_guard=deadline_guard)
    return sandbox_vault(sandbox, clients), reads


def test_a_key_that_was_replaced_is_read_again(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("secret", "text")
    may = ("SECRET_INSPECT", "SECRET_READ", "SECRET_BUNDLE_READ")
    old, new = sandbox.new_api_key("lockstep", *may), sandbox.new_api_key("lockstep")
    vault, reads = reading(sandbox, [old, new])
    vault.read_named("secret")
    sandbox.identity.delete_api_key(old)
    with pytest.raises(StoreUnreachableError) as error:  # Retryable.
        vault.read_named("secret")
    assert error.value.where["code"] == "NotAuthenticated"
    assert vault.text("secret", vault.read_named("secret")) == "text"
    assert len(reads) == 2


def test_a_key_that_never_worked_is_denied_and_read_again_by_the_next_call(
    sandbox: OciSandbox, console: OciConsole
) -> None:
    console.create_secret("secret", "text")
    may = ("SECRET_INSPECT", "SECRET_READ", "SECRET_BUNDLE_READ")
    wrong, right = sandbox.new_api_key("lockstep", *may), sandbox.new_api_key("lockstep")
    sandbox.identity.delete_api_key(wrong)
    vault, reads = reading(sandbox, [wrong, wrong, right])
    for _ in range(2):
        with pytest.raises(StoreAccessDeniedError):  # No retry of the same run helps.
            vault.read_named("secret")
    assert vault.text("secret", vault.read_named("secret")) == "text"
    assert len(reads) == 3


def test_an_api_key_is_read_from_the_fields_of_an_oci_config(sandbox: OciSandbox) -> None:
    config = sandbox.config()
    text = json.dumps({**config, "private_key": config["key_content"]})
    identity = oci_api_key(text, store="aws", secret="lockstep/oci-key")
    assert identity.config == config
    assert config["key_content"] not in repr(identity)


@pytest.mark.parametrize("text", ["hunter2", '"hunter2"', '{"tenancy": "hunter2"}', '{"access_key_id": 7}'])
@pytest.mark.parametrize("read", [oci_api_key, aws_access_key])
def test_a_secret_that_is_not_a_key_is_an_error_and_not_quoted(
    read: Callable[..., object], text: str
) -> None:
    with pytest.raises(StoreAccessDeniedError) as error:
        read(text, store="aws", secret="lockstep/key")
    assert error.value.where == {"store": "aws", "secret": "lockstep/key", "code": "not-a-key"}
    assert "hunter2" not in str(error.value)


def test_outside_oci_only_the_named_config_file_is_used(
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


def token() -> str:
    """A session token like a function's in OCI, with an invalid signature."""
    claims = {
        "exp": 4102444800,
        "res_tenant": "ocid1.tenancy.oc1..a",
        "res_compartment": "ocid1.compartment.oc1..a",
    }
    parts = (json.dumps(part).encode() for part in ({"alg": "RS256"}, claims, "signature"))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def test_a_refused_resource_principal_is_renewed_once(
    sandbox: OciSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(token())
    (tmp_path / "key").write_text(sandbox.config()["key_content"])
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_VERSION", "2.2")
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_RPST", str(tmp_path / "token"))
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM", str(tmp_path / "key"))
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_REGION", "eu-frankfurt-1")
    vault = sandbox_vault(sandbox, OciClients(own_oci_identity, "eu-frankfurt-1", endpoint=sandbox.endpoint))
    with pytest.raises(StoreAccessDeniedError):  # The sandbox knows no resource principals.
        vault.secret_id("secret")
    assert sandbox.calls.count("list_secrets") == 2


def test_inside_oci_the_resource_principal_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCI_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_VERSION", "2.2")
    with pytest.raises(StoreAccessDeniedError) as error:  # There is no token.
        own_oci_identity()
    assert error.value.where == {"code": "ValueError"}


# Audit log and signing key

ENTRY = {"chain": "{}", "mac": "{}"}


def audit_log(
    sandbox: OciSandbox, config: dict[str, str] | None = None, *, page_size: int = 1000
) -> ObjectStorageAuditLog:
    return ObjectStorageAuditLog(
        sandbox_clients(sandbox, config),
        namespace=sandbox.namespace,
        bucket=BUCKET,
        stream="oci",
        credential_id="multi-cloud/app_user",
        page_size=page_size,
    )


# The audit log


def test_a_writer_with_create_and_inspect_can_only_append(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET, tier="Archive")
    writer = sandbox.new_api_key("lockstep", "OBJECT_CREATE", "OBJECT_INSPECT", resource=BUCKET)
    log = audit_log(sandbox, writer)
    assert log.put(1, b"{}", ENTRY)
    assert not log.put(1, b"{}", ENTRY)
    assert log.look(1) == ENTRY
    assert list(log.numbers()) == [1]
    with pytest.raises(AuditLogUnreachableError) as error:
        log.read(1)
    assert error.value.where["code"] == "BucketNotFound"  # OCI's answer to a missing permission.


def test_an_archived_entry_must_be_restored_before_it_is_read(
    sandbox: OciSandbox, console: OciConsole
) -> None:
    console.create_bucket(BUCKET, tier="Archive")
    log = audit_log(sandbox)
    log.put(1, b'{"entry":1}', ENTRY)
    with pytest.raises(AuditLogUnreachableError) as error:
        log.read(1)
    assert error.value.where == {"stream": "oci", "seq": "1", "code": "NotRestored"}
    name = "oci/multi-cloud.app_user/000000000001.json"
    details = oci.object_storage.models.RestoreObjectsDetails(object_name=name)
    console.storage.restore_objects(sandbox.namespace, BUCKET, details)
    sandbox.clock.advance(timedelta(hours=1))
    assert log.read(1) == b'{"entry":1}'


def test_a_bucket_that_is_not_found_is_a_retryable_error(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET)
    log = audit_log(sandbox)
    sandbox.faults.bucket_not_found(times=1)
    with pytest.raises(AuditLogUnreachableError) as error:
        log.put(1, b"{}", ENTRY)
    assert error.value.where["code"] == "BucketNotFound"
    assert log.put(1, b"{}", ENTRY)


def test_a_body_that_was_changed_in_transit_is_refused(
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
        log.put(1, b"{}", ENTRY)
    assert list(log.numbers()) == []


def test_a_missing_bucket_and_a_refused_key_are_errors(sandbox: OciSandbox) -> None:
    with pytest.raises(AuditLogUnreachableError) as error:
        list(audit_log(sandbox).numbers())
    assert error.value.where["code"] == "BucketNotFound"
    deleted = sandbox.new_api_key("lockstep")
    sandbox.identity.delete_api_key(deleted)
    with pytest.raises(AuditLogAccessDeniedError):
        list(audit_log(sandbox, deleted).numbers())


def test_a_reader_who_may_not_list_is_told_so(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET)
    audit_log(sandbox).put(1, b"{}", ENTRY)
    reader = audit_log(sandbox, sandbox.new_api_key("auditor", "OBJECT_READ", resource=BUCKET))
    assert reader.read(1) == b"{}"
    with pytest.raises(AuditLogAccessDeniedError) as error:
        list(reader.history())
    assert error.value.where["code"] == "BucketNotFound"  # OCI's answer to a missing permission.
    lister = audit_log(sandbox, sandbox.new_api_key("lister", "OBJECT_INSPECT", resource=BUCKET))
    assert [version.seq for version in lister.history()] == [1]


def test_an_archived_entry_is_in_the_history(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET, tier="Archive")
    log = audit_log(sandbox)
    log.put(1, b"{}", ENTRY)
    (version,) = log.history()
    assert (version.seq, version.size, version.is_latest) == (1, 2, True)
    assert timedelta() <= sandbox.clock.now() - version.at < timedelta(minutes=1)


def test_a_retention_rule_keeps_an_entry_and_its_name_is_taken(
    sandbox: OciSandbox, console: OciConsole
) -> None:
    create_audit_bucket(sandbox, BUCKET, retention_days=400)
    log = audit_log(sandbox)
    assert log.put(1, b"{}", ENTRY)
    name = "oci/multi-cloud.app_user/000000000001.json"
    for tampering, content in (
        (console.storage.delete_object, []),
        (console.storage.put_object, [b"forged"]),
    ):
        with pytest.raises(oci.exceptions.ServiceError) as error:
            tampering(sandbox.namespace, BUCKET, name, *content)
        assert (error.value.status, error.value.code) == (403, "RetentionRuleViolation")
    assert not log.put(1, b"{}", ENTRY)
    (version,) = log.history()
    assert (version.seq, version.is_latest, version.is_delete_marker) == (1, True, False)
    # Nobody says which of its two refusals OCI gives a conditional write.
    with sandbox.faults.refuse("put_object", status=403, code="RetentionRuleViolation"):
        assert not log.put(1, b"{}", ENTRY)


# The signing key


def test_an_older_key_still_verifies(sandbox: OciSandbox, console: OciConsole) -> None:
    secret_id = console.create_secret("lockstep.mac", "an old key, which is long enough to be one")
    old = VaultSigner(sandbox_vault(sandbox), "lockstep/mac")
    mac = old.sign(b"digest")
    console.edit(secret_id, "a new key, which is long enough to be one, too")
    new = VaultSigner(sandbox_vault(sandbox), "lockstep/mac")
    assert (mac.key_id, new.sign(b"digest").key_id) == ("lockstep.mac:1", "lockstep.mac:2")
    assert old.sign(b"digest") == mac
    assert new.verify(b"digest", mac)
    assert new.rank("lockstep.mac:1") < new.rank("lockstep.mac:2")
    for another in ("another:1", "lockstep.mac:one", "lockstep.mac", "lockstep.mac:9", "lockstep.mac:2"):
        assert not new.verify(b"digest", Mac(key_id=another, value=mac.value))


def test_a_retired_secret_still_verifies(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("lockstep.old", "an old key, which is long enough to be one")
    console.create_secret("lockstep.mac", "a new key, which is long enough to be one, too")
    mac = VaultSigner(sandbox_vault(sandbox), "lockstep/old").sign(b"digest")
    new = VaultSigner(sandbox_vault(sandbox), "lockstep/mac", retired=["lockstep/old"])
    assert new.verify(b"digest", mac)
    assert new.rank(mac.key_id) < new.rank(new.sign(b"digest").key_id)
    assert not VaultSigner(sandbox_vault(sandbox), "lockstep/mac").verify(b"digest", mac)


def test_a_key_that_is_too_short_or_missing_is_refused(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("lockstep.mac", "31 bytes is one too few for it.")
    for name in ("lockstep.mac", "lockstep.missing"):
        with pytest.raises(AuditLogAccessDeniedError):
            VaultSigner(sandbox_vault(sandbox), name).sign(b"digest")


def test_a_placeholder_before_the_key_makes_no_mac_and_no_error(
    sandbox: OciSandbox, console: OciConsole
) -> None:
    """Anybody who may write an object can name its version."""
    secret_id = console.create_secret("lockstep.mac", "placeholder")
    console.edit(secret_id, "a key which is long enough to be one")
    signer = VaultSigner(sandbox_vault(sandbox), "lockstep.mac")
    forged = Mac(key_id="lockstep.mac:1", value=hmac.digest(b"placeholder", b"digest", "sha256"))
    assert not signer.verify(b"digest", forged)
    assert signer.verify(b"digest", signer.sign(b"digest"))


def test_an_outage_while_the_key_is_read_is_a_retryable_error(
    sandbox: OciSandbox, console: OciConsole
) -> None:
    console.create_secret("lockstep.mac", "a key which is long enough to be one")
    signer = VaultSigner(sandbox_vault(sandbox), "lockstep.mac")
    with sandbox.faults.outage("secrets"), pytest.raises(AuditLogUnreachableError):
        signer.sign(b"digest")
    assert signer.sign(b"digest")


def test_a_prepared_signer_asks_nothing_more(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_secret("lockstep.mac", "a key which is long enough to be one")
    signer = VaultSigner(sandbox_vault(sandbox), "lockstep.mac")
    signer.prepare()
    with sandbox.faults.outage("secrets"):
        assert signer.sign(b"digest").key_id == "lockstep.mac:1"


def test_a_key_is_read_once_and_never_logged(
    sandbox: OciSandbox, console: OciConsole, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "a key which is long enough to be one"
    console.create_secret("lockstep.mac", key)
    signer = VaultSigner(sandbox_vault(sandbox), "lockstep.mac")
    for _ in range(3):
        signer.verify(b"digest", signer.sign(b"digest"))
    assert (
        sandbox.calls.count("get_secret_bundle") == 2
    )  # The key that signs, and the key that an entry names.
    assert key not in caplog.text
    assert base64.b64encode(key.encode()).decode() not in caplog.text
    assert key not in repr(signer)


# The key of digests


@pytest.fixture(name="key")
def _key(sandbox: OciSandbox) -> Key:
    return create_signing_key(sandbox, name="lockstep-digests")


def digest_key(sandbox: OciSandbox, key: Key, config: dict[str, str] | None = None) -> VaultDigestKey:
    return VaultDigestKey(sandbox_clients(sandbox, config), f"{key.ocid}@{sandbox.endpoint}")


def verifies(public_key: str, signature: bytes, text: bytes = b"text") -> bool:
    try:
        rsa_key(public_key).verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


DIGEST = hashlib.sha256(b"text").digest()


def test_a_digest_is_signed_with_exactly_its_permissions(sandbox: OciSandbox, key: Key) -> None:
    signer = sandbox.new_api_key("digest", "KEY_SIGN", "KEY_READ", resource=key.ocid)
    own = digest_key(sandbox, key, signer)
    assert verifies(own.public_key(), own.sign(DIGEST))
    assert not verifies(own.public_key(), own.sign(hashlib.sha256(b"another").digest()))
    other = digest_key(sandbox, create_signing_key(sandbox), signer)
    for call in (other.public_key, lambda: other.sign(DIGEST)):
        with pytest.raises(AuditLogAccessDeniedError):
            call()


def test_the_version_that_was_told_signs_and_a_new_process_tells_the_next_one(
    sandbox: OciSandbox, key: Key
) -> None:
    told, silent = digest_key(sandbox, key), digest_key(sandbox, key)
    first = told.public_key()
    management = sandbox.client(oci.key_management.KmsManagementClient)
    management.create_key_version(key.ocid)
    assert told.public_key() == first
    assert verifies(first, told.sign(DIGEST))
    second = digest_key(sandbox, key).public_key()
    assert second != first
    assert verifies(second, silent.sign(DIGEST))
    assert sandbox.calls.count("get_key_version") == 2


def test_a_key_that_cannot_sign_is_an_error_of_the_audit_log(sandbox: OciSandbox, key: Key) -> None:
    with sandbox.faults.outage("kms"), pytest.raises(AuditLogUnreachableError):
        digest_key(sandbox, key).sign(DIGEST)
    key.state = "DISABLED"
    with pytest.raises(AuditLogUnreachableError) as error:
        digest_key(sandbox, key).sign(DIGEST)
    assert error.value.where == {"action": "Sign", "code": "IncorrectState"}
    encrypts = sandbox.keys.key(sandbox.key_id)
    with pytest.raises(AuditLogAccessDeniedError) as denied:
        digest_key(sandbox, encrypts).public_key()
    assert denied.value.where == {"action": "GetKeyVersion", "code": "no-public-key"}
