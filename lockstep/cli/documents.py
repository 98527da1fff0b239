"""What `status`, `history` and `doctor` print with `--json`, as models, and the JSON Schemas of the documentation.

    python -m lockstep.cli.documents status

Within a major version fields are only added, so a program ignores what it does not know. Times are RFC 3339 in UTC.
"""

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel


class Head(BaseModel):
    """The newest entry of an audit stream that the lock record knows."""

    seq: int
    hash: str


class ClaimInFlight(BaseModel):
    """The generation that a run has begun and not finished."""

    kind: Literal["new", "heal"]
    generation: int
    base_generation: int
    promoting: bool
    rotation_id: str


class Orders(BaseModel):
    """What an operator wants."""

    active_plan: str | None
    activate: str | None
    paused: bool
    revoke_through: int | None
    enrol: list[str]
    muted: list[str]


class StoreServes(BaseModel):
    """What a store serves. `placeholder` is null where Lockstep did not write the version, and it was not read."""

    store: str
    generation: int
    blob_generation: int
    version: str
    placeholder: bool | None


class StoreFailed(BaseModel):
    """Why what a store serves is not known; docs/errors.md lists the names."""

    store: str
    error: str


class WaitsFor(BaseModel):
    """Why a run that starts now would be skipped."""

    reason: Literal["held", "paused", "overlap", "not due"]
    until: datetime | None
    holder: str | None
    meaning: str


class NextRun(BaseModel):
    """What the next run does. `action` is null where that depends on values that were not read.

    By names it is what follows where those that Lockstep did not write are well-formed: others end a run.
    """

    action: Literal["rotate", "finish", "heal", "stop"] | None
    meaning: str
    waits_for: WaitsFor | None


class Run(BaseModel):
    """A run, as its entry in the audit log tells it, which was not verified.

    `archived` is the outcome where the entry cannot be read at once: of such a run only time and id are known.
    """

    credential: str
    cloud: Literal["aws", "oci"]
    seq: int
    rotation_id: str
    ended_at: datetime
    seconds: float | None
    outcome: Literal["rotated", "failed", "archived"]
    error: str | None
    meaning: str | None
    next: str | None
    generation: int | None
    trigger: str


class Credential(BaseModel):
    """The state of a credential.

    `read` is what was read of the stores: `names` of versions, or with --read-values `values`. `in_step` is null where
    a store did not answer, and before the first rotation where values were not read. `pending_since` is when the
    generation in `claim` was staged; null where it was not, or where that is not known.
    """

    credential: str
    holder: str | None
    fence: int
    expires_at: datetime | None
    current_generation: int | None
    alive: list[int]
    claim: ClaimInFlight | None
    next_due_at: datetime | None
    not_before: datetime | None
    heads: dict[str, Head]
    orders: Orders
    current_since: datetime | None
    leader: Literal["aws", "oci"]
    unwitnessed_since: dict[str, datetime]
    last_run: Run | None
    plan_digest: str
    in_step: bool | None
    read: Literal["names", "values"]
    pending_since: datetime | None
    stores: list[StoreServes | StoreFailed]
    next_run: NextRun | None


class Status(BaseModel):
    """What `lockstep status --json` prints. `in_step` is true only where every credential is in step."""

    in_step: bool
    credentials: list[Credential]


class History(BaseModel):
    """What `lockstep history --json` prints: runs, and the logs that were not read."""

    runs: list[Run]
    problems: list[str]


class DoctorFinding(BaseModel):
    """What a check found of one subject; docs/doctor.md lists the checks."""

    check: str
    where: str
    subject: str
    outcome: Literal["passed", "failed", "warning", "not_asked"]
    says: str
    command: str | None


class Doctor(BaseModel):
    """What `lockstep doctor --json` prints. `verdict` is the gravest outcome, where a warning is not grave."""

    verdict: Literal["passed", "failed", "not_asked"]
    counts: dict[str, int]
    findings: list[DoctorFinding]


DOCUMENTS: Mapping[str, type[BaseModel]] = {"status": Status, "history": History, "doctor": Doctor}


def schema(command: str) -> dict[str, Any]:
    """The schema of a command's document (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **DOCUMENTS[command].model_json_schema(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(sys.argv[1]), indent=2) + "\n")
