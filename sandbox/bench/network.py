"""The way to both clouds: every request waits for the latency, and is noted with the step that made it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from sandbox.emulators.aws import AwsSandbox, InvocationContext
from sandbox.emulators.aws.lambda_host import InvocationResult
from sandbox.emulators.oci import OciSandbox

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
