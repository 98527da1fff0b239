"""The image of the OCI function: its build context, its Dockerfile, and how its bundle behaves under the real fdk."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner, Result

from cdk import image
from cdk.bundle import ROOT, read_bundle
from cdk.image import DOCKERFILE, PLAN_IN_CONTEXT, PROGRAMS
from lockstep.plan.file import load_plan
from lockstep.plan.published import CA_FOLDER, compile_plan
from lockstep.protocol.model import Engine
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox import plans
from sandbox.emulators.oci.identity import new_private_key
from sandbox.fn import FunctionProcess, running_function
from tests.infrastructure.cdk_case import PLAN
from tests.support.programs import ran
from tests.support.published import from_folder, write_published

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
    (command,) = [rest for rest in _all("RUN") if "cdk.bundle" in rest]
    words = command.partition(" --plan")[0].split()[1:]
    ran(
        [sys.executable, *words, "--plan", str(PLAN_IN_CONTEXT), "--out", str(out)],
        cwd=context,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    return out


def _all(name: str, dockerfile: str | Path = DOCKERFILE) -> list[str]:
    """What follows an instruction of the Dockerfile."""
    text = (ROOT / dockerfile).read_text().replace("\\\n", " ")
    lines = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return [rest for found, _, rest in lines if found == name]


# ---- the Dockerfile and the build context


@pytest.mark.parametrize("folder", ["cdk", "docs/how-to/agent", "functions", "oci_fn"])
def test_images_are_of_bases_by_their_digests_and_run_without_privileges(folder: str) -> None:
    """Dependabot does not look behind an ARG."""
    pinned = r"([a-z./-]+):(\d\.\d+[a-z\d.-]*@sha256:[0-9a-f]{64})(?= |$)"
    bases = [re.findall(pinned, rest)[0] for rest in _all("FROM", f"{folder}/Dockerfile")]
    assert len({*bases}) == len(dict(bases))
    (user,) = _all("USER", f"{folder}/Dockerfile")
    assert (int(user.partition(":")[0]) >= 1000, _all("ADD", f"{folder}/Dockerfile")) == (True, [])


def test_every_command_names_the_interpreter_by_the_version_of_the_base() -> None:
    (version,) = {re.findall(r":(\d\.\d+)", rest)[0] for rest in _all("FROM")}
    commands = " ".join([*_all("RUN"), *json.loads(_all("ENTRYPOINT")[0])])
    assert {*re.findall(r"python[\d.]*(?= )", commands)} == {f"python{version}"}


def test_the_context_holds_what_is_copied_and_only_what_the_bundle_is_made_of(context: Path) -> None:
    for rest in _all("COPY"):
        *sources, target = rest.split()
        if sources[0] == "--from=bundle":
            assert (sources[1], target) in {("/bundle/content/", "/function/"), ("/etc/passwd", "/etc/")}
        else:
            assert all((context / source).exists() for source in sources)
    locks = set(re.findall(r"locks/\w+\.txt", " ".join(_all("RUN"))))
    assert {str(f.relative_to(context)) for f in (context / "locks").iterdir()} >= locks
    top = {entry.name for entry in context.iterdir()}
    assert top == {"cdk", "functions", "lockstep", "locks", "oci_fn", "plan"}
    assert {f.name for f in (context / "cdk").glob("*.py")} == {"__init__.py", "bundle.py", "trim.py"}
    assert not [f for f in context.rglob("*") if f.suffix in {".tf", ".tfstate", ".pyc"}]
    assert {f.name for f in (context / "plan").rglob("*") if f.is_file()} == {"lockstep.yaml", "rds.pem"}


# ---- the bundle


def test_it_is_small_and_holds_only_what_the_function_needs(out: Path) -> None:
    content = out / "content"
    names = {entry.name for entry in content.iterdir()}
    assert {"botocore", "fdk", "functions", "lockstep", "oci", "oci_fn", "pg8000", "plan", "pymysql"} <= names
    assert not names & {"boto3", "pytest", "_pytest", "Cython", "sandbox", "tests", "cdk", "bin", "pip", "uv"}
    assert not (content / "lockstep/cli").exists()
    theirs = (content / "THIRD_PARTY").read_text().splitlines()
    assert [line for line in theirs if line.startswith("crc32c ") and "Lesser General Public" in line]
    # Of it 12 MB are the library of cryptography. The whole SDK takes over 500 MB.
    assert (read_bundle(out).runner, read_bundle(out).unpacked_bytes < 28_000_000) == ("oci", True)


@pytest.fixture(name="function")
def _function(out: Path, plan_file: Path, tmp_path: Path) -> Iterator[FunctionProcess]:
    """The image's entry point with the bundle as the only path besides the standard library, and a published plan."""
    plan, content = load_plan(plan_file), str(out / "content")
    published = compile_plan(plan.compiled, plan.shards, plan_file.parent)
    address = write_published(published, tmp_path)
    assert (out / "content" / CA_FOLDER / "ca/rds.pem").read_bytes() == CA_FILE.read_bytes()
    _, *arguments = json.loads(_all("ENTRYPOINT")[0])
    command = [a.replace("/function", content) for a in arguments]
    command[1] = command[1].replace("; main()", f"{from_folder(tmp_path)}\nmain()")
    words = [word.split("=", 1) for rest in _all("ENV") for word in rest.split()]
    environment = {name: value.replace("/function", content) for name, value in words}
    environment[PLAN_VARIABLE] = address
    with running_function(environment, command=[sys.executable, "-S", *command]) as function:
        yield function


