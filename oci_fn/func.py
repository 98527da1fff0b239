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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import TYPE_CHECKING

from lockstep.plan.published import Index
from lockstep.protocol.deadlines import BATCH, LOCK_POLICY, STEP
from lockstep.protocol.errors import InvalidRequestError
from lockstep.protocol.lock_rule import select_due
from lockstep.protocol.messages import Id, RunInput
from lockstep.protocol.strict_json import Message, MessageError, read
from lockstep.protocol.workers import at_the_same_time
from lockstep.runtime.identity import OCI_RUNNER
from lockstep.runtime.wiring import DIGEST_VARIABLE, DOCTOR_VARIABLE, Runner, hosted_runner
from oci_fn.dispatching import LATE, MOST_IDS, delegate, overdue, recheck, shares
from oci_fn.face import MARGIN_SECONDS, Body, Call, Face
from oci_fn.sequence import rotate

if TYPE_CHECKING:
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

    def __post_init__(self) -> None:
        """What is raised here makes the input invalid."""
        if not 0 < len(self.credential_ids) == len(set(self.credential_ids)) <= MOST_IDS:
            raise ValueError("credential_ids")


Given = RunInput | EveryInput | ManyInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a call has to do.

    Attributes:
        runs: Its own runs, one after the other.
        told: What the caller is told of what was handed on; with `error` where some of it was not taken.
        left: How many credentials are left to the next call.
    """

    runs: Sequence[RunInput]
    told: Body = field(default_factory=dict)
    left: int = 0


@dataclass(eq=False)
class Function(Face):
    """The handler that fdk calls.

    Attributes:
        runner: Returns the runner; by default that of the plan that the environment names.
    """

    runner: Callable[[], Runner] = lambda: hosted_runner(OCI_RUNNER)

    def answer(self, call: Call) -> tuple[Body, bool]:
        """See `Face`."""
        given = _read(call.document)
        with self.scope(call):
            work = self._work(given, call)
        from oci_fn.publish import EventPublisher  # noqa: PLC0415 - only a call that rotates needs it

        scope = partial(self.scope, call)
        # One runner for the events of all runs: after a refused identity the next one reads the index anew.
        publisher = EventPublisher(cache(self.runner), self.clock, call.ends_at - MARGIN_SECONDS, scope)
        results: list[Body] = []
        for number, run in enumerate(work.runs, start=1):
            if number > 1 and self.clock.monotonic() >= call.ends_at - LAST_BEGIN_SECONDS:
                break
            results.append(self._run(run, f"{call.id}.{number}", publisher, call))
        left = work.left + len(work.runs) - len(results)
        is_whole = not left and "error" not in work.told and all(r["outcome"] != "failed" for r in results)
        return {"results": results, **work.told, **({"left": left} if left else {})}, is_whole

    def _run(self, run: RunInput, rotation_id: str, publisher: "EventPublisher", call: Call) -> Body:
        began, retries, promoted = self.clock.monotonic(), self.retries(call), None
        try:
            # A run has a scope of its own, so that nothing of it goes on in the next one (protocol F9).
            with self.scope(call):
                ports = retries.call("ReadPlan", partial(self.runner().ports, run.credential_id))
                promoted = rotate(run, ports, retries, rotation_id=rotation_id)
            result = {
                "outcome": "rotated" if promoted else "skipped",
                "generation": promoted.generation if promoted else None,
                "adopted": promoted is not None and promoted.adopted,
                "audit_seq": promoted.entry.seq if promoted else None,
            }
        except Exception as error:  # noqa: BLE001 - also a bug, or a foreign error that crossed a port
            result = {"outcome": "failed", **self.caught(error)}
        result = {"credential_id": run.credential_id, "rotation_id": rotation_id, **result}
        took_ms = round((self.clock.monotonic() - began) * 1000)
        logger.info(json.dumps({**result, "milliseconds": took_ms, "states_ms": retries.states_ms}))
        # When the lock is free again: no rotation waits for it.
        publisher.publish(run, rotation_id, promoted, error=str(result.get("error", "")))
        return result

    def _work(self, given: Given, call: Call) -> Work:
        if isinstance(given, EveryInput):
            return self._shared(given.trigger, call)
        if isinstance(given, ManyInput):
            waited = self.clock.now().timestamp() - (given.asked_at or float("inf"))
            if waited > LATE.total_seconds():
                logger.warning(json.dumps({"waited_seconds": round(waited)}))
                return Work(runs=_runs(recheck(self._due(call), call.id), given.trigger, call))
            # Each run says whether its credential is in the plan: reading the index for a few would take seconds.
            return Work(runs=_runs(given.credential_ids, given.trigger, call))
        # A person asks: an id that is not known is refused before a run is told of, whatever the index takes to read.
        if given.credential_id not in {c.id for c in self._index(call).credentials}:
            raise InvalidRequestError(credential=given.credential_id)
        return Work(runs=[given])

    def _due(self, call: Call) -> tuple[str, ...]:
        """Look at all credentials."""
        index = self._index(call)
        table = self.retries(call).call("Look", self.runner().lock_table, policy=LOCK_POLICY)
        schedules = {credential.id: credential.schedule for credential in index.credentials}
        return select_due(schedules, table, now=self.clock.now().replace(microsecond=0))

    def _index(self, call: Call) -> Index:
        """All credentials. One answer that does not come must not cost all of them a turn."""
        return self.retries(call).call("ReadPlan", lambda: self.runner().index)

    def _shared(self, trigger: str, call: Call) -> Work:
        """Look at all credentials, hand on what is too much for one call, and keep the rest."""
        due = self._due(call)
        function = self.runner().own_function()
        if function is None or len(due) <= BATCH:
            return Work(runs=_runs(due, trigger, call))
        batches, left = shares(due)
        event = {"trigger": trigger, "asked_at": int(self.clock.now().timestamp())}
        errors = delegate(batches, function.call, event=event, side_by_side=at_the_same_time)
        refused = [c for batch, error in zip(batches, errors, strict=True) if error for c in batch]
        error = next(filter(None, errors), None)
        why = self.caught(error) if error else {}
        handed_on = len(due) - len(left) - len(refused)
        if error or left:
            logger.error(json.dumps({"due": len(due), "handed_on": handed_on, "left": len(left), **why}))
        told = {"handed_on": handed_on, "batches": errors.count(None), **why}
        return Work(runs=_runs(refused, trigger, call), told=told, left=len(left))


def _runs(ids: Sequence[str], trigger: str, call: Call) -> list[RunInput]:
    return [RunInput(credential_id=credential_id, trigger=trigger) for credential_id in overdue(ids, call.id)]


def _read(document: object) -> Given:
    """Which input it is says the key that no other has."""
    kinds: dict[str, type[Given]] = {"credential_ids": ManyInput, "credential_id": RunInput}
    keys = document if isinstance(document, dict) else {}
    try:
        given: Given = read(next((kinds[k] for k in kinds if k in keys), EveryInput), document)
    except MessageError:
        raise InvalidRequestError from None
    return given


class DoctorFunction(Face):
    """Answers `lockstep doctor --in-cloud`, and nothing else."""

    def answer(self, call: Call) -> tuple[Body, bool]:
        """See `Face`."""
        from lockstep.operate.doctor.inside import answer  # noqa: PLC0415 - no rotation needs it

        with self.scope(call):
            return answer(call.document, function="oci/rotate"), True


def _handler() -> Face:
    if DIGEST_VARIABLE in os.environ:
        from oci_fn.digest import DigestFunction  # noqa: PLC0415 - the others load nothing of it

        return DigestFunction()
    return DoctorFunction() if DOCTOR_VARIABLE in os.environ else Function()


handler = _handler()
