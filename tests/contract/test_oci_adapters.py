"""Behaviour that only the OCI clients have: the errors for their failures, and the identities that they use."""

import base64
import gzip
import hashlib
import hmac
import json
import logging
from collections.abc import Iterator
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
from lockstep.protocol import errors
from lockstep.protocol.deadlines import CloudTimeouts
from lockstep.protocol.federation import rsa_key
from lockstep.protocol.ports import EntryLog, Mac
from lockstep.runtime.identity import aws_access_key, oci_api_key
from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.wire import Reply
from sandbox.oci_resources import create_audit_bucket, create_signing_key
from tests.contract.clouds import OciConsole, sandbox_clients, sandbox_vault
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

    def log(self, config: dict[str, str] | None = None) -> EntryLog:
        """The audit log in a bucket of that name."""
        clients = sandbox_clients(self.sandbox, config)
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
        (400, "InvalidParameter", errors.StoreRejectedError),
        (400, "LimitExceeded", errors.StoreQuotaExceededError),
        (401, "NotAuthenticated", errors.StoreAccessDeniedError),
        (403, "NotAuthorized", errors.StoreAccessDeniedError),
        (404, "NotAuthorizedOrNotFound", errors.StoreAccessDeniedError),  # The list shows the secret.
        (409, "IncorrectState", errors.StoreBusyError),
        (409, "Conflict", errors.StoreBusyError),
        (412, "NoEtagMatch", errors.LostCompareAndSetError),
        (429, "TooManyRequests", errors.StoreThrottledError),
        (503, "ServiceUnavailable", errors.StoreUnreachableError),
        (501, "NotImplemented", errors.StoreRejectedError),
    ],
)
def test_a_refusal_keeps_its_code_and_loses_its_text(
    w: World, status: int, code: str, expected: type[errors.LockstepError]
) -> None:
    vault = sandbox_vault(w.sandbox)
    with w.sandbox.faults.refuse("get_secret", status=status, code=code), pytest.raises(expected) as error:
        vault.state(w.name, w.secret_id)
    assert error.value.where == {"store": "oci", "secret": w.name, "code": code}
    assert error.value.__suppress_context__
    assert "armed fault" not in f"{error.value.__cause__} {error.value}"


def test_each_call_is_made_once_and_no_breaker_opens(w: World) -> None:
    with w.sandbox.faults.refuse("get_secret", status=500, code="InternalServerError", times=None):
        for _ in range(15):
            with pytest.raises(errors.StoreUnreachableError):
                w.vault.state(w.name, w.secret_id)
    assert w.sandbox.calls.count("get_secret") == 15
    assert w.vault.state(w.name, w.secret_id).current_number == 1


def test_a_lost_call_and_silence_are_outages(w: World) -> None:
    hasty = sandbox_vault(w.sandbox, sandbox_clients(w.sandbox, timeouts=CloudTimeouts(read_seconds=0.2)))
    for fault in (w.sandbox.faults.drop_request, w.sandbox.faults.drop_reply, w.sandbox.faults.hang):
        with fault("get_secret"), pytest.raises(errors.StoreUnreachableError) as error:
            hasty.state(w.name, w.secret_id)
    assert error.value.where["code"] == "ReadTimeout"


def test_an_untrusted_certificate_is_rejected_and_not_an_outage() -> None:
    wrong = oci.exceptions.RequestException(oci._vendor.requests.exceptions.SSLError("wrong host"))
    assert diagnose(wrong) == (errors.ErrorKind.REJECTED, "SSLError")


def test_a_reply_that_is_not_from_oci_or_is_cut_is_an_outage(w: World) -> None:
    for body in (b"<html>a proxy's page</html>", b"{}", b"\xff"):
        reply = Reply(200, {"content-type": "application/json"}, body)
        with (
            w.sandbox.faults.replace("get_secret_bundle", reply=reply),
            pytest.raises(errors.StoreUnreachableError),
        ):
            w.vault.read(w.name, w.secret_id)
    # The beginning of a document alone would be refused for good.
    w.console.create_bucket(w.name)
    w.log().put(1, b"{}" * 1000, ENTRY)
    with w.sandbox.faults.cut("get_object"), pytest.raises(errors.AuditLogUnreachableError):
        w.log().read(1)


