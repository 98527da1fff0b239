"""Secrets go from the stack to `lockstep provision` and back, by the real CDK CLI: none is lost, changed or remade."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lockstep.cli import app
from lockstep.tags import SECRET_TAG, STACK_TAG
from sandbox.estate import environment
from tests.infrastructure.life_cycle import Account, Estate, bootstrapped

# Each test deploys up to four times.
pytestmark = pytest.mark.timeout(1800)

TAGS = {"team": "data"}
OF_CLOUDFORMATION = "aws:"
"""How the tags begin that CloudFormation sets by itself, in an account."""


@pytest.fixture(scope="module", name="account")
def _account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with bootstrapped(tmp_path_factory.mktemp("provision")) as account:
        yield account


@dataclass
class Secrets:
    """The secrets of an estate, and the command that makes them."""

    estate: Estate
    settings: Path

    def provision(self) -> Mapping[str, int]:
        """Run the command; its counts."""
        context = {"stack": self.estate.stack, "tags": TAGS}
        self.settings.write_text(json.dumps({"context": context}))
        words = ["provision", "-p", str(self.estate.plan_file), "--settings", str(self.settings), "--json"]
        with environment(self.estate.account.aws.environment()):
            shown = CliRunner().invoke(app, [*words, "--rate", "50"])
        assert shown.exit_code == 0, shown.output
        counts: dict[str, int] = json.loads(shown.stdout)["clouds"][0]["counts"]
        return {name: count for name, count in counts.items() if count}

    def state(self) -> Mapping[str, Any]:
        """All that must stay: identity, key, description, tags, versions, and what applications read."""
        client = self.estate.account.aws.client("secretsmanager")
        values, found = self.estate.values(), {}
        for name in self.estate.secrets:
            described = client.describe_secret(SecretId=name)
            found[name] = {
                **{key: described[key] for key in ("ARN", "KmsKeyId", "Description", "VersionIdsToStages")},
                "tags": {
                    tag["Key"]: tag["Value"]
                    for tag in described["Tags"]
                    if not tag["Key"].startswith(OF_CLOUDFORMATION)
                },
                "value": values[name],
            }
        return found

    def managed(self) -> int:
        """How many secrets the stack manages."""
        client = self.estate.account.aws.client("cloudformation")
        pages = client.get_paginator("list_stack_resources").paginate(StackName=self.estate.stack)
        rows = [row for page in pages for row in page["StackResourceSummaries"]]
        return sum(row["ResourceType"] == "AWS::SecretsManager::Secret" for row in rows)


def test_secrets_go_from_the_stack_to_the_command_and_back(account: Account, tmp_path: Path) -> None:
    estate = account.estate("moved", "app", "batch")
    secrets = Secrets(estate, tmp_path / "cdk.json")
    estate.deploy(tags=TAGS)
    assert secrets.managed() == 4
    estate.provision()
    estate.rotate()
    before = secrets.state()
    assert all(s["tags"].items() >= {**TAGS, STACK_TAG: estate.stack}.items() for s in before.values())
    # From the stack to the command: the stack lets go of them, and the command finds them as they should be.
    estate.deploy_asking(tags=TAGS, secrets="provision")
    assert (secrets.managed(), secrets.state()) == (0, before)
    assert secrets.provision() == {"there": 4}
    assert secrets.state() == before
    estate.rotate()
    # And back: the stack takes them as they are, and makes none twice.
    before = secrets.state()
    said = estate.deploy_asking(tags=TAGS)
    assert said.count("this stack made it") >= 4
    assert (secrets.managed(), secrets.state()) == (0, before)
    estate.rotate()


def test_what_the_command_makes_is_what_the_stack_makes(account: Account, tmp_path: Path) -> None:
    by_stack = account.estate("of-stack", "app")
    by_stack.deploy(tags=TAGS)
    by_command = account.estate("of-command", "app")
    by_command.deploy(tags=TAGS, secrets="provision")
    secrets = Secrets(by_command, tmp_path / "cdk.json")
    assert secrets.managed() == 0
    assert secrets.provision() == {"made": 2}
    made, wanted = (s.state() for s in (secrets, Secrets(by_stack, tmp_path / "cdk.json")))
    for name, other in zip(by_command.secrets, by_stack.secrets, strict=True):
        ours, theirs = made[name], wanted[other]
        assert ours["KmsKeyId"] == by_command.encryption_key
        assert theirs["KmsKeyId"] == by_stack.encryption_key
        assert ours["Description"] == theirs["Description"]
        assert ours["tags"] == {**theirs["tags"], STACK_TAG: by_command.stack}
        assert SECRET_TAG in ours["tags"]
        first, second = (json.loads(s["value"]) for s in (ours, theirs))
        assert first.keys() == second.keys()
        assert first["placeholder"] == second["placeholder"]
        assert len(first["generated"]) == len(second["generated"])
    # They rotate, and a stack that is to make the others leaves them alone.
    by_command.provision()
    by_command.rotate()
    before = secrets.state()
    by_command.deploy_asking(tags=TAGS)
    assert (secrets.managed(), secrets.state()) == (0, before)
