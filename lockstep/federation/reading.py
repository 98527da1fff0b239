"""A document of an issuer, read as a verifier reads it: by HTTPS, without redirects, within bounds."""

import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from lockstep.environment import (
    CertificateRefusedError,
    EndpointUnreachableError,
    EnvironmentalError,
    IssuerNotPublicError,
)
from lockstep.ports import Clock

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
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(host, parts.port, timeout=WITHIN_SECONDS)
    try:
        connection.request("GET", parts.path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status != _OK:
            raise IssuerNotPublicError(host=host, code=answer.status, path=parts.path)
        content = b""
        while part := answer.read1(_PART):
            content += part
            if len(content) > LIMIT_BYTES or clock.monotonic() > deadline:
                raise IssuerNotPublicError(host=host, code="too-large-or-slow", path=parts.path)
        if answer.length:  # What was promised and did not come.
            raise IssuerNotPublicError(host=host, code="cut", path=parts.path)
    except (OSError, HTTPException) as error:
        raise _problem(error)(host=host, code=type(error).__name__) from None
    finally:
        connection.close()
    return content


def _problem(error: Exception) -> type[EnvironmentalError]:
    return CertificateRefusedError if isinstance(error, ssl.SSLError) else EndpointUnreachableError
