"""OCI Object Storage: folders of the OCI audit log, of its digests and of published plans; the issuer's documents.

An object is written only if its name is free (`lockstep.protocol.ports`). Every method makes one call, except `listed`,
`folders` and `history`, which make one for each page. The audit log is in a bucket of the Archive tier with a retention
rule or with versions.

The log's writer needs OBJECT_CREATE, and OBJECT_INSPECT for HEAD and list: with a HEAD a retry recognises its own
entry. It needs neither OBJECT_OVERWRITE nor OBJECT_READ.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.oci.clients import OciClients, Untyped
from lockstep.oci.reads import explained
from lockstep.protocol.errors import AUDIT_ERRORS, PLAN_ERRORS, AuditLogUnreachableError, ErrorKind
from lockstep.protocol.federation import CACHE_CONTROL, CONTENT_TYPE, Place
from lockstep.protocol.ports import NO_METADATA, Listed, ObjectVersion

T = TypeVar("T")

# OCI sometimes answers 404 BucketNotFound for buckets that exist, so it is retried; the error keeps the code in case
# the bucket or the permission is really missing. OCI answers 409 for an object that is not restored, and to a write
# that collides with another one: both are transient.
_LOG_ERRORS = {**AUDIT_ERRORS, ErrorKind.NOT_FOUND: AuditLogUnreachableError}
_METADATA = "opc-meta-"
_NOT_FOUND, _PRECONDITION_FAILED = 404, 412
_STUCK = "a page that does not advance would loop forever"
_NO_OBJECT, _RETAINED = "ObjectNotFound", "RetentionRuleViolation"


def _md5(content: bytes) -> str:
    """The signature of a PUT does not cover its body, so a digest is sent, which the service compares."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _read(
    clients: OciClients, bucket: tuple[str, str], name: str, limit: int
) -> tuple[bytes, Mapping[str, str]] | None:
    """An object as it is stored, no more than `limit` bytes of it, and its headers; None where there is none."""
    try:
        reply = clients.objects.get_object(*bucket, name)
    except oci.exceptions.ServiceError as error:
        if error.code == _NO_OBJECT:
            return None
        raise
    try:
        content: bytes = reply.data.raw.read(limit, decode_content=False)
    finally:
        reply.data.close()
    return content, reply.headers


