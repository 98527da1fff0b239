"""Vault, keys, Object Storage and functions in the sandbox refuse what OCI refuses."""

import base64
import hashlib
import threading
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
import urllib3

from sandbox.emulators.oci import OciSandbox
from sandbox.emulators.oci.deployment import MAX_BODY_BYTES
from sandbox.emulators.oci.names import FetchError
from sandbox.oci_resources import create_issuer_bucket, create_signing_key
from tests.emulators.oci.conftest import (
    INVALID,
    NO_BUCKET,
    NOT_AUTHENTICATED,
    NOT_FOUND,
    START,
    OciCase,
    Untyped,
    content_of,
    models,
    refusal,
)

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
SECONDS = 60
"""How long a test waits for another thread at most."""

# Vault


@pytest.fixture(name="secret")
def _secret(case: OciCase) -> str:
    """A secret whose versions are: 1 and 2 deprecated, 3 previous, 4 current, 5 pending."""
    secret = case.create("ring.0")
    for name, stage in (("g2", "CURRENT"), ("g3", "CURRENT"), ("g4", "CURRENT"), ("g5", "PENDING")):
        case.upload(secret, name, stage)
    return secret


def test_what_is_wrong_with_a_secret_is_refused_and_changes_nothing(case: OciCase) -> None:
    secret = case.create("taken")
    case.vaults.schedule_secret_deletion(case.create("deleted"), models.ScheduleSecretDeletionDetails())
    for name in ("multi-cloud/app_user", "taken", "deleted"):
        assert refusal(case.create, name) == INVALID
    assert refusal(case.create, key_id=None) == (400, "MissingParameter")
    for content in (content_of("g1", "PENDING"), content_of("a/b")):
        assert refusal(case.create, secret_content=content) == INVALID
    # The current version, none, a promotion with content, a name of content that is taken.
    wrong: list[dict[str, Any]] = [
        {"current_version_number": 1},
        {"current_version_number": 7},
        {"secret_content": content_of("g2"), "current_version_number": 1},
        {"secret_content": content_of("g1", "PENDING")},
    ]
    for details in wrong:
        assert refusal(case.update, secret, **details) == INVALID
    assert case.stages(secret) == {1: ["CURRENT", "LATEST"]}


def test_only_deprecated_versions_are_deleted_1_to_30_days_ahead(case: OciCase, secret: str) -> None:
    wrong = [
        *((number, START + DAY) for number in (3, 4, 5, 9)),
        *((1, at) for at in (START + DAY - SECOND, START + 30 * DAY + SECOND)),
    ]
    for number, at in wrong:
        assert refusal(case.schedule, secret, number, at) == INVALID
    rotator = case.by("rotator", "SECRET_VERSION_DELETE", resource=secret)
    assert refusal(rotator.schedule, secret, 1, None) == NOT_FOUND
    case.sandbox.identity.permit("rotator", "SECRET_UPDATE", resource=secret)
    assert rotator.schedule(secret, 1, None).status == 200


@pytest.mark.parametrize(
    ("asked", "days", "late"), [(None, 30, timedelta()), (START + DAY, 1, timedelta(hours=12))]
)
def test_a_version_is_deleted_at_its_time_or_late_and_then_its_name_is_free(
    case: OciCase, secret: str, asked: datetime | None, days: int, late: timedelta
) -> None:
    case.sandbox.vault.behaviour.purge_lateness = late
    case.schedule(secret, 1, asked)
    for number in (1, 9):
        assert refusal(case.secrets.get_secret_bundle, secret, version_number=number) == NOT_FOUND
    case.sandbox.clock.advance(days * DAY + late - SECOND)
    assert refusal(case.upload, secret, "g1") == INVALID
    case.sandbox.clock.advance(SECOND)
    assert 1 not in case.stages(secret)
    assert case.upload(secret, "g1").data.current_version_number == 6


def test_a_secret_has_at_most_30_versions_in_use_and_30_pending_deletion(case: OciCase) -> None:
    secret = case.create()
    for number in range(2, 31):
        case.upload(secret, f"g{number}")
    assert refusal(case.upload, secret, "g31") == (400, "LimitExceeded")
    for number in range(1, 29):
        case.schedule(secret, number, None)
    for number in range(31, 36):
        case.upload(secret, f"g{number}")
    for number in (29, 30):
        case.schedule(secret, number, None)
    assert refusal(case.schedule, secret, 31, None) == (400, "LimitExceeded")


def test_versions_come_in_pages_newest_first_without_their_content(case: OciCase, secret: str) -> None:
    case.sandbox.vault.behaviour.page_size = 3
    first = case.vaults.list_secret_versions(secret)
    assert ([version.version_number for version in first.data], first.has_next_page) == ([5, 4, 3], True)
    assert list(case.stages(secret)) == [5, 4, 3, 2, 1]
    shown = f"{first.data} {case.vaults.get_secret(secret).data} {case.sandbox.vault} {case.sandbox.calls.records}"
    assert content_of("g4").content not in shown


