"""Object Storage: conditional writes, checksums, versioning, and the Archive tier that cannot be read at once.

Everything here happens under the service's lock, which the dispatcher holds for the length of a call: of racing
writers exactly one wins.
"""

import base64
import binascii
import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final, Literal, cast

from sandbox.emulators.oci.calls import Call
from sandbox.emulators.oci.clock import Ids, SandboxClock, rfc3339
from sandbox.emulators.oci.errors import ApiError, invalid, not_emulated, not_found
from sandbox.emulators.oci.wire import Details, Reply, json_reply


# The checksum by which Object Storage verifies an upload, since its signature does not cover the body.
def verified_md5(headers: Mapping[str, str], body: bytes) -> str:
    """The base64 MD5 that Object Storage keeps of every object, compared with that in the headers, if any.

    Raises:
        ApiError: 400, the checksum is malformed or does not match.
    """
    if "opc-checksum-algorithm" in headers:
        raise not_emulated("other checksums than MD5")
    computed = hashlib.md5(body, usedforsecurity=False).digest()
    found = base64.b64encode(computed).decode("ascii")
    given = headers.get("content-md5", found)
    try:
        length = len(base64.b64decode(given, validate=True))
    except binascii.Error:
        length = 0
    if length != len(computed):
        raise ApiError(400, "InvalidContentMD5", "the Content-MD5 header is malformed")
    if given != found:
        raise ApiError(
            400,
            "UnmatchedContentMD5",
            f"The computed MD5 of the request body ({found}) does not match the Content-MD5 header ({given})",
        )
    return found


# Buckets and the versions of their objects: state without any HTTP.
Tier = Literal["Standard", "Archive"]
ArchivalState = Literal["Archived", "Restoring", "Restored"]
PublicAccess = Literal["NoPublicAccess", "ObjectRead", "ObjectReadWithoutList"]
PUBLIC_PERMISSIONS: Final[Mapping[PublicAccess, frozenset[str]]] = {
    "NoPublicAccess": frozenset(),
    "ObjectRead": frozenset({"OBJECT_READ", "OBJECT_INSPECT"}),
    "ObjectReadWithoutList": frozenset({"OBJECT_READ"}),
}
"""What anyone may do, by the type of a bucket's public access."""

