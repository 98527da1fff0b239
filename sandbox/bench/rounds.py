"""Rotations by both runners at several latencies: every request waits, and is noted with the step that made it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from statistics import median
from typing import Any, Literal

from lockstep.protocol.model import Credential
from sandbox.emulators.aws import AwsSandbox, InvocationContext
from sandbox.emulators.aws.lambda_host import InvocationResult
from sandbox.emulators.oci import OciSandbox
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess

Cloud = Literal["aws", "oci"]
Interval = tuple[float, float]

BEFORE_THE_FUNCTIONS = "AcquireLock"
AFTER_THE_FUNCTIONS = "ReleaseLock"
"""Outside its functions the state machine itself calls DynamoDB."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request that a cloud has seen.

    Attributes:
        call: Service and operation.
        step: What made it.
        waited: The time that it spent on the way; monotonic seconds.
    """

    cloud: Cloud
    call: str
    step: str
    waited: Interval


@dataclass(kw_only=True)
class Record:
    """What happened on the way during one rotation.

    Attributes:
        latency_ms: Of each request.
        step: Makes all requests; None: the step is the function that runs.
        at_boundary: Called before each request, and after each function.
        requests: In the order in which they were answered.
        functions: When each function ran; monotonic seconds.
    """

    latency_ms: float
    step: str | None = None
    at_boundary: Callable[[], None] = lambda: None
    requests: list[Request] = field(default_factory=list)
    functions: dict[str, list[Interval]] = field(default_factory=dict)
    _began: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def see(self, cloud: Cloud, call: str) -> None:
        """Let a request wait, outside every lock, and note it."""
        step = self.step or self._present_step()
        self.at_boundary()
        began = time.monotonic()
        if self.latency_ms:
            time.sleep(self.latency_ms / 1000)
        request = Request(cloud=cloud, call=call, step=step, waited=(began, time.monotonic()))
        with self._lock:
            self.requests.append(request)

    def enter(self, call: InvocationContext, event: Any) -> None:  # noqa: ANN401 - any JSON
        """A function begins."""
        # A rotation function of Secrets Manager is one function for all steps.
        name = event.get("Step", call.function_name)
        with self._lock:
            self._began[call.request_id] = (name, time.monotonic())

    def leave(self, call: InvocationContext, _event: object, _result: InvocationResult) -> None:
        """A function has ended."""
        with self._lock:
            name, began = self._began.pop(call.request_id)
            self.functions.setdefault(name, []).append((began, time.monotonic()))
        self.at_boundary()

    def _present_step(self) -> str:
        with self._lock:
            if self._began:
                name, _ = next(reversed(self._began.values()))
                return name
            return AFTER_THE_FUNCTIONS if self.functions else BEFORE_THE_FUNCTIONS

    def calls(self, cloud: Cloud, step: str | None = None) -> Counter[str]:
        """How often each call was made."""
        return Counter(r.call for r in self.requests if r.cloud == cloud and step in {None, r.step})

    def chain(self, step: str | None = None, *, cloud: Cloud | None = None) -> int:
        """The most requests, of a step or to a cloud, that followed one another."""
        return longest_chain(
            [r.waited for r in self.requests if step in {None, r.step} and cloud in {None, r.cloud}]
        )

    @property
    def lock_held_ms(self) -> float:
        """From the write that acquires the lock to the one that releases it: the first and the last of all."""
        writes = [r.waited[1] for r in self.requests if r.call == "dynamodb UpdateItem"]
        return (max(writes) - min(writes)) * 1000 if writes else 0.0


class Network:
    """Stands before the emulators of both clouds; without a recording, requests neither wait nor are noted."""

    def __init__(self, aws: AwsSandbox, oci: OciSandbox) -> None:
        self._aws = aws
        self._oci = oci

    @contextmanager
    def recording(
        self, latency_ms: float, *, step: str | None = None, at_boundary: Callable[[], None] = lambda: None
    ) -> Iterator[Record]:
        """Delay and note what is called inside."""
        record = Record(latency_ms=latency_ms, step=step, at_boundary=at_boundary)
        host = self._aws.lambda_host

        def see_oci(when: Literal["before", "after"], operation: str, _resource: str) -> None:
            if when == "before":
                record.see("oci", operation)

        self._aws.on_request = lambda service, operation: record.see("aws", f"{service} {operation}")
        self._oci.on_call = see_oci
        host.before_call, host.after_call = record.enter, record.leave
        try:
            yield record
        finally:
            self._aws.on_request = self._oci.on_call = host.before_call = host.after_call = None


def longest_chain(intervals: Sequence[Interval]) -> int:
    """The most intervals of which none overlaps another: those that end first, one after the other."""
    length, end = 0, float("-inf")
    for begin, finish in sorted(intervals, key=lambda interval: interval[1]):
        if begin >= end:
            length, end = length + 1, finish
    return length


def covered_ms(intervals: Sequence[Interval]) -> float:
    """The time that is in at least one interval, in milliseconds."""
    total, end = 0.0, float("-inf")
    for begin, finish in sorted(intervals):
        total += max(0.0, finish - max(begin, end))
        end = max(end, finish)
    return total * 1000


LATENCIES_MS = (0, 20, 50)
COUNTED_AT_MS = 100
"""Of the rotations whose requests are counted: long beside what a busy machine takes to begin one."""
COUNTED = 3
WARM_UP = 2
TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.2
"""Seldom, because what asks shares this process with what is measured; the history has the times."""


class NotRotatedError(Exception):
    """A run has not rotated."""


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """One rotation that has ended as it should.

    Attributes:
        wall_ms: By the runner's own clock.
        transitions: Of the state machine; 0 without one.
    """

    record: Record
    wall_ms: float
    transitions: int = 0

    @property
    def functions_ms(self) -> float:
        """The time in which a function ran."""
        return covered_ms([i for intervals in self.record.functions.values() for i in intervals])


def nothing() -> None:
    """Do nothing at a boundary."""


Rotate = Callable[[float, Callable[[], None]], Rotation]
"""Rotates once, with a latency in milliseconds; called before each request and after each function.

