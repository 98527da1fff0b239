"""The documents of a published plan, and how one of them is verified.

`index.json` and the document of a credential are

    {"document": …, "path": ["r…", "l…", …]}

where the path is that of the document in the tree (`lockstep.published.merkle`). What the tree covers is the document
as `canonical` writes it; that of a shard, which Step Functions reads, is its whole file.
"""

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import structs

from lockstep.compiled import CompiledPlan
from lockstep.errors import NewerFormatError, PlanDocumentRefusedError
from lockstep.model import Schedule
from lockstep.published.merkle import PathError, root
from lockstep.strict_json import Message, MessageError, parse, read

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
        plan_digest: As of `lockstep.model.Credential`.
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
        credentials=tuple(
            IndexedCredential(id=c.id, databases=c.databases, schedule=c.schedule, plan_digest=c.plan_digest)
            for c in plan.credentials
        ),
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
        content = canonical(document)
    except (MessageError, LookupError, TypeError, ValueError, RecursionError):
        # The text of these may quote the file.
        raise PlanDocumentRefusedError(path=name, code="not-json") from None
    try:
        is_of_plan = root(name, content, path) == digest
    except (PathError, TypeError):
        is_of_plan = False
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
