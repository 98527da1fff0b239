"""The wire between the shipped code and the world: numbers every call, and lets a fault strike any one of them.

Fronts (`http_front`, `databases.front`) listen in place of the services and servers, and pass each call to
`Wire.exchange` before it has its effect. So the code under test does not know of the harness. A process that has died
has no effect any more, not even by its `finally` blocks: its connections are cut, and nothing that it sends arrives.
"""

import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from lockstep.protocol.workers import at_the_same_time, one_after_the_other

if TYPE_CHECKING:
    import socket

Reply = TypeVar("Reply")
LONGEST_HANG_SECONDS = 20.0


class FaultKind(StrEnum):
    """What happens to one call, and to the process that makes it."""

    FAIL = "fail before the effect"
    LOSE_REPLY = "lose the reply"
    HANG = "hang until the time-out"
    LATE = "hang, and take effect after the recovery"
    TWICE = "deliver twice"
    DIE_BEFORE = "the process dies before"
    DIE_AFTER = "the process dies after"
    OVERTAKEN = "the process sleeps until another run is through, then goes on"


class Order(StrEnum):
    """In which order the calls are made that a step makes side by side.

    Only in the first two does a rotation make the same calls every time.
    """

    FORWARD = "one after the other"
    BACKWARD = "the last one first"
    TOGETHER = "at the same time"


def the_last_first(calls: Sequence[Callable[[], Reply]], /) -> tuple[Reply, ...]:
    """A `SideBySide` without threads: what comes first elsewhere has not happened yet when it stops here."""
    return one_after_the_other(calls[::-1])[::-1]


class CutError(Exception):
    """The connection ends here, without an answer."""


@dataclass(eq=False)
class Process:
    """One invocation of a function, or the state machine itself.

    Attributes:
        name: For stories.
        run: The rotation that it belongs to.
        dead: Nothing that it sends gets through any more.
        closers: Cut its connections.
        sessions: End its sessions in the databases; it notices when it next says something.
    """

    name: str
    run: str
    dead: bool = False
    closers: list[Callable[[], None]] = field(default_factory=list, repr=False)
    sessions: list[Callable[[], None]] = field(default_factory=list, repr=False)

    def fall_asleep(self) -> None:
        """Be silent for so long that the databases end its sessions."""
        while self.sessions:
            self.sessions.pop()()

    def kill(self) -> None:
        """Die: all connections end, and no new one will be answered."""
        self.dead = True
        while self.closers:
            self.closers.pop()()


@dataclass(frozen=True, kw_only=True)
class Call:
    """One outside call.

    Attributes:
        number: Its place in the run, from 1.
        target: `secretsmanager`, `dynamodb`, `vault`, a database's name …
        operation: What is asked: the API's operation, or the beginning of a statement.
        changes: Whether it may change something.
    """

    number: int
    process: Process
    target: str
    operation: str
    changes: bool

    def __str__(self) -> str:
        return f"#{self.number} {self.process.name}: {self.target} {self.operation}"


Look = Callable[[Call], None]
"""Called when a call has had its effect and before its caller gets the reply."""


@dataclass
class Fault:
    """A fault that waits for its call.

    Attributes:
        at: The number of the call that it strikes.
        struck: The call that it has struck.
    """

    kind: FaultKind
    at: int
    struck: Call | None = None


class Wire:
    """All calls of the code under test; one at a time has its effect.

    Attributes:
        process: The owner of calls that come over connections without an owner.
        calls: Of the present run, in order.
        look: See `Look`.
        asleep: Called in the thread of a process that sleeps; returns when it is to go on.
        order: Of what is made side by side.
    """

    def __init__(self) -> None:
        self.idle = Process("no process", "none")
        self.process = self.idle
        self.calls: list[Call] = []
        self.look: Look = lambda _call: None
        self.asleep: Callable[[], None] = lambda: None
        self.order = Order.FORWARD
        self._fault: Fault | None = None
        self._late: list[Callable[[], object]] = []
        self._one_at_a_time = threading.RLock()

    def side_by_side(self, calls: Sequence[Callable[[], Reply]], /) -> tuple[Reply, ...]:
        """The `SideBySide` of the code under test, in the present order."""
        match self.order:
            case Order.FORWARD:
                return one_after_the_other(calls)
            case Order.BACKWARD:
                return the_last_first(calls)
            case Order.TOGETHER:
                return at_the_same_time(calls)

    @contextmanager
    def run(self, fault: Fault | None = None) -> Iterator[None]:
        """Number the calls of one run from 1, and let the fault strike."""
        self.calls.clear()
        self._fault = fault
        try:
            yield
        finally:
            self._fault = None

    def arm(self, fault: Fault) -> None:
        """Let another fault strike in the same run, after the first one has."""
        self._fault = fault

    @contextmanager
    def by(self, process: Process) -> Iterator[Process]:
        """Calls are this process's, until the end of the block."""
        before, self.process = self.process, process
        try:
            yield process
        finally:
            self.process = before

    def deliver_late(self) -> int:
        """Let the calls that hung have their effect now; how many."""
        late, self._late = self._late, []
        for effect in late:
            effect()
        return len(late)

    def exchange(
        self,
        target: str,
        operation: str,
        effect: Callable[[], Reply],
        *,
        changes: bool,
        process: Process | None = None,
        nested: bool = False,
        wait_for_hangup: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Carry out a call, or what the fault says instead.

        Args:
            target: See `Call`.
            operation: See `Call`.
            effect: Carries the call out and gives the reply.
            changes: See `Call`.
            process: The connection's owner; by default the process that runs.
            nested: The call makes calls itself (the invocation of a function).
            wait_for_hangup: Returns when the client has given up.

        Raises:
            CutError: The connection is to be closed without an answer.
        """
        process = process or self.process
        if process.dead:
            raise CutError
        with self._one_at_a_time:
            call = Call(
                number=len(self.calls) + 1,
                process=process,
                target=target,
                operation=operation,
                changes=changes,
            )
            self.calls.append(call)
            kind = self._strikes(call)
        if kind is FaultKind.LATE:
            self._late.append(lambda: self._carry_out(call, effect, nested=nested))
        self._before(kind, process, wait_for_hangup)
        reply = self._carry_out(call, effect, nested=nested)
        if kind is FaultKind.TWICE:
            reply = self._carry_out(call, effect, nested=nested)
        if kind is FaultKind.DIE_AFTER:
            process.kill()
        if process.dead or kind is FaultKind.LOSE_REPLY:
            raise CutError
        return reply

    def _before(self, kind: FaultKind | None, process: Process, wait_for_hangup: Callable[[], None]) -> None:
        match kind:
            case FaultKind.FAIL:
                raise CutError
            case FaultKind.DIE_BEFORE:
                process.kill()
            case FaultKind.HANG | FaultKind.LATE:
                wait_for_hangup()
                raise CutError
            case FaultKind.OVERTAKEN:
                self.asleep()
        if process.dead:
            raise CutError

    def _carry_out(self, call: Call, effect: Callable[[], Reply], *, nested: bool) -> Reply:
        if nested:
            return effect()
        with self._one_at_a_time:
            reply = effect()
            self.look(call)
            return reply

    def _strikes(self, call: Call) -> FaultKind | None:
        fault = self._fault
        if fault is None or fault.struck or fault.at != call.number:
            return None
        fault.struck = call
        return fault.kind


def wait_for_hangup(connection: "socket.socket") -> None:
    """Return when the peer has closed its side."""
    waiting = select.poll()
    waiting.register(connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    waiting.poll(LONGEST_HANG_SECONDS * 1000)
