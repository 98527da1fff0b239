"""The files of a release: what `make release` makes, and when it refuses. And what GitHub and `make` read.

The bundle: built from the image's sources, complete for every handler, and without anything else.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cdk import artefacts, bundle, image, trim
from cdk.artefacts import BILLS, DISTRIBUTION, TOOLS, Commit, NotReleasableError, check, notes
from cdk.bundle import ROOT, BundleError, build, read_bundle
from cdk.deployment import read_deployment
from cdk.settings import Settings
from lockstep import __version__
from lockstep.plan.file import PlanProblemsError
from tests.docs.pages import links
from tests.infrastructure.cdk_case import PLAN, shape
from tests.support.programs import ran

COMMIT = Commit("c" * 40, 1_790_000_000, clean=True)
CHANGELOG = """# Changelog

## Unreleased

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


def test_the_wheel_is_one_package_that_is_whole_and_the_source_archive_makes_the_same(
    packages: Path, tmp_path: Path
) -> None:
    """With `py.typed`, without which mypy ignores its annotations (PEP 561)."""
    (archive,) = packages.glob("*.tar.gz")
    ran(["tar", "-xzf", archive, "-C", tmp_path], check=True)
    (source,) = tmp_path.iterdir()
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    ran(command, cwd=source, check=True)
    built, released = (zipfile.ZipFile(next(folder.glob("*.whl"))) for folder in (tmp_path, packages))
    assert built.namelist() == released.namelist()
    assert [name for name in built.namelist() if built.read(name) != released.read(name)] == []
    files = {path for path in (ROOT / "lockstep").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    own = {name for name in released.namelist() if ".dist-info/" not in name}
    assert own == {str(file.relative_to(ROOT)) for file in files} >= {"lockstep/py.typed"}
    local = [target.partition("#")[0] for target in links(source / "README.md") if ":" not in target]
    assert [name for name in local if not (source / name).exists()] == []
    # It installs no server for what only a checkout has.
    assert ran([source / ".ci/setup"]).returncode == 2


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
    ran(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path, check=True)
    assert len((tmp_path / "SHA256SUMS").read_text().splitlines()) == len([*tmp_path.iterdir()]) - 1


def test_images_are_built_from_what_is_copied_and_nothing_else(packages: Path, tmp_path: Path) -> None:
    """With a program in docker's place that keeps its arguments, and writes the archive that it is asked for."""
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n[ "$1" != save ] || echo image > "$3"\n')
    program.chmod(0o755)
    out = shutil.copytree(packages, tmp_path / "out")
    artefacts.build_images(out, program=str(program), folder=tmp_path)
    assert len([*out.glob(f"lockstep-*-{__version__}.tar")]) == 2
    context = tmp_path / "image-agent"
    agent = context / artefacts.AGENT_DOCKERFILE
    # An index, as of an image with attestations, may be refused by OCI Functions.
    calls = [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("build")]
    assert [line.count(" --provenance=false --sbom=false") for line in calls] == [1, 1]
    assert [line.endswith(f" {context}") for line in calls if f"--file {agent} " in line] == [True]
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
    ran(["git", "init", tmp_path], check=True)
    by = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    ran(["git", "-C", tmp_path, *by, "commit", "--allow-empty", "-m", "first"], check=True)
    check(artefacts.commit_of(tmp_path), version="1.2.0", changelog=CHANGELOG)
    (tmp_path / "other").write_text("2")
    with pytest.raises(NotReleasableError, match="git status"):
        check(artefacts.commit_of(tmp_path), version="1.2.0", changelog=CHANGELOG)


# ---- the files that GitHub reads, and what deploys

GITHUB = ROOT / ".github"


def test_what_github_reads_follows_its_schema_and_workflows_have_no_weakness_that_zizmor_knows() -> None:
    for schema, files in (("github-workflows", "workflows/*.yml"), ("dependabot", "dependabot.yml")):
        check: list[str | Path] = [TOOLS / "check-jsonschema", "--builtin-schema", f"vendor.{schema}"]
        done = ran([*check, *GITHUB.glob(files)], cwd=ROOT)
        assert done.returncode == 0, done.stdout
    done = ran(
        [TOOLS / "zizmor", "--offline", "--persona", "pedantic", "--format", "plain", GITHUB], cwd=ROOT
    )
    assert done.returncode == 0, done.stdout


def _said(*words: str, **variables: str) -> str:
    """What a command says where nobody sits at the terminal."""
    environment = {name: value for name, value in os.environ.items() if name != "LOCKSTEP_APT"} | variables
    done = ran(words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
    return done.stdout + done.stderr


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


def test_apt_get_is_called_after_a_yes() -> None:
    apt = "apt-get() { :; };"
    for there, wanted, told in (("", "yes", "missing: x"), (apt, "", "sudo apt-get"), (apt, "yes", "called")):
        script = f"PATH=; . .ci/lib.sh; as_root() {{ echo called >&2; }}; {there} apt_install x"
        said = _said("/bin/bash", "-c", script, LOCKSTEP_APT=wanted)
        assert (told in said, "called" in said) == (True, told == "called")


# ---- the bundle of the functions in AWS


@pytest.fixture(scope="module", name="out")
def _out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as the Dockerfile makes it, from the image's build context only."""
    folder = shape("plain").folder
    (found,) = json.loads((folder / "lockstep.assets.json").read_text())["dockerImages"].values()
    out = tmp_path_factory.mktemp("bundle") / "aws"
    command = ["-m", "cdk.bundle", "aws", "--plan", found["source"]["dockerBuildArgs"]["PLAN"]]
    ran(
        [sys.executable, *command, "--out", str(out)],
        cwd=folder / found["source"]["directory"],
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    return out


def test_the_build_fails_if_a_module_is_missing(out: Path, tmp_path: Path) -> None:
    """At its end it imports every handler, and what they import later."""
    for missing, complaint in (
        # Imported when an error is handled, when a client is made.
        ("botocore/retryhandler.pyc", "cannot import name 'retryhandler'"),
        ("botocore/data/kms", "Unknown service: 'kms'"),
        ("plan", ""),
    ):
        copy = shutil.copytree(out / "content", tmp_path / Path(missing).name)
        (shutil.rmtree if (copy / missing).is_dir() else os.unlink)(copy / missing)
        done = ran([sys.executable, "-I", "-S", "-B", str(ROOT / "cdk/trim.py"), "check", "aws", str(copy)])
        assert done.returncode == (1 if complaint else 0), missing
        assert complaint in done.stdout + done.stderr


def test_it_holds_only_what_a_function_needs_and_is_the_same_bytes_again(out: Path, tmp_path: Path) -> None:
    content = out / "content"
    names = {entry.name for entry in content.iterdir()}
    assert {"botocore", "functions", "lockstep", "pg8000", "plan", "pymysql"} <= names
    assert not names & {"boto3", "oci", "oci_fn", "fdk", "pytest", "sandbox", "tests", "cdk", "bin"}
    # What reads a plan file.
    assert not names & {"pydantic", "pydantic_core", "ruamel", "durationpy"}
    assert not (content / "lockstep" / "cli").exists()
    services = {f.name for f in (content / "botocore" / "data").iterdir() if f.is_dir()}
    assert services == {*trim.BOTOCORE_SERVICES}
    assert sum(f.stat().st_size for f in content.rglob("*") if f.is_file()) < 24_000_000
    assert read_bundle(out).zip_bytes == (out / "bundle.zip").stat().st_size < 8_500_000
    # The CA files of the plan, and no plan.
    (ca_file,) = (f for f in (content / "plan").rglob("*") if f.is_file())
    assert ca_file.relative_to(content / "plan") == Path("ca/example.pem")
    assert ca_file.read_text().startswith("-----BEGIN CERTIFICATE-----")
    bundle._zip(content, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (out / "bundle.zip").read_bytes()
    assert "functions/generate/handler.py" in zipfile.ZipFile(out / "bundle.zip").namelist()


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
    assert {entry.name for entry in tmp_path.iterdir()} == {"prod.yaml"}


# ---- lock files, and the image


def _pins(lock: str) -> dict[str, str]:
    """The packages of a lock file, with their hashes."""
    text = (ROOT / "locks" / lock).read_text()
    pin = r"^([a-z0-9-]+==\S+)[^\\\n]*((?: \\\n    --hash=\S+)+)"
    return dict(re.findall(pin, text, re.MULTILINE))


@pytest.mark.parametrize("lock", ["agent", "aws", "bootstrap", "build", "deploy", "oci"])
def test_shipped_versions_are_the_tested_ones(lock: str) -> None:
    shipped, tested = _pins(f"{lock}.txt"), _pins("dev.txt")
    others = {pin.partition("==")[0] for pin, hashes in shipped.items() if tested.get(pin) != hashes}
    assert (len(shipped) > 3, others) == (True, {"uv"} if lock == "bootstrap" else set())