def test_a_binary_secret_is_malformed(w: World) -> None:
    content = oci.vault.models.Base64SecretContentDetails(content=base64.b64encode(b"\xff\xfe").decode())
    w.console.vaults.update_secret(w.secret_id, oci.vault.models.UpdateSecretDetails(secret_content=content))
    with pytest.raises(errors.SecretMalformedError):
        w.vault.text(w.name, w.vault.read_named(w.name))


# Identities


def test_a_key_that_was_replaced_is_read_again_and_one_that_never_worked_is_denied(w: World) -> None:
    may = ("SECRET_INSPECT", "SECRET_READ", "SECRET_BUNDLE_READ")
    old, new = w.sandbox.new_api_key("lockstep", *may), w.sandbox.new_api_key("lockstep")
    given = [old, old, new]
    clients = OciClients(
        lambda: OciIdentity(config=given.pop(0)), "eu-frankfurt-1", endpoint=w.sandbox.endpoint
    )
    vault = sandbox_vault(w.sandbox, clients)
    vault.read_named(w.name)
    w.sandbox.identity.delete_api_key(old)
    with pytest.raises(errors.StoreUnreachableError) as error:  # Retryable.
        vault.read_named(w.name)
    assert error.value.where["code"] == "NotAuthenticated"
    with pytest.raises(errors.StoreAccessDeniedError):  # No retry of the same run helps.
        vault.read_named(w.name)
    assert vault.text(w.name, vault.read_named(w.name)) == "text"
    assert given == []


def test_an_api_key_is_read_from_the_fields_of_an_oci_config(w: World) -> None:
    config = w.sandbox.config()
    text = json.dumps({**config, "private_key": config["key_content"]})
    identity = oci_api_key(text, store="aws", secret="lockstep/oci-key")
    assert identity.config == config
    assert config["key_content"] not in repr(identity)
    for read in (oci_api_key, aws_access_key):  # Whether it is quoted is in tests/fuzz/test_inputs.py.
        with pytest.raises(errors.StoreAccessDeniedError) as error:
            read('{"tenancy": "hunter2"}', store="aws", secret="lockstep/key")
        assert error.value.where == {"store": "aws", "secret": "lockstep/key", "code": "not-a-key"}


# The audit log

ENTRY = {"chain": "{}", "mac": "{}"}
OBJECT = "oci/multi-cloud.app_user/000000000001.json"


def test_who_writes_and_who_reads_may_no_more(w: World) -> None:
    """With BucketNotFound OCI answers a missing permission, and that a bucket is not there."""

    def may(*permissions: str) -> EntryLog:
        key = w.sandbox.new_api_key(f"person-{next(NUMBERS)}", *permissions, resource=w.name)
        return w.log(key)

    writer = may("OBJECT_CREATE", "OBJECT_INSPECT")
    with pytest.raises(errors.AuditLogUnreachableError) as error:
        writer.put(1, b"{}", ENTRY)
    assert error.value.where["code"] == "BucketNotFound"
    w.console.create_bucket(w.name)
    assert writer.put(1, b"{}", ENTRY)
    assert not writer.put(1, b"{}", ENTRY)
    assert (writer.look(1), list(writer.numbers())) == (ENTRY, [1])
    with pytest.raises(errors.AuditLogUnreachableError) as error:
        writer.read(1)
    assert error.value.where["code"] == "BucketNotFound"
    reader = may("OBJECT_READ")
    assert reader.read(1) == b"{}"
    with pytest.raises(errors.AuditLogAccessDeniedError) as denied:
        list(reader.history())
    assert denied.value.where["code"] == "BucketNotFound"
    assert [version.seq for version in may("OBJECT_INSPECT").history()] == [1]
    deleted = w.sandbox.new_api_key("deleted")
    w.sandbox.identity.delete_api_key(deleted)
    with pytest.raises(errors.AuditLogAccessDeniedError):
        list(w.log(deleted).numbers())


