"""Sessions that end by themselves, and are replaced before: one for all threads of a process (protocol R19)."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event, Lock, local
from typing import Generic, TypeVar

from lockstep.protocol.errors import DeadlineExceededError, StepEndedError
from lockstep.protocol.ports import Clock

T = TypeVar("T")

EARLY_SECONDS = 60.0
"""Before its end in which a session is renewed."""
AGAIN_SECONDS = 10.0
"""After a renewal that has failed, in which none is tried while the old session still works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedSession(Generic[T]):
    """A new session.

    Attributes:
        session: What signs requests.
        seconds: From the first request for it to its end, at least.
    """

    session: T = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held(Generic[T]):
    made: IssuedSession[T]
    monotonic: float
    now: datetime

    def left(self, clock: Clock) -> float:
        """Seconds to its end.

        The monotonic clock may stand still while a function is frozen, and the wall clock may be set back: the one
        that has gone further counts. Neither is compared with a clock of somebody else.
        """
        passed = max(clock.monotonic() - self.monotonic, (clock.now() - self.now).total_seconds())
        return self.made.seconds - passed


@dataclass(slots=True)
class _Coming(Generic[T]):
    """What other threads wait for: a session, or why there is none."""

    ended: Event = field(default_factory=Event)
    session: T | None = None
    error: BaseException | None = None

    def end(self, session: T | None, error: BaseException | None = None) -> None:
        self.session, self.error = session, error
        self.ended.set()

    def result(self) -> T | None:
        self.ended.wait()
        if self.error:
            raise self.error
        return self.session


class Sessions(Generic[T]):
    """The current session.

    One thread at a time makes a new one. Others go on with the old one as long as that works, and else wait for the
    new one, or fail as it does.

    Args:
        make: Gives a new session.
        clock: Measures its age.
    """

    def __init__(self, make: Callable[[], IssuedSession[T]], clock: Clock) -> None:
        self._make = make
        self._clock = clock
        self._lock = Lock()
        self._held: _Held[T] | None = None
        self._coming: _Coming[T] | None = None
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
                coming, is_first = self._coming or _Coming(), self._coming is None
                self._coming = coming
            if is_first:
                return self._renewed(coming)
            if (session := self._usable()) is not None:
                return session
            # The other thread's step may have ended, which is no reason here. Then this one asks.
            with suppress(StepEndedError, DeadlineExceededError):
                if (session := coming.result()) is not None:
                    return session

    def drop(self) -> None:
        """Use the session no more that this thread was given last: it was refused."""
        with self._lock:
            if self._held and self._held.made.session is getattr(self._last, "session", None):
                self._held = None

    def _renewed(self, coming: _Coming[T]) -> T:
        began, now = self._clock.monotonic(), self._clock.now()
        try:
            made = self._make()
        except BaseException as error:
            with self._lock:
                self._coming = None
                self._not_before = self._clock.monotonic() + AGAIN_SECONDS
            session = self._usable()
            if session is None:
                coming.end(None, error)
                raise
            coming.end(session)
            return session
        with self._lock:
            self._held, self._coming = _Held(made=made, monotonic=began, now=now), None
        coming.end(made.session)
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
