"""The recipes for Java (HikariCP), Go (`database/sql`) and Node.js (`pg`, `mysql2`), with new connections and pools."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.emulators.databases import PostgresServer
from sandbox.estate import Estate
from tests.agent.harness import FakeStore
from tests.agent.languages.harness import (
    BOTH,
    PACKAGES,
    RECIPES,
    ROOT,
    USER,
    Machine,
    connects_nowhere,
    require,
    running_application,
    served,
    survives_rotations,
)
from tests.contract.test_poolers import running
from tests.support.programs import ran, until

HERE = Path(__file__).parent
POOLER = "pgbouncer, auth_query, session"
JAVA = [name for name, thing in PACKAGES.items() if thing.endswith(".jar")]
JARS = [*(PACKAGES[name] for name in JAVA), "/usr/share/java/slf4j-api.jar"]
GO = [name for name in PACKAGES if name.startswith("golang-github")]
GO_SOURCES = Path("/usr/share/gocode/src")
FRESH = ["fresh-orders", "fresh-ledger"]
WAYS = [*FRESH, "pool-orders", "pool-ledger"]
NODE_POOLS = ["pg-pool", "mysql2-pool"]
NODE_WAYS = ["pg-login", "mysql2-login", *NODE_POOLS]


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
        "import java.nio.file.Path; import java.time.Duration; import javax.sql.DataSource; import lockstep.agent.*;\n"
        f"class Example {{ void run() {{\n{_example('java')}}} }}\n"
    )
    sources = (RECIPES / "java" / "src").rglob("*.java")
    _run("javac", "-cp", path, "-d", folder, *sources, HERE / "Application.java", example)
    # Less work for a process that lives for seconds; and on stderr only what HikariCP warns of.
    options = ["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return Recipe(["java", *options, "-cp", path, "Application"], WAYS, FRESH, FRESH)


def _go(folder: Path) -> Recipe:
    """A module beside that of the recipe. Those that it requires are Debian's."""
    require("golang-go", *GO)
    here = {name: Path(PACKAGES[name].partition("/src/")[2]) for name in GO}
    modules = {"lockstep.invalid/agentdb": RECIPES / "go", **{str(m): GO_SOURCES / m for m in here.values()}}
    modules["filippo.io/edwards25519"] = GO_SOURCES / "filippo.io/edwards25519"
    lines = [f"replace {name} => {place}\n" for name, place in modules.items()]
    (folder / "go.mod").write_text(
        "module application\ngo 1.21\nrequire lockstep.invalid/agentdb v0.0.0\n" + "".join(lines)
    )
    for name in ("application", "example"):
        (folder / name).mkdir()
    shutil.copy(HERE / "application.go", folder / "application")
    (folder / "example" / "example.go").write_text(
        'package example\nimport ("lockstep.invalid/agentdb"; "time")\n'
        f"func run() {{\n{_example('go')}_ = pool\n}}\n"
    )
    offline = {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "GOCACHE": str(ROOT / ".cache" / "go-build")}
    offline |= {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOPATH": str(folder / "path")}
    program = folder / "built"
    _run("go", "-C", folder, "build", "-o", program, "./application", environment=offline)
    _run("go", "-C", folder, "build", "./example", environment=offline)
    return Recipe([program], WAYS, FRESH, FRESH)


def _node(folder: Path) -> Recipe:
    """Installed from what `npm pack` makes, beside the drivers."""
    _run("npm", "pack", "--silent", "--pack-destination", folder, RECIPES / "node")
    modules = folder / "node_modules"
    modules.mkdir()
    [packed] = folder.glob("*.tgz")
    _run("tar", "-xzf", packed, "-C", modules)
    (modules / "package").rename(modules / "lockstep-agent-pools")
    for driver in ("pg", "mysql2"):
        (modules / driver).symlink_to(ROOT / "node_modules" / driver)
    application = shutil.copy(HERE / "node_application.mjs", folder)
    return Recipe(["node", application], NODE_WAYS, NODE_POOLS, NODE_WAYS)


def _example(language: str) -> str:
    """The example of the package's page; it compiles."""
    page = (RECIPES / language / "README.md").read_text()
    [found] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return str(found)


def _run(*command: str | Path, environment: dict[str, str] = {}) -> None:  # noqa: B006 - it is only read
    done = ran(command, env={**os.environ, **environment})
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
    """The clouds rotate twice unnoticed by the agent; a login is refused, and none fails for the application.

    It has one way: another one could make the agent look at the stores. It is stopped while clouds rotate: its login
    dies before the stores serve the next one, and it would ask in between.
    """
    machine, ways = unaware_machine, [recipe.retried[way]]
    user = machine.current.username
    with running_application(machine, [*recipe.command, *ways]) as application:
        until(lambda: application.is_at(ways, user))
        os.killpg(application.process.pid, signal.SIGSTOP)
        for by in BOTH:
            machine.rotate(by)
        os.killpg(application.process.pid, signal.SIGCONT)
        until(lambda: application.is_at(ways, user) and "refused" in application.stderr)
        enough = application.ways[ways[0]].succeeded + 50
        until(lambda: application.is_at(ways, user) and application.ways[ways[0]].succeeded > enough)
    assert machine.agent.value(USER)["password"] == machine.current.password


def test_a_certificate_for_another_name_is_refused(
    machine: Machine, recipe: Recipe, misnamed: Mapping[str, str]
) -> None:
    connects_nowhere(machine, [*recipe.command, *recipe.ways], misnamed, recipe.refused)


def test_a_pooler_that_refuses_in_words_of_its_own_is_one_that_refuses(
    estate: Estate, machine: Machine, recipe: Recipe
) -> None:
    ledger = estate.servers["ledger"]
    assert isinstance(ledger, PostgresServer)
    ledger.execute_as_superuser(["DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN PASSWORD 'right'"])
    [way] = {"fresh-ledger", "pg-pool"} & {*recipe.retried}
    with running(POOLER, ledger, ledger.authority) as host:
        where = {
            "engine": "postgresql",
            "host": host.host,
            "port": host.port,
            "dbname": "postgres",
            "tls": True,
        }
        wrong, right = (
            json.dumps({"username": "reader", "password": p, "generation": g})
            for g, p in ((1, "wrong"), (2, "right"))
        )
        store = FakeStore(text=wrong)
        with served({"ledger": where, "orders": where}, store, machine.folder) as environment:
            store.text, store.generation = right, 2
            with running_application(machine, [*recipe.command, way], environment) as application:
                until(lambda: application.is_at([way], "reader"))
                assert "refused" in application.stderr
