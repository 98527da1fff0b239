"""No password in the local variables of a traceback, which crash reporters send."""

import asyncio
import json
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

import pymysql
import pytest

from lockstep.client import (
    AsyncCredentialClient,
    ClientCredential,
    CredentialClient,
    StoreSource,
    decode,
    oci_ring_source,
)
from lockstep.client.cache import without_locals
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
    """Every frame of an error and of what it came from, but for those of this file's tests."""
    waiting: list[BaseException | None] = [error]
    seen: list[BaseException] = []
    while waiting:
        one = waiting.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        waiting += [one.__cause__, one.__context__]
        yield from (frame for frame, _ in traceback.walk_tb(one.__traceback__))


def leaks(error: BaseException) -> list[str]:
    """The local variables in which the needle is, as a crash reporter would send them."""
    return [
        f"{frame.f_code.co_qualname}.{name}"
        for frame in frames(error)
        for name, found in frame.f_locals.items()
        if NEEDLE in repr(found)
    ]


def error_of(work: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each test looks at it
        work()
    return caught.value


def text_source(text: str) -> StoreSource[ClientCredential]:
    def read() -> ClientCredential:
        found = text[:]
        return decode(found, store="aws", secret="s")

    return StoreSource("aws", read)


def value() -> ClientCredential:
    return ClientCredential(username="app", password=SecretStr(NEEDLE), generation=1)


def test_the_search_finds_a_password() -> None:
    def read(text: str) -> None:
        raise KeyError(len(text))

    assert leaks(error_of(lambda: read(NEEDLE))) != []


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_decoding(text: str) -> None:
    def call(cell: list[str]) -> None:
        decode(cell.pop(), store="aws", secret="s")

    cell = [text]
    error = error_of(lambda: call(cell))
    assert isinstance(error, LockstepError)
    assert leaks(error) == []


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_reading(text: str) -> None:
    source = text_source(text)
    assert leaks(error_of(source)) == []
    assert leaks(error_of(CredentialClient([source]).get)) == []
    client = AsyncCredentialClient(CredentialClient([source]))
    assert leaks(error_of(lambda: asyncio.run(client.get()))) == []


def test_a_defect_of_a_source() -> None:
    def read() -> ClientCredential:
        text = NEEDLE
        raise KeyError(len(text))

    error = error_of(CredentialClient([read]).get)
    assert leaks(error) == []
    assert "read" in [frame.f_code.co_name for frame in frames(error)]  # It shows where it was.


def test_a_refused_login() -> None:
    def connect(credential: ClientCredential) -> None:
        password = credential.password.reveal()
        raise RefusedError(len(password))

    client = CredentialClient([value])
    assert leaks(error_of(lambda: client.login(connect, is_refusal))) == []

    async def connect_async(credential: ClientCredential) -> None:
        connect(credential)

    face = AsyncCredentialClient(client)
    assert leaks(error_of(lambda: asyncio.run(face.login(connect_async, is_refusal)))) == []


def test_a_refused_login_after_which_no_store_answers() -> None:
    reads: list[int] = []

    def read() -> ClientCredential:
        if reads:
            password = NEEDLE
            raise StoreUnreachableError(code=len(password))
        reads.append(1)
        return value()

    def connect(credential: ClientCredential) -> None:
        password = credential.password.reveal()
        raise RefusedError(len(password))

    client = CredentialClient([read])
    error = error_of(lambda: client.login(connect, is_refusal))
    assert isinstance(error.__cause__, StoreUnreachableError)
    assert leaks(error) == []


def test_a_drivers_error() -> None:
    """PyMySQL keeps the password in a local variable of its own frames; those below `login` are cleared, too."""

    def connect(credential: ClientCredential) -> None:
        pymysql.connect(host="127.0.0.1", port=1, user="app", password=credential.password.reveal())

    assert leaks(error_of(lambda: connect(value()))) != []
    client = CredentialClient([value])
    error = error_of(lambda: client.login(connect, is_refusal))
    assert isinstance(error, pymysql.OperationalError)
    assert leaks(error) == []


def test_what_a_caller_handles_keeps_its_variables() -> None:
    def fail() -> None:
        kept = 7
        raise KeyError(kept)

    def begin() -> None:
        raise ValueError

    try:
        fail()
    except KeyError as handled:
        with pytest.raises(ValueError), without_locals():  # noqa: PT011 - the error is of this test
            begin()
        [inner] = [f for f, _ in traceback.walk_tb(handled.__traceback__) if f.f_code.co_name == "fail"]
        assert inner.f_locals == {"kept": 7}


def test_each_error_of_a_group_is_cleared() -> None:
    def fail() -> None:
        password = NEEDLE
        raise KeyError(len(password))

    def fail_together() -> None:
        try:
            fail()
        except KeyError as e:
            raise ExceptionGroup("both", [e]) from None

    def begin() -> None:
        with without_locals():
            fail_together()

    group = error_of(begin)
    assert isinstance(group, ExceptionGroup)
    assert leaks(group) == leaks(group.exceptions[0]) == []


def test_a_wrong_use_of_a_source_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError):
        oci_ring_source("s")  # type: ignore[call-arg]
