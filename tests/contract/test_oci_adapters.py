"""Behaviour that only the OCI clients have: the errors for their failures, and the identities that they use."""

import base64
import gzip
import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from lockstep.oci.clients import OciClients, OciIdentity, diagnose
from lockstep.oci.kms import VaultDigestKey
from lockstep.oci.vault import Vault, VaultSigner
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    EnvironmentalError,
    ErrorKind,
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
from lockstep.protocol.ports import EntryLog, Mac
from lockstep.runtime.identity import aws_access_key, oci_api_key
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.wire import Reply
from sandbox.oci_resources import create_audit_bucket, create_signing_key
from tests.contract.oci_fixtures import OciConsole, sandbox_clients, sandbox_vault
from tests.support.logs import object_storage_log

NUMBERS = count(1)


@dataclass
class World:
    """A tenancy, and the names of a test in it.

    Attributes:
        name: Of a secret, and of a bucket to be made.
    """

    sandbox: OciSandbox
    console: OciConsole
    vault: Vault
    name: str

    def __post_init__(self) -> None:
        self.secret_id = self.console.create_secret(self.name, "text")
        self.sandbox.calls.clear()

    def log(self, config: dict[str, str] | None = None, clients: OciClients | None = None) -> EntryLog:
        """The audit log in a bucket of that name."""
        clients = clients or sandbox_clients(self.sandbox, config)
        return object_storage_log(clients, self.sandbox.namespace, self.name, "multi-cloud/app_user")


@pytest.fixture(scope="module", name="running")
def _running() -> Iterator[OciSandbox]:
    with OciSandbox() as running:
        yield running


@pytest.fixture(name="w")
def _world(running: OciSandbox) -> World:
    return World(running, OciConsole(running), sandbox_vault(running), f"made-{next(NUMBERS)}")


# Failures


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "InvalidParameter", StoreRejectedError),
        (400, "LimitExceeded", StoreQuotaExceededError),
        (401, "NotAuthenticated", StoreAccessDeniedError),
        (403, "NotAuthorized", StoreAccessDeniedError),
        (404, "NotAuthorizedOrNotFound", StoreAccessDeniedError),  # The list shows the secret.
        (409, "IncorrectState", StoreBusyError),
        (409, "Conflict", StoreBusyError),
        (412, "NoEtagMatch", LostCompareAndSetError),
        (429, "TooManyRequests", StoreThrottledError),
        (503, "ServiceUnavailable", StoreUnreachableError),
        (501, "NotImplemented", StoreRejectedError),
    ],
)
def test_a_refusal_keeps_its_code_and_loses_its_text(
    w: World, status: int, code: str, expected: type[LockstepError]
) -> None:
    vault = sandbox_vault(w.sandbox)
    with w.sandbox.faults.refuse("get_secret", status=status, code=code), pytest.raises(expected) as error:
        vault.state(w.name, w.secret_id)
    assert error.value.where == {"store": "oci", "secret": w.name, "code": code}
    cause = error.value.__cause__
    assert cause is None or isinstance(cause, EnvironmentalError)
    assert error.value.__suppress_context__
    assert "armed fault" not in f"{cause} {error.value}"


def test_each_call_is_made_once_and_no_breaker_opens(w: World) -> None:
    with w.sandbox.faults.refuse("get_secret", status=500, code="InternalServerError", times=None):
        for _ in range(15):
            with pytest.raises(StoreUnreachableError):
                w.vault.state(w.name, w.secret_id)
    assert w.sandbox.calls.count("get_secret") == 15
    assert w.vault.state(w.name, w.secret_id).current_number == 1


def test_a_lost_call_and_silence_are_outages(w: World) -> None:
    hasty = sandbox_vault(w.sandbox, sandbox_clients(w.sandbox, timeouts=CloudTimeouts(read_seconds=0.2)))
    for fault in (w.sandbox.faults.drop_request, w.sandbox.faults.drop_reply, w.sandbox.faults.hang):
        with fault("get_secret"), pytest.raises(StoreUnreachableError) as error:
            hasty.state(w.name, w.secret_id)
    assert error.value.where["code"] == "ReadTimeout"


def test_an_untrusted_certificate_is_rejected_and_not_an_outage() -> None:
    wrong = oci.exceptions.RequestException(oci._vendor.requests.exceptions.SSLError("wrong host"))
    assert diagnose(wrong) == (ErrorKind.REJECTED, "SSLError")


