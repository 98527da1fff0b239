"""The files that GitHub reads: they say what their schemas allow, and run what exists."""

import os
import re
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cdk.artefacts import TOOLS
from cdk.bundle import ROOT

GITHUB = ROOT / ".github"
SCHEMAS = {
    "vendor.github-workflows": [*(GITHUB / "workflows").glob("*.yml")],
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-forms": [*(GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml")],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE/config.yml"],
}


def _run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(TOOLS / tool), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - from the lock file


@pytest.mark.parametrize("schema", SCHEMAS)
def test_what_github_reads_follows_its_schema(schema: str) -> None:
    assert SCHEMAS[schema]
    done = _run("check-jsonschema", "--builtin-schema", schema, *SCHEMAS[schema])
    assert done.returncode == 0, done.stdout


def test_workflows_have_no_weakness_that_zizmor_knows() -> None:
    done = _run("zizmor", "--offline", "--persona", "pedantic", "--format", "plain", GITHUB)
    assert done.returncode == 0, done.stdout


def _scripts() -> list[str]:
    """What the steps of the workflows run."""
    workflows = [YAML(typ="safe").load(file) for file in (GITHUB / "workflows").glob("*.yml")]
    steps = [step for workflow in workflows for job in workflow["jobs"].values() for step in job["steps"]]
    return [step["run"] for step in steps if "run" in step]


def test_workflows_run_what_exists() -> None:
    scripts = _scripts()
    targets = {target for text in scripts for target in re.findall(r"\bmake ([a-z-]+)", text)}
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []
    assert any(text.strip() == ".ci/run" for text in scripts)
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


def _said(*words: str, **variables: str) -> str:
    """What a command says where nobody sits at the terminal."""
    environment = {name: value for name, value in os.environ.items() if name != "LOCKSTEP_APT"} | variables
    shared: Any = {"cwd": ROOT, "env": environment, "stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    done = subprocess.run(words, check=False, stdout=subprocess.PIPE, **shared)  # noqa: S603
    return str(done.stdout, "utf-8")


@pytest.mark.parametrize(
    "target",
    ["build", "deploy-aws", "rollback-aws", "destroy", "build-oci", "image-oci", "deploy-oci", "destroy-oci"],
)
def test_deploying_sets_up_what_deploys_alone_and_installs_nothing_unasked(target: str) -> None:
    told = _said("make", "--dry-run", target, "PLAN=/a b")
    assert re.findall(r"\.ci/\S*setup", told) == [".ci/deploy-setup"]
    assert told.count("/a b") == len(re.findall(r'"[^"]*/a b\b', told)) > 0
    probe = ("make", "--silent", "--eval=probe: ; @echo $$LOCKSTEP_APT", "probe")
    assert [_said(*probe, f"MAKECMDGOALS={goal}") for goal in (target, "test")] == ["\n", "yes\n"]


APT = "apt-get() { :; };"


@pytest.mark.parametrize(
    ("there", "wanted", "told"),
    [("", "yes", "missing: x"), (APT, "", "sudo apt-get"), (APT, "yes", "called")],
)
def test_apt_get_is_called_after_a_yes(there: str, wanted: str, told: str) -> None:
    script = f"PATH=; . .ci/lib.sh; as_root() {{ echo called >&2; }}; {there} apt_install x"
    said = _said("/bin/bash", "-c", script, LOCKSTEP_APT=wanted)
    assert (told in said, "called" in said) == (True, told == "called")


def test_an_environment_without_pip_is_made_again(tmp_path: Path) -> None:
    """Debian leaves one where python3-venv is missing, and says to install that."""
    script = ". $0/.ci/lib.sh; make_venv() { echo made; exit; }; python_environment x"
    venv.create(tmp_path / ".venv")
    said = _said("env", f"--chdir={tmp_path}", "/bin/bash", "-c", script, str(ROOT), PATH=os.environ["PATH"])
    assert said.splitlines()[-1:] == ["made"]
