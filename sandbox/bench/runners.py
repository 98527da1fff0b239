"""The runners that are measured: the state machine, and the OCI function."""

import time
from collections.abc import Callable

from lockstep.protocol.model import Credential
from sandbox.bench.network import Network, Record
from sandbox.bench.rounds import Rotate, Rotation
from sandbox.emulators.aws import Execution
from sandbox.estate import Estate
from sandbox.fn import FunctionProcess
from sandbox.timeline import duration_ms, spans

TIMEOUT_SECONDS = 120.0
POLL_SECONDS = 0.2
"""Seldom, because what asks shares this process with what is measured; the history has the times."""


class NotRotatedError(Exception):
    """A run has not rotated."""


def machine(estate: Estate, network: Network, credential: Credential) -> Rotate:
    """Rotates by an execution of the state machine."""

    def rotate(latency_ms: float) -> Rotation:
        return by_machine(estate, network, credential, latency_ms)

    return rotate


def by_machine(
    estate: Estate,
    network: Network,
    credential: Credential,
    latency_ms: float,
    *,
    at_boundary: Callable[[], None] = lambda: None,
) -> Rotation:
    """One rotation by the state machine.

    Raises:
        NotRotatedError: The execution has another outcome.
    """
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
    return _rotation(execution, record)


def _rotation(execution: Execution, record: Record) -> Rotation:
    return Rotation(
        record=record,
        wall_ms=duration_ms(execution),
        states_ms={span.state: span.end_ms - span.begin_ms for span in spans(execution)},
        transitions=len(execution.states_entered),
    )


def function(estate: Estate, network: Network, running: FunctionProcess, credential: Credential) -> Rotate:
    """Rotates by a call of the OCI function, which runs all steps in a process of its own."""

    def rotate(latency_ms: float) -> Rotation:
        estate.outside.expire_schedule(credential.id)
        with network.recording(latency_ms, step="function") as record:
            began = time.monotonic()
            answer = running.call({"credential_id": credential.id})
            ended = time.monotonic()
        [result] = answer.body.get("results", [answer.body])
        if result.get("outcome") != "rotated":
            raise NotRotatedError(f"the OCI function: {answer.text}")
        record.functions["function"] = [(began, ended)]
        return Rotation(record=record, wall_ms=(ended - began) * 1000, states_ms={})

    return rotate