def test_a_reply_that_is_not_from_oci_is_an_outage(w: World) -> None:
    for body in (b"<html>a proxy's page</html>", b"{}", b"\xff"):
        reply = Reply(200, {"content-type": "application/json"}, body)
        with w.sandbox.faults.replace("get_secret_bundle", reply=reply), pytest.raises(StoreUnreachableError):
            w.vault.read(w.name, w.secret_id)


def test_a_missing_right_to_list_is_access_denied(w: World) -> None:
    vault = sandbox_vault(w.sandbox, sandbox_clients(w.sandbox, w.sandbox.new_api_key("no-grants")))
    with pytest.raises(StoreAccessDeniedError):
        vault.secret_id(w.name)


def test_a_deleted_secret_is_sought_again(w: World) -> None:
    assert w.vault.secret_id(w.name) == w.secret_id
    w.console.remove(w.secret_id)
    with pytest.raises(SecretNotFoundError):
        w.vault.read_named(w.name)
    assert w.vault.secret_id(w.name) is None
    w.console.restore(w.secret_id)
    assert w.vault.text(w.name, w.vault.read_named(w.name)) == "text"


def test_a_binary_secret_is_malformed(w: World) -> None:
    content = oci.vault.models.Base64SecretContentDetails(content=base64.b64encode(b"\xff\xfe").decode())
    w.console.vaults.update_secret(w.secret_id, oci.vault.models.UpdateSecretDetails(secret_content=content))
    with pytest.raises(SecretMalformedError):
        w.vault.text(w.name, w.vault.read_named(w.name))


# Identities


def test_a_key_that_was_replaced_is_read_again_and_one_that_never_worked_is_denied(w: World) -> None:
    may = ("SECRET_INSPECT", "SECRET_READ", "SECRET_BUNDLE_READ")
    old, new = w.sandbox.new_api_key("lockstep", *may), w.sandbox.new_api_key("lockstep")
    reads: list[dict[str, str]] = []

    def identity() -> OciIdentity:
        reads.append(identities.pop(0))
        return OciIdentity(config=reads[-1])

    def opened() -> Vault:
        return sandbox_vault(w.sandbox, OciClients(identity, "eu-frankfurt-1", endpoint=w.sandbox.endpoint))

    identities = [old, new]
    vault = opened()
    vault.read_named(w.name)
    w.sandbox.identity.delete_api_key(old)
    with pytest.raises(StoreUnreachableError) as error:  # Retryable.
        vault.read_named(w.name)
    assert error.value.where["code"] == "NotAuthenticated"
    assert vault.text(w.name, vault.read_named(w.name)) == "text"
    assert reads == [old, new]

    identities = [old, old, new]
    vault = opened()
    for _ in range(2):
        with pytest.raises(StoreAccessDeniedError):  # No retry of the same run helps.
            vault.read_named(w.name)
    assert vault.text(w.name, vault.read_named(w.name)) == "text"
    assert identities == []


def test_an_api_key_is_read_from_the_fields_of_an_oci_config(w: World) -> None:
    config = w.sandbox.config()
    text = json.dumps({**config, "private_key": config["key_content"]})
    identity = oci_api_key(text, store="aws", secret="lockstep/oci-key")
    assert identity.config == config
    assert config["key_content"] not in repr(identity)


@pytest.mark.parametrize("text", ["hunter2", '{"tenancy": "hunter2"}', '{"access_key_id": 7}'])
@pytest.mark.parametrize("read", [oci_api_key, aws_access_key])
def test_a_secret_that_is_no_key_is_an_error_and_not_quoted(read: Callable[..., object], text: str) -> None:
    with pytest.raises(StoreAccessDeniedError) as error:
        read(text, store="aws", secret="lockstep/key")
    assert error.value.where == {"store": "aws", "secret": "lockstep/key", "code": "not-a-key"}
    assert "hunter2" not in str(error.value)


# The audit log

ENTRY = {"chain": "{}", "mac": "{}"}
OBJECT = "oci/multi-cloud.app_user/000000000001.json"


