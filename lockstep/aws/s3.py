"""Amazon S3: the AWS audit stream, and folders of digests and of published plans.

The AWS audit stream: one S3 object for each entry, in a bucket with Object Lock.

An entry is written only if no object has its name (`lockstep.protocol.ports`). Every method makes one call, except
`numbers` and `history`, which make one for each page, and `look` and `read` where S3 does not say whether there is an
object.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from lockstep.aws.clients import error_code, translated
from lockstep.protocol.errors import (
    AUDIT_ERRORS,
    PLAN_ERRORS,
    AuditLogUnreachableError,
    ErrorKind,
    Errors,
    LockstepError,
)
from lockstep.protocol.ports import MAX_ENTRY_BYTES, EntryObjects, Listed, ObjectVersion

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ListObjectVersionsOutputTypeDef


_ABSENT = {"404", "NoSuchKey"}
_UNCLEAR = {"400", "403", "AccessDenied", "InvalidRequest"}
_OWN_KEY = {"400", "InvalidRequest"}
"""For an object that somebody has encrypted with a key of their own, as no entry is."""
_STUCK = "a page that does not advance would loop forever"
_TAKEN, _CONFLICT = "PreconditionFailed", "ConditionalRequestConflict"


def _put_new(client: "S3Client", lost: LockstepError, **of_object: Any) -> bool:  # noqa: ANN401 - arguments of boto3
    """Write an object if none has its name; False where one has.

    Args:
        client: Of the bucket's region.
        lost: Raised where another write was under way, and one of the two has won.
        of_object: What is written, as `put_object` takes it.
    """
    try:
        client.put_object(
            **of_object,
            ContentType="application/json",
            ChecksumAlgorithm="SHA256",  # Object Lock requires a checksum; S3 compares it.
            IfNoneMatch="*",
        )
    except ClientError as error:
        if error_code(error) == _TAKEN:
            return False
        if error_code(error) == _CONFLICT:
            raise lost from None
        raise
    return True


class S3AuditLog(EntryObjects):
    """The port `AuditLog` on one credential's prefix of a bucket.

    Args:
        client: The client of the bucket's region.
        bucket: The bucket's name.
        stream: The stream's name.
        credential_id: The credential whose chain it is.
        page_size: Entries in one list; S3 returns at most 1,000.
    """

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        stream: str,
        credential_id: str,
        *,
        page_size: int = 1000,
    ) -> None:
        super().__init__(stream, credential_id)
        self._client = client
        self._bucket = bucket
        self._translated = partial(translated, AUDIT_ERRORS, stream=stream)
        self._page_size = page_size

    def put(self, number: int, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Write an object if its number is free; False where it is taken.

        S3 answers a conditional write with 412 where the key exists, and with 409 where another write to it was
        under way (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). A 409 does not
        tell which write won, so the call must be retried.
        """
        with self._translated(seq=number):
            return _put_new(
                self._client,
                AuditLogUnreachableError(stream=self.stream, seq=number, code=_CONFLICT),
                Bucket=self._bucket,
                Key=self.key(number),
                Body=body,
                Metadata=dict(metadata),
            )

    def look(self, number: int) -> Mapping[str, str] | None:
        """The metadata of an object, by a HEAD; None where there is none."""
        with self._translated(seq=number):
            try:
                return self._client.head_object(Bucket=self._bucket, Key=self.key(number))["Metadata"]
            except ClientError as error:
                if self._is_absent(number, code := error_code(error)):
                    return None
                if code in _OWN_KEY:
                    return {}
                raise

    def _is_absent(self, number: int, code: str) -> bool:
        """Whether a HEAD or a GET was refused because there is no object.

        A reply to a HEAD has no body, so its code is the status. Who may list a folder only gets 403 for an object that
        is missing, because neither call names a prefix. An object that somebody has encrypted with a key of their own
        (SSE-C) is answered with 400 (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html, and
        API_GetObject.html). Only a list tells these from what is missing.
        """
        if code not in _UNCLEAR:
            return code in _ABSENT
        key = self.key(number)
        reply = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        return all(item["Key"] != key for item in reply.get("Contents", []))

    def read(self, number: int) -> bytes | None:
        """The body of an object, as far as an entry can be long; None where there is none."""
        with self._translated(seq=number):
            try:
                reply = self._client.get_object(Bucket=self._bucket, Key=self.key(number))
            except ClientError as error:
                if self._is_absent(number, code := error_code(error)):
                    return None
                if code in _OWN_KEY:
                    return b""
                raise
            return reply["Body"].read(MAX_ENTRY_BYTES + 1)

    def numbers(self, *, after: int = 0) -> Iterator[int]:
        """The numbers above one, ascending, by a list for each page."""
        return (number for number, _ in self.dated(after=after))

    def dated(self, *, after: int = 0) -> Iterator[tuple[int, datetime]]:
        """The numbers above one, ascending, each with the time of its object, by a list for each page."""
        start = self.key(after)
        while start:
            with self._translated(seq=after):
                reply = self._client.list_objects_v2(
                    Bucket=self._bucket,
                    Prefix=self.prefix,
                    StartAfter=start,
                    MaxKeys=self._page_size,
                )
                found = {item["Key"]: item["LastModified"] for item in reply.get("Contents", [])}
                # The next page begins after the last name, whoever put it there.
                following = max(found, default="") if reply["IsTruncated"] else ""
                if reply["IsTruncated"] and following <= start:
                    raise ValueError(_STUCK)
            yield from sorted((s, at) for name, at in found.items() if (s := self.seq_of(name)) > after)
            start = following

    def history(self) -> Iterator[ObjectVersion]:
        """Every version and delete marker, page by page; needs `s3:ListBucketVersions`."""
        list_page = partial(
            self._client.list_object_versions,
            Bucket=self._bucket,
            Prefix=self.prefix,
            MaxKeys=self._page_size,
        )
        marker: tuple[str, str] | None = None
        while True:
            with self._translated(seq=0):
                # S3 refuses an empty version id, so the first call names none
                # (https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html).
                reply = list_page(KeyMarker=marker[0], VersionIdMarker=marker[1]) if marker else list_page()
                page = self._versions(reply)
                following = (
                    (reply["NextKeyMarker"], reply["NextVersionIdMarker"]) if reply["IsTruncated"] else None
                )
                if following and following == marker:
                    raise ValueError(_STUCK)
            yield from page
            if not following:
                return
            marker = following

    def _versions(self, reply: "ListObjectVersionsOutputTypeDef") -> list[ObjectVersion]:
        """A page, by name, the latest of each first: botocore returns versions and markers apart."""
        found = [
            ObjectVersion(
                key=item["Key"],
                seq=self.seq_of(item["Key"]),
                version_id=item["VersionId"],
                is_delete_marker=is_delete_marker,
                is_latest=item["IsLatest"],
                at=item["LastModified"],
                size=size,
            )
            for item, is_delete_marker, size in (
                *((version, False, version["Size"]) for version in reply.get("Versions", [])),
                *((marker, True, 0) for marker in reply.get("DeleteMarkers", [])),
            )
        ]
        return sorted(found, key=lambda version: (version.key, not version.is_latest))


