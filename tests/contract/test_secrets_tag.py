"""`lockstep secrets tag` on Secrets Manager: what it shows, what it tags, and that it takes nothing from others."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from lockstep.cli import app
from lockstep.protocol.model import Engine
from lockstep.protocol.names import SECRET_TAG, STACK_TAG
from sandbox import plans
from sandbox.aws import AwsSandbox
from sandbox.aws.executions import Client
from sandbox.estate import environment

APP_USER, BLOB, ADMIN = "multi-cloud/app_user", "multi-cloud/connection_blob", "lockstep/admin/orders"
PLAN = plans.plan_document(
    [plans.database("orders", Engine.MYSQL, host="orders.internal", tls={})],
    [plans.credential(APP_USER, "orders", username="app_user")],
)


@dataclass
class Account:
    """An AWS account, and the command in it."""

    aws: AwsSandbox
    plan: Path

    @property
    def owner(self) -> Client:
        """Secrets Manager, as an administrator."""
        return self.aws.client("secretsmanager")

    def tag(self, *words: str) -> Result:
        """Run the command."""
        with environment(self.aws.environment()):
            return CliRunner().invoke(app, ["secrets", "tag", "-p", str(self.plan), *words])

    def states(self, *words: str) -> dict[str, str]:
        """The state of each secret, by its name."""
        return {row["secret"]: row["state"] for row in self.rows(*words)}

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """What `--json` prints of each secret."""
        rows: list[dict[str, Any]] = json.loads(self.tag("--json", *words).stdout)["secrets"]
        return rows

    def tags(self, name: str) -> dict[str, str]:
        """The tags of a secret."""
        return {t["Key"]: t["Value"] for t in self.owner.describe_secret(SecretId=name).get("Tags", [])}

    def make(self, *names: str, **more: object) -> None:
        """Create secrets, as a person would."""
        for name in names:
            self.owner.create_secret(Name=name, SecretString="{}", **more)


@pytest.fixture(name="account")
def _account(tmp_path: Path) -> Iterator[Account]:
    file = tmp_path / "lockstep.yaml"
    file.write_text(json.dumps(PLAN))
    with AwsSandbox() as aws:
        yield Account(aws, file)


def test_nothing_is_tagged_without_consent(account: Account) -> None:
    account.make(ADMIN)
    shown = account.tag()
    assert shown.exit_code == 1
    assert f"lacks the tag {STACK_TAG}=lockstep" in shown.stdout
    assert f"lacks the tag {SECRET_TAG}=admin" in shown.stdout
    assert "--yes" in shown.stdout
    assert account.tags(ADMIN) == {}


def test_it_tags_what_people_made_and_makes_nothing(account: Account) -> None:
    account.make(ADMIN, Tags=[{"Key": "team", "Value": "payments"}])
    shown = account.tag("--yes")
    assert shown.exit_code == 0, shown.stdout
    assert account.tags(ADMIN) == {"team": "payments", STACK_TAG: "lockstep", SECRET_TAG: "admin"}
    made = "to be made"
    assert account.states() == {APP_USER: made, BLOB: made, ADMIN: "ready"}


def test_repeating_it_changes_nothing(account: Account) -> None:
    account.make(ADMIN, APP_USER, BLOB)
    assert account.tag("--yes").exit_code == 0
    before = account.owner.describe_secret(SecretId=ADMIN)["LastChangedDate"]
    again = account.tag("--yes")
    assert (again.exit_code, "lacks" in again.stdout) == (0, False)
    assert account.owner.describe_secret(SecretId=ADMIN)["LastChangedDate"] == before
    assert account.tags(BLOB)[SECRET_TAG] == "connection_blob"


def test_an_interrupted_one_is_finished(account: Account) -> None:
    account.make(ADMIN)
    account.owner.tag_resource(SecretId=ADMIN, Tags=[{"Key": STACK_TAG, "Value": "lockstep"}])
    assert account.tag("--yes").exit_code == 0
    assert account.tags(ADMIN)[SECRET_TAG] == "admin"


def test_a_secret_of_another_stack_is_not_taken(account: Account) -> None:
    account.make(ADMIN)
    assert account.tag("--yes", "--stack", "other").exit_code == 0
    before = account.tags(ADMIN)
    shown = account.tag("--yes")
    assert (shown.exit_code, "'other', not 'lockstep'" in shown.stdout) == (1, True)
    assert account.tags(ADMIN) == before


def test_a_missing_admin_is_told_and_a_missing_login_is_not(account: Account) -> None:
    shown = account.tag("--yes")
    assert (shown.exit_code, "create it" in shown.stdout) == (1, True)
    assert account.states()[ADMIN] == "missing"


def test_the_key_of_each_is_shown(account: Account) -> None:
    key = account.aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    account.make(ADMIN, KmsKeyId=key)
    account.make(APP_USER)
    assert {row["secret"]: row["key"] for row in account.rows()}[ADMIN] == key
    shown = account.tag().stdout
    assert (key in shown, "that of Secrets Manager" in shown) == (True, True)


def test_a_secret_that_is_being_deleted_is_in_the_way(account: Account) -> None:
    account.make(ADMIN, APP_USER)
    account.owner.delete_secret(SecretId=APP_USER, RecoveryWindowInDays=7)
    assert account.states("--yes")[APP_USER] == "in the way"


def test_an_unknown_credential_is_wrong_use(account: Account) -> None:
    assert account.tag("-c", "nobody").exit_code == 2


def test_a_missing_right_is_named(account: Account) -> None:
    account.make(ADMIN)
    account.aws.client("iam").create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    account.aws.guard.know(account.aws.environment()["AWS_ACCESS_KEY_ID"], "r")
    shown = account.tag("--yes")
    assert (shown.exit_code, "AwsActionDeniedError" in shown.stderr) == (3, True)
