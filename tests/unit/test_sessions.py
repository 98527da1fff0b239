"""Sessions: one for all threads, renewed before its end, used to its end where no other can be had.

(protocol R19)
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from lockstep.protocol.errors import DeadlineExceededError, FailureKind, SessionFailure
from lockstep.protocol.federation import EARLY_SECONDS, IssuedSession, Maker, Sessions, seconds_of

SECONDS = 30
"""How long a test waits for another thread at most."""
LIFE = 900.0
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DOWN = SessionFailure(FailureKind.UNREACHABLE, "down", None)


class Clock:
    """Two clocks that go at their own pace."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.wall = NOW

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        raise AssertionError(seconds)

    def pass_(self, seconds: float, *, wall: float | None = None) -> None:
        self.seconds += seconds
        self.wall += timedelta(seconds=seconds if wall is None else wall)


class Issuer:
    """Gives a session that was never given, unless it is down."""

    def __init__(self) -> None:
        self.given = 0
        self.failure: BaseException | None = None

    def __call__(self) -> IssuedSession[str]:
        if self.failure:
            raise self.failure
        self.given += 1
        return IssuedSession(session=f"session-{self.given}", seconds=LIFE)


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="issuer")
def _issuer() -> Issuer:
    return Issuer()


@pytest.fixture(name="sessions")
def _sessions(issuer: Issuer, clock: Clock) -> Sessions[str]:
    return Sessions(issuer, clock)


@pytest.mark.parametrize(
    "go_on",
    [
        lambda clock, seconds: clock.pass_(seconds),
        # The process was frozen, and its own clock with it.
        lambda clock, seconds: clock.pass_(0.0, wall=seconds),
        # The machine's time was set back.
        lambda clock, seconds: clock.pass_(seconds, wall=-3600.0),
    ],
    ids=["both", "frozen", "set back"],
)
def test_it_is_renewed_a_minute_before_its_end(
    sessions: Sessions[str], clock: Clock, go_on: Callable[[Clock, float], None]
) -> None:
    assert sessions() == "session-1"
    go_on(clock, LIFE - EARLY_SECONDS - 1)
    assert sessions() == "session-1"
    go_on(clock, 1)
    go_on(clock, LIFE)
    assert sessions() == "session-2"


class Held:
    """An issuer that answers when it is told to."""

    def __init__(self, clock: Clock) -> None:
        self.asked = threading.Semaphore(0)
        self.answer = threading.Event()
        self.asks = 0
        self.outcome: Callable[[int], IssuedSession[str]] = lambda n: IssuedSession(
            session=f"session-{n}", seconds=LIFE
        )
        self.sessions = Sessions(self, clock)
        self.results: list[object] = []

    def __call__(self) -> IssuedSession[str]:
        self.asks += 1
        asks = self.asks
        self.asked.release()
        assert self.answer.wait(SECONDS)
        return self.outcome(asks)

    def ask(self) -> threading.Thread:
        def run() -> None:
            try:
                self.results.append(self.sessions())
            except Exception as error:  # noqa: BLE001 - the result
                self.results.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread


def test_threads_that_wait_fail_as_the_one_that_has_asked(clock: Clock) -> None:
    held = Held(clock)

    def refuse(_: int) -> IssuedSession[str]:
        raise DOWN

    held.outcome = refuse
    first = held.ask()
    assert held.asked.acquire(timeout=SECONDS)
    others = [held.ask() for _ in range(3)]
    held.answer.set()
    for thread in (first, *others):
        thread.join(SECONDS)
    assert set(held.results) == {DOWN}


def test_a_thread_of_a_step_that_has_ended_fails_no_other_one(clock: Clock) -> None:
    held = Held(clock)

    def once(asks: int) -> IssuedSession[str]:
        if asks == 1:
            raise DeadlineExceededError
        return IssuedSession(session=f"session-{asks}", seconds=LIFE)

    held.outcome = once
    left_behind = held.ask()
    assert held.asked.acquire(timeout=SECONDS)
    other = held.ask()
    held.answer.set()
    left_behind.join(SECONDS)
    other.join(SECONDS)
    assert sorted(type(result).__name__ for result in held.results) == ["DeadlineExceededError", "str"]


# Tokens


def test_a_token_is_signed_over_what_it_says() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    prehashed = Prehashed(hashes.SHA256())
    maker = Maker(
        kid="key-1",
        sign=lambda digest: key.sign(digest, padding.PKCS1v15(), prehashed),
        new_id=lambda: "id-1",
    )
    token = maker.token(issuer="https://i.example.com", subject="s", audience="a", now=NOW)
    header, claims, signature = (_decoded(part) for part in token.split("."))
    assert json.loads(header) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    said = json.loads(claims)
    assert said.pop("iat") == NOW.timestamp() - 60
    assert said.pop("exp") == NOW.timestamp() + 240
    assert said == {"iss": "https://i.example.com", "sub": "s", "aud": "a", "jti": "id-1"}
    digest = hashlib.sha256(token.rpartition(".")[0].encode()).digest()
    key.public_key().verify(signature, digest, padding.PKCS1v15(), prehashed)
    assert seconds_of(token) == 300


def _decoded(part: str) -> bytes:
    assert not part.endswith("=")
    return base64.urlsafe_b64decode(part + "==")


def _token(claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.e30"


SAID = {"iat": 1, "exp": 2}
NEITHER: list[object] = [
    *([], "x", {}, {"iat": 1}, {"exp": 2}, {"iat": "1", "exp": "2"}),
    *({"iat": True, "exp": 2}, {"iat": 1.5, "exp": 2}, {"iat": None, "exp": 1}),
]


@pytest.mark.parametrize(
    "token",
    [
        *("", ".", "a.b", "a.b.c", "a.b.c.d", "a.!!.c", "é.é.é", "." * 70000),
        *map(_token, NEITHER),
        _token({"iat": 0, "exp": 10**400}),
        *(f"e30{bad}.{_token(SAID)[4:]}" for bad in ('"', " ", "\r\nhost: another", "é")),
        f"{_token(SAID)}=",
        _token([]).replace("W10", base64.urlsafe_b64encode(b"[" * 3000).decode()),
    ],
)
def test_what_is_no_token_says_nothing(token: str) -> None:
    assert seconds_of(token) is None
