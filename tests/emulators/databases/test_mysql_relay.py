"""The relay in front of a MySQL server, which the doctor's tests lean on."""

import select
import socket
import struct

from tests.support.mysql_relay import Greeting, relay
from tests.support.peer import peer

SECONDS = 5.0
GREETING = b"\x0a8.4.3\0" + bytes(4 + 8 + 1) + b"\xff\xff" + bytes(32)
PACKET = len(GREETING).to_bytes(3, "little") + b"\0" + GREETING


def _unchanged(greeting: Greeting) -> Greeting:
    return greeting


def _greet_and_wait_for_the_end(connection: socket.socket) -> None:
    connection.sendall(PACKET)
    while connection.recv(1024):
        pass


def test_a_client_that_resets_its_connection_keeps_no_other_waiting() -> None:
    """As a look at a port does on a slow machine: it closes when the greeting has come already."""
    with peer(_greet_and_wait_for_the_end) as server, relay(server, _unchanged) as port:
        looker = socket.create_connection(("127.0.0.1", port), SECONDS)
        assert select.select([looker], [], [], SECONDS)[0]
        looker.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        looker.close()
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            assert client.recv(1024) == PACKET


def test_a_client_that_is_gone_before_it_is_answered_ends_no_peer() -> None:
    def insist(connection: socket.socket) -> None:
        # The first bytes to a closed port bring its refusal, the next ones an error here.
        connection.sendall(b"first")
        connection.recv(1024)
        connection.sendall(b"second")

    with peer(insist) as port:
        gone = socket.create_connection(("127.0.0.1", port), SECONDS)
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1024).startswith(b"first")
