"""Foreign objects, forged metadata, archived bodies and forged lock records."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from lockstep.audit.entry import CHAIN, MAC, stored
from lockstep.audit.verify import NOT_RESTORED
from lockstep.protocol.errors import (
    AuditLogAccessDeniedError,
    AuditLogUnreachableError,
    DatabaseUnreachableError,
    LockstepError,
)
from lockstep.protocol.model import ChainHead
from lockstep.protocol.ports import AuditLog
from tests.proof.mutations import Place, _after, _made, rolled_back
from tests.proof.tampered import NEXT_RUN, Scene
from tests.support.memory import MemorySigner
from tests.support.world import rotate_again

FARTHEST_NUMBER = 10**12 - 1


def junk(
    scene: Scene, stream: str, *offsets: int, body: bytes = b"{}", head: bool = False, cut_first: int = 0
) -> None:
    """Objects without metadata, so far above the last entry; perhaps where entries were."""
    last = scene.last(stream).number
    scene.raw[stream].erase(*range(last - cut_first + 1, last + 1))
    if cut_first:
        rolled_back(scene, stream)
    for offset in offsets:
        scene.raw[stream].put(last - cut_first + offset, body, {})
    if head:
        scene.head(stream, ChainHead(seq=last + 1, hash="f" * 64))


def junk_far_away(scene: Scene, stream: str) -> None:
    """The highest number that a name can have."""
    scene.raw[stream].put(FARTHEST_NUMBER, b"{}", {})


def in_place(scene: Scene, stream: str, place: Place, body: bytes) -> None:
    """Junk in the place of an entry."""
    raw = scene.raw[stream]
    raw.replace(place(raw.numbers()), body, {})


def named(scene: Scene, stream: str, name: str) -> None:
    """An object whose name is no entry's."""
    scene.raw[stream].plant(name)


def of_another_format(scene: Scene, stream: str, *, head: bool) -> None:
    """An object of a newer build, as it says, without a valid MAC."""
    last = scene.last(stream)
    made = _made(scene, stream, _after(last), signer=MemorySigner("mine"))
    newer = ('"format":1', '"format":99')
    metadata: Mapping[str, str] = {**made.metadata, CHAIN: made.metadata[CHAIN].replace(*newer)}
    scene.raw[stream].put(last.number + 1, made.body.replace(newer[0].encode(), newer[1].encode()), metadata)
    if head:
        found = stored(last.number + 1, metadata)
        scene.head(stream, ChainHead(seq=found.number, hash=found.hash))


# Metadata


METADATA: dict[str, Callable[[Mapping[str, str]], Mapping[str, str]]] = {
    "none": lambda _: {},
    "no mac": lambda m: {CHAIN: m[CHAIN]},
    "no json": lambda m: {**m, CHAIN: "x"},
    "another number": lambda m: {**m, CHAIN: m[CHAIN].replace('"seq":', '"seq":9')},
    "another run": lambda m: {**m, CHAIN: m[CHAIN].replace('"rotation_id":"', f'"rotation_id":"{NEXT_RUN}')},
    "pretty": lambda m: {**m, CHAIN: m[CHAIN].replace(",", ", ")},
    "a mac with another key": lambda m: {**m, MAC: m[MAC].replace("{", '{"a":1,', 1)},
    "another mac": lambda m: {**m, MAC: m[MAC].replace('"value":"', '"value":"AAAA')},
}


def metadata_changed(
    scene: Scene, stream: str, place: Place, edit: Callable[[Mapping[str, str]], Mapping[str, str]]
) -> None:
    """Other metadata under the same body."""
    raw = scene.raw[stream]
    number = place(raw.numbers())
    body, metadata = raw.get(number)
    raw.replace(number, body, edit(metadata))


# Archived bodies, and readers with less rights


class _Limited:
    """A log of which something may not, or cannot, be done."""

    def __init__(self, log: AuditLog, operation: str, error: LockstepError) -> None:
        self._log, self._operation, self._error = log, operation, error

    def __getattr__(self, name: str) -> object:
        def refuse(*_args: object, **_kwargs: object) -> object:
            raise self._error

        return refuse if name == self._operation else getattr(self._log, name)


def archive(scene: Scene) -> None:
    """From now on no body of OCI's stream can be read."""
    _limit(scene, "oci", "read", AuditLogUnreachableError(stream="oci", code=NOT_RESTORED))


def without_versions(scene: Scene, stream: str) -> None:
    """The reader may not list versions."""
    _limit(scene, stream, "history", AuditLogAccessDeniedError(stream=stream))


def _limit(scene: Scene, stream: str, operation: str, error: LockstepError) -> None:
    limited = _Limited(scene.raw[stream].log, operation, error)
    scene.raw[stream].log = limited  # type: ignore[assignment]  # it has all that the port has
    scene.world.audit_logs = {**scene.world.audit_logs, stream: limited}  # type: ignore[dict-item]


def then_archived(act: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """Something that was done before the bodies were archived."""

    def archived(scene: Scene) -> None:
        act(scene)
        archive(scene)

    return archived


# The lock record


def head_forged(scene: Scene, stream: str, **forged: object) -> None:
    """Other words in a head."""
    scene.head(stream, replace(scene.world.lock.record.heads[stream], **forged))  # type: ignore[arg-type]


def head_ahead(scene: Scene, stream: str, by: int) -> None:
    """A head above the last entry."""
    scene.head(stream, ChainHead(seq=scene.last(stream).number + by, hash="f" * 64))


def head_behind(scene: Scene, stream: str, place: Place) -> None:
    """A head that names an older entry, as it is."""
    scene.head(stream, scene.at(stream, place(scene.raw[stream].numbers())).head)


def heads_exchanged(scene: Scene) -> None:
    """The head of each stream for the other."""
    heads = scene.world.lock.record.heads
    scene.head("aws", heads["oci"])
    scene.head("oci", heads["aws"])


# What is newer than the newest digest


def rotated_and_cut(scene: Scene) -> None:
    """AWS rotates, and its entry is removed before the next digest."""
    rotate_again(scene.world, "unrecorded")
    scene.raw["aws"].erase(scene.last("aws").number)
    rolled_back(scene, "aws")


def failed_and_cut(scene: Scene) -> None:
    """A run of AWS fails; its entry and its head are removed before the next digest."""

    def fail(operation: str) -> None:
        if operation == "stage":
            raise DatabaseUnreachableError

    scene.world.databases["db-1"].faults.before = fail
    with suppress(LockstepError):
        rotate_again(scene.world, "fails")
    scene.world.databases["db-1"].faults.before = lambda _operation: None
    scene.raw["aws"].erase(scene.last("aws").number)
    rolled_back(scene, "aws")