def test_fdk_calls_the_function_which_begins_with_its_own_identity(function: FunctionProcess) -> None:
    answer = function.call({"credential_id": "nobody/knows"})
    assert (answer.status, answer.body["error"]) == (502, "InvalidRequestError"), function.log
    # Outside OCI it has none. Everything that a rotation imports before that is in the bundle.
    (result,) = function.call({"credential_ids": ["multi-cloud/app_user"]}).body["results"]
    assert (result["outcome"], result["error"]) == ("failed", "StoreAccessDeniedError"), function.log
    # So does the look at all of them.
    assert function.call().body["error"] == "StoreAccessDeniedError", function.log


def test_the_bundle_can_sign_as_a_resource_principal(out: Path, tmp_path: Path) -> None:
    key = new_private_key()
    form = serialization.PrivateFormat.PKCS8
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "token").write_text(jwt.encode({"exp": 4_000_000_000}, key, "RS256"))
    environment = {
        "OCI_RESOURCE_PRINCIPAL_VERSION": "2.2",
        "OCI_RESOURCE_PRINCIPAL_RPST": str(tmp_path / "token"),
        "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM": str(tmp_path / "key.pem"),
        "OCI_RESOURCE_PRINCIPAL_REGION": "eu-frankfurt-1",
        "PYTHONPATH": str(out / "content"),
    }
    program = "from lockstep.runtime.identity import own_oci_identity; print(type(own_oci_identity().signer).__name__)"
    done = ran([sys.executable, "-S", "-c", program], cwd=tmp_path, env=environment, check=True)
    assert done.stdout.strip() == "EphemeralResourcePrincipalSigner"


# ---- the commands


def test_docker_is_called_with_the_plan_and_the_platform(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    context, written = tmp_path / "context", tmp_path / "written"

    def run(*arguments: str) -> Result:
        given = ("--plan", str(plan_file), "--context", str(context))
        return CliRunner().invoke(image.app, [*given, *arguments])

    done = run()
    assert done.exit_code == 2
    assert all(program in done.output for program in PROGRAMS)
    assert run("--context-only").exit_code == 0
    # A program in docker's place, that writes down BuildKit's setting and its arguments.
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$DOCKER_BUILDKIT" "$@" > {written}\n')
    program.chmod(0o755)
    assert run("--tag", "r/lockstep:1", "--platform", "linux/arm64").exit_code == 0
    # An index, as of an image with attestations, may be refused by OCI Functions.
    words = "--tag r/lockstep:1 --provenance=false --sbom=false --build-arg PLAN=plan/lockstep.yaml"
    called = f"1 build --platform linux/arm64 --file {context / DOCKERFILE} {words} {context}"
    assert written.read_text().splitlines() == called.split()


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
    done = ran(["make", "--silent", "--old-file=deploy-setup", "deploy-oci", *settings], cwd=ROOT)
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[0]
