"""Processes: invocations of the shipped steps, in the order of the shipped sequence.

A process is the list of answers that it has got so far. To see what it does next, its step is run again from the
start, over ports that give the same answers (`tests.proof.model_ports`). `oci_fn.sequence` decides which step that is:
it is run again in the same way, over retries that return what the earlier steps returned. Both results are kept.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from msgspec import structs

from lockstep.protocol.errors import LockstepError, RetryableError
from lockstep.protocol.messages import ApplyResult, RunInput, Staged, UpdateResult
from lockstep.protocol.model import Claim, Lease
from oci_fn import sequence
from tests.proof.model_ports import Invocation, Replay, Suspended
from tests.proof.model_world import Call, Reply, Run

if TYPE_CHECKING:
    from lockstep.protocol.messages import Runner

Outcome: TypeAlias = Any
"""What a step returns, or the class of what it raises."""


class Process(NamedTuple):
    """An invocation of a step: all that it knows is its input and what its calls have answered.

    Attributes:
        run: The rotation.
        place: Where in the sequence; see `Interpreter.place`.
        replies: What the calls of this step have answered.
        twin: How many invocations were left running behind this one.
        attempt: Of Generate, so that two passwords are never taken for one.
        orphaned: Its run no longer waits for it.
    """

    run: Run
    place: int
    replies: tuple[Any, ...] = ()
    twin: int = 0
    attempt: int = 0
    orphaned: bool = False

    @property
    def session(self) -> tuple[int, int]:
        """Its connections."""
        return self.run.number, self.twin


class Place(NamedTuple):
    """A place in the sequence.

    Attributes:
        results: What the finished steps have returned, or raised.
        claim: What the run has claimed or adopted.
        step: The state of the state machine; empty where the run is over.
        work: The step, as the sequence calls it.
    """

    results: tuple[Outcome, ...]
    claim: Claim | None
    step: str
    work: Callable[[], Any]


class Ended(NamedTuple):
    """A step has come to its end."""

    outcome: Outcome


class Interpreter:
    """Runs the shipped code on some engines."""

    def __init__(self, engines: tuple[str, ...], *, has_host: bool = False) -> None:
        self._replays = (Replay(engines, "oci", has_host=has_host), Replay(engines, "aws", has_host=has_host))
        self._places: list[Place] = []
        self._place_ids: dict[tuple[Run, tuple[Outcome, ...]], int] = {}
        self._calls: dict[Process, Call | Ended] = {}

    def start(self, run: Run) -> Process:
        """A run that has just got the lock."""
        return Process(run, self._place_id(run, ()))

    def place(self, process: Process) -> Place:
        """Where in the sequence a process is."""
        return self._places[process.place]

    def call(self, process: Process) -> Call | Ended:
        """What a process does next."""
        if process.orphaned:
            process = process._replace(orphaned=False)
        found = self._calls.get(process)
        if found is None:
            found = self._calls[process] = self._replayed(process)
        return found

    def pending(self, process: Process) -> Call:
        """The call that a process waits for."""
        call = self.call(process)
        assert isinstance(call, Call)
        return call

    def advanced(self, process: Process, reply: Reply) -> list[Process | None]:
        """Where a process can be once its call is answered; None where that was its last.

        A step that has failed may be tried again, or the run ends.
        """
        return self._waiting(process._replace(replies=(*process.replies, reply)))

    def again(self, process: Process) -> Process:
        """The step from its start."""
        is_generate = self.place(process).step == "Generate"
        return process._replace(replies=(), attempt=(process.attempt + 1) % 3 if is_generate else 0)

    def _waiting(self, process: Process) -> list[Process | None]:
        """Where a process waits for an answer, or has come to its end."""
        end = self.call(process)
        if isinstance(end, Call):
            return [process]
        if process.orphaned:
            return [None]
        following = self._following(process, end.outcome)
        is_tried_again = isinstance(end.outcome, type) and issubclass(end.outcome, RetryableError)
        return [*following, self.again(process)] if is_tried_again else following

    def _following(self, process: Process, outcome: Outcome) -> list[Process | None]:
        results = self.place(process).results
        place = self._place_id(process.run, (*results, outcome))
        if self._places[place].step == "AuditFailure":
            # Only the audit log gets the reason why a run ends.
            place = self._place_id(process.run, (*results, LockstepError))
        if not self._places[place].step:
            return [None]
        return self._waiting(process._replace(place=place, replies=(), attempt=0))

    def _place_id(self, run: Run, results: tuple[Outcome, ...]) -> int:
        found = self._place_ids.get((run, results))
        if found is None:
            found = self._place_ids[run, results] = len(self._places)
            self._places.append(self._reached(run, results))
        return found

    def _reached(self, run: Run, results: tuple[Outcome, ...]) -> Place:
        replay = self._replays[run.number % 2]
        given, of = RunInput(credential_id="", trigger="model"), cast("Runner", replay.runner)
        lease = Lease(credential_id="", holder=str(run.number), fence=run.fence)
        told = cast("Any", _Told([lease, *results]))
        claims = [r.claim for r in results if isinstance(r, Staged)]
        over = Place(results, claims[-1] if claims else None, "", lambda: None)
        try:
            sequence.rotate(given, replay.ports, told, rotation_id=str(run.number), runner=of)
        except _ReachedError as reached:
            return over._replace(step=reached.step, work=reached.work)
        except LockstepError:
            pass
        return over

    def _replayed(self, process: Process) -> Call | Ended:
        place, replay = self.place(process), self._replays[process.run.number % 2]
        maker = (process.run.number, process.twin, process.attempt)
        replay.begin(Invocation(place.step, place.claim, maker, process.replies))
        try:
            return Ended(_abstract(place.work()))
        except Suspended as suspended:
            return suspended.call
        except LockstepError as error:
            return Ended(type(error))


class _ReachedError(BaseException):
    """The sequence has come to a step that has not returned yet."""

    def __init__(self, step: str, work: Callable[[], Any]) -> None:
        super().__init__()
        self.step, self.work = step, work


class _Told:
    """Retries that know what the first steps have returned. Whether a step is tried again, the checker decides."""

    def __init__(self, results: list[Outcome]) -> None:
        self._left = results

    def call(self, state: str, work: Callable[[], Any], **_how: object) -> Outcome:
        if not self._left:
            raise _ReachedError(state, work)
        result = self._left.pop(0)
        if isinstance(result, type):
            raise result
        return result


def _abstract(result: Outcome) -> Outcome:
    """A result without what only the audit entry says of it."""
    match result:
        case ApplyResult():
            databases = (structs.replace(database, taken_over=False) for database in result.databases)
            return structs.replace(result, databases=tuple(databases))
        case UpdateResult():
            return structs.replace(result, stores=())
    return result
