"""Counts the calls of rotations on this machine, for `lockstep cost`.

    python -m sandbox.count_calls            compare what is counted now with lockstep/cost/calls.json
    python -m sandbox.count_calls --write    write what is counted now into that file

The counts are of the real handlers, the real state machine and the real adapters; only the services are emulated. They
are taken with one and two databases, with and without the store in OCI, and with rings of two sizes. A count must be a
sum of what each of these adds; the run with two databases and both stores is the check of that.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import Any

from lockstep import wiring
from lockstep.cost.calls import FILE, FLOWS, Coefficients, Shape
from lockstep.identity import OCI_RUNNER
from lockstep.model import Credential, Strategy
from lockstep.system import SystemClock
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest, rotate
from sandbox import plans
from sandbox.aws import AwsSandbox, Execution, InvocationContext
from sandbox.databases import CertificateAuthority, DatabaseServer
from sandbox.estate import Estate, Settings, running_estate
from sandbox.oci import OciSandbox, SandboxClock
from sandbox.plans import AUDIT_BUCKET
from sandbox.servers import default_servers

SERVERS = ("orders", "ledger")
"""MariaDB and PostgreSQL: both are there without a download."""
ONE, TWO = Shape(databases=1), Shape(databases=2)
ONE_IN_BOTH, RING_OF_FIVE = Shape(databases=1, ring=4), Shape(databases=1, ring=5)
TWO_IN_BOTH = Shape(databases=2, ring=4)
SHAPES = (ONE, TWO, ONE_IN_BOTH, RING_OF_FIVE, TWO_IN_BOTH)
COUNTED = 3
"""Rotations of which the usual count is taken."""
VERSIONS_BEFORE_DELETION = 4
"""A slot keeps so many before a rotation deletes one (`lockstep.store_kinds.oci_budget`)."""
MACHINE = "machine"
READ_BY_ANYONE = ("get_object", "anyone")

Flow = dict[str, Counter[str]]
"""Calls as `step service operation`, by the name of the flow."""


@dataclass
class MovedClock(SystemClock):
    """The machine's clock, moved: earlier than the last look at another log, a look is due (protocol E15)."""

    by: timedelta = timedelta()

    def now(self) -> datetime:
        """The moved time."""
        return super().now() + self.by

    __hash__ = object.__hash__


@dataclass
class Counting:
    """Counts the calls of an estate, by the step that makes them."""

    estate: Estate
    step: str = MACHINE
    seen: Counter[str] = field(default_factory=Counter)
    each_cold: bool = False

    def __post_init__(self) -> None:
        host = self.estate.aws.lambda_host
        host.before_call, host.after_call = self._enter, lambda *_: self._go_on_in(MACHINE)
        self.estate.aws.on_request = self._see

    def of(self, act: Callable[[], object], step: str = MACHINE) -> Counter[str]:
        """The calls of an act."""
        self._go_on_in(step)
        self.seen.clear()
        act()
        self._go_on_in(MACHINE)
        return Counter(self.seen)

    def _enter(self, call: InvocationContext, _event: object) -> None:
        self._go_on_in(call.function_name)
        if self.each_cold:
            wiring.forget()

    def _see(self, service: str, operation: str) -> None:
        self.seen[f"{self.step} {service} {operation}"] += 1

    def _go_on_in(self, step: str) -> None:
        # It is AWS that reads the issuer's documents.
        records = [r for r in self.estate.oci.calls.records if (r.operation, r.principal) != READ_BY_ANYONE]
        self.seen.update(f"{self.step} {r.service} {r.operation}" for r in records)
        self.estate.oci.calls.clear()
        self.step = step


