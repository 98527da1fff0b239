"""The value that an application works with: kept, read again in the background, and after a refused login.

It knows no driver, no SDK and no event loop. `CredentialClient` waits for reads in threads, `AsyncCredentialClient` in
an event loop, and whatever else hands values on can use a `CredentialCache` likewise.

A read runs in a thread of its own and ends in a future, so nobody has to wait for it who has a value. There is at most
one read because of a value's age, and one because of refused logins.
"""

import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from lockstep.protocol.errors import NotBootstrappedError, StoreUnreachableError
from lockstep.protocol.model import SecretStr
from lockstep.runtime.system import SystemClock, boot_seconds
from lockstep.stores.contents import decode_app_user, decode_connection
from lockstep.stores.readers import Snapshot, is_older, read_newest

# Seconds that go on while the machine is suspended.
#
# A value ages while a laptop sleeps or a virtual machine is paused, and Python's monotonic clock stands still
# meanwhile on Linux (clock_gettime(2), CLOCK_MONOTONIC).

Seconds = Callable[[], float]


class ComparedClocks:
    """For systems without a clock that counts suspended time: of two clocks the one that went further.

    A wall clock that is set forward ages a value too much, which costs one read; one that is set back changes nothing.

    Args:
        monotonic: Seconds that only grow.
        wall: Seconds of the wall clock.
    """

    def __init__(self, monotonic: Seconds, wall: Seconds) -> None:
        self._monotonic, self._wall = monotonic, wall
        self._last = monotonic(), wall()
        self._elapsed_seconds = 0.0

    def __call__(self) -> float:
        """Seconds since this clock was made. Not for several threads at once."""
        now = self._monotonic(), self._wall()
        self._elapsed_seconds += max(0.0, *(new - old for new, old in zip(now, self._last, strict=True)))
        self._last = now
        return self._elapsed_seconds


def suspend_aware_clock() -> Seconds:
    """CLOCK_BOOTTIME where there is one (Linux), else the monotonic and the wall clock compared."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return boot_seconds
    system = SystemClock()
    return ComparedClocks(system.monotonic, lambda: system.now().timestamp())


# No password in what a crash reporter sends: the local variables of frames that have ended are dropped.
#
# A reporter walks a traceback and sends each frame's variables. Frames of a read hold the text of the secret, and
# frames of a driver hold the password.


@contextmanager
def without_locals() -> Iterator[None]:
    """Let an error out without the local variables of the frames that it has passed, and those of its causes.

    The frames stay, with their files and lines. What the caller was handling already is not touched.
    """
    handled = sys.exception()
    try:
        yield
    except BaseException as error:
        for one in _chain(error, handled):
            traceback.clear_frames(one.__traceback__)
        raise


def _chain(error: BaseException, handled: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or one is handled or any(one is other for other in found):
            continue
        found.append(one)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
    return found


# What an application gets from a store.


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredential:
    """What an application needs to connect. Two are equal if they are the same value, wherever it was read.

    Attributes:
        generation: Names the value; for logs, since it tells nothing about the password.
        connection: `engine`, `host`, `port` and `dbname` of the credential's first database.
        databases: The same of each of its databases, by their names in the plan; where the source reads
            `connection_blob`.
    """

    username: str
    password: SecretStr
    generation: int
    connection: Mapping[str, Any] = field(default_factory=dict, compare=False)
    databases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)


Source = Callable[[], ClientCredential]
"""Reads the credential from a store, uncached. Raises the Store* errors of `lockstep.protocol.errors`."""


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A source with a name, for logs and metrics."""

    name: str
    read: Source

    def __call__(self) -> ClientCredential:
        """Read it. A traceback holds no text of the secret."""
        with without_locals():
            return self.read()


def name_of(source: Source, position: int) -> str:
    """The name of a source, or its position among the sources, from 1."""
    return str(getattr(source, "name", None) or f"source {position}")


def decode(text: str, *, store: str, secret: str) -> ClientCredential:
    """What the text of an `app_user` secret says.

    Raises:
        NotBootstrappedError: It is a placeholder.
        SecretMalformedError: It is not a credential.
    """
    try:
        with without_locals():
            return _decode(text, store=store, secret=secret)
    finally:
        del text  # A traceback shows this frame, too.


def _decode(text: str, *, store: str, secret: str) -> ClientCredential:
    login, generation = decode_app_user(text, store=store, secret=secret)
    if login is None:
        raise NotBootstrappedError(store=store, secret=secret)
    return ClientCredential(
        username=login.username,
        password=login.password,
        generation=generation,
        connection=decode_connection(text, store=store, secret=secret),
    )


DEFAULT_MAX_AGE_SECONDS = 300.0
RETRY_SECONDS = 10.0
"""After a read that failed, until a store is asked again for a newer value: asking may take as long."""
REFUSAL_SECONDS = 5.0
"""After a read because of a refused login, until the next one while the value is the same."""

Connection = TypeVar("Connection")
Reading: TypeAlias = Future[ClientCredential]


