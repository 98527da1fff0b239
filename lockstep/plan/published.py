"""The published plan: a compiled plan as a folder of documents in a bucket of each cloud, under one hash (ADR 66).

A hash tree over named documents, as in RFC 6962, section 2.1: its root stands for all of them.

A leaf covers the name of its document, so a document proves its content only at its own place. Leaves and inner nodes
are hashed with different prefixes, so neither can be taken for the other.

    leaf(name, content) = SHA-256(00, length of the name in 8 bytes, name, content)
    node(left, right)   = SHA-256(01, left, right)

A node without a sibling moves up as it is. The *path* of a document is the siblings from its leaf to the root: each as
`l` or `r`, the side on which the sibling is, and 64 hexadecimal digits.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from msgspec import structs

from lockstep.plan.compiled import CompiledPlan, dumped, message, moved_ca_files, required
from lockstep.protocol.deadlines import RetryPolicy
from lockstep.protocol.errors import (
    InvalidPlanError,
    NewerFormatError,
    PlanDocumentMissingError,
    PlanDocumentRefusedError,
    PlanUnreachableError,
)
from lockstep.protocol.model import Schedule
from lockstep.protocol.names import plan_bucket_name
from lockstep.protocol.ports import Clock, Folder, Listed
from lockstep.protocol.schedule import Shard, run_key
from lockstep.protocol.strict_json import Message, MessageError, parse, read, write
from lockstep.protocol.workers import CALLS_AT_ONCE, SideBySide, at_the_same_time

LONGEST_PATH = 64
"""More siblings than any tree has."""
_STEP = re.compile(r"[lr][0-9a-f]{64}")


def tree(documents: Mapping[str, bytes]) -> tuple[str, Mapping[str, Sequence[str]]]:
    """The root of the tree over documents by name, in hexadecimal, and the path of each; there is at least one."""
    names = sorted(documents)
    paths: dict[str, list[str]] = {name: [] for name in names}
    level = [(_leaf(name, documents[name]), [name]) for name in names]
    while len(level) > 1:
        above = []
        for (left, of_left), (right, of_right) in zip(level[::2], level[1::2], strict=False):
            for name in of_left:
                paths[name].append(f"r{right.hex()}")
            for name in of_right:
                paths[name].append(f"l{left.hex()}")
            above.append((_node(left, right), of_left + of_right))
        level = above + level[len(level) - len(level) % 2 :]
    return level[0][0].hex(), paths


def root(name: str, content: bytes, path: Sequence[str]) -> str:
    """The root of the tree that has this document at this path, in hexadecimal.

    Raises:
        ValueError: It is no path.
    """
    if len(path) > LONGEST_PATH or not all(map(_STEP.fullmatch, path)):
        raise ValueError("no path of a tree")
    digest = _leaf(name, content)
    for step in path:
        sibling = bytes.fromhex(step[1:])
        digest = _node(sibling, digest) if step[0] == "l" else _node(digest, sibling)
    return digest.hex()


def _leaf(name: str, content: bytes) -> bytes:
    named = name.encode()
    return hashlib.sha256(b"\0" + len(named).to_bytes(8) + named + content).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


# The documents of a published plan, and how one of them is verified.
#
# `index.json` and the document of a credential are
#
#     {"document": …, "path": ["r…", "l…", …]}
#
# where the path is that of the document in the tree (`lockstep.plan.published`). What the tree covers is the
# document as `canonical` writes it; that of a shard, which Step Functions reads, is its whole file.

FORMAT: Final = "1"
"""Of the documents. A function is deployed with the digest of documents that its own build has written."""
MAX_DOCUMENT_BYTES = 1_048_576
"""Of a credential; it has about 3,000, and some 500 for each database."""
MAX_INDEX_BYTES = 33_554_432
"""Of `index.json`; it has about 400 for each credential."""


class CredentialDocument(Message):
    """What a function needs of one credential.

    Attributes:
        plan: The compiled plan, with this credential only.
    """

    format: Literal["1"]
    plan: CompiledPlan


class IndexedCredential(Message):
    """What needs to be known of a credential by who looks at all of them: the watch, the dispatcher in OCI.

    Attributes:
        databases: The names of its servers.
        schedule: With its phase: when AWS triggers it.
        plan_digest: As of `lockstep.protocol.model.Credential`.
    """

    id: str
    databases: tuple[str, ...]
    schedule: Schedule
    plan_digest: str


class Index(Message):
    """A plan without what only a rotation needs.

    Attributes:
        plan: What does not belong to a credential: the lock table, the stores, the audit streams, where events go. It
            has no credential.
        credentials: In the plan's order.
    """

    format: Literal["1"]
    plan: CompiledPlan
    credentials: tuple[IndexedCredential, ...]


def index_of(plan: CompiledPlan) -> Index:
    """The index of a plan.

    Args:
        plan: With all its credentials.
    """
    return Index(
        format=FORMAT,
        plan=structs.replace(plan, credentials=()),
        credentials=tuple(message(IndexedCredential, credential) for credential in plan.credentials),
    )


def canonical(document: object) -> bytes:
    """A document as the tree covers it: keys sorted, no blanks, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def enveloped(document: bytes, path: Sequence[str]) -> bytes:
    """The file of a document that verifies itself.

    Args:
        document: In its canonical form.
        path: Its path.
    """
    return b'{"document":%b,"path":%b}\n' % (document, canonical(list(path)))


