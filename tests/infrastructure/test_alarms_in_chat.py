"""`docs/how-to/alarms-in-chat`: the template is valid, and fits the outputs of the stack."""

import re
from pathlib import Path
from typing import Any

import pytest
from cfnlint import api as cfnlint  # type: ignore[import-untyped]  # it ships no types
from cfnlint.core import get_rules  # type: ignore[import-untyped]  # likewise
from cfnlint.decode import decode  # type: ignore[import-untyped]  # likewise

from cdk.bundle import ROOT
from tests.infrastructure.cdk_case import synthesised

HOW_TO = ROOT / "docs" / "how-to"
TEMPLATE = HOW_TO / "alarms-in-chat.yaml"
PAGE = (HOW_TO / "alarms-in-chat.md").read_text()


@pytest.fixture(name="template")
def _template() -> dict[str, Any]:
    found, problems = decode(str(TEMPLATE))
    assert not problems
    template: dict[str, Any] = found
    return template


@pytest.mark.parametrize("region", ["eu-central-1", "us-east-1"])
def test_cfn_lint_finds_nothing(region: str) -> None:
    assert [str(m) for m in cfnlint.lint(TEMPLATE.read_text(), get_rules([], [], []), [region])] == []


def test_cfn_lint_would_find_a_mistake() -> None:
    text = TEMPLATE.read_text().replace("SnsTopicArns:", "SnsTopics:")
    assert cfnlint.lint(text, get_rules([], [], []), ["eu-central-1"])


def test_its_topics_are_outputs_of_the_stack(template: dict[str, Any]) -> None:
    outputs = synthesised().template["Outputs"]
    topics = {name for name in template["Parameters"] if name.endswith("TopicArn")}
    assert topics == {"PageTopicArn", "TicketTopicArn"} <= outputs.keys()
    assert set(re.findall(r"output (\w+)\)", PAGE)) <= outputs.keys()
    for channel in ("SlackChannel", "TeamsChannel"):
        told = template["Resources"][channel]["Properties"]["SnsTopicArns"]
        assert {one["Ref"] for one in told} == topics


def test_every_parameter_that_the_page_gives_exists(template: dict[str, Any]) -> None:
    given = set(re.findall(r"\b([A-Z]\w+)=(?!=)", PAGE))
    assert given <= template["Parameters"].keys()


def test_the_webhook_gets_the_alarms_of_the_stack_only(template: dict[str, Any]) -> None:
    pattern = template["Resources"]["WebhookRule"]["Properties"]["EventPattern"]
    assert pattern["detail"]["alarmName"] == [{"prefix": {"Fn::Sub": "${Stack}-"}}]
    stack = synthesised()
    assert template["Parameters"]["Stack"]["Default"] == "lockstep"
    for alarm in stack.resources("AWS::CloudWatch::Alarm").values():
        assert alarm["Properties"]["AlarmName"].startswith("lockstep-")


def test_the_url_of_the_webhook_is_not_shown(template: dict[str, Any]) -> None:
    assert template["Parameters"]["WebhookUrl"]["NoEcho"] is True


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (HOW_TO / Path(target)).exists(), target
