"""The image of the OCI function: its build context, its Dockerfile, and how its bundle behaves under the real fdk."""

import json
import os
import re
import stat
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from cdk import image
from cdk.bundle import ROOT, read_bundle
from cdk.image import DOCKERFILE, PLAN_IN_CONTEXT, PROGRAMS
from lockstep.plan.file import load_plan
from lockstep.plan.published import CA_FOLDER, FolderOfPlan, PublishedPlan, compile_plan, write_folder
from lockstep.protocol.model import Engine
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox import plans
from sandbox.emulators.oci.identity import new_private_key
from sandbox.fn import FunctionProcess, running_function
from tests.infrastructure.cdk_case import PLAN

CA_FILE = ROOT / PLAN.parent / "ca/example.pem"


@pytest.fixture(scope="module", name="plan_file")
def _plan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan outside the repository, under another name, with the CA file of a database's private root."""
    folder = tmp_path_factory.mktemp("estate")
    (folder / "ca").mkdir()
    (folder / "ca/rds.pem").write_bytes(CA_FILE.read_bytes())
    (folder / "terraform.tfstate").write_text("{}")
    document = plans.plan_document(
        [plans.database("orders", Engine.MYSQL, tls="ca/rds.pem")],
        [plans.credential("multi-cloud/app_user", "orders")],
        oci=plans.OciNames(vault_id="ocid1.vault.oc1..aaaa"),
    )
    return plans.write_plan(folder / "production.yaml", document)


@pytest.fixture(scope="module", name="context")
def _context(plan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image") / "context"
    image.stage(plan_file, folder)
    return folder


@pytest.fixture(scope="module", name="out")
def _out(context: Path) -> Path:
    """The bundle, built as the Dockerfile builds it: by a process that has the build context only."""
    out = context.parent / "bundle"
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, *_bundle_command()[1:], "--plan", str(PLAN_IN_CONTEXT), "--out", str(out)],
        cwd=context,
        check=True,
        capture_output=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    return out


@pytest.fixture(name="content")
def _content(out: Path) -> Path:
    return out / "content"


# ---- the Dockerfile


def _instructions() -> list[tuple[str, str]]:
    text = (ROOT / DOCKERFILE).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def _all(name: str) -> list[str]:
    return [rest for found, rest in _instructions() if found == name]


def _bundle_command() -> list[str]:
    (command,) = [rest for rest in _all("RUN") if "cdk.bundle" in rest]
    # The options that the test gives with its own values.
    return command.partition(" --plan")[0].split()


def _entry_point() -> list[str]:
    (entry_point,) = _all("ENTRYPOINT")
    return list(json.loads(entry_point))


def test_base_images_and_the_plan_are_arguments() -> None:
    arguments = dict(rest.partition("=")[::2] for rest in _all("ARG"))
    assert arguments.keys() == {"BUILDER", "BASE", "PLAN", "TARGETARCH"}
    assert _all("FROM") == ["--platform=$BUILDPLATFORM ${BUILDER} AS bundle", "${BASE}"]
    # Both have the Python version that the bundle is compiled for.
    assert arguments["BUILDER"] == f"{arguments['BASE']}-dev"
    used = " ".join(rest for name, rest in _instructions() if name != "ARG")
    assert {name for name in arguments if re.search(rf"\$\{{?{name}\b", used)} == arguments.keys()


def test_everything_that_is_copied_exists(context: Path, out: Path) -> None:
    for rest in _all("COPY"):
        *sources, target = rest.split()
        if sources[0] == "--from=bundle":
            assert sources[1:] == ["/bundle/content/"]
            assert target == "/function/"
        else:
            assert all((context / source).exists() for source in sources)
    locks = set(re.findall(r"locks/\w+\.txt", " ".join(_all("RUN"))))
    assert {str(f.relative_to(context)) for f in (context / "locks").iterdir()} >= locks
    assert (out / "content").is_dir()


