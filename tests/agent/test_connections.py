"""Connections are bounded: whoever reaches the port, without a token, takes nothing from stores, files and others."""

import http.client
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lockstep.agent import server
from tests.agent.harness import BOUND_SECONDS, NAME, TOKEN, Address, FakeStore, World, answering

MOST = 20


@pytest.fixture
def agent() -> Iterator[Address]:
    with answering(World().values) as address:
        yield address


def _connected(agent: Address, *sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", agent.port), timeout=BOUND_SECONDS)
    for part in sent:
        connection.sendall(part.replace(b"HOST", f"Host: 127.0.0.1:{agent.port}\r\n".encode()))
    return connection


def _received(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


ASKED = b"GET /ping HTTP/1.1\r\nHOST"
PING = ASKED + b"\r\n"
POST = b"POST /v1/a HTTP/1.1\r\nHOSTContent-Length: 9999999\r\n\r\n"
SILENT = [(), (b"GET /pi",), (ASKED, b"X-A: "), (POST,), (PING, b"GET /"), (PING, ASKED, b"X-A: a\r\n")]


def test_a_client_is_let_in_for_one_that_is_silent(agent: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place is taken, without a token, by those of which nothing whole will ever come; the oldest one goes."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", MOST)
    with ExitStack() as stack:
        silent = [stack.enter_context(_connected(agent, *SILENT[i % len(SILENT)])) for i in range(MOST)]
        agent.get("/ping")
        for _ in range(3):
            began = time.monotonic()
            assert agent.get("/v1/x").status == 404
            assert time.monotonic() - began < 5
        assert _received(silent[0]) == b""


@pytest.mark.parametrize(("bound", "most"), [("MOST_CONNECTIONS", 1), ("DEADLINE_SECONDS", 3.0)])
def test_a_client_that_reads_no_answer_makes_room(
    monkeypatch: pytest.MonkeyPatch, bound: str, most: float
) -> None:
    """Such requests, without a token a few hundred of each connection, would keep every place until the deadline."""
    monkeypatch.setattr(server, bound, most)
    world = World(FakeStore(text="a" * 4_000_000))
    world.value.refresh()
    asked = f"GET /v1/{NAME} HTTP/1.1\r\nHOSTX-Vault-Token: {TOKEN}\r\n\r\n".encode()
    with answering(world.values) as agent, _connected(agent, *[asked] * 20) as deaf:
        assert deaf.recv(1)
        assert agent.get("/v1/x").status == 404
        time.sleep(most)
        assert len(_received(deaf)) < 20 * 4_000_000


def test_where_all_are_being_answered_only_probes_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", MOST)
    world, begun, may_end = World(), threading.Semaphore(0), threading.Event()
    world.value.refresh()

    def slow() -> None:
        begun.release()
        may_end.wait(BOUND_SECONDS)

    monkeypatch.setattr(world.value, "refresh_now", slow)
    asked = f"GET /v1/{NAME}?refreshNow=1 HTTP/1.1\r\nHOSTConnection: close\r\nX-Vault-Token: {TOKEN}\r\n\r\n"
    with answering(world.values) as agent, ExitStack() as stack:
        waiting = [stack.enter_context(_connected(agent, asked.encode())) for _ in range(MOST)]
        assert all(begun.acquire(timeout=BOUND_SECONDS) for _ in waiting)
        for path, status in (("/ping", 200), ("/healthz", 200), (f"/v1/{NAME}", 429), ("/metrics", 429)):
            answer = agent.get(path)
            assert (answer.status, path) == (status, path)
        assert answer.body == "Connection limit exceeded"
        may_end.set()
        assert all(b"version-1" in _received(connection) for connection in waiting)


def test_a_connection_ends_where_no_request_comes(agent: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DEADLINE_SECONDS", 0.3)
    for sent in SILENT:
        with _connected(agent, *sent) as connection:
            assert _received(connection).count(b"HTTP/1.1 ") == (PING in sent or POST in sent)


ENDLESS = [
    ((b"GET /",), b"a"),
    ((ASKED + b"X-A: ",), b"a"),
    ((ASKED,), b"X-A: a\r\n"),
    ((POST,), b"a"),
    ((PING, ASKED), b"X-A: a\r\n"),
]
"""What begins and goes on: the path, a header, the headers, the body, and the headers of a second request."""


def test_a_request_that_does_not_end_takes_no_memory(agent: Address) -> None:
    for begun, part in ENDLESS:
        with _connected(agent, *begun) as connection, pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(part * (50_000_000 // len(part)))
    assert agent.get("/ping", headers={"X-A": "a" * 15 * 1024}).status == 200
    assert agent.get("/ping", headers={f"X-{i}": "a" for i in range(97)}).status == 200  # and three
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        agent.get("/ping", headers={f"X-{i}": "a" for i in range(98)})


def test_a_connection_on_which_something_was_asked_goes_on(
    agent: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its requests has a deadline, and bounds of bytes and lines, of its own."""
    monkeypatch.setattr(server, "DEADLINE_SECONDS", 4.5)
    headers = {f"X-{number}": "a" * 150 for number in range(80)}
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=BOUND_SECONDS)
    connection.connect()
    used = connection.sock
    for pause in (0.0, 2.0, 2.0, 2.0):
        time.sleep(pause)
        connection.request("GET", "/ping", headers=headers)
        assert connection.getresponse().read() == b"healthy"
        assert connection.sock is used
    connection.close()


def test_half_of_the_file_descriptors_are_left_for_stores_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((256, 128), (1024, 512), (1_048_576, 800), (resource.RLIM_INFINITY, 800)):
        monkeypatch.setattr(resource, "getrlimit", lambda _which, soft=soft: (soft, 1_048_576))
        assert server.most_connections() == most
