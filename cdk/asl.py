"""The kinds of states in `statemachine.asl.json` and `fleet.asl.json`, and the layout of their text."""

import json
import textwrap
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from lockstep.protocol import deadlines
from lockstep.protocol.deadlines import RetryPolicy
from lockstep.protocol.messages import ID_CHARACTERS, ID_LENGTH

State = dict[str, Any]

_LAMBDA_ERRORS = (
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.TooManyRequestsException",
    # Nothing ran: the function is inactive, or the network gave it no interface (API of Lambda, Invoke).
    "Lambda.ResourceNotReadyException",
    *("Lambda.EC2ThrottledException", "Lambda.ENINotReadyException", "Lambda.ENILimitReachedException"),
    "Lambda.SubnetIPAddressLimitReachedException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
    "States.Timeout",
)
"""Failures of Lambda itself that may pass, not of a step.

https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
"""
_DYNAMODB_ERRORS = (
    "DynamoDB.ProvisionedThroughputExceededException",
    *("DynamoDB.RequestLimitExceeded", "DynamoDB.RequestLimitExceededException"),
    "DynamoDB.ThrottlingException",
    "DynamoDB.InternalServerError",
    "DynamoDB.InternalServerErrorException",
    *("DynamoDB.SdkClientException", "DynamoDB.AmazonDynamoDBException"),
    "States.Timeout",
)
"""The names of LOCK_POLICY's error where the state machine calls DynamoDB itself."""
_LAMBDA_POLICY = RetryPolicy(errors=(), attempts=3, interval_seconds=1, max_delay_seconds=10)
"""For _LAMBDA_ERRORS, which occur only outside the function."""

_FAILED = {"failure": "{% $states.errorOutput %}"}
_WIDTH = 120


def step(function: str, payload: object) -> State:
    """A task that calls a step.

    Args:
        function: The step's placeholder, without its end `Function`.
        payload: The step's request.
    """
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Arguments": {"FunctionName": f"${{{function}Function}}", "Payload": payload},
        "Output": "{% $states.result.Payload %}",
        "TimeoutSeconds": seconds(deadlines.STEP),
        "Retry": [
            retry(deadlines.STEP_POLICY, [error.__name__ for error in deadlines.STEP_POLICY.errors]),
            retry(_LAMBDA_POLICY, _LAMBDA_ERRORS),
        ],
    }


def lock_call(
    credential_id: str,
    *,
    update: str,
    condition: str,
    values: State,
    names: State | None = None,
    returns: str | None = None,
) -> State:
    """A task that updates the credential's item in the lock table.

    Args:
        credential_id: A JSONata expression.
        update: One of the update expressions of `lockstep.aws.dynamodb_lock`.
        condition: The condition that belongs to it.
        values: What both expressions name.
        names: What the placeholders of names in them stand for.
        returns: Which attributes the call returns.
    """
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::dynamodb:updateItem",
        "Arguments": {
            "TableName": "${LockTable}",
            "Key": {"credential_id": {"S": jsonata(credential_id)}},
            "UpdateExpression": update,
            "ConditionExpression": condition,
            **({"ExpressionAttributeNames": names} if names else {}),
            "ExpressionAttributeValues": values,
            **({"ReturnValues": returns} if returns else {}),
        },
        "TimeoutSeconds": seconds(deadlines.LOCK_CALL),
        "Retry": [retry(deadlines.LOCK_POLICY, _DYNAMODB_ERRORS)],
    }


def retry(policy: RetryPolicy, errors: Sequence[str]) -> State:
    """A retrier of the errors of these names, with jitter."""
    return {
        "ErrorEquals": list(errors),
        "IntervalSeconds": policy.interval_seconds,
        "BackoffRate": policy.backoff_rate,
        "MaxAttempts": policy.attempts,
        "MaxDelaySeconds": policy.max_delay_seconds,
        "JitterStrategy": "FULL",
    }


def is_id(value: str) -> str:
    """The condition that a value is an id of `lockstep.protocol.messages`."""
    characters = ID_CHARACTERS.replace("/", r"\/")
    return (
        f"($type({value}) = 'string' ? $length({value}) > 0 and $length({value}) <= {ID_LENGTH} "
        f"and $not($contains({value}, /[^{characters}]/)) : false)"
    )


def is_number(value: str, most: int) -> str:
    """The condition that a value is a whole number from 1 on."""
    return f"($type({value}) = 'number' ? {value} = $floor({value}) and {value} >= 1 and {value} <= {most} : false)"


def is_text(value: str, pattern: str) -> str:
    """The condition that a value is a text which a pattern covers from its beginning to its end.

    What is replaced is the whole text, or something is left. An anchor at the end would be a `$`, which moto refuses.
    """
    expression = pattern.replace("/", r"\/")
    covered = f"$length({value}) > 0 and $replace({value}, /{expression}/, '', 1) = ''"
    return f"($type({value}) = 'string' ? {covered} : false)"


def no_other_key(value: str, keys: Collection[str]) -> str:
    """The condition that an object has no key but these. A filter would need the variable $, which moto refuses."""
    every_key = ", ".join(f"'{key}': null" for key in keys)
    return f"$count($keys($merge([{{{every_key}}}, {value}]))) = {len(keys)}"


def catch(leads_to: str) -> State:
    """A catcher of every error, which keeps it as the failure."""
    return {"ErrorEquals": ["States.ALL"], "Assign": _FAILED, "Next": leads_to}


def jsonata(expression: str) -> str:
    """A value that Step Functions evaluates."""
    return f"{{% {expression} %}}"


def number(expression: str) -> State:
    """The number of a JSONata expression as DynamoDB takes it: as text."""
    return {"N": jsonata(f"$string({expression})")}


def seconds(duration: timedelta) -> int:
    """The whole seconds of a duration."""
    return round(duration.total_seconds())


def formatted(node: object, indent: str = "") -> str:
    """JSON in which a list or an object is on one line where it fits, and a list of names is filled up."""
    flat = json.dumps(node, ensure_ascii=False)
    if len(indent) + len(flat) <= _WIDTH or not isinstance(node, dict | list):
        return flat
    deeper = f"{indent}  "
    if isinstance(node, dict):
        items = [f"{json.dumps(key)}: {formatted(value, deeper)}" for key, value in node.items()]
        return f"{{\n{deeper}" + f",\n{deeper}".join(items) + f"\n{indent}}}"
    if all(isinstance(value, str) for value in node):
        lines = textwrap.wrap(
            flat[1:-1], _WIDTH - len(deeper), break_long_words=False, break_on_hyphens=False
        )
        return f"[\n{deeper}" + f"\n{deeper}".join(lines) + f"\n{indent}]"
    return f"[\n{deeper}" + f",\n{deeper}".join(formatted(v, deeper) for v in node) + f"\n{indent}]"
