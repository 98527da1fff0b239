"""The fdk face of the standby: the same four steps as the state machine, in sequence.

    input    {}  or nothing       every credential of the plan that is due or half-done
    (`lockstep.protocol.lock_rule`); what a
                                  schedule sends. Many are handed on to calls of the function itself
                                  (`oci_fn.dispatching`)
             {"credential_ids": [ … ], "trigger": …}             these, 100 at most: what is handed on
             {"credential_id": …, "trigger": …, "force": …}      one credential: the input of the
                                  state machine (`lockstep.protocol.messages.RunInput`)
    output   {"results": [{"credential_id": …, "outcome": "rotated" | "skipped" | "failed", …}, …],
              "handed_on": credentials, "batches": calls, "left": credentials for the next call}

Where its configuration has LOCKSTEP_DOCTOR the same image rotates nothing (ADR 82): it takes only
`{"doctor": "look", …}` of `lockstep doctor --in-cloud`, and answers as `lockstep.operate.doctor.inside.Reply`. Where it
has LOCKSTEP_DIGEST_KEY it makes digests (`oci_fn.digest`).

One credential that fails does not stop the others (protocol R5). A call that did not succeed is answered with 502
(`oci_fn.face`). Its body names the error of a bad input, which changes nothing, or has `failed` among the results.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Protocol

from fdk import context, response  # type: ignore[import-untyped]  # fdk ships no types

from lockstep.plan.compiled import CompiledPlan
from lockstep.plan.published import Index
from lockstep.protocol.deadlines import LOCK_POLICY, STEP, Scope, end_process
from lockstep.protocol.errors import InvalidRequestError, LockstepError, UnexpectedError
from lockstep.protocol.lock_rule import select_due
from lockstep.protocol.messages import DoctorRequest, Id, RunInput
from lockstep.protocol.ports import Clock
from lockstep.protocol.strict_json import Message, MessageError, parse, read
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.system import SystemClock
from lockstep.runtime.wiring import DIGEST_VARIABLE, DOCTOR_VARIABLE, forget, hosted_runner
from lockstep.stores.credential import Ports
from oci_fn.dispatching import LATE, MOST_IDS, HandedOn, delegate, overdue, recheck, shares
from oci_fn.face import MARGIN_SECONDS, Body, answered, forget_after, seconds_left, shown
from oci_fn.retries import Retries
from oci_fn.sequence import rotate

if TYPE_CHECKING:
    from lockstep.oci.functions import OwnFunction
    from lockstep.protocol.ports import Table
    from oci_fn.publish import EventPublisher

LAST_BEGIN_SECONDS = MARGIN_SECONDS + STEP.total_seconds()
"""Time before that deadline in which a call that has many credentials to do begins no further one."""

# fdk sets the root logger to DEBUG. At that level libraries log the contents of requests and replies.
logging.getLogger().setLevel(logging.WARNING)
logger = logging.getLogger("lockstep")
logger.setLevel(logging.INFO)


class EveryInput(Message):
    """The input for every credential of the plan."""

    trigger: Id = "schedule"


class ManyInput(Message):
    """The input for some credentials of the plan: what a call has handed on.

    Attributes:
        asked_at: When it did, in seconds since 1970. If that is `LATE` ago, what is due longest by now is done instead.
    """

    credential_ids: tuple[Id, ...]
    trigger: Id = "schedule"
    asked_at: int | None = None


Given = RunInput | EveryInput | ManyInput | DoctorRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a call has to do.

    Attributes:
        runs: Its own runs, one after the other.
        handed_on: What has become of what it has handed on.
        left: How many credentials are left to the next call.
    """

    runs: Sequence[RunInput]
    handed_on: HandedOn = HandedOn()  # noqa: RUF009 - it cannot change
    left: int = 0


class RunnerLike(Protocol):
    """The part of `lockstep.runtime.wiring.Runner` that the function uses."""

    @property
    def plan(self) -> CompiledPlan:
        """What does not belong to a credential."""

    @property
    def index(self) -> Index:
        """What is known of all credentials."""

    def ports(self, credential_id: str) -> Ports:
        """The ports of a credential."""

    def lock_table(self) -> "Table":
        """Every lock record."""

    def own_function(self) -> "OwnFunction | None":
        """What can be called for other credentials."""