def test_an_archived_entry_is_in_the_history_and_must_be_restored_before_it_is_read(w: World) -> None:
    w.console.create_bucket(w.name, tier="Archive")
    log = w.log()
    log.put(1, b'{"entry":1}', ENTRY)
    (version,) = log.history()
    assert (version.seq, version.size, version.is_latest) == (1, 11, True)
    assert timedelta() <= w.sandbox.clock.now() - version.at < timedelta(minutes=1)
    assert log.look(1) == ENTRY
    with pytest.raises(errors.AuditLogUnreachableError) as error:
        log.read(1)
    assert error.value.where == {"stream": "oci", "path": "000000000001.json", "code": "NotRestored"}


@pytest.mark.parametrize("content", [gzip.compress(b"", mtime=0), b"not gzip"], ids=["gzip", "not gzip"])
def test_what_says_that_it_is_compressed_is_foreign_and_no_outage(w: World, content: bytes) -> None:
    # (protocol E7)
    w.console.create_bucket(w.name)
    w.console.storage.put_object(w.sandbox.namespace, w.name, OBJECT, content, content_encoding="gzip")
    assert w.log().read(1) == content


def test_a_body_that_was_changed_in_transit_is_refused(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    w.console.create_bucket(w.name)
    log = w.log()
    monkeypatch.setattr("lockstep.oci.object_storage._md5", lambda _: base64.b64encode(b"x" * 16).decode())
    with pytest.raises(errors.AuditLogAccessDeniedError):
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
    for another in ("lockstep.mac:one", "lockstep.mac", "lockstep.mac:2"):
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
        with pytest.raises(errors.AuditLogAccessDeniedError):
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
    with w.sandbox.faults.outage("secrets"), pytest.raises(errors.AuditLogUnreachableError):
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


def verify(public_key: str, signature: bytes) -> None:
    rsa_key(public_key).verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())


def test_a_digest_is_signed_with_its_permissions_by_the_version_told(w: World) -> None:
    key, other = (create_signing_key(w.sandbox, name=name) for name in ("lockstep-digests", "other"))
    config = w.sandbox.new_api_key("digest", "KEY_SIGN", "KEY_READ", resource=key.ocid)

    def opened(ocid: str = key.ocid) -> VaultDigestKey:
        return VaultDigestKey(sandbox_clients(w.sandbox, config), f"{ocid}@{w.sandbox.endpoint}")

    told, silent = opened(), opened()
    first = told.public_key()
    verify(first, told.sign(DIGEST))
    with pytest.raises(InvalidSignature):
        verify(first, told.sign(hashlib.sha256(b"another").digest()))
    for call in (opened(other.ocid).public_key, lambda: opened(other.ocid).sign(DIGEST)):
        with pytest.raises(errors.AuditLogAccessDeniedError):
            call()
    w.sandbox.calls.clear()
    w.sandbox.client(oci.key_management.KmsManagementClient).create_key_version(key.ocid)
    assert told.public_key() == first
    verify(first, told.sign(DIGEST))
    second = opened().public_key()
    assert second != first
    verify(second, silent.sign(DIGEST))
    assert w.sandbox.calls.count("get_key_version") == 1


def test_a_key_that_cannot_sign_is_an_error_of_the_audit_log(w: World) -> None:
    key = create_signing_key(w.sandbox, name="lockstep-digests-2")
    own = VaultDigestKey(sandbox_clients(w.sandbox), f"{key.ocid}@{w.sandbox.endpoint}")
    with w.sandbox.faults.outage("kms"), pytest.raises(errors.AuditLogUnreachableError):
        own.sign(DIGEST)
    key.state = "DISABLED"
    with pytest.raises(errors.AuditLogUnreachableError) as error:
        own.sign(DIGEST)
    assert error.value.where == {"action": "Sign", "code": "IncorrectState"}
    encrypts = VaultDigestKey(sandbox_clients(w.sandbox), f"{w.sandbox.key_id}@{w.sandbox.endpoint}")
    with pytest.raises(errors.AuditLogAccessDeniedError) as denied:
        encrypts.public_key()
    assert denied.value.where == {"action": "GetKeyVersion", "code": "no-public-key"}
