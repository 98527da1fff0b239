"""The recipes for Java (HikariCP) and Go (`database/sql`), each with MariaDB and PostgreSQL, afresh and by a pool."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.agent.languages.harness import (
    RECIPES,
    ROOT,
    Machine,
    connects_nowhere,
    gets_over_a_refused_login,
    require_files,
    require_programs,
    running_application,
    survives_rotations,
)

HERE = Path(__file__).parent
JARS = [
    Path("/usr/share/java", name)
    for name in (
        "HikariCP.jar",
        "gson.jar",
        "mariadb-java-client.jar",
        "postgresql.jar",
        "slf4j-api.jar",
        "slf4j-simple.jar",
    )
]
GO_LIBRARIES = Path("/usr/share/gocode")
DRIVERS = [GO_LIBRARIES / "src/github.com" / name for name in ("lib/pq", "go-sql-driver/mysql")]
FRESH = ["fresh-orders", "fresh-ledger"]
WAYS = [*FRESH, "pool-orders", "pool-ledger"]
BUILD_SECONDS = 900

Command = Sequence[str | Path]


def _java(folder: Path) -> Command:
    require_programs("javac", "java")
    require_files(*JARS)
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
    return ["java", *options, "-cp", path, "Application"]


def _go(folder: Path) -> Command:
    require_programs("go")
    require_files(*DRIVERS)
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
    return [program]


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


@pytest.fixture(scope="module", params=[_java, _go], ids=["java", "go"])
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The recipe, compiled with an application."""
    build: Callable[[Path], Command] = request.param
    return build(tmp_path_factory.mktemp("built"))


def test_no_login_is_refused_through_rotations_of_both_clouds(machine: Machine, command: Command) -> None:
    with running_application(machine, [*command, *WAYS]) as application:
        survives_rotations(machine, application, WAYS)


@pytest.mark.parametrize("way", FRESH)
def test_an_application_gets_over_a_refused_login(
    unaware_machine: Machine, command: Command, way: str
) -> None:
    with running_application(unaware_machine, [*command, way]) as application:
        gets_over_a_refused_login(unaware_machine, application, way)


def test_a_certificate_for_another_name_is_refused(
    machine: Machine, command: Command, misnamed: Mapping[str, str]
) -> None:
    connects_nowhere(machine, [*command, *WAYS], misnamed, FRESH)
