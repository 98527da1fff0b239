"""OCI Object Storage: the OCI audit stream, folders of digests and published plans, and the issuer's documents.

The OCI audit stream: one Object Storage object for each entry, in a bucket of the Archive tier with a retention rule or
with versions.

An entry is written only if its name is free (`lockstep.protocol.ports`). Every method makes one call, except
`numbers` and `history`, which make one for each page.

The writer needs OBJECT_CREATE, and OBJECT_INSPECT for HEAD and list: with a HEAD a retry recognises its own entry. It
needs neither OBJECT_OVERWRITE nor OBJECT_READ.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.oci.clients import OciClients, Untyped
from lockstep.oci.reads import explained
from lockstep.protocol.errors import (
    AUDIT_ERRORS,
    PLAN_ERRORS,
    AuditLogUnreachableError,
    ErrorKind,
    Errors,
)
from lockstep.protocol.federation import CACHE_CONTROL, CONTENT_TYPE, Place
from lockstep.protocol.ports import MAX_ENTRY_BYTES, EntryObjects, Listed, ObjectVersion

# OCI sometimes answers 404 BucketNotFound for buckets that exist, so it is retried; the error keeps the code in case
# the bucket or the permission is really missing. OCI answers 409 for an object that is not restored, and to a write
# that collides with another one: both are transient.
LOG_ERRORS = {**AUDIT_ERRORS, ErrorKind.NOT_FOUND: AuditLogUnreachableError}
_METADATA = "opc-meta-"
_NOT_FOUND, _PRECONDITION_FAILED = 404, 412
_STUCK = "a page that does not advance would loop forever"
_RETAINED = "RetentionRuleViolation"


def _put_new(
    clients: OciClients, bucket: tuple[str, str], name: str, content: bytes, **more: Untyped
) -> bool:
    """Write an object; False where its name is taken: in a bucket with a retention rule OCI may say that first."""
    try:
        clients.objects.put_object(
            *bucket,
            name,
            content,
            if_none_match="*",
            content_md5=_md5(content),
            content_type="application/json",
            **more,
        )
    except oci.exceptions.ServiceError as error:
        if error.status == _PRECONDITION_FAILED or error.code == _RETAINED:
            return False
        raise
    return True


def _md5(content: bytes) -> str:
    """The signature of a PUT does not cover its body, so a digest is sent, which the service compares."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