def test_who_writes_and_who_reads_may_no_more(w: World) -> None:
    """With BucketNotFound OCI answers a missing permission, and that a bucket is not there."""

    def may(*permissions: str) -> EntryLog:
        key = w.sandbox.new_api_key(f"person-{next(NUMBERS)}", *permissions, resource=w.name)
        return w.log(key)

    writer = may("OBJECT_CREATE", "OBJECT_INSPECT")
    with pytest.raises(AuditLogUnreachableError) as error:
        writer.put(1, b"{}", ENTRY)
    assert error.value.where["code"] == "BucketNotFound"
    w.console.create_bucket(w.name)
    assert writer.put(1, b"{}", ENTRY)
    assert not writer.put(1, b"{}", ENTRY)
    assert (writer.look(1), list(writer.numbers())) == (ENTRY, [1])
    with pytest.raises(AuditLogUnreachableError) as error:
        writer.read(1)
    assert error.value.where["code"] == "BucketNotFound"
    reader = may("OBJECT_READ")
    assert reader.read(1) == b"{}"
    with pytest.raises(AuditLogAccessDeniedError) as denied:
        list(reader.history())
    assert denied.value.where["code"] == "BucketNotFound"
    assert [version.seq for version in may("OBJECT_INSPECT").history()] == [1]
    deleted = w.sandbox.new_api_key("deleted")
    w.sandbox.identity.delete_api_key(deleted)
    with pytest.raises(AuditLogAccessDeniedError):
        list(w.log(deleted).numbers())


def test_an_archived_entry_is_in_the_history_and_must_be_restored_before_it_is_read() -> None:
    with OciSandbox() as sandbox:
        console = OciConsole(sandbox)
        console.create_bucket("archive", tier="Archive")
        log = object_storage_log(
            sandbox_clients(sandbox), sandbox.namespace, "archive", "multi-cloud/app_user"
        )
        log.put(1, b'{"entry":1}', ENTRY)
        (version,) = log.history()
        assert (version.seq, version.size, version.is_latest) == (1, 11, True)
        assert timedelta() <= sandbox.clock.now() - version.at < timedelta(minutes=1)
        assert log.look(1) == ENTRY
        with pytest.raises(AuditLogUnreachableError) as error:
            log.read(1)
        assert error.value.where == {"stream": "oci", "path": "000000000001.json", "code": "NotRestored"}
        details = oci.object_storage.models.RestoreObjectsDetails(object_name=OBJECT)
        console.storage.restore_objects(sandbox.namespace, "archive", details)
        sandbox.clock.advance(timedelta(hours=1))
        assert log.read(1) == b'{"entry":1}'


@pytest.mark.parametrize("content", [gzip.compress(b"", mtime=0), b"not gzip"], ids=["gzip", "not gzip"])
def test_what_says_that_it_is_compressed_is_foreign_and_no_outage(w: World, content: bytes) -> None:
    # (protocol E7)
    w.console.create_bucket(w.name)
    w.console.storage.put_object(w.sandbox.namespace, w.name, OBJECT, content, content_encoding="gzip")
    assert w.log().read(1) == content


