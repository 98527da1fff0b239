"""The value that an application works with: kept, read again in the background, and after a refused login.

It knows no driver, no SDK and no event loop. `CredentialClient` waits for reads in threads, `AsyncCredentialClient` in
an event loop, and the agent keeps its secrets in one `CredentialCache` each.

A read runs in a thread of its own and ends in a future, so nobody has to wait for it who has a value. There is at most
one read because of a value's age, and one for callers who want another value.
"""

import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from lockstep.protocol.errors import ReadSideLaggingError, SecretMalformedError, StoreUnreachableError
from lockstep.protocol.model import SecretStr
from lockstep.runtime.system import boot_seconds
from lockstep.stores.contents import PLACEHOLDER, decode_app_user, decode_connection

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
Read_co = TypeVar("Read_co", covariant=True)


@dataclass(frozen=True, slots=True)
class StoreSource(Generic[Read_co]):
    """A source with a name, for logs and metrics."""

    name: str
    read: Callable[[], Read_co]

    def __call__(self) -> Read_co:
        """Read it. A traceback holds no text of the secret."""
        with without_locals():
            return self.read()


def decode(text: str, *, store: str, secret: str) -> ClientCredential:
    """What the text of an `app_user` secret says.

    Raises:
        SecretMalformedError: It is not a credential; code `placeholder`: it was never rotated.
    """
    login, generation = decode_app_user(text, store=store, secret=secret)
    if login is None:
        raise SecretMalformedError(store=store, secret=secret, code=PLACEHOLDER)
    return ClientCredential(
        username=login.username,
        password=login.password,
        generation=generation,
        connection=decode_connection(text, store=store, secret=secret),
    )


# Which value a reader keeps of those that stores show: the rules of the client and of the agent.
#
# 1. The nearest store is asked first; the next one where it fails, or shows an older value than the one that is kept,
# or, for a caller who wants another value, the same. Who reads many values at once asks a store that was silent
# last.
# 2. Generations only grow, so a lower one is older, whichever store shows it: that store lags. Generation 0 was put
# there by a person (ADR 3) and says nothing about its age: it replaces any value, and any value replaces it.
# 3. A value logs in for an overlap after a store was last seen to serve it (protocol I1), counted from before that
# look.
# 4. A value that was refused, or that is kept for longer than that, gives way to the newest of what stores show, also
# to a lower generation: a store that was made anew counts from 1.
# 5. A value that was refused does not come back while the one that is kept counts.


class Generated(Protocol):
    """A value of a generation. Two are equal if they are the same value, wherever it was read."""

    @property
    def generation(self) -> int:
        """0 if Lockstep did not write it."""


Value = TypeVar("Value", bound=Generated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Generic[Value]):
    """A value that a store has shown.

    Attributes:
        source: The store's name.
        at: When the look began, in seconds of the reader's clock.
    """

    value: Value
    source: str
    at: float


def is_older(one: Generated, other: Generated) -> bool:
    """Whether a value is older than another (rule 2)."""
    return 0 < one.generation < other.generation


DEFAULT_MAX_AGE_SECONDS = 300.0
RETRY_SECONDS = 10.0
"""After a read that failed, until a store is asked again for a newer value: asking may take as long."""
REFUSAL_SECONDS = 5.0
"""After a read because of a refused login, until the next one while the value is the same."""
ANOTHER_SECONDS = 1.0
"""After a read for a caller who wants another value, until the next one: a loop of logins becomes none of reads."""

Connection = TypeVar("Connection")
Reading: TypeAlias = Future[Value]
"""A read that is under way, or what there is without one."""


