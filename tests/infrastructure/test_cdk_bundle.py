"""The bundle: built from the image's sources, complete for every handler, and without anything else."""

import _hashlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdk import bundle, image, trim
from cdk.bundle import HANDLERS, ROOT, BundleError, build, read_bundle
from cdk.deployment import read_deployment
from cdk.settings import Settings
from lockstep.plan.file import PlanProblemsError
from sandbox.emulators.aws.lambda_host import InvocationResult, LambdaHost
from sandbox.emulators.aws.lambda_process import DeployedFunction, FunctionProcesses, copy_runtime
from tests.infrastructure.cdk_case import PLAN, synthesised

NO_STEPS = ("watch", "digest", "announce")
BAD_REQUEST = b'{"rotation": {}}'


@pytest.fixture(scope="module", name="out")
def _out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as the Dockerfile makes it, from the image's build context only."""
    assembly = synthesised()
    (image,) = json.loads((assembly.folder / "lockstep.assets.json").read_text())["dockerImages"].values()
    out = tmp_path_factory.mktemp("bundle") / "aws"
    command = ["-m", "cdk.bundle", "aws", "--plan", image["source"]["dockerBuildArgs"]["PLAN"]]
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, *command, "--out", str(out)],
        cwd=assembly.folder / image["source"]["directory"],
        check=True,
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    return out


@pytest.fixture(name="content")
def _content(out: Path) -> Path:
    return out / "content"


def _invoke(content: Path, scratch: Path, handler: str) -> InvocationResult:
    processes = FunctionProcesses(
        DeployedFunction(name="function", handler=handler, environment={}, task_root=content, memory_mb=512),
        runtime=copy_runtime(scratch / "runtime"),
        sandbox_environment={},
        log_file=scratch / "log",
    )
    host = LambdaHost(region="eu-central-1", account_id="123456789012")
    host.register("function", processes, timeout_seconds=30)
    try:
        return host.invoke("function", BAD_REQUEST)
    finally:
        processes.stop()


@pytest.mark.parametrize("function", [name for name in NO_STEPS if name != "digest"])
def test_what_is_no_step_refuses_another_input_under_the_runtime_client(
    content: Path, tmp_path: Path, function: str
) -> None:
    result = _invoke(content, tmp_path, f"functions.{function}.handler.handler")
    assert json.loads(result.payload)["errorType"] == "InvalidRequestError"


def test_the_digest_has_no_input_and_says_what_it_lacks(content: Path, tmp_path: Path) -> None:
    result = json.loads(_invoke(content, tmp_path, "functions.digest.handler.handler").payload)
    assert result["errorType"] == "InvalidPlanError"


@pytest.mark.parametrize("step", [name for name in HANDLERS if name not in NO_STEPS])
def test_a_handler_answers_under_the_runtime_client(content: Path, tmp_path: Path, step: str) -> None:
    result = _invoke(content, tmp_path, f"functions.{step}.handler.handler")
    assert json.loads(result.payload)["errorType"] == "InvalidRequestError"
    # The metric filters count by these fields.
    line = json.loads((tmp_path / "log").read_text().splitlines()[0])
    assert (line["step"], line["outcome"]) == (f"functions.{step}.step", "InvalidRequestError")


def _check(content: Path) -> subprocess.CompletedProcess[str]:
    """What the build does at its end."""
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-I", "-S", "-B", str(ROOT / "cdk/trim.py"), "check", "aws", str(content)],
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        # Imported when an error is handled, when a database is asked, when a client is made.
        ("botocore/retryhandler.pyc", "cannot import name 'retryhandler'"),
        ("lockstep/databases/tls.py", "lockstep.databases.base: No module named 'lockstep.databases.tls'"),
        ("botocore/data/kms", "Unknown service: 'kms'"),
        ("plan", ""),
    ],
)
def test_the_build_fails_if_a_module_is_missing(
    content: Path, tmp_path: Path, missing: str, complaint: str
) -> None:
    copy = tmp_path / "content"
    shutil.copytree(content, copy)
    (shutil.rmtree if (copy / missing).is_dir() else os.unlink)(copy / missing)
    done = _check(copy)
    assert done.returncode == (1 if complaint else 0)
    assert complaint in done.stdout + done.stderr


def test_it_holds_only_what_a_function_needs(content: Path) -> None:
    names = {entry.name for entry in content.iterdir()}
    assert {"botocore", "functions", "lockstep", "pg8000", "plan", "pymysql"} <= names
    assert not names & {"boto3", "oci", "oci_fn", "fdk", "pytest", "sandbox", "tests", "cdk", "bin"}
    # What reads a plan file.
    assert not names & {"pydantic", "pydantic_core", "ruamel", "durationpy"}
    assert not (content / "lockstep" / "cli").exists()
    services = {f.name for f in (content / "botocore" / "data").iterdir() if f.is_dir()}
    assert services == {"dynamodb", "events", "iam", "kms", "s3", "secretsmanager", "stepfunctions", "sts"}
    assert sum(f.stat().st_size for f in content.rglob("*") if f.is_file()) < 20_000_000


