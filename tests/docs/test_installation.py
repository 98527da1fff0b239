"""The page of the first rotation, typed without a checkout.

The account is an emulator and the database is real. The wheel is installed with its lock file into an
environment of its own, and the archive deploys with the environment that it makes itself.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import pytest

from cdk import artefacts
from cdk.artefacts import PIPX, Commit
from cdk.bundle import running_architecture
from lockstep.protocol.model import ROTATION_USER, Login, SecretStr
from sandbox.deployed_world import STACK, CdkCli, encryption_key
from sandbox.emulators.aws.deployed import DeployedStack
from sandbox.playground.world import Files, World, running_world
from sandbox.servers import login_text, set_password
from tests.docs.pages import ROOT, commands, typed

PAGE = ROOT / "docs/how-to/first-rotation.md"


def instead(world: World) -> Mapping[str, str]:
    """What differs from the page: pipx's environment, the database, its DBA, and the processor of the functions."""
    uv = f"{ROOT}/.venv/bin/uv pip install --quiet --python env/bin/python"
    packages = f"{uv} --require-hashes -r {ROOT}/locks/agent.txt"
    has_ca = "cp $SANDBOX/ca.pem . && sed -i 's/# ca_file:.*/ca_file: ca.pem/' lockstep.yaml"
    local = f"--context architecture={running_architecture()} --require-approval never --ci --no-notices"
    return {
        PIPX: f"python3 -m venv --without-pip env && {packages} && {uv} --no-deps --no-index ./lockstep_rotation-*.whl",
        "mysql://orders.internal:3306/orders": world.url("orders"),
        "lockstep check": f"{has_ca} && lockstep check",
        "sql --existing > setup.sql": "sql --existing > setup.sql && sandbox sql orders < setup.sql",
        "--architecture arm64": f"--architecture {running_architecture()}",
        "packaging=zip": f"packaging=zip {local}",
        "< shop.json": "< $SANDBOX/orders-app.json",
    }


@pytest.mark.timeout(1800)
def test_a_release_deploys_and_rotates_without_a_checkout(tmp_path: Path) -> None:
    release, files = tmp_path / "release", Files(tmp_path / "sandbox")
    release.mkdir()
    files.folder.mkdir()
    artefacts.build_packages(release, Commit("c" * 40, 1_790_000_000, clean=True))
    artefacts.seal(release)
    with running_world(files, tmp_path / "control") as world:
        CdkCli(world.aws, tmp_path / "cdk.out").bootstrap()
        # With this machine's settings of package indexes, and an administrator's of the clouds.
        path = f"{release}/env/bin:{files.folder}/bin:{os.environ['PATH']}"
        person = {**os.environ, "PATH": path, "PYTHONPATH": "", "LANG": "C.UTF-8", "NO_COLOR": "1"}
        asked = list(commands(PAGE, instead(world)))
        (deploys,) = (n for n, command in enumerate(asked, 1) if "deploy-aws" in command.text)
        assert typed(asked[:2], release, person) == []
        (archive,) = release.glob("lockstep_rotation-*[0-9]")
        (archive / "node_modules").symlink_to(ROOT / "node_modules")
        assert typed(asked[2:deploys], release, person) == []
        assert not [*archive.glob(".venv/lib/*/site-packages/moto")]
        login = Login(ROTATION_USER, SecretStr(secrets.token_urlsafe(24)))
        set_password(world.servers["orders"], login)
        world.aws.client("secretsmanager").create_secret(
            Name="lockstep/admin/orders", SecretString=login_text(login), KmsKeyId=encryption_key(world.aws)
        )
        with DeployedStack(world.aws, STACK, tmp_path / "deployed").running():
            assert typed(asked[deploys:], release, person) == []
