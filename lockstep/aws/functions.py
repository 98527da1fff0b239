"""Deployed functions, to be asked by `lockstep doctor --in-cloud`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lockstep.aws.clients import aws_client
from lockstep.aws.reads import explained
from lockstep.environment import AwsResourceMissingError
from lockstep.timeouts import CloudTimeouts
from lockstep.timing import STEP

ANSWER_SECONDS = STEP.total_seconds() + 10
"""The longest time that a function may run, and some more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """What a function has answered.

    Attributes:
        name: The function.
        payload: JSON: what it returned, or its error.
        has_failed: Whether it raised an error, or ran out of time.
    """

    name: str
    payload: bytes
    has_failed: bool

    @property
    def error(self) -> str:
        """The name of its error; empty where it is not told."""
        try:
            document = json.loads(self.payload)
        except ValueError:
            return ""
        return str(document.get("errorType", "")) if isinstance(document, dict) else ""


def call(region: str, names: Sequence[str], event: Mapping[str, Any]) -> Called | None:
    """Invoke the first of these functions that there is, what was deployed of it last; None where there is none.

    Args:
        region: The functions' region.
        names: In the order in which they are looked for.
        event: Their input.

    Raises:
        EnvironmentalError: AWS did not answer, or refused the call.
    """
    timeouts = CloudTimeouts(connect_seconds=3, read_seconds=ANSWER_SECONDS)
    client = aws_client("lambda", region, timeouts=timeouts)
    for name in names:
        try:
            with explained():
                reply = client.invoke(FunctionName=name, Payload=json.dumps(event).encode())
                payload = reply["Payload"].read()
        except AwsResourceMissingError:
            continue
        return Called(name=name, payload=payload, has_failed="FunctionError" in reply)
    return None
