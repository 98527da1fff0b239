"""What the commands print with `--json`, unless it is a list or a few fields of what they have in hand.

Within a major version fields are only added, so a program ignores what it does not know. Times are RFC 3339 in UTC. A
field that is UNSET is left out.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from lockstep.audit.confirmed import Verdict as AuditVerdict
from lockstep.databases.findings import Finding, Outcome
from lockstep.operate.verdict import Reason, Verdict
from lockstep.plan.file import Problem
from lockstep.protocol.model import ChainHead

Time = Annotated[datetime, Meta(tz=True)]
Action = Literal["rotate", "finish", "reconcile", "stop"]
"""What a run does."""


class Error(Struct, frozen=True, kw_only=True):
    """An error; the documentation lists the names. `problems` are there where the arguments or the plan are wrong."""

    name: str
    meaning: str
    where: Mapping[str, Any] | UnsetType = UNSET
    next: str | UnsetType | None = UNSET
    during: str | UnsetType | None = UNSET
    problems: Sequence[Problem] | UnsetType = UNSET
    exit_code: int = 0


class ClaimInFlight(Struct, frozen=True, kw_only=True):
    """The generation that a run has begun and not finished."""

    kind: Literal["new", "reconcile"]
    generation: int
    base_generation: int
    promoting: bool
    rotation_id: str


class Orders(Struct, frozen=True, kw_only=True):
    """What an operator wants."""

    active_plan: str | None
    activate: str | None
    paused: bool
    revoke_through: int | None
    take_over: list[str]


class StoreServes(Struct, frozen=True, kw_only=True):
    """What a store serves, or why that is not known: `error`, the name of an error.

    `placeholder` is null where Lockstep did not write the version, and it was not read.
    """

    store: str
    generation: int | UnsetType = UNSET
    blob_generation: int | UnsetType = UNSET
    version: str | UnsetType = UNSET
    placeholder: bool | UnsetType | None = UNSET
    error: str | UnsetType = UNSET


class WaitsFor(Struct, frozen=True, kw_only=True):
    """Why a run that starts now would be skipped."""

    reason: Literal["held", "paused", "not due"]
    until: Time | None
    holder: str | None
    meaning: str


class NextRun(Struct, frozen=True, kw_only=True):
    """What the next run does. `action` is null where that depends on values that were not read.

    By names it is what follows where those that Lockstep did not write are well-formed, and not the recorded login.
    """

    action: Action | None
    meaning: str
    waits_for: WaitsFor | None


class Run(Struct, frozen=True, kw_only=True):
    """A run, as its entry in the audit log tells it, which was not verified.

    `archived` is the outcome where the entry cannot be read at once: of such a run only time and id are known.
    """

    credential: str
    cloud: Literal["aws", "oci"]
    seq: int
    rotation_id: str
    ended_at: Time
    seconds: float | None = None
    outcome: Literal["rotated", "failed", "archived"]
    error: str | None = None
    meaning: str | None = None
    advice: str | None = None
    kind: Literal["new", "reconcile"] | None = None
    generation: int | None = None
    base_generation: int | None = None
    trigger: str = "?"


class Record(Struct, frozen=True, kw_only=True):
    """The lock record of a credential."""

    credential: str
    holder: str | None
    fence: int
    expires_at: Time | None
    current_generation: int | None
    valid: list[int]
    claim: ClaimInFlight | None
    next_due_at: Time | None
    not_before: Time | None
    heads: Mapping[str, ChainHead]


class Credential(Record, frozen=True, kw_only=True):
    """The state of a credential.

    `read` is what was read of the stores: `names` of versions, or with --read-values `values`. `in_sync` is null where
    a store did not answer, and before the first rotation where values were not read.
    """

    orders: Orders
    current_since: Time | None
    next_cloud: Literal["aws", "oci"]
    last_run: Run | None
    plan_digest: str
    verdict: Verdict
    reasons: Sequence[Reason]
    in_sync: bool | None
    read: Literal["names", "values"]
    stores: list[StoreServes]
    next_run: NextRun | None


class Status(Struct, frozen=True, kw_only=True):
    """What `lockstep status --json` prints. `verdict` is the worst; `evidence` says what is the matter with the log."""

    verdict: Verdict
    evidence: Sequence[Reason]
    credentials: list[Credential]


class History(Struct, frozen=True, kw_only=True):
    """What `lockstep history --json` prints: runs, and the logs that were not read."""

    runs: list[Run]
    problems: list[str]


class Doctor(Struct, frozen=True, kw_only=True):
    """What `lockstep doctor --json` prints. `verdict` is the gravest outcome, where a warning is not grave."""

    verdict: Outcome
    counts: dict[str, int]
    findings: Sequence[Finding]


class Chain(Struct, frozen=True, kw_only=True):
    """A verified audit stream."""

    credential: str
    stream: str
    verdict: AuditVerdict
    entries: int
    uncovered: int
    problems: Sequence[str]
    notes: Sequence[str]
    error: str | None


class DigestsShown(Struct, frozen=True, kw_only=True):
    """The digests of one cloud; `confirmed` names the newest one that the other cloud has confirmed, for `--since`."""

    stream: str
    digests: int
    keys: Sequence[str]
    confirmed: str | None
    confirmed_until: Time | None
    problems: Sequence[str]
    notes: Sequence[str]
    error: str | None


LoginState = Literal[
    "current", "current or previous", "in rotation", "previous", "revoked", "not rotated yet"
]
"""Of the login that a username has now."""


class Login(Struct, frozen=True, kw_only=True):
    """A username of a credential, and what its login is.

    Attributes:
        generations: Which it may be, the newest first. With one username all that are valid, since a server does not
            say which password a session used; with two at most one. Empty: none logs in.
    """

    username: str
    state: LoginState
    generations: Sequence[int] = ()


class ClientSessions(Struct, frozen=True, kw_only=True):
    """The sessions of an application on a host."""

    host: str | None
    application: str
    sessions: int


class SessionsOfLogin(Struct, frozen=True, kw_only=True):
    """The sessions of a username on a server."""

    username: str
    sessions: int
    connected_before_current: int | None
    oldest_seconds: float | None
    clients: list[ClientSessions]
    clients_in_all: int


class SessionsOfServer(Struct, frozen=True, kw_only=True):
    """What a server or verify host counted, or why it did not: `error`; `grants` let it show more, such as `hidden`.

    The sessions of one that is `same_server_as` another are counted there.
    """

    database: str
    counted: bool = False
    error: str | None = None
    meaning: str | None = None
    same_server_as: str | None = None
    ages_are_exact: bool = True
    hidden: str = ""
    grants: Sequence[str] = ()
    sessions: Sequence[SessionsOfLogin] = ()


class SessionsOfCredential(Struct, frozen=True, kw_only=True):
    """The open sessions of a credential."""

    credential: str
    current_generation: int | None
    promoted_at: Time | None
    logins: Sequence[Login]
    servers: list[SessionsOfServer]


class StateOfMachine(Struct, frozen=True, kw_only=True):
    """A state that an execution has entered."""

    state: str
    entered_at: Time


class Rotated(Struct, frozen=True, kw_only=True):
    """What `lockstep rotate --json` prints. `waits_for` is there where the run was skipped, `error` where it failed."""

    execution: str
    status: str
    outcome: str | UnsetType = UNSET
    generation: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    cause: str | UnsetType | None = UNSET
    next: str | UnsetType | None = UNSET
    waits_for: WaitsFor | UnsetType | None = UNSET
    states: Sequence[StateOfMachine]


DOCUMENTS: Mapping[str, type[Struct]] = {"status": Status, "history": History, "doctor": Doctor}
"""Those whose schema the documentation has."""


def schema(kind: type[Struct]) -> dict[str, Any]:
    """The schema of a document (JSON Schema 2020-12)."""
    (_,), defs = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    whole = defs.pop(kind.__name__)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole, "$defs": defs}


FEW = 20
"""So many credentials are few: records are read one by one, orders given one after the other, and all is shown."""


class Exit(IntEnum):
    """Exit codes."""

    NO = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_CONFIRMED = 4
    DOWN = 5