def test_a_hanging_call_never_takes_effect(case: OciCase) -> None:
    secret = case.create()
    impatient = case.sandbox.client(oci.vault.VaultsClient, timeout_seconds=1)
    with case.sandbox.faults.hang("update_secret") as fault:
        with pytest.raises(oci.exceptions.RequestException):
            impatient.update_secret(secret, models.UpdateSecretDetails(description="late"))
        # A busy server may take the call up when its client has left.
        assert fault.struck.wait(SECONDS)
    assert case.vaults.get_secret(secret).data.description is None


# Keys

DIGEST = hashlib.sha256(b"header.claims").digest()
UNSIGNED: list[tuple[dict[str, Any], tuple[int, str]]] = [
    *(({"message": message}, INVALID) for message in (b"", DIGEST[:-1], DIGEST + b"x")),
    ({"signing_algorithm": "ECDSA_SHA_256"}, INVALID),
    ({"signing_algorithm": "SHA_256_RSA_PKCS_PSS"}, (501, "NotImplemented")),
    ({"key_version_id": "ocid1.keyversion.oc1..other"}, NOT_FOUND),
]


PERMISSIONS = {
    "get_key": "KEY_READ",
    "list_key_versions": "KEY_INSPECT",
    "get_key_version": "KEY_READ",
    "create_key_version": "KEY_ROTATE",
    "sign": "KEY_SIGN",
}


def test_a_key_signs_digests_and_each_call_needs_its_permission_on_it(sandbox: OciSandbox) -> None:
    key = create_signing_key(sandbox)

    def sign(config: dict[str, str] | None = None, message: bytes = DIGEST, **changes: str) -> Untyped:
        fields = {"message_type": "DIGEST", "signing_algorithm": "SHA_256_RSA_PKCS1_V1_5", **changes}
        text = base64.b64encode(message).decode()
        details = oci.key_management.models.SignDataDetails(key_id=key.ocid, message=text, **fields)
        return sandbox.client(oci.key_management.KmsCryptoClient, config).sign(details)

    def call(name: str, config: dict[str, str] | None = None) -> Untyped:
        if name == "sign":
            return sign(config)
        more = (key.current.ocid,) if name == "get_key_version" else ()
        return getattr(sandbox.client(oci.key_management.KmsManagementClient, config), name)(key.ocid, *more)

    call("create_key_version")
    assert [refusal(sign, **changes) for changes, _ in UNSIGNED] == [expected for _, expected in UNSIGNED]
    for name, permission in PERMISSIONS.items():
        config = sandbox.new_api_key(name, *({*PERMISSIONS.values()} - {permission}), resource=key.ocid)
        sandbox.identity.permit(name, permission, resource="ocid1.key.oc1..other")
        assert refusal(call, name, config) == NOT_FOUND, name
        sandbox.identity.permit(name, permission, resource=key.ocid)
        assert call(name, config).data


# Object Storage


def test_a_write_may_have_a_condition_and_a_list_has_pages(case: OciCase) -> None:
    case.create_bucket(versioning="Enabled")
    unmet = (412, "IfMatchFailed")
    assert refusal(case.put, "name", if_none_match="etag") == (400, "IfNoneMatchDisallowed")
    assert refusal(case.put, "name", if_match="etag") == unmet
    seen = case.put("name", b"first", if_none_match="*").headers["etag"]
    assert refusal(case.put, "name", if_none_match="*") == (412, "IfNoneMatchFailed")
    case.put("name", b"second", if_match=seen)
    assert refusal(case.put, "name", b"third", if_match=seen) == unmet
    assert case.get("name") == b"second"
    for name in ("name/2", "name/3"):
        case.put(name)
    page = case.storage.list_objects(case.sandbox.namespace, "audit", start="name/", limit=1).data
    assert ([item.name for item in page.objects], page.next_start_with) == (["name/2"], "name/3")


def test_an_archived_object_is_read_an_hour_after_it_was_asked_for_and_for_a_day(case: OciCase) -> None:
    case.create_bucket(storage_tier="Archive", versioning="Enabled")
    case.put("name", b"body")
    details = oci.object_storage.models.RestoreObjectsDetails(object_name="name")
    restore = partial(case.storage.restore_objects, case.sandbox.namespace, "audit", details)
    assert refusal(case.get, "name") == (409, "NotRestored")
    restore()
    for minutes, again in ((59, "RestoreInProgress"), (1, "AlreadyRestored")):
        assert refusal(case.get, "name") == (409, "NotRestored")
        case.sandbox.clock.advance(timedelta(minutes=minutes))
        assert refusal(restore) == (409, again)
    assert case.get("name") == b"body"
    case.sandbox.clock.advance(timedelta(hours=24))
    assert refusal(case.get, "name") == (409, "NotRestored")


