"""Connections are bounded: whoever reaches the port, without a token, takes nothing from stores and files."""

import http.client
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lockstep.agent import server
from tests.agent.harness import BOUND_SECONDS, Address, World, answering

MOST = 20


@pytest.fixture
def agent() -> Iterator[Address]:
    with answering(World().values) as address:
        yield address


def _connected(agent: Address) -> socket.socket:
    return socket.create_connection(("127.0.0.1", agent.port), timeout=BOUND_SECONDS)


def _received(connection: socket.socket) -> bytes:
    found = b""
    while part := connection.recv(4096):
        found += part
    return found


def test_more_connections_than_there_may_be_are_refused(
    agent: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", MOST)
    monkeypatch.setattr(server, "FIRST_REQUEST_SECONDS", 4 * BOUND_SECONDS)
    with ExitStack() as stack:
        for _ in range(MOST):
            stack.enter_context(_connected(agent))
        for _ in range(3):
            with _connected(agent) as refused:
                told = _received(refused)
                assert told.startswith(b"HTTP/1.1 429 ")
                assert told.endswith(b"\r\n\r\nConnection limit exceeded")
    ends_at = time.monotonic() + BOUND_SECONDS
    while agent.get("/ping", token=None).status != 200:  # Until it has seen that they have gone.
        assert time.monotonic() < ends_at


@pytest.mark.parametrize("sent", [b"", b"GET /ping HTT", b"GET /ping HTTP/1.1\r\nHost: a\r\nX-A: "])
def test_a_connection_on_which_nothing_is_asked_ends(
    agent: Address, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST_SECONDS", 0.3)
    with _connected(agent) as connection:
        connection.sendall(sent)
        assert _received(connection) == b""


ASKED = b"GET /ping HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize("before", [b"", ASKED + b"\r\n"], ids=["first", "second"])
@pytest.mark.parametrize(
    ("begun", "part"),
    [
        (b"GET /", b"a"),
        (ASKED + b"X-A: ", b"a"),
        (ASKED, b"X-A: a\r\n"),
        (ASKED + b"Content-Length: 9999999\r\n\r\n", b"a"),
    ],
    ids=["path", "header", "headers", "body"],
)
def test_a_request_that_does_not_end_takes_no_memory(
    agent: Address, before: bytes, begun: bytes, part: bytes
) -> None:
    with _connected(agent) as connection:
        connection.sendall(before + begun)
        with pytest.raises((BrokenPipeError, ConnectionResetError, TimeoutError)):
            connection.sendall(part * (50_000_000 // len(part)))
    # It may be as large as the AWS agent takes it.
    assert agent.get("/ping", token=None, headers={"X-A": "a" * 300 * 1024}).status == 200


def test_a_connection_on_which_something_was_asked_goes_on(
    agent: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FIRST_REQUEST_SECONDS", 1.5)
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=BOUND_SECONDS)
    connection.connect()
    used = connection.sock
    for pause in (0.0, 2.5):
        time.sleep(pause)
        connection.request("GET", "/ping")
        assert connection.getresponse().read() == b"healthy"
        assert connection.sock is used
    connection.close()


def test_half_of_the_file_descriptors_are_left_for_stores_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((256, 128), (1024, 512), (1_048_576, 800), (resource.RLIM_INFINITY, 800)):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, soft=soft: (soft, 1_048_576))
        assert server.most_connections() == most
