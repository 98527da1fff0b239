"""Sessions that end by themselves, and are replaced before: one for all threads of a process."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock, local
from typing import Generic, TypeVar

from lockstep.errors import DeadlineExceededError, StepEndedError
from lockstep.ports import Clock

T = TypeVar("T")

EARLY_SECONDS = 60.0
"""Before its end in which a session is renewed."""
AGAIN_SECONDS = 10.0
"""After a renewal that has failed, in which none is tried while the old session still works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made(Generic[T]):
    """A new session.

    Attributes:
        session: What signs requests.
        seconds: From the first request for it to its end, at least.
    """

    session: T = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held(Generic[T]):
    made: Made[T]
    monotonic: float
    now: datetime

    def left(self, clock: Clock) -> float:
        """Seconds to its end.

        The monotonic clock may stand still while a function is frozen, and the wall clock may be set back: the one
        that has gone further counts. Neither is compared with a clock of somebody else.
        """
        passed = max(clock.monotonic() - self.monotonic, (clock.now() - self.now).total_seconds())
        return self.made.seconds - passed


class Sessions(Generic[T]):
    """The current session.

    One thread at a time makes a new one. Others go on with the old one as long as that works, and else wait for the
    new one, or fail as it does.

    Args:
        make: Gives a new session.
        clock: Measures its age.
    """

    def __init__(self, make: Callable[[], Made[T]], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._lock = Lock()
        self._held: _Held[T] | None = None
        self._coming: Future[T] | None = None
        self._not_before = float("-inf")
        self._last = local()

    def __call__(self) -> T:
        """The session to sign with.

        Raises:
            SessionFailure, LockstepError: There is none, and none can be had.
        """
        session = self._last.session = self._current()
        return session

    def _current(self) -> T:
        while True:
            with self._lock:
                if (session := self._fresh()) is not None:
                    return session
                coming, is_first = self._coming or Future(), self._coming is None
                self._coming = coming
            if is_first:
                return self._renewed(coming)
            if (session := self._usable()) is not None:
                return session
            try:
                return coming.result()
            except (StepEndedError, DeadlineExceededError):
                # Of the step to which the other thread belongs: this one's own time counts here.
                continue

    def drop(self) -> None:
        """Use the session no more that this thread was given last: it was refused."""
        with self._lock:
            if self._held and self._held.made.session is getattr(self._last, "session", None):
                self._held = None

    def _renewed(self, coming: "Future[T]") -> T:
        began, now = self._clock.monotonic(), self._clock.now()
        try:
            made = self._make()
        except BaseException as error:
            with self._lock:
                self._coming = None
                self._not_before = self._clock.monotonic() + AGAIN_SECONDS
            session = self._usable()
            if session is None:
                coming.set_exception(error)
                raise
            coming.set_result(session)
            return session
        with self._lock:
            self._held, self._coming = _Held(made=made, monotonic=began, now=now), None
        coming.set_result(made.session)
        return made.session

    def _fresh(self) -> T | None:
        """The session, if it is not to be renewed now."""
        held = self._held
        if held is None:
            return None
        left = held.left(self._clock)
        early = min(EARLY_SECONDS, held.made.seconds / 2)
        waits = 0 < left <= early and self._clock.monotonic() < self._not_before
        return held.made.session if left > early or waits else None

    def _usable(self) -> T | None:
        held = self._held
        return held.made.session if held and held.left(self._clock) > 0 else None
