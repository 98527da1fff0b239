"""The Lambda face of a step: JSON in, JSON out, and no foreign error text.

The state machine matches on the class name of what is raised here; its text ends up in the history.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from lockstep import wiring
from lockstep.errors import InvalidRequestError, LockstepError, UnexpectedError
from lockstep.ports import Ports

logger = logging.getLogger("lockstep")
logger.setLevel(logging.INFO)

Handler = Callable[[dict[str, Any], object], dict[str, Any]]
Request = TypeVar("Request")


def lambda_face(
    step: Callable[[Request, Ports], BaseModel],
    request_type: Any,  # noqa: ANN401 - a class or a union of classes; pydantic takes both
    *,
    ports: Callable[[str], Ports] = wiring.aws_ports,
) -> Handler:
    """A Lambda handler for a step.

    Args:
        step: `run` of the step.
        request_type: The type of its request; anything that pydantic validates.
        ports: Builds the ports for a credential id.
    """
    requests: TypeAdapter[Any] = TypeAdapter(request_type)

    def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
        began = time.monotonic()
        outcome, request = "ok", None
        try:
            request = _validated(requests, event)
            return step(request, ports(request.rotation.credential_id)).model_dump(mode="json")
        except LockstepError as e:
            outcome = type(e).__name__
            raise
        except Exception as e:  # noqa: BLE001 - the last line of defence before Lambda prints it
            # A bug or a foreign error that slipped through a port: its text may hold a secret.
            outcome = type(e).__name__
            raise UnexpectedError(code=outcome) from None
        finally:
            _log(request, step.__module__, outcome, time.monotonic() - began)

    return handler


def _validated(requests: TypeAdapter[Any], event: object) -> Any:  # noqa: ANN401 - see request_type
    try:
        return requests.validate_python(event)
    except ValidationError:
        # Its text quotes the input.
        raise InvalidRequestError from None


def _log(request: Any, step: str, outcome: str, seconds: float) -> None:  # noqa: ANN401 - see request_type
    # Of an input that is not valid nothing is known, so nothing of it is logged.
    rotation = request.rotation if request else None
    # Fields of their own, which Lambda writes as JSON: the alarms count rotations by `step`, `outcome`, `credential`.
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
