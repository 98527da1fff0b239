"""The fdk face of the standby: the same four steps as the state machine, in sequence.

    input    {}  or nothing       every credential of the plan, each if it is due or half-done; what a schedule sends
             {"credential_id": …, "trigger": …, "force": …}      one credential: the input of the
                                  state machine (`lockstep.messages.RunInput`)
             {"doctor": "look", …}    nothing is rotated: what `lockstep doctor --in-cloud` asks, answered as
                                  `lockstep.doctor.probes.reply.Reply`
    output   {"results": [{"credential_id": …, "outcome": "rotated" | "skipped" | "failed", …}, …]}

One credential that fails does not stop the others (protocol R5). fdk sends the text of an uncaught exception to the
caller and to the log, and turns every status but 200, 502 and 504 into 200. So every exception is caught here, and a
call that did not succeed is answered with 502. Its body names the error: `{"error": "InvalidRequestError", …}` for a
bad input, which changes nothing, or `failed` among the results for a rotation.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from fdk import context, response  # type: ignore[import-untyped]  # fdk ships no types

from lockstep.compiled import CompiledPlan
from lockstep.errors import InvalidRequestError, LockstepError, UnexpectedError
from lockstep.identity import OCI_RUNNER
from lockstep.messages import DoctorRequest, Id, RunInput
from lockstep.ports import Clock, Ports
from lockstep.published.documents import Index
from lockstep.scope import Scope, end_process
from lockstep.shapes import Message, ShapeError, parse, read
from lockstep.system import SystemClock
from lockstep.wiring import forget, hosted_runner, hosted_traces
from oci_fn.retries import Retries
from oci_fn.sequence import RunRequest, rotate

if TYPE_CHECKING:
    from oci_fn.telling import Teller

MARGIN_SECONDS = 25.0
"""Time before the platform's deadline in which no call begins, so that the longest step can end (protocol F8)."""

# fdk sets the root logger to DEBUG. At that level libraries log the contents of requests and replies.
logging.getLogger().setLevel(logging.WARNING)
logger = logging.getLogger("lockstep")
logger.setLevel(logging.INFO)


class EveryInput(Message):
    """The input for every credential of the plan."""

    trigger: Id = "schedule"


class RunnerLike(Protocol):
    """The part of `lockstep.wiring.Runner` that the function uses."""

    @property
    def plan(self) -> CompiledPlan:
        """What does not belong to a credential."""

    @property
    def index(self) -> Index:
        """What is known of all credentials."""

    def ports(self, credential_id: str) -> Ports:
        """The ports of a credential."""


