"""The packages of the code base: what each may import, and what may be in none of them."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("lockstep", "functions", "oci_fn", "cdk")
STEPS = sorted(ROOT.glob("functions/*/step.py"))
DRIVERS = {"boto3", "botocore", "oci", "pymysql", "pg8000", "fdk"}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _python(*folders: str) -> list[Path]:
    return sorted(p for f in folders for p in (ROOT / f).rglob("*.py") if "cdk.out" not in p.parts)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, including for type checking only."""
    found = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _imported(path: Path, packages: set[str]) -> set[str]:
    return {m for m in _imports(path) if any(m == p or m.startswith(f"{p}.") for p in packages)}


# Imports. The order of the rooms is a contract of import-linter in pyproject.toml, which `make lint` checks.


def test_shipped_code_imports_neither_the_sandbox_nor_the_tests() -> None:
    assert [_name(p) for p in _python(*SHIPPED) if _imported(p, {"sandbox", "tests"})] == []


def test_no_text_names_a_module_to_be_imported_later() -> None:
    """What depends on what is seen by import-linter only where it is an import."""
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in _python("lockstep")}
    found = [
        f"{_name(path)}:{node.lineno}: {node.value}"
        for path in _python("lockstep")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.partition(":")[0] in modules
    ]
    assert found == []


@pytest.mark.parametrize("path", STEPS, ids=_name)
def test_a_step_does_io_through_ports_only(path: Path) -> None:
    assert not _imported(
        path,
        DRIVERS | {"lockstep.aws", "lockstep.oci", "lockstep.databases", "lockstep.runtime"},
    )
    assert not _imported(path, {"os", "time", "socket", "logging", "threading", "random"})


@pytest.mark.parametrize(
    ("drivers", "packages"),
    [
        # A deployment asks the account first, and a build makes the clients of a bundle.
        (
            {"boto3", "botocore"},
            (
                "lockstep/aws/",
                "lockstep/runtime/federation.py",  # Its HTTP alone, for one POST.
                *("cdk/account.py", "cdk/trim.py", "cdk/deploy.py", "cdk/rollback.py"),
            ),
        ),
        (
            {"oci"},
            (
                "lockstep/oci/",
                "lockstep/operate/secrets_oci.py",
                "lockstep/runtime/identity.py",
            ),
        ),
        # The client runs in applications, which bring their own driver.
        ({"pymysql", "pg8000"}, ("lockstep/databases/", "lockstep/client/")),
        ({"fdk"}, ("oci_fn/",)),
    ],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, set) else "",
)
def test_a_driver_is_imported_in_its_own_package(drivers: set[str], packages: tuple[str, ...]) -> None:
    users = {_name(p) for p in _python(*SHIPPED) if _imported(p, drivers)}
    assert users
    assert {u for u in users if not u.startswith(packages)} == set()


def test_only_the_workers_and_the_scope_start_threads() -> None:
    """Nothing else could be joined (protocol F9). Agent, client and page are in no function: nothing freezes them."""
    executors = {f"concurrent.futures.{kind}PoolExecutor" for kind in ("Thread", "Process")}
    starting = {*executors, "asyncio", "multiprocessing", "_thread", "threading.Thread", "threading.Timer"}
    apart = ("agent", "client", "page")
    code = [p for p in _python("lockstep", "functions", "oci_fn") if p.parent.name not in apart]
    users = {_name(p) for p in code if _imported(p, starting)}
    assert users == {"lockstep/protocol/workers.py"}
    # Where the module is imported as a whole, the name tells.
    texts = {p: p.read_text(encoding="utf-8") for p in code}
    assert {_name(p) for p, text in texts.items() if "threading.Thread(" in text} == {
        "lockstep/protocol/deadlines.py"
    }