def test_a_body_that_was_changed_in_transit_is_refused(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.console.create_bucket(w.name)
    clients = sandbox_clients(w.sandbox)
    log, put = w.log(clients=clients), clients.objects.put_object
    monkeypatch.setattr(
        clients.objects, "put_object", lambda n, b, name, body, **more: put(n, b, name, body + b" ", **more)
    )
    with pytest.raises(AuditLogAccessDeniedError):
        log.put(1, b"{}", ENTRY)
    assert list(log.numbers()) == []


def test_under_a_retention_rule_the_name_of_an_entry_is_taken(w: World) -> None:
    create_audit_bucket(w.sandbox, w.name, retention_days=400)
    log = w.log()
    assert log.put(1, b"{}", ENTRY)
    assert not log.put(1, b"{}", ENTRY)
    # Nobody says which of its two refusals OCI gives a conditional write.
    with w.sandbox.faults.refuse("put_object", status=403, code="RetentionRuleViolation"):
        assert not log.put(1, b"{}", ENTRY)


# The signing key

KEY, NEW_KEY = "a key which is long enough to be one", "a new key, which is long enough to be one, too"


def test_an_older_version_and_a_retired_secret_still_verify(w: World) -> None:
    secret_id = w.console.create_secret("lockstep.mac", KEY)
    old = VaultSigner(w.vault, "lockstep/mac")
    mac = old.sign(b"digest")
    w.console.edit(secret_id, NEW_KEY)
    new = VaultSigner(w.vault, "lockstep/mac")
    assert (mac.key_id, new.sign(b"digest").key_id) == ("lockstep.mac:1", "lockstep.mac:2")
    assert old.sign(b"digest") == mac
    assert new.verify(b"digest", mac)
    assert new.rank("lockstep.mac:1") < new.rank("lockstep.mac:2")
    for another in ("another:1", "lockstep.mac:one", "lockstep.mac", "lockstep.mac:9", "lockstep.mac:2"):
        assert not new.verify(b"digest", Mac(key_id=another, value=mac.value))

    w.console.create_secret("lockstep.next", NEW_KEY)
    next_one = VaultSigner(sandbox_vault(w.sandbox), "lockstep/next", retired=["lockstep/mac"])
    assert next_one.verify(b"digest", mac)
    assert next_one.rank(mac.key_id) < next_one.rank(next_one.sign(b"digest").key_id)
    assert not VaultSigner(w.vault, "lockstep/next").verify(b"digest", mac)


def test_a_key_too_short_missing_or_a_placeholder_makes_no_mac(w: World) -> None:
    """Anybody who may write an object can name the version of the placeholder."""
    secret_id = w.console.create_secret("lockstep.short", "31 bytes is one too few for it.")
    for missing in ("lockstep.short", "lockstep.missing"):
        with pytest.raises(AuditLogAccessDeniedError):
            VaultSigner(w.vault, missing).sign(b"digest")
    w.console.edit(secret_id, KEY)
    signer = VaultSigner(w.vault, "lockstep.short")
    forged = hmac.digest(b"31 bytes is one too few for it.", b"digest", "sha256")
    assert not signer.verify(b"digest", Mac(key_id="lockstep.short:1", value=forged))
    assert signer.verify(b"digest", signer.sign(b"digest"))


def test_a_key_is_read_once_and_never_logged_and_an_outage_is_retryable(
    w: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    w.console.create_secret("lockstep.once", KEY)
    signer = VaultSigner(w.vault, "lockstep.once")
    with w.sandbox.faults.outage("secrets"), pytest.raises(AuditLogUnreachableError):
        signer.prepare()
    w.sandbox.calls.clear()
    signer.prepare()
    with w.sandbox.faults.outage("secrets"):
        assert signer.sign(b"digest").key_id == "lockstep.once:1"
    for _ in range(3):
        signer.verify(b"digest", signer.sign(b"digest"))
    # The key that signs, and the key that an entry names.
    assert w.sandbox.calls.count("get_secret_bundle") == 2
    for told in (caplog.text, repr(signer)):
        assert KEY not in told
        assert base64.b64encode(KEY.encode()).decode() not in told


# The key of digests

DIGEST = hashlib.sha256(b"text").digest()


def verifies(public_key: str, signature: bytes) -> bool:
    try:
        rsa_key(public_key).verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def test_a_digest_is_signed_with_its_permissions_by_the_version_told(w: World) -> None:
    key, other = (create_signing_key(w.sandbox, name=name) for name in ("lockstep-digests", "other"))
    config = w.sandbox.new_api_key("digest", "KEY_SIGN", "KEY_READ", resource=key.ocid)

    def opened(ocid: str = key.ocid) -> VaultDigestKey:
        return VaultDigestKey(sandbox_clients(w.sandbox, config), f"{ocid}@{w.sandbox.endpoint}")

    told, silent = opened(), opened()
    first = told.public_key()
    assert verifies(first, told.sign(DIGEST))
    assert not verifies(first, told.sign(hashlib.sha256(b"another").digest()))
    for call in (opened(other.ocid).public_key, lambda: opened(other.ocid).sign(DIGEST)):
        with pytest.raises(AuditLogAccessDeniedError):
            call()
    w.sandbox.calls.clear()
    w.sandbox.client(oci.key_management.KmsManagementClient).create_key_version(key.ocid)
    assert (told.public_key(), verifies(first, told.sign(DIGEST))) == (first, True)
    second = opened().public_key()
    assert second != first
    assert verifies(second, silent.sign(DIGEST))
    assert w.sandbox.calls.count("get_key_version") == 1


def test_a_key_that_cannot_sign_is_an_error_of_the_audit_log(w: World) -> None:
    key = create_signing_key(w.sandbox, name="lockstep-digests-2")
    own = VaultDigestKey(sandbox_clients(w.sandbox), f"{key.ocid}@{w.sandbox.endpoint}")
    with w.sandbox.faults.outage("kms"), pytest.raises(AuditLogUnreachableError):
        own.sign(DIGEST)
    key.state = "DISABLED"
    with pytest.raises(AuditLogUnreachableError) as error:
        own.sign(DIGEST)
    assert error.value.where == {"action": "Sign", "code": "IncorrectState"}
    encrypts = VaultDigestKey(sandbox_clients(w.sandbox), f"{w.sandbox.key_id}@{w.sandbox.endpoint}")
    with pytest.raises(AuditLogAccessDeniedError) as denied:
        encrypts.public_key()
    assert denied.value.where == {"action": "GetKeyVersion", "code": "no-public-key"}