# "up to an hour" (Oracle, "Restoring Archive Storage Objects"): always the whole of it.
RESTORE_TAKES: Final = timedelta(hours=1)
RESTORED_FOR: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of an object, or the marker that it was deleted."""

    name: str
    version_id: str
    etag: str
    time_created: datetime
    tier: Tier = "Standard"
    content: bytes = field(default=b"", repr=False)
    md5: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    restore_asked: datetime | None = None
    is_delete_marker: bool = False

    def archival_state(self, now: datetime) -> ArchivalState | None:
        """The state of an object of the Archive tier; None in another tier."""
        if self.tier != "Archive":
            return None
        if self.restore_asked is None or now >= self.restore_asked + RESTORE_TAKES + RESTORED_FOR:
            return "Archived"
        return "Restored" if now >= self.restore_asked + RESTORE_TAKES else "Restoring"

    def summary(self, now: datetime) -> dict[str, object]:
        """The object as lists show it."""
        return {
            "name": self.name,
            "size": len(self.content),
            "md5": self.md5,
            "etag": self.etag,
            "timeCreated": rfc3339(self.time_created),
            "timeModified": rfc3339(self.time_created),
            "storageTier": self.tier,
            "archivalState": self.archival_state(now),
            "versionId": self.version_id,
            "isDeleteMarker": self.is_delete_marker,
        }


@dataclass(slots=True)
class Bucket:
    """A bucket. Of each name it holds the versions, oldest first; without versioning only one.

    Attributes:
        retention: For how long nobody can delete or replace an object, by each rule; None is for good.
    """

    name: str
    compartment_id: str
    time_created: datetime
    etag: str
    tier: Tier
    is_versioned: bool
    public_access: PublicAccess = "NoPublicAccess"
    retention: list[timedelta | None] = field(default_factory=list)
    _objects: dict[str, list[StoredObject]] = field(default_factory=dict, repr=False)

    def newest(self, name: str) -> StoredObject | None:
        """The current object of a name; None if there is none or it was deleted."""
        versions = self._objects.get(name)
        return versions[-1] if versions and not versions[-1].is_delete_marker else None

    def version(self, name: str, version_id: str | None) -> StoredObject | None:
        """A version by its id; without one, the newest."""
        if version_id is None:
            return self.newest(name)
        return next((item for item in self._objects.get(name, []) if item.version_id == version_id), None)

    def retains(self, item: StoredObject, now: datetime) -> bool:
        """Whether a rule keeps an object, whoever asks."""
        age = now - item.time_created
        return any(duration is None or age < duration for duration in self.retention)

    def add(self, item: StoredObject) -> None:
        """Store a version; without versioning it takes the place of what was there."""
        if self.is_versioned:
            self._objects.setdefault(item.name, []).append(item)
        elif item.is_delete_marker:
            del self._objects[item.name]
        else:
            self._objects[item.name] = [item]

    def replace(self, old: StoredObject, new: StoredObject) -> None:
        """Put another in the place of a version."""
        versions = self._objects[old.name]
        versions[versions.index(old)] = new

    def remove(self, item: StoredObject) -> None:
        """Destroy one version for good."""
        versions = self._objects[item.name]
        versions.remove(item)
        if not versions:
            del self._objects[item.name]

    def listed(self) -> list[StoredObject]:
        """The newest of each name, by name."""
        return [item for name in sorted(self._objects) if (item := self.newest(name)) is not None]

    def all_versions(self) -> list[StoredObject]:
        """Every version, by name, newest first."""
        return [item for name in sorted(self._objects) for item in reversed(self._objects[name])]

    def view(self, namespace: str) -> dict[str, object]:
        """The bucket as the API shows it."""
        return {
            "namespace": namespace,
            "name": self.name,
            "compartmentId": self.compartment_id,
            "timeCreated": rfc3339(self.time_created),
            "etag": self.etag,
            "metadata": {},
            "publicAccessType": self.public_access,
            "storageTier": self.tier,
            "versioning": "Enabled" if self.is_versioned else "Disabled",
        }


NAMESPACE: Final = "sandboxnamespace"
_MAX_PAGE: Final = 1000
_BUCKET_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,256}")
# The required fields of an ObjectVersionSummary; the others are left out unless the caller names them.
_OF_EVERY_VERSION: Final = ("name", "timeModified", "versionId", "isDeleteMarker")
# What an upload's headers say about the object and its downloads repeat.
_KEPT_HEADERS: Final = ("content-type", "cache-control")


@dataclass(slots=True)
class ObjectStorageService:
    """The buckets of one namespace.

    Attributes:
        when_public: Called when anyone may read a bucket.
    """

    clock: SandboxClock
    ids: Ids
    when_public: Callable[[], None] = lambda: None
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _buckets: dict[str, Bucket] = field(default_factory=dict, repr=False)

    # ---- buckets

    def get_namespace(self, _call: Call) -> Reply:
        """Serve GetNamespace."""
        return json_reply(NAMESPACE, {})

    def create_bucket(self, call: Call) -> Reply:
        """Serve CreateBucket."""
        _check_namespace(call)
        details = call.details()
        name, compartment_id = details.required_text("name"), details.required_text("compartmentId")
        if not call.may("BUCKET_CREATE", resource=None, compartment=compartment_id):
            raise not_found()
        if not _BUCKET_NAME.fullmatch(name):
            raise ApiError(400, "InvalidBucketName", "The bucket name holds characters that are not allowed")
        if name in self._buckets:
            raise ApiError(409, "BucketAlreadyExists", f"The bucket '{name}' already exists")
        tier, versioning = details.text("storageTier") or "Standard", details.text("versioning") or "Disabled"
        public = details.text("publicAccessType") or "NoPublicAccess"
        if tier not in {"Standard", "Archive"} or versioning not in {"Enabled", "Disabled"}:
            raise invalid("storageTier or versioning has no such value")
        if public not in PUBLIC_PERMISSIONS:
            raise invalid("publicAccessType has no such value")
        bucket = Bucket(
            name,
            compartment_id,
            self.clock.now(),
            self.ids.uuid(),
            "Archive" if tier == "Archive" else "Standard",
            versioning == "Enabled",
        )
        self._buckets[name] = bucket
        self.set_public_access(name, cast("PublicAccess", public))
        return json_reply(bucket.view(NAMESPACE), {"etag": bucket.etag})

    def create_retention_rule(self, call: Call) -> Reply:
        """Serve CreateRetentionRule."""
        self._bucket(call, "BUCKET_UPDATE")
        bucket = self._bucket(call, "RETENTION_RULE_MANAGE")
        if bucket.is_versioned:
            # Its code is not documented.
            raise ApiError(409, "InvalidBucketState", "A bucket with versions takes no retention rule")
        details = call.details()
        if "timeRuleLocked" in details:
            raise not_emulated("the locking of retention rules")
        bucket.retention.append(_duration(details))
        return json_reply({"id": self.ids.uuid(), "displayName": details.text("displayName")}, {})

    def set_public_access(self, name: str, access: PublicAccess) -> None:
        """Let anyone read a bucket's objects, or no longer, as an administrator may order."""
        self._buckets[name].public_access = access
        if self.has_public_bucket:
            self.when_public()

    @property
    def has_public_bucket(self) -> bool:
        """Whether anyone may read one of the buckets."""
        return any(bucket.public_access != "NoPublicAccess" for bucket in self._buckets.values())

    def _bucket(self, call: Call, *any_of: str) -> Bucket:
        _check_namespace(call)
        name = call.path["bucket"]
        bucket = self._buckets.get(name)
        if bucket is None or not any(
            permission in PUBLIC_PERMISSIONS[bucket.public_access]
            or call.may(permission, resource=name, compartment=bucket.compartment_id)
            for permission in any_of
        ):
            raise _bucket_not_found(name)
        return bucket

    # ---- objects

    def put_object(self, call: Call) -> Reply:
        """Serve PutObject."""
        bucket = self._bucket(call, "OBJECT_CREATE", "OBJECT_OVERWRITE")
        name = call.path["object"]
        existing = bucket.newest(name)
        # A caller who may only create learns from a conditional write that the object exists (seen live).
        _check_write_condition(call, existing)
        needed = "OBJECT_OVERWRITE" if existing else "OBJECT_CREATE"
        if not call.may(needed, resource=bucket.name, compartment=bucket.compartment_id):
            raise _bucket_not_found(bucket.name)
        if existing is not None and bucket.retains(existing, self.clock.now()):
            raise _kept(f"The object '{name}' is protected by a retention rule")
        md5 = verified_md5(call.headers, call.request.body)
        item = StoredObject(
            name,
            self.ids.uuid(),
            self.ids.uuid(),
            self.clock.now(),
            bucket.tier,
            call.request.body,
            md5,
            {n: v for n, v in call.headers.items() if n in _KEPT_HEADERS or n.startswith("opc-meta-")},
        )
        bucket.add(item)
        return Reply(200, {"opc-content-md5": md5} | _identifying(bucket, item))

    def get_object(self, call: Call) -> Reply:
        """Serve GetObject."""
        if "range" in call.headers:
            raise not_emulated("reading a range of an object")
        item = self._readable(call, "OBJECT_READ")
        now = self.clock.now()
        if item.archival_state(now) not in {None, "Restored"}:
            raise ApiError(409, "NotRestored", f"The object '{item.name}' is archived and not restored")
        return Reply(200, self._shown(call, item, now), item.content)

    def head_object(self, call: Call) -> Reply:
        """Serve HeadObject."""
        item = self._readable(call, "OBJECT_READ", "OBJECT_INSPECT")
        return Reply(200, self._shown(call, item, self.clock.now()), item.content)

    def delete_object(self, call: Call) -> Reply:
        """Serve DeleteObject."""
        version_id = call.request.query.get("versionId")
        bucket = self._bucket(call, "OBJECT_VERSION_DELETE" if version_id else "OBJECT_DELETE")
        item = bucket.version(call.path["object"], version_id)
        if item is None:
            raise _object_not_found(call)
        if bucket.retains(item, self.clock.now()):
            raise _kept(f"The object '{item.name}' is protected by a retention rule")
        if version_id:
            bucket.remove(item)
        else:
            marker = StoredObject(
                item.name,
                self.ids.uuid(),
                self.ids.uuid(),
                self.clock.now(),
                item.tier,
                is_delete_marker=True,
            )
            bucket.add(marker)
        return Reply(204)

    def restore_objects(self, call: Call) -> Reply:
        """Serve RestoreObjects."""
        bucket = self._bucket(call, "OBJECT_RESTORE")
        details = call.details()
        item = bucket.version(details.required_text("objectName"), details.text("versionId"))
        if item is None:
            raise _object_not_found(call)
        if "hours" in details:
            raise not_emulated("a restore for other than 24 hours")
        now = self.clock.now()
        match item.archival_state(now):
            case None:
                raise ApiError(400, "NotArchivedObject", "The object is not in the Archive tier")
            case "Restoring":
                raise ApiError(409, "RestoreInProgress", "The object is being restored")
            case "Restored":
                raise ApiError(409, "AlreadyRestored", "The object is restored already")
            case "Archived":
                bucket.replace(item, replace(item, restore_asked=now))
        return Reply(202)

    def _readable(self, call: Call, *any_of: str) -> StoredObject:
        bucket = self._bucket(call, *any_of)
        item = bucket.version(call.path["object"], call.request.query.get("versionId"))
        if item is None or item.is_delete_marker:
            raise _object_not_found(call)
        if call.headers.keys() & {"if-match", "if-none-match"}:
            raise not_emulated("conditions on reads")
        return item

    def _shown(self, call: Call, item: StoredObject, now: datetime) -> dict[str, str]:
        headers = {
            **item.headers,
            **_identifying(self._buckets[call.path["bucket"]], item),
            "content-md5": item.md5,
            "storage-tier": item.tier,
        }
        if (archival_state := item.archival_state(now)) is not None:
            headers["archival-state"] = archival_state
        return headers

    # ---- lists

    def list_objects(self, call: Call) -> Reply:
        """Serve ListObjects."""
        bucket = self._bucket(call, "OBJECT_INSPECT")
        query = call.request.query
        found = _in_range(call, bucket.listed())
        limit = min(int(query.get("limit", str(_MAX_PAGE))), _MAX_PAGE)
        folders = {item.name: _folder_of(item.name, query) for item in found}
        names = sorted({folders[item.name] or item.name for item in found})
        page, rest = set(names[:limit]), names[limit:]
        fields = {"name", *query.get("fields", "name").replace(" ", "").split(",")}
        now = self.clock.now()
        objects = [
            {name: value for name, value in item.summary(now).items() if name in fields}
            for item in found
            if item.name in page and not folders[item.name]
        ]
        following = {"nextStartWith": rest[0]} if rest else {}
        prefixes = sorted(page.intersection(filter(None, folders.values())))
        return json_reply({"objects": objects, "prefixes": prefixes, **following}, {})

    def list_object_versions(self, call: Call) -> Reply:
        """Serve ListObjectVersions."""
        bucket = self._bucket(call, "OBJECT_INSPECT")
        fields = {*_OF_EVERY_VERSION, *call.request.query.get("fields", "").replace(" ", "").split(",")}
        if "delimiter" in call.request.query:
            raise not_emulated("lists of versions with a delimiter")
        page, headers = call.page_of(_in_range(call, bucket.all_versions()), _MAX_PAGE)
        now = self.clock.now()
        items = [
            {field: value for field, value in item.summary(now).items() if field in fields} for item in page
        ]
        return json_reply({"items": items, "prefixes": []}, headers)


