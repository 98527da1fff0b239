"""The ages of the runners' keys, as `lockstep status` and the watch tell them, over HTTP."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.watch import handler as watching
from lockstep.cli.key_ages import ages, show
from lockstep.cli.operator import operator
from lockstep.identity import DEPLOYER
from lockstep.model import Engine
from lockstep.plan import Plan
from lockstep.plan_file import load_plan
from lockstep.system import SystemClock
from lockstep.wiring import PLAN_VARIABLE
from sandbox import plans
from sandbox.aws.resources import create_lock_table
from sandbox.aws.server import AwsSandbox
from sandbox.estate import environment
from sandbox.oci import OciSandbox, write_config_file
from sandbox.oci.clock import SandboxClock
from sandbox.oci.resources import create_secret

USER = "lockstep-oci-runner"
DAY = timedelta(days=1)
RUNNER_KEY = "lockstep.aws-key"


@dataclass
class Keys:
    """Both clouds on a day on which keys are made, and later days on which they are looked at."""

    aws: AwsSandbox
    oci: OciSandbox
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def plan(self, runners: dict[str, Any]) -> Plan:
        names = plans.OciNames(
            compartment_id=self.oci.compartment_id,
            own_compartment_id=self.oci.own_compartment_id,
            vault_id=self.oci.vault_id,
        )
        document = plans.plan_document(
            [plans.database("orders", Engine.MYSQL, tls={})],
            [plans.credential("multi-cloud/app_user", "orders")],
            oci=names,
        )
        document["runners"] = {
            "aws": document["runners"]["aws"] | runners.get("aws", {}),
            "oci": document["runners"]["oci"] | runners.get("oci", {}),
        }
        for runner in document["runners"].values():
            if "federation" in runner:
                runner.pop("oci_key_secret", None)
                runner.pop("aws_key_secret", None)
        file = self.folder / "lockstep.yaml"
        file.write_text(json.dumps(document))
        return load_plan(file)

    def told(self, plan: Plan, capsys: pytest.CaptureFixture[str], *, days: float) -> str:
        """What `status` shows of them after so many days."""
        with environment(self.variables):
            found = ages(plan, operator(plan, identity=DEPLOYER))
        show(plan, found, SystemClock().now() + days * DAY)
        return capsys.readouterr().out


@pytest.fixture(name="keys")
def _keys(tmp_path: Path) -> Iterator[Keys]:
    with AwsSandbox() as aws, OciSandbox(SandboxClock.ticking()) as oci:
        aws.client("secretsmanager").create_secret(Name=plans.OCI_KEY_SECRET, SecretString="{}")
        create_secret(oci, RUNNER_KEY, b"{}", compartment=oci.own_compartment_id)
        aws.client("iam").create_user(UserName=USER)
        create_lock_table(aws.client("dynamodb"), plans.LOCK_TABLE)
        variables = {
            **aws.environment(),
            "LOCKSTEP_OCI_ENDPOINT": oci.endpoint,
            "OCI_CONFIG_FILE": str(write_config_file(tmp_path, "operator", oci.config())),
        }
        yield Keys(aws, oci, tmp_path, variables)


def test_status_tells_how_old_each_key_is(keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    plan = keys.plan({})
    assert keys.told(plan, capsys, days=12.5).splitlines() == [
        f"key of runner aws: {plans.OCI_KEY_SECRET}, 12 days old",
        f"key of runner oci: {RUNNER_KEY}, 12 days old",
    ]
    assert keys.told(plan, capsys, days=90).splitlines() == [
        f"key of runner aws: {plans.OCI_KEY_SECRET}, 90 days old; replace it: lockstep identity rotate-key aws",
        f"key of runner oci: {RUNNER_KEY}, 90 days old; replace it: lockstep identity rotate-key oci",
    ]


def test_a_tag_makes_no_key_younger(keys: Keys) -> None:
    plan = keys.plan({})
    with environment(keys.variables):
        before = ages(plan, operator(plan, identity=DEPLOYER))
        keys.aws.client("secretsmanager").tag_resource(
            SecretId=plans.OCI_KEY_SECRET, Tags=[{"Key": "team", "Value": "data"}]
        )
        assert ages(plan, operator(plan, identity=DEPLOYER)) == before


def test_with_sessions_there_is_no_long_lived_key(keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    plan = keys.plan({"aws": {"federation": plans.TO_OCI}, "oci": {"federation": plans.TO_AWS}})
    assert keys.told(plan, capsys, days=900) == "no long-lived key\n"


def test_a_client_secret_is_a_key_that_no_command_replaces(
    keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    to_oci = {**plans.TO_OCI, "client": {"secret": plans.OCI_KEY_SECRET}}
    plan = keys.plan({"aws": {"federation": to_oci}, "oci": {"federation": plans.TO_AWS}})
    assert keys.told(plan, capsys, days=91) == (f"key of runner aws: {plans.OCI_KEY_SECRET}, 91 days old\n")


def test_an_age_that_cannot_be_had_is_told_and_stops_nothing(
    keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = keys.plan({"aws": {"oci_key_secret": "lockstep/other"}})
    keys.variables["OCI_CONFIG_FILE"] = str(
        write_config_file(keys.folder, "nobody", keys.oci.new_api_key("nobody"))
    )
    shown = keys.told(plan, capsys, days=0)
    assert shown.count("age not known; ") == 2
    with environment(keys.variables):
        documents = [a.document(SystemClock().now()) for a in ages(plan, operator(plan, identity=DEPLOYER))]
    assert [(d["age_days"], d["old"], d["since"]) for d in documents] == [(None, False, None)] * 2
    assert all(d["error"] for d in documents)


@dataclass
class Context:
    """Of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


def watched(keys: Keys, capsys: pytest.CaptureFixture[str], **request: object) -> dict[str, Any]:
    """The line of the watch."""
    capsys.readouterr()
    variables = {**keys.variables, PLAN_VARIABLE: str(keys.folder / "lockstep.yaml")}
    with environment(variables):
        watching._client.cache_clear()
        watching.handler({"stack": "lockstep", "schedules": True, **request}, Context())
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_watch_writes_the_age_of_the_oldest_key(keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    keys.plan({})
    assert 0 <= watched(keys, capsys)["KeyAgeDays"] < 1
    made = keys.aws.client("iam").create_access_key(UserName=USER)["AccessKey"]["CreateDate"]
    told = watched(keys, capsys, oci_runner_user=USER)
    assert 0 <= told["KeyAgeDays"] < 1
    assert made
    assert "KeyAgeDays" not in told["ids"]


def test_a_key_that_cannot_be_asked_about_does_not_silence_the_watch(
    keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.plan({"aws": {"oci_key_secret": "lockstep/other"}})
    told = watched(keys, capsys, oci_runner_user="nobody")
    assert "KeyAgeDays" not in told
    assert told["Credentials"] == 1
    assert sorted(line.split(": ")[0] for line in told["ids"]["KeyAgeDays"]) == [
        "access key of nobody",
        "lockstep/other",
    ]


def test_with_sessions_the_watch_has_no_such_metric(keys: Keys, capsys: pytest.CaptureFixture[str]) -> None:
    keys.plan({"aws": {"federation": plans.TO_OCI}, "oci": {"federation": plans.TO_AWS}})
    told = watched(keys, capsys)
    assert "KeyAgeDays" not in told
    assert told["Credentials"] == 1
