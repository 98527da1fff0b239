"""The agent's image: what its Dockerfile does after the installation, and the agent that is left of it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cdk.bundle import ROOT
from lockstep.runtime.identity import CONFIG_FILE_VARIABLE, OCI_ENDPOINT_VARIABLE
from sandbox.emulators.aws import AwsSandbox
from sandbox.emulators.oci import OciSandbox, write_config_file
from sandbox.oci_resources import create_ring
from sandbox.plans import write_plan
from tests.agent.harness import NAME, app_user
from tests.agent.process import running_agent

DOCKERFILE = ROOT / "docs/how-to/agent/Dockerfile"
READER_MAY = ("SECRET_INSPECT", "SECRET_BUNDLE_READ")
"""All that an agent needs in OCI, in the compartment of the rings."""


@pytest.fixture(scope="module", name="python")
def _python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the image's environment. In pip's place uv installs the packages, as links to its cache."""
    agent = tmp_path_factory.mktemp("image") / "agent"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(agent)], check=True)  # noqa: S603
    [packages] = agent.glob("lib/python*/site-packages")
    install = ["-m", "uv", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-build"]
    where = ["--target", str(packages), "--requirements", "locks/agent.txt"]
    subprocess.run([sys.executable, *install, *where], cwd=ROOT, check=True)  # noqa: S603
    shutil.copytree(ROOT / "lockstep", packages / "lockstep", ignore=shutil.ignore_patterns("__pycache__"))
    trimming = _steps()[-1].replace("/agent", shlex.quote(str(agent)))
    done = subprocess.run(["/bin/sh", "-ec", trimming], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    return agent / "bin" / "python"


def _steps() -> list[str]:
    """The commands that the Dockerfile runs."""
    text = DOCKERFILE.read_text().replace("\\\n", " ")
    return [line.removeprefix("RUN ") for line in text.splitlines() if line.startswith("RUN ")]


def _plan_file(folder: Path, stores: list[dict[str, Any]]) -> Path:
    """The plan of the repository with these stores, in both clouds, and one credential, in a file."""
    plan = YAML(typ="safe", pure=True).load((ROOT / "lockstep.yaml").read_text(encoding="utf-8"))
    plan["credentials"] = [{**plan["credentials"][0], "id": NAME, "interval": "2h"}]
    return write_plan(folder / "lockstep.yaml", {**plan, "stores": stores})


@pytest.fixture(scope="module", name="clouds")
def _clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, object], dict[str, str]]]:
    """Both clouds with one secret: the settings and the variables of an agent."""
    folder = tmp_path_factory.mktemp("clouds")
    with AwsSandbox() as aws, OciSandbox() as oci:
        aws.client("secretsmanager").create_secret(Name=NAME, SecretString=app_user(1))
        create_ring(oci, NAME, app_user(1))
        key = oci.new_api_key("agent", *READER_MAY, compartment=oci.compartment_id)
        vault = {"region": "eu-frankfurt-1", "compartment_id": oci.compartment_id, "vault_id": oci.vault_id}
        stores = [{"kind": "aws-secrets-manager", "region": aws.region}, {"kind": "oci-vault", **vault}]
        settings: dict[str, object] = {"plan": str(_plan_file(folder, stores))}
        environment = {
            "PATH": os.defpath,
            **aws.environment(),
            OCI_ENDPOINT_VARIABLE: oci.endpoint,
            CONFIG_FILE_VARIABLE: str(write_config_file(folder, "agent", key)),
        }
        yield settings, environment


@pytest.mark.parametrize("nearest", ["aws", "oci"])
def test_the_agent_that_is_left_is_small_and_reads_both_clouds(
    python: Path, clouds: tuple[dict[str, object], dict[str, str]], tmp_path: Path, nearest: str
) -> None:
    files = [file for file in python.parent.parent.rglob("*") if file.is_file() and not file.is_symlink()]
    assert sum(file.stat().st_size for file in files) < 40_000_000
    settings, environment = clouds
    template = tmp_path / "template"
    template.write_text("{{ username }}@{{ host }}")
    made = [{"path": f"{tmp_path}/made", "template": str(template)}]
    document = {**settings, "nearest": nearest, "files": made}
    with running_agent(tmp_path, document, environment, image=python) as agent:
        answer = agent.address.get(f"/v1/{NAME}", token=agent.token)
        assert json.loads(json.loads(answer.body)["SecretString"]) == json.loads(app_user(1))
        assert answer.headers["x-lockstep-source"] == nearest
        assert "lockstep_agent_generation" in agent.address.get("/metrics", token=agent.token).body
    assert (tmp_path / "made").read_text() == "app@db.example.com"