def test_importing_the_client_loads_no_driver_and_no_sdk() -> None:
    """An application has only the driver and the SDK that it uses."""
    foreign = sorted({*DRIVERS, "psycopg", "psycopg_pool", "sqlalchemy", "asyncpg", "asyncmy", "django"})
    program = f"import sys, lockstep.client; print(*(m for m in {foreign!r} if m in sys.modules))"
    loaded = subprocess.run(  # noqa: S603 - our own interpreter and a program made here
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert loaded.stdout.split() == []


def test_loading_the_steps_loads_no_driver() -> None:
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in STEPS]
    program = f"import sys, {', '.join(modules)}; print(*sorted({sorted(DRIVERS)!r} & sys.modules.keys()))"
    program = program.replace("sorted([", "sorted({").replace("] &", "} &")
    loaded = subprocess.run(  # noqa: S603 - our own interpreter and a program made here
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert loaded.stdout.split() == []


def test_there_are_four_steps_with_handlers() -> None:
    assert [p.parent.name for p in STEPS] == ["apply_db", "audit", "generate", "update_secrets"]
    assert all((p.parent / "handler.py").exists() for p in STEPS)


# What may be nowhere


def _forbidden(path: Path) -> Iterator[str]:
    """Uses of clocks, ids and randomness that a test could not replace (protocol F9)."""
    for node in ast.walk(_tree(path)):
        match node:
            case ast.Import(names=names):
                modules = {alias.name for alias in names}
            case ast.ImportFrom(module=module, names=names):
                modules = {f"{module}.{alias.name}" for alias in names} | {str(module)}
            case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                modules = {f"{owner}.{attribute}"}
            case ast.Attribute(value=ast.Attribute(attr="datetime" | "date" as owner), attr=attribute):
                modules = {f"{owner}.{attribute}"}
            case _:
                continue
        for module in modules:
            if re.fullmatch(
                r"time\.(sleep|time|time_ns)|(datetime|date)\.(now|utcnow|today)|uuid\.uuid[14]"
                r"|secrets(\..*)?",
                module,
            ):
                yield f"{_name(path)}:{node.lineno}: {module}"


def test_time_ids_and_randomness_come_from_one_file() -> None:
    found = [f for p in _python(*SHIPPED) if _name(p) != "lockstep/runtime/system.py" for f in _forbidden(p)]
    assert found == []


def test_the_search_finds_them_in_that_file() -> None:
    found = {f.split(": ")[1] for f in _forbidden(ROOT / "lockstep/runtime/system.py")}
    assert {"time.sleep", "datetime.now", "secrets", "secrets.choice"} <= found


def test_only_the_jitter_of_retries_uses_random() -> None:
    users = {_name(p) for p in _python(*SHIPPED) if _imported(p, {"random"})}
    assert users <= {"oci_fn/retries.py"}


@pytest.mark.parametrize("folder", [*SHIPPED, "sandbox", "tests"])
def test_no_except_is_bare(folder: str) -> None:
    for path in _python(folder):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{_name(path)}:{node.lineno}"


def test_no_shipped_code_swallows_every_error() -> None:
    for path in _python("lockstep", "functions", "oci_fn"):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name):
                swallowed = node.type.id in {"Exception", "BaseException"} and not any(
                    isinstance(n, ast.Raise | ast.Return | ast.Assign) for n in ast.walk(node)
                )
                assert not swallowed, f"{_name(path)}:{node.lineno}"


@cache
def _committed() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - the git on the path
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=300,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [p for name in listed.stdout.decode().split("\0") if name and (p := ROOT / name).is_file()]


# Written in pieces, so that this file does not break its own rule.
REGISTRIES = [
    *(
        rf"{name}\.{end}"
        for name, end in [("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com")]
    ),
    *(rf"{name}\.{end}" for name, end in [("yarnpkg", "com"), ("rubygems", "org"), ("crates", "io")]),
]
# A folder of that name inside another folder is allowed.
PLACES = [rf"(?<!\w)/{name}/" for name in ("work", "root", "tmp/bash_jobs")]


INDEX = re.compile(r"(index-url|registry)[ =\"':]+https?:")


@pytest.mark.parametrize("words", [REGISTRIES, PLACES], ids=["registry", "place"])
def test_no_committed_file_names_a_package_registry_or_a_folder_of_one_machine(
    words: list[str],
) -> None:
    found = []
    for path in _committed():
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{_name(path)}: {match[0]}" for word in words for match in re.finditer(word, text)]
        found += [f"{_name(path)}: {match[0]}" for match in INDEX.finditer(text)]
    assert found == []


def test_the_lock_files_hold_names_versions_and_hashes() -> None:
    lines = [
        line.rstrip("\\ \n")
        for path in (ROOT / "locks").glob("*.txt")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    assert lines
    allowed = re.compile(r"[A-Za-z0-9._\[\],-]+==[^ ]+( ;.*)?|\s+--hash=sha256:[0-9a-f]{64}|-c .*")
    assert [line for line in lines if not allowed.fullmatch(line)] == []


SUPPRESSION = re.compile(r"#\s*(noqa|type:\s*ignore)(?P<what>[^#]*)(?P<more>#.*)?$")


def test_each_suppression_names_its_rule_and_reason() -> None:
    unexplained = []
    for path in _python(*SHIPPED):
        explained = 0
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.lstrip().startswith("#"):
                explained = number + 2  # A comment explains the next two lines too.
            if match := SUPPRESSION.search(line):
                what, more = match["what"], match["more"] or ""
                named = re.match(r":?\s*[A-Z]+[0-9]+|\[[a-z-]+", what.strip())
                reason = re.search(r" - \S", what) or len(more) > 5
                if not (named and (reason or number <= explained)):
                    unexplained.append(f"{_name(path)}:{number}")
    assert unexplained == []


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "X" + "XX"])
def test_no_open_task_is_left_in_the_code(word: str) -> None:
    found = [_name(p) for p in _python(*SHIPPED, "sandbox", "tests") if word in p.read_text(encoding="utf-8")]
    assert found == []


def test_no_definition_reads_a_secret_from_the_environment() -> None:
    for path in _python(*SHIPPED):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not re.fullmatch(
                    r"[A-Z_]*(PASSWORD|SECRET_ACCESS_KEY|PRIVATE_KEY)[A-Z_]*", node.value
                ), f"{_name(path)}:{node.lineno}"
