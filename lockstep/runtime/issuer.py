"""A document of an issuer, read as a verifier reads it: by HTTPS, without redirects, within bounds.

It goes through the proxy of this machine, and also trusts the CA file that OCI's SDK trusts.
"""

import base64
import os
import ssl
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from socket import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
)
from lockstep.protocol.ports import Clock

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LIMIT_BYTES = 100_000
WITHIN_SECONDS = 5.0
_OK = 200
_PART = 8192


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
    connection: Any = _connection(parts)
    connection.response_class = _answers(clock, deadline)
    try:
        connection.request("GET", parts.path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status != _OK:
            raise EnvironmentalError(
                Environment.ISSUER_NOT_PUBLIC, host=host, code=answer.status, path=parts.path
            )
        content = b""
        while part := answer.read1(_PART):
            content += part
            if len(content) > LIMIT_BYTES:
                raise EnvironmentalError(
                    Environment.ISSUER_NOT_PUBLIC, host=host, code="too-large", path=parts.path
                )
        if answer.length:  # What was promised and did not come.
            raise EnvironmentalError(Environment.ISSUER_NOT_PUBLIC, host=host, code="cut", path=parts.path)
    # A host with a label that is empty or too long has no name in the DNS, which is a ValueError.
    except (OSError, HTTPException, ValueError) as error:
        raise EnvironmentalError(_problem(error), host=host, code=type(error).__name__) from None
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
        raise EnvironmentalError(Environment.CA_FILE_MISSING) from None
    proxy = None if proxy_bypass(host) else getproxies().get("https")
    if not proxy:
        return HTTPSConnection(host, parts.port, timeout=WITHIN_SECONDS, context=context)
    try:
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = HTTPSConnection(
            through.hostname or "", through.port or 80, timeout=WITHIN_SECONDS, context=context
        )
    except (HTTPException, ValueError):
        raise EnvironmentalError(Environment.PROXY_UNUSABLE, code="HTTPS_PROXY") from None
    login = f"{unquote(through.username or '')}:{unquote(through.password or '')}"
    proof = {"Proxy-Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    connection.set_tunnel(host, parts.port, headers=proof if through.username else {})
    return connection


class _Received(RawIOBase):
    """What a connection receives until a time: each wait has a bound of its own, which many small parts keep.

    Args:
        sock: Of the connection.
        clock: Says when the time is over.
        deadline: By that clock.
    """

    def __init__(self, sock: socket, clock: Clock, deadline: float) -> None:
        self._sock = sock
        # It keeps the socket open until all is read, also where the answer ends the connection.
        self._raw = sock.makefile("rb", buffering=0)
        self._clock = clock
        self._deadline = deadline

    def makefile(self, *_: object) -> BufferedReader:
        """It, as `HTTPResponse` asks a socket for it."""
        return BufferedReader(self)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Read what is there, into a buffer.

        Raises:
            TimeoutError: The time is over.
        """
        left = self._deadline - self._clock.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """End it, and with it the connection."""
        self._raw.close()
        super().close()


def _answers(clock: Clock, deadline: float) -> Callable[..., HTTPResponse]:
    """The class of a connection's answers, which are read in time as a whole."""

    def answer(sock: socket, *arguments: Any, **more: Any) -> HTTPResponse:  # noqa: ANN401 - of the class
        received: Any = _Received(sock, clock, deadline)
        return HTTPResponse(received, *arguments, **more)

    return answer


def _problem(error: Exception) -> Environment:
    is_refused = isinstance(error, ssl.SSLCertVerificationError)
    return Environment.CERTIFICATE_REFUSED if is_refused else Environment.ENDPOINT_UNREACHABLE
