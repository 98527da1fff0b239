"""What EventBridge makes of an event for a target."""

from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.emulators.aws.rules import input_of, scheduled_event

RULE = "arn:aws:events:eu-central-1:123456789012:rule/lockstep-20m-00"
EVENT = scheduled_event(RULE, datetime(2026, 11, 27, 17, 40, 3, 999, tzinfo=UTC))


def test_a_scheduled_event_names_its_rule_and_whole_seconds() -> None:
    assert EVENT["resources"] == [RULE]
    assert EVENT["time"] == "2026-11-27T17:40:03Z"
    assert (EVENT["account"], EVENT["region"]) == ("123456789012", "eu-central-1")


@pytest.mark.parametrize(
    ("target", "made"),
    [
        ({}, EVENT),
        ({"Input": '{"stack": "lockstep"}'}, {"stack": "lockstep"}),
        (
            {
                "InputTransformer": {
                    "InputPathsMap": {"time": "$.time"},
                    "InputTemplate": '{"shard":"20m-00","time":<time>,"concurrency":30}',
                }
            },
            {"shard": "20m-00", "time": "2026-11-27T17:40:03Z", "concurrency": 30},
        ),
    ],
)
def test_the_input_of_a_target(target: dict[str, Any], made: object) -> None:
    assert input_of(target, EVENT) == made
