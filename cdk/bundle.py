"""What is shipped: Lockstep, the pinned packages that a runner uses, and the plan; nothing else.

    python -m cdk.bundle aws --plan lockstep.yaml --out build/aws

makes `content/`, the files as they stand in Lambda's `/var/task` (or in OCI's `/function`), `bundle.zip` of the same
files, and `bundle.json`, which says for which Python and processor they are. The Dockerfiles, the stack with
`-c packaging=zip`, `make deploy-local` and the size benchmark all take what this makes.

Packages come from `locks/`, with their hashes, as wheels for the target: nothing is compiled, so a bundle for Arm can
be made on x86. What no handler imports is left out, above all most of the two clouds' SDKs: unpacked, oci is 500 MB
and botocore 30 MB. Byte code is made here, since a function's file system is read-only: without it every cold start
compiles everything anew.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal, TypeAlias

from lockstep.plan import OciVault, Plan
from lockstep.plan_file import PlanProblemsError, load_plan

Runner: TypeAlias = Literal["aws", "oci"]
Architecture: TypeAlias = Literal["arm64", "x86_64"]

ROOT = Path(__file__).resolve().parent.parent
PLAN_IN_BUNDLE = Path("plan/lockstep.yaml")
"""Where the plan stands, relative to the working directory of a function."""
HANDLERS = ("generate", "apply_db", "update_secrets", "audit")
ARCHITECTURES: dict[str, Architecture] = {
    "aarch64": "arm64",
    "arm64": "arm64",
    "amd64": "x86_64",
    "x86_64": "x86_64",
}

_TASK_ROOT = {"aws": "/var/task", "oci": "/function"}
_UV_PLATFORM = {"arm64": "aarch64-manylinux2014", "x86_64": "x86_64-manylinux2014"}
_SOURCES = {"aws": ("lockstep", "functions"), "oci": ("lockstep", "functions", "oci_fn")}
_NOT_SHIPPED = frozenset({"lockstep/cli", "lockstep/client.py"})
_BOTOCORE_SERVICES = frozenset({"dynamodb", "kms", "s3", "secretsmanager", "sts"})
# The SDK's own modules import dns and work_requests.
_OCI_SERVICES = frozenset({"dns", "object_storage", "secrets", "vault", "work_requests"})
# In the lock file since another package asks for them, but imported by no handler: the SDK's asynchronous client, its
# hardware tokens, the test tools that fdk depends on.
_UNUSED = frozenset(
    {
        "aiohappyeyeballs",
        "aiohttp",
        "aiosignal",
        "attr",
        "attrs",
        "boto3",
        "bin",
        "cffi",
        "Cython",
        "cython.py",
    }
    | {"_distutils_hack", "distutils-precedence.pth", "docs", "frozenlist", "idna", "iniconfig", "iso8601"}
    | {"multidict", "OpenSSL", "packaging", "pbr", "pkcs11", "pluggy", "propcache", "py.py", "pycparser"}
    | {"pygments", "pyopenssl", "_pytest", "pytest", "pytest_asyncio", "python_pkcs11", "pyximport"}
    | {"s3transfer", "setuptools", "wheel", "yarl"}
)
_FOR_OCI_FUNCTIONS = frozenset({"fdk", "httptools"})


class BundleError(Exception):
    """The bundle cannot be made; the text says what to change."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A finished bundle, as `bundle.json` tells it.

    Attributes:
        runner: Whose functions it serves.
        python: Version of the Python that its byte code and its compiled packages are for, such as `3.13`.
        architecture: The processor that its compiled packages are for.
        unpacked_bytes: Size of all files.
        zip_bytes: Size of `bundle.zip`.
    """

    runner: Runner
    python: str
    architecture: Architecture
    unpacked_bytes: int
    zip_bytes: int


def running_python() -> str:
    """The version of this interpreter, as `3.13`."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def running_architecture() -> Architecture:
    """The processor that this runs on.

    Raises:
        BundleError: Neither Lambda nor OCI Functions has it.
    """
    machine = platform.machine().lower()
    if machine not in ARCHITECTURES:
        raise BundleError(f"no function can run on {machine}; give --architecture")
    return ARCHITECTURES[machine]


