"""Inputs and outputs of the four steps. On AWS they pass through the state machine and its history as JSON.

They hold only names, numbers and outcomes: every step reads secret values from the stores itself (protocol M1, I6).
"""

from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta

from lockstep.protocol.model import Claim, Lease, Release, StoreVersions
from lockstep.protocol.strict_json import Instant, Message, matching

ID_CHARACTERS = "A-Za-z0-9/_+=.@:-"
"""The characters of an id, as ranges of a regular expression."""
ID_LENGTH = 200
Id = Annotated[str, matching(rf"[{ID_CHARACTERS}]{{1,{ID_LENGTH}}}")]
ErrorName = Annotated[str, matching(r"[A-Za-z0-9._]{1,100}")]
MOST_SECONDS = 10**9
"""More than any interval has."""
Runner = Literal["aws", "oci"]


class RunInput(Message):
    """What starts a run of one credential, in either cloud. It is checked before the lock is acquired (protocol R6).

    Attributes:
        interval: Of its schedule, in seconds: a due time that it cannot give counts as none (protocol L17).
    """

    credential_id: Id
    trigger: Id = "manual"
    force: bool = False
    interval: Annotated[int, Meta(ge=1, le=MOST_SECONDS)] = MOST_SECONDS


class DoctorRequest(Message):
    """What `lockstep doctor --in-cloud` sends to a function: it looks, and starts nothing.

    It names no host and no credential: what is looked at is the function's own plan. It is answered by the alias
    `doctor` in AWS and by the function `doctor` in OCI, which answer nothing else; anywhere else it is refused.

    Attributes:
        silent: The names of databases to which no login is shown, since another place has seen them refuse one.
    """

    doctor: Literal["look"]
    silent: tuple[Id, ...] = ()


class Rotation(Message):
    """One run: its runner, its trigger and its fence. Every request carries it.

    Attributes:
        plan: The digest of the plan under which the run acts: Generate names it, every later step compares its own.
        head: The number of the head of the runner's own stream, as Generate read it; None if there was none. The run's
            own entry is above it (protocol E9).
        replaced: The stores in which Generate found a text that is no credential: it is replaced.
    """

    credential_id: Id
    rotation_id: Id
    runner: Runner
    trigger: Id
    started_at: Instant
    fence: int
    force: bool = False
    plan: Id | None = None
    head: int | None = None
    replaced: tuple[Id, ...] = ()

    @property
    def lease(self) -> Lease:
        """The lease that this run's writes depend on."""
        return Lease(credential_id=self.credential_id, holder=self.rotation_id, fence=self.fence)


class CandidateRef(Message):
    """A version in a store whose login may be the one that works."""

    store: Id
    version: Id


class Candidate(Message):
    """A login that may be the one that works.

    Attributes:
        ref: The best ranked version that has it.
        generations: Under which stores hold it; 0: somebody has typed it.
        stores: That serve it.
    """

    ref: CandidateRef
    generations: tuple[int, ...]
    stores: tuple[Id, ...] = ()


class Beside(Message):
    """How a database that refuses the winner of a search comes to accept it.

    Attributes:
        login: The login that works there, and is kept; None: the account is set to the winner, by consent.
    """

    database: Id
    login: CandidateRef | None


class ProbeResult(Message):
    """Output of a search: the login that every store is to serve.

    Attributes:
        proven: The databases that accept it.
        beside: The databases that refuse it.
        accepted: The generations that a database accepts: they are valid again, whatever the record says.
    """

    winner: CandidateRef
    proven: tuple[Id, ...] = ()
    beside: tuple[Beside, ...] = ()
    accepted: tuple[int, ...] = ()


class GenerateRequest(Message):
    """Input of Generate.

    Attributes:
        found: What the search has found, on the second call of a reconcile.
        refused: The databases that have refused base in this run.
    """

    rotation: Rotation
    found: ProbeResult | None = None
    refused: tuple[Id, ...] = ()


class Staged(Message, tag_field="action", tag="apply"):
    """Output of Generate, and input of ApplyDb: the value of this claim is staged in every store.

    Attributes:
        rotation: The run, with its plan.
        adopted_from: The run that made the claim, if it was another one.
        seen: What each store served before the value was staged; the promotion compares with it (protocol V10).
        promoting: Whether a store may serve the claim's value already.
        beside: For a reconcile, the databases that refuse its login.
    """

    rotation: Rotation
    claim: Claim
    adopted_from: Id | None = None
    seen: tuple[StoreVersions, ...] = ()
    promoting: bool = False
    beside: tuple[Beside, ...] = ()


class ProbeRequest(Message, tag_field="action", tag="probe"):
    """Output of Generate, and input of ApplyDb, for a reconcile: the databases must show which candidate logs in.

    Attributes:
        rotation: The run, with its plan.
        candidates: The best first.
        refused: The databases that have refused the login that all stores serve, in this run.
    """

    rotation: Rotation
    candidates: tuple[Candidate, ...]
    refused: tuple[Id, ...] = ()


class NothingToDo(Message, tag_field="action", tag="nothing"):
    """Output of Generate: every store serves what works on every database, and no rotation may begin yet.

    Attributes:
        rotation: The run, with its plan.
        proven: The databases that were seen to accept it: no longer under take-over.
    """

    rotation: Rotation
    proven: tuple[Id, ...]


GenerateResult = Staged | ProbeRequest | NothingToDo


