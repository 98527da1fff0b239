"""The Lambda face of a step: JSON in, JSON out, and no foreign error text.

The state machine matches on the class name of what is raised here; its text ends up in the history.
"""

import json
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
        outcome = "ok"
        try:
            request = requests.validate_python(event)
            return step(request, ports(event["rotation"]["credential_id"])).model_dump(mode="json")
        except LockstepError as e:
            outcome = type(e).__name__
            raise
        except ValidationError:
            outcome = InvalidRequestError.__name__
            raise InvalidRequestError from None
        except Exception as e:  # noqa: BLE001 - the last line of defence before Lambda prints it
            # A bug or a foreign error that slipped through a port: its text may hold a secret.
            outcome = type(e).__name__
            raise UnexpectedError(code=outcome) from None
        finally:
            _log(event, step.__module__, outcome, time.monotonic() - began)

    return handler


def _log(event: dict[str, Any], step: str, outcome: str, seconds: float) -> None:
    rotation = event.get("rotation") if isinstance(event, dict) else None
    known = rotation if isinstance(rotation, dict) else {}
    logger.info(
        json.dumps(
            {
                "step": step,
                "credential": known.get("credential_id"),
                "rotation": known.get("rotation_id"),
                "database": event.get("database"),
                "outcome": outcome,
                "milliseconds": round(seconds * 1000),
            }
        )
    )
