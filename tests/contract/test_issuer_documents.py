"""How the issuer's documents are read: through the machine's proxy, in time, and from nobody else."""

import base64
import socket
from collections.abc import Iterator

import pytest

from lockstep.protocol.errors import Environment, EnvironmentalError
from lockstep.runtime import issuer as reading
from lockstep.runtime.issuer import read_document
from lockstep.runtime.system import SystemClock
from sandbox.emulators.oci.names import Names, Trouble
from sandbox.emulators.oci.wire import Reply
from tests.support.peer import delegate, peer


@pytest.fixture(name="names")
def _names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    with Names() as found:
        found.serve("localhost", lambda _: Reply(200, body=b"{}"))
        monkeypatch.setenv("SSL_CERT_FILE", str(found.ca_file))
        yield found


def test_a_document_is_read_through_the_machines_proxy(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def serve(client: socket.socket) -> None:
        asked.append(client.recv(4096))
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", names.port)) as server:
            delegate(client, server)

    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(names.ca_file))
    with peer(serve) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:a%20word@127.0.0.1:{port}")
        assert read_document("https://localhost/o/jwks.json", SystemClock()) == b"{}"
    [request] = asked
    assert request.startswith(b"CONNECT localhost:443 HTTP/1.")
    assert base64.b64encode(b"me:a word") in request


@pytest.mark.parametrize(
    ("trouble", "problem"),
    [
        (Trouble.SILENT, Environment.ENDPOINT_UNREACHABLE),
        (Trouble.SLOW, None),
        (Trouble.CUT, None),
        (Trouble.HUGE, Environment.ISSUER_NOT_PUBLIC),
        (Trouble.WRONG_CERTIFICATE, Environment.CERTIFICATE_REFUSED),
        (Trouble.EXPIRED_CERTIFICATE, Environment.CERTIFICATE_REFUSED),
        (Trouble.UNKNOWN_AUTHORITY, Environment.CERTIFICATE_REFUSED),
        (Trouble.REDIRECT, Environment.ISSUER_NOT_PUBLIC),
        (Trouble.NOT_FOUND, Environment.ISSUER_NOT_PUBLIC),
    ],
)
def test_what_a_verifier_would_not_take_is_not_taken(
    names: Names, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, problem: Environment | None
) -> None:
    if trouble in {Trouble.SILENT, Trouble.SLOW}:
        monkeypatch.setattr(reading, "WITHIN_SECONDS", 1.0)
    if trouble in {Trouble.SLOW, Trouble.CUT}:
        names.serve("localhost", lambda _: Reply(200, body=b"x" * 5000))
    names.troubles["localhost"] = trouble
    clock = SystemClock()
    begin = clock.monotonic()
    with pytest.raises(EnvironmentalError) as caught:
        read_document(f"https://localhost:{names.port}/o/jwks.json", clock)
    assert problem in {None, caught.value.problem}
    assert clock.monotonic() - begin < 5
