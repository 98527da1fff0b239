"""Makes and tags secrets, many at a time; what is done stays done, whenever it ends.

    for each secret, in a worker: look → decide → wait for the pace → make or tag
    throttled or unreachable: slower, and again after a delay; any other error ends the work of all

A secret is made in one call, with its tags, so there is none that is half made: whoever repeats the work finds it, or
finds nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event, Lock
from typing import Protocol, TypeVar

from lockstep.errors import LockstepError, RetryableError, StoreThrottledError, StoreUnreachableError, family
from lockstep.provision.decide import Decision, Deed
from lockstep.provision.pace import Pace
from lockstep.timing import RetryPolicy
from lockstep.workers import SideBySide

POLICY = RetryPolicy(
    errors=tuple(family(RetryableError)), attempts=8, interval_seconds=1, max_delay_seconds=30
)
"""For each call: two minutes of an outage pass, and the pace keeps what was slowed down."""
AT_FIRST = 2
"""Retries of a place that has never answered: its address, or the network here, may be wrong."""
WORKERS = 16
"""Of one cloud. Fifty calls a second of 0.3 s each are under way in fifteen."""

T = TypeVar("T")


class Place(Protocol):
    """Where secrets are made."""

    def decide(self, name: str) -> Decision:
        """Look at a secret, as it is now, and say what becomes of it."""

    def make(self, decision: Decision) -> bool:
        """Make a secret with its tags, in one call; False: there is one of that name."""

    def tag(self, decision: Decision) -> None:
        """Set the tags of a secret that is there."""

    def taken(self, name: str) -> Decision:
        """What to say of a name that is taken by what cannot be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a secret.

    Attributes:
        decision: What was decided.
        is_done: Whether it was made or tagged now.
    """

    decision: Decision
    is_done: bool = False


class _StoppedError(Exception):
    """The work was stopped before its end."""


@dataclass(kw_only=True)
class Work:
    """The work on the secrets of one place.

    Attributes:
        place: Where.
        pace: Of writes.
        side_by_side: Runs the workers.
        sleep: Waits before a call is made again.
        see: Told of each outcome, by one worker at a time.
        stop: Once it is set, no worker begins anything.
        is_dry: Whether nothing is changed.
    """

    place: Place
    pace: Pace
    side_by_side: SideBySide
    sleep: Callable[[float], object]
    see: Callable[[Outcome], None]
    stop: Event
    is_dry: bool = False
    _has_answered: bool = field(default=False, init=False)

    def do(self, names: Sequence[str]) -> None:
        """Do it for each of these secrets.

        Raises:
            LockstepError: The first error that does not pass. What was done until then has been seen.
        """
        waiting, lock = iter(names), Lock()
        workers = min(WORKERS, len(names))
        self.side_by_side([partial(self._worker, waiting, lock)] * workers)

    def _worker(self, waiting: Iterator[str], lock: Lock) -> None:
        try:
            while not self.stop.is_set():
                with lock:
                    name = next(waiting, None)
                if name is None:
                    return
                outcome = self._one(name)
                with lock:
                    self.see(outcome)
        except _StoppedError:
            return
        except BaseException:
            # Also when a person interrupts it: the others end, and then this is raised.
            self.stop.set()
            raise

    def _one(self, name: str) -> Outcome:
        decision = self._patiently(lambda: self.place.decide(name))
        if self.is_dry:
            return Outcome(decision=decision)
        match decision.deed:
            case Deed.MAKE:
                if self._patiently(lambda: self.place.make(decision), is_write=True):
                    return Outcome(decision=decision, is_done=True)
                return Outcome(decision=self._again(name))
            case Deed.TAG:
                self._patiently(lambda: self.place.tag(decision), is_write=True)
                return Outcome(decision=decision, is_done=True)
        return Outcome(decision=decision)

    def _again(self, name: str) -> Decision:
        """Somebody else has made it, or a reply of ours was lost."""
        decision = self._patiently(lambda: self.place.decide(name))
        if decision.deed is Deed.MAKE:
            return self.place.taken(name)
        return replace(decision, deed=Deed.NOTHING) if decision.deed is Deed.TAG else decision

    def _patiently(self, call: Callable[[], T], *, is_write: bool = False) -> T:
        retries = 0
        while True:
            if is_write:
                self.pace.wait()
            if self.stop.is_set():
                raise _StoppedError
            try:
                result = call()
            except LockstepError as error:
                is_silent = isinstance(error, StoreUnreachableError) and not self._has_answered
                most = AT_FIRST if is_silent else POLICY.attempts
                if not isinstance(error, POLICY.errors) or retries >= most:
                    raise
                if isinstance(error, StoreThrottledError):
                    self.pace.slower()
                self.sleep(POLICY.delay_seconds(retries))
                retries += 1
            else:
                self._has_answered = True
                if is_write:
                    self.pace.faster()
                return result