class Function:
    """The handler that fdk calls.

    Args:
        runner: Returns the runner; by default that of the plan that the environment names.
        forget: Called after an identity was refused, so that `runner` reads it again.
        clock: Measures the time left. It must be the clock of the runner's ports.
        leave: Called if a run does not end in time (`lockstep.scope.Scope`).
    """

    def __init__(
        self,
        runner: Callable[[], RunnerLike] = lambda: hosted_runner(OCI_RUNNER),
        *,
        forget: Callable[[], None] = forget,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        leave: Callable[[], None] = end_process,
    ) -> None:
        self._runner = runner
        self._forget = forget
        self._clock = clock
        self._leave = leave

    def __call__(self, ctx: context.InvokeContext, data: BytesIO | None = None) -> response.Response:
        """Answer one call of the function."""
        try:
            given = _parse(data.getvalue() if data else b"")
            if isinstance(given, DoctorRequest):
                return _answer(ctx, self._look(given, ctx), succeeded=True)
            call_id = _call_id(ctx)
            ends_at = self._clock.monotonic() + _seconds_left(ctx, self._clock)
            with Scope(self._clock, ends_at=ends_at, leave=self._leave).open():
                runs = self._runs(given)
                teller = self._teller(ends_at)
            results = [
                self._run(run, f"{call_id}.{number}", teller, ends_at=ends_at)
                for number, run in enumerate(runs, start=1)
            ]
            hosted_traces().flush(seconds_left=ends_at - self._clock.monotonic())
        except LockstepError as error:
            return _answer(ctx, _shown(error), succeeded=False)
        except Exception as error:  # noqa: BLE001 - the last line of defence before fdk prints it
            return _answer(ctx, _shown(UnexpectedError(code=type(error).__name__)), succeeded=False)
        return _answer(ctx, {"results": results}, succeeded=all(r["outcome"] != "failed" for r in results))

    def _teller(self, ends_at: float) -> "Teller | None":
        """Who tells other programs what has happened; None where the plan names no topic. Then nothing is loaded."""
        if self._runner().plan.event_topic is None:
            return None
        from oci_fn.telling import Teller  # noqa: PLC0415 - only who sends events loads it

        return Teller(
            self._runner().plan,
            clock=self._clock,
            last_call_at=ends_at - MARGIN_SECONDS,
            scope=lambda: Scope(self._clock, ends_at=ends_at, leave=self._leave),
        )

    def _run(
        self, run: RunInput, rotation_id: str, teller: "Teller | None", *, ends_at: float
    ) -> dict[str, Any]:
        began = self._clock.monotonic()
        retries = Retries(self._clock, deadline=ends_at - MARGIN_SECONDS)
        request = RunRequest(
            rotation_id=rotation_id,
            runner="oci",
            trigger=run.trigger,
            force=run.force,
        )
        done = None
        try:
            # A run has a scope of its own, so that nothing of it goes on in the next one (protocol F10).
            with Scope(self._clock, ends_at=ends_at, leave=self._leave).open():
                ports = self._runner().ports(run.credential_id)
                done = hosted_traces().rotation(rotate)(request, ports, retries)
            result = {
                "outcome": done.outcome,
                "generation": done.generation,
                "adopted": done.adopted,
                "audit_seq": done.audit_seq,
            }
        except LockstepError as error:
            result = {"outcome": "failed", **_shown(error)}
        except Exception as error:  # noqa: BLE001 - a bug, or a foreign error that crossed a port
            result = {"outcome": "failed", **_shown(UnexpectedError(code=type(error).__name__))}
        if str(result.get("error", "")).endswith("AccessDeniedError"):
            # The key of the other cloud may have been replaced: the next call reads it again.
            self._forget()
        result = {"credential_id": run.credential_id, "rotation_id": rotation_id, **result}
        took_ms = round((self._clock.monotonic() - began) * 1000)
        logger.info(json.dumps({**result, "milliseconds": took_ms, "states_ms": retries.states_ms}))
        if teller:  # When the lock is free again: no rotation waits for it.
            teller.tell(request, run.credential_id, done, error=str(result.get("error", "")))
        return result

    def _look(self, request: DoctorRequest, ctx: context.InvokeContext) -> Mapping[str, Any]:
        from lockstep.doctor.probes.inside import answer  # noqa: PLC0415 - no rotation needs it

        ends_at = self._clock.monotonic() + _seconds_left(ctx, self._clock)
        with Scope(self._clock, ends_at=ends_at, leave=self._leave).open():
            return answer(request, function="oci/rotate")

    def _runs(self, given: RunInput | EveryInput) -> list[RunInput]:
        ids = [c.id for c in self._runner().index.credentials]
        if isinstance(given, EveryInput):
            return [RunInput(credential_id=key, trigger=given.trigger) for key in ids]
        if given.credential_id not in ids:
            raise InvalidRequestError(credential=given.credential_id)
        return [given]


def _parse(body: bytes) -> RunInput | EveryInput | DoctorRequest:
    try:
        given: RunInput | EveryInput | DoctorRequest = read(
            RunInput | EveryInput | DoctorRequest, parse(body.strip() or b"{}")
        )
    except ShapeError:
        raise InvalidRequestError from None
    return given


def _call_id(ctx: context.InvokeContext) -> str:
    call_id = ctx.CallID()
    if not (isinstance(call_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,100}", call_id)):
        raise InvalidRequestError(code="no-call-id")
    return call_id


def _seconds_left(ctx: context.InvokeContext, clock: Clock) -> float:
    try:
        deadline = datetime.fromisoformat(ctx.Deadline())
    except (TypeError, ValueError):
        raise InvalidRequestError(code="no-deadline") from None
    if deadline.tzinfo is None:
        deadline = deadline.replace(tzinfo=UTC)
    return (deadline - clock.now()).total_seconds()


def _shown(error: LockstepError) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


def _answer(ctx: context.InvokeContext, body: Mapping[str, Any], *, succeeded: bool) -> response.Response:
    return response.Response(
        ctx,
        response_data=json.dumps(body),
        headers={"content-type": "application/json"},
        status_code=200 if succeeded else 502,
    )


handler = Function()
