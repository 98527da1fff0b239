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

from lockstep.protocol.errors import DeadlineExceededError, ErrorKind, SessionFailure
from lockstep.protocol.federation import EARLY_SECONDS, IssuedSession, Maker, Sessions, seconds_of
from tests.support.memory import FakeClock

SECONDS = 30
"""How long a test waits for another thread at most."""
LIFE = 900.0
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DOWN = SessionFailure(ErrorKind.UNREACHABLE, "down", None)


class Clock(FakeClock):
    """Two clocks that go at their own pace."""

    def pass_(self, seconds: float, wall: float) -> None:
        self._elapsed_seconds += seconds
        self._now += timedelta(seconds=wall)


class Issuer:
    """Gives a session that was never given, or fails, once it may answer."""

    def __init__(self) -> None:
        self.asks = 0
        self.asked = threading.Semaphore(0)
        self.answer = threading.Event()
        self.fails: dict[int, Exception] = {}

    def __call__(self) -> IssuedSession[str]:
        self.asks += 1
        asks = self.asks
        self.asked.release()
        assert self.answer.wait(SECONDS)
        if asks in self.fails:
            raise self.fails[asks]
        return IssuedSession(session=f"session-{asks}", seconds=LIFE)


@pytest.mark.parametrize(
    "go_on",
    [
        lambda clock, seconds: clock.pass_(seconds, seconds),
        lambda clock, seconds: clock.pass_(0.0, seconds),
        lambda clock, seconds: clock.pass_(seconds, -3600.0),
    ],
    ids=["both go", "the process was frozen, and its own clock with it", "the machine's time was set back"],
)
def test_it_is_renewed_a_minute_before_its_end(go_on: Callable[[Clock, float], None]) -> None:
    issuer, clock = Issuer(), Clock()
    issuer.answer.set()
    sessions = Sessions(issuer, clock)
    assert sessions() == "session-1"
    go_on(clock, LIFE - EARLY_SECONDS - 1)
    assert sessions() == "session-1"
    go_on(clock, 1)
    assert sessions() == "session-2"


def asked_by(threads: int, issuer: Issuer) -> list[object]:
    """What so many threads get, the first of which has asked when the others come."""
    sessions = Sessions(issuer, Clock())
    results: list[object] = []

    def ask() -> None:
        try:
            results.append(sessions())
        except Exception as error:  # noqa: BLE001 - the result
            results.append(error)

    started = [threading.Thread(target=ask) for _ in range(threads)]
    started[0].start()
    assert issuer.asked.acquire(timeout=SECONDS)
    for thread in started[1:]:
        thread.start()
    issuer.answer.set()
    for thread in started:
        thread.join(SECONDS)
    return results


def test_threads_that_wait_fail_as_the_one_that_has_asked_but_not_by_the_end_of_its_step() -> None:
    issuer = Issuer()
    issuer.fails = dict.fromkeys(range(1, 5), DOWN)
    assert asked_by(4, issuer) == [DOWN] * 4
    issuer = Issuer()
    issuer.fails = {1: DeadlineExceededError()}
    assert sorted(type(result).__name__ for result in asked_by(2, issuer)) == ["DeadlineExceededError", "str"]


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
    assert "=" not in token
    header, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    assert json.loads(header) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    times = {"iat": NOW.timestamp() - 60, "exp": NOW.timestamp() + 240}
    said = {"iss": "https://i.example.com", "sub": "s", "aud": "a", "jti": "id-1"}
    assert json.loads(claims) == said | times
    digest = hashlib.sha256(token.rpartition(".")[0].encode()).digest()
    key.public_key().verify(signature, digest, padding.PKCS1v15(), prehashed)
    assert seconds_of(token) == 300


def _token(claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.e30"


SAID = _token({"iat": 1, "exp": 2})
NO_CLAIMS: list[object] = [[], {"iat": 1}, {"exp": 2}, {"iat": "1", "exp": 2}, {"iat": True, "exp": 2}]


@pytest.mark.parametrize(
    "token",
    [
        *("", "a.b", "a.b.c.d", "a.!!.c", "é.é.é", "." * 70000, f"{SAID}="),
        *(_token(claims) for claims in (*NO_CLAIMS, {"iat": 1.5, "exp": 2}, {"iat": 0, "exp": 10**400})),
        *(f"e30{bad}.{SAID[4:]}" for bad in ('"', "\r\nhost: another")),
        _token([]).replace("W10", base64.urlsafe_b64encode(b"[" * 3000).decode()),
    ],
)
def test_what_is_no_token_says_nothing(token: str) -> None:
    assert seconds_of(token) is None