class RevocationResult(StrEnum):
    """What is known of a generation that should be revoked."""

    REFUSED = "refused"
    UNREADABLE = "unreadable"


class RevocationCheck(Message):
    """A generation that logs in no more: a login was refused, or no store has its value to try it."""

    generation: int
    revocation: RevocationResult


class DatabaseOutcome(StrEnum):
    """What ApplyDb did to one database: made it accept pending, or saw that it does."""

    APPLIED = "applied"
    PROVEN = "proven"


class DatabaseResult(Message):
    """Output of ApplyDb, for one database.

    Attributes:
        revoked: The generations that were valid and are revoked on this database now.
        taken_over: Whether its account was taken over without a login that works, by order.
        behind: Its verify hosts that have failed, where the run went on without them.
    """

    database: Id
    outcome: DatabaseOutcome
    revoked: tuple[RevocationCheck, ...] = ()
    taken_over: bool = False
    plaintext: bool = False
    behind: tuple[str, ...] = ()


class ApplyResult(Message):
    """Output of ApplyDb."""

    databases: tuple[DatabaseResult, ...]


class BaseRefused(Message):
    """Output of ApplyDb where a database refuses base: nothing was changed.

    Attributes:
        refused: The databases.
    """

    refused: tuple[Id, ...]


class RevokeRequest(Message, tag_field="action", tag="revoke"):
    """Input of ApplyDb after the promotion, in an emergency: leave nothing valid but the claim's generation."""

    rotation: Rotation
    claim: Claim


class Revoked(Message):
    """What a revocation ended on one database.

    Attributes:
        behind: Its verify hosts of which nothing is known.
    """

    database: Id
    revoked: tuple[RevocationCheck, ...]
    behind: tuple[str, ...] = ()


class RevokeResult(Message):
    """Output of a revocation."""

    databases: tuple[Revoked, ...]


DatabaseRequest = Staged | ProbeRequest | RevokeRequest


class UpdateRequest(Message):
    """Input of UpdateSecrets.

    Attributes:
        proven: The databases that were seen to accept the claim's generation.
        seen: What each store served before the value was staged, as Generate has said.
    """

    rotation: Rotation
    claim: Claim
    proven: tuple[Id, ...]
    seen: tuple[StoreVersions, ...] = ()


class StoreResult(Message):
    """What one store serves now."""

    store: Id
    version: Id


class UpdateResult(Message):
    """Output of UpdateSecrets.

    Attributes:
        promoted_at: When every store was seen to serve the generation.
        revoke: Whether an order wants everything but this generation revoked now.
    """

    stores: tuple[StoreResult, ...]
    promoted_at: Instant
    revoke: bool


class RotatedRun(Message, kw_only=True, tag_field="outcome", tag="rotated"):
    """Input of Audit after a success: what the steps reported."""

    rotation: Rotation
    claim: Claim
    adopted_from: Id | None = None
    databases: tuple[DatabaseResult, ...]
    stores: tuple[StoreResult, ...]
    promoted_at: Instant
    revoked: tuple[Revoked, ...] = ()


class FailedRun(Message, kw_only=True, tag_field="outcome", tag="failed"):
    """Input of Audit after a failure: what the steps before it reported.

    Attributes:
        claim: None where the run failed before it had one.
        error: The error's name, never its text.
    """

    rotation: Rotation
    claim: Claim | None = None
    adopted_from: Id | None = None
    databases: tuple[DatabaseResult, ...] = ()
    stores: tuple[StoreResult, ...] = ()
    revoked: tuple[Revoked, ...] = ()
    error: ErrorName


Run = RotatedRun | FailedRun
"""Input of Audit: what it records of a run that held the lock."""


class Entry(Message):
    """An audit entry.

    Attributes:
        stream: Whose: that of AWS or of OCI.
        seq: Its number there.
    """

    stream: Runner
    seq: int


class Recorded(Entry):
    """Output of Audit: the entry's place in the chain, and its hash."""

    hash: str


class Promoted(Message):
    """Every store serves a new generation, and the run that did it is over.

    Attributes:
        credential: Its id in the plan.
        runner: Who rotated.
        rotation: The run, as its audit entry names it.
        trigger: What started the run, such as `schedule` or `manual`.
        kind: `new` has a password of its own; `reconcile` gives a login that worked already a new generation.
        generation: What the stores serve now.
        previous_generation: What it follows; 0 for a value that Lockstep did not make.
        stores: Their names in the plan.
        promoted_at: When every store was seen to serve it.
        overlap_ends_at: Until when the value before it logs in at the least; null where this run has ended it, and
            after a reconcile, which ends nothing. It is the next rotation that ends it (protocol C11).
        revoked: Whether the run has ended every other value, as an operator ordered.
        adopted: Whether another run began the generation.
        entry: The audit entry of the run.
    """

    credential: Id
    runner: Runner
    rotation: Id
    trigger: Id
    kind: Literal["new", "reconcile"]
    generation: int
    previous_generation: int
    stores: tuple[Id, ...]
    promoted_at: Instant
    overlap_ends_at: Instant | None
    revoked: bool
    adopted: bool
    entry: Entry


class RecordedRotation(Recorded):
    """Output of Audit after a success.

    Attributes:
        release: What ReleaseLock writes.
        promoted: What the run has done, as others are told of it when the lock is free again (protocol E18).
    """

    release: Release
    promoted: Promoted
