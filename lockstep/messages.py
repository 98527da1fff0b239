"""Inputs and outputs of the four steps. On AWS they pass through the state machine and its history as JSON.

They hold only names, numbers and outcomes: every step reads secret values from the stores itself (protocol M9, I6).
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from lockstep.model import Claim, Lease

ID_CHARACTERS = "A-Za-z0-9/_+=.@:-"
"""The characters of an id, as ranges of a regular expression."""
ID_LENGTH = 200
Id = Annotated[str, StringConstraints(pattern=rf"^[{ID_CHARACTERS}]{{1,{ID_LENGTH}}}$")]


class Message(BaseModel):
    """A payload. An unknown field makes it invalid."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunInput(Message):
    """What starts a run of one credential, in either cloud. It is checked before the lock is acquired (protocol R6)."""

    credential_id: Id
    trigger: Id = "manual"
    force: StrictBool = False
    revoke_previous: StrictBool = False


class Rotation(Message):
    """One run: its runner, its trigger and its fence. Every request carries it."""

    credential_id: Id
    rotation_id: Id
    runner: Literal["aws", "oci"]
    trigger: Id
    started_at: AwareDatetime
    fence: int
    force: bool = False
    revoke_previous: bool = False

    @property
    def lease(self) -> Lease:
        """The lease that this run's writes depend on."""
        return Lease(credential_id=self.credential_id, holder=self.rotation_id, fence=self.fence)


class CandidateRef(Message):
    """A version in a store whose login may be the one that works."""

    store: Id
    version: Id


class Probes(Message):
    """Which candidates log in, for each database."""

    candidates: tuple[CandidateRef, ...]
    databases: tuple["ProbeResult", ...]


class GenerateRequest(Message):
    """Input of Generate.

    Attributes:
        probes: Which candidates log in, on the second call of a heal.
        replaces: A claim to replace: a database's policy refused its password, and every database has withdrawn it.
    """

    rotation: Rotation
    probes: Probes | None = None
    replaces: Claim | None = None


class Staged(Message):
    """Output of Generate: the value of this claim is staged in every store.

    Attributes:
        databases: Every database of the credential.
        adopted: Whether an earlier run made the claim.
    """

    outcome: Literal["staged"] = "staged"
    databases: tuple[Id, ...]
    claim: Claim
    adopted: bool


class ProbeNeeded(Message):
    """Output of Generate: the stores disagree, so each database must be asked which candidate logs in."""

    outcome: Literal["probe"] = "probe"
    databases: tuple[Id, ...]
    candidates: tuple[CandidateRef, ...]


GenerateResult = Annotated[Staged | ProbeNeeded, Field(discriminator="outcome")]


class ApplyRequest(Message):
    """Input of ApplyDb, for one database."""

    action: Literal["apply"] = "apply"
    rotation: Rotation
    claim: Claim
    database: Id


class PreviousProof(StrEnum):
    """What a login with the generation before base showed."""

    REFUSED = "refused"
    NONE = "none"
    UNREADABLE = "unreadable"


class DatabaseOutcome(StrEnum):
    """What ApplyDb did to one database."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    REFUSED_BY_POLICY = "refused_by_policy"


class DatabaseResult(Message):
    """Output of ApplyDb, for one database."""

    database: Id
    outcome: DatabaseOutcome
    previous: PreviousProof = PreviousProof.NONE
    plaintext: bool = False


class ProbeRequest(Message):
    """Input of ApplyDb when stores disagree: which candidates does this database accept?"""

    action: Literal["probe"]
    rotation: Rotation
    database: Id
    candidates: tuple[CandidateRef, ...]


class ProbeResult(Message):
    """Output of a probe."""

    database: Id
    accepted: tuple[bool, ...]


class RetireRequest(Message):
    """Input of ApplyDb to end a value: pending (`withdraw`) or base (`revoke`)."""

    action: Literal["withdraw", "revoke"]
    rotation: Rotation
    claim: Claim
    database: Id


class RetireResult(Message):
    """Output of withdraw and revoke.

    Attributes:
        retired_generation: The generation whose login this database now refuses. None where there was nothing to
            retire: the value has no login, or the value that is kept has the same login.
    """

    database: Id
    retired_generation: int | None


DatabaseRequest = Annotated[ApplyRequest | ProbeRequest | RetireRequest, Field(discriminator="action")]


class UpdateRequest(Message):
    """Input of UpdateSecrets."""

    rotation: Rotation
    claim: Claim


class StoreResult(Message):
    """What one store serves now."""

    store: Id
    version: Id


class UpdateResult(Message):
    """Output of UpdateSecrets."""

    stores: tuple[StoreResult, ...]
    promoted_at: AwareDatetime


class RotatedRun(Message):
    """Input of Audit after a success: what the steps reported."""

    outcome: Literal["rotated"] = "rotated"
    rotation: Rotation
    claim: Claim
    adopted: bool
    databases: tuple[DatabaseResult, ...]
    stores: tuple[StoreResult, ...]
    promoted_at: AwareDatetime
    revoked: tuple[RetireResult, ...]


class FailedRun(Message):
    """Input of Audit after a failure: what the steps before it reported.

    Attributes:
        claim: None where the run failed before it had one.
        error: The error's name, never its text.
    """

    outcome: Literal["failed"] = "failed"
    rotation: Rotation
    claim: Claim | None = None
    adopted: bool = False
    databases: tuple[DatabaseResult, ...] = ()
    stores: tuple[StoreResult, ...] = ()
    revoked: tuple[RetireResult, ...] = ()
    error: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._]{1,100}$")]


AuditRequest = Annotated[RotatedRun | FailedRun, Field(discriminator="outcome")]


class ReleaseValues(Message):
    """What ReleaseLock writes: generations, and epoch seconds."""

    current_generation: int
    previous_generation: int | None
    next_due_at: int
    not_before: int


class Recorded(Message):
    """Output of Audit: the entry's place in the chain, and its hash."""

    stream: str
    seq: int
    hash: str


class RecordedRotation(Recorded):
    """Output of Audit after a success, with what ReleaseLock writes."""

    release: ReleaseValues
