"""Brings the documents of a plan into a bucket.

What is there already is not written again, so a publication that broke off goes on where it was. `index.json` comes
last: where it is, everything is. Nothing is written over. A document with other content was written by somebody else:
it is named, and replaced only by order. It stays as an older version.
"""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from lockstep.errors import PlanUnreachableError
from lockstep.ports import Clock
from lockstep.published.compiling import Published
from lockstep.published.places import INDEX
from lockstep.published.source import Documents, FolderOfPlan, Listed
from lockstep.timing import CALLS_AT_ONCE
from lockstep.workers import SideBySide, at_the_same_time

T = TypeVar("T")

TRIES = 6
"""Of a call that is throttled or not answered."""
AT_ONCE = 4 * CALLS_AT_ONCE
"""So many documents are handed to the workers; after a failure no more are."""
NO_BUCKET = frozenset({"NoSuchBucket", "BucketNotFound"})
"""Codes of PlanAccessDeniedError where there is no bucket; in OCI also where this identity may not see it."""
FIRST_WAIT_SECONDS = 0.5
"""After the first of them; then twice as long each."""


class PlanBucket(Documents, Protocol):
    """The folder of a plan in a bucket. Its methods raise PlanUnreachableError and PlanAccessDeniedError."""

    def create(self, name: str, file: bytes) -> bool:
        """Write a document; False where the name is taken."""

    def delete(self, name: str) -> None:
        """Delete a document, if it is there; in a bucket with versions it stays as an older one."""

    def listed(self) -> Iterator[Listed]:
        """What is in the folder."""

    def tag(self, file: bytes) -> str:
        """The tag that the list gives for this content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a bucket holds of a plan.

    Attributes:
        same: The documents that are there.
        missing: Those that are not.
        different: Those in whose place there is something else.
    """

    same: frozenset[str]
    missing: frozenset[str]
    different: frozenset[str]

    def wanting(self, *, replace: bool = False) -> frozenset[str]:
        """What is to be written.

        Args:
            replace: Also in the place of something else.
        """
        if replace:
            return self.missing | self.different
        # The index says that everything is there.
        return self.missing - {INDEX} if self.different else self.missing


def state_of(bucket: PlanBucket, published: Published) -> State:
    """Compare a bucket with a plan: by a list, and by reading what the list does not show to be the same."""
    listed = {item.name: item for item in bucket.listed()}
    there = published.files.keys() & listed.keys()
    same = {name for name in there if _looks_same(bucket, listed[name], published.files[name])}
    same |= {name for name in there - same if _is_same(bucket, name, published.files[name])}
    return State(
        same=frozenset(same),
        missing=frozenset(published.files.keys() - there),
        different=frozenset(there - same),
    )


def write(
    bucket: PlanBucket,
    published: Published,
    names: Collection[str],
    *,
    clock: Clock,
    done: Callable[[str], None],
    replacing: Collection[str] = (),
    side_by_side: SideBySide = at_the_same_time,
) -> frozenset[str]:
    """Write documents, `index.json` last.

    Args:
        bucket: Where to.
        published: The plan.
        names: Those to be written.
        clock: Waits between tries.
        done: Called with each name whose call has ended.
        replacing: Those of them of which something else is to be deleted first.
        side_by_side: Makes the calls.

    Returns:
        The names in whose place there is something else by now.

    Raises:
        PlanUnreachableError: A call was not answered, at every try. What was written stays.
        PlanAccessDeniedError: The bucket is not there, or does not let this identity write.
    """

    def put(name: str) -> bool:
        file = published.files[name]
        # Somebody else may have replaced it meanwhile, and functions read it.
        if name in replacing and not _tried(lambda: _is_same(bucket, name, file), clock):
            _tried(lambda: bucket.delete(name), clock)
        # A try that was not answered may have written it.
        return _tried(lambda: bucket.create(name, file) or _is_same(bucket, name, file), clock)

    different: set[str] = set()
    wanted = sorted(set(names) - {INDEX})
    for first in range(0, len(wanted), AT_ONCE):
        batch = wanted[first : first + AT_ONCE]
        for name, is_there in zip(batch, side_by_side([partial(put, name) for name in batch]), strict=True):
            done(name)
            different |= set() if is_there else {name}
    if INDEX in names and not different:
        different |= set() if put(INDEX) else {INDEX}
        done(INDEX)
    return frozenset(different)


def write_folder(published: Published, folder: Path, ca_files: Mapping[Path, Path]) -> None:
    """Write the documents of a plan into a folder of this machine, with the CA files of the plan below it.

    Args:
        published: The plan.
        folder: Whose name is its digest.
        ca_files: By the paths that the documents name.
    """
    there = FolderOfPlan(folder)
    for name in sorted(published.files, key=INDEX.__eq__):
        content = published.files[name]
        if there.read(name, len(content)) != content:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    for path, source in ca_files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / path)


def _tried(call: Callable[[], T], clock: Clock) -> T:
    for number in range(TRIES - 1):
        try:
            return call()
        except PlanUnreachableError:
            clock.sleep(FIRST_WAIT_SECONDS * 2**number)
    return call()


def _looks_same(bucket: PlanBucket, listed: Listed, file: bytes) -> bool:
    return listed.size == len(file) and listed.tag == bucket.tag(file)


def _is_same(bucket: PlanBucket, name: str, file: bytes) -> bool:
    return bucket.read(name, len(file)) == file
