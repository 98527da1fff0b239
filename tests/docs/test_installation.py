"""How Lockstep is installed: what the texts say, and the page of the first rotation, typed without a checkout.

For the page the account is an emulator and the database is real. The wheel is installed with its lock file into an
environment of its own, and the archive deploys with the environment that it makes itself.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from cdk import artefacts
from cdk.artefacts import DISTRIBUTION, PIPX, Commit
from cdk.bundle import running_architecture
from lockstep.protocol.errors import told_errors
from lockstep.protocol.model import ROTATION_USER, Login, SecretStr
from sandbox.cdk_cli import CdkCli
from sandbox.deployed_world import STACK, encryption_key
from sandbox.emulators.aws.deployed import DeployedStack
from sandbox.playground.files import Files
from sandbox.playground.world import World, running_world
from sandbox.servers import login_text, set_password
from tests.docs.console import commands, typed
from tests.docs.pages import ROOT, name_of, repository_files

_COMMAND = re.compile(
    r"\b(?:(?:pip3?|pipx|uv|uv pip|uv tool|poetry|pdm|p?npm|yarn|gem|go) "
    r"(?:install|inject|add|get|upgrade|uninstall|download|run)|uvx|npx)\b"
    r"(?P<words>[^`#;|&,\n]*)"
)
_WRAPPED = re.compile(r"(?<!`)`([^`\n]+)\n\s*([^`\n]+)`")
_NO_NAME = re.compile(r"[-./$]|.*(?:/|\.whl$|\.txt$)")
PAGE = ROOT / "docs/how-to/first-rotation.md"


def texts() -> dict[str, str]:
    """Every text of the repository, by its path; this one has wrong examples."""
    files = (file for file in repository_files() if file != Path(__file__))
    return {name_of(file): file.read_text(errors="replace") for file in files}


def asked_of_an_index(text: str) -> Iterator[str]:
    """The names of packages that the commands of a text ask an index for."""
    for command in _COMMAND.finditer(_WRAPPED.sub(r"`\1 \2`", text.replace("\\\n", ""))):
        words = (word.strip("'\"") for word in command["words"].split())
        yield from (re.split(r"[\[=<>~@]", word)[0] for word in words if not _NO_NAME.match(word))


def test_no_text_says_to_install_a_name_that_others_may_own() -> None:
    """Whoever registers it would run code beside every reader's password: the project is installed from files."""
    wrong = f"""pip install --upgrade '{DISTRIBUTION}[cli]'\n`pipx
        install x`, uv tool install x==1, pip uninstall x\nuvx x; npm install x; go get x
        python -m pip install --quiet \\\n  x"""
    assert sorted(asked_of_an_index(wrong)) == [DISTRIBUTION, *"xxxxxxx"]
    required = re.compile(r"\blockstep(?:[-_]rotation)?(?:\[[a-z,]+\])? ?(?:[=~<>]=|@ )")
    found = {name: [*asked_of_an_index(text), *required.findall(text)] for name, text in texts().items()}
    assert {name: names for name, names in found.items() if names} == {}


def test_pages_and_errors_say_in_the_same_words_how_it_is_installed() -> None:
    told = {name: advice for name, (_, advice) in told_errors().items()}
    said = {name: text for name, text in {**texts(), **told}.items() if "pipx install" in text}
    assert [name for name, text in said.items() if text.count("pipx install") > text.count(PIPX)] == []
    assert {"OciExtraMissingError", "docs/agent.md", "docs/how-to/upgrade.md", name_of(PAGE)} <= said.keys()


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
