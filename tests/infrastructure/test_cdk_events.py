"""What the stack adds where the plan sends events, and that it adds nothing where it does not."""

import json
from typing import Any

import pytest
from moto.events.models import EventPattern

from sandbox.emulators.aws.policies import Call, decide
from sandbox.emulators.aws.status_changes import DETAIL_TYPE
from tests.infrastructure.cdk_case import ACCOUNT, WITH_EVENTS, Synthesised, synthesised

MACHINE = "arn:aws:states:eu-central-1:111122223333:stateMachine:lockstep"
EXECUTION = "arn:aws:states:eu-central-1:111122223333:execution:lockstep:run-1"
BUS = "arn:aws:events:eu-central-1:111122223333:event-bus/platform-events"


@pytest.fixture(scope="module")
def stack() -> Synthesised:
    return synthesised(plan=WITH_EVENTS)


def plain(value: Any) -> Any:  # noqa: ANN401 - a part of a template
    """A part of the template, with the values that CloudFormation puts in."""
    match value:
        case {"Ref": name} if name in ACCOUNT:
            return ACCOUNT[name]
        case {"Ref": _}:  # Of the only state machine.
            return MACHINE
        case {"Fn::Join": [separator, parts]}:
            return separator.join(plain(part) for part in parts)
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


def test_without_the_section_nothing_is_added() -> None:
    template = json.dumps(synthesised().template).lower()
    assert "announce" not in template
    assert "putevents" not in template


def test_with_it_a_function_a_role_a_log_and_a_rule_are_added_and_nothing_is_changed(
    stack: Synthesised,
) -> None:
    before, now = synthesised().template["Resources"], stack.template["Resources"]
    added = {name: now[name]["Type"] for name in now.keys() - before.keys()}
    kinds = sorted(kind for kind in added.values() if kind != "AWS::Lambda::Version")
    assert kinds == [
        "AWS::Events::Rule",
        "AWS::IAM::Role",
        "AWS::Lambda::Function",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
    ]
    [permission] = [now[name] for name, kind in added.items() if kind == "AWS::Lambda::Permission"]
    assert permission["Properties"]["Principal"] == "events.amazonaws.com"
    assert stack.template["Resources"].keys() >= {
        name for name in before if before[name]["Type"] != "AWS::Lambda::Version"
    }


def test_every_end_of_an_execution_of_this_machine_reaches_the_function_and_no_other(
    stack: Synthesised,
) -> None:
    [rule] = [
        r["Properties"]
        for r in stack.resources("AWS::Events::Rule").values()
        if "EventPattern" in r["Properties"]
    ]
    assert rule["Name"] == "lockstep.announce"
    pattern = EventPattern.load(json.dumps(plain(rule["EventPattern"])))

    def reaches(status: str, machine: str = MACHINE, source: str = "aws.states") -> bool:
        event: Any = {
            "source": source,
            "detail-type": DETAIL_TYPE,
            "detail": {"status": status, "stateMachineArn": machine},
        }
        return bool(pattern.matches_event(event))

    assert all(reaches(status) for status in ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"))
    assert not reaches("RUNNING")
    assert not reaches("PENDING_REDRIVE")
    assert not reaches("FAILED", machine=f"{MACHINE}-two")
    assert not reaches("FAILED", source="lockstep")
    [target] = rule["Targets"]
    assert target.keys() == {"Arn", "Id"}  # The event is passed on as it is.


def test_the_role_may_send_to_this_bus_and_ask_about_these_executions_alone(stack: Synthesised) -> None:
    statements = [
        {**s, "Resource": plain(s["Resource"])}
        for title, s in stack.policies()
        if title == "announce" and s["Sid"] in {"Send", "AskWhy"}
    ]

    def may(action: str, resource: str) -> bool:
        return decide(Call(action=action, resource=resource), statements).allowed

    assert may("events:PutEvents", BUS)
    assert may("states:DescribeExecution", EXECUTION)
    for action, resource in (
        ("events:PutEvents", BUS.replace("platform-events", "default")),
        ("events:PutEvents", BUS.replace("111122223333", "999988887777")),
        ("events:PutEvents", BUS.replace("eu-central-1", "eu-west-1")),
        ("events:PutRule", BUS),
        ("states:DescribeExecution", EXECUTION.replace(":lockstep:", ":lockstep-two:")),
        ("states:StopExecution", EXECUTION),
        ("states:StartExecution", MACHINE),
    ):
        assert not may(action, resource), (action, resource)


def test_no_step_of_a_rotation_may_send_events(stack: Synthesised) -> None:
    senders = {title for title, s in stack.policies() if "events:PutEvents" in json.dumps(s["Action"])}
    assert senders == {"announce"}
