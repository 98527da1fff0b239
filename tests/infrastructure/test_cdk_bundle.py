"""The bundle: built from the image's sources, complete for every handler, and without anything else."""

import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from cdk import bundle, image, trim
from cdk.bundle import ROOT, BundleError, build, read_bundle
from cdk.deployment import read_deployment
from cdk.settings import Settings
from lockstep.plan.file import PlanProblemsError
from tests.infrastructure.cdk_case import PLAN, shape
from tests.support.programs import ran


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


@pytest.fixture(name="content")
def _content(out: Path) -> Path:
    return out / "content"


def test_the_build_fails_if_a_module_is_missing(content: Path, tmp_path: Path) -> None:
    """At its end it imports every handler, and what they import later."""
    for missing, complaint in (
        # Imported when an error is handled, when a client is made.
        ("botocore/retryhandler.pyc", "cannot import name 'retryhandler'"),
        ("botocore/data/kms", "Unknown service: 'kms'"),
        ("plan", ""),
    ):
        copy = shutil.copytree(content, tmp_path / Path(missing).name)
        (shutil.rmtree if (copy / missing).is_dir() else os.unlink)(copy / missing)
        done = ran([sys.executable, "-I", "-S", "-B", str(ROOT / "cdk/trim.py"), "check", "aws", str(copy)])
        assert done.returncode == (1 if complaint else 0), missing
        assert complaint in done.stdout + done.stderr


def test_it_holds_only_what_a_function_needs(out: Path, content: Path) -> None:
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


def test_the_same_content_makes_the_same_archive(out: Path, tmp_path: Path) -> None:
    bundle._zip(out / "content", tmp_path / "again.zip")
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
