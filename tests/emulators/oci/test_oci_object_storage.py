"""Objects: conditions, versions, archive, retention; and those that anyone may read."""

import contextlib
from datetime import timedelta

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest
import urllib3

from sandbox.emulators.oci.names import FetchError
from sandbox.oci_resources import create_issuer_bucket
from tests.emulators.oci.oci_case import OciCase, Untyped, refused


@pytest.fixture
def standard(case: OciCase) -> OciCase:
    case.create_bucket(versioning="Enabled")
    return case


def get(case: OciCase, name: str, **options: str) -> Untyped:
    return case.storage.get_object(case.sandbox.namespace, "audit", name, **options)


def head(case: OciCase, name: str, **options: str) -> Untyped:
    return case.storage.head_object(case.sandbox.namespace, "audit", name, **options)


def test_a_write_may_have_a_condition(standard: OciCase) -> None:
    with refused(400, "IfNoneMatchDisallowed"):
        standard.put("name", if_none_match="etag")
    with refused(412, "IfMatchFailed"):
        standard.put("name", if_match="etag")
    seen = standard.put("name", b"first", if_none_match="*").headers["etag"]
    with refused(412, "IfNoneMatchFailed"):
        standard.put("name", if_none_match="*")
    standard.put("name", b"second", if_match=seen)
    with refused(412, "IfMatchFailed"):
        standard.put("name", b"third", if_match=seen)
    assert get(standard, "name").data.content == b"second"


def test_objects_by_prefix_and_range_in_pages(standard: OciCase) -> None:
    for name in ("oci/2", "aws/2", "aws/1", "aws/3"):
        standard.put(name)

    def listed(**options: str | int) -> Untyped:
        return standard.storage.list_objects(standard.sandbox.namespace, "audit", **options).data

    assert [item.name for item in listed().objects] == ["aws/1", "aws/2", "aws/3", "oci/2"]
    assert [item.name for item in listed(prefix="aws/", start="aws/2").objects] == ["aws/2", "aws/3"]
    page = listed(prefix="aws/", limit=2)
    assert (len(page.objects), page.next_start_with) == (2, "aws/3")
    for option in ("end", "start_after"):
        with refused(501, "NotImplemented"):
            listed(**{option: "aws/2"})


def test_a_version_can_be_destroyed(standard: OciCase) -> None:
    first = standard.put("name", b"first").headers["version-id"]
    namespace = standard.sandbox.namespace
    eraser = standard.clients(standard.sandbox.new_api_key("eraser", "OBJECT_DELETE"))[2]
    with refused(404, "BucketNotFound"):
        eraser.delete_object(namespace, "audit", "name", version_id=first)
    standard.sandbox.identity.permit("eraser", "OBJECT_VERSION_DELETE")
    eraser.delete_object(namespace, "audit", "name", version_id=first)
    assert standard.storage.list_object_versions(namespace, "audit").data.items == []


def test_an_archived_object_is_read_an_hour_after_it_was_asked_for_and_for_a_day(case: OciCase) -> None:
    case.create_bucket(storage_tier="Archive", versioning="Enabled")
    case.put("name", b"body")
    details = oci.object_storage.models.RestoreObjectsDetails(object_name="name")
    for passed, state, code in (
        (timedelta(), "Restoring", "RestoreInProgress"),
        (timedelta(minutes=59), "Restoring", "RestoreInProgress"),
        (timedelta(minutes=1), "Restored", "AlreadyRestored"),
        (timedelta(hours=24), "Archived", None),
    ):
        case.sandbox.clock.advance(passed)
        with refused(409, code) if passed and code else contextlib.nullcontext():
            case.storage.restore_objects(case.sandbox.namespace, "audit", details)
        if state != "Archived":
            assert head(case, "name").headers["archival-state"] == state
        with refused(409, "NotRestored") if state != "Restored" else contextlib.nullcontext():
            assert get(case, "name").data.content == b"body"


def rule(case: OciCase) -> None:
    duration = oci.object_storage.models.Duration(time_amount=1, time_unit="DAYS")
    asked = oci.object_storage.models.CreateRetentionRuleDetails(duration=duration)
    case.storage.create_retention_rule(case.sandbox.namespace, "audit", asked)


def test_nobody_deletes_or_replaces_an_object_that_is_younger_than_a_rule_says(case: OciCase) -> None:
    case.create_bucket()
    rule(case)
    case.put("name", b"1")
    with refused(403, "RetentionRuleViolation"):
        case.put("name", b"2")
    with refused(403, "RetentionRuleViolation"):
        case.storage.delete_object(case.sandbox.namespace, "audit", "name")
    case.sandbox.clock.advance(timedelta(days=1))
    case.put("name", b"2")
    for permission in ("BUCKET_UPDATE", "RETENTION_RULE_MANAGE"):
        case.storage = case.clients(case.sandbox.new_api_key(permission, permission))[2]
        with refused(404, "BucketNotFound"):
            rule(case)


def test_a_bucket_has_versions_or_a_rule(standard: OciCase) -> None:
    with refused(409, "InvalidBucketState"):
        rule(standard)


# ---- objects that anyone may read: at the sandbox's endpoint, and at the service's own name over HTTPS

DOCUMENT = b'{"keys": []}'


def send(case: OciCase, path: str, method: str = "GET") -> tuple[int, bytes]:
    url = f"{case.sandbox.endpoint}/n/{case.sandbox.namespace}/b/{path}"
    reply = urllib3.request(method, url, timeout=10.0, retries=False)
    return reply.status, reply.data


def test_anyone_reads_and_nobody_lists_or_writes(case: OciCase) -> None:
    issuer = create_issuer_bucket(case.sandbox, "issuer")
    case.create_bucket("private")
    for bucket in ("issuer", "private"):
        case.put("jwks.json", DOCUMENT, bucket=bucket, content_type="application/json")
    # A private bucket looks like a missing one.
    for bucket in ("private", "none"):
        status, body = send(case, f"{bucket}/o/jwks.json")
        assert (status, b"BucketNotFound" in body, DOCUMENT in body) == (404, True, False)
    with pytest.raises(FetchError, match="status 404"):
        case.sandbox.names.fetch(issuer.replace("/b/issuer/", "/b/private/") + "/jwks.json")
    assert send(case, "issuer/o")[0] == 404
    for method in ("PUT", "DELETE"):
        assert send(case, "issuer/o/jwks.json", method)[0] == 401
    config = case.sandbox.new_api_key("stranger")
    _, _, storage = case.clients(config)
    assert storage.get_object(case.sandbox.namespace, "issuer", "jwks.json").data.content == DOCUMENT
    with refused(404, "BucketNotFound"):
        storage.put_object(case.sandbox.namespace, "issuer", "jwks.json", b"{}")
    # A wrong signature is refused even where none is needed.
    case.sandbox.identity.delete_api_key(config)
    with refused(401, "NotAuthenticated"):
        case.clients(config)[2].get_object(case.sandbox.namespace, "issuer", "jwks.json")
    case.sandbox.storage.set_public_access("issuer", "ObjectRead")
    status, body = send(case, "issuer/o")
    assert (status, b"jwks.json" in body) == (200, True)