def _duration(details: Details) -> timedelta | None:
    given = details.section("duration")
    if given is None:
        return None
    amount, unit = given.integer("timeAmount"), given.text("timeUnit")
    if amount is None or amount < 1 or unit != "DAYS":
        raise invalid("duration must have a timeAmount above 0, and DAYS as timeUnit")
    return timedelta(days=amount)


def _kept(message: str) -> ApiError:
    """What OCI answers whoever asks, also an administrator (seen live)."""
    return ApiError(403, "RetentionRuleViolation", message)


def _check_namespace(call: Call) -> None:
    if call.path["namespace"] != NAMESPACE:
        raise ApiError(404, "NamespaceNotFound", "The namespace does not exist or you are not authorized")


def _check_write_condition(call: Call, existing: StoredObject | None) -> None:
    if (seen := call.headers.get("if-match")) is not None and (existing is None or existing.etag != seen):
        raise ApiError(412, "IfMatchFailed", f"The object does not have the entity tag '{seen}'")
    if (unless := call.headers.get("if-none-match")) is not None:
        if unless != "*":
            raise ApiError(400, "IfNoneMatchDisallowed", "if-none-match takes only '*'")
        if existing is not None:
            raise ApiError(412, "IfNoneMatchFailed", f"The object '{existing.name}' already exists")


