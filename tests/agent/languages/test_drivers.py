"""The recipes for Java (HikariCP), Go (`database/sql`) and Node.js (`pg`, `mysql2`), with new connections and pools."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent.languages.harness import (
    PACKAGES,
    RECIPES,
    ROOT,
    Machine,
    connects_nowhere,
    gets_over_a_refused_login,
    require,
    running_application,
    survives_rotations,
)

HERE = Path(__file__).parent
JAVA = [name for name, thing in PACKAGES.items() if thing.endswith(".jar")]
JARS = [*(PACKAGES[name] for name in JAVA), "/usr/share/java/slf4j-api.jar"]
GO_LIBRARIES = Path("/usr/share/gocode")
FRESH = ["fresh-orders", "fresh-ledger"]
WAYS = [*FRESH, "pool-orders", "pool-ledger"]
NODE_POOLS = ["pg-pool", "mysql2-pool"]
NODE_WAYS = ["pg-login", "mysql2-login", *NODE_POOLS]
BUILD_SECONDS = 900


@dataclass(frozen=True)
class Recipe:
    """A recipe with an application.

    Attributes:
        command: What runs it.
        ways: In which the application logs in.
        retried: Those that get over a refused login.
        refused: Those that say of a certificate what is wrong with it.
    """

    command: Sequence[str | Path]
    ways: Sequence[str]
    retried: Sequence[str]
    refused: Sequence[str]


def _java(folder: Path) -> Recipe:
    require("default-jdk-headless", *JAVA)
    path = ":".join(map(str, [folder, *JARS]))
    example = folder / "Example.java"
    example.write_text(
        "import java.nio.file.Path; import java.time.Duration; import javax.sql.DataSource;\n"
        f"class Example {{ void run() {{\n{_example('java')}}} }}\n"
    )
    sources = [RECIPES / "java" / "AgentDataSource.java", HERE / "Application.java", example]
    _run("javac", "-cp", path, "-d", folder, *sources)
    # Less work for a process that lives for seconds; and on stderr only what HikariCP warns of.
    options = ["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return Recipe(["java", *options, "-cp", path, "Application"], WAYS, FRESH, FRESH)


def _go(folder: Path) -> Recipe:
    require("golang-go", *(name for name in PACKAGES if name.startswith("golang-github")))
    shutil.copytree(RECIPES / "go", folder / "src" / "agentdb")
    for name in ("application", "example"):
        (folder / "src" / name).mkdir()
    shutil.copy(HERE / "application.go", folder / "src" / "application")
    (folder / "src" / "example" / "example.go").write_text(
        f'package example\nimport ("agentdb"; "time")\nfunc run() {{\n{_example("go")}_ = pool\n}}\n'
    )
    offline = {
        "GO111MODULE": "off",
        "GOPATH": f"{folder}:{GO_LIBRARIES}",
        "GOCACHE": str(ROOT / ".cache" / "go-build"),
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
    }
    program = folder / "application"
    _run("go", "build", "-o", program, "application", environment=offline)
    _run("go", "build", "example", environment=offline)
    return Recipe([program], WAYS, FRESH, FRESH)


def _node(_folder: Path) -> Recipe:
    application = HERE / "node_application.mjs"
    return Recipe(["node", application, RECIPES / "node"], NODE_WAYS, NODE_POOLS, NODE_WAYS)


def _example(language: str) -> str:
    """The example in the page; it compiles."""
    page = (RECIPES / "read-from-other-languages.md").read_text()
    [found] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return str(found)


def _run(*command: str | Path, environment: dict[str, str] = {}) -> None:  # noqa: B006 - it is only read
    done = subprocess.run(  # noqa: S603 - a compiler of this machine
        [str(word) for word in command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=[_java, _go, _node], ids=["java", "go", "node"])
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """The recipe, compiled with an application."""
    build: Callable[[Path], Recipe] = request.param
    return build(tmp_path_factory.mktemp("built"))


def test_no_login_is_refused_through_rotations_of_both_clouds(machine: Machine, recipe: Recipe) -> None:
    with running_application(machine, [*recipe.command, *recipe.ways]) as application:
        survives_rotations(machine, application, recipe.ways)


@pytest.mark.parametrize("way", [0, 1])
def test_an_application_gets_over_a_refused_login(unaware_machine: Machine, recipe: Recipe, way: int) -> None:
    retried = recipe.retried[way]
    with running_application(unaware_machine, [*recipe.command, retried]) as application:
        gets_over_a_refused_login(unaware_machine, application, retried)


def test_a_certificate_for_another_name_is_refused(
    machine: Machine, recipe: Recipe, misnamed: Mapping[str, str]
) -> None:
    connects_nowhere(machine, [*recipe.command, *recipe.ways], misnamed, recipe.refused)