class Function:
    """The handler that fdk calls.

    Args:
        runner: Returns the runner; by default that of the plan that the environment names.
        forget: Called after an identity was refused, so that `runner` reads it again.
        clock: Measures the time left. It must be the clock of the runner's ports.
        leave: Called if a run does not end in time (`lockstep.protocol.deadlines.Scope`).
        is_doctor: Whether it answers the doctor and nothing else; else it refuses the doctor's input.
    """

    def __init__(
        self,
        runner: Callable[[], RunnerLike] = lambda: hosted_runner(OCI_RUNNER),
        *,
        forget: Callable[[], None] = forget,
        clock: Clock = SystemClock(),  # noqa: B008 - it has no state
        leave: Callable[[], None] = end_process,
        is_doctor: bool = False,
    ) -> None:
        self._is_doctor = is_doctor
        self._runner = runner
        self._forget = forget
        self._clock = clock
        self._leave = leave

    def __call__(self, ctx: context.InvokeContext, data: BytesIO | None = None) -> response.Response:
        """Answer one call of the function."""
        return answered(ctx, partial(self._called, ctx, data), forget=self._forget)

    def _called(self, ctx: context.InvokeContext, data: BytesIO | None) -> tuple[Body, bool]:
        given = _parse(data.getvalue() if data else b"", is_doctor=self._is_doctor)
        ends_at = self._clock.monotonic() + seconds_left(ctx, self._clock)
        if isinstance(given, DoctorRequest):
            return self._look(given, ends_at), True
        call_id = _call_id(ctx)
        with Scope(self._clock, ends_at=ends_at, leave=self._leave).open():
            work = self._work(given, call_id, ends_at)
        publisher = cache(partial(self._publisher, ends_at))
        results: list[dict[str, Any]] = []
        for number, run in enumerate(work.runs, start=1):
            if number > 1 and self._clock.monotonic() >= ends_at - LAST_BEGIN_SECONDS:
                break
            results.append(self._run(run, f"{call_id}.{number}", publisher, ends_at=ends_at))
        return _describe(work, results)

    def _publisher(self, ends_at: float) -> "EventPublisher | None":
        """Who tells other programs what has happened; None where the plan names no topic. Then nothing is loaded.

        It is asked for after a run, whose document says the same of that as the index. No run waits for it, and none
        fails where neither can be read (protocol E18).
        """
        try:
            with Scope(self._clock, ends_at=ends_at, leave=self._leave).open():
                plan = self._runner().plan
        except LockstepError as error:
            logger.warning(json.dumps({"events_not_sent": "all of this call", "error": error.name}))
            return None
        if plan.event_topic is None:
            return None
        from oci_fn.publish import EventPublisher  # noqa: PLC0415 - only who sends events loads it

        return EventPublisher(
            plan,
            clock=self._clock,
            last_call_at=ends_at - MARGIN_SECONDS,
            scope=lambda: Scope(self._clock, ends_at=ends_at, leave=self._leave),
        )

    def _run(
        self,
        run: RunInput,
        rotation_id: str,
        publisher: "Callable[[], EventPublisher | None]",
        *,
        ends_at: float,
    ) -> dict[str, Any]:
        began = self._clock.monotonic()
        retries = Retries(self._clock, deadline=ends_at - MARGIN_SECONDS)
        promoted = None
        try:
            # A run has a scope of its own, so that nothing of it goes on in the next one (protocol F9).
            with Scope(self._clock, ends_at=ends_at, leave=self._leave).open():
                ports = retries.call("ReadPlan", partial(self._runner().ports, run.credential_id))
                promoted = rotate(run, ports, retries, rotation_id=rotation_id)
            result = {
                "outcome": "rotated" if promoted else "skipped",
                "generation": promoted.generation if promoted else None,
                "adopted": promoted is not None and promoted.adopted,
                "audit_seq": promoted.entry.seq if promoted else None,
            }
        except LockstepError as error:
            result = {"outcome": "failed", **shown(error)}
        except Exception as error:  # noqa: BLE001 - a bug, or a foreign error that crossed a port
            result = {"outcome": "failed", **shown(UnexpectedError(code=type(error).__name__))}
        forget_after(str(result.get("error", "")), self._forget)
        result = {"credential_id": run.credential_id, "rotation_id": rotation_id, **result}
        took_ms = round((self._clock.monotonic() - began) * 1000)
        logger.info(json.dumps({**result, "milliseconds": took_ms, "states_ms": retries.states_ms}))
        if found := publisher():  # When the lock is free again: no rotation waits for it.
            found.publish(run, rotation_id, promoted, error=str(result.get("error", "")))
        return result

    def _look(self, request: DoctorRequest, ends_at: float) -> Mapping[str, Any]:
        from lockstep.operate.doctor.inside import answer  # noqa: PLC0415 - no rotation needs it

        with Scope(self._clock, ends_at=ends_at, leave=self._leave).open():
            return answer(request, function="oci/rotate")

    def _work(self, given: RunInput | EveryInput | ManyInput, call_id: str, ends_at: float) -> Work:
        if isinstance(given, EveryInput):
            return self._shared(given.trigger, call_id, ends_at)
        if isinstance(given, ManyInput):
            waited = self._clock.now().timestamp() - (given.asked_at or float("inf"))
            if waited > LATE.total_seconds():
                logger.warning(json.dumps({"waited_seconds": round(waited)}))
                again = recheck(self._due(ends_at), call_id)
                return Work(runs=_runs(again, given.trigger, call_id))
            # Each run says whether its credential is in the plan: reading the index for a few would take seconds.
            return Work(runs=_runs(given.credential_ids, given.trigger, call_id))
        # A person asks: an id that is not known is refused before a run is told of, whatever the index takes to read.
        if given.credential_id not in {c.id for c in self._index(ends_at).credentials}:
            raise InvalidRequestError(credential=given.credential_id)
        return Work(runs=[given])

    def _due(self, ends_at: float) -> tuple[str, ...]:
        """Look at all credentials."""
        index, retries = self._index(ends_at), Retries(self._clock, deadline=ends_at - MARGIN_SECONDS)
        table = retries.call("Look", self._runner().lock_table, policy=LOCK_POLICY)
        return select_due(index.credentials, table, now=self._clock.now().replace(microsecond=0))

    def _index(self, ends_at: float) -> Index:
        """All credentials. One answer that does not come must not cost all of them a turn."""
        runner, retries = self._runner(), Retries(self._clock, deadline=ends_at)
        return retries.call("ReadPlan", lambda: runner.index)

    def _shared(self, trigger: str, call_id: str, ends_at: float) -> Work:
        """Look at all credentials, hand on what is too much for one call, and keep the rest."""
        due = self._due(ends_at)
        function = self._runner().own_function()
        share = shares(due, can_hand_on=function is not None)
        if function is None or not share.batches:
            return Work(runs=_runs(share.own, trigger, call_id))
        event = {"trigger": trigger, "asked_at": int(self._clock.now().timestamp())}
        done = delegate(share.batches, function.call, event=event, side_by_side=at_the_same_time)
        left = len(share.left)
        if done.error or left:
            logger.error(json.dumps({"due": len(due), "handed_on": done.number, "left": left, **_why(done)}))
        return Work(runs=_runs(done.refused, trigger, call_id), handed_on=done, left=left)


