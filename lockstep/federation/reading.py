"""A document of an issuer, read as a verifier reads it: by HTTPS, without redirects, within bounds.

It goes through the proxy of this machine, and also trusts the CA file that OCI's SDK trusts.
"""

import base64
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event, Thread
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from lockstep.environment import (
    CaFileMissingError,
    CertificateRefusedError,
    EndpointUnreachableError,
    EnvironmentalError,
    IssuerNotPublicError,
    ProxyUnusableError,
)
from lockstep.ports import Clock

LIMIT_BYTES = 100_000
WITHIN_SECONDS = 5.0
_OK = 200
_PART = 8192
_AGAIN_SECONDS = 0.1


def served_at(issuer: str, elsewhere: str | None) -> str:
    """Where an issuer's documents are read: at its own address, or where everything of OCI is."""
    if elsewhere is None:
        return issuer
    return f"{elsewhere}/{issuer.removeprefix('https://').partition('/')[2]}"


def read_document(url: str, clock: Clock) -> bytes:
    """A document; nothing proves who reads it.

    Args:
        url: Its address; one by HTTP is read, too, which only an emulator has.
        clock: Says when it takes too long.

    Raises:
        EnvironmentalError: It cannot be had within `WITHIN_SECONDS`, or has more than `LIMIT_BYTES`.
    """
    parts = urlsplit(url)
    host, deadline = parts.hostname or "", clock.monotonic() + WITHIN_SECONDS
    connection = _connection(parts)
    try:
        with _ended_in_time(connection):
            connection.request("GET", parts.path, headers={"Accept": "application/json"})
            answer = connection.getresponse()
        if answer.status != _OK:
            raise IssuerNotPublicError(host=host, code=answer.status, path=parts.path)
        content = b""
        while len(content) <= LIMIT_BYTES and clock.monotonic() <= deadline:
            if not (part := answer.read1(_PART)):
                break
            content += part
        else:
            raise IssuerNotPublicError(host=host, code="too-large-or-slow", path=parts.path)
        if answer.length:  # What was promised and did not come.
            raise IssuerNotPublicError(host=host, code="cut", path=parts.path)
    # A host with a label that is empty or too long has no name in the DNS, which is a ValueError.
    except (OSError, HTTPException, ValueError) as error:
        raise _problem(error)(host=host, code=type(error).__name__) from None
    finally:
        connection.close()
    return content


def _connection(parts: SplitResult) -> HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme != "https":
        return HTTPConnection(host, parts.port, timeout=WITHIN_SECONDS)
    try:
        context = ssl.create_default_context()
        if file := os.environ.get("REQUESTS_CA_BUNDLE"):
            context.load_verify_locations(file)
    except OSError:
        raise CaFileMissingError from None
    proxy = None if proxy_bypass(host) else getproxies().get("https")
    if not proxy:
        return HTTPSConnection(host, parts.port, timeout=WITHIN_SECONDS, context=context)
    try:
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = HTTPSConnection(
            through.hostname or "", through.port or 80, timeout=WITHIN_SECONDS, context=context
        )
    except (HTTPException, ValueError):
        raise ProxyUnusableError(code="HTTPS_PROXY") from None
    login = f"{unquote(through.username or '')}:{unquote(through.password or '')}"
    proof = {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    connection.set_tunnel(host, parts.port, headers=proof if through.username else {})
    return connection


@contextmanager
def _ended_in_time(connection: HTTPConnection) -> Iterator[None]:
    """The connection ends once the time is over. Each wait has a bound of its own, which many small parts keep."""
    is_over = Event()
    Thread(target=_end, args=[connection, WITHIN_SECONDS, is_over], daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _end(connection: HTTPConnection, seconds: float, is_over: Event) -> None:
    while not is_over.wait(seconds):
        seconds = _AGAIN_SECONDS  # During a handshake it has no socket that could be ended.
        # Not `SSLSocket.shutdown`, which takes the TLS away from who is reading.
        with suppress(OSError, TypeError):
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)


def _problem(error: Exception) -> type[EnvironmentalError]:
    is_refused = isinstance(error, ssl.SSLCertVerificationError)
    return CertificateRefusedError if is_refused else EndpointUnreachableError
