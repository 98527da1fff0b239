"""The files of a release: what `make release` makes, and when it refuses. And what GitHub and `make` read."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cdk import artefacts
from cdk.artefacts import BILLS, DISTRIBUTION, TOOLS, Commit, NotReleasableError, check, notes
from cdk.bundle import ROOT
from lockstep import __version__
from tests.docs.pages import links

COMMIT = Commit("c" * 40, 1_790_000_000, clean=True)
CHANGELOG = """# Changelog

## Unreleased

### Added

- Something.

## [1.2.0] - 2026-12-01

### Fixed

- A defect.

## [1.1.0] - 2026-11-30

- The first.
"""


@pytest.fixture(scope="module", name="packages")
def _packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel and the source archive."""
    out = tmp_path_factory.mktemp("packages")
    artefacts.build_packages(out, COMMIT)
    return out


def test_the_wheel_is_one_package_that_is_whole(packages: Path) -> None:
    """With `py.typed`, without which mypy ignores its annotations (PEP 561)."""
    names = zipfile.ZipFile(next(packages.glob("*.whl"))).namelist()
    files = {path for path in (ROOT / "lockstep").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {name for name in names if ".dist-info/" not in name} == {str(f.relative_to(ROOT)) for f in files}
    assert "lockstep/py.typed" in names


def test_the_source_archive_makes_the_same_wheel(packages: Path, tmp_path: Path) -> None:
    """What people build from the archive is what was released."""
    (archive,) = packages.glob("*.tar.gz")
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path], check=True)  # noqa: S603, S607
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)  # noqa: S603 - our own interpreter
    built, released = (zipfile.ZipFile(next(folder.glob("*.whl"))) for folder in (tmp_path, packages))
    assert built.namelist() == released.namelist()
    assert [name for name in built.namelist() if built.read(name) != released.read(name)] == []
    local = [target.partition("#")[0] for target in links(source / "README.md") if ":" not in target]
    assert [name for name in local if not (source / name).exists()] == []
    # It installs no server for what only a checkout has.
    assert subprocess.run([source / ".ci/setup"], check=False).returncode == 2  # noqa: S603 - our own script


def test_a_release_has_its_bills_and_sums_and_two_builds_of_a_commit_are_the_same_bytes(
    packages: Path, tmp_path: Path
) -> None:
    artefacts.build_packages(tmp_path, COMMIT)
    for file in packages.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name
    artefacts.write_bills(tmp_path, COMMIT)
    bills = {name: tmp_path / f"{DISTRIBUTION}-{__version__}.{name}.cdx.json" for name in BILLS}
    for name, file in bills.items():
        bill, lock = json.loads(file.read_text()), (ROOT / f"locks/{name}.txt").read_text()
        root = bill["metadata"]["component"]
        assert (root["name"], root["version"]) == (DISTRIBUTION, __version__)
        assert {(part["name"], part["version"]) for part in bill["components"]} == {
            *re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock, re.MULTILINE)
        }
        hashes = re.findall(r'"content": "([0-9a-f]{64})"', json.dumps(bill))
        assert {*hashes} == {*re.findall(r"--hash=sha256:([0-9a-f]{64})", lock)}
    first = bills["aws"].read_bytes()
    artefacts.write_bills(tmp_path, COMMIT, names=["aws"])
    assert bills["aws"].read_bytes() == first
    artefacts.seal(tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)  # noqa: S607
    assert len((tmp_path / "SHA256SUMS").read_text().splitlines()) == len([*tmp_path.iterdir()]) - 1


def test_images_are_built_from_what_is_copied_and_nothing_else(packages: Path, tmp_path: Path) -> None:
    """With a program in docker's place that keeps its arguments, and writes the archive that it is asked for."""
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ "$1" != save ] || echo image > "$3"\n')
    program.chmod(0o755)
    out = shutil.copytree(packages, tmp_path / "out")
    artefacts.build_images(out, program=str(program), folder=tmp_path)
    context = tmp_path / "image-agent"
    agent = context / artefacts.AGENT_DOCKERFILE
    tag = f"--tag lockstep-agent:{__version__} --provenance=false --sbom=false"
    assert f"build --file {agent} {tag} {context}" in (tmp_path / "calls").read_text().splitlines()
    assert len([*out.glob(f"lockstep-*-{__version__}.tar")]) == 2
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", agent.read_text(), re.MULTILINE)
    wanted = {Path(name) for names in copied for name in names.split()}
    assert [name for name in wanted if not (context / name).exists()] == []
    assert {path.name for path in context.iterdir()} == {name.parts[0] for name in wanted} | {"docs"}


def test_a_version_is_released_under_its_tag_with_its_section_of_the_changelog_as_notes() -> None:
    assert notes("1.2.0", CHANGELOG) == "### Fixed\n\n- A defect."
    assert notes("1.1.0", CHANGELOG) == "- The first."
    check(COMMIT, version="1.2.0", changelog=CHANGELOG, tag="v1.2.0")
    with pytest.raises(NotReleasableError, match=re.escape("The tag would be v1.2.0")):
        check(COMMIT, version="1.2.0", changelog=CHANGELOG, tag="v1.2.1")
    for changelog in (CHANGELOG, "", "## [1.3.0]\n\n- Undated.\n", "## [1.3.0] - 2026-12-02\n\n"):
        with pytest.raises(NotReleasableError, match=re.escape("## [1.3.0] - YYYY-MM-DD")):
            check(COMMIT, version="1.3.0", changelog=changelog)


def test_work_that_is_not_committed_is_not_released(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        names = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", "-C", str(tmp_path), *names, *arguments], check=True, capture_output=True)  # noqa: S603, S607

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "first")
    check(artefacts.commit_of(tmp_path), version="1.2.0", changelog=CHANGELOG)
    (tmp_path / "other").write_text("2")
    with pytest.raises(NotReleasableError, match="git status"):
        check(artefacts.commit_of(tmp_path), version="1.2.0", changelog=CHANGELOG)


# ---- the files that GitHub reads, and what deploys

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
