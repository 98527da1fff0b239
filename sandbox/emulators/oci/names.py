"""HTTPS servers that are known by host name, all on one port of the loopback interface.

In AWS and in OCI a verifier of tokens reads an issuer's documents by its name. `Names.fetch` is such a reader: it
reaches only the names that are served here, checks their certificates, and gives up in time.
"""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum, auto
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

import trustme

from sandbox.emulators.oci.wire import HttpServer, Reply, Request

LIMIT_BYTES: Final = 100_000
"""What a document may have, see `Names.fetch`."""
WITHIN_SECONDS: Final = 2.0
"""How long `Names.fetch` waits for all of a document."""
_HEADERS_BYTES: Final = 16_384
_TRICKLE_SECONDS: Final = 0.05
_LOOPBACK: Final = "127.0.0.1"
# trustme takes naive times and means UTC.
_LONG_AGO: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - see above
_A_YEAR: Final = timedelta(days=365)


class Trouble(Enum):
    """What may be wrong with a name."""

    REFUSED = auto()
    """The name resolves, but nothing listens."""
    SILENT = auto()
    """It takes the connection and says nothing."""
    SLOW = auto()
    """It sends one byte after the other, each in time."""
    CUT = auto()
    """It closes the connection in the middle of the document."""
    HUGE = auto()
    """Its document does not end before the limit of `fetch`."""
    WRONG_CERTIFICATE = auto()
    """Its certificate is valid, but for another name."""
    EXPIRED_CERTIFICATE = auto()
    UNKNOWN_AUTHORITY = auto()
    """Its certificate is of an authority that the reader does not trust."""
    REDIRECT = auto()
    """It names the same document at another address."""
    NOT_FOUND = auto()


class FetchError(Exception):
    """A document could not be read; the text says why.

    Attributes:
        is_answered: Whether the server answered, with something else than the document.
    """

    def __init__(self, text: str, *, is_answered: bool = False) -> None:
        super().__init__(text)
        self.is_answered = is_answered


Respond = Callable[[str], Reply]
"""Answers a GET of a target, which is the path and query of the URL as they came."""