def build(
    runner: Runner,
    *,
    plan_file: Path,
    out: Path,
    python: str | None = None,
    architecture: Architecture | None = None,
) -> Bundle:
    """Make a bundle, in place of what stood in `out`.

    Args:
        runner: Whose functions it is for.
        plan_file: The plan; its CA files must stand beside or below it.
        out: A folder.
        python: By default the running version.
        architecture: By default that of this machine.

    Raises:
        BundleError: A CA file lies outside the plan's folder, or the target's Python is not installed here.
        PlanProblemsError: The plan is not valid.
    """
    python = python or running_python()
    architecture = architecture or running_architecture()
    plan = load_plan(plan_file)
    needs_oci = runner == "oci" or plan.store(OciVault) is not None
    content = out / "content"
    shutil.rmtree(out, ignore_errors=True)
    content.mkdir(parents=True)
    _install_packages(content, ROOT / "locks" / ("oci.txt" if needs_oci else "aws.txt"), python, architecture)
    _leave_out(content, _UNUSED | (frozenset() if runner == "oci" else _FOR_OCI_FUNCTIONS))
    _copy_sources(content, runner)
    _copy_plan(content, plan_file, plan)
    _compile(content, python, task_root=_TASK_ROOT[runner])
    archive = out / "bundle.zip"
    _zip(content, archive)
    bundle = Bundle(
        runner=runner,
        python=python,
        architecture=architecture,
        unpacked_bytes=sum(f.stat().st_size for f in _files(content)),
        zip_bytes=archive.stat().st_size,
    )
    (out / "bundle.json").write_text(json.dumps(asdict(bundle), indent=2) + "\n")
    return bundle


def read_bundle(out: Path) -> Bundle:
    """What stands in `out`.

    Raises:
        BundleError: No bundle does.
    """
    try:
        return Bundle(**json.loads((out / "bundle.json").read_text()))
    except OSError:
        raise BundleError(f"there is no bundle in {out}; run `make build`") from None


def import_milliseconds(content: Path, module: str, *, tries: int = 3) -> float:
    """How long an import takes in a fresh process that sees the bundle and the standard library alone.

    Args:
        content: The unpacked bundle, made for the running interpreter.
        module: Such as `functions.generate.handler`.
        tries: The median of so many is told.
    """
    program = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); began = time.perf_counter(); "
        "__import__(sys.argv[2]); print(time.perf_counter() - began)"
    )
    command = [sys.executable, "-I", "-S", "-c", program, str(content.resolve()), module]
    # `sys.executable` is that of a virtual environment; -S keeps its packages out.
    seconds = [
        float(subprocess.run(command, check=True, capture_output=True, text=True, cwd=content).stdout)  # noqa: S603 - our own interpreter
        for _ in range(tries)
    ]
    return round(median(seconds) * 1000, 1)


def _install_packages(content: Path, lock: Path, python: str, architecture: Architecture) -> None:
    _uv(
        *("pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-build", "--link-mode", "copy"),
        *("--target", str(content), "--requirements", str(lock)),
        *("--python-version", python, "--python-platform", _UV_PLATFORM[architecture]),
    )


def _leave_out(content: Path, names: frozenset[str]) -> None:
    for entry in content.iterdir():
        name = entry.name
        distribution = name.removesuffix(".dist-info").partition("-")[0]
        if name in names or (name.endswith(".dist-info") and distribution in {n.lower() for n in names}):
            _remove(entry)
    for folder in (content / "botocore" / "data").iterdir():
        if folder.is_dir() and folder.name not in _BOTOCORE_SERVICES:
            shutil.rmtree(folder)
    # A folder of the OCI SDK is a service's if it has models.
    for models in list((content / "oci").glob("*/models")):
        if models.parent.name not in _OCI_SERVICES:
            shutil.rmtree(models.parent)


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry)
    else:
        entry.unlink()