class ObjectStorageFolder:
    """The ports `Folder` and `EntryFolder`; the counterpart of `lockstep.aws.s3`.

    Args:
        clients: The clients of the bucket's region.
        namespace: The tenancy's Object Storage namespace.
        bucket: The bucket's name.
        folder: The folder's.
        stream: Of the audit log, whose errors are raised; empty: it is of a published plan.
        page_size: Objects in one list; the service returns at most 1,000.
    """

    def __init__(
        self,
        clients: OciClients,
        *,
        namespace: str,
        bucket: str,
        folder: str,
        stream: str = "",
        page_size: int = 1000,
    ) -> None:
        self.stream = stream
        self._clients = clients
        self._bucket = (namespace, bucket)
        self._folder = f"{folder}/"
        self._errors = _LOG_ERRORS if stream else PLAN_ERRORS
        self._where = {"stream": stream} if stream else {}
        self._translated = partial(clients.translated, self._errors, **self._where)
        self._page_size = page_size

    def create(self, name: str, file: bytes, metadata: Mapping[str, str] = NO_METADATA) -> bool:
        """Write an object; False where its name is taken: under a retention rule OCI may say that first."""
        with self._translated(path=name):
            try:
                self._clients.objects.put_object(
                    *self._bucket,
                    self._folder + name,
                    file,
                    if_none_match="*",
                    content_md5=_md5(file),
                    content_type="application/json",
                    opc_meta=dict(metadata),
                )
            except oci.exceptions.ServiceError as error:
                if error.status == _PRECONDITION_FAILED or error.code == _RETAINED:
                    return False
                raise
        return True

    def look(self, name: str) -> Mapping[str, str] | None:
        """The metadata of an object, by a HEAD; None if there is none."""
        with self._translated(path=name):
            try:
                headers = self._clients.objects.head_object(*self._bucket, self._folder + name).headers
            except oci.exceptions.ServiceError as error:
                # A reply to a HEAD has no body, so a missing bucket looks like a missing object here.
                if error.status == _NOT_FOUND:
                    return None
                raise
            return {
                name.lower().removeprefix(_METADATA): value
                for name, value in headers.items()
                if name.lower().startswith(_METADATA)
            }

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of an object, and no more than `limit` bytes and one; None where there is none.

        Raises:
            AuditLogUnreachableError: With code `NotRestored` if the object is archived. Restoring it takes up to an
                hour.
        """
        with self._translated(path=name):
            found = _read(self._clients, self._bucket, self._folder + name, limit + 1)
            if found is None:
                return None
            content, headers = found
            if len(content) < min(int(headers["content-length"]), limit + 1):
                raise self._errors[ErrorKind.UNREACHABLE](**self._where, path=name, code="cut")
            return content

    def listed(self, *, after: str = "") -> Iterator[Listed]:
        """The objects by their names, those of folders in it too; those after a text alone."""
        return self._pages(self._objects_in, after)

    def folders(self) -> Iterator[str]:
        """The names of the folders in this one."""
        return self._pages(self._folders_in, delimiter="/")

    def _objects_in(self, listed: Untyped) -> list[Listed]:
        return [
            Listed(
                name=item.name.removeprefix(self._folder),
                size=item.size or 0,
                tag=item.md5 or "",
                at=item.time_created,
            )
            for item in listed.objects
        ]

    def _folders_in(self, listed: Untyped) -> list[str]:
        return [p.removeprefix(self._folder).removesuffix("/") for p in listed.prefixes or []]

    def _pages(self, read: Callable[[Untyped], list[T]], after: str = "", **options: str) -> Iterator[T]:
        """What a list of objects has, page by page."""
        start = f"{self._folder}{after}"
        while start:
            with self._translated(path=self._folder):
                listed = self._clients.objects.list_objects(
                    *self._bucket,
                    prefix=self._folder,
                    start=start,
                    limit=self._page_size,
                    fields="name,size,md5,timeCreated",
                    **options,
                ).data
                page, following = read(listed), listed.next_start_with or ""
                if following and following <= start:
                    raise ValueError(_STUCK)
            yield from page
            start = following

    def history(self) -> Iterator[ObjectVersion]:
        """Every version and delete marker, page by page; needs OBJECT_INSPECT, as every list of objects does."""
        page, name = None, ""
        while True:
            # Who lists versions has read the log before, so 404 is OCI's answer to a missing permission.
            with self._clients.translated(AUDIT_ERRORS, stream=self.stream, path=self._folder):
                reply = self._clients.objects.list_object_versions(
                    *self._bucket,
                    prefix=self._folder,
                    limit=self._page_size,
                    fields="name,size,timeCreated,timeModified",
                    **({"page": page} if page else {}),
                )
                found, following = [], reply.headers.get("opc-next-page")
                for item in reply.data.items:
                    # The service names no latest version: it is the first of its name.
                    found.append(_version(item, is_latest=item.name != name))
                    name = item.name
                if following and following == page:
                    raise ValueError(_STUCK)
            yield from found
            if not following:
                return
            page = following

    @staticmethod
    def tag(file: bytes) -> str:
        """The tag that the list gives for this content: its MD5."""
        return _md5(file)


def _version(item: Untyped, *, is_latest: bool) -> ObjectVersion:
    return ObjectVersion(
        key=item.name,
        version_id=item.version_id,
        is_delete_marker=bool(item.is_delete_marker),
        is_latest=is_latest,
        at=item.time_created or item.time_modified,
        size=item.size or 0,
    )


# The issuer's documents in OCI Object Storage. Each method makes one call.

_MOST_BYTES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A document as the bucket has it.

    Attributes:
        etag: Of this content.
        is_served_well: Whether it is served with the content type and the cache time of the issuer's documents.
    """

    content: bytes = field(repr=False)
    etag: str
    is_served_well: bool


class IssuerBucket:
    """The place of an issuer's documents.

    Every method raises an EnvironmentalError where the service does not do it.

    Args:
        clients: Of the bucket's region.
        place: The bucket.
    """

    def __init__(self, clients: OciClients, place: Place) -> None:
        self._clients = clients
        self._bucket = (place.namespace, place.bucket)
        self._prefix = place.prefix

    def read(self, name: str) -> Stored | None:
        """A document, of which no more than 100,000 bytes are read; None where there is none."""
        with explained("GetObject"):
            found = _read(self._clients, self._bucket, self._prefix + name, _MOST_BYTES)
            if found is None:
                return None
            content, headers = found
            served = (headers.get("content-type"), headers.get("cache-control"))
            return Stored(
                content=content,
                etag=headers["etag"],
                is_served_well=served == (CONTENT_TYPE, CACHE_CONTROL),
            )

    def write(self, name: str, content: bytes, *, over: Stored | None) -> bool:
        """Put a document in the place of what was read; False where another writer came first."""
        seen = {"if_match": over.etag} if over else {"if_none_match": "*"}
        with explained("PutObject"):
            try:
                self._clients.objects.put_object(
                    *self._bucket,
                    self._prefix + name,
                    content,
                    content_md5=_md5(content),
                    content_type=CONTENT_TYPE,
                    cache_control=CACHE_CONTROL,
                    **seen,
                )
            except oci.exceptions.ServiceError as error:
                if error.status == _PRECONDITION_FAILED:
                    return False
                raise
        return True
