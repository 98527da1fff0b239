"""Reads of AWS, for checks: no other call can be made through this, and each is made once."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from botocore.exceptions import ClientError

from lockstep.aws.clients import RAISED, aws_client, environment_problem, error_code
from lockstep.protocol.deadlines import STEP, CloudTimeouts
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    LockstepError,
)
from lockstep.protocol.names import DOCTOR

READS = ("describe_", "get_", "head_", "list_")
"""How the names of operations begin that change nothing."""
_MISSING = frozenset({"404", "NoSuchBucket", "NotFoundException", "ResourceNotFoundException"})
"""Codes of the services for something that is not there."""
_ABSENT_STACK = "does not exist"

Client = Callable[[str, str], Any]
"""Gives a client of a service in a region."""


class AwsReads:
    """What is in an account.

    Args:
        client: Gives the client of a service in a region.
        region: Where is asked unless a call names another region.
    """

    def __init__(self, client: Client, region: str) -> None:
        self._client, self._region = client, region
        self._lock = Lock()
        self._answers: dict[str, Mapping[str, Any]] = {}

    def __call__(
        self,
        service: str,
        operation: str,
        *,
        region: str | None = None,
        **arguments: Any,  # noqa: ANN401 - of the operation
    ) -> Mapping[str, Any]:
        """The reply to a read.

        Raises:
            EnvironmentalError: There is none.
        """
        if not operation.startswith(READS):
            raise ValueError(f"{operation} is not a read")
        key = repr((service, operation, region, sorted(arguments.items())))
        with self._lock:
            if key in self._answers:
                return self._answers[key]
        with explained():
            answer = dict(getattr(self._client(service, region or self._region), operation)(**arguments))
        with self._lock:
            self._answers[key] = answer
        return answer

    def found(self, *call: str, **arguments: Any) -> Mapping[str, Any] | None:  # noqa: ANN401 - of the operation
        """The same; None where what it names is not there."""
        try:
            return self(*call, **arguments)
        except EnvironmentalError as error:
            if error.problem is not Environment.AWS_RESOURCE_MISSING:
                raise
            return None

    def stack_outputs(self, stack: str) -> Mapping[str, str]:
        """The outputs of a stack of CloudFormation, by name; none where it is not there."""
        found = self.found("cloudformation", "describe_stacks", StackName=stack)
        outputs = found["Stacks"][0].get("Outputs", []) if found else []
        return {output["OutputKey"]: output["OutputValue"] for output in outputs}


@contextmanager
def explained() -> Iterator[None]:
    """Turn what botocore raises into an EnvironmentalError."""
    try:
        yield
    except LockstepError:
        raise
    except RAISED as error:
        code = error_code(error) if isinstance(error, ClientError) else type(error).__name__
        is_missing = code in _MISSING or (code == "ValidationError" and _ABSENT_STACK in str(error))
        if isinstance(error, ClientError) and is_missing:
            raise EnvironmentalError(
                Environment.AWS_RESOURCE_MISSING, action=error.operation_name, code=code
            ) from None
        raise (
            environment_problem(error) or EnvironmentalError(Environment.AWS_CALL_REFUSED, code=code)
        ) from None


# Deployed functions, to be asked by `lockstep doctor --in-cloud`.

ANSWER_SECONDS = STEP.total_seconds() + 10
"""The longest time that a function may run, and some more."""


def call(region: str, names: Sequence[str], event: Mapping[str, Any]) -> tuple[str, bytes] | None:
    """Invoke the first of these functions that there is, by its alias `doctor`.

    Args:
        region: The functions' region.
        names: In the order in which they are looked for.
        event: Their input.

    Returns:
        Its name, and JSON: what it returned, or its error. None where there is none.

    Raises:
        EnvironmentalError: AWS did not answer, or refused the call.
    """
    timeouts = CloudTimeouts(connect_seconds=3, read_seconds=ANSWER_SECONDS)
    client = aws_client("lambda", region, timeouts=timeouts)
    for name in names:
        try:
            with explained():
                reply = client.invoke(FunctionName=name, Qualifier=DOCTOR, Payload=json.dumps(event).encode())
                payload = reply["Payload"].read()
        except EnvironmentalError as error:
            if error.problem is not Environment.AWS_RESOURCE_MISSING:
                raise
            continue
        return name, payload
    return None