def _copy_sources(content: Path, runner: Runner) -> None:
    for package in _SOURCES[runner]:
        for source in sorted((ROOT / package).rglob("*.py")):
            relative = source.relative_to(ROOT)
            if not any(relative.is_relative_to(left_out) for left_out in _NOT_SHIPPED):
                _copy(source, content / relative)
    if runner == "oci":
        # It reads from there how the steps are retried.
        _copy(ROOT / "statemachine.asl.json", content / "statemachine.asl.json")


def _copy_plan(content: Path, plan_file: Path, plan: Plan) -> None:
    copy = content / PLAN_IN_BUNDLE
    _copy(plan_file, copy)
    folder = plan_file.resolve().parent
    for server in plan.databases:
        if server.tls and server.tls.ca_file:
            ca_file = server.tls.ca_file.resolve()
            if _is_below(ca_file, folder):
                _copy(ca_file, copy.parent / ca_file.relative_to(folder))
    for server in load_plan(copy).databases:
        shipped = (
            server.tls is None or server.tls.ca_file is None or _is_below(server.tls.ca_file, copy.parent)
        )
        if not shipped:
            raise BundleError(
                f"databases.{server.name}.tls.ca_file: put the file into the plan's folder and name it "
                "relative to the plan, so that it can be shipped with it"
            )


def _is_below(file: Path, folder: Path) -> bool:
    return file.is_file() and file.resolve().is_relative_to(folder.resolve())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _compile(content: Path, python: str, *, task_root: str) -> None:
    interpreter = sys.executable if python == running_python() else _uv("python", "find", python).strip()
    # Unchecked: unpacking gives files new dates, by which Python would take the byte code for stale.
    subprocess.run(  # noqa: S603 - an interpreter of this machine
        [
            *(interpreter, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
            *("-s", str(content), "-p", task_root, str(content)),
        ],
        check=True,
    )


def _zip(content: Path, archive: Path) -> None:
    """The same content gives the same file, so that a deployment without changes changes nothing."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for path in _files(content):
            entry = zipfile.ZipInfo(str(path.relative_to(content)), date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, path.read_bytes())


def _files(content: Path) -> Iterator[Path]:
    return iter(sorted(p for p in content.rglob("*") if p.is_file()))


def _uv(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 - uv, from the lock file
        [sys.executable, "-m", "uv", *arguments], check=False, capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode:
        raise BundleError(f"uv {arguments[0]} {arguments[1]}: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cdk.bundle", description="Make what is shipped to a cloud."
    )
    parser.add_argument("runner", choices=["aws", "oci"])
    parser.add_argument("--plan", type=Path, default=Path("lockstep.yaml"))
    parser.add_argument("--out", type=Path, help="a folder; by default build/<runner>")
    parser.add_argument("--python", help="a version such as 3.13; by default the running one")
    parser.add_argument("--architecture", choices=sorted(set(ARCHITECTURES.values())))
    parser.add_argument("--machine", choices=sorted(ARCHITECTURES), help="the same, as Docker spells it")
    arguments = parser.parse_args()
    out = arguments.out or ROOT / "build" / arguments.runner
    try:
        bundle = build(
            arguments.runner,
            plan_file=arguments.plan,
            out=out,
            python=arguments.python,
            architecture=arguments.architecture or ARCHITECTURES.get(arguments.machine),
        )
    except PlanProblemsError as error:
        print("\n".join(error.problems), file=sys.stderr)  # noqa: T201 - the command's output
        return 2
    except BundleError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the command's output
        return 2
    figures = asdict(bundle)
    if (bundle.python, bundle.architecture) == (running_python(), running_architecture()):
        figures["import_milliseconds"] = {
            name: import_milliseconds(out / "content", f"functions.{name}.handler") for name in HANDLERS
        }
    print(json.dumps(figures))  # noqa: T201 - the command's output
    return 0


if __name__ == "__main__":
    sys.exit(main())
