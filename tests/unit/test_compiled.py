"""A function reads the compiled plan, and it says what the plan file says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.compiled import CompiledPlan, hosted_plan, write_compiled
from lockstep.errors import InvalidPlanError
from lockstep.plan_file import load_plan
from tests.infrastructure.cdk_case import PLAN as WITH_CA_FILES

ROOT = Path(__file__).resolve().parents[2]
PLANS = [ROOT / "lockstep.yaml", ROOT / WITH_CA_FILES]


def _compiled(source: Path, folder: Path) -> Path:
    """The plan in a folder, with the compiled one beside it."""
    file = folder / "lockstep.yaml"
    file.write_bytes(source.read_bytes())
    write_compiled(load_plan(file).compiled, file)
    return file


@pytest.mark.parametrize("plan", PLANS)
def test_the_compiled_plan_is_the_plan(plan: Path, tmp_path: Path) -> None:
    expected = load_plan(_compiled(plan, tmp_path)).compiled
    assert hosted_plan(tmp_path / "lockstep.yaml") == expected
    # Its CA files are beside it, wherever it is unpacked.
    (tmp_path / "moved").mkdir()
    for file in tmp_path.glob("lockstep.*"):
        file.rename(tmp_path / "moved" / file.name)
    moved = hosted_plan(tmp_path / "moved/lockstep.yaml")
    ca_files = [str(ca) for c in moved.credentials for s in c.servers for ca in s.ca_files]
    assert all(ca.startswith(str(tmp_path / "moved")) for ca in ca_files)
    assert [c.plan_digest for c in moved.credentials] == [c.plan_digest for c in expected.credentials]


def test_the_compiled_plan_is_its_own_compiled_form() -> None:
    plan = load_plan(PLANS[0]).compiled
    assert plan.compiled is plan
    assert plan.credential("multi-cloud/ledger_user") == plan.credentials[1]
    assert plan.credential("multi-cloud/other") is None
    assert plan.region_of("lockstep/admin/orders") == plan.secrets_region == "eu-central-1"
    arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-abc-AbCdEf"
    assert plan.region_of(arn) == "eu-west-1"


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"source": 1}'])
def test_a_compiled_plan_that_cannot_be_read_is_not_used(damage: str, tmp_path: Path) -> None:
    file = _compiled(PLANS[0], tmp_path)
    file.with_suffix(".json").write_text(damage)
    assert hosted_plan(file) == load_plan(file).compiled


def test_a_plan_that_was_changed_after_it_was_compiled_counts(tmp_path: Path) -> None:
    file = _compiled(PLANS[0], tmp_path)
    file.write_text(file.read_text().replace("dbname: orders", "dbname: other"))
    assert hosted_plan(file) == load_plan(file).compiled
    file.write_text("version: 1")
    with pytest.raises(InvalidPlanError):
        hosted_plan(file)


def test_a_compiled_plan_of_another_build_is_not_used(tmp_path: Path) -> None:
    file = _compiled(PLANS[0], tmp_path)
    compiled = json.loads(file.with_suffix(".json").read_text())
    compiled["plan"]["lock"]["colour"] = "red"
    file.with_suffix(".json").write_text(json.dumps(compiled))
    assert isinstance(hosted_plan(file), CompiledPlan)
    assert hosted_plan(file) == load_plan(file).compiled


def test_reading_it_loads_no_parser(tmp_path: Path) -> None:
    file = _compiled(PLANS[0], tmp_path)
    program = (
        "import sys; from pathlib import Path; from lockstep.compiled import hosted_plan; "
        "hosted_plan(Path(sys.argv[1])); print(*sys.modules)"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program, str(file)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert not set(done.stdout.split()) & {"pydantic", "ruamel.yaml", "lockstep.plan"}
