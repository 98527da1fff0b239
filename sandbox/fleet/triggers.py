"""Fires the deployed rules of a fleet's shards, as EventBridge does, and reads what has become of their rotations."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from lockstep.protocol.deadlines import CLOCK_SKEW
from lockstep.protocol.model import Credential
from lockstep.protocol.schedule import Shard, run_key
from sandbox.deployed_world import STACK
from sandbox.emulators.aws.deployed import Schedule
from sandbox.fleet.world import Fleet, Tell
from sandbox.plans import LOCK_TABLE

ROTATED = "rotated"
REPEATED = "repeated"
LATE = "StartedLateError"
_MINUTE = timedelta(minutes=1)
_AHEAD = CLOCK_SKEW * 0.9
"""So far an event may be ahead."""
_POLL_SECONDS = 1.0
_TELL_SECONDS = 15.0
_LONGEST_SECONDS = 900.0
_TIMES = ("expires_at", "next_due_at", "not_before")
"""The attributes of a lock record that are times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a rule, and what it has started.

    Attributes:
        shard: Its name.
        at: The time of the event, whole seconds.
        arn: Of the execution of the fleet.
    """

    shard: str
    at: datetime
    arn: str

    @property
    def tick(self) -> int:
        """The minute that names the executions of rotations, since the epoch."""
        return int(self.at.timestamp()) // 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """A rotation that has ended.

    Attributes:
        outcome: Of its execution, or the name of its error.
        waited: From the event to its end.
    """

    credential_id: str
    outcome: str
    began: datetime
    waited: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What has become of an event.

    Attributes:
        error: Of the execution of the fleet; empty where it succeeded.
        items: How each item of the Map has ended, by credential: an outcome, or the name of an error.
        rotations: The executions under the names of this tick, of this shard.
        seconds: From the event to the end of the fleet's execution.
    """

    event: Event
    error: str
    items: Mapping[str, str]
    rotations: Sequence[Rotation]
    seconds: float

    @property
    def rotated(self) -> set[str]:
        """The credentials that have a new password."""
        return {r.credential_id for r in self.rotations if r.outcome == ROTATED}

    @property
    def outcomes(self) -> Counter[str]:
        """How often which end."""
        return Counter(self.items.values())