class CredentialCache(Generic[Value]):
    """Keeps the newest value, by rules 1 to 5. Safe to share between threads, and across a fork.

    Args:
        sources: The nearest store first. The next is asked when one does not answer, or not with a value.
        max_age_seconds: The age that a value in use has at most while a store answers: from half of it on, the value is
            read again in the background. Keep it below the plan's overlap.
        refuse_after_seconds: The age from which a value is not given any more. None: it is always given, since it may
            still log in.
        clock: Seconds that only grow, also while the machine is suspended.

    Attributes:
        kept: The newest value, however old, and the source that gave it last; None: nothing was ever read.
        passed_over: Why sources were passed over by the last read, the nearest first.
        refusals: How many logins were refused.
        failures: How many reads got no value from any source.
    """

    def __init__(
        self,
        sources: Sequence[Callable[[], Value]],
        *,
        max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS,
        refuse_after_seconds: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not sources:
            raise ValueError("at least one source is needed")
        if refuse_after_seconds is not None and refuse_after_seconds < max_age_seconds:
            raise ValueError("refuse_after_seconds is below max_age_seconds")
        self._sources = {
            str(getattr(s, "name", None) or f"source {i}"): s for i, s in enumerate(sources, start=1)
        }
        if len(self._sources) < len(sources):
            raise ValueError("two sources have one name")
        self._max_age_seconds = max_age_seconds
        self._refuse_after_seconds = refuse_after_seconds
        self._clock = clock or boot_seconds
        self.kept: Snapshot[Value] | None = None
        self._since = 0.0  # When the generation that is kept was first read.
        self._problem: BaseException = StoreUnreachableError()
        self.passed_over: Mapping[str, Exception] = {}
        self.failures = self.refusals = 0
        self._failed_at = self._reread_at = float("-inf")
        self._refused: list[tuple[Value, float, BaseException | None]] = []
        """When the read because of a value ended, and with what problem; the last one first."""
        self._connections: weakref.WeakKeyDictionary[object, int] = weakref.WeakKeyDictionary()
        self._begin_without_threads()
        _caches.add(self)

    def _begin_without_threads(self) -> None:
        """Also in the child of a fork: the threads that held the lock or were reading do not exist there."""
        self._lock = threading.RLock()
        self._refresh: Reading[Value] | None = None
        self._reread: Reading[Value] | None = None

    def current(self) -> Reading[Value]:
        """The value, or the read that has to be waited for where there is none that may be given.

        It is read again in the background once it has half of the maximum age.

        Raises:
            LockstepError: The value is too old to be given, and the last try to read it, RETRY_SECONDS ago or less,
                failed with this.
        """
        with self._lock:
            reading = self._read_if_due() if self.kept else self.read()
            if self.kept and not self.is_over:
                return _done(self.kept.value)
            if reading is None:
                raise self._problem.with_traceback(None)
            return reading

    def after_refusal(self, refused: Value) -> Reading[Value]:
        """What to try after a login with `refused` was not let in: a newer value, or `refused` if there is none.

        The first such read of a value begins at once. The next ones follow REFUSAL_SECONDS apart, whoever asks: a value
        that a store served just now was not replaced a whole overlap ago.

        Raises:
            LockstepError: The last such read, REFUSAL_SECONDS ago or less, failed with this.
        """
        with self._lock:
            self.refusals += 1
            if self.kept and self.kept.value != refused:
                return _done(self.kept.value)
            reading = _under_way(self._reread)
            lately = [problem for value, _, problem in self._refused_lately() if value == refused]
            if reading is None and lately:
                if lately[0]:
                    raise lately[0].with_traceback(None)
                return _done(refused)
            self._reread = reading or self._begin(refused, unwanted=refused)
            return self._reread

    def read(self, *, last: Collection[str] = ()) -> Reading[Value]:
        """Begin a read, or share the one that is under way.

        Args:
            last: Names of sources that are asked after all others.
        """
        with self._lock:
            self._refresh = _under_way(self._refresh) or self._begin(last=last)
            return self._refresh

    def another(self) -> Reading[Value]:
        """A read for a caller who wants another value and knows of no refusal: what is kept counts until it is too old.

        One that is under way, or has ended ANOTHER_SECONDS ago or less, will do.
        """
        with self._lock:
            rests = self._clock() - self._reread_at <= ANOTHER_SECONDS
            if self._reread is None or (self._reread.done() and not rests):
                self._reread = self._begin(unwanted=self.kept.value if self.kept else None)
            return self._reread

    def opened(self, connection: Connection, credential: Value) -> Connection:
        """Note with which generation a connection was opened, for as long as somebody has it."""
        with self._lock, suppress(TypeError):  # Not everything can be referred to weakly.
            self._connections[connection] = credential.generation
        return connection

    def is_revoked(self, connection: object, overlap_seconds: float) -> bool:
        """Whether the login with which a connection was opened does not work any more, as far as this cache knows.

        For pools: it does not wait, and begins a read that is due.

        Args:
            connection: One of which nothing was noted is older than any.
            overlap_seconds: The plan's `overlap`: how long a value logs in after a newer one was promoted.
        """
        with self._lock:
            if self.kept is None:
                return False
            self._read_if_due()
            opened_with = self._connections.get(connection, 0)
            return self.kept.value.generation > opened_with and self._clock() - self._since >= overlap_seconds

    @property
    def age_seconds(self) -> float:
        """Since the start of the read that gave the value last; infinite before the first."""
        kept = self.kept
        return self._clock() - kept.at if kept else float("inf")

    @property
    def is_over(self) -> bool:
        """Whether what is kept is too old to be given."""
        return self._refuse_after_seconds is not None and self.age_seconds >= self._refuse_after_seconds

    def _read_if_due(self) -> Reading[Value] | None:
        pause = min(RETRY_SECONDS, self._max_age_seconds)
        failed_lately = self._clock() - self._failed_at < pause
        if self.age_seconds >= self._max_age_seconds / 2 and not failed_lately:
            return self.read()
        return _under_way(self._refresh)

    def _begin(
        self, refused: Value | None = None, *, unwanted: Value | None = None, last: Collection[str] = ()
    ) -> Reading[Value]:
        reading: Reading[Value] = Future()
        reading.set_running_or_notify_cancel()  # From now on a waiter that gives up cannot cancel it.
        given_up = (value for value, _, _ in self._refused if self.kept and value != self.kept.value)
        read = partial(self._read, reading, refused, unwanted or next(given_up, None), last)
        try:
            threading.Thread(target=read, name="lockstep-client", daemon=True).start()
        except RuntimeError:
            read()  # The interpreter is about to end, or there are too many threads.
        return reading

    def _read(
        self, reading: Reading[Value], refused: Value | None, unwanted: Value | None, last: Collection[str]
    ) -> None:
        found: Snapshot[Value] | BaseException
        try:
            with without_locals():
                found = self._ask(refused, unwanted, last)
        except BaseException as e:  # noqa: BLE001 - whoever waits for the read gets it
            found = e
        with self._lock:
            now = self._clock()
            if refused is not None:
                problem = found if isinstance(found, BaseException) else None
                others = (r for r in self._refused_lately() if r[0] != refused)
                self._refused = [(refused, now, problem), *others]
            if reading is self._reread:
                self._reread_at = now
            if isinstance(found, BaseException):
                self.failures += 1
                self._problem, self._failed_at = found, now
                reading.set_exception(found)
            else:
                reading.set_result(self._keep(found, refused, now))

    def _refused_lately(self) -> Iterator[tuple[Value, float, BaseException | None]]:
        return (r for r in self._refused if self._clock() - r[1] < REFUSAL_SECONDS)

    def _keep(self, seen: Snapshot[Value], refused: Value | None, now: float) -> Value:
        kept = self.kept
        if kept and kept.value != refused and not self.is_over and is_older(seen.value, kept.value):
            return kept.value  # Another read was faster, and its store newer.
        self._failed_at = float("-inf")
        if kept is None or kept.value.generation != seen.value.generation:
            self._since = now
        self.kept = seen
        return seen.value

    def _ask(self, refused: Value | None, unwanted: Value | None, last: Collection[str]) -> Snapshot[Value]:
        """Ask the stores, one after the other, until one shows a value to keep.

        Args:
            refused: A value that does not count any more (rule 4).
            unwanted: A value of which another one is wanted, if there is one: what is kept, or was refused before it.
            last: Stores that are asked after the others.
        """
        kept = refused or (self.kept.value if self.kept else None)
        is_over = refused is not None or self.is_over
        shown: list[Snapshot[Value]] = []
        failed: dict[str, Exception] = {}
        for name, read in sorted(self._sources.items(), key=lambda source: source[0] in last):
            at = self._clock()
            try:
                seen = Snapshot(value=read(), source=name, at=at)
            except Exception as error:  # noqa: BLE001 - a defect in reading one store must not hide the next
                failed[name] = error
                continue
            shown.append(seen)
            if kept is not None and is_older(seen.value, kept):
                failed[name] = ReadSideLaggingError(store=name)
            elif seen.value != unwanted:
                self.passed_over = failed
                return seen
            elif seen.value != kept:
                failed[name] = ReadSideLaggingError(store=name, code="refused-login")
        self.passed_over = failed
        left = [s for s in shown if is_over or s.source not in failed]
        if not left:
            raise list(failed.values())[-1]
        return max(left, key=lambda s: (s.value != unwanted, s.value.generation))


def _done(value: Value) -> Reading[Value]:
    reading: Reading[Value] = Future()
    reading.set_result(value)
    return reading


def _under_way(reading: Reading[Value] | None) -> Reading[Value] | None:
    return None if reading is None or reading.done() else reading


_caches: "weakref.WeakSet[CredentialCache[Any]]" = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_caches):
        cache._begin_without_threads()  # noqa: SLF001 - a lock that the parent's threads hold is never given back here


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
