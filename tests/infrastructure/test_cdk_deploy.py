"""`python -m cdk.deploy`: what it refuses before it asks, what it says, and what it hands to the CDK CLI."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from cdk import app as cdk_app
from cdk.deploy import arguments, main, settings_of
from cdk.estate import Adopt
from cdk.existing import Estate
from cdk.settings import ROOT, NotDeployableError
from sandbox.aws import AwsSandbox
from sandbox.aws.resources import create_lock_table
from tests.infrastructure.cdk_case import PLAN

BUCKET = "audit-of-orders"


@pytest.fixture(name="plan")
def _plan() -> Iterator[Path]:
    """A plan without values of the example. An image is built from plans in the repository only."""
    text = (ROOT / PLAN).read_text().replace("example-lockstep-audit", BUCKET)
    with NamedTemporaryFile("w", suffix=".yaml", dir=ROOT / PLAN.parent) as file:
        file.write(text.replace("{ca_file: ca/example.pem}", "{}"))
        file.flush()
        yield Path(file.name).relative_to(ROOT)


@pytest.fixture(name="aws")
def _aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        yield aws


def test_a_dry_run_says_what_would_be_adopted_and_deploys_nothing(
    aws: AwsSandbox, plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create_lock_table(aws.client("dynamodb"), "lockstep")
    asked = ["--dry-run", "-c", f"plan={plan}"]
    assert main(asked) == 2
    assert 'to adopt it, add "lock_table": true to adopt' in capsys.readouterr().err
    assert main([*asked, "-c", 'adopt={"lock_table": true}']) == 0
    said = capsys.readouterr().out
    assert "adopted: table lockstep: cdk.json says so" in said
    (adopt,) = (line.removeprefix("adopt: ") for line in said.splitlines() if line.startswith("adopt: "))
    assert Adopt.model_validate_json(adopt) == Adopt(lock_table=True)
    assert aws.client("cloudformation").list_stacks()["StackSummaries"] == []


def test_values_of_the_example_are_refused_before_any_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "audit.aws.bucket: example-lockstep-audit is an example; give your own" in said
    assert "databases[0].host: orders.example.com is an example; give your own" in said


def test_cdk_synth_refuses_values_of_the_example_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({"plan": "lockstep.yaml"}))
    assert cdk_app.main() == 2
    assert "is an example; give your own" in capsys.readouterr().err


def test_an_account_that_does_not_answer_stops_it(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "-c", f"plan={plan}", "--profile", "not-there"]) == 2
    assert "not-there" in capsys.readouterr().err


def test_settings_come_from_cdk_json_and_the_command_line() -> None:
    settings = settings_of(["memory_mb=1024", 'tags={"a": "b=c"}'])
    assert (settings.memory_mb, settings.tags, settings.stack) == (1024, {"a": "b=c"}, "lockstep")
    with pytest.raises(NotDeployableError, match="give name=value"):
        settings_of(["memory_mb"])


def test_the_cli_gets_the_complete_adopt_and_all_other_arguments() -> None:
    estate = Estate(adopt=Adopt(secrets=("a",)), taken=(), notes=(), problems=())
    given = arguments(estate, ["--require-approval", "never"], ["plan=p.yaml", 'adopt={"secrets": false}'])
    assert given[:3] == ["deploy", "--context", "plan=p.yaml"]
    assert given[-2:] == ["--require-approval", "never"]
    (adopt,) = (part.removeprefix("adopt=") for part in given if part.startswith("adopt="))
    assert settings_of([f"adopt={adopt}"]).adopt == estate.adopt