def test_it_holds_the_ca_files_of_the_plan_and_no_plan(content: Path) -> None:
    assert [f.name for f in (content / "plan").rglob("*") if f.is_file()] == ["example.pem"]
    assert (content / "plan" / "ca" / "example.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_our_own_modules_have_their_source_and_byte_code_with_an_unchecked_hash(content: Path) -> None:
    sources = [*content.rglob("*.py")]
    assert {f.relative_to(content).parts[0] for f in sources} == {"functions", "lockstep"}
    for source in sources:
        (compiled,) = source.parent.glob(f"__pycache__/{source.stem}.cpython-*.pyc")
        assert compiled.read_bytes()[4] == 1, "by hash, unchecked (PEP 552)"


def test_the_licences_of_all_packages_are_in_it(content: Path) -> None:
    packages = list(content.glob("*.dist-info"))
    assert len(packages) >= 10
    without = {
        p.name.partition("-")[0] for p in packages if not [*p.rglob("*LICEN[CS]E*"), *p.rglob("*COPYING*")]
    }
    # These have only the name of their licence, as their wheels do.
    assert {name for name in without if "License" not in _metadata(content, name)} == set()


def _metadata(content: Path, name: str) -> str:
    (file,) = content.glob(f"{name}-*.dist-info/METADATA")
    return file.read_text()


def test_a_library_without_its_symbols_is_as_before(tmp_path: Path) -> None:
    library = Path(_hashlib.__file__)
    copy = tmp_path / library.name
    shutil.copy(library, copy)
    cached = tmp_path / "cached"
    cached.hardlink_to(copy)
    trim.strip(copy)
    assert copy.stat().st_size < library.stat().st_size == cached.stat().st_size
    once = copy.read_bytes()
    trim.strip(copy)
    assert copy.read_bytes() == once
    program = "import _hashlib; print(_hashlib.__file__, _hashlib.new('sha256', b'').hexdigest())"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {program}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(copy), hashlib.sha256(b"").hexdigest()]
    text = tmp_path / "text.so"
    text.write_text("not a library")
    trim.strip(text)
    assert text.read_text() == "not a library"


def test_the_same_content_makes_the_same_archive(out: Path, tmp_path: Path) -> None:
    bundle._zip(out / "content", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (out / "bundle.zip").read_bytes()
    names = zipfile.ZipFile(out / "bundle.zip").namelist()
    assert "functions/generate/handler.py" in names
    assert read_bundle(out).zip_bytes == (out / "bundle.zip").stat().st_size < 7_500_000


def test_a_ca_file_outside_the_plans_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    shutil.copy(ROOT / PLAN.parent / "ca" / "example.pem", tmp_path / "example.pem")
    plan = tmp_path / "plan" / "lockstep.yaml"
    plan.write_text((ROOT / PLAN).read_text().replace("ca/example.pem", "../example.pem"))
    with pytest.raises(BundleError, match=r"databases\.orders\.ca_file"):
        build("aws", plan_file=plan, out=tmp_path / "out")


def test_what_is_shipped_has_no_variables(tmp_path: Path) -> None:
    file = tmp_path / "prod.yaml"
    file.write_text((ROOT / PLAN).read_text().replace("version: 1", "version: ${NONE:-1}", 1))
    for ship in (
        lambda: build("aws", plan_file=file, out=tmp_path / "out"),
        lambda: image.stage(file, tmp_path / "context"),
        lambda: read_deployment(Settings(plan=file)),
    ):
        with pytest.raises(PlanProblemsError) as caught:
            ship()
        assert f"lockstep plan render --plan {file}" in caught.value.lines[0]
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "context").exists()


def _pins(lock: str) -> Iterator[tuple[str, str]]:
    text = (ROOT / "locks" / lock).read_text()
    for match in re.finditer(
        r"^([a-z0-9-]+)==(\S+)(?:[^\\\n]*)((?: \\\n    --hash=\S+)+)", text, re.MULTILINE
    ):
        yield match[1] + "==" + match[2], match[3]


@pytest.mark.parametrize("lock", ["aws.txt", "oci.txt"])
def test_shipped_versions_are_the_tested_ones(lock: str) -> None:
    shipped, tested = dict(_pins(lock)), dict(_pins("dev.txt"))
    assert len(shipped) >= 15
    assert shipped.items() <= tested.items()


def test_the_image_builder_has_what_the_bundle_command_imports() -> None:
    builder = {pin.partition("==")[0]: hashes for pin, hashes in _pins("bootstrap.txt")}
    assert {"typer", "uv"} <= builder.keys()
    tested = {pin.partition("==")[0]: hashes for pin, hashes in _pins("dev.txt")}
    assert {name: tested.get(name) for name in builder if name != "uv"} == {
        name: hashes for name, hashes in builder.items() if name != "uv"
    }


def test_the_image_runs_without_privileges_and_names_its_base_once() -> None:
    lines = (ROOT / "functions" / "Dockerfile").read_text().splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line and not line.startswith(("#", " "))]
    assert [rest for name, rest in instructions if name == "USER"] == ["65534:65534"]
    assert [rest for name, rest in instructions if name == "FROM"] == [
        "--platform=$BUILDPLATFORM ${BASE} AS bundle",
        "${BASE}",
    ]
    assert not [rest for name, rest in instructions if name in {"ADD", "ENV"}]
