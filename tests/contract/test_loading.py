"""What is imported and made late: once, at the first use, and by the step that uses it."""

import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.plan.file import load_plan
from lockstep.plan.published import compile_plan
from lockstep.runtime.wiring import PLAN_VARIABLE
from tests.support.programs import ran
from tests.support.published import from_folder, write_published

ROOT = Path(__file__).resolve().parents[2]
PLAN = ROOT / "lockstep.yaml"
STEPS = ("generate", "apply_db", "update_secrets", "audit")


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan as functions read it."""
    found = load_plan(PLAN)
    published = compile_plan(found.compiled, found.shards, PLAN.parent)
    monkeypatch.setenv(PLAN_VARIABLE, write_published(published, tmp_path))
    return tmp_path


def _loaded(program: str, folder: Path) -> set[str]:
    """The packages and modules that a new process has after a program."""
    program = f"{from_folder(folder)}\n{program}; import sys; print(*sys.modules)"
    done = ran([sys.executable, "-c", program], cwd=ROOT, check=True)
    loaded = set(done.stdout.split())
    ours = (name for name in loaded if name.startswith(("lockstep", "oci_fn", "functions")))
    # Nothing where no event is sent, and nothing of what only `lockstep doctor` asks for.
    assert not [
        name for name in ours if any(word in name for word in ("events", "telling", "doctor", "look"))
    ]
    return loaded


OF_ADAPTERS = {"botocore", "oci", "cryptography", "pymysql", "pg8000", "lockstep.databases.base"}
"""What only the step that uses it may load."""
OF_PEOPLE = {
    *("typer", "rich", "boto3", "lockstep.cli", "lockstep.operate.report"),
    *("lockstep.audit.verify", "lockstep.client"),
}
"""What no step uses."""
OF_PLANS = {"pydantic", "ruamel.yaml", "durationpy", "lockstep.plan.model", "lockstep.operate.login_import"}
"""What reads and changes a plan file."""


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_its_ports_before_it_loads_an_adapter(step: str, folder: Path) -> None:
    loaded = _loaded(
        f"import functions.{step}.handler; from functions.face import hosted_ports; "
        f"hosted_ports('aws/{step}', 'multi-cloud/app_user')",
        folder,
    )
    assert not loaded & (OF_ADAPTERS | OF_PEOPLE | OF_PLANS)


def test_the_oci_function_has_its_ports_before_it_loads_an_adapter(folder: Path) -> None:
    loaded = _loaded(
        "import oci_fn.func as f; f.hosted_runner(f.OCI_RUNNER).ports('multi-cloud/app_user')", folder
    )
    assert not loaded & (OF_ADAPTERS | OF_PEOPLE | OF_PLANS)


def test_threads_of_a_new_process_may_import_what_is_of_oci_in_any_order() -> None:
    """The SDK imports itself in a circle: who begins with a part of it, while another begins with all, gets a half."""
    program = """
import threading
from importlib import import_module

names = "clients vault object_storage kms functions notifications reads"
begin, broken = threading.Barrier(len(names.split())), []

def load(name):
    begin.wait()
    try:
        import_module(f"lockstep.oci.{name}")
    except ImportError as error:
        broken.append(f"{name}: {error}")

threads = [threading.Thread(target=load, args=(name,)) for name in names.split()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("; ".join(broken))
"""
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - the program above
        assert done.stdout.strip() == ""