def _runs(ids: Sequence[str], trigger: str, call_id: str) -> list[RunInput]:
    return [RunInput(credential_id=credential_id, trigger=trigger) for credential_id in overdue(ids, call_id)]


def _describe(work: Work, results: list[dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    """What the caller is told, and whether all is done or handed on."""
    left = work.left + len(work.runs) - len(results)
    counts: dict[str, Any] = {}
    if work.handed_on.batches or work.handed_on.error:
        counts = {
            "handed_on": work.handed_on.number,
            "batches": work.handed_on.batches,
            **_why(work.handed_on),
        }
    if left:
        counts["left"] = left
    failed = any(result["outcome"] == "failed" for result in results)
    return {"results": results, **counts}, not (failed or left or work.handed_on.error)


def _why(done: HandedOn) -> dict[str, str]:
    return shown(done.error) if done.error else {}


def _parse(body: bytes, *, is_doctor: bool) -> Given:
    try:
        document = parse(body.strip() or b"{}")
        kind: type[Given] = DoctorRequest if is_doctor else _kind_of(document)
        given: Given = read(kind, document)
    except MessageError:
        raise InvalidRequestError from None
    if isinstance(given, ManyInput):
        ids = given.credential_ids
        if not (0 < len(ids) <= MOST_IDS and len(set(ids)) == len(ids)):
            raise InvalidRequestError(code="credential_ids")
    return given


def _kind_of(document: object) -> type[Given]:
    """Which input it is to be, by the key that no other has."""
    keys = document if isinstance(document, dict) else {}
    if "credential_ids" in keys:
        return ManyInput
    return RunInput if "credential_id" in keys else EveryInput


def _call_id(ctx: context.InvokeContext) -> str:
    call_id = ctx.CallID()
    if not (isinstance(call_id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,100}", call_id)):
        raise InvalidRequestError(code="no-call-id")
    return call_id


def _handler() -> "Callable[[context.InvokeContext, BytesIO | None], response.Response]":
    if DIGEST_VARIABLE in os.environ:
        from oci_fn.digest import DigestFunction  # noqa: PLC0415 - the others load nothing of it

        return DigestFunction()
    return Function(is_doctor=DOCTOR_VARIABLE in os.environ)


handler = _handler()
