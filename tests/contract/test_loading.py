"""What is imported and made late: once, at the first use, and by the step that uses it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.plan.file import load_plan
from lockstep.plan.published import compile_plan
from sandbox.plans import write_published
from tests.support.programs import ran

ROOT = Path(__file__).resolve().parents[2]
PLAN = ROOT / "lockstep.yaml"
STEPS = ("generate", "apply_db", "update_secrets", "audit")


@pytest.fixture(scope="module", name="plan")
def _plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan as functions read it, in a folder."""
    found = load_plan(PLAN)
    published = compile_plan(found.compiled, found.shards, PLAN.parent)
    return write_published(published, tmp_path_factory.mktemp("plan"))


def _loaded(program: str, plan: Path) -> set[str]:
    """The packages and modules that a new process has after a program."""
    done = ran(
        [sys.executable, "-c", f"{program}; import sys; print(*sys.modules)"],
        cwd=ROOT,
        check=True,
        env={**os.environ, "LOCKSTEP_PLAN": str(plan)},
    )
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
def test_a_step_has_its_ports_before_it_loads_an_adapter(step: str, plan: Path) -> None:
    loaded = _loaded(
        f"import functions.{step}.handler; from functions.face import hosted_ports; "
        f"hosted_ports('aws/{step}', 'multi-cloud/app_user')",
        plan,
    )
    assert not loaded & (OF_ADAPTERS | OF_PEOPLE | OF_PLANS)


def test_the_oci_function_has_its_ports_before_it_loads_an_adapter(plan: Path) -> None:
    loaded = _loaded(
        "import oci_fn.func as f; f.hosted_runner(f.OCI_RUNNER).ports('multi-cloud/app_user')", plan
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
