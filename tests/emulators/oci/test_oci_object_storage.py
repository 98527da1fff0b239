import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import oci  # type: ignore[import-untyped]  # the SDK ships no types
import pytest

from sandbox.emulators.oci import SandboxClock
from tests.emulators.oci.oci_case import START, OciCase, Untyped, refused

HOUR = timedelta(hours=1)
RestoreObjectsDetails = oci.object_storage.models.RestoreObjectsDetails


@pytest.fixture
def standard(case: OciCase) -> OciCase:
    case.create_bucket(versioning="Enabled")
    return case


def get(case: OciCase, name: str, **options: str) -> Untyped:
    return case.storage.get_object(case.sandbox.namespace, "audit", name, **options)


def head(case: OciCase, name: str, **options: str) -> Untyped:
    return case.storage.head_object(case.sandbox.namespace, "audit", name, **options)


def restore(case: OciCase, name: str, **details: int) -> Untyped:
    return case.storage.restore_objects(
        case.sandbox.namespace, "audit", RestoreObjectsDetails(object_name=name, **details)
    )


def delete(case: OciCase, name: str) -> None:
    case.storage.delete_object(case.sandbox.namespace, "audit", name)


def test_missing_namespaces_buckets_and_objects(standard: OciCase) -> None:
    with refused(404, "NamespaceNotFound"):
        standard.storage.put_object("other", "audit", "name", b"")
    with refused(404, "BucketNotFound"):
        standard.put("name", bucket="other")
    with refused(404, "ObjectNotFound"):
        get(standard, "name")
    with refused(404, None):  # the answer to a HEAD has no body to hold a code
        head(standard, "name")


def test_an_object_is_read_back_unchanged(standard: OciCase) -> None:
    reply = standard.put(
        "aws/1.json",
        b'{"event": 1}',
        content_type="application/json",
        opc_meta={"hash": "abc", "Seq": "1"},
        opc_client_request_id="mine",
    )
    assert (reply.status, reply.headers["opc-client-request-id"]) == (200, "mine")
    got, shown = get(standard, "aws/1.json"), head(standard, "aws/1.json").headers
    assert (got.data.content, got.headers["etag"]) == (b'{"event": 1}', reply.headers["etag"])
    assert (shown["opc-meta-hash"], shown["opc-meta-seq"]) == ("abc", "1")
    assert (shown["content-length"], shown["content-type"]) == ("12", "application/json")
    assert shown["last-modified"] == "Sun, 01 Mar 2026 12:00:00 GMT"
    assert shown["content-md5"] == reply.headers["opc-content-md5"]


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


def test_only_one_of_racing_writers_wins() -> None:
    # A write reads the clock between its check and its effect. There the first writer waits for another one.
    meeting, racing = threading.Barrier(2), threading.Event()

    def now() -> datetime:
        if racing.is_set():
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait(timeout=0.2)
        return START

    with OciCase(SandboxClock(now)) as case:
        case.create_bucket(versioning="Enabled")
        writers = [case.clients()[2] for _ in range(8)]

        def write(number: int) -> bool:
            body = str(number).encode()
            try:
                writers[number].put_object(case.sandbox.namespace, "audit", "name", body, if_none_match="*")
            except oci.exceptions.ServiceError as error:
                if error.code != "IfNoneMatchFailed":
                    raise
                return False
            return True

        racing.set()
        with ThreadPoolExecutor(len(writers)) as pool:
            won = list(pool.map(write, range(len(writers))))
        assert won.count(True) == 1
        assert get(case, "name").data.content == str(won.index(True)).encode()


class TestPermissions:
    @pytest.fixture
    def writer(self, standard: OciCase) -> Untyped:
        """A writer that may create objects and not overwrite them."""
        config = standard.sandbox.new_api_key("writer", "OBJECT_CREATE", resource="audit")
        return standard.clients(config)[2]

    def test_a_new_name_needs_only_create(self, standard: OciCase, writer: Untyped) -> None:
        namespace = standard.sandbox.namespace
        writer.put_object(namespace, "audit", "name", b"first")
        with refused(404, "BucketNotFound"):
            writer.put_object(namespace, "audit", "name", b"second")
        # A conditional write shows a writer without OVERWRITE that the name is taken.
        with refused(412, "IfNoneMatchFailed"):
            writer.put_object(namespace, "audit", "name", b"second", if_none_match="*")
        assert get(standard, "name").data.content == b"first"

    def test_create_allows_neither_reading_nor_deleting(self, standard: OciCase, writer: Untyped) -> None:
        standard.put("name")
        namespace = standard.sandbox.namespace
        for call in (writer.get_object, writer.delete_object):
            with refused(404, "BucketNotFound"):
                call(namespace, "audit", "name")
        with refused(404, None):
            writer.head_object(namespace, "audit", "name")
        with refused(404, "BucketNotFound"):
            writer.list_objects(namespace, "audit")
        standard.sandbox.identity.permit("writer", "OBJECT_INSPECT")
        assert writer.head_object(namespace, "audit", "name").status == 200