@dataclass
class World:
    """An estate with one credential, and both runners.

    Attributes:
        clock: The runners'.
        of_tokens: That of the identity domain.
    """

    estate: Estate
    clock: MovedClock
    of_tokens: MovedClock
    counting: Counting
    last: Execution | None = None
    _number: int = 0

    @property
    def credential(self) -> Credential:
        """The credential."""
        [found] = self.estate.plan.credentials
        return found

    def by_aws(self) -> Counter[str]:
        """The calls of a rotation by the state machine."""
        self.estate.outside.expire_schedule(self.credential.id)
        return self.counting.of(self._execute)

    def by_oci(self, runner: wiring.Runner, *, due: bool) -> Counter[str]:
        """The calls of a run of the function: it rotates, or finds nothing due."""
        if due:
            self.estate.outside.expire_schedule(self.credential.id)
        wanted = "rotated" if due else "skipped"

        def run() -> None:
            self._number += 1
            request = RunRequest(rotation_id=f"counted.{self._number}", runner="oci", trigger="schedule")
            ports = runner.ports(self.credential.id)
            retries = Retries(ports.clock, deadline=ports.clock.monotonic() + 60)
            done = rotate(request, ports, retries)
            if done.outcome != wanted:
                raise SystemExit(f"the function {done.outcome}, and should have {wanted}")

        return self.counting.of(run, "function")

    def function(self) -> wiring.Runner:
        """The runner of a function whose process has just started."""
        endpoints = wiring.endpoints_from_environment()
        return wiring.Runner(self.estate.plan, OCI_RUNNER, endpoints=endpoints, clock=self.clock)

    @contextmanager
    def look_due(self, *, with_session: bool) -> Iterator[None]:
        """As if the last look at the other log were long ago.

        Args:
            with_session: It begins a session, whose tokens go by the time of who takes them.
        """
        back, sts = -timedelta(hours=1), self.estate.aws.web_identity
        self.clock.by = back
        if with_session:
            self.of_tokens.by, sts.clock_ahead_seconds = back, back.total_seconds()
        yield
        self.clock.by = self.of_tokens.by = timedelta()
        sts.clock_ahead_seconds = 0.0

    def _execute(self) -> None:
        self.last = self.estate.rotate(self.credential.id)
        if self.last.status != "SUCCEEDED":
            raise SystemExit(f"the execution ended {self.last.status}: {self.last.cause}")


