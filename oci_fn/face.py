"""What every face of fdk needs: the time that is left, and answers.

fdk sends the text of an uncaught exception to the caller and to the log, and turns every status but 200, 502 and 504
into 200. So every exception is caught here, and a call that did not succeed is answered with 502. Its body names the
error: `{"error": "InvalidRequestError", …}`.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from fdk import context, response  # type: ignore[import-untyped]  # fdk ships no types

from lockstep.protocol.errors import InvalidRequestError, LockstepError, UnexpectedError
from lockstep.protocol.ports import Clock

MARGIN_SECONDS = 25.0
"""Time before the platform's deadline in which no call begins, so that the longest step can end (protocol F3)."""

Body = Mapping[str, Any]


def answered(
    ctx: context.InvokeContext, work: Callable[[], tuple[Body, bool]], *, forget: Callable[[], None]
) -> response.Response:
    """Answer a call.

    Args:
        ctx: The call.
        work: Returns the body, and whether the call has succeeded; or raises.
        forget: Called after an identity was refused.
    """
    try:
        body, succeeded = work()
    except LockstepError as error:
        forget_after(type(error).__name__, forget)
        body, succeeded = shown(error), False
    except Exception as error:  # noqa: BLE001 - the last line of defence before fdk prints it
        body, succeeded = shown(UnexpectedError(code=type(error).__name__)), False
    return response.Response(
        ctx,
        response_data=json.dumps(body),
        headers={"content-type": "application/json"},
        status_code=200 if succeeded else 502,
    )


def forget_after(error: str, forget: Callable[[], None]) -> None:
    """The key of the other cloud may have been replaced: the next call reads it again."""
    if error.endswith("AccessDeniedError"):
        forget()


def shown(error: LockstepError) -> dict[str, str]:
    """An error, as the caller is told."""
    return {"error": error.name, "message": str(error)}


def seconds_left(ctx: context.InvokeContext, clock: Clock) -> float:
    """Until the platform's deadline.

    Raises:
        InvalidRequestError: The platform has named none.
    """
    try:
        deadline = datetime.fromisoformat(ctx.Deadline())
    except (TypeError, ValueError):
        raise InvalidRequestError(code="no-deadline") from None
    if deadline.tzinfo is None:
        deadline = deadline.replace(tzinfo=UTC)
    return (deadline - clock.now()).total_seconds()
