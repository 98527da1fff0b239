"""No password in the local variables of a traceback, which crash reporters send."""

import asyncio
import json
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from lockstep.client import AsyncCredentialClient, ClientCredential, CredentialClient
from lockstep.client.cache import StoreSource, decode, without_locals
from lockstep.protocol.errors import LockstepError, StoreUnreachableError
from lockstep.protocol.model import SecretStr
from tests.unit.client_world import RefusedError, is_refusal

NEEDLE = "needle-in-a-haystack"
TEXTS = {
    "malformed": f'{{"username": 7, "password": "{NEEDLE}"}}',
    "not JSON": f"password={NEEDLE}",
    "a list": json.dumps([NEEDLE]),
    "placeholder": json.dumps({"placeholder": True, "note": NEEDLE}),
    "newer format": json.dumps({"login": NEEDLE, "format": 99}),
}


def frames(error: BaseException) -> Iterator[FrameType]:
    """Every frame of an error and of what it came from."""
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        waiting += [one.__cause__, one.__context__]
        yield from (frame for frame, _ in traceback.walk_tb(one.__traceback__))


def error_of(work: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each test looks at it
        work()
    return caught.value


def leaks(error: BaseException) -> list[str]:
    """The local variables in which the needle is, as a crash reporter would send them."""
    return [
        f"{frame.f_code.co_qualname}.{name}"
        for frame in frames(error)
        for name, found in frame.f_locals.items()
        if NEEDLE in repr(found)
    ]


def value(generation: int = 1) -> ClientCredential:
    return ClientCredential(username="app", password=SecretStr(NEEDLE), generation=generation)


def fail(error: type[Exception] = KeyError) -> None:
    """With a password in a variable, as a driver has it."""
    password = NEEDLE
    raise error(len(password))


def connect(credential: ClientCredential) -> None:
    password = credential.password.reveal()
    raise RefusedError(len(password))


async def connect_async(credential: ClientCredential) -> None:
    connect(credential)


def read() -> ClientCredential:
    fail()
    return value()


def once() -> Iterator[ClientCredential]:
    """A store that answers the first time."""
    yield value()
    fail(StoreUnreachableError)


def refused(source: Callable[[], ClientCredential]) -> Callable[[], object]:
    return lambda: CredentialClient([source]).login(connect, is_refusal)


def refused_in_a_loop(source: Callable[[], ClientCredential]) -> Callable[[], object]:
    client = AsyncCredentialClient(CredentialClient([source]))
    return lambda: asyncio.run(client.login(connect_async, is_refusal))


def fail_in_a_group() -> None:
    try:
        fail()
    except KeyError as e:
        raise ExceptionGroup("both", [e]) from None


def cleared(work: Callable[[], None]) -> None:
    with without_locals():
        work()


FAILURES: dict[str, Callable[[], object]] = {
    "a defect of a source": CredentialClient([read]).get,
    "a refused login": refused(value),
    "a refused login of a loop": refused_in_a_loop(value),
    "a login that is refused twice": refused(iter([value(1), value(2)]).__next__),
    "a login of a loop that is refused twice": refused_in_a_loop(iter([value(1), value(2)]).__next__),
    "a refused login after which no store answers": refused(once().__next__),
    "another error of a driver": lambda: CredentialClient([value]).login(lambda _: fail(), is_refusal),
    "several errors": lambda: cleared(fail_in_a_group),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_shows_no_password(failure: str) -> None:
    error = error_of(FAILURES[failure])
    assert leaks(error) == []
    group = error.exceptions if isinstance(error, ExceptionGroup) else ()
    assert [leaks(one) for one in group] == [[]] * len(group)
    assert any(frame.f_code.co_name in {"fail", "connect", "fail_in_a_group"} for frame in frames(error)), (
        "it shows where it was"
    )
    assert leaks(error_of(fail)) == ["fail.password"], "the search finds a password"


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_reading_shows_no_password(text: str) -> None:
    def decoded() -> ClientCredential:
        return decode(text[:], store="aws", secret="s")

    source = StoreSource("aws", decoded)
    client = CredentialClient([source])
    for work in (source, client.get, lambda: asyncio.run(AsyncCredentialClient(client).get())):
        error = error_of(work)
        assert isinstance(error, LockstepError)
        assert [name for name in leaks(error) if "<lambda>" not in name] == []


def test_what_a_caller_handles_keeps_its_variables() -> None:
    def begin() -> None:
        raise ValueError

    kept: list[BaseException] = []
    try:
        fail()
    except KeyError as handled:
        with pytest.raises(ValueError), without_locals():  # noqa: PT011 - the error is of this test
            begin()
        kept.append(handled)
    assert leaks(kept[0]) == ["fail.password"]