def test_objects_are_deleted_and_replaced_as_rules_and_permissions_have_it(case: OciCase) -> None:
    namespace, violated = case.sandbox.namespace, (403, "RetentionRuleViolation")
    case.create_bucket()
    case.create_bucket("versioned", versioning="Enabled")
    duration = oci.object_storage.models.Duration(time_amount=1, time_unit="DAYS")
    day = oci.object_storage.models.CreateRetentionRuleDetails(duration=duration)
    case.storage.create_retention_rule(namespace, "audit", day)
    case.put("name", b"1")
    assert refusal(case.put, "name", b"2") == violated
    assert refusal(case.storage.delete_object, namespace, "audit", "name") == violated
    case.sandbox.clock.advance(DAY)
    case.put("name", b"2")
    for permission in ("BUCKET_UPDATE", "RETENTION_RULE_MANAGE"):
        clerk = case.by(permission, permission)
        assert refusal(clerk.storage.create_retention_rule, namespace, "audit", day) == NO_BUCKET
    state = (409, "InvalidBucketState")
    assert refusal(case.storage.create_retention_rule, namespace, "versioned", day) == state
    # A version is destroyed only by who may.
    version = {"version_id": case.put("name", bucket="versioned").headers["version-id"]}
    eraser = case.by("eraser", "OBJECT_DELETE").storage
    assert refusal(eraser.delete_object, namespace, "versioned", "name", **version) == NO_BUCKET
    case.sandbox.identity.permit("eraser", "OBJECT_VERSION_DELETE")
    eraser.delete_object(namespace, "versioned", "name", **version)
    assert case.storage.list_object_versions(namespace, "versioned").data.items == []


def test_anyone_reads_and_nobody_lists_or_writes(case: OciCase) -> None:
    document, sandbox = b'{"keys": []}', case.sandbox
    issuer = create_issuer_bucket(sandbox, "issuer")
    case.create_bucket("private")
    for bucket in ("issuer", "private"):
        case.put("jwks.json", document, bucket=bucket)

    def send(path: str, method: str = "GET") -> tuple[int, bytes]:
        url = f"{sandbox.endpoint}/n/{sandbox.namespace}/b/{path}"
        reply = urllib3.request(method, url, timeout=10.0, retries=False)
        return reply.status, reply.data

    # A private bucket looks like a missing one.
    for bucket in ("private", "none"):
        status, body = send(f"{bucket}/o/jwks.json")
        assert (status, b"BucketNotFound" in body, document in body) == (404, True, False)
    with pytest.raises(FetchError, match="status 404"):
        sandbox.names.fetch(issuer.replace("/b/issuer/", "/b/private/") + "/jwks.json")
    asked = (("issuer/o", "GET"), ("issuer/o/jwks.json", "PUT"), ("issuer/o/jwks.json", "DELETE"))
    assert [send(*request)[0] for request in asked] == [404, 401, 401]
    config = sandbox.new_api_key("stranger")
    stranger = OciCase(sandbox, config)
    assert stranger.get("jwks.json", bucket="issuer") == document
    assert refusal(stranger.put, "jwks.json", bucket="issuer") == NO_BUCKET
    # A wrong signature is refused even where none is needed.
    sandbox.identity.delete_api_key(config)
    assert refusal(OciCase(sandbox, config).get, "jwks.json", bucket="issuer") == NOT_AUTHENTICATED
    sandbox.storage.set_public_access("issuer", "ObjectRead")
    assert send("issuer/o")[0] == 200


# Functions


def test_what_calls_of_functions_are_refused(sandbox: OciSandbox) -> None:
    function, called, may_end = "ocid1.fnfunc.oc1..rotate", list[bytes](), threading.Event()
    here = {"compartmentId": sandbox.own_compartment_id, "invokeEndpoint": sandbox.endpoint}
    sandbox.deployment.functions = [{"id": function, **here}]

    def run(body: bytes) -> tuple[int, bytes]:
        called.append(body)
        return 200 if may_end.wait(SECONDS) else 504, b""

    def invoke(body: bytes = b"{}", kind: str = "detached", config: dict[str, str] | None = None) -> int:
        # The SDK's own method lets no other kind through.
        reply = sandbox.client(oci.functions.FunctionsInvokeClient, config).base_client.call_api(
            resource_path="/functions/{functionId}/actions/invoke",
            method="POST",
            path_params={"functionId": function},
            header_params={"fn-invoke-type": kind, "content-type": "application/octet-stream"},
            body=body,
        )
        return int(reply.status)

    sandbox.functions.code[function] = run
    reader = sandbox.new_api_key("other", "FN_FUNCTION_READ", compartment=sandbox.own_compartment_id)
    assert refusal(invoke, kind="later") == INVALID
    assert refusal(invoke, b"x" * (MAX_BODY_BYTES + 1)) == (413, "RequestEntityTooLarge")
    assert refusal(invoke, config=reader) == NOT_FOUND
    assert called == []
    assert {invoke() for _ in range(sandbox.functions.most_waiting)} == {202}
    assert refusal(invoke) == (429, "TooManyRequests")
    may_end.set()
    sandbox.functions.finish(seconds=SECONDS)
