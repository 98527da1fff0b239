"""A chain's objects as somebody with every right on the bucket has them, in memory and over both clouds' emulators."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple, TypeAlias, cast

from lockstep.audit.entry import look
from lockstep.protocol.ports import AuditLog
from sandbox.emulators.aws.resources import create_audit_bucket
from sandbox.emulators.aws.server import AwsSandbox
from sandbox.emulators.oci import OciSandbox
from tests.contract.aws_fixtures import sandbox_client
from tests.contract.oci_fixtures import OciConsole, sandbox_clients
from tests.support.logs import object_storage_log, s3_log
from tests.support.memory import EntryObjects, MemoryAuditLog

Object: TypeAlias = tuple[bytes, Mapping[str, str]]


class Bucket(NamedTuple):
    """What may be done to objects by their keys.

    Attributes:
        put: Writes an object, or a second version of it.
        mark: Puts a delete marker on it.
        erase: Deletes it with all its versions.
    """

    put: Callable[[str, bytes, Mapping[str, str]], object]
    mark: Callable[[str], object]
    erase: Callable[[str], object]


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


class RawLog:
    """One chain's objects.

    Args:
        log: The port, as runners and verification have it.
        bucket: Where they are.

    Attributes:
        dates: When an object was written, where that was not at its entry's own time.
    """

    def __init__(self, log: AuditLog, credential_id: str, bucket: Bucket) -> None:
        is_double = isinstance(log, MemoryAuditLog)
        self.dates: dict[int, datetime] = log.dates if isinstance(log, MemoryAuditLog) else {}
        self.log = log if is_double else cast("AuditLog", _Dated(log, self.dates))
        self._names = EntryObjects(log.stream, credential_id)
        self._bucket = bucket

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
        self._bucket.put(self._names.key(number), body, dict(metadata))

    def plant(self, name: str) -> None:
        """Write an object that is no entry."""
        self._bucket.put(f"{self._names.prefix}{name}", b"{}", {})

    def mark(self, number: int) -> None:
        """Put a delete marker on an object."""
        self._bucket.mark(self._names.key(number))

    def erase(self, *numbers: int) -> None:
        """Delete objects with all their versions: no trace is left."""
        for number in numbers:
            self._bucket.erase(self._names.key(number))
            self.dates.pop(number, None)

    def replace(self, number: int, body: bytes, metadata: Mapping[str, str]) -> None:
        """Put another object in the place of one, without a trace among the versions, and at about its time."""
        date = self.dates.get(number)
        self.erase(number)
        self.put(number, body, metadata)
        if date:
            self.dates[number] = date


Backend: TypeAlias = Callable[[str, str], RawLog]
"""Makes the empty chain of a stream and a credential, in a bucket of its own."""


def in_memory(stream: str, credential_id: str) -> RawLog:
    """A chain in the double."""
    double = MemoryAuditLog(stream, credential_id)
    number_of = double.objects.seq_of

    def put(key: str, body: bytes, metadata: Mapping[str, str]) -> None:
        number = number_of(key)
        standing = double.entries.get(number)
        if number == 0 or standing:
            double.past.setdefault(key, []).append(len(standing[0] if standing else body))
        if number:
            double.entries[number] = (body, metadata)

    def erase(key: str) -> None:
        double.entries.pop(number_of(key), None)
        double.past.pop(key, None)

    return RawLog(double, credential_id, Bucket(put, lambda key: double.delete(number_of(key)), erase))


@contextmanager
def _memory() -> Iterator[Backend]:
    yield in_memory


@contextmanager
def _s3() -> Iterator[Backend]:
    """AWS's stream over the S3 emulator; its objects are not locked, because locks are not what is asked."""
    numbers = count()
    with AwsSandbox() as sandbox:
        client = sandbox_client(sandbox, "s3")

        def made(stream: str, credential_id: str) -> RawLog:
            if stream != "aws":
                return in_memory(stream, credential_id)
            of: dict[str, Any] = {"Bucket": f"audit-{next(numbers)}"}
            create_audit_bucket(client, of["Bucket"], region=sandbox.region)

            def erase(key: str) -> None:
                listed = client.list_object_versions(**of, Prefix=key)
                for version in (*listed.get("Versions", []), *listed.get("DeleteMarkers", [])):
                    client.delete_object(**of, Key=key, VersionId=version["VersionId"])

            bucket = Bucket(
                lambda key, body, meta: client.put_object(**of, Key=key, Body=body, Metadata=meta),
                lambda key: client.delete_object(**of, Key=key),
                erase,
            )
            return RawLog(s3_log(client, of["Bucket"], credential_id), credential_id, bucket)

        yield made


@contextmanager
def _object_storage() -> Iterator[Backend]:
    """OCI's stream over the Object Storage emulator, without a retention rule."""
    numbers = count()
    with OciSandbox() as sandbox:
        console = OciConsole(sandbox)
        storage = console.storage

        def made(stream: str, credential_id: str) -> RawLog:
            if stream != "oci":
                return in_memory(stream, credential_id)
            place = (sandbox.namespace, f"audit-{next(numbers)}")
            console.create_bucket(place[1])
            log = object_storage_log(sandbox_clients(sandbox), *place, credential_id)

            def erase(key: str) -> None:
                for item in storage.list_object_versions(*place, prefix=key).data.items:
                    storage.delete_object(*place, key, version_id=item.version_id)

            bucket = Bucket(
                lambda key, body, meta: storage.put_object(*place, key, body, opc_meta=meta),
                lambda key: storage.delete_object(*place, key),
                erase,
            )
            return RawLog(log, credential_id, bucket)

        yield made


BACKENDS: dict[str, Callable[[], AbstractContextManager[Backend]]] = {
    "memory": _memory,
    "s3": _s3,
    "object-storage": _object_storage,
}
"""The stream that each does not have over an emulator is in memory."""
STREAM_OF = {"s3": "aws", "object-storage": "oci"}
