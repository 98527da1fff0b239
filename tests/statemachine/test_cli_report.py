"""`lockstep audit report` on a running world, after real rotations."""

import csv
import io
import json
from pathlib import Path

from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.orders import Pause, Resume
from sandbox.plans import AUDIT_BUCKET
from tests.statemachine.conftest import Case


def run(case: Case, *words: str) -> Result:
    """Write a report on the case's credential; the plan is in the environment."""
    return CliRunner().invoke(app, ["audit", "report", *words, "-c", case.credential.id])


def test_a_report_in_each_form(plain: Case, tmp_path: Path) -> None:
    plain.rotate()
    plain.again()
    plain.order(Pause())
    plain.order(Resume())
    files = [tmp_path / f"report.{suffix}" for suffix in ("html", "json", "csv")]
    for file in files:
        shown = run(plain, "--since", "1d", "--output", str(file))
        assert (shown.exit_code, shown.stdout) == (0, "")
        assert f"{file.name}: verified" in shown.stderr
    page, document, table = (file.read_text() for file in files)
    assert page.startswith("<!doctype html>")
    assert plain.credential.id in page
    (credential,) = json.loads(document)["credentials"]
    assert credential["figures"]["rotated"] == {"aws": 2}
    assert [order["name"] for order in credential["orders"]] == ["pause", "resume"]
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["kind"] for row in rows] == ["verdict", "run", "run", "order", "order"]
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["report.csv", "report.html", "report.json"]


def test_a_report_on_standard_output(plain: Case) -> None:
    plain.rotate()
    shown = run(plain, "--output", "-", "--format", "json")
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert json.loads(shown.stdout)["verdict"] == "verified, not witnessed"
    assert run(plain, "--output", "-").stdout.startswith("<!doctype html>")


def test_a_report_on_a_log_that_was_changed_is_written_and_says_no(plain: Case, tmp_path: Path) -> None:
    plain.rotate()
    plain.again()
    plain.world.aws.client("s3").delete_object(
        Bucket=AUDIT_BUCKET, Key=f"aws/{plain.credential.id.replace('/', '.')}/{2:012d}.json"
    )
    shown = run(plain, "-o", str(tmp_path / "report.html"))
    assert shown.exit_code == 1
    assert "NOT VERIFIED" in shown.stderr
    assert "Not verified" in (tmp_path / "report.html").read_text()


def test_an_older_period_is_empty_and_the_chain_is_verified_all_the_same(plain: Case) -> None:
    plain.rotate()
    document = json.loads(run(plain, "--since", "1s", "-o", "-", "--format", "json").stdout)
    (credential,) = document["credentials"]
    assert credential["checks"][0]["entries"] == 1
