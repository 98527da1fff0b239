"""What Step Functions tells EventBridge when an execution has ended, and how EventBridge calls a function with it.

The event has the fields that the guide shows; the error is in the execution, not in the event
(https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html). Lambda calls a function that has
failed twice more (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html); here at once.
"""

import json
from datetime import datetime
from typing import Any

from sandbox.emulators.aws.lambda_host import InvocationResult
from sandbox.emulators.aws.server import AwsSandbox

DETAIL_TYPE = "Step Functions Execution Status Change"
TRIES = 3


def status_change(aws: AwsSandbox, execution_arn: str) -> dict[str, Any]:
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


def deliver(aws: AwsSandbox, function: str, event: dict[str, Any]) -> list[InvocationResult]:
    """Call a function with an event, as EventBridge and Lambda do; the result of each try."""
    results: list[InvocationResult] = []
    while len(results) < TRIES:
        results.append(aws.lambda_host.invoke(function, json.dumps(event).encode()))
        if results[-1].function_error is None:
            break
    return results


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
