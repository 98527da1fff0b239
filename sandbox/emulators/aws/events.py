"""EventBridge: what a rule gives its target, what Step Functions tells it, and PutEvents as AWS documents it.

Follows the guide's pages on scheduled rules
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-scheduled-rule-pattern.html) and on input transformation
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-transform-target-input.html).
"""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from moto.core.exceptions import JsonRESTError

from sandbox.emulators.aws.lambda_host import InvocationResult
from sandbox.emulators.aws.patching import Foreign, Patches

if TYPE_CHECKING:
    from sandbox.emulators.aws.server import AwsSandbox

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


DETAIL_TYPE = "Step Functions Execution Status Change"
TRIES = 3


# The event has the fields that the guide shows; the error is in the execution, not in the event
# (https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html). Lambda calls a function that has
# failed twice more (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html); here at once.
def status_change(aws: "AwsSandbox", execution_arn: str) -> dict[str, Any]:
    """The event of an execution that has ended."""
    found = aws.client("stepfunctions").describe_execution(executionArn=execution_arn)
    output = found.get("output")
    return {
        "version": "0",
        "id": "315c1398-40ff-a850-213b-158f73e60175",
        "detail-type": DETAIL_TYPE,
        "source": "aws.states",
        "account": aws.account_id,
        "time": found["stopDate"].isoformat(),
        "region": aws.region,
        "resources": [execution_arn],
        "detail": {
            "executionArn": execution_arn,
            "stateMachineArn": found["stateMachineArn"],
            "name": found["name"],
            "status": found["status"],
            "startDate": _milliseconds(found["startDate"]),
            "stopDate": _milliseconds(found["stopDate"]),
            "input": found["input"],
            "inputDetails": {"included": True},
            "output": output,
            "outputDetails": {"included": True} if output else None,
        },
    }


def deliver(aws: "AwsSandbox", function: str, event: dict[str, Any]) -> list[InvocationResult]:
    """Call a function with an event, as EventBridge and Lambda do; the result of each try."""
    results: list[InvocationResult] = []
    while len(results) < TRIES:
        results.append(aws.lambda_host.invoke(function, json.dumps(event).encode()))
        if results[-1].function_error is None:
            break
    return results


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


ENTRIES_LIMIT_BYTES = 256 * 1024
"""Of all entries of a request together, counted as the user guide says."""
_TIME_BYTES = 14

Fault = Callable[[], str | None]
"""Called for each PutEvents. It may wait, or raise what the service answers with; a code that it returns refuses every
entry: the call succeeds, and says so in FailedEntryCount alone."""


def apply(patches: Patches, fault: Callable[[], Fault | None]) -> None:
    """Make PutEvents as strict as the real one.

    The facts are of https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html and
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html.

    Args:
        patches: Of moto.
        fault: Gives the fault that is armed.
    """

    def wrapper(original: Foreign) -> object:
        def put_events(self: Foreign, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
            armed = fault()
            code = armed() if armed else None
            if sum(_size(event) for event in events) > ENTRIES_LIMIT_BYTES:
                raise JsonRESTError(
                    "ValidationException", "Total size of the entries in the request is over the limit."
                )
            if code:
                return [{"ErrorCode": code, "ErrorMessage": "refused by an armed fault"} for _ in events]
            answers: list[dict[str, Any]] = original(self, events)
            return answers

        return put_events

    patches.wrap("moto.events.models:EventsBackend.put_events", wrapper)


def _size(event: dict[str, Any]) -> int:
    texts = [event.get(name, "") for name in ("Source", "DetailType", "Detail")]
    texts += event.get("Resources", [])
    return sum(len(str(text).encode()) for text in texts) + (_TIME_BYTES if event.get("Time") else 0)