Raises NotRotatedError where the run has another outcome."""


def by_machine(estate: Estate, network: Network, credential: Credential) -> Rotate:
    """Rotates by an execution of the state machine."""

    def rotate(latency_ms: float, at_boundary: Callable[[], None], /) -> Rotation:
        estate.outside.expire_schedule(credential.id)
        with network.recording(latency_ms, at_boundary=at_boundary) as record:
            execution = estate.aws.run_execution(
                estate.machine_arn,
                {"credential_id": credential.id},
                timeout_seconds=TIMEOUT_SECONDS,
                poll_seconds=POLL_SECONDS,
            )
        outcome = (execution.output or {}).get("outcome", execution.error)
        if outcome != "rotated":
            raise NotRotatedError(f"the state machine: {outcome}: {execution.cause}")
        return Rotation(
            record=record, wall_ms=execution.milliseconds, transitions=len(execution.states_entered)
        )

    return rotate


def by_function(estate: Estate, network: Network, credential: Credential, running: FunctionProcess) -> Rotate:
    """Rotates by a call of the OCI function, which runs all steps in a process of its own."""

    def rotate(latency_ms: float, at_boundary: Callable[[], None], /) -> Rotation:
        estate.outside.expire_schedule(credential.id)
        with network.recording(latency_ms, at_boundary=at_boundary, step="function") as record:
            began = time.monotonic()
            answer = running.call({"credential_id": credential.id})
            ended = time.monotonic()
        [result] = answer.body.get("results", [answer.body])
        if result.get("outcome") != "rotated":
            raise NotRotatedError(f"the OCI function: {answer.text}")
        record.functions["function"] = [(began, ended)]
        return Rotation(record=record, wall_ms=(ended - began) * 1000)

    return rotate


def measured(
    runners: Mapping[str, Rotate], *, repetitions: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """The figures of each runner: it rotates at every latency, in turns, so that other work disturbs all alike."""
    for rotate, _ in product(runners.values(), range(WARM_UP)):
        rotate(0, nothing)
    done: dict[str, dict[int, list[Rotation]]] = {
        name: {latency: [] for latency in (*LATENCIES_MS, COUNTED_AT_MS)} for name in runners
    }
    for turn in range(repetitions):
        say(f"rotations, turn {turn + 1} of {repetitions}")
        for latency, (name, rotate) in product(LATENCIES_MS, runners.items()):
            done[name][latency].append(rotate(latency, nothing))
    say("rotations whose requests are counted")
    for _, (name, rotate) in product(range(COUNTED), runners.items()):
        done[name][COUNTED_AT_MS].append(rotate(COUNTED_AT_MS, nothing))
    return {name: _figures(by_latency) for name, by_latency in done.items()}


def _figures(by_latency: Mapping[int, Sequence[Rotation]]) -> dict[str, Any]:
    """What the rotations of one runner show; see `python -m sandbox.bench --help`."""
    counted, timed = by_latency[COUNTED_AT_MS], {ms: by_latency[ms] for ms in LATENCIES_MS}
    record = _typical(counted).record
    return {
        "wall_ms": _medians({ms: [r.wall_ms for r in found] for ms, found in timed.items()}),
        "functions_ms": _medians({ms: [r.functions_ms for r in found] for ms, found in timed.items()}),
        "lock_held_ms": _medians({ms: [r.record.lock_held_ms for r in f] for ms, f in timed.items()}),
        "chain": round(median(r.record.chain() for r in counted)),
        "aws_chain": round(median(r.record.chain(cloud="aws") for r in counted)),
        "oci_chain": round(median(r.record.chain(cloud="oci") for r in counted)),
        "calls": len(record.requests),
        "aws_calls": record.calls("aws").total(),
        "oci_calls": record.calls("oci").total(),
        "transitions": counted[0].transitions,
        "steps": {name: _step(counted, name) for name in _steps(counted[0])},
    }


def _step(counted: Sequence[Rotation], name: str) -> dict[str, Any]:
    record = _typical(counted).record
    return {
        "chain": round(median(r.record.chain(name) for r in counted)),
        "aws_calls": record.calls("aws", name).total(),
        "oci_calls": record.calls("oci", name).total(),
    }


def _typical(found: Sequence[Rotation]) -> Rotation:
    """One with the median number of requests."""
    ordered = sorted(found, key=lambda rotation: len(rotation.record.requests))
    return ordered[len(ordered) // 2]


def _steps(rotation: Rotation) -> Iterator[str]:
    """In the order of their first request."""
    began = sorted(rotation.record.requests, key=lambda request: request.waited)
    yield from dict.fromkeys(request.step for request in began)


def _medians(milliseconds: Mapping[int, Sequence[float]]) -> dict[str, int]:
    """Medians, in whole milliseconds; keys are texts, as in JSON."""
    return {str(latency): round(median(found)) for latency, found in milliseconds.items()}