def main() -> int:
    """Count, then write or compare."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.count_calls", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help="write what was counted into the file")
    found = count()
    if parser.parse_args().write:
        FILE.write_text(as_text(found), encoding="utf-8")
        return 0
    different = differences(found)
    print("\n".join(different) or f"{FILE.name} is what was counted")  # noqa: T201 - the answer
    return 1 if different else 0


def differences(found: Mapping[str, Any]) -> list[str]:
    """How the file differs from what was counted; its date, and sizes that are nearly the same, do not count."""
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    different = []
    for flow in FLOWS:
        before, now = kept["flows"].get(flow, {}), found["flows"][flow]
        different += [
            f"{flow}: {call}: {before.get(call)} in the file, {now.get(call)} counted"
            for call in sorted(before.keys() | now.keys())
            if before.get(call) != now.get(call)
        ]
    different += [
        f"{name}: {kept['machine'].get(name)} in the file, {value} counted"
        for name, value in found["machine"].items()
        if kept["machine"].get(name) != value
    ]
    return different + [
        f"{name}: {kept['bytes'].get(name)} in the file, {value} counted"
        for name, value in found["bytes"].items()
        if not 0.8 * value <= kept["bytes"].get(name, 0) <= 1.25 * value
    ]


def as_text(found: Mapping[str, Any]) -> str:
    """The file: a line for each call."""
    flows = ",\n".join(
        f'  "{flow}": {{\n'
        + ",\n".join(f'   "{call}": {json.dumps(each)}' for call, each in sorted(calls.items()))
        + "\n  }"
        for flow, calls in found["flows"].items()
    )
    head = {key: value for key, value in found.items() if key != "flows"}
    return f'{json.dumps(head, indent=1)[:-2]},\n "flows": {{\n{flows}\n }}\n}}\n'


def count() -> dict[str, Any]:
    """Everything that the file holds."""
    flows: dict[Shape, Flow] = {}
    for shape in SHAPES:
        with world(shape) as running:
            flows[shape] = flows_of(running, shape)
            if shape == TWO_IN_BOTH:
                machine, sizes = of_machine(running), sizes_of(running)
    return {
        "counted_on": f"{date.fromtimestamp(datetime.now().timestamp())}",  # noqa: DTZ005, DTZ012 - of a person
        "by": "python -m sandbox.count_calls --write",
        "machine": machine,
        "bytes": sizes,
        "flows": {
            flow: _fitted({shape: found[flow] for shape, found in flows.items() if flow in found})
            for flow in FLOWS
        },
    }


@contextmanager
def world(shape: Shape) -> Iterator[World]:
    """An estate of this shape, warm."""
    clock, of_tokens = MovedClock(), MovedClock()
    with tempfile.TemporaryDirectory(prefix="lockstep-count-") as folder:
        servers = _servers(Path(folder), shape.databases)
        credential = plans.credential(
            "multi-cloud/app_user", *servers, username="app_user", strategy=Strategy.ALTERNATING_USERS
        )
        settings = Settings(
            clouds=("aws", "oci") if shape.ring else ("aws",), slots=shape.ring or 4, clock=clock
        )
        aws = AwsSandbox()
        oci = OciSandbox(names=aws.names, identity_clock=SandboxClock(of_tokens.now))
        with running_estate(
            [credential], servers, folder=Path(folder), settings=settings, aws=aws, oci=oci
        ) as estate:
            yield World(estate, clock, of_tokens, Counting(estate))


def _servers(folder: Path, number: int) -> dict[str, DatabaseServer]:
    there = default_servers(CertificateAuthority(folder))
    if missing := [name for name in SERVERS if name not in there]:
        raise SystemExit(
            f"the servers {', '.join(missing)} cannot be started on this machine: run `make setup`"
        )
    return {name: there[name] for name in SERVERS[:number]}


def flows_of(running: World, shape: Shape) -> Flow:
    """Count every flow that an estate of this shape has."""
    for _ in range(1 + VERSIONS_BEFORE_DELETION * (shape.ring or 1)):
        running.by_aws()
    found: Flow = {}
    if shape.ring:
        function = running.function()
        running.by_oci(function, due=False)  # Its first entry, after which AWS has a log to look at.
        running.by_aws()
    found["aws rotation"] = _usual(running.by_aws)
    running.counting.each_cold = True
    found["aws cold start"] = _usual(running.by_aws) - found["aws rotation"]
    running.counting.each_cold = False
    running.by_aws()
    if not shape.ring:
        return found
    found["oci skip"] = running.by_oci(function, due=False)
    found["oci cold start"] = running.by_oci(running.function(), due=False) - found["oci skip"]
    with running.look_due(with_session=False):
        found["oci look"] = running.by_oci(function, due=False) - found["oci skip"]
    with running.look_due(with_session=True):
        # Its own step looks; what else the moved clock changes is no part of a look.
        found["aws look"] = _of("audit", running.by_aws() - found["aws rotation"])
    running.by_oci(function, due=True)
    found["oci rotation"] = _usual(lambda: running.by_oci(function, due=True))
    return found


def _of(step: str, calls: Counter[str]) -> Counter[str]:
    return Counter({call: number for call, number in calls.items() if call.startswith(f"{step} ")})


def _usual(act: Callable[[], Counter[str]]) -> Counter[str]:
    """What most runs do: now and then one of them meets a store that is not ready yet, and asks again."""
    runs = [act() for _ in range(COUNTED)]
    return Counter({call: sorted(run[call] for run in runs)[COUNTED // 2] for run in runs for call in run})


def of_machine(running: World) -> dict[str, int]:
    """States and events of an execution."""
    running.by_aws()
    assert running.last  # noqa: S101 - it has just run
    return {"transitions": len(running.last.states_entered), "events": len(running.last.history)}


def sizes_of(running: World) -> dict[str, int]:
    """Bytes of a lock record and of an audit entry, in tens."""
    item = running.estate.outside.lock_item(running.credential.id)
    s3 = running.estate.aws.client("s3")
    objects = s3.list_objects_v2(Bucket=AUDIT_BUCKET, Prefix="aws/")["Contents"]
    return {"lock_record": _tens(_size(item)), "audit_entry": _tens(max(o["Size"] for o in objects))}


def _size(item: Mapping[str, Any]) -> int:
    """About what DynamoDB counts: the names and the values, numbers as text."""
    return sum(len(name) + _size_of(value) for name, value in item.items())


def _size_of(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    match kind:
        case "M":
            return 3 + _size(content)
        case "L" | "SS" | "NS":
            return 3 + sum(_size_of(c) if isinstance(c, dict) else len(c) for c in content)
        case _:
            return len(str(content))


def _tens(size: int) -> int:
    return ceil(size / 10) * 10


def _fitted(counts: Mapping[Shape, Counter[str]]) -> dict[str, dict[str, int]]:
    """What each database, the store in OCI and each slot of its ring add."""
    calls = {call for counted in counts.values() for call, number in counted.items() if number}
    return {call: _coefficients(call, {s: c[call] for s, c in counts.items()}) for call in calls}


def _coefficients(call: str, counts: Mapping[Shape, int]) -> dict[str, int]:
    """Solve for one call.

    Without a count for AWS alone, what the store in OCI adds cannot be told from what is there anyway.
    """
    database = counts[TWO_IN_BOTH] - counts[ONE_IN_BOTH] if ONE not in counts else counts[TWO] - counts[ONE]
    slot = counts[RING_OF_FIVE] - counts[ONE_IN_BOTH]
    in_both = counts[ONE_IN_BOTH] - database - slot * (ONE_IN_BOTH.ring or 0)
    always = counts[ONE] - database if ONE in counts else in_both
    found = Coefficients(always=always, database=database, oci=in_both - always, slot=slot)
    for shape, counted in counts.items():
        if found.count(shape) != counted:
            raise SystemExit(
                f"{call}: {counted} at {shape}, which is no sum of what each part adds: {counts}"
            )
    return found.as_document()


if __name__ == "__main__":
    sys.exit(main())
