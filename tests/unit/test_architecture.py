"""What neither import-linter nor ruff can see of the code: `make lint` holds the rooms, the drivers and the clocks."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.tiers import PROOF_TIER, is_proof_tier

ROOT = Path(__file__).parents[2]
SHIPPED = ("lockstep", "functions", "oci_fn", "cdk")


def _python(*folders: str) -> list[Path]:
    return sorted(p for f in folders for p in (ROOT / f).rglob("*.py") if "cdk.out" not in p.parts)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _texts(*folders: str) -> Iterator[tuple[str, str]]:
    """Each text in the code, with its place."""
    for path in _python(*folders):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{_name(path)}:{node.lineno}", node.value


def test_no_text_names_a_module_to_be_imported_later() -> None:
    """What depends on what is seen by import-linter only where it is an import."""
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in _python("lockstep")}
    assert [place for place, text in _texts("lockstep") if text.partition(":")[0] in modules] == []


def test_no_definition_reads_a_secret_from_the_environment() -> None:
    secret = re.compile(r"[A-Z_]*(PASSWORD|SECRET_ACCESS_KEY|PRIVATE_KEY)[A-Z_]*")
    assert [place for place, text in _texts(*SHIPPED) if secret.fullmatch(text)] == []


def test_only_the_workers_and_the_scope_start_threads() -> None:
    """Nothing else could be joined (protocol F9). Agent, client and page are in no function: nothing freezes them."""
    starts = re.compile(r"PoolExecutor|\basyncio\b|\bmultiprocessing\b|\b_thread\b|\b(Thread|Timer)\(")
    apart = ("agent", "client", "page")
    code = [p for p in _python("lockstep", "functions", "oci_fn") if p.parent.name not in apart]
    users = {_name(p) for p in code if starts.search(p.read_text(encoding="utf-8"))}
    assert users == {"lockstep/protocol/workers.py", "lockstep/protocol/deadlines.py"}


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


def test_what_the_list_names_is_there_and_is_of_the_second_tier() -> None:
    for place in (place for places in PROOF_TIER.values() for place in places):
        file, _, name = place.partition("[")[0].partition("::")
        assert (ROOT / file).exists()
        assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), place
        assert is_proof_tier(f"{place}/test_any.py::test_any[a/b]" if "." not in file else place)
    for other in (
        "agent/test_http.py::test_languages",
        "statemachine/test_rotation.py::test_no_other[mysql]",
    ):
        assert not is_proof_tier(f"tests/{other}")
