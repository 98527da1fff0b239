"""Processes: a program, and what it was told so far. A program is run again from its start to see what it does next."""

from typing import Any, NamedTuple

from lockstep.errors import LockstepError, RetryableError
from tests.proof.model_programs import Protocol
from tests.proof.model_world import Call, Reply, Run


class Process(NamedTuple):
    """An invocation of a step: all that it knows is what its run was told before and what its calls have answered.

    Attributes:
        run: The rotation.
        results: What its finished steps have returned.
        replies: What the calls of this step have answered.
        twin: How many invocations were left running behind this one.
        attempt: Of Generate, so that no two passwords are taken for one.
        orphaned: Its run no longer waits for it.
    """

    run: Run
    results: tuple[Any, ...] = ()
    replies: tuple[Any, ...] = ()
    twin: int = 0
    attempt: int = 0
    orphaned: bool = False

    @property
    def session(self) -> tuple[int, int]:
        """Its connections."""
        return self.run.number, self.twin


class Interpreter:
    """Runs the programs of a protocol; what it has worked out once it remembers."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self._calls: dict[tuple[Run, tuple[Any, ...], tuple[Any, ...], int, int], Any] = {}

    def call(self, process: Process) -> Reply:
        """What a process does next: a Call; where its step is over, ("returns", value) or ("raises", class)."""
        key = (process.run, process.results, process.replies, process.twin, process.attempt)
        found = self._calls.get(key)
        if found is None:
            found = self._calls[key] = self._replay(process)
        return found

    def processes(self) -> list[Process]:
        """Every place in a program at which the exploration has been."""
        return [Process(*key) for key in self._calls]

    def step_of(self, process: Process) -> tuple[str, tuple[Any, ...]] | None:
        """The step that a process is in, and its request; None where the run is over."""
        if process.results[-1:] == (("failed",),):
            return "give_up", ()
        rotation = self.protocol.rotation(process.run)
        try:
            step = next(rotation)
            for result in process.results:
                step = rotation.send(result)
        except StopIteration:
            return None
        except LockstepError:
            return "give_up", ()
        return step

    def _replay(self, process: Process) -> Reply:
        step = self.step_of(process)
        if step is None:
            return ("over", None)
        name, request = step
        extra = ((process.twin, process.attempt),) if name == "generate" else ()
        program = getattr(self.protocol, name)(process.run, *request, *extra)
        try:
            call = next(program)
            for reply in process.replies:
                failed = isinstance(reply, type) and issubclass(reply, LockstepError)
                call = program.throw(reply()) if failed else program.send(reply)
        except StopIteration as end:
            return ("returns", end.value)
        except LockstepError as error:
            return ("raises", type(error))
        return call

    def advanced(self, process: Process, reply: Reply) -> list[Process | None]:
        """Where a process stands once its call is answered; a failed step may be tried again or given up."""
        told = process._replace(replies=(*process.replies, reply))
        end = self.call(told)
        if isinstance(end, Call):
            return [told]
        if process.orphaned:
            return [None]
        giving_up = process.results[-1:] == (("failed",),)
        if giving_up:
            return [None]
        failed = process._replace(results=(*process.results, ("failed",)), replies=(), attempt=0)
        if end[0] == "raises":
            is_retryable = issubclass(end[1], RetryableError)
            return [failed, *([self.again(process)] if is_retryable else [])]
        following = process._replace(results=(*process.results, end[1]), replies=(), attempt=0)
        before = self.step_of(process)
        if before and before[0] == "raise_fence":
            following = following._replace(run=process.run._replace(fence=end[1]))
        step = self.step_of(following)
        if step is None:
            return [None]
        return [following if step[0] != "give_up" else failed]

    def again(self, process: Process) -> Process:
        step = self.step_of(process)
        is_generate = step is not None and step[0] == "generate"
        return process._replace(replies=(), attempt=(process.attempt + 1) % 3 if is_generate else 0)
