"""Calls of one step that overlap, one operation at a time, in an order that a seed decides.

What a step does side by side runs here in threads of which exactly one goes on: at each boundary of an operation the
seed decides which. So a run dies, or is put to sleep, with any of the calls under way done, half done, or not begun.
"""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lockstep.protocol.workers import one_after_the_other

T = TypeVar("T")
SWITCHES = 0.5
"""How often another call goes on at a boundary."""


@dataclass(eq=False)
class _Strand:
    """One of the calls that overlap."""

    call: Callable[[], Any]
    siblings: "_Siblings"
    awake: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    result: Any = None
    error: BaseException | None = None


@dataclass(eq=False)
class _Siblings:
    """The calls of one `side_by_side`, and the strand that waits for them; None: the thread of the run."""

    parent: _Strand | None
    left: int
    over: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class Weave:
    """A `SideBySide` of one process. `switch` is to be called at every boundary of an operation."""

    def __init__(self, seed: str) -> None:
        self._dice = random.Random(seed)  # noqa: S311 - it must be the same every time
        self._waiting: list[_Strand] = []
        self._running: _Strand | None = None

    def __call__(self, calls: Sequence[Callable[[], T]], /) -> tuple[T, ...]:
        """As `SideBySide`. A process that dies in one of the calls dies in all, at their next operation."""
        if len(calls) < 2:
            return one_after_the_other(calls)
        siblings = _Siblings(parent=self._running, left=len(calls))
        strands = [_Strand(call=call, siblings=siblings) for call in calls]
        for strand in strands:
            threading.Thread(target=self._live, args=(strand,), daemon=True).start()
        self._waiting += strands
        self._wake()
        siblings.over.acquire()
        self._running = siblings.parent
        failures = [strand.error for strand in strands if strand.error]
        deaths = [error for error in failures if not isinstance(error, Exception)]
        for error in (*deaths, *failures):
            raise error
        return tuple(strand.result for strand in strands)

    def switch(self) -> None:
        """Maybe let another call go on, until this one's turn comes again."""
        me = self._running
        if me is None or not self._waiting or self._dice.random() >= SWITCHES:
            return
        self._waiting.append(me)
        self._wake()
        me.awake.acquire()

    def _wake(self) -> None:
        strand = self._waiting.pop(self._dice.randrange(len(self._waiting)))
        self._running = strand
        strand.awake.release()

    def _live(self, me: _Strand) -> None:
        me.awake.acquire()
        try:
            me.result = me.call()
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            me.error = error
        me.siblings.left -= 1
        if me.siblings.left:
            self._wake()
        else:
            me.siblings.over.release()
