"""How the issuer's documents are read: through the machine's proxy, in time, and from nobody else.

One that is cut is another one than the command has written, which it says itself.
"""

import base64
import socket
from collections.abc import Iterator

import pytest

from lockstep.plan.published import WholePlan
from lockstep.protocol.deadlines import CloudTimeouts, Timeouts
from lockstep.protocol.errors import Environment, EnvironmentalError
from lockstep.runtime.clouds import Clouds
from lockstep.runtime.federation import read_document
from lockstep.runtime.identity import DEPLOYER
from lockstep.runtime.system import SystemClock
from sandbox.emulators.oci.names import Names, Trouble
from sandbox.emulators.oci.wire import Reply
from tests.support.memory import make_plan
from tests.support.peer import delegate, peer

HASTY = Timeouts(cloud=CloudTimeouts(read_seconds=1.0))


@pytest.fixture(name="names")
def _names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    with Names() as found:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(found.ca_file))
        found.serve("localhost", lambda _: Reply(200, body=b"x" * 5000))
        yield found


def read(port: int) -> bytes:
    clouds = Clouds(WholePlan(make_plan().compiled), DEPLOYER, timeouts=HASTY)
    return read_document(f"https://localhost:{port}/o/jwks.json", clouds)


def test_a_document_is_read_through_the_machines_proxy(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def serve(client: socket.socket) -> None:
        asked.append(client.recv(4096))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", names.port)) as server:
            delegate(client, server)

    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with peer(serve) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:a%20word@127.0.0.1:{port}")
        assert read(443) == b"x" * 5000
    [request] = asked
    assert request.startswith(b"CONNECT localhost:443 HTTP/1.")
    assert base64.b64encode(b"me:a word") in request


def test_what_a_verifier_would_not_take_is_not_taken(names: Names) -> None:
    for trouble, problem in {
        Trouble.SILENT: Environment.ENDPOINT_UNREACHABLE,
        Trouble.SLOW: Environment.ISSUER_NOT_PUBLIC,
        Trouble.HUGE: Environment.ISSUER_NOT_PUBLIC,
        Trouble.WRONG_CERTIFICATE: Environment.CERTIFICATE_REFUSED,
        Trouble.EXPIRED_CERTIFICATE: Environment.CERTIFICATE_REFUSED,
        Trouble.UNKNOWN_AUTHORITY: Environment.CERTIFICATE_REFUSED,
        Trouble.REDIRECT: Environment.ISSUER_NOT_PUBLIC,
        Trouble.NOT_FOUND: Environment.ISSUER_NOT_PUBLIC,
    }.items():
        names.troubles["localhost"] = trouble
        began = SystemClock().monotonic()
        with pytest.raises(EnvironmentalError) as caught:
            read(names.port)
        assert caught.value.problem is problem, trouble
        assert SystemClock().monotonic() - began < 5, trouble
