"""The Lambda face of a step: JSON in, JSON out, and no foreign error text.

The state machine matches on the class name of what is raised here; its text ends up in the history.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from lockstep.protocol.deadlines import Scope, end_process
from lockstep.protocol.errors import InvalidRequestError, LockstepError, UnexpectedError
from lockstep.protocol.names import DOCTOR
from lockstep.protocol.strict_json import Message, MessageError, read, write
from lockstep.runtime.identity import identity_of
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import hosted_runner
from lockstep.stores.credential import Ports

logger = logging.getLogger("lockstep")
logger.setLevel(logging.INFO)

PortsOf = Callable[[str], Ports]
"""Gives the ports for a credential id."""
RequestT = TypeVar("RequestT")


class LambdaContext(Protocol):
    """What a step needs of Lambda's context object.

    Attributes:
        invoked_function_arn: The function, with the alias or version by which it was called.
    """

    invoked_function_arn: str

    def get_remaining_time_in_millis(self) -> int:
        """The milliseconds until Lambda ends the invocation."""


def is_of_doctor(context: LambdaContext) -> bool:
    """Whether an invocation came by the alias `doctor`: then it is answered as `lockstep doctor --in-cloud` alone."""
    return context.invoked_function_arn.split(":")[7:] == [DOCTOR]


def scope_of(context: LambdaContext, leave: Callable[[], None] = end_process) -> Scope:
    """The scope of an invocation: it ends when Lambda ends the invocation."""
    clock = SystemClock()
    ends_at = clock.monotonic() + context.get_remaining_time_in_millis() / 1000
    return Scope(clock, ends_at=ends_at, leave=leave)


def look(event: object, function: str, scope: Scope) -> dict[str, Any]:
    """Answer `lockstep doctor --in-cloud`: no step is run, and no line is logged that counts as one."""
    from lockstep.operate.doctor.inside import answer  # noqa: PLC0415 - no rotation needs it

    with scope.open():
        return answer(event, function=function)


def hosted_ports(function: str, credential_id: str) -> Ports:
    """The ports of a function, such as `aws/generate`, for the plan that the environment names."""
    return hosted_runner(identity_of(function)).ports(credential_id)


@dataclass(frozen=True)
class LambdaFace(Generic[RequestT]):
    """The Lambda handler of a step.

    Attributes:
        step: `run` of the step.
        request_type: The type of its request, as `lockstep.protocol.strict_json` reads it.
        ports: Gives the ports for a credential id; by default those of the plan that the environment names.
        leave: Called if the step does not end in time (`lockstep.protocol.deadlines.Scope`).
    """

    step: Callable[[RequestT, Ports], Message]
    request_type: Any
    ports: PortsOf | None = None
    leave: Callable[[], None] = end_process

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Answer one invocation, when every call that it has begun has ended (protocol F9)."""
        scope, function = scope_of(context, self.leave), f"aws/{self.step.__module__.split('.')[1]}"
        if is_of_doctor(context):
            return look(event, function, scope)
        ports = self.ports or partial(hosted_ports, function)
        began = time.monotonic()
        outcome, request = "ok", None
        try:
            request = validated(self.request_type, event)
            with scope.open():
                result = self.step(request, ports(request.rotation.credential_id))
            return write(result)
        except LockstepError as e:
            outcome = e.name
            raise
        except Exception as e:  # noqa: BLE001 - the last line of defence before Lambda prints it
            # A bug or a foreign error that crossed a port: its text may hold a secret.
            outcome = type(e).__name__
            raise UnexpectedError(code=outcome) from None
        finally:
            _log(request, self.step.__module__, outcome, time.monotonic() - began)


def validated(request_type: object, event: object) -> Any:  # noqa: ANN401 - of that type
    """The request in an event, or InvalidRequestError, which quotes nothing of it."""
    try:
        return read(request_type, event)
    except MessageError:
        raise InvalidRequestError from None


def _log(request: Any, step: str, outcome: str, seconds: float) -> None:  # noqa: ANN401 - see request_type
    # An input that is not valid is not logged: any part of it may be a secret.
    rotation = request.rotation if request else None
    # Lambda writes these fields as JSON; a metric filter counts rotations by `step` and `outcome`.
    logger.info(
        "step ended",
        extra={
            "step": step,
            "credential": rotation.credential_id if rotation else None,
            "rotation": rotation.rotation_id if rotation else None,
            "outcome": outcome,
            "milliseconds": round(seconds * 1000),
        },
    )