def test_it_runs_without_privileges() -> None:
    assert _all("USER") == ["1000:1000"]
    assert not _all("ADD")


# ---- the build context


def test_the_context_holds_only_what_the_bundle_is_made_of(context: Path) -> None:
    assert {entry.name for entry in context.iterdir()} == {
        "cdk",
        "functions",
        "lockstep",
        "locks",
        "oci_fn",
        "plan",
    }
    assert sorted(f.name for f in (context / "cdk").iterdir() if f.suffix == ".py") == [
        "__init__.py",
        "bundle.py",
        "trim.py",
    ]
    assert not [f for f in context.rglob("*") if f.suffix in {".tf", ".tfstate", ".pyc"}]
    assert sorted(f.name for f in (context / "plan").rglob("*") if f.is_file()) == [
        "lockstep.yaml",
        "rds.pem",
    ]


# ---- the bundle


def test_a_document_of_the_plan_finds_its_ca_file_in_the_bundle(
    content: Path, plan_file: Path, tmp_path: Path
) -> None:
    plan = load_plan(plan_file)
    published = compile_plan(plan.compiled, plan.shards, plan_file.parent)
    write_folder(published, tmp_path, {})
    source = PublishedPlan(published.digest, FolderOfPlan(tmp_path), ca_folder=content / CA_FOLDER)
    (credential,) = source.of(plan.credentials[0].id).credentials
    (ca_file,) = credential.primary.ca_files
    assert ca_file.read_bytes() == CA_FILE.read_bytes()


def test_it_holds_only_what_the_function_needs(content: Path) -> None:
    names = {entry.name for entry in content.iterdir()}
    assert {"botocore", "fdk", "functions", "lockstep", "oci", "oci_fn", "pg8000", "plan", "pymysql"} <= names
    assert not names & {"boto3", "pytest", "_pytest", "Cython", "sandbox", "tests", "cdk", "bin", "pip", "uv"}
    assert not (content / "lockstep/cli").exists()
    assert not (content / "oci_fn/terraform").exists()


def test_it_is_small(out: Path) -> None:
    # Measured: 23.5 MB and 8.9 MB, of which 12 are the library of cryptography. The whole SDK takes over 500 MB.
    bundle = read_bundle(out)
    assert bundle.runner == "oci"
    assert bundle.unpacked_bytes < 24_000_000
    assert bundle.zip_bytes < 9_000_000


@pytest.fixture(name="function")
def _function(content: Path, plan_file: Path, tmp_path: Path) -> Iterator[FunctionProcess]:
    """The image's entry point with the bundle as the only path besides the standard library, and a published plan."""
    plan = load_plan(plan_file)
    published = compile_plan(plan.compiled, plan.shards, plan_file.parent)
    write_folder(published, tmp_path / published.digest, {})
    program, *arguments = _entry_point()
    assert program == "python3"
    command = [a.replace("/function", str(content)) for a in arguments]
    environment = {name: value.replace("/function", str(content)) for name, value in _environment().items()}
    environment[PLAN_VARIABLE] = str(tmp_path / published.digest)
    with running_function(environment, command=[sys.executable, "-S", *command]) as function:
        yield function


def _environment() -> dict[str, str]:
    return dict(word.split("=", 1) for rest in _all("ENV") for word in rest.split())


def test_fdk_calls_the_function(function: FunctionProcess) -> None:
    answer = function.call({"credential_id": "nobody/knows"})
    assert (answer.status, answer.body["error"]) == (502, "InvalidRequestError"), function.log


def test_a_rotation_begins_with_the_functions_own_identity(function: FunctionProcess) -> None:
    # Outside OCI it has none. Everything that a rotation imports before that is in the bundle.
    (result,) = function.call({"credential_ids": ["multi-cloud/app_user"]}).body["results"]
    assert (result["outcome"], result["error"]) == ("failed", "StoreAccessDeniedError"), function.log
    # So does the look at all of them.
    assert function.call().body["error"] == "StoreAccessDeniedError", function.log


