"""Builds the bundle that a runner executes: Lockstep, the packages that the runner uses, and CA files of the plan.

    python -m cdk.bundle aws --plan lockstep.yaml --out build/aws

writes `content/` (the files of Lambda's `/var/task` or OCI's `/function`), `bundle.zip` (the same files) and
`bundle.json` (the Python version and the processor that they are for). The Dockerfiles, the stack with
`-c packaging=zip`, `make deploy-local` and the size benchmark all use these files.

Packages come from `locks/`, with their hashes, as wheels for the target. Nothing is built, so a bundle for Arm can be
made on x86. What no handler uses is left out, most of all the larger part of the two clouds' SDKs: unpacked, oci takes
500 MB and botocore 30 MB. What is left is compiled, and imported once, unless it is for another processor than this
one (`cdk.trim`).
"""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from lockstep.plan.file import PlanProblemsError, Problem, load_source
from lockstep.plan.model import Plan
from lockstep.plan.published import CA_FOLDER
from lockstep.plan.stores import OciVault

Runner: TypeAlias = Literal["aws", "oci"]
Architecture: TypeAlias = Literal["arm64", "x86_64"]
Machine: TypeAlias = Literal["aarch64", "arm64", "amd64", "x86_64"]
"""A processor, also as Docker spells it."""

ROOT = Path(__file__).resolve().parent.parent
HANDLERS = ("generate", "apply_db", "update_secrets", "audit", "watch", "digest", "announce")
ARCHITECTURES: dict[str, Architecture] = {
    "aarch64": "arm64",
    "arm64": "arm64",
    "amd64": "x86_64",
    "x86_64": "x86_64",
}

_TASK_ROOT = {"aws": "/var/task", "oci": "/function"}
_UV_PLATFORM = {"arm64": "aarch64-manylinux2014", "x86_64": "x86_64-manylinux2014"}
_SOURCES = {"aws": ("lockstep", "functions"), "oci": ("lockstep", "functions", "oci_fn")}
_TRIM = Path(__file__).with_name("trim.py")
_FOR_PEOPLE = (
    "agent",
    "audit/confirmed.py",
    "audit/verify.py",
    "aws/reads.py",
    "cli",
    "client",
    "databases/sessions.py",
    "operate/[!_dvw]*",
    "operate/documents.py",
    "operate/doctor/[!_ins]*",
    "operate/doctor/in_*",
)
_OF_PLANS = ("plan/[!_cp]*", "plan/checks.py", "plan/credentials.py", "protocol/durations.py")
_NOT_SHIPPED = (*_FOR_PEOPLE, *_OF_PLANS)
"""Below `lockstep`: what no function does, and what reads a plan file. A function reads the compiled plan."""


class BundleError(Exception):
    """The bundle cannot be built; the text says what to change."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A finished bundle, as `bundle.json` describes it.

    Attributes:
        runner: The runner whose functions it contains.
        python: The Python version that its byte code and compiled packages are for, such as `3.13`.
        architecture: The processor that its compiled packages are for.
        unpacked_bytes: Size of all files.
        zip_bytes: Size of `bundle.zip`.
        oci: Whether its functions can reach OCI.
        ca_files: The plan's, as `digests` names them.
    """

    runner: Runner
    python: str
    architecture: Architecture
    unpacked_bytes: int
    zip_bytes: int
    oci: bool = False
    ca_files: tuple[str, ...] = ()


def running_architecture() -> Architecture:
    """The processor of this machine.

    Raises:
        BundleError: Neither Lambda nor OCI Functions offers it.
    """
    machine = platform.machine().lower()
    if machine not in ARCHITECTURES:
        raise BundleError(f"no function runs on a {machine} processor; set --architecture")
    return ARCHITECTURES[machine]


