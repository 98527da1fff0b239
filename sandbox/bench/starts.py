"""What a start costs: imports and first clients in fresh processes, the bundles' bytes, the OCI function."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from cdk.bundle import Bundle, BundleError, build, ca_files
from lockstep.plan.file import load_plan
from lockstep.plan.published import compile_plan, write_folder
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox.fn import FUNCTION, running_function
from sandbox.steps import FUNCTIONS, ROOT

EXAMPLE_PLAN = ROOT / "lockstep.yaml"
REGION = "eu-central-1"

_BARE_CLIENT = f"""
from botocore.session import Session
Session().create_client("secretsmanager", region_name="{REGION}")
"""
_FIRST_CLIENT = f"""
import functions.%s.handler
from lockstep.aws.clients import aws_client
aws_client("secretsmanager", "{REGION}")
"""
_FIRST_PORTS = """
import functions.generate.handler
from lockstep.runtime.identity import AWS_RUNNER
from lockstep.runtime.wiring import hosted_runner
runner = hosted_runner(AWS_RUNNER)
runner.ports("multi-cloud/app_user")
"""
_TIMED = """
import sys, time
sys.path.insert(0, sys.argv[1])
began, worked = time.perf_counter(), time.process_time()
exec(sys.argv[2])
print(time.perf_counter() - began, time.process_time() - worked)
"""
_KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}


@dataclass(frozen=True, kw_only=True)
class Bundles:
    """What the functions of both clouds are shipped as.

    Attributes:
        aws: The folder of the AWS bundle's files.
        oci: The folder of the OCI function's.
        built: What was built, by runner.
    """

    aws: Path
    oci: Path
    built: Mapping[str, Bundle]

    @property
    def figures(self) -> dict[str, Any]:
        """The bytes, without Python itself."""
        return {
            name: {"zip_bytes": b.zip_bytes, "unpacked_bytes": b.unpacked_bytes}
            for name, b in self.built.items()
        }


def build_bundles(folder: Path, *, say: Callable[[str], None]) -> Bundles | None:
    """Build both for this machine, from the example plan; None where the packages cannot be had."""
    built = {}
    for runner in ("aws", "oci"):
        say(f"the bundle of {runner}")
        try:
            built[runner] = build(runner, plan_file=EXAMPLE_PLAN, out=folder / runner)
        except BundleError as error:
            say(str(error))
            return None
    return Bundles(aws=folder / "aws" / "content", oci=folder / "oci" / "content", built=built)


def imports(content: Path, *, tries: int) -> dict[str, Any]:
    """Milliseconds until a fresh process has its first client, with only a bundle and the standard library.

    Of a bare botocore client, of each handler with its client, and of one handler with plan and ports. The ratio is
    the largest of a handler with its client, by processor time, which other work on the machine does not lengthen.
    """
    programs = {
        "bare client": _BARE_CLIENT,
        **{f"{name}, first client": _FIRST_CLIENT % name for name in FUNCTIONS.values()},
        "generate, plan and ports": _FIRST_PORTS,
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for _, (name, program) in product(range(tries), programs.items()):
        took[name].append(_milliseconds(content, program))
    wall, processor = (
        {n: round(median(f[i] for f in found), 1) for n, found in took.items()} for i in (0, 1)
    )
    ratios = {name: round(ms / processor["bare client"], 2) for name, ms in processor.items()}
    return {
        "milliseconds": wall,
        "processor_milliseconds": processor,
        "ratios": ratios,
        "ratio": max(ratio for name, ratio in ratios.items() if name.endswith("first client")),
    }


def _milliseconds(content: Path, program: str) -> tuple[float, float]:
    """By the clock, and of the processor."""
    # `sys.executable` belongs to a virtual environment; -S hides its packages.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _TIMED, str(content), program],
        check=True,
        capture_output=True,
        text=True,
        cwd=content,
        env={"PATH": os.defpath, PLAN_VARIABLE: str(_published(EXAMPLE_PLAN, content.parent)), **_KEYS},
    )
    wall, processor = map(float, done.stdout.split())
    return wall * 1000, processor * 1000


def function_start(
    content: Path | None, environment: Mapping[str, str], credential_id: str, *, tries: int
) -> dict[str, Any]:
    """Milliseconds from the start of the function's process to its first answer, with nothing due.

    Args:
        content: The bundle's files; None: the repository's own, with all of its packages.
        environment: See `sandbox.fn.running_function`.
        credential_id: Of the plan that the environment names.
        tries: The result is their median.
    """
    took = [_first_answer_ms(content, environment, credential_id) for _ in range(tries)]
    return {
        "from": "bundle" if content else "repository",
        "milliseconds": round(median(wall for wall, _ in took)),
        "processor_milliseconds": round(median(processor for _, processor in took)),
    }


def _first_answer_ms(
    content: Path | None, environment: Mapping[str, str], credential_id: str
) -> tuple[float, float]:
    """By the clock; and of the processor, until the process has ended."""
    shipped: dict[str, Any] = {}
    if content:
        main = "import functions; from fdk.scripts.fdk import main; main()"
        function = content / FUNCTION.relative_to(ROOT)
        shipped = {"command": [sys.executable, "-S", "-c", main, str(function), "handler"]}
        # A bundle has no parser for the plan file.
        plan_file = Path(environment[PLAN_VARIABLE])
        environment = {
            **environment,
            PLAN_VARIABLE: str(_published(plan_file, plan_file.parent)),
            "PYTHONPATH": str(content),
        }
    began, worked = time.monotonic(), _worked_by_children()
    with running_function(environment, **shipped) as function_process:
        answer = function_process.call({"credential_id": credential_id})
        seconds = time.monotonic() - began
    worked = _worked_by_children() - worked
    [result] = answer.body.get("results", [answer.body])
    if result.get("outcome") != "skipped":
        raise RuntimeError(f"the function's first call was not skipped: {json.dumps(result)}")
    return seconds * 1000, worked * 1000


def _published(plan_file: Path, folder: Path) -> Path:
    """The plan as a function reads it, in a folder of this machine."""
    plan = load_plan(plan_file)
    published = compile_plan(plan.compiled, plan.shards, plan_file.parent)
    write_folder(published, folder / published.digest, ca_files(plan_file, plan))
    return folder / published.digest


def _worked_by_children() -> float:
    """Seconds of the processor that processes took which this one has started and which have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
