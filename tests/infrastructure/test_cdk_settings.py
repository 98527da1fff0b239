"""The settings of a deployment: their defaults, where they come from, and what is refused with its name."""

import json
from pathlib import Path

import pytest

from cdk.deployment import check_canary, check_deployable, check_oci_role
from cdk.settings import ROOT, Adopt, NotDeployableError, Settings
from lockstep.plan.file import load_plan
from lockstep.plan.model import Plan
from tests.infrastructure.cdk_case import (
    ADOPTED_KEY,
    BOTH_CLOUDS,
    CANARY,
    FEDERATED,
    NO_CANARY,
    PLAN,
    TOPICS,
    VPC,
    shape,
    synthesise,
)


def test_cdk_json_holds_every_setting_with_its_default() -> None:
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    own = {name: value for name, value in context.items() if not name.startswith("@")}
    assert own == Settings().model_dump(mode="json")
    assert all(field.description for name, field in Settings.model_fields.items() if name != "vpc")


ROLE = "arn:aws:iam::111122223333:role"
NO_PRINCIPALS = (
    "*",
    f"{ROLE}/*",
    "arn:aws:iam::*:role/x",
    "arn:aws:iam::111122223333:root",
    "break-glass",
    "arn:aws:sts::111122223333:assumed-role/break-glass/me",
)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("adopt", {"lock_tabel": True}, "adopt.lock_tabel: Extra inputs are not permitted"),
        ("adopt", {"topics": {"page": ADOPTED_KEY}}, "adopt.topics.page: String should match"),
        ("adopt", "{", "adopt: Expecting property name"),
        ("tags", {"aws:team": "x"}, "keys that begin with aws: belong to AWS"),
        ("tags", {"Lockstep:stack": "x"}, "keys that begin with lockstep: belong to Lockstep"),
        ("tags", {str(n): "" for n in range(49)}, "49 tags, and a resource takes 50"),
        ("permissions_boundary", f"{ROLE}/x", "permissions_boundary: String should"),
        ("stack", "1st", "stack: String should match"),
        ("vpc", {**VPC, "database_cidrs": []}, "vpc: give database_cidrs"),
        ("vpc", {**VPC, "security_group_ids": ["sg-01234567"]}, "one of the two"),
        *(("audit_break_glass_role", wrong, "audit_break_glass_role") for wrong in NO_PRINCIPALS),
        ("operators", ["*"], "operators"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(NotDeployableError) as refused:
        Settings.from_context({name: value}.get)
    assert f"cdk.json: {name}" in str(refused.value)
    assert message in str(refused.value)


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(NotDeployableError) as refused:
        Settings.from_context({"memory_mb": 1, "packaging": "rpm"}.get)
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("file", "was", "becomes", "message"),
    [
        (PLAN, "interval: 1h", "interval: 4d", "half a week"),
        (PLAN, "retention: 400d", "retention: 36h", "whole days"),
        (PLAN, "{table: lockstep, region: eu-central-1", "{table: lockstep, region: eu-west-1", "one region"),
        (PLAN, "alias/lockstep-audit", "alias/lockstep", "the alias of the key that encrypts"),
        (PLAN, "alias/lockstep-audit", "alias/lockstep-digests", "the alias of the key that signs digests"),
        *(
            (FEDERATED, "alias/lockstep-oci-client", f"alias/lockstep{end}", "another key's")
            for end in ("", "-audit", "-digests")
        ),
    ],
)
def test_a_plan_aws_cannot_run(tmp_path: Path, file: Path, was: str, becomes: str, message: str) -> None:
    text = (ROOT / file).read_text()
    assert was in text
    (tmp_path / "lockstep.yaml").write_text(text.replace(was, becomes))
    with pytest.raises(NotDeployableError, match=message):
        check_deployable(load_plan(tmp_path / "lockstep.yaml"))


def test_the_role_of_the_plan_is_that_of_the_stack_unless_it_is_adopted() -> None:
    plan = load_plan(ROOT / FEDERATED)
    check_oci_role(plan, Settings())
    with pytest.raises(NotDeployableError, match="name arn:aws:iam::111122223333:role/two-oci-runner, or"):
        check_oci_role(plan, Settings(stack="two"))
    check_oci_role(plan, Settings(stack="two", adopt=Adopt(existing=("lockstep-oci-runner",))))
    check_oci_role(load_plan(ROOT / BOTH_CLOUDS), Settings(stack="two"))


def test_a_canary_that_is_not_there_or_for_which_no_deployment_can_wait_is_refused(tmp_path: Path) -> None:
    def plan(interval: str) -> Plan:
        file = tmp_path / "lockstep.yaml"
        file.write_text((ROOT / PLAN).read_text().replace("interval: 1h", f"interval: {interval}"))
        return load_plan(file)

    check_canary(plan("2d"), CANARY)
    check_canary(plan("1d"), NO_CANARY)
    with pytest.raises(NotDeployableError, match="canary: the plan has no credential somebody"):
        check_canary(plan("2d"), "somebody")
    with pytest.raises(NotDeployableError, match="a deployment cannot wait"):
        check_canary(plan("2d"), NO_CANARY)


def test_topics_are_adopted_one_by_one_and_an_address_needs_one_to_subscribe_to() -> None:
    plan, address = load_plan(ROOT / PLAN), "operator@example.com"
    one = synthesise(plan, adopt={"topics": {"ticket": TOPICS["ticket"]}}, alarm_email=address)
    assert [t["TopicName"] for t in one.each("AWS::SNS::Topic")] == ["lockstep-page"]
    assert len(one.each("AWS::SNS::Subscription")) == 1
    with pytest.raises(NotDeployableError, match="alarm_email: both topics are adopted"):
        synthesise(plan, adopt={"topics": dict(TOPICS)}, alarm_email=address)
    assert len(shape("both").each("AWS::SNS::Subscription")) == 2