class Names:
    """Host names with HTTPS servers of their own; nothing listens before the first one is served.

    Attributes:
        troubles: What is wrong with a name; may be changed at any time.
    """

    def __init__(self) -> None:
        """Know no name."""
        self.troubles: dict[str, Trouble] = {}
        self._authority = trustme.CA()
        self._folder: TemporaryDirectory[str] | None = None
        self._responders: dict[str, Respond] = {}
        self._contexts: dict[tuple[str, Trouble | None], ssl.SSLContext] = {}
        self._server: HttpServer | None = None
        self._stopped = Event()
        self._lock = Lock()

    def serve(self, host: str, respond: Respond) -> None:
        """Answer for a name, in place of whoever did before.

        Args:
            host: In lower case, without a port.
            respond: Called from many threads.
        """
        with self._lock:
            self._responders[host] = respond
            if self._server is None:
                self._stopped = Event()
                self._server = HttpServer(self._reply, context=self._chosen_by_name())
                self._server.start()

    def forget(self, host: str) -> None:
        """From now on the name does not resolve."""
        with self._lock:
            self._responders.pop(host, None)

    def stop(self) -> None:
        """Forget all names and stop listening. May be called again; `serve` starts it again."""
        with self._lock:
            self._responders.clear()
            self._contexts.clear()
            server, self._server = self._server, None
            folder, self._folder = self._folder, None
        self._stopped.set()
        if server:
            server.stop()
        if folder:
            folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority, as PEM, for readers other than `fetch`."""
        with self._lock:
            self._folder = self._folder or TemporaryDirectory(prefix="sandbox-names-")
            file = Path(self._folder.name) / "ca.pem"
            self._authority.cert_pem.write_to_path(file)
            return file

    @property
    def port(self) -> int:
        """The loopback port of all names; the server tells them apart by the name in the TLS handshake.

        Raises:
            RuntimeError: No name is served.
        """
        if self._server is None:
            raise RuntimeError("no name is served")
        return self._server.port

    def fetch(self, url: str, *, within_seconds: float = WITHIN_SECONDS) -> bytes:
        """Read a document by its name: over TLS alone, without following a redirect.

        Args:
            url: With `https` and a host name, without a port.
            within_seconds: For all of it, from the connection to the last byte.

        Raises:
            FetchError: It is not such a URL, the name is not known, its certificate is wrong, or it does not answer
                with the whole document.
        """
        parts = _checked(url)
        host = str(parts.hostname)
        with self._lock:
            if host not in self._responders or self._server is None:
                raise FetchError(f"{host} does not resolve")
            port = 0 if self.troubles.get(host) is Trouble.REFUSED else self._server.port
            context = ssl.create_default_context()
            self._authority.configure_trust(context)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        deadline = time.monotonic() + within_seconds
        try:
            return _document(url, _exchange(host, port, context, target, deadline))
        except ssl.SSLCertVerificationError as error:
            raise FetchError(f"the certificate of {host} is not valid: {error.verify_message}") from error
        except TimeoutError as error:
            raise FetchError(f"{host} did not answer within {within_seconds:g} s") from error
        except (OSError, HTTPException) as error:
            raise FetchError(f"{host} could not be read: {type(error).__name__}") from error

    def _reply(self, request: Request) -> Reply | None:
        host = request.headers["host"].partition(":")[0]
        trouble = self.troubles.get(host)
        if trouble is Trouble.SILENT:
            self._stopped.wait(10.0)
            return None
        with self._lock:
            respond = self._responders.get(host)
        reply = _troubled(trouble, host, request.target) or (
            respond(request.target) if respond else Reply(404)
        )
        slowly = _TRICKLE_SECONDS if trouble is Trouble.SLOW else 0
        return replace(reply, is_cut=trouble is Trouble.CUT, trickle_seconds=slowly)

    def _chosen_by_name(self) -> ssl.SSLContext:
        """Shakes hands as the name that the client asks for."""

        def chosen(connection: ssl.SSLSocket | ssl.SSLObject, host: str | None, _: object) -> int | None:
            try:
                connection.context = self.context_of(host or "")
            except LookupError:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            return None

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.sni_callback = chosen
        return context

    def context_of(self, host: str) -> ssl.SSLContext:
        """The TLS context of a served name, with the certificate that it shows now.

        Raises:
            LookupError: The name is not served.
        """
        trouble = self.troubles.get(host)
        with self._lock:
            if host not in self._responders:
                raise LookupError(host)
            if (host, trouble) not in self._contexts:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                self._certificate(host, trouble).configure_cert(context)
                self._contexts[host, trouble] = context
            return self._contexts[host, trouble]

    def _certificate(self, host: str, trouble: Trouble | None) -> trustme.LeafCert:
        match trouble:
            case Trouble.WRONG_CERTIFICATE:
                return self._authority.issue_cert(f"not-{host}")
            case Trouble.EXPIRED_CERTIFICATE:
                return self._authority.issue_cert(host, not_before=_LONG_AGO, not_after=_LONG_AGO + _A_YEAR)
            case Trouble.UNKNOWN_AUTHORITY:
                return trustme.CA().issue_cert(host)
        return self._authority.issue_cert(host)


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        has_port = parts.port is not None or parts.netloc.endswith(":")
    except ValueError as error:
        raise FetchError("not a URL") from error
    if parts.scheme != "https":
        raise FetchError("the URL is not https")
    if not parts.hostname or has_port or "@" in parts.netloc or parts.fragment:
        raise FetchError("the URL has no host, or a port, a user or a fragment")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise FetchError("the URL has characters that must be encoded")
    return parts


def _exchange(host: str, port: int, context: ssl.SSLContext, target: str, deadline: float) -> bytes:
    """All that the server sends, or more than a document and its headers may have.

    Raises:
        OSError: It cannot be reached, or its certificate is wrong.
        TimeoutError: The deadline has passed.
    """
    with (
        socket.create_connection((_LOOPBACK, port), timeout=_remaining(deadline)) as plain,
        context.wrap_socket(plain, server_hostname=host) as secure,
    ):
        headers = f"Host: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
        secure.sendall(f"GET {target} HTTP/1.1\r\n{headers}".encode("ascii"))
        read = bytearray()
        while len(read) <= LIMIT_BYTES + _HEADERS_BYTES:
            secure.settimeout(_remaining(deadline))
            some = secure.recv(65_536)
            if not some:
                break
            read += some
        return bytes(read)


def _remaining(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


class _Received:
    """What was received, as the part of a socket that `HTTPResponse` reads."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, *_: object, **__: object) -> BytesIO:
        """The bytes as a file."""
        return BytesIO(self._raw)


def _document(url: str, raw: bytes) -> bytes:
    """The body of a 200.

    Raises:
        FetchError: It is another status, or too long.
        HTTPException: It is no whole answer of HTTP.
    """
    response = HTTPResponse(_Received(raw), method="GET")  # type: ignore[arg-type]  # it calls nothing but makefile
    response.begin()
    if response.status != 200:  # noqa: PLR2004 - the status of HTTP
        raise FetchError(f"{url} answered with status {response.status}", is_answered=True)
    if (response.length or 0) > LIMIT_BYTES or len(body := response.read()) > LIMIT_BYTES:
        raise FetchError(f"{url} has more than {LIMIT_BYTES} bytes", is_answered=True)
    return body


def _troubled(trouble: Trouble | None, host: str, target: str) -> Reply | None:
    match trouble:
        case Trouble.REDIRECT:
            return Reply(302, {"Location": f"https://{host}{target}?again"})
        case Trouble.NOT_FOUND:
            return Reply(404)
        case Trouble.HUGE:
            return Reply(200, body=b" " * (10 * LIMIT_BYTES))
    return None
