"""How many calls a rotation makes: `calls.json`, which `python -m sandbox.count_calls` counts and compares."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("calls.json")
FLOWS = (
    "aws rotation",
    "aws cold start",
    "aws look",
    "oci rotation",
    "oci skip",
    "oci cold start",
    "oci look",
)
"""What is counted: a rotation by either runner, and the function where nothing is due, all with their process warm; and
what is added by functions whose processes have just started, and by a look at the other cloud's audit log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the number of calls depends on.

    Attributes:
        databases: Of the credential.
        ring: Slots of a secret's ring in OCI; None: no store is there.
    """

    databases: int
    ring: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coefficients:
    """What a count is the sum of.

    Attributes:
        always: With any shape.
        database: For each database.
        oci: With a store in OCI.
        slot: For each slot of its ring.
    """

    always: int = 0
    database: int = 0
    oci: int = 0
    slot: int = 0

    def count(self, shape: Shape) -> int:
        """How often a shape makes the call."""
        in_oci = 0 if shape.ring is None else self.oci + self.slot * shape.ring
        return self.always + self.database * shape.databases + in_oci

    def as_document(self) -> dict[str, int]:
        """What is not zero."""
        return {name: value for name, value in asdict(self).items() if value}


class Call(NamedTuple):
    """A call, and the step that makes it: a function's, `machine` or `function` (that of OCI)."""

    step: str
    service: str
    operation: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted.

    Attributes:
        counted_on: When, as YYYY-MM-DD.
        transitions: States that an execution enters.
        events: Events in its history.
        bytes: Sizes of a `lock_record` and an `audit_entry`.
        flows: By the name of a flow, the calls.
    """

    counted_on: str
    transitions: int
    events: int
    bytes: Mapping[str, int]
    flows: Mapping[str, Mapping[Call, Coefficients]]

    def calls(self, flow: str, shape: Shape) -> Iterator[tuple[Call, int]]:
        """Each call of a flow, with its number."""
        for call, coefficients in self.flows[flow].items():
            yield call, coefficients.count(shape)

    def number(self, flow: str, shape: Shape, service: str, *operations: str) -> int:
        """The calls of a service; of all of its operations, if none is named."""
        return sum(
            count
            for call, count in self.calls(flow, shape)
            if call.service == service and (not operations or call.operation in operations)
        )


@cache
def read_counted() -> Counted:
    """What the file says."""
    document: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return Counted(
        counted_on=document["counted_on"],
        transitions=document["machine"]["transitions"],
        events=document["machine"]["events"],
        bytes=document["bytes"],
        flows={
            flow: {Call(*call.split(" ")): Coefficients(**each) for call, each in calls.items()}
            for flow, calls in document["flows"].items()
        },
    )
