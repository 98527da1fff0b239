"""Amazon S3: a folder of a bucket, which has entries of the AWS audit log, their digests, or a published plan.

An object is written only if none has its name (`lockstep.protocol.ports`). Every method makes one call, except
`listed`, `folders` and `history`, which make one for each page, and `look` and `read` where S3 does not say whether
there is an object. The bucket of the audit log has Object Lock.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from lockstep.aws.clients import error_code, translated
from lockstep.protocol.errors import AUDIT_ERRORS, PLAN_ERRORS, ErrorKind
from lockstep.protocol.ports import NO_METADATA, Listed, ObjectVersion

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef, ListObjectVersionsOutputTypeDef

T = TypeVar("T")

_ABSENT = {"404", "NoSuchKey"}
_UNCLEAR = {"400", "403", "AccessDenied", "InvalidRequest"}
_OWN_KEY = {"400", "InvalidRequest"}
"""For an object that somebody has encrypted with a key of their own, as nothing of ours is."""
_STUCK = "a page that does not advance would loop forever"
_TAKEN = "PreconditionFailed"


class S3Folder:
    """The ports `Folder` and `EntryFolder`.

    Args:
        client: The client of the bucket's region.
        bucket: The bucket's name.
        folder: The folder's.
        stream: Of the audit log, whose errors are raised; empty: it is of a published plan.
        page_size: Objects in one list; S3 returns at most 1,000.
    """

    def __init__(
        self, client: "S3Client", bucket: str, folder: str, *, stream: str = "", page_size: int = 1000
    ) -> None:
        self.stream = stream
        self._client = client
        self._bucket = bucket
        self._folder = f"{folder}/"
        self._errors = AUDIT_ERRORS if stream else PLAN_ERRORS
        self._where = {"stream": stream} if stream else {}
        self._page_size = page_size

    def create(self, name: str, file: bytes, metadata: Mapping[str, str] = NO_METADATA) -> bool:
        """Write an object; False where the name is taken.

        S3 answers a conditional write with 412 where the key exists, and with 409 where another write to it was
        under way (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). A 409 does not
        tell which write won, so the call must be retried.
        """
        with self._translated(name):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._folder + name,
                    Body=file,
                    Metadata=dict(metadata),
                    ContentType="application/json",
                    ChecksumAlgorithm="SHA256",  # Object Lock requires a checksum; S3 compares it.
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if error_code(error) == _TAKEN:
                    return False
                raise
        return True

    def look(self, name: str) -> Mapping[str, str] | None:
        """The metadata of an object, by a HEAD; None where there is none."""
        with self._translated(name):
            try:
                return self._client.head_object(Bucket=self._bucket, Key=self._folder + name)["Metadata"]
            except ClientError as error:
                if self._is_absent(name, code := error_code(error)):
                    return None
                if code in _OWN_KEY:
                    return {}
                raise

    def read(self, name: str, limit: int) -> bytes | None:
        """The content of an object, and no more than `limit` bytes and one; None where there is none."""
        with self._translated(name):
            try:
                reply = self._client.get_object(Bucket=self._bucket, Key=self._folder + name)
            except ClientError as error:
                if self._is_absent(name, code := error_code(error)):
                    return None
                if code in _OWN_KEY:
                    return b""
                raise
            with reply["Body"] as body:
                file = body.read(limit + 1)
            if len(file) < min(reply["ContentLength"], limit + 1):
                raise self._errors[ErrorKind.UNREACHABLE](**self._where, path=name, code="cut")
            return file

    def _is_absent(self, name: str, code: str) -> bool:
        """Whether a HEAD or a GET was refused because there is no object.

        A reply to a HEAD has no body, so its code is the status. Who may list a folder only gets 403 for an object that
        is missing, because neither call names a prefix. An object that somebody has encrypted with a key of their own
        (SSE-C) is answered with 400 (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html, and
        API_GetObject.html). Only a list tells these from what is missing.
        """
        if code not in _UNCLEAR:
            return code in _ABSENT
        key = self._folder + name
        reply = self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        return all(item["Key"] != key for item in reply.get("Contents", []))

    def listed(self, *, after: str = "") -> Iterator[Listed]:
        """The objects by their names, those of folders in it too; those after a text alone."""
        return self._pages(self._objects_in, "", after)

    def folders(self) -> Iterator[str]:
        """The names of the folders in this one."""
        return self._pages(self._folders_in, "/")

    def _objects_in(self, reply: "ListObjectsV2OutputTypeDef") -> list[Listed]:
        return [
            Listed(
                name=item["Key"].removeprefix(self._folder),
                size=item["Size"],
                tag=item["ETag"],
                at=item["LastModified"],
            )
            for item in reply.get("Contents", [])
        ]

    def _folders_in(self, reply: "ListObjectsV2OutputTypeDef") -> list[str]:
        prefixes = (item["Prefix"] for item in reply.get("CommonPrefixes", []))
        return [prefix.removeprefix(self._folder).removesuffix("/") for prefix in prefixes]

    def _pages(
        self, read: "Callable[[ListObjectsV2OutputTypeDef], list[T]]", delimiter: str, after: str = ""
    ) -> Iterator[T]:
        """What a list of objects has, page by page."""
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
                page = read(reply)
                following = reply["NextContinuationToken"] if reply["IsTruncated"] else ""
                if following and following == token:
                    raise ValueError(_STUCK)
            yield from page
            if not following:
                return
            token = following

    def history(self) -> Iterator[ObjectVersion]:
        """Every version and delete marker, page by page; needs `s3:ListBucketVersions`."""
        list_page = partial(
            self._client.list_object_versions,
            Bucket=self._bucket,
            Prefix=self._folder,
            MaxKeys=self._page_size,
        )
        marker: tuple[str, str] | None = None
        while True:
            with self._translated(self._folder):
                # S3 refuses an empty version id, so the first call names none
                # (https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html).
                reply = list_page(KeyMarker=marker[0], VersionIdMarker=marker[1]) if marker else list_page()
                page = _versions(reply)
                following = (
                    (reply["NextKeyMarker"], reply["NextVersionIdMarker"]) if reply["IsTruncated"] else None
                )
                if following and following == marker:
                    raise ValueError(_STUCK)
            yield from page
            if not following:
                return
            marker = following

    @staticmethod
    def tag(file: bytes) -> str:
        """The tag that the list gives for this content: its MD5, for an object that was put in one part.

        This holds for encryption with S3's own keys; with a KMS key it is no MD5
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
        """
        return f'"{hashlib.md5(file, usedforsecurity=False).hexdigest()}"'

    def _translated(self, name: str) -> AbstractContextManager[None]:
        return translated(self._errors, **self._where, path=name)


def _versions(reply: "ListObjectVersionsOutputTypeDef") -> list[ObjectVersion]:
    """A page, by name, the latest of each first: botocore returns versions and markers apart."""
    found = [
        ObjectVersion(
            key=item["Key"],
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