def _identifying(bucket: Bucket, item: StoredObject) -> dict[str, str]:
    headers = {
        "etag": item.etag,
        "last-modified": format_datetime(item.time_created.astimezone(UTC), usegmt=True),
    }
    return headers | {"version-id": item.version_id} if bucket.is_versioned else headers


def _folder_of(name: str, query: Mapping[str, str]) -> str:
    """The name up to the delimiter after the prefix; empty where the list has none, or the name."""
    delimiter, prefix = query.get("delimiter", ""), query.get("prefix", "")
    if delimiter not in {"", "/"}:
        raise ApiError(400, "InvalidDelimiter", "delimiter must be '/'")
    before, found, _ = name.removeprefix(prefix).partition("/") if delimiter else ("", "", "")
    return f"{prefix}{before}/" if found else ""


def _in_range(call: Call, items: list[StoredObject]) -> list[StoredObject]:
    query = call.request.query
    if not query.get("limit", "1").isdecimal() or query.get("limit") == "0":
        raise ApiError(400, "InvalidLimit", "limit must be a positive number")
    if query.keys() & {"end", "startAfter"}:
        raise not_emulated("lists by end or startAfter")
    prefix, start = query.get("prefix", ""), query.get("start", "")
    return [item for item in items if item.name.startswith(prefix) and item.name >= start]


def _bucket_not_found(name: str) -> ApiError:
    # A missing permission looks the same (seen live).
    return ApiError(
        404,
        "BucketNotFound",
        f"Either the bucket named '{name}' does not exist in the namespace '{NAMESPACE}'"
        " or you are not authorized to access it",
    )


def _object_not_found(call: Call) -> ApiError:
    return ApiError(404, "ObjectNotFound", f"The object was not found in the bucket '{call.path['bucket']}'")
