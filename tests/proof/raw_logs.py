"""A chain's objects as somebody with every right on the bucket has them, in memory and over both clouds' emulators."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol, TypeAlias, cast

from lockstep.audit.entry import look
from lockstep.aws.s3 import S3AuditLog
from lockstep.oci.object_storage import ObjectStorageAuditLog
from lockstep.protocol.ports import AuditLog, EntryObjects
from sandbox.emulators.aws.resources import create_audit_bucket
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from tests.contract.aws_fixtures import sandbox_client
from tests.contract.oci_fixtures import OciConsole, sandbox_clients
from tests.support.memory import MemoryAuditLog

Object: TypeAlias = tuple[bytes, Mapping[str, str]]
Untyped = Any
"""A value of an SDK that ships no types."""


class _Dated:
    """A log of an emulator, whose objects are dated by the clock of the scene and not by that of the emulator."""

    def __init__(self, log: AuditLog, dates: Mapping[int, datetime]) -> None:
        self._log, self._dates = log, dates

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def dated(self, *, after: int = 0) -> Iterator[tuple[int, datetime]]:
        for number in self._log.numbers(after=after):
            yield number, self._dates.get(number) or self._own_time(number)

    def _own_time(self, number: int) -> datetime:
        found = look(self._log, number)
        return datetime.fromtimestamp(found.seal.time / 1000 if found and found.seal else 0, UTC)


class RawLog(ABC):
    """One chain's objects.

    Args:
        log: The port, as runners and verification have it.

    Attributes:
        dates: When an object was written, where that was not at its entry's own time.
    """

    def __init__(self, log: AuditLog, credential_id: str) -> None:
        self.dates: dict[int, datetime] = {}
        if isinstance(log, MemoryAuditLog):
            self.dates = log.dates
        self.log = log if isinstance(log, MemoryAuditLog) else cast("AuditLog", _Dated(log, self.dates))
        self._names = EntryObjects(log.stream, credential_id)

    def numbers(self) -> list[int]:
        """All numbers that have an object, ascending."""
        return list(self.log.numbers())

    def get(self, number: int) -> Object:
        """The object under a number."""
        body, metadata = self.log.read(number), self.log.look(number)
        assert body is not None
        assert metadata is not None
        return body, metadata

    def put(self, number: int, body: bytes, metadata: Mapping[str, str]) -> None:
        """Write an object, or a second version of it."""
        self._put(self._names.key(number), body, metadata)

    def plant(self, name: str) -> None:
        """Write an object that is no entry."""
        self._put(f"{self._names.prefix}{name}", b"{}", {})

    def mark(self, number: int) -> None:
        """Put a delete marker on an object."""
        self._delete(self._names.key(number))

    def erase(self, *numbers: int) -> None:
        """Delete objects with all their versions: no trace is left."""
        for number in numbers:
            self._erase(self._names.key(number))
            self.dates.pop(number, None)

    def replace(self, number: int, body: bytes, metadata: Mapping[str, str]) -> None:
        """Put another object in the place of one, without a trace among the versions, and at about its time."""
        date = self.dates.get(number)
        self.erase(number)
        self.put(number, body, metadata)
        if date:
            self.dates[number] = date

    @abstractmethod
    def _put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None: ...

    @abstractmethod
    def _delete(self, key: str) -> None: ...

    @abstractmethod
    def _erase(self, key: str) -> None: ...


class MemoryRawLog(RawLog):
    """The double `MemoryAuditLog`."""

    def __init__(self, stream: str, credential_id: str) -> None:
        self.double = MemoryAuditLog(stream)
        self.double.objects = EntryObjects(stream, credential_id)
        super().__init__(self.double, credential_id)

    def _put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        number = self._names.seq_of(key)
        if number == 0:
            self.double.past.setdefault(key, []).append(len(body))
            return
        if number in self.double.entries:
            self.double.past.setdefault(key, []).append(len(self.double.entries[number][0]))
        self.double.entries[number] = (body, dict(metadata))

    def _delete(self, key: str) -> None:
        self.double.delete(self._names.seq_of(key))

    def _erase(self, key: str) -> None:
        self.double.entries.pop(self._names.seq_of(key), None)
        self.double.past.pop(key, None)


class S3RawLog(RawLog):
    """A new bucket of the S3 emulator; its objects are not locked, because locks are not what is asked."""

    def __init__(self, sandbox: AwsSandbox, client: Untyped, bucket: str, credential_id: str) -> None:
        create_audit_bucket(client, bucket, region=sandbox.region)
        super().__init__(S3AuditLog(client, bucket, "aws", credential_id), credential_id)
        self._client, self._bucket = client, bucket

    def _put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self._client.put_object(Bucket=self._bucket, Key=key, Body=body, Metadata=dict(metadata))

    def _delete(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=key)

    def _erase(self, key: str) -> None:
        listed = self._client.list_object_versions(Bucket=self._bucket, Prefix=key)
        for version in (*listed.get("Versions", []), *listed.get("DeleteMarkers", [])):
            self._client.delete_object(Bucket=self._bucket, Key=key, VersionId=version["VersionId"])


class ObjectStorageRawLog(RawLog):
    """A new bucket of the Object Storage emulator, without a retention rule."""

    def __init__(self, sandbox: OciSandbox, console: OciConsole, bucket: str, credential_id: str) -> None:
        console.create_bucket(bucket)
        log = ObjectStorageAuditLog(
            sandbox_clients(sandbox),
            namespace=sandbox.namespace,
            bucket=bucket,
            stream="oci",
            credential_id=credential_id,
        )
        super().__init__(log, credential_id)
        self._storage, self._place = console.storage, (sandbox.namespace, bucket)

    def _put(self, key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        self._storage.put_object(*self._place, key, body, opc_meta=dict(metadata))

    def _delete(self, key: str) -> None:
        self._storage.delete_object(*self._place, key)

    def _erase(self, key: str) -> None:
        for item in self._storage.list_object_versions(*self._place, prefix=key).data.items:
            self._storage.delete_object(*self._place, key, version_id=item.version_id)


class Backend(Protocol):
    """Makes empty chains."""

    @property
    def name(self) -> str:
        """For the report."""

    def __call__(self, stream: str, credential_id: str) -> RawLog:
        """An empty chain of a stream, in a bucket of its own."""


class InMemory:
    """Both streams in memory."""

    name = "memory"

    def __call__(self, stream: str, credential_id: str) -> RawLog:
        """See `Backend`."""
        return MemoryRawLog(stream, credential_id)


class OverS3:
    """AWS's stream over the S3 emulator, the other one in memory."""

    name = "s3"

    def __init__(self, sandbox: AwsSandbox) -> None:
        self._sandbox, self._client, self._buckets = sandbox, sandbox_client(sandbox, "s3"), count()

    def __call__(self, stream: str, credential_id: str) -> RawLog:
        """See `Backend`."""
        if stream != "aws":
            return MemoryRawLog(stream, credential_id)
        return S3RawLog(self._sandbox, self._client, f"audit-{next(self._buckets)}", credential_id)


class OverObjectStorage:
    """OCI's stream over the Object Storage emulator, the other one in memory."""

    name = "object-storage"

    def __init__(self, sandbox: OciSandbox) -> None:
        self._sandbox, self._console, self._buckets = sandbox, OciConsole(sandbox), count()

    def __call__(self, stream: str, credential_id: str) -> RawLog:
        """See `Backend`."""
        if stream != "oci":
            return MemoryRawLog(stream, credential_id)
        return ObjectStorageRawLog(
            self._sandbox, self._console, f"audit-{next(self._buckets)}", credential_id
        )


@contextmanager
def in_memory() -> Iterator[Backend]:
    """The double."""
    yield InMemory()


@contextmanager
def over_s3() -> Iterator[Backend]:
    """The shipped adapter on the emulator."""
    with AwsSandbox() as sandbox:
        yield OverS3(sandbox)


@contextmanager
def over_object_storage() -> Iterator[Backend]:
    """Likewise."""
    with OciSandbox() as sandbox:
        yield OverObjectStorage(sandbox)


BACKENDS = {"memory": in_memory, "s3": over_s3, "object-storage": over_object_storage}
