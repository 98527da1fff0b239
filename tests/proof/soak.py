"""Load: applications log in as fast as they can, from both stores, while rotations go wrong in every way.

The OCI function runs in a process of its own, whose memory is measured, and which dies by SIGKILL. An interval passes
in an instant, but never before each application has logged in with what it read before: an overlap is longer than a
login.
"""

import base64
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import oci  # type: ignore[import-untyped]  # the SDK ships no types

from lockstep.aws.secrets_manager import read_secret
from lockstep.client import ClientCredential, CredentialClient, Source, decode
from lockstep.model import Credential
from lockstep.store_kinds import oci_vault
from lockstep.version_names import VersionNames
from sandbox.applications import Application, Applications
from sandbox.wire import Fault, FaultKind, Process
from tests.proof.enumeration import ON_CHANGES
from tests.proof.estate import INTERVAL_SECONDS, KINDS, RING, Estate, estate
from tests.proof.function_process import FunctionProcess
from tests.proof.runners import RUNNERS, Outcome, RunnerName, Runners

FAULTS = tuple(kind for kind in ON_CHANGES if kind not in (FaultKind.OVERTAKEN, FaultKind.LATE))
FAULTED_PART = 0.5
LOGIN_SECONDS = 60.0
GROWTH_PART = 0.15
"""By how much memory may have grown after the first half, for it to count as flat."""


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
    """Rotate and log in for that long."""
    rng, began = random.Random(seed), time.monotonic()  # noqa: S311 - it must be the same every time
    result = SoakResult()
    with estate(kinds) as world, Runners(world).ready() as runners:
        function = FunctionProcess()
        applications = Applications(_applications(world, kinds))
        try:
            with applications:
                while time.monotonic() - began < minutes * 60:
                    kind, runner = rng.choice(kinds), rng.choice(RUNNERS)
                    fault = (
                        Fault(rng.choice(FAULTS), rng.randrange(1, 90))
                        if rng.random() < FAULTED_PART
                        else None
                    )
                    _interval(world, applications)
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


def _interval(world: Estate, applications: Applications) -> None:
    """Let an interval pass, once everybody has logged in with what was served before."""
    seen = {a.name: a.logins + len(a.refusals) for a in applications.all}
    deadline = time.monotonic() + LOGIN_SECONDS
    # Two logins: the first may have begun before.
    while any(a.logins + len(a.refusals) < seen[a.name] + 2 for a in applications.all):
        if time.monotonic() > deadline:
            raise TimeoutError("an application does not log in any more")
        time.sleep(0.005)
    world.clock.jump(INTERVAL_SECONDS + 60)


def _rotate(
    world: Estate,
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


def _in_its_process(world: Estate, function: FunctionProcess, kind: str) -> Outcome:
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


def _applications(world: Estate, kinds: Sequence[str]) -> list[Application]:
    found = []
    for kind in kinds:
        credential = world.credential(kind)
        for store, source in (("aws", _aws(world, credential)), ("oci", _oci(world, credential))):
            for server in credential.servers:
                client = CredentialClient([source], max_age_seconds=0.0)
                found.append(Application(name=f"{kind} {store} {server.name}", client=client, server=server))
    assert len(found) == 2 * sum(len(KINDS[kind][1]) for kind in kinds)
    return found


def _aws(world: Estate, credential: Credential) -> Source:
    client, secret = world.aws.client("secretsmanager"), credential.secret_names.app_user
    return lambda: decode(read_secret(client, "aws", secret), store="aws", secret=secret)


def _oci(world: Estate, credential: Credential) -> Source:
    client: Any = world.oci.client(oci.secrets.SecretsClient)
    secret = credential.secret_names.app_user
    versions = VersionNames(credential_id=credential.id, secret=secret)
    ocids = [world.oci.vault.named(oci_vault.slot_name(secret, i), world.oci.vault_id) for i in range(RING)]

    def read() -> ClientCredential:
        bundles = [client.get_secret_bundle(ocid).data for ocid in ocids]
        ranked = [(versions.generation_of(b.version_name), -i) for i, b in enumerate(bundles)]
        _, place = max(ranked)
        text = base64.b64decode(bundles[-place].secret_bundle_content.content).decode()
        return decode(text, store="oci", secret=secret)

    return read


def _judge_memory(result: SoakResult, kilobytes: Sequence[int]) -> None:
    if len(kilobytes) < 8:
        return
    half = len(kilobytes) // 2
    result.memory_kilobytes = (kilobytes[half], max(kilobytes[half:]))
    result.memory_is_flat = result.memory_kilobytes[1] <= result.memory_kilobytes[0] * (1 + GROWTH_PART)