def verified(file: bytes, *, name: str, digest: str, limit: int) -> Any:  # noqa: ANN401 - JSON
    """The document in a file, if it is the one of that name in the plan of that digest.

    What is returned is what was verified: the document is hashed in the form that it has once it is read.

    Args:
        file: As the bucket gave it.
        name: In the folder of the plan.
        digest: Of the plan that was deployed.
        limit: The most bytes that the file may have.

    Raises:
        PlanDocumentRefusedError: It is not. The code says `too-large`, `not-json` or `not-of-this-plan`.
    """
    if len(file) > limit:
        raise PlanDocumentRefusedError(path=name, code="too-large")
    try:
        found = parse(file)
        document, path = found["document"], found["path"]
        is_of_plan = root(name, canonical(document), path) == digest
    except (MessageError, LookupError, TypeError, ValueError, RecursionError):
        # The text of these may quote the file.
        raise PlanDocumentRefusedError(path=name, code="not-json") from None
    if not is_of_plan:
        raise PlanDocumentRefusedError(path=name, code="not-of-this-plan")
    return document


def as_message(kind: type[Any], document: object, *, name: str) -> Any:  # noqa: ANN401 - of that kind
    """A verified document as a message.

    Raises:
        NewerFormatError: Another build has written it, in a format that this one does not read.
    """
    try:
        return read(kind, document)
    except MessageError:
        raise NewerFormatError(path=name) from None


# Where a host of the functions has its plan: what the environment variable LOCKSTEP_PLAN says.
#
#     lockstep.yaml                                   a plan file, on a machine that has the parser
#     s3://BUCKET/plans/<digest>?region=…             in Amazon S3
#     oci://NAMESPACE/BUCKET/plans/<digest>?region=…  in OCI Object Storage

PLAN_NAME = "lockstep.yaml"
"""The plan file where nothing says another."""
PLANS = "plans"
"""The folder of a bucket that has the folder of each plan."""
INDEX = "index.json"
CA_FOLDER = Path("plan")
"""Where a function has the CA files of its plan, relative to its working directory."""