def test_the_bundle_can_sign_as_a_resource_principal(content: Path, tmp_path: Path) -> None:
    key = new_private_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "token").write_text(
        ".".join(_base64({**part, "exp": 4_000_000_000}) for part in ({"alg": "RS256"}, {}, {}))
    )
    environment = {
        "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
        "OCI_RESOURCE_PRINCIPAL_RPST": str(tmp_path / "token"),
        "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": str(tmp_path / "key.pem"),
        "OCI_RESOURCE_PRINCIPAL_REGION": "eu-frankfurt-1",
        "PYTHONPATH": str(content),
    }
    program = "from lockstep.runtime.identity import own_oci_identity; print(type(own_oci_identity().signer).__name__)"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-S", "-c", program], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    assert done.stdout.decode().strip() == "EphemeralResourcePrincipalSigner"


def _base64(document: dict[str, object]) -> str:
    return urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


# ---- the command


def run(*arguments: str) -> Any:  # noqa: ANN401 - typer's result
    return CliRunner().invoke(image.app, list(arguments))


def test_docker_is_called_with_the_plan_the_platform_and_the_bases(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = _recorder(tmp_path, "docker")
    monkeypatch.setenv("PATH", str(tmp_path))
    context = tmp_path / "context"
    options = ("--platform", "linux/arm64", "--base", "base@sha256:1", "--builder", "builder@sha256:2")
    done = run("--plan", str(plan_file), "--tag", "r/lockstep:1", "--context", str(context), *options)
    assert done.exit_code == 0, done.output
    assert written.read_text().splitlines() == [
        *("1", "build", "--platform", "linux/arm64"),
        *("--file", str(context / DOCKERFILE), "--tag", "r/lockstep:1"),
        # An index, as of an image with attestations, may be refused by OCI Functions.
        *("--provenance=false", "--sbom=false"),
        *("--build-arg", "PLAN=plan/lockstep.yaml"),
        *("--build-arg", "BASE=base@sha256:1", "--build-arg", "BUILDER=builder@sha256:2"),
        str(context),
    ]


def _recorder(folder: Path, name: str, *, exit_code: int = 0) -> Path:
    """A program that writes down BuildKit's setting and its arguments."""
    written, program = folder / f"{name}.arguments", folder / name
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$DOCKER_BUILDKIT" "$@" > {written}\nexit {exit_code}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return written


def test_without_a_program_the_error_names_both(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    options = ("--plan", str(plan_file), "--context", str(tmp_path / "context"))
    done = run(*options)
    assert done.exit_code == 2
    assert all(program in done.output for program in PROGRAMS)
    assert run(*options, "--context-only").exit_code == 0


@pytest.mark.parametrize("target", ["build-oci", "image-oci", "deploy-oci", "destroy-oci"])
def test_the_targets_are_for_the_plan_that_is_named(target: str) -> None:
    done = subprocess.run(  # noqa: S603 - make, which prints commands
        ["make", "--dry-run", target, "PLAN=estate/production.yaml"],  # noqa: S607 - likewise
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    named = [
        line for line in done.stdout.splitlines() if "lockstep.yaml" in line or "production.yaml" in line
    ]
    assert named
    assert not [line for line in named if "lockstep.yaml" in line]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (["TERRAFORM=no-such-program"], "make deploy-oci TERRAFORM=/path/to/terraform"),
        (
            ["TERRAFORM=true", "PLAN=nowhere.yaml"],
            "nowhere.yaml is no file. Name your plan: make deploy-oci PLAN=",
        ),
    ],
)
def test_what_is_missing_for_a_deployment_is_told_with_the_next_command(
    settings: list[str], complaint: str
) -> None:
    done = subprocess.run(  # noqa: S603 - make, whose set-up is left out
        ["make", "--silent", "--old-file=setup", "deploy-oci", *settings],  # noqa: S607 - likewise
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[0]