def build(
    runner: Runner,
    *,
    plan_file: Path,
    out: Path,
    architecture: Architecture | None = None,
) -> Bundle:
    """Build a bundle for the running Python, and replace the contents of `out`.

    Args:
        runner: The runner whose functions it is for.
        plan_file: The plan; its CA files must be in the plan's folder or below it.
        out: The folder to write.
        architecture: The processor; that of this machine by default.

    Raises:
        BundleError: A CA file is missing or outside the plan's folder.
        PlanProblemsError: The plan is not valid.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    architecture = architecture or running_architecture()
    plan = load_shipped_plan(plan_file)
    needs_oci = runner == "oci" or plan.store(OciVault) is not None
    content = out.resolve() / "content"
    shutil.rmtree(out, ignore_errors=True)
    content.mkdir(parents=True)
    shipped = copy_ca_files(content, plan_file, plan)
    _install_packages(content, "oci" if needs_oci else "aws", python, architecture)
    _copy_sources(content, runner)
    _run("-I", "-S", str(_TRIM), runner, str(content), _TASK_ROOT[runner], *_SOURCES[runner])
    if architecture == ARCHITECTURES.get(platform.machine().lower()):
        _run("-I", "-S", "-B", str(_TRIM), "check", runner, str(content))
    archive = out / "bundle.zip"
    _zip(content, archive)
    bundle = Bundle(
        runner=runner,
        python=python,
        architecture=architecture,
        unpacked_bytes=sum(f.stat().st_size for f in _files(content)),
        zip_bytes=archive.stat().st_size,
        oci=needs_oci,
        ca_files=shipped,
    )
    (out / "bundle.json").write_text(json.dumps(asdict(bundle), indent=2) + "\n")
    return bundle


def read_bundle(out: Path) -> Bundle:
    """The bundle in `out`.

    Raises:
        BundleError: There is none.
    """
    try:
        found = json.loads((out / "bundle.json").read_text())
        return Bundle(**{**found, "ca_files": tuple(found["ca_files"])})
    except OSError:
        raise BundleError(f"there is no bundle in {out}; run `make build`") from None


def _install_packages(content: Path, lock: str, python: str, architecture: Architecture) -> None:
    """As wheels for the target, with the hashes of the lock file; uv is from a lock file itself."""
    options = ("--quiet", "--no-deps", "--require-hashes", "--no-build", "--link-mode", "copy")
    target = ("--python-version", python, "--python-platform", _UV_PLATFORM[architecture])
    what = ("--target", str(content), "--requirements", str(ROOT / "locks" / f"{lock}.txt"))
    _run("-m", "uv", "pip", "install", *options, *target, *what)


def _copy_sources(content: Path, runner: Runner) -> None:
    for package in _SOURCES[runner]:
        sources = [path for kind in ("*.py", "*.sql") for path in (ROOT / package).rglob(kind)]
        for source in sorted(sources):
            relative = source.relative_to(ROOT)
            if not any(
                fnmatch(str(relative), f"lockstep/{n}{rest}") for n in _NOT_SHIPPED for rest in ("", "/*")
            ):
                _copy(source, content / relative)


def load_shipped_plan(file: Path) -> Plan:
    """As `load_plan`, of a plan that goes into a cloud: without variables, since a function has none.

    Raises:
        PlanProblemsError: As `load_plan`; or the plan has variables.
    """
    source = load_source(file)
    if source.document.variable:
        told = (
            "has variables, which a function has not; write what they come to, and deploy that: "
            f"lockstep plan render --plan {file} > rendered.yaml"
        )
        raise PlanProblemsError([Problem("", told, source.document.variable)])
    return source.plan


def ca_files(plan_file: Path, plan: Plan) -> dict[Path, Path]:
    """The CA files of a plan, by their paths from its folder, under which the functions look for them.

    Raises:
        BundleError: One is missing, or not in the plan's folder or below it.
    """
    found = {}
    for section in plan.database_sections:
        if ca_file := section.ca_file:
            is_below = ca_file.is_relative_to(plan_file.parent)
            name = ca_file.relative_to(plan_file.parent) if is_below else Path("..")
            if not ca_file.is_file() or ".." in name.parts:
                raise BundleError(
                    f"databases.{section.name}.ca_file: the file must exist, in the plan's folder or below it, under a "
                    "path that is relative to the plan, so that it can be part of the bundle"
                )
            found[name] = ca_file
    return found


def copy_ca_files(folder: Path, plan_file: Path, plan: Plan) -> tuple[str, ...]:
    """Copy the CA files of a plan to where a function looks for them; their paths there, with their SHA-256.

    Args:
        folder: That of the bundle, or of what the bundle is built from.
        plan_file: The plan's.
        plan: What it says.

    Raises:
        BundleError: As `ca_files`.
    """
    found = ca_files(plan_file, plan)
    for name, source in found.items():
        _copy(source, folder / CA_FOLDER / name)
    return digests(found)


def digests(found: Mapping[Path, Path]) -> tuple[str, ...]:
    """Of CA files, each with its path."""
    return tuple(
        sorted(f"{name} {hashlib.sha256(source.read_bytes()).hexdigest()}" for name, source in found.items())
    )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _run(*words: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, *words], check=False, capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode:
        raise BundleError(f"the bundle is not complete:\n{done.stdout}{done.stderr}")


def _zip(content: Path, archive: Path) -> None:
    """Write the archive. The same content gives the same bytes, so that an unchanged bundle is not deployed again."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in _files(content):
            entry = zipfile.ZipInfo(str(path.relative_to(content)), date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, path.read_bytes())


def _files(content: Path) -> list[Path]:
    return sorted(p for p in content.rglob("*") if p.is_file())


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def bundle(
    runner: Annotated[Runner, typer.Argument(help="The runner whose bundle is built.")],
    *,
    plan: Annotated[Path, typer.Option(help="The plan file.")] = Path("lockstep.yaml"),
    out: Annotated[Path | None, typer.Option(help="The folder to write.  [default: build/<runner>]")] = None,
    architecture: Annotated[
        Machine | None, typer.Option(help="The processor.  [default: that of this machine]")
    ] = None,
) -> None:
    """Build what is shipped to a cloud, and print its figures as one line of JSON.

    Exit code: 0 built, 2 wrong use, an invalid plan, or a bundle that cannot be built.
    """
    folder = out or ROOT / "build" / runner
    try:
        built = build(
            runner,
            plan_file=plan,
            out=folder,
            architecture=ARCHITECTURES[architecture] if architecture else None,
        )
    except PlanProblemsError as error:
        typer.echo("\n".join(error.lines), err=True)
        raise typer.Exit(2) from None
    except BundleError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(json.dumps(asdict(built)))


if __name__ == "__main__":
    app(prog_name="python -m cdk.bundle")
