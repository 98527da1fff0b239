"""Load: applications log in as fast as they can, from both stores, while rotations go wrong in every way.

The OCI function runs in a process of its own, whose memory is measured, and which dies by SIGKILL. An interval passes
in an instant, but only after each application has logged in with the value that it read before: an overlap is longer
than a login.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lockstep.client import CredentialClient, Source, decode
from lockstep.protocol.model import Credential
from sandbox.applications import Application, Applications, by_client
from sandbox.outside import StoreName
from sandbox.wire import Fault, FaultKind, Process
from tests.proof.enumeration import ON_CHANGES
from tests.proof.estate import KINDS, WiredEstate, estate
from tests.proof.function_process import FunctionProcess
from tests.proof.observer import STORES
from tests.proof.runners import RUNNERS, Outcome, RunnerName, Runners

FAULTS = tuple(kind for kind in ON_CHANGES if kind not in (FaultKind.OVERTAKEN, FaultKind.LATE))
FAULTED_PART = 0.5
LOGIN_SECONDS = 60.0
FIRST_ROTATION_SECONDS = 120.0
"""How long a slow machine may take for one."""
GROWTH_PART = 0.15
"""How much memory may grow after the first half and still count as flat."""


@dataclass(kw_only=True)
class SoakResult:
    """What came of it."""

    rotations: int = 0
    disturbed: int = 0
    logins: int = 0
    refused: int = 0
    troubles: int = 0
    slowest_login_ms: int = 0
    processes_killed: int = 0
    unfinished: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    memory_kilobytes: tuple[int, int] = (0, 0)
    memory_is_flat: bool = True
    minutes: float = 0.0


def soak(kinds: Sequence[str], *, minutes: float, seed: int) -> SoakResult:
    """Rotate and log in for that long, or until one rotation is done; the start of the estate does not count."""
    rng = random.Random(seed)  # noqa: S311 - it must be the same every time
    result = SoakResult()
    with estate(kinds) as world, Runners(world).ready() as runners:
        function = FunctionProcess()
        applications = Applications(_applications(world, kinds))
        try:
            with applications:
                began = time.monotonic()
                while (elapsed := time.monotonic() - began) < minutes * 60 or (
                    not result.rotations and elapsed < FIRST_ROTATION_SECONDS
                ):
                    kind, runner = rng.choice(kinds), rng.choice(RUNNERS)
                    fault = (
                        Fault(rng.choice(FAULTS), rng.randrange(1, 90))
                        if rng.random() < FAULTED_PART
                        else None
                    )
                    _log_in(applications)
                    runners.wait_for(runner, f"proof/{kind}")
                    outcome = _rotate(world, runners, function, kind, runner, fault)
                    result.rotations += outcome.outcome == "rotated"
                    result.disturbed += bool(fault and fault.struck)
                    shown = f"{outcome.outcome} {outcome.error}".strip()
                    result.outcomes[shown] = result.outcomes.get(shown, 0) + 1
                    if fault is None and outcome.outcome != "rotated":
                        result.unfinished.append(f"{kind} {runner}: {shown}")
        finally:
            result.processes_killed = function.started - 1
            function.kill()
        result.logins = applications.logins
        result.refused = len(applications.refusals)
        result.troubles = len(applications.troubles)
        result.slowest_login_ms = round(max(a.slowest_seconds for a in applications.all) * 1000)
    _judge_memory(result, function.memory_kilobytes)
    result.minutes = round((time.monotonic() - began) / 60, 2)
    return result


def _log_in(applications: Applications) -> None:
    """Wait until every application has logged in with what is served now."""
    seen = {a.name: a.logins + len(a.refusals) for a in applications.all}
    deadline = time.monotonic() + LOGIN_SECONDS
    # Two logins: the first may have begun before.
    while any(a.logins + len(a.refusals) < seen[a.name] + 2 for a in applications.all):
        if time.monotonic() > deadline:
            raise TimeoutError("an application does not log in any more")
        time.sleep(0.005)


def _rotate(
    world: WiredEstate,
    runners: Runners,
    function: FunctionProcess,
    kind: str,
    runner: RunnerName,
    fault: Fault | None,
) -> Outcome:
    with world.wire.run(fault):
        if runner == "aws":
            return runners.rotate("aws", f"proof/{kind}")
        return _in_its_process(world, function, kind)


def _in_its_process(world: WiredEstate, function: FunctionProcess, kind: str) -> Outcome:
    call_id = f"soak-{world.clock.time():.3f}".replace(".", "-")
    process = Process("function process", f"{call_id}.1")
    process.closers.append(function.kill)
    with world.wire.by(process):
        reply = function.call(call_id, f"proof/{kind}", ahead_seconds=world.clock.ahead_seconds)
    if reply is None:
        return Outcome(rotation_id=process.run, outcome="died")
    found: dict[str, Any] = reply["answer"]["results"][0]
    return Outcome(
        rotation_id=process.run,
        outcome=found["outcome"],
        error=found.get("error", ""),
        generation=found.get("generation"),
    )


def _applications(world: WiredEstate, kinds: Sequence[str]) -> list[Application]:
    found = []
    for kind in kinds:
        credential = world.credential(kind)
        for store in STORES:
            for server in credential.servers:
                client = CredentialClient([_source(world, store, credential)], max_age_seconds=0.0)
                found.append(by_client(f"{kind} {store} {server.name}", client, server))
    assert len(found) == 2 * sum(len(KINDS[kind][1]) for kind in kinds)
    return found


def _source(world: WiredEstate, store: StoreName, credential: Credential) -> Source:
    outside, secret = world.running.outside, credential.secret_names.app_user
    return lambda: decode(outside.serves(store, credential, secret).text, store=store, secret=secret)


def _judge_memory(result: SoakResult, kilobytes: Sequence[int]) -> None:
    if len(kilobytes) < 8:
        return
    half = len(kilobytes) // 2
    result.memory_kilobytes = (kilobytes[half], max(kilobytes[half:]))
    result.memory_is_flat = result.memory_kilobytes[1] <= result.memory_kilobytes[0] * (1 + GROWTH_PART)
