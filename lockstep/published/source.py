"""Where a host of the functions finds a credential: in the plan that it was given, or in the published one.

A source gives the compiled plan with one credential, and the index. It reads nothing before that, and each document at
most once while it is kept.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from typing import Protocol

from msgspec import structs

from lockstep.compiled import CompiledPlan, moved_ca_files
from lockstep.errors import (
    InvalidRequestError,
    PlanAccessDeniedError,
    PlanDocumentMissingError,
    PlanDocumentRefusedError,
    PlanUnreachableError,
)
from lockstep.published.documents import (
    MAX_DOCUMENT_BYTES,
    MAX_INDEX_BYTES,
    CredentialDocument,
    Index,
    as_message,
    index_of,
    verified,
)
from lockstep.published.places import INDEX, credential_name
from lockstep.shards import run_key

KEPT = 256
"""So many documents are kept by a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An object in the folder of a plan.

    Attributes:
        name: In that folder.
        size: In bytes.
        tag: What the service says of its content; the content has it if it is the same.
    """

    name: str
    size: int
    tag: str


class Documents(Protocol):
    """The folder of a published plan."""

    def read(self, name: str, limit: int) -> bytes | None:
        """The file of a document, and no more than `limit` bytes and one; None where there is none.

        Raises:
            PlanUnreachableError, PlanAccessDeniedError: It cannot be had.
        """


def whole(body: bytes, *, length: int, limit: int, name: str) -> bytes:
    """What was read of a document, if it is as much as there is to be read.

    Args:
        body: What was read.
        length: Of the object.
        limit: As given to `Documents.read`.
        name: The document's.

    Raises:
        PlanUnreachableError: The connection was cut.
    """
    if len(body) < min(length, limit + 1):
        raise PlanUnreachableError(path=name, code="cut")
    return body


class PlanSource(ABC):
    """A plan, by credential."""

    @abstractmethod
    def of(self, credential_id: str) -> CompiledPlan:
        """The plan with at least this credential.

        Raises:
            InvalidRequestError: The plan has no such credential.
            PlanUnreachableError, PlanAccessDeniedError, PlanDocumentMissingError: The document cannot be had.
            PlanDocumentRefusedError, NewerFormatError: It is not used.
        """

    @property
    @abstractmethod
    def index(self) -> Index:
        """What is known of all credentials.

        Raises:
            LockstepError: As `of`.
        """

    @property
    @abstractmethod
    def plan(self) -> CompiledPlan:
        """What does not belong to a credential. Whether it also has credentials depends on the source.

        Raises:
            LockstepError: As `of`.
        """


class WholePlan(PlanSource):
    """A plan that is at hand."""

    def __init__(self, plan: CompiledPlan) -> None:
        self._plan = plan

    def of(self, credential_id: str) -> CompiledPlan:
        """The plan."""
        if self._plan.credential(credential_id) is None:
            raise InvalidRequestError(credential=credential_id)
        return self._plan

    @property
    def index(self) -> Index:
        """Of it."""
        return index_of(self._plan)

    @property
    def plan(self) -> CompiledPlan:
        """It, with all its credentials."""
        return self._plan


class PublishedPlan(PlanSource):
    """A published plan, read document by document. Each is verified before it is used.

    Args:
        digest: Of the plan that was deployed.
        documents: Its folder.
        ca_folder: Where the CA files of the plan are.
        kept: So many documents of credentials are kept.
    """

    def __init__(self, digest: str, documents: Documents, *, ca_folder: Path, kept: int = KEPT) -> None:
        self._digest = digest
        self._documents = documents
        self._ca_folder = ca_folder
        self._kept = kept
        self._plans: OrderedDict[str, CompiledPlan] = OrderedDict()
        self._index: Index | None = None
        self._reading_index = RLock()
        self._keeping = Lock()

    def of(self, credential_id: str) -> CompiledPlan:
        """The plan with this credential only."""
        with self._keeping:
            if credential_id in self._plans:
                self._plans.move_to_end(credential_id)
                return self._plans[credential_id]
        plan = self._read_credential(credential_id)
        with self._keeping:
            self._plans[credential_id] = plan
            while len(self._plans) > self._kept:
                self._plans.popitem(last=False)
        return plan

    @property
    def index(self) -> Index:
        """The index, read once."""
        with self._reading_index:
            if self._index is None:
                document = self._document(INDEX, MAX_INDEX_BYTES)
                self._index = as_message(Index, document, name=INDEX)
            return self._index

    @property
    def plan(self) -> CompiledPlan:
        """As a document that was read says it, else the index."""
        with self._keeping:
            found = next(reversed(self._plans.values()), None)
        return structs.replace(found or self.index.plan, credentials=())

    def _read_credential(self, credential_id: str) -> CompiledPlan:
        name = credential_name(run_key(credential_id))
        document = moved_ca_files(
            self._document(name, MAX_DOCUMENT_BYTES), lambda path: str(self._ca_folder / path)
        )
        plan: CompiledPlan = as_message(CredentialDocument, document, name=name).plan
        if [c.id for c in plan.credentials] != [credential_id]:
            raise PlanDocumentRefusedError(path=name, credential=credential_id, code="another-credential")
        return plan

    def _document(self, name: str, limit: int) -> object:
        file = self._documents.read(name, limit)
        if file is None:
            raise PlanDocumentMissingError(path=name)
        return verified(file, name=name, digest=self._digest, limit=limit)


class FolderOfPlan:
    """The folder of a published plan on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str, limit: int) -> bytes | None:
        """The file of a document, and no more than `limit` bytes and one; None where there is none."""
        try:
            with (self._folder / name).open("rb") as file:
                return file.read(limit + 1)
        except FileNotFoundError:
            return None
        except PermissionError:
            raise PlanAccessDeniedError(path=name) from None
        except OSError as error:
            raise PlanUnreachableError(path=name, code=type(error).__name__) from None