@dataclass
class Triggers:
    """The rules of a fleet.

    Attributes:
        tell: Told of progress.
        gap: Let time pass in reality too, before a credential is rotated again: applications keep what they read.
    """

    fleet: Fleet
    tell: Tell
    gap: Callable[[], None] = lambda: None
    _last: dict[str, datetime] = field(default_factory=dict)
    _schedules: Mapping[str, Schedule] = field(init=False)
    _ids: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._states = self.fleet.aws.client("stepfunctions")
        self._schedules = {s.input["shard"]: s for s in self.fleet.stack.schedules}
        self._ids = {run_key(credential.id): credential.id for credential in self.fleet.plan.credentials}
        self._machine = self.fleet.stack.machines[STACK]

    @property
    def shards(self) -> Sequence[Shard]:
        """In the order of their phases."""
        return sorted(self.fleet.plan.shards, key=lambda shard: (shard.phase, shard.name))

    def fire(self, shard: Shard) -> Event:
        """Let the rule of a shard fire. Where it has in this minute, the event is that of the next one, and so on.

        It waits for what is further ahead than clocks may differ.
        """
        at = datetime.now(UTC).replace(microsecond=0)
        if last := self._last.get(shard.name):
            at = max(at, last.replace(second=0) + _MINUTE)
        time.sleep(max(0.0, (at - datetime.now(UTC) - _AHEAD).total_seconds()))
        self._last[shard.name] = at
        return self._deliver(shard.name, at)

    def repeat(self, event: Event) -> Event:
        """Deliver an event once more, as EventBridge may."""
        return self._deliver(event.shard, event.at)

    def _deliver(self, shard: str, at: datetime) -> Event:
        schedule = self._schedules[shard]
        started = self._states.start_execution(
            stateMachineArn=schedule.target_arn, input=json.dumps(self.fleet.stack.input_at(schedule, at))
        )
        return Event(shard=shard, at=at, arn=started["executionArn"])

    def done(self, event: Event) -> int:
        """How many rotations of an event have ended."""
        return sum("stopDate" in found for found in self._executions(event))

    def is_running(self, event: Event) -> bool:
        """Whether the execution of the fleet goes on."""
        return bool(self._described(event.arn)["status"] == "RUNNING")

    def wait(self, *events: Event) -> list[Ended]:
        """Wait until what events have started has ended.

        Raises:
            TimeoutError: It takes longer than a shard may.
        """
        began = told = time.monotonic()
        left = list(events)
        while left:
            left = [event for event in left if self.is_running(event)]
            now = time.monotonic()
            if now - began > _LONGEST_SECONDS:
                raise TimeoutError(", ".join(e.shard for e in left))
            if left and now - told > _TELL_SECONDS:
                told = now
                for event in left:
                    size = len(self._shard(event).credential_ids)
                    self.tell(f"{event.shard}: {self.done(event)} of {size} rotations have ended")
            time.sleep(_POLL_SECONDS if left else 0)
        return [self._ended(event) for event in events]

    def _ended(self, event: Event) -> Ended:
        fleet = self._described(event.arn)
        rotations = []
        for found in self._executions(event):
            described = self._described(found["executionArn"])
            output = json.loads(described.get("output", "{}"))
            rotations.append(
                Rotation(
                    credential_id=self._ids[_key(found["name"])],
                    outcome=output.get("outcome") or described.get("error", described["status"]),
                    began=found["startDate"],
                    waited=found["stopDate"] - event.at,
                )
            )
        return Ended(
            event=event,
            error=fleet.get("error", "" if fleet["status"] == "SUCCEEDED" else fleet["status"]),
            items=dict(self._items(event.arn)),
            rotations=rotations,
            seconds=(fleet["stopDate"] - event.at).total_seconds(),
        )

    def _items(self, arn: str) -> Iterator[tuple[str, str]]:
        """How each item of the Map of an execution has ended."""
        for run in self._states.list_map_runs(executionArn=arn)["mapRuns"]:
            pages = self._states.get_paginator("list_executions").paginate(mapRunArn=run["mapRunArn"])
            for found in (e for page in pages for e in page["executions"]):
                described = self._described(found["executionArn"])
                credential_id = json.loads(described["input"])["item"]["credential_id"]
                output = json.loads(described.get("output", "{}"))
                yield credential_id, output.get("outcome") or described.get("error", described["status"])

    def _executions(self, event: Event) -> list[Mapping[str, Any]]:
        pages = self._states.get_paginator("list_executions").paginate(stateMachineArn=self._machine)
        keys = set(map(run_key, self._shard(event).credential_ids))
        prefix = f"f-{event.tick}-"
        return [
            e
            for page in pages
            for e in page["executions"]
            if e["name"].startswith(prefix) and _key(e["name"]) in keys
        ]

    def _described(self, arn: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._states.describe_execution(executionArn=arn)
        return found

    def _shard(self, event: Event) -> Shard:
        return next(s for s in self.fleet.plan.shards if s.name == event.shard)

    def pass_time(self, by: timedelta) -> None:
        """Let the clock move on: every time of every lock record is that much longer ago."""
        self.gap()
        dynamodb = self.fleet.aws.client("dynamodb")
        for credential in self.fleet.plan.credentials:
            _age(dynamodb, credential, by)


def _age(dynamodb: Any, credential: Credential, by: timedelta) -> None:  # noqa: ANN401 - a boto3 client
    key = {"credential_id": {"S": credential.id}}
    item = dynamodb.get_item(TableName=LOCK_TABLE, Key=key, ConsistentRead=True).get("Item", {})
    times = [name for name in item if name in _TIMES]
    if times:
        dynamodb.update_item(
            TableName=LOCK_TABLE,
            Key=key,
            UpdateExpression="SET " + ", ".join(f"{name} = {name} - :by" for name in times),
            ExpressionAttributeValues={":by": {"N": str(int(by.total_seconds()))}},
        )


def _key(execution: str) -> str:
    return execution.rpartition("-")[2]
