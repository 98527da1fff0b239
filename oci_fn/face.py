"""What every face of fdk needs: the call with the time that is left, and answers.

fdk sends the text of an uncaught exception to the caller and to the log, and turns every status but 200, 502 and 504
into 200. So every exception is caught here, and a call that did not succeed is answered with 502. Its body names the
error: `{"error": "InvalidRequestError", …}`.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

from fdk import context, response  # type: ignore[import-untyped]  # fdk ships no types

from lockstep.protocol.deadlines import Scope, end_process
from lockstep.protocol.errors import InvalidRequestError, LockstepError, UnexpectedError
from lockstep.protocol.ports import Clock
from lockstep.protocol.strict_json import MessageError, parse
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import forget
from oci_fn.retries import Retries

MARGIN_SECONDS = 25.0
"""Time before the platform's deadline in which no call begins, so that the longest step can end (protocol F3)."""

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of the function.

    Attributes:
        id: Each has another one.
        document: The JSON that was sent; an empty object where that is nothing.
        ends_at: The platform's deadline, in the clock's monotonic seconds.
    """

    id: str
    document: Any
    ends_at: float


@dataclass(eq=False)
class Face(ABC):
    """A handler that fdk calls.

    Attributes:
        forget: Called after an identity was refused: the key of the other cloud may have been replaced, and the next
            call reads it again.
        clock: Measures the time left. It must be that of the ports.
        leave: Called if the work does not end in time (`lockstep.protocol.deadlines.Scope`).
    """

    _: KW_ONLY
    forget: Callable[[], None] = forget
    clock: Clock = SystemClock()  # noqa: RUF009 - it has no state
    leave: Callable[[], None] = end_process

    @abstractmethod
    def answer(self, call: Call) -> tuple[Body, bool]:
        """The body of the answer, and whether the call has succeeded; or raises."""

    def __call__(self, ctx: context.InvokeContext, data: BytesIO | None = None) -> response.Response:
        """Answer one call of the function."""
        try:
            body, succeeded = self.answer(self._call(ctx, data.getvalue() if data else b""))
        except Exception as error:  # noqa: BLE001 - the last line of defence before fdk prints it
            body, succeeded = self.caught(error), False
        return response.Response(
            ctx,
            response_data=json.dumps(body),
            headers={"content-type": "application/json"},
            status_code=200 if succeeded else 502,
        )

    def _call(self, ctx: context.InvokeContext, body: bytes) -> Call:
        call_id = ctx.CallID()
        if not (isinstance(call_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,100}", call_id)):
            raise InvalidRequestError(code="no-call-id")
        try:
            deadline = datetime.fromisoformat(ctx.Deadline())
        except (TypeError, ValueError):
            raise InvalidRequestError(code="no-deadline") from None
        if deadline.tzinfo is None:
            deadline = deadline.replace(tzinfo=UTC)
        seconds_left = (deadline - self.clock.now()).total_seconds()
        try:
            document = parse(body.strip() or b"{}")
        except MessageError:
            raise InvalidRequestError from None
        return Call(id=call_id, document=document, ends_at=self.clock.monotonic() + seconds_left)

    def scope(self, call: Call) -> AbstractContextManager[None]:
        """Calls that begin inside belong to this call of the function (protocol F9)."""
        return Scope(self.clock, ends_at=call.ends_at, leave=self.leave).open()

    def retries(self, call: Call) -> Retries:
        """Retries until the margin."""
        return Retries(self.clock, deadline=call.ends_at - MARGIN_SECONDS)

    def caught(self, error: Exception) -> dict[str, str]:
        """An error, as the caller is told: of a foreign one only its class (protocol F1)."""
        told = error if isinstance(error, LockstepError) else UnexpectedError(code=type(error).__name__)
        if told.name.endswith("AccessDeniedError"):
            self.forget()
        return {"error": told.name, "message": str(told)}
