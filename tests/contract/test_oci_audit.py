"""Behaviour that only the OCI audit log and its key have: permissions, archived objects, older keys."""

import base64
import hmac
import logging
from collections.abc import Iterator
from datetime import timedelta

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from lockstep.oci.object_storage import ObjectStorageAuditLog
from lockstep.oci.vault import VaultSigner
from lockstep.protocol.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
from lockstep.protocol.ports import Mac
from sandbox.oci import OciSandbox
from tests.contract.oci_fixtures import BUCKET, OciConsole, sandbox_clients, sandbox_vault

ENTRY = {"chain": "{}", "mac": "{}"}


@pytest.fixture
def sandbox() -> Iterator[OciSandbox]:
    with OciSandbox() as running:
        yield running


@pytest.fixture
def console(sandbox: OciSandbox) -> OciConsole:
    return OciConsole(sandbox)


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


def test_an_object_without_metadata_is_looked_at(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET)
    console.storage.put_object(sandbox.namespace, BUCKET, "oci/multi-cloud.app_user/000000000001.json", b"{}")
    assert audit_log(sandbox).look(1) == {}


def test_a_missing_bucket_and_a_refused_key_are_errors(sandbox: OciSandbox) -> None:
    with pytest.raises(AuditLogUnreachableError) as error:
        list(audit_log(sandbox).numbers())
    assert error.value.where["code"] == "BucketNotFound"
    deleted = sandbox.new_api_key("lockstep")
    sandbox.identity.delete_api_key(deleted)
    with pytest.raises(AuditLogAccessDeniedError):
        list(audit_log(sandbox, deleted).numbers())


def test_the_last_seq_is_found_across_pages(sandbox: OciSandbox, console: OciConsole) -> None:
    console.create_bucket(BUCKET)
    log = audit_log(sandbox, page_size=3)
    for seq in range(1, 9):
        log.put(seq, b"{}", ENTRY)
    console.storage.put_object(sandbox.namespace, BUCKET, "oci/multi-cloud.app_user2/000000000099.json", b"")
    console.storage.put_object(sandbox.namespace, BUCKET, "oci/multi-cloud.app_user/notes.txt", b"")
    assert list(log.numbers()) == [*range(1, 9)]


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


def test_a_key_is_read_once_and_never_logged(
    sandbox: OciSandbox, console: OciConsole, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "a key which is long enough to be one"
    console.create_secret("lockstep.mac", key)
    signer = VaultSigner(sandbox_vault(sandbox), "lockstep.mac")
    for _ in range(3):
        signer.verify(b"digest", signer.sign(b"digest"))
        assert signer.fingerprint_key().key_id == "lockstep.mac:1"
    assert (
        sandbox.calls.count("get_secret_bundle") == 2
    )  # The key that signs, and the key that an entry names.
    assert key not in caplog.text
    assert base64.b64encode(key.encode()).decode() not in caplog.text
    assert key not in repr(signer)
