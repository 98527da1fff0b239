"""Published plans in Amazon S3.

A document is written only if no object has its name. Every method makes one call, except `listed`, which makes one for
each page.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from lockstep.aws.clients import Trouble, error_code, translated
from lockstep.errors import PlanAccessDeniedError, PlanUnreachableError
from lockstep.published.source import Listed, whole

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ERRORS = {
    Trouble.UNREACHABLE: PlanUnreachableError,
    Trouble.THROTTLED: PlanUnreachableError,
    Trouble.DENIED: PlanAccessDeniedError,
    Trouble.REJECTED: PlanAccessDeniedError,
}
_NO_BUCKET = "NoSuchBucket"
_TAKEN, _CONFLICT = "PreconditionFailed", "ConditionalRequestConflict"


class S3PlanBucket:
    """The documents of one folder of a bucket.

    Args:
        client: The client of the bucket's region.
        bucket: The bucket's name.
        folder: That of the plan (`lockstep.published.places.folder_of`).
        page_size: Objects in one list; S3 returns at most 1,000.
    """

    def __init__(self, client: "S3Client", bucket: str, folder: str, *, page_size: int = 1000) -> None:
        self._client = client
        self._bucket = bucket
        self._folder = f"{folder}/"
        self._page_size = page_size

    def read(self, name: str, limit: int) -> bytes | None:
        """The file of a document, and no more than `limit` bytes and one; None where there is none."""
        with self._translated(name):
            try:
                reply = self._client.get_object(Bucket=self._bucket, Key=self._folder + name)
            except self._client.exceptions.NoSuchKey:
                return None
            with reply["Body"] as body:
                return whole(body.read(limit + 1), length=reply["ContentLength"], limit=limit, name=name)

    def create(self, name: str, file: bytes) -> bool:
        """Write a document; False where the name is taken."""
        with self._translated(name):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._folder + name,
                    Body=file,
                    ContentType="application/json",
                    ChecksumAlgorithm="SHA256",
                    IfNoneMatch="*",
                )
            except ClientError as error:
                if error_code(error) == _TAKEN:
                    return False
                if error_code(error) == _CONFLICT:  # Another write was under way, and one of the two has won.
                    raise PlanUnreachableError(path=name, code=_CONFLICT) from None
                raise
        return True

    def delete(self, name: str) -> None:
        """Delete a document; it stays as an older version."""
        with self._translated(name):
            self._client.delete_object(Bucket=self._bucket, Key=self._folder + name)

    def listed(self) -> Iterator[Listed]:
        """What is in the folder, page by page."""
        after, more = self._folder, True
        while more:
            with self._translated(self._folder):
                reply = self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=self._folder, StartAfter=after, MaxKeys=self._page_size
                )
                found = [(item["Key"], item["Size"], item["ETag"]) for item in reply.get("Contents", [])]
                # A page without a key that is higher would be asked for forever.
                more = reply["IsTruncated"] and bool(found)
            after = max([after, *(key for key, _, _ in found)])
            for key, size, tag in found:
                yield Listed(name=key.removeprefix(self._folder), size=size, tag=tag)

    @staticmethod
    def tag(file: bytes) -> str:
        """The tag that the list gives for this content: its MD5, for an object that was put in one part.

        This holds for encryption with S3's own keys; with a KMS key it is no MD5
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html).
        """
        return f'"{hashlib.md5(file, usedforsecurity=False).hexdigest()}"'

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        with translated(_ERRORS, path=name):
            try:
                yield
            except self._client.exceptions.NoSuchBucket:
                # Elsewhere this means the bucket of the audit log.
                raise PlanAccessDeniedError(path=name, code=_NO_BUCKET) from None
