"""The AWS audit stream: one S3 object an entry, in a bucket with Object Lock.

An entry is written if nothing stands under its name (`lockstep.audit.objects`). Every method makes one call but
`last_seq`, which makes a few.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError

from lockstep.audit.objects import EntryObjects
from lockstep.aws.clients import Trouble, error_code, translated
from lockstep.errors import AuditLogAccessDeniedError, AuditLogUnreachableError
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
        self._objects = EntryObjects(stream, credential_id)
        self._storage_class = storage_class

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self._objects.stream

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
                    Key=self._objects.key(summary.seq),
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumAlgorithm="SHA256",  # Object Lock asks for a checksum; S3 compares it.
                    ContentType="application/json",
                    StorageClass=self._storage_class,
                    Metadata=self._objects.metadata(summary),
                )
            except ClientError as error:
                if error_code(error) == "PreconditionFailed":
                    return False
                if error_code(error) == "ConditionalRequestConflict":
                    raise AuditLogUnreachableError(
                        stream=self._objects.stream, seq=summary.seq, code="ConditionalRequestConflict"
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
                metadata = self._client.head_object(Bucket=self._bucket, Key=self._objects.key(seq))[
                    "Metadata"
                ]
            except ClientError as error:
                # A reply to a HEAD has no body, so the code is the status.
                if error_code(error) in {"404", "NoSuchKey"}:
                    return None
                raise
        return self._objects.summary(seq, metadata)

    def read(self, seq: int) -> bytes | None:
        """The body; None where there is none."""
        with self._translated(seq):
            try:
                reply = self._client.get_object(Bucket=self._bucket, Key=self._objects.key(seq))
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
                Bucket=self._bucket,
                Prefix=self._objects.prefix,
                StartAfter=self._objects.key(after),
                MaxKeys=_PAGE,
            )
            seqs = [self._objects.seq_of(o["Key"]) for o in reply.get("Contents", [])]
            # What is not beyond was not asked for; it must not be found for ever.
            return max((s for s in seqs if s > after), default=0), reply["IsTruncated"]

    @contextmanager
    def _translated(self, seq: int) -> Iterator[None]:
        with translated(AUDIT_ERRORS, stream=self._objects.stream, seq=seq):
            yield