class Answer(NamedTuple):
    """What there is for a caller.

    Attributes:
        kept: A value that may be used without waiting.
        reading: A read that is under way. One of both is there.
        is_old: Whether the value is older than the maximum age.
    """

    kept: ClientCredential | None
    reading: Reading | None = None
    is_old: bool = False

    @property
    def only_reading(self) -> Reading:
        """The read, where there is no value to use meanwhile."""
        if self.reading is None:
            raise TypeError("an answer has a value or a read")
        return self.reading


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatus:
    """For health checks and metrics; it holds no password.

    Attributes:
        generation: Of the value in use; None before the first read.
        source: Which source gave it last.
        age_seconds: Since the start of the read that gave it last.
        refusals: How many logins were refused.
        failures: How many reads got no value from any source.
        seen: The generation that each source gave last.
    """

    generation: int | None
    source: str | None
    age_seconds: float | None
    refusals: int
    failures: int
    seen: Mapping[str, int]


class _Kept(NamedTuple):
    seen: Snapshot[ClientCredential]
    since: float  # When this generation was first read.


class _Refused(NamedTuple):
    value: ClientCredential
    at: float  # When the read because of it ended.
    problem: BaseException | None


class CredentialCache:
    """Keeps the newest value (`lockstep.stores.readers`). Safe to share between threads, and across a fork.

    Args:
        sources: The nearest store first. The next is asked when one does not answer, or not with a credential.
        max_age_seconds: The age that a value in use has at most while a store answers: from half of it on, the value is
            read again in the background. Keep it below the plan's overlap.
        refuse_after_seconds: The age from which a value is not given any more. None: it is always given, since it may
            still log in.
        clock: Seconds that only grow, also while the machine is suspended.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS,
        refuse_after_seconds: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not sources:
            raise ValueError("at least one source is needed")
        if refuse_after_seconds is not None and refuse_after_seconds < max_age_seconds:
            raise ValueError("refuse_after_seconds is below max_age_seconds")
        self._sources = {name_of(source, i): source for i, source in enumerate(sources, start=1)}
        if len(self._sources) < len(sources):
            raise ValueError("two sources have one name")
        self._max_age_seconds = max_age_seconds
        self._refuse_after_seconds = refuse_after_seconds
        self._clock = clock or suspend_aware_clock()
        self._kept: _Kept | None = None
        self._problem: BaseException = StoreUnreachableError()
        self._failures, self._refusals = 0, 0
        self._failed_at: float | None = None
        self._refused: tuple[_Refused, ...] = ()  # The last one first.
        self._seen: dict[str, int] = {}
        self._connections: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        self._begin_without_threads()
        _caches.add(self)

    def _begin_without_threads(self) -> None:
        """Also in the child of a fork: the threads that held the lock or were reading do not exist there."""
        self._lock = threading.RLock()
        self._refresh: Reading | None = None
        self._recheck: Reading | None = None

    def current(self) -> Answer:
        """The value; it is read again in the background once it has half of the maximum age.

        Raises:
            LockstepError: The value is too old to be given, and the last try to read it, RETRY_SECONDS ago or less,
                failed with this.
        """
        with self._lock:
            kept = self._kept
            if kept is None:
                return Answer(None, self._begin_refresh())
            reading = self._refresh_if_due(kept)
            if self._is_over(kept):
                if reading is None:
                    raise self._problem.with_traceback(None)
                return Answer(None, reading)
            return Answer(kept.seen.value, reading, is_old=self._age(kept) >= self._max_age_seconds)

    def after_refusal(self, refused: ClientCredential) -> Answer:
        """What to try after a login with `refused` was not let in: a newer value, or `refused` if there is none.

        The first such read of a value begins at once. The next ones follow REFUSAL_SECONDS apart, whoever asks: a value
        that a store served just now was not replaced a whole overlap ago.

        Raises:
            LockstepError: The last such read, REFUSAL_SECONDS ago or less, failed with this.
        """
        with self._lock:
            self._refusals += 1
            if self._kept and self._kept.seen.value != refused:
                return Answer(self._kept.seen.value)
            lately = next((r for r in self._refused_lately() if r.value == refused), None)
            if self._recheck is None and lately:
                if lately.problem:
                    raise lately.problem.with_traceback(None)
                return Answer(refused)
            reading = self._recheck or self._begin(refused)
            self._recheck = _unless_done(reading)
            return Answer(None, reading)

    def dead_before(self, overlap_seconds: float) -> int:
        """The generation below which no login works any more, as far as this cache knows; 0 if it does not know.

        For pools: it does not wait, and begins a read that is due.

        Args:
            overlap_seconds: The plan's `overlap`: how long a value logs in after a newer one was promoted.
        """
        with self._lock:
            kept = self._kept
            if kept is None:
                return 0
            self._refresh_if_due(kept)
            is_over = self._clock() - kept.since >= overlap_seconds
            return kept.seen.value.generation if is_over else 0

    def opened(self, connection: Connection, credential: ClientCredential) -> Connection:
        """Note with which generation a connection was opened, for as long as somebody has it."""
        with self._lock, suppress(TypeError):  # Not everything can be referred to weakly.
            self._connections[connection] = credential.generation
        return connection

    def generation_of(self, connection: object) -> int | None:
        """With which generation a connection was opened, if that was noted."""
        with self._lock:
            return self._connections.get(connection)

    @property
    def status(self) -> ClientStatus:
        """What this cache has, and what it has met."""
        with self._lock:
            kept = self._kept
            return ClientStatus(
                generation=kept.seen.value.generation if kept else None,
                source=kept.seen.source if kept else None,
                age_seconds=self._age(kept) if kept else None,
                refusals=self._refusals,
                failures=self._failures,
                seen=dict(self._seen),
            )

    def _now(self) -> float:
        with self._lock:  # A clock need not be safe to share.
            return self._clock()

    def _age(self, kept: _Kept) -> float:
        return self._now() - kept.seen.at

    def _is_over(self, kept: _Kept) -> bool:
        return self._refuse_after_seconds is not None and self._age(kept) >= self._refuse_after_seconds

    def _refresh_if_due(self, kept: _Kept) -> Reading | None:
        pause = min(RETRY_SECONDS, self._max_age_seconds)
        failed_lately = self._failed_at is not None and self._now() - self._failed_at < pause
        if self._age(kept) >= self._max_age_seconds / 2 and not failed_lately:
            return self._begin_refresh()
        return self._refresh

    def _begin_refresh(self) -> Reading:
        reading = self._refresh or self._begin(None)
        self._refresh = _unless_done(reading)
        return reading

    def _begin(self, refused: ClientCredential | None) -> Reading:
        reading: Reading = Future()
        reading.set_running_or_notify_cancel()  # From now on a waiter that gives up cannot cancel it.
        given_up = (r.value for r in self._refused if self._kept and r.value != self._kept.seen.value)
        unwanted = refused or next(given_up, None)
        read = partial(self._read, reading, refused, self._kept, unwanted)
        try:
            threading.Thread(target=read, name="lockstep-client", daemon=True).start()
        except RuntimeError:
            read()  # The interpreter is about to end, or there are too many threads.
        return reading

    def _read(
        self,
        reading: Reading,
        refused: ClientCredential | None,
        kept: _Kept | None,
        unwanted: ClientCredential | None,
    ) -> None:
        found: Snapshot[ClientCredential] | BaseException
        try:
            with without_locals():
                found = self._ask(kept, refused, unwanted)
        except BaseException as e:  # noqa: BLE001 - whoever waits for the read gets it
            found = e
        with self._lock:
            if isinstance(found, BaseException):
                settle = partial(reading.set_exception, self._fail(found, refused))
            else:
                settle = partial(reading.set_result, self._keep(found, refused))
            self._end(reading)
        settle()

    def _end(self, reading: Reading) -> None:
        self._refresh = None if self._refresh is reading else self._refresh
        self._recheck = None if self._recheck is reading else self._recheck

    def _fail(self, error: BaseException, refused: ClientCredential | None) -> BaseException:
        now = self._clock()
        self._failures += 1
        self._problem, self._failed_at = error, now
        if refused is not None:
            self._note(_Refused(refused, now, error))
        return error

    def _note(self, refusal: _Refused) -> None:
        self._refused = (refusal, *(r for r in self._refused_lately() if r.value != refusal.value))

    def _refused_lately(self) -> list[_Refused]:
        now = self._clock()
        return [r for r in self._refused if now - r.at < REFUSAL_SECONDS]

    def _keep(self, seen: Snapshot[ClientCredential], refused: ClientCredential | None) -> ClientCredential:
        now, kept = self._clock(), self._kept
        if refused is not None:
            self._note(_Refused(refused, now, None))
        counts = kept and kept.seen.value != refused and not self._is_over(kept)
        if kept and counts and is_older(seen.value, kept.seen.value):
            return kept.seen.value  # Another read was faster, and its store newer.
        self._failed_at = None
        is_known = kept and kept.seen.value.generation == seen.value.generation
        self._kept = _Kept(seen, kept.since if kept and is_known else now)
        return seen.value

    def _ask(
        self, kept: _Kept | None, refused: ClientCredential | None, unwanted: ClientCredential | None
    ) -> Snapshot[ClientCredential]:
        found = read_newest(
            self._sources,
            self._now,
            kept=refused or (kept.seen.value if kept else None),
            is_over=refused is not None or (kept is not None and self._is_over(kept)),
            unwanted=unwanted,
        )
        self._seen.update({seen.source: seen.value.generation for seen in found.shown})
        if found.chosen is None:
            raise list(found.failed.values())[-1]
        return found.chosen


def _unless_done(reading: Reading) -> Reading | None:
    return None if reading.done() else reading


_caches: "weakref.WeakSet[CredentialCache]" = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_caches):
        cache._begin_without_threads()  # noqa: SLF001 - a lock that the parent's threads hold is never given back here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
