"""`docs/how-to/alarms-in-chat`: the template is valid, and fits the outputs of the stack."""

import re
from pathlib import Path
from typing import Any

import pytest
from cfnlint import api as cfnlint  # type: ignore[import-untyped]  # it ships no types
from cfnlint.core import get_rules  # type: ignore[import-untyped]  # likewise
from cfnlint.decode import decode  # type: ignore[import-untyped]  # likewise

from cdk.bundle import ROOT
from tests.infrastructure.cdk_case import shape

HOW_TO = ROOT / "docs" / "how-to"
TEMPLATE = HOW_TO / "alarms-in-chat.yaml"
PAGE = (HOW_TO / "alarms-in-chat.md").read_text()


@pytest.fixture(name="template")
def _template() -> dict[str, Any]:
    found, problems = decode(str(TEMPLATE))
    assert not problems
    template: dict[str, Any] = found
    return template


def test_cfn_lint_finds_nothing_and_would_find_a_mistake() -> None:
    text, rules = TEMPLATE.read_text(), get_rules([], [], [])
    assert [str(m) for m in cfnlint.lint(text, rules, ["eu-central-1", "us-east-1"])] == []
    assert cfnlint.lint(text.replace("SnsTopicArns:", "SnsTopics:"), rules, ["eu-central-1"])


def test_its_topics_are_outputs_of_the_stack(template: dict[str, Any]) -> None:
    outputs = shape("plain").template["Outputs"]
    topics = {name for name in template["Parameters"] if name.endswith("TopicArn")}
    assert topics == {"PageTopicArn", "TicketTopicArn"} <= outputs.keys()
    assert set(re.findall(r"output (\w+)\)", PAGE)) <= outputs.keys()
    for channel in ("SlackChannel", "TeamsChannel"):
        told = template["Resources"][channel]["Properties"]["SnsTopicArns"]
        assert {one["Ref"] for one in told} == topics


def test_what_the_page_gives_and_links_to_exists(template: dict[str, Any]) -> None:
    assert set(re.findall(r"\b([A-Z]\w+)=(?!=)", PAGE)) <= template["Parameters"].keys()
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (HOW_TO / Path(target)).exists(), target


def test_the_webhook_gets_the_stacks_alarms_and_its_url_is_not_shown(
    template: dict[str, Any],
) -> None:
    pattern = template["Resources"]["WebhookRule"]["Properties"]["EventPattern"]
    assert pattern["detail"]["alarmName"] == [{"prefix": {"Fn::Sub": "${Stack}-"}}]
    assert template["Parameters"]["Stack"]["Default"] == "lockstep"
    for alarm in shape("plain").each("AWS::CloudWatch::Alarm"):
        assert alarm["AlarmName"].startswith("lockstep-")
    assert template["Parameters"]["WebhookUrl"]["NoEcho"] is True
