"""Starts a fleet: the deployed world with many credentials, some of which have applications.

`lockstep plan sql` makes the accounts. Those that have an application have a password, and `lockstep import` and
`lockstep apply` bring them under management; the others are taken over. `Triggers` fires the deployed rules of the
shards, as EventBridge does, and reads what has become of their rotations.
"""

import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from lockstep.protocol.deadlines import CLOCK_SKEW
from lockstep.protocol.model import Credential, Engine, Login, SecretStr, Strategy
from lockstep.protocol.schedule import PER_SHARD, Shard, run_key
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox import plans
from sandbox.deployed_world import DeployedWorld, deployed_world, lockstep, timed
from sandbox.emulators.aws.deployed import Schedule
from sandbox.emulators.databases import DatabaseServer
from sandbox.emulators.oci.calls import CallLog
from sandbox.estate import environment
from sandbox.outside import Outside
from sandbox.plans import LOCK_TABLE, Document
from sandbox.servers import engine_of, login_text, set_password

EVERY_NTH_ON_TWO = 10
"""One of so many credentials is on two engines."""
_SIDE_BY_SIDE = 4

Tell = Callable[[str], None]


class CommandError(Exception):
    """A command of Lockstep failed; the text is what it said."""


@dataclass(frozen=True)
class Size:
    """How large a fleet is.

    Attributes:
        credentials: How many.
        sampled: How many credentials have applications.
    """

    credentials: int
    sampled: int

    @property
    def is_large(self) -> bool:
        """Whether credentials of one interval are several shards; else there are two intervals."""
        return self.credentials > PER_SHARD


@dataclass(kw_only=True)
class Fleet(DeployedWorld):
    """What runs.

    Attributes:
        size: As asked for.
        calls: Those of OCI.
        outside: Reads the stores and the lock table.
        sampled: The credentials that have applications.
    """

    size: Size
    calls: CallLog
    outside: Outside
    sampled: Sequence[Credential]


@contextmanager
def running_fleet(size: Size, tell: Tell) -> Iterator[Fleet]:
    """Start, deploy, provision, import; stop and forget everything afterwards.

    Args:
        size: How large.
        tell: Told what is about to happen.
    """
    tell(f"starting both clouds and the databases, and deploying the stack of {size.credentials} credentials")
    made = partial(
        _credentials, number=size.credentials, intervals=["20m"] if size.is_large else ["20m", "30m"]
    )
    with deployed_world(in_both=True, credentials=made, imported=size.sampled) as world:
        assert world.oci  # noqa: S101 - deployed in both
        # Those next to each other are on other servers; one of ten is on two.
        sampled = world.plan.credentials[-size.sampled :] if size.sampled else ()
        outside = Outside(world.aws, world.oci)
        fleet = Fleet(**vars(world), size=size, calls=world.oci.calls, outside=outside, sampled=sampled)
        plan_file = str(world.folder / "plan" / "lockstep.yaml")
        operator = {**world.aws.environment(), **world.operator, PLAN_VARIABLE: plan_file}
        tell("importing the logins of applications")
        with timed(fleet.seconds, "import"):
            _import_logins(fleet, operator)
        with environment(operator):
            yield fleet


def _credentials(
    servers: Mapping[str, DatabaseServer], number: int, intervals: Sequence[str]
) -> list[Document]:
    """So many credentials, spread evenly over the servers, of each strategy that a server can have.

    Args:
        servers: By name.
        number: How many.
        intervals: Taken in turn, as in the plan file.
    """
    names = list(servers)
    found = []
    for i in range(number):
        on = [names[i % len(names)]]
        if i % EVERY_NTH_ON_TWO == EVERY_NTH_ON_TWO - 1 and len(names) > 1:
            on.append(names[(i + 1) % len(names)])
        has_two_passwords = all(engine_of(servers[name]) is not Engine.POSTGRESQL for name in on)
        # Of those that can have two passwords, half do.
        dual = has_two_passwords and i // len(names) % 2 == 0
        credential_id = f"fleet/app-{i:04}"
        found.append(
            plans.credential(
                credential_id,
                *on,
                username=f"app{i:04}",
                strategy=Strategy.DUAL_PASSWORD if dual else Strategy.ALTERNATING_USERS,
                interval=intervals[i % len(intervals)],
            )
        )
    return found


def _import_logins(fleet: Fleet, operator: Mapping[str, str]) -> None:
    """Give those that have applications a password, and bring them under management.

    Raises:
        CommandError: A command failed.
    """

    def command(*words: str, given: str = "") -> None:
        done = lockstep(operator, *words, given=given)
        if done.returncode:
            raise CommandError(f"lockstep {words[0]}: {done.stdout[-1000:]}{done.stderr[-2000:]}")

    def one(credential: Credential) -> None:
        login = Login(credential.usernames[0], SecretStr(f"{secrets.token_urlsafe(24)}-aA1"))
        for name in credential.databases:
            set_password(fleet.servers[name], login)
        command("import", credential.id, given=login_text(login))

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(one, fleet.sampled))
    if fleet.sampled:
        command("apply", *sorted(credential.id for credential in fleet.sampled))


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
    """

    credential_id: str
    outcome: str


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
            rotations.append(
                Rotation(credential_id=self._ids[_key(found["name"])], outcome=_outcome(described))
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
                yield credential_id, _outcome(described)

    def _executions(self, event: Event) -> list[Mapping[str, Any]]:
        keys = set(map(run_key, self._shard(event).credential_ids))
        return [e for e in self.fleet.stack.runs_of(event.tick) if _key(e["name"]) in keys]

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


def _outcome(described: Mapping[str, Any]) -> str:
    """Of an execution that has ended, or the name of its error."""
    outcome = json.loads(described.get("output", "{}")).get("outcome")
    return str(outcome or described.get("error", described["status"]))


def _key(execution: str) -> str:
    return execution.rpartition("-")[2]
