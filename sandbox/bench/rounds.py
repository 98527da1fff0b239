"""Rotations by both runners at several latencies, and what they show."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Any, Protocol

from lockstep.protocol.model import Credential
from sandbox.bench.network import AFTER_THE_FUNCTIONS, BEFORE_THE_FUNCTIONS, Network, Record, covered_ms
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from sandbox.timeline import duration_ms, states_ms

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
        states_ms: How long the state machine was in each of its states.
        transitions: Of the state machine; 0 without one.
    """

    record: Record
    wall_ms: float
    states_ms: Mapping[str, float]
    transitions: int = 0

    @property
    def functions_ms(self) -> float:
        """The time in which a function ran."""
        return covered_ms([i for intervals in self.record.functions.values() for i in intervals])

    @property
    def steps_ms(self) -> Mapping[str, float]:
        """The own time of each function, and of the states in which the state machine itself calls a cloud."""
        own = {name: covered_ms(intervals) for name, intervals in self.record.functions.items()}
        machine = (BEFORE_THE_FUNCTIONS, AFTER_THE_FUNCTIONS)
        return own | {name: self.states_ms[name] for name in machine if name in self.states_ms}


def nothing() -> None:
    """Do nothing at a boundary."""


class Rotate(Protocol):
    """Rotates."""

    def __call__(self, latency_ms: float, at_boundary: Callable[[], None] = nothing, /) -> Rotation:
        """One rotation.

        Args:
            latency_ms: Of each request.
            at_boundary: Called before each request and after each function.

        Raises:
            NotRotatedError: The run has another outcome.
        """


def by_machine(estate: Estate, network: Network, credential: Credential) -> Rotate:
    """Rotates by an execution of the state machine."""

    def rotate(latency_ms: float, at_boundary: Callable[[], None] = nothing, /) -> Rotation:
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
            record=record,
            wall_ms=duration_ms(execution),
            states_ms=states_ms(execution),
            transitions=len(execution.states_entered),
        )

    return rotate


def by_function(estate: Estate, network: Network, credential: Credential, running: FunctionProcess) -> Rotate:
    """Rotates by a call of the OCI function, which runs all steps in a process of its own."""

    def rotate(latency_ms: float, at_boundary: Callable[[], None] = nothing, /) -> Rotation:
        estate.outside.expire_schedule(credential.id)
        with network.recording(latency_ms, at_boundary=at_boundary, step="function") as record:
            began = time.monotonic()
            answer = running.call({"credential_id": credential.id})
            ended = time.monotonic()
        [result] = answer.body.get("results", [answer.body])
        if result.get("outcome") != "rotated":
            raise NotRotatedError(f"the OCI function: {answer.text}")
        record.functions["function"] = [(began, ended)]
        return Rotation(record=record, wall_ms=(ended - began) * 1000, states_ms={})

    return rotate


def measured(
    runners: Mapping[str, Rotate], *, repetitions: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """The figures of each runner: it rotates at every latency, in turns, so that other work disturbs all alike."""
    for rotate, _ in product(runners.values(), range(WARM_UP)):
        rotate(0)
    done: dict[str, dict[int, list[Rotation]]] = {
        name: {latency: [] for latency in (*LATENCIES_MS, COUNTED_AT_MS)} for name in runners
    }
    for turn in range(repetitions):
        say(f"rotations, turn {turn + 1} of {repetitions}")
        for latency, (name, rotate) in product(LATENCIES_MS, runners.items()):
            done[name][latency].append(rotate(latency))
    say("rotations whose requests are counted")
    for _, (name, rotate) in product(range(COUNTED), runners.items()):
        done[name][COUNTED_AT_MS].append(rotate(COUNTED_AT_MS))
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
        "operations": dict(sorted(Counter(f"{r.cloud}: {r.call}" for r in record.requests).items())),
        "transitions": counted[0].transitions,
        "steps": {name: _step(timed, counted, name) for name in _steps(counted[0])},
    }


def _step(timed: Mapping[int, Sequence[Rotation]], counted: Sequence[Rotation], name: str) -> dict[str, Any]:
    record = _typical(counted).record
    return {
        "own_ms": _medians({ms: [r.steps_ms.get(name, 0.0) for r in found] for ms, found in timed.items()}),
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
