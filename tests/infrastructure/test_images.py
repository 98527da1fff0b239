"""The images: that of the OCI function, with its bundle under the real fdk, and that of the agent."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cdk import image
from cdk.bundle import ROOT, read_bundle
from cdk.image import DOCKERFILE, PLAN_IN_CONTEXT, PROGRAMS
from lockstep.plan.file import load_plan
from lockstep.plan.published import CA_FOLDER, compile_plan
from lockstep.protocol.model import Engine
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox import plans
from sandbox.emulators.databases import CertificateAuthority, MariaDbServer
from sandbox.emulators.oci import write_config_file
from sandbox.estate import Estate, running_estate
from sandbox.fn import FunctionProcess, running_function
from tests.agent.process import running_agent
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


# ---- the commands


def test_docker_is_called_with_the_plan_and_the_platform(
    plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    context, written, program = (tmp_path / name for name in ("context", "written", "docker"))
    given = ["--plan", str(plan_file), "--context", str(context), "--tag", "r/lockstep:1"]
    done = CliRunner().invoke(image.app, given)
    assert done.exit_code == 2
    assert all(name in done.output for name in PROGRAMS)
    # A program in docker's place, that writes down BuildKit's setting and its arguments.
    program.write_text(f'#!/bin/sh\necho "$DOCKER_BUILDKIT" "$@" > {written}\n')
    program.chmod(0o755)
    assert CliRunner().invoke(image.app, [*given, "--platform", "linux/arm64"]).exit_code == 0
    words = "--tag r/lockstep:1 --provenance=false --sbom=false --build-arg PLAN=plan/lockstep.yaml"
    wanted = f"1 build --platform linux/arm64 --file {context / DOCKERFILE} {words} {context}\n"
    assert written.read_text() == wanted


# ---- the agent: what its Dockerfile does after the installation, and what is left of it

AGENT = "docs/how-to/agent/Dockerfile"
READER_MAY = ("SECRET_INSPECT", "SECRET_BUNDLE_READ")
"""All that an agent needs in OCI, in the compartment of the rings."""


@pytest.fixture(scope="module", name="python")
def _python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the image's environment. In pip's place uv installs the packages, as links to its cache."""
    agent = tmp_path_factory.mktemp("image") / "agent"
    ran([sys.executable, "-m", "venv", "--without-pip", agent], check=True)
    [packages] = agent.glob("lib/python*/site-packages")
    install = ["-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-build"]
    where = ["--target", packages, "--requirements", "locks/agent.txt"]
    ran([sys.executable, *install, *map(str, where)], cwd=ROOT, check=True)
    shutil.copytree(ROOT / "lockstep", packages / "lockstep", ignore=shutil.ignore_patterns("__pycache__"))
    trimming = _all("RUN", AGENT)[-1].replace("/agent", shlex.quote(str(agent)))
    done = ran(["/bin/sh", "-ec", trimming], cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return agent / "bin" / "python"


@pytest.fixture(scope="module", name="estate")
def _estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Both clouds with one credential, rotated once."""
    server = MariaDbServer(authority=CertificateAuthority(tmp_path_factory.mktemp("ca")))
    with running_estate([plans.credential("multi-cloud/app_user", "orders")], {"orders": server}) as running:
        assert running.rotate("multi-cloud/app_user").status == "SUCCEEDED"
        yield running


@pytest.mark.parametrize("nearest", ["aws", "oci"])
def test_the_agent_that_is_left_is_small_and_reads_both_clouds(
    python: Path, estate: Estate, tmp_path: Path, nearest: str
) -> None:
    files = [file for file in python.parent.parent.rglob("*") if file.is_file() and not file.is_symlink()]
    assert sum(file.stat().st_size for file in files) < 40_000_000
    key = estate.oci.new_api_key("agent", *READER_MAY, compartment=estate.oci.compartment_id)
    environment = {**os.environ, CONFIG_FILE_VARIABLE: str(write_config_file(tmp_path, "agent", key))}
    environment.pop("PYTHONPATH", None)
    template = tmp_path / "template"
    template.write_text("user={{ username }}")
    made = [{"path": f"{tmp_path}/made", "template": str(template)}]
    document = {"plan": str(estate.plan_file), "nearest": nearest, "files": made}
    [credential] = estate.plan.credentials
    with running_agent(tmp_path, document, environment, image=python) as agent:
        answer = agent.address.get(f"/v1/{credential.id}", token=agent.token)
        held = json.loads(json.loads(answer.body)["SecretString"])
        login = estate.stored_login(credential)
        assert login
        assert (held["username"], held["password"]) == (login.username, login.password.reveal())
        assert answer.headers["x-lockstep-source"] == nearest
        assert "lockstep_agent_generation" in agent.address.get("/metrics", token=agent.token).body
    assert (tmp_path / "made").read_text() == f"user={login.username}"
