"""The Lambda face of a step: JSON in, JSON out, and no foreign error text.

The state machine matches on the class name of what is raised here; its text ends up in the history.
"""

import logging
import time
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from lockstep.protocol.deadlines import Scope, end_process
from lockstep.protocol.errors import InvalidRequestError, LockstepError, UnexpectedError
from lockstep.protocol.names import DOCTOR
from lockstep.protocol.ports import Clock
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


def look(event: object, function: str, scope: Scope) -> dict[str, Any]:
    """Answer `lockstep doctor --in-cloud`: no step is run, and no line is logged that counts as one."""
    from lockstep.operate.doctor.inside import answer  # noqa: PLC0415 - no rotation needs it

    with scope.open():
        return answer(event, function=function)


def hosted_ports(function: str, credential_id: str) -> Ports:
    """The ports of a function, such as `aws/generate`, for the plan that the environment names."""
    return hosted_runner(identity_of(function)).ports(credential_id)


class LambdaFace(Generic[RequestT]):
    """The Lambda handler of a step.

    Args:
        step: `run` of the step.
        request_type: The type of its request, as `lockstep.protocol.strict_json` reads it.
        ports: Gives the ports for a credential id; by default those of the plan that the environment names.
        clock: Measures the time left.
        leave: Called if the step does not end in time (`lockstep.protocol.deadlines.Scope`).
    """

    def __init__(
        self,
        step: Callable[[RequestT, Ports], Message],
        request_type: Any,  # noqa: ANN401 - a class or a union of classes
        *,
        ports: PortsOf | None = None,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        leave: Callable[[], None] = end_process,
    ) -> None:
        self._step = step
        self._request_type = request_type
        self._function = f"aws/{step.__module__.split('.')[1]}"
        self._ports = ports or partial(hosted_ports, self._function)
        self._clock = clock
        self._leave = leave

    def over(self, ports: PortsOf, *, leave: Callable[[], None] = end_process) -> "LambdaFace[RequestT]":
        """The same step over other ports, for a host that may replace `leave`."""
        changed = copy(self)
        changed._ports = ports  # noqa: SLF001 - of the same class
        changed._leave = leave  # noqa: SLF001 - likewise
        return changed

    def __call__(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        """Answer one invocation, when every call that it has begun has ended (protocol F9)."""
        if is_of_doctor(context):
            return look(event, self._function, self._scope(context))
        began = time.monotonic()
        outcome, request = "ok", None
        try:
            request = _validated(self._request_type, event)
            with self._scope(context).open():
                result = self._step(request, self._ports(request.rotation.credential_id))
            return write(result)
        except LockstepError as e:
            outcome = e.name
            raise
        except Exception as e:  # noqa: BLE001 - the last line of defence before Lambda prints it
            # A bug or a foreign error that crossed a port: its text may hold a secret.
            outcome = type(e).__name__
            raise UnexpectedError(code=outcome) from None
        finally:
            _log(request, self._step.__module__, outcome, time.monotonic() - began)

    def _scope(self, context: LambdaContext) -> Scope:
        seconds_left = context.get_remaining_time_in_millis() / 1000
        return Scope(self._clock, ends_at=self._clock.monotonic() + seconds_left, leave=self._leave)


def _validated(request_type: Any, event: object) -> Any:  # noqa: ANN401 - see request_type
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
            "database": getattr(request, "database", None),
            "outcome": outcome,
            "milliseconds": round(seconds * 1000),
        },
    )
