"""The compiled plan, from a plan file."""

import sys
from pathlib import Path

import pytest

from lockstep.plan.compiled import hosted_plan
from lockstep.plan.file import load_plan
from lockstep.protocol.errors import InvalidPlanError

ROOT = Path(__file__).resolve().parents[2]
PLAN = ROOT / "lockstep.yaml"


def test_the_plan_of_a_file_is_compiled() -> None:
    assert hosted_plan(PLAN) == load_plan(PLAN).compiled


def test_a_file_that_is_not_valid_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lockstep.yaml").write_text("version: 1")
    with pytest.raises(InvalidPlanError):
        hosted_plan(tmp_path / "lockstep.yaml")


def test_without_a_parser_a_file_is_no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a bundle, whose functions read a published plan."""
    monkeypatch.setitem(sys.modules, "lockstep.plan.file", None)
    with pytest.raises(InvalidPlanError):
        hosted_plan(PLAN)


def test_the_compiled_plan_is_its_own_compiled_form() -> None:
    plan = load_plan(PLAN).compiled
    assert plan.compiled is plan
    assert plan.credential("multi-cloud/ledger_user") == plan.credentials[1]
    assert plan.credential("multi-cloud/other") is None
    assert plan.region_of("lockstep/admin/orders") == plan.secrets_region == "eu-central-1"
    arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-abc-AbCdEf"
    assert plan.region_of(arn) == "eu-west-1"