class ObjectStorageAuditLog(EntryObjects):
    """The port `AuditLog` on one prefix of a bucket.

    Args:
        clients: The clients of the bucket's region.
        namespace: The tenancy's Object Storage namespace.
        bucket: The bucket's name.
        stream: The stream's name.
        credential_id: The credential whose chain it is.
        page_size: Entries in one list; the service returns at most 1,000.
    """

    def __init__(
        self,
        clients: OciClients,
        *,
        namespace: str,
        bucket: str,
        stream: str,
        credential_id: str,
        page_size: int = 1000,
    ) -> None:
        super().__init__(stream, credential_id)
        self._clients = clients
        self._bucket = (namespace, bucket)
        self._translated = partial(clients.translated, LOG_ERRORS, stream=stream)
        self._page_size = page_size

    def put(self, number: int, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Write an object if its number is free; False if it is taken."""
        with self._translated(seq=number):
            return _put_new(self._clients, self._bucket, self.key(number), body, opc_meta=dict(metadata))

    def look(self, number: int) -> Mapping[str, str] | None:
        """The metadata of an object, by a HEAD; None if there is none."""
        with self._translated(seq=number):
            try:
                headers = self._clients.objects.head_object(*self._bucket, self.key(number)).headers
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

    def read(self, number: int) -> bytes | None:
        """The body of an object, as far as an entry can be long; None if there is none.

        Raises:
            AuditLogUnreachableError: With code `NotRestored` if the object is archived. Restoring it takes up to an
                hour.
        """
        with self._translated(seq=number):
            try:
                reply = self._clients.objects.get_object(*self._bucket, self.key(number))
            except oci.exceptions.ServiceError as error:
                if error.code == "ObjectNotFound":
                    return None
                raise
            body: bytes = reply.data.raw.read(MAX_ENTRY_BYTES + 1, decode_content=True)
            reply.data.close()
        return body

    def numbers(self, *, after: int = 0) -> Iterator[int]:
        """The numbers above one, ascending, by a list for each page."""
        return (number for number, _ in self.dated(after=after))

    def dated(self, *, after: int = 0) -> Iterator[tuple[int, datetime]]:
        """The numbers above one, ascending, each with the time of its object, by a list for each page."""
        start = self.key(after + 1)
        while start:
            with self._translated(seq=after):
                listed = self._clients.objects.list_objects(
                    *self._bucket,
                    prefix=self.prefix,
                    start=start,
                    limit=self._page_size,
                    fields="name,timeCreated",
                ).data
                found = sorted(
                    (s, o.time_created) for o in listed.objects if (s := self.seq_of(o.name)) > after
                )
                following = listed.next_start_with or ""
                if following and following <= start:
                    raise ValueError(_STUCK)
            yield from found
            after = max([after, *(number for number, _ in found)])
            start = following

    def history(self) -> Iterator[ObjectVersion]:
        """Every version and delete marker, page by page; needs OBJECT_INSPECT, as every list of objects does."""
        page, name = None, ""
        while True:
            # Who lists versions has read the log before, so 404 is OCI's answer to a missing permission.
            with self._clients.translated(AUDIT_ERRORS, stream=self.stream, seq=0):
                reply = self._clients.objects.list_object_versions(
                    *self._bucket,
                    prefix=self.prefix,
                    limit=self._page_size,
                    fields="name,size,timeCreated,timeModified",
                    **({"page": page} if page else {}),
                )
                found, following = [], reply.headers.get("opc-next-page")
                for item in reply.data.items:
                    # The service names no latest version: it is the first of its name.
                    found.append(self._version(item, is_latest=item.name != name))
                    name = item.name
                if following and following == page:
                    raise ValueError(_STUCK)
            yield from found
            if not following:
                return
            page = following

    def _version(self, item: Untyped, *, is_latest: bool) -> ObjectVersion:
        return ObjectVersion(
            key=item.name,
            seq=self.seq_of(item.name),
            version_id=item.version_id,
            is_delete_marker=bool(item.is_delete_marker),
            is_latest=is_latest,
            at=item.time_created or item.time_modified,
            size=item.size or 0,
        )


# A folder of a bucket: published plans, digests of the audit log; the counterpart of `lockstep.aws.s3`.
#
# Every method makes one call, except `listed` and `folders`, which make one for each page.

_NO_OBJECT = "ObjectNotFound"


class ObjectStorageFolder:
    """The port `Folder`.

    Args:
        clients: The clients of the bucket's region.
        namespace: The tenancy's Object Storage namespace.
        bucket: The bucket's name.
        folder: The folder's.
        errors: What is raised; by default for a published plan.
        page_size: Objects in one list; the service returns at most 1,000.
    """

    def __init__(
        self,
        clients: OciClients,
        *,
        namespace: str,
        bucket: str,
        folder: str,
        errors: Errors = PLAN_ERRORS,
        page_size: int = 1000,
    ) -> None:
        self._clients = clients
        self._bucket = (namespace, bucket)
        self._folder = f"{folder}/"
        self._errors = errors
        self._translated = partial(clients.translated, errors)
        self._page_size = page_size

    def read(self, name: str, limit: int) -> bytes | None:
        """The file of a document, and no more than `limit` bytes and one; None where there is none."""
        with self._translated(path=name):
            try:
                reply = self._clients.objects.get_object(*self._bucket, self._folder + name)
            except oci.exceptions.ServiceError as error:
                if error.code == _NO_OBJECT:
                    return None
                raise
            try:
                body: bytes = reply.data.raw.read(limit + 1, decode_content=True)
            finally:
                reply.data.close()
            if len(body) < min(int(reply.headers["content-length"]), limit + 1):
                raise self._errors[ErrorKind.UNREACHABLE](path=name, code="cut")
            return body

    def create(self, name: str, file: bytes) -> bool:
        """Write a document; False where the name is taken."""
        with self._translated(path=name):
            return _put_new(self._clients, self._bucket, self._folder + name, file)

    def listed(self, *, after: str = "") -> Iterator[Listed]:
        """The objects by their names, those of folders in it too; those after a text alone."""
        for listed in self._pages(after):
            for item in listed.objects:
                yield Listed(
                    name=item.name.removeprefix(self._folder),
                    size=item.size or 0,
                    tag=item.md5 or "",
                    at=item.time_created,
                )

    def folders(self) -> Iterator[str]:
        """The names of the folders in this one."""
        for listed in self._pages(delimiter="/"):
            for prefix in listed.prefixes or []:
                yield prefix.removeprefix(self._folder).removesuffix("/")

    def _pages(self, after: str = "", **options: str) -> Iterator[Untyped]:
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
                following = listed.next_start_with or ""
                if following and following <= start:
                    raise ValueError(_STUCK)
            yield listed
            start = following

    @staticmethod
    def tag(file: bytes) -> str:
        """The tag that the list gives for this content: its MD5."""
        return _md5(file)


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
            try:
                reply = self._clients.objects.get_object(*self._bucket, self._prefix + name)
            except oci.exceptions.ServiceError as error:
                if error.code == "ObjectNotFound":
                    return None
                raise
            try:
                content: bytes = reply.data.raw.read(_MOST_BYTES, decode_content=True)
            finally:
                reply.data.close()
            served = (reply.headers.get("content-type"), reply.headers.get("cache-control"))
            return Stored(
                content=content,
                etag=reply.headers["etag"],
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
