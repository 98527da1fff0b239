"""`make bench`: what a rotation costs, measured on this machine.

Seconds of warm rotations by both runners, the calls that each step makes and which of them cross the clouds, the
logins per database, the import time of each handler, the cold start of the OCI function. Ends with one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from lockstep.model import Credential, Strategy
from sandbox import plans
from sandbox.applications import TIMEOUT_SECONDS
from sandbox.aws import InvocationContext
from sandbox.aws.lambda_host import InvocationResult
from sandbox.databases import CertificateAuthority
from sandbox.estate import FUNCTIONS, Estate, running_estate
from sandbox.fn import FunctionProcess, running_function
from sandbox.servers import default_servers
from sandbox.timeline import duration_ms

WARM_UP = 2
ROTATIONS = 10


@dataclass
class Calls:
    """Calls of the rotation under way, as `step: service operation`."""

    step: str = "state machine"
    seen: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="lockstep-bench-") as folder:
        servers = default_servers(CertificateAuthority(Path(folder)))
        servers.pop("crm", None)  # Figures stay comparable with those from before MySQL was there.
        app_user = plans.credential(
            "multi-cloud/app_user",
            *servers,
            username="app_user",
            strategy=Strategy.ALTERNATING_USERS,
        )
        with (
            running_estate([app_user], servers, folder=Path(folder)) as estate,
            running_function(estate.function_environment) as function,
        ):
            [credential] = estate.plan.credentials
            figures = {
                "databases": [f"{s.product} {s.version}" for s in servers.values()],
                "aws": _by_aws(estate, credential),
                "oci": _by_oci(estate, function, credential),
                "oci_cold_start_ms": _cold_start_ms(estate, credential),
            }
    figures["handler_import_ms"] = {name: _import_ms(name) for name in FUNCTIONS.values()}
    print(json.dumps(figures))  # noqa: T201 - for other programs
    return 0


def _by_aws(estate: Estate, credential: Credential) -> dict[str, Any]:
    took, calls = [], Calls()
    for n in range(WARM_UP + ROTATIONS):
        estate.outside.expire_schedule(credential.id)
        estate.oci.calls.clear()
        with _counting(estate, calls) if n == WARM_UP else _not_counting():
            execution = estate.rotate(credential.id)
        if n == WARM_UP:
            oci = Counter(r.service for r in estate.oci.calls.records)
        if n >= WARM_UP:
            took.append(duration_ms(execution))
    by_step: dict[str, Counter[str]] = {}
    for key, count in calls.seen.items():
        step, _, call = key.partition(": ")
        by_step.setdefault(step, Counter())[call] += count
    return {
        "rotation_ms_median": round(median(took)),
        "rotation_ms_max": max(took),
        "aws_calls_by_step": {step: dict(c) for step, c in by_step.items()},
        "aws_calls": sum(calls.seen.values()),
        "oci_calls_across_clouds": dict(oci),
    }


def _by_oci(estate: Estate, function: FunctionProcess, credential: Credential) -> dict[str, Any]:
    took = []
    for n in range(WARM_UP + ROTATIONS):
        estate.outside.expire_schedule(credential.id)
        estate.oci.calls.clear()
        calls = Calls(step="function")
        with _counting(estate, calls) if n == WARM_UP else _not_counting():
            began = time.monotonic()
            function.call({"credential_id": credential.id})
            seconds = time.monotonic() - began
        if n == WARM_UP:
            oci, aws = Counter(r.service for r in estate.oci.calls.records), calls.seen
        if n >= WARM_UP:
            took.append(seconds * 1000)
    return {
        "rotation_ms_median": round(median(took)),
        "rotation_ms_max": round(max(took)),
        "oci_calls": dict(oci),
        "aws_calls_across_clouds": {key.partition(": ")[2]: count for key, count in aws.items()},
    }


@contextmanager
def _counting(estate: Estate, calls: Calls) -> Iterator[None]:
    """Count the AWS calls of what runs inside, by step."""
    host = estate.aws.lambda_host

    def enter(call: InvocationContext, _event: object) -> None:
        calls.step = call.function_name

    def leave(_call: InvocationContext, _event: object, _result: InvocationResult) -> None:
        calls.step = "state machine"

    def see(service: str, operation: str) -> None:
        calls.seen[f"{calls.step}: {service} {operation}"] += 1

    host.before_call, host.after_call = enter, leave
    estate.aws.on_request = see
    try:
        yield
    finally:
        host.before_call = host.after_call = None
        estate.aws.on_request = None


@contextmanager
def _not_counting() -> Iterator[None]:
    yield


def _cold_start_ms(estate: Estate, credential: Credential) -> int:
    """From the start of the process to the answer of a first call that finds nothing due."""
    began = time.monotonic()
    with running_function(estate.function_environment) as function:
        function.call({"credential_id": credential.id}, seconds=TIMEOUT_SECONDS * 6)
        return round((time.monotonic() - began) * 1000)


def _import_ms(function: str) -> int:
    """How long a fresh process takes to import a handler, in milliseconds: the median of three."""
    code = f"import time; t = time.perf_counter(); import functions.{function}.handler; print(time.perf_counter() - t)"
    tries = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    return round(median(tries) * 1000)


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m sandbox.bench", description=__doc__.partition("\n")[0]
    ).parse_args()
    sys.exit(main())
