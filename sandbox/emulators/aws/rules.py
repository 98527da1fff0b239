"""What a rule of EventBridge gives its target for an event.

Follows the guide's pages on scheduled rules
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html) and on input transformation
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html).
"""

import json
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_PLACE = re.compile(r"<(?P<name>[A-Za-z0-9_.-]+)>")
"""The place of a value. One within a text is not known here: what is inserted has quotation marks of its own."""


def scheduled_event(rule_arn: str, at: datetime) -> Mapping[str, Any]:
    """The event of a rule with a schedule.

    Args:
        rule_arn: Of the rule.
        at: When it fires, in UTC; its fraction of a second is left out.
    """
    _, _, _, region, account, _ = rule_arn.split(":", 5)
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "region": region,
        "resources": [rule_arn],
        "detail": {},
    }


def input_of(target: Mapping[str, Any], event: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """What a target gets: its constant input, what its transformer makes of the event, or the event.

    Args:
        target: As ListTargetsByRule gives it.
        event: What the rule has matched, or its schedule has made.
    """
    if "Input" in target:
        return json.loads(target["Input"])
    if "InputTransformer" not in target:
        return event
    paths = target["InputTransformer"].get("InputPathsMap", {})
    values = {name: _at(event, path) for name, path in paths.items()}
    template = target["InputTransformer"]["InputTemplate"]
    return json.loads(_PLACE.sub(lambda place: json.dumps(values[place["name"]]), template))


def _at(event: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - any JSON
    """The value at a path such as `$.detail.state`; None where there is none, as EventBridge inserts nothing."""
    found: Any = event
    for name in path.removeprefix("$").split(".")[1:]:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
