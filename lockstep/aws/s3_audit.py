"""The AWS audit stream: one S3 object an entry, in a bucket with Object Lock.

`<stream>/<credential>/<seq, 12 digits>.json`, with a dot for a slash in the credential's id, written if nothing
stands there. What a chain needs of an entry also stands in the object's metadata, so that a HEAD tells it. Every
method makes one call but `last_seq`, which makes a few.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError

from lockstep.aws.clients import Trouble, error_code, translated
from lockstep.errors import AuditConflictError, AuditLogAccessDeniedError, AuditLogUnreachableError
from lockstep.ports import EntrySummary

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AUDIT_ERRORS = {
    Trouble.UNREACHABLE: AuditLogUnreachableError,
    Trouble.THROTTLED: AuditLogUnreachableError,
    Trouble.DENIED: AuditLogAccessDeniedError,
    Trouble.REJECTED: AuditLogAccessDeniedError,
}
_PAGE = 1000
"""As many keys as S3 lists in one call."""
_NAME = re.compile(r"([0-9]{12})\.json")


class S3AuditLog:
    """The port `AuditLog` on one credential's prefix of a bucket."""

    def __init__(
        self,
        client: "S3Client",
        bucket: str,
        stream: str,
        credential_id: str,
        storage_class: Literal["GLACIER_IR", "STANDARD", "STANDARD_IA"] = "GLACIER_IR",
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._stream = stream
        self._folder = f"{stream}/{credential_id.replace('/', '.')}/"
        self._storage_class = storage_class

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self._stream

    def put(self, body: bytes, summary: EntrySummary) -> bool:
        """Write an entry if nothing stands at its seq; False where something does.

        S3 takes a conditional write since 2024: 412 where the key exists, 409 where another write to it was under
        way (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). After a 409 it is not
        known who won, so that is for a retry.
        """
        with self._translated(summary.seq):
            try:
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=self._key(summary.seq),
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",  # Object Lock asks for a checksum; S3 compares it.
                    ContentType="application/json",
                    StorageClass=self._storage_class,
                    Metadata={
                        "seq": str(summary.seq),
                        "hash": summary.hash,
                        "previous-hash": summary.previous_hash,
                        "rotation-id": summary.rotation_id,
                    },
                )
            except ClientError as error:
                if error_code(error) == "PreconditionFailed":
                    return False
                if error_code(error) == "ConditionalRequestConflict":
                    raise AuditLogUnreachableError(
                        stream=self._stream, seq=summary.seq, code="ConditionalRequestConflict"
                    ) from None
                raise
        return True

    def summary(self, seq: int) -> EntrySummary | None:
        """What stands at seq, by a HEAD.

        Raises:
            AuditConflictError: An object that Lockstep did not write.
        """
        with self._translated(seq):
            try:
                metadata = self._client.head_object(Bucket=self._bucket, Key=self._key(seq))["Metadata"]
            except ClientError as error:
                # A reply to a HEAD has no body, so the code is the status.
                if error_code(error) in {"404", "NoSuchKey"}:
                    return None
                raise
        try:
            return EntrySummary(
                seq=int(metadata["seq"]),
                hash=metadata["hash"],
                previous_hash=metadata["previous-hash"],
                rotation_id=metadata["rotation-id"],
            )
        except (KeyError, ValueError):
            raise AuditConflictError(stream=self._stream, seq=seq) from None

    def read(self, seq: int) -> bytes | None:
        """The body; None where there is none."""
        with self._translated(seq):
            try:
                reply = self._client.get_object(Bucket=self._bucket, Key=self._key(seq))
            except self._client.exceptions.NoSuchKey:
                return None
            return reply["Body"].read()

    def last_seq(self) -> int:
        """The highest seq in the log; 0 where it is empty.

        S3 lists upwards only, so this leaps ahead from page to page, further each time, and comes back in smaller
        leaps when it has leapt over the end: 10 to 20 calls, after a year as after five.
        """
        last, leap = 0, 0
        while True:
            found, more = self._page(after=last + leap)
            if found:
                last, leap = found, max(2 * leap, _PAGE)
                if not more:
                    return last
            elif leap:
                leap //= 4
            else:
                return last

    def _page(self, *, after: int) -> tuple[int, bool]:
        """The highest seq among the next keys (0: there are none), and whether there are keys beyond."""
        with self._translated(after):
            reply = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=self._folder, StartAfter=self._key(after), MaxKeys=_PAGE
            )
            names = [o["Key"].removeprefix(self._folder) for o in reply.get("Contents", [])]
            seqs = [int(m[1]) for name in names if (m := _NAME.fullmatch(name))]
            # What is not beyond was not asked for; it must not be found for ever.
            return max((s for s in seqs if s > after), default=0), reply["IsTruncated"]

    def _key(self, seq: int) -> str:
        return f"{self._folder}{seq:012d}.json"

    @contextmanager
    def _translated(self, seq: int) -> Iterator[None]:
        with translated(AUDIT_ERRORS, stream=self._stream, seq=seq):
            yield