# A folder of a bucket: published plans, digests of the audit log.
#
# An object is written only if none has its name. Every method makes one call, except `listed` and `folders`, which make
# one for each page.

_NO_BUCKET = "NoSuchBucket"


class S3Folder:
    """The port `Folder`.

    Args:
        client: The client of the bucket's region.
        bucket: The bucket's name.
        folder: The folder's.
        errors: What is raised; by default for a published plan.
        page_size: Objects in one list; S3 returns at most 1,000.
    """

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        folder: str,
        *,
        errors: Errors = PLAN_ERRORS,
        page_size: int = 1000,
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._folder = f"{folder}/"
        self._errors = errors
        self._page_size = page_size

    def read(self, name: str, limit: int) -> bytes | None:
        """The file of a document, and no more than `limit` bytes and one; None where there is none."""
        with self._translated(name):
            try:
                reply = self._client.get_object(Bucket=self._bucket, Key=self._folder + name)
            except self._client.exceptions.NoSuchKey:
                return None
            with reply["Body"] as body:
                file = body.read(limit + 1)
            if len(file) < min(reply["ContentLength"], limit + 1):
                raise self._errors[ErrorKind.UNREACHABLE](path=name, code="cut")
            return file

    def create(self, name: str, file: bytes) -> bool:
        """Write a document; False where the name is taken."""
        with self._translated(name):
            return _put_new(
                self._client,
                self._errors[ErrorKind.UNREACHABLE](path=name, code=_CONFLICT),
                Bucket=self._bucket,
                Key=self._folder + name,
                Body=file,
            )

    def listed(self, *, after: str = "") -> Iterator[Listed]:
        """The objects by their names, those of folders in it too; those after a text alone."""
        for reply in self._pages("", after):
            for item in reply.get("Contents", []):
                name = item["Key"].removeprefix(self._folder)
                yield Listed(name=name, size=item["Size"], tag=item["ETag"], at=item["LastModified"])

    def folders(self) -> Iterator[str]:
        """The names of the folders in this one."""
        for reply in self._pages("/"):
            for item in reply.get("CommonPrefixes", []):
                yield item["Prefix"].removeprefix(self._folder).removesuffix("/")

    def _pages(self, delimiter: str, after: str = "") -> Iterator["ListObjectsV2OutputTypeDef"]:
        token = ""
        list_page = partial(
            self._client.list_objects_v2,
            Bucket=self._bucket,
            Prefix=self._folder,
            Delimiter=delimiter,
            StartAfter=f"{self._folder}{after}" if after else "",
            MaxKeys=self._page_size,
        )
        while True:
            with self._translated(self._folder):
                reply = list_page(ContinuationToken=token) if token else list_page()
                following = reply.get("NextContinuationToken", "")
                if following and following == token:
                    raise ValueError(_STUCK)
            yield reply
            if not following:
                return
            token = following

    @staticmethod
    def tag(file: bytes) -> str:
        """The tag that the list gives for this content: its MD5, for an object that was put in one part.

        This holds for encryption with S3's own keys; with a KMS key it is no MD5
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
        """
        return f'"{hashlib.md5(file, usedforsecurity=False).hexdigest()}"'

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        with translated(self._errors, path=name):
            try:
                yield
            except self._client.exceptions.NoSuchBucket:
                raise self._errors[ErrorKind.DENIED](path=name, code=_NO_BUCKET) from None