def test_a_restore_from_the_archive_takes_an_hour_and_ends(case: OciCase) -> None:
    case.create_bucket(storage_tier="Archive", versioning="Enabled")
    case.put("name", b"body", opc_meta={"hash": "abc"})
    shown = head(case, "name").headers
    assert (shown["archival-state"], shown["storage-tier"]) == ("Archived", "Archive")
    assert shown["opc-meta-hash"] == "abc"
    with refused(409, "NotRestored"):
        get(case, "name")
    assert restore(case, "name", hours=2).status == 202
    case.sandbox.clock.advance(HOUR - timedelta(seconds=1))
    assert head(case, "name").headers["archival-state"] == "Restoring"
    with refused(409, "NotRestored"):
        get(case, "name")
    with refused(409, "RestoreInProgress"):
        restore(case, "name")
    case.sandbox.clock.advance(timedelta(seconds=1))
    assert get(case, "name").data.content == b"body"
    shown = head(case, "name").headers
    assert (shown["archival-state"], shown["time-of-archival"]) == ("Restored", "2026-03-01T15:00:00.000Z")
    with refused(409, "AlreadyRestored"):
        restore(case, "name")
    case.sandbox.clock.advance(2 * HOUR)
    assert head(case, "name").headers["archival-state"] == "Archived"


class TestLists:
    def test_objects_by_prefix_and_range_in_pages(self, standard: OciCase) -> None:
        for name in ("oci/2", "aws/2", "aws/1", "aws/3"):
            standard.put(name)

        def listed(**options: str | int) -> Untyped:
            return standard.storage.list_objects(standard.sandbox.namespace, "audit", **options).data

        assert [item.name for item in listed().objects] == ["aws/1", "aws/2", "aws/3", "oci/2"]
        assert [item.name for item in listed(prefix="aws/", start="aws/2").objects] == ["aws/2", "aws/3"]
        assert [item.name for item in listed(start_after="aws/2", end="oci/").objects] == ["aws/3"]
        page = listed(prefix="aws/", limit=2)
        assert (len(page.objects), page.next_start_with) == (2, "aws/3")
        assert page.objects[0].size is None
        summary = listed(fields="name,size,etag,timeCreated,archivalState", limit=1).objects[0]
        assert (summary.size, summary.time_created, summary.archival_state) == (2, START, None)

    def test_versions_newest_first(self, standard: OciCase) -> None:
        first = standard.put("name", b"first").headers["version-id"]
        second = standard.put("name", b"second").headers["version-id"]
        standard.storage.delete_object(standard.sandbox.namespace, "audit", "name")
        with refused(404, "ObjectNotFound"):
            get(standard, "name")
        assert get(standard, "name", version_id=first).data.content == b"first"
        reply = standard.storage.list_object_versions(standard.sandbox.namespace, "audit", limit=2)
        assert [item.is_delete_marker for item in reply.data.items] == [True, False]
        rest = standard.storage.list_object_versions(
            standard.sandbox.namespace, "audit", page=reply.headers["opc-next-page"]
        )
        assert [item.version_id for item in rest.data.items] == [first]
        assert reply.data.items[1].version_id == second

    def test_a_version_can_be_destroyed(self, standard: OciCase) -> None:
        first = standard.put("name", b"first").headers["version-id"]
        namespace = standard.sandbox.namespace
        eraser = standard.clients(standard.sandbox.new_api_key("eraser", "OBJECT_DELETE"))[2]
        with refused(404, "BucketNotFound"):
            eraser.delete_object(namespace, "audit", "name", version_id=first)
        standard.sandbox.identity.permit("eraser", "OBJECT_VERSION_DELETE")
        eraser.delete_object(namespace, "audit", "name", version_id=first)
        assert standard.storage.list_object_versions(namespace, "audit").data.items == []


class TestRetentionRules:
    """What Oracle's page says of them, and the code that was seen live."""

    def rule(self, case: OciCase, *, days: int | None = 1, **details: datetime) -> None:
        models = oci.object_storage.models
        duration = models.Duration(time_amount=days, time_unit="DAYS") if days else None
        asked = models.CreateRetentionRuleDetails(duration=duration, **details)
        case.storage.create_retention_rule(case.sandbox.namespace, "audit", asked)

    def test_nobody_deletes_or_replaces_a_younger_object(self, case: OciCase) -> None:
        case.create_bucket()
        self.rule(case)
        case.put("name", b"1")
        for call in (lambda: case.put("name", b"2"), lambda: delete(case, "name")):
            with refused(403, "RetentionRuleViolation"):
                call()
        with refused(412, "IfNoneMatchFailed"):
            case.put("name", b"2", if_none_match="*")
        assert get(case, "name").data.content == b"1"
        case.put("other")
        case.sandbox.clock.advance(timedelta(days=1))
        case.put("name", b"2")
        delete(case, "other")

    def test_a_rule_without_a_duration_is_for_good(self, case: OciCase) -> None:
        case.create_bucket()
        with refused(400, "InvalidParameter"):
            self.rule(case, time_rule_locked=START + timedelta(days=13))
        self.rule(case, days=None, time_rule_locked=START + timedelta(days=14))
        case.put("name")
        case.sandbox.clock.advance(timedelta(days=9999))
        with refused(403, "RetentionRuleViolation"):
            delete(case, "name")

    def test_a_bucket_has_versions_or_a_rule(self, standard: OciCase) -> None:
        with refused(409, "InvalidBucketState"):
            self.rule(standard)

    def test_a_rule_needs_both_permissions(self, case: OciCase) -> None:
        case.create_bucket()
        for permission in ("BUCKET_UPDATE", "RETENTION_RULE_MANAGE"):
            case.storage = case.clients(case.sandbox.new_api_key(permission, permission))[2]
            with refused(404, "BucketNotFound"):
                self.rule(case)