_ADDRESS = re.compile(
    r"(s3:/|oci://(?P<namespace>[A-Za-z0-9_-]{1,100}))/(?P<bucket>[A-Za-z0-9_.-]{3,256})"
    rf"/{PLANS}/(?P<digest>[0-9a-f]{{64}})\?region=(?P<region>[a-z0-9-]{{1,40}})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInBucket:
    """A published plan in Amazon S3, or in OCI Object Storage where it has a namespace."""

    namespace: str = ""
    bucket: str
    digest: str
    region: str

    def __str__(self) -> str:
        """Its address."""
        service = f"oci://{self.namespace}" if self.namespace else "s3:/"
        return f"{service}/{self.bucket}/{PLANS}/{self.digest}?region={self.region}"


def place_of(said: str) -> Path | PlanInBucket:
    """The place that a value of LOCKSTEP_PLAN means; a path is that of a plan file.

    Raises:
        InvalidPlanError: It begins as an address, and is none.
    """
    if found := _ADDRESS.fullmatch(said):
        return PlanInBucket(**found.groupdict(default=""))
    if said.startswith(("s3:", "oci:")):
        raise InvalidPlanError(code="not-an-address-of-a-plan")
    return Path(said)


def place_in_aws(plan: CompiledPlan, digest: str) -> PlanInBucket:
    """Where the functions in AWS find a plan."""
    stream = plan.aws_stream
    return PlanInBucket(bucket=plan_bucket_name(stream.bucket), digest=digest, region=stream.region)


def place_in_oci(plan: CompiledPlan, digest: str) -> PlanInBucket:
    """Where the function in OCI finds a plan.

    Raises:
        InvalidPlanError: OCI runs nothing.
    """
    stream = required(plan.oci_stream)
    bucket = plan_bucket_name(stream.bucket)
    return PlanInBucket(namespace=stream.namespace, bucket=bucket, digest=digest, region=stream.region)


def folder_of(digest: str) -> str:
    """The folder of a plan in a bucket."""
    return f"{PLANS}/{digest}"


def credential_name(key: str) -> str:
    """The document of a credential, in the folder of its plan.

    Args:
        key: Its `lockstep.protocol.schedule.run_key`.
    """
    return f"credentials/{key}.json"


def shard_name(name: str) -> str:
    """The document of a shard.

    Args:
        name: Its `lockstep.protocol.schedule.Shard.name`.
    """
    return f"shards/{name}.json"


# Makes the documents of a published plan. Pure: the same plan gives the same documents, on any machine.


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A plan, as it is published.

    Attributes:
        digest: The root of the tree over its documents.
        files: The files of its documents, by their names in its folder.
    """

    digest: str
    files: Mapping[str, bytes]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.files.values()))


def compile_plan(plan: CompiledPlan, shards: Sequence[Shard], folder: Path) -> Published:
    """Compile a plan.

    Args:
        plan: With all its credentials.
        shards: Of the same plan.
        folder: That of the plan file: CA files below it are named relative to it.
    """
    index = index_of(plan)
    common = dumped(index.plan, folder)
    documents = {
        credential_name(run_key(credential.id)): canonical(
            {"format": FORMAT, "plan": {**common, "credentials": [dumped(credential, folder)]}}
        )
        for credential in plan.credentials
    }
    documents[INDEX] = canonical(write(index))
    for shard in shards:
        started = [{"credential_id": key, "key": run_key(key)} for key in shard.credential_ids]
        documents[shard_name(shard.name)] = canonical(started)
    digest, paths = tree(documents)
    return Published(
        digest=digest,
        files={
            # Step Functions reads the array of a shard, so that is the file as it is.
            name: document if name.startswith("shards/") else enveloped(document, paths[name])
            for name, document in documents.items()
        },
    )


# Where a host of the functions finds a credential: in the plan that it was given, or in the published one.
#
# A source gives the compiled plan with one credential, and the index. It reads nothing before that, and each
# document at most once while it is kept.

KEPT = 256
"""So many documents are kept by a process."""


class Documents(Protocol):
    """The folder of a published plan."""

    def read(self, name: str, limit: int) -> bytes | None:
        """The file of a document, and no more than `limit` bytes and one; None where there is none.

        Raises:
            PlanUnreachableError, PlanAccessDeniedError: It cannot be had.
        """


class WholePlan:
    """A plan that is at hand."""

    def __init__(self, plan: CompiledPlan) -> None:
        self.plan = plan
        """It, with all its credentials."""

    def of(self, credential_id: str) -> CompiledPlan:
        """The plan.

        Raises:
            InvalidRequestError: It has no such credential.
        """
        self.plan.found(credential_id)
        return self.plan

    @property
    def index(self) -> Index:
        """Of it."""
        return index_of(self.plan)


class PublishedPlan:
    """A published plan, read document by document. Each is verified before it is used.

    Args:
        digest: Of the plan that was deployed.
        documents: Its folder.
        kept: So many documents of credentials are kept.
    """

    def __init__(self, digest: str, documents: Documents, *, kept: int = KEPT) -> None:
        self._digest = digest
        self._documents = documents
        self._kept = lru_cache(kept)(self._read_credential)
        self._newest: CompiledPlan | None = None

    def of(self, credential_id: str) -> CompiledPlan:
        """The plan with this credential only.

        Raises:
            PlanUnreachableError, PlanAccessDeniedError, PlanDocumentMissingError: The document cannot be had.
            PlanDocumentRefusedError, NewerFormatError: It is not used.
        """
        return self._kept(credential_id)

    @cached_property
    def index(self) -> Index:
        """The index, read once.

        Raises:
            LockstepError: As `of`.
        """
        document = self._document(INDEX, MAX_INDEX_BYTES)
        index: Index = as_message(Index, document, name=INDEX)
        return index

    @property
    def plan(self) -> CompiledPlan:
        """What does not belong to a credential, as a document that was read says it, else the index.

        Raises:
            LockstepError: As `of`.
        """
        return structs.replace(self._newest or self.index.plan, credentials=())

    def _read_credential(self, credential_id: str) -> CompiledPlan:
        name = credential_name(run_key(credential_id))
        found = self._document(name, MAX_DOCUMENT_BYTES)
        document = moved_ca_files(found, lambda path: str(CA_FOLDER / path))
        plan: CompiledPlan = as_message(CredentialDocument, document, name=name).plan
        if [c.id for c in plan.credentials] != [credential_id]:
            raise PlanDocumentRefusedError(path=name, credential=credential_id, code="another-credential")
        self._newest = plan
        return plan

    def _document(self, name: str, limit: int) -> object:
        file = self._documents.read(name, limit)
        if file is None:
            raise PlanDocumentMissingError(path=name)
        return verified(file, name=name, digest=self._digest, limit=limit)


PlanSource = WholePlan | PublishedPlan
"""A plan, by credential."""


# Brings the documents of a plan into a bucket.
#
# What is there already is not written again, so a publication that broke off goes on where it was. `index.json`
# comes last: where it is, everything is. Nothing is written over. A document with other content was written by
# somebody else: it is named, and stays.

CALL_POLICY = RetryPolicy(
    errors=(PlanUnreachableError,), attempts=5, interval_seconds=0.5, max_delay_seconds=30
)
"""For each call: it may be throttled, or not answered."""
AT_ONCE = 4 * CALLS_AT_ONCE
"""So many documents are handed to the workers; after a failure no more are."""
NO_BUCKET = frozenset({"NoSuchBucket", "BucketNotFound"})
"""Codes of PlanAccessDeniedError where there is no bucket; in OCI also where this identity may not see it."""


class PlanBucket(Folder, Protocol):
    """The folder of a plan in a bucket. Its methods raise PlanUnreachableError and PlanAccessDeniedError."""

    def tag(self, file: bytes) -> str:
        """The tag that the list gives for this content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a bucket holds of a plan.

    Attributes:
        same: The documents that are there.
        missing: Those that are to be written. The index is not, where something is different: it says that everything
            is there.
        different: Those in whose place there is something else.
    """

    same: frozenset[str]
    missing: frozenset[str]
    different: frozenset[str]


def state_of(bucket: PlanBucket, published: Published) -> State:
    """Compare a bucket with a plan: by a list, and by reading what the list does not show to be the same."""
    listed = {item.name: item for item in bucket.listed()}
    there = published.files.keys() & listed.keys()
    same = {name for name in there if _is_same(bucket, name, published.files[name], listed[name])}
    different = frozenset(there - same)
    kept_back = {INDEX} if different else set()
    missing = frozenset(published.files.keys() - there - kept_back)
    return State(same=frozenset(same), missing=missing, different=different)


def write_plan(
    bucket: PlanBucket,
    published: Published,
    names: Collection[str],
    *,
    clock: Clock,
    done: Callable[[str], None],
    side_by_side: SideBySide = at_the_same_time,
) -> frozenset[str]:
    """Write documents, `index.json` last.

    Args:
        bucket: Where to.
        published: The plan.
        names: Those to be written.
        clock: Waits between tries.
        done: Called with each name whose call has ended.
        side_by_side: Makes the calls.

    Returns:
        The names in whose place there is something else by now.

    Raises:
        PlanUnreachableError: A call was not answered, at every try. What was written stays.
        PlanAccessDeniedError: The bucket is not there, or does not let this identity write.
    """

    def put(name: str) -> bool:
        file = published.files[name]
        # A try that was not answered may have written it.
        return CALL_POLICY.call(
            lambda: bucket.create(name, file) or _is_same(bucket, name, file), clock.sleep
        )

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


def _is_same(bucket: PlanBucket, name: str, file: bytes, listed: Listed | None = None) -> bool:
    looks_same = listed and listed.size == len(file) and listed.tag == bucket.tag(file)
    return bool(looks_same) or bucket.read(name, len(file)) == file
