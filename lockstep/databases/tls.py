"""TLS for every driver: without a verified certificate and host name there is no connection (protocol D14)."""

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from lockstep.protocol.errors import DatabaseUnreachableError, TlsVerificationError
from lockstep.protocol.model import DatabaseServer

# The network's doing, though they are SSLErrors: the peer went away in the middle of the handshake.
_CUT_SHORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def ssl_context(server: DatabaseServer) -> ssl.SSLContext | None:
    """How the server's certificate is verified; None where the plan allows plaintext.

    Raises:
        TlsVerificationError: The CA file cannot be read.
    """
    if server.tls is None:
        return None
    ca_file = server.tls.ca_file
    try:
        return _verifying(ca_file, ca_file.stat().st_mtime_ns if ca_file else None)
    except OSError:
        raise TlsVerificationError(database=server.name, path=str(ca_file)) from None


@cache
def _verifying(ca_file: Path | None, _changed_at: int | None) -> ssl.SSLContext:
    """Made once a process for each state of a file: to read certificates takes longer than a login."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def is_tls_failure(error: BaseException | None) -> bool:
    """Whether the certificate or the peer's TLS is what failed, rather than the network."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, _CUT_SHORT)


# A server's certificate, from a TLS handshake as its driver makes it; no login is shown.
#
# MySQL and MariaDB count a handshake without a login as an error of the client's host, until a login from there
# succeeds (`max_connect_errors`, 100 by default).

Open = Callable[[ssl.SSLContext], socket.socket]
"""Connects, up to the TLS handshake: raises OSError, and TlsVerificationError where the server offers no TLS."""


# Why a certificate is not taken: of `{host}`, whose certificate is for `{names}`, and verified by `{ca}`.
_NO_TLS = "the server offers no TLS, so no password is shown to it"
_OTHER_NAME = "its certificate is for {names}, not for {host}"
_UNKNOWN_CA = "{ca} have not signed its certificate"
_OLD_TLS = "its TLS is older than 1.2, or broken"
# https://docs.openssl.org/master/man3/X509_STORE_CTX_get_error/: not yet valid, expired, host name, address.
_BY_CODE = {
    9: "its certificate, or the CA's, is not valid yet by the clock of this place",
    10: "its certificate, or the CA's, has expired by the clock of this place",
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsProbe:
    """What a handshake has shown.

    Attributes:
        version: Of TLS, such as `TLSv1.3`; None where there was no handshake.
        flaw: Why the certificate is not taken; None where it is.
        names: For which the certificate is; empty where it was not read.
        expires_at: None where it was not read.
    """

    version: str | None = None
    flaw: str | None = None
    names: tuple[str, ...] = ()
    expires_at: datetime | None = None


def shake_hands(server: DatabaseServer, tls: ssl.SSLContext, connect: Open) -> TlsProbe:
    """One handshake; a second one, without a look at the name, where the certificate is for another.

    Args:
        server: The server.
        tls: How its certificate is verified.
        connect: Of the engine.

    Raises:
        DatabaseUnreachableError: The server hung up, or did not answer in time.
    """
    try:
        return _shown(connect(tls))
    except TlsVerificationError:
        return TlsProbe(flaw=_NO_TLS)
    except ssl.SSLCertVerificationError as error:
        flaw = _BY_CODE.get(error.verify_code, _UNKNOWN_CA)
        if flaw is not _OTHER_NAME:
            return TlsProbe(flaw=flaw)
    except OSError as error:
        if is_tls_failure(error):
            return TlsProbe(flaw=_OLD_TLS)
        raise DatabaseUnreachableError(database=server.name, code=type(error).__name__) from None
    nameless = ssl.create_default_context(cafile=server.tls.ca_file if server.tls else None)
    nameless.check_hostname = False
    with suppress(OSError, TlsVerificationError):
        shown = _shown(connect(nameless))
        return TlsProbe(flaw=_OTHER_NAME, names=shown.names, expires_at=shown.expires_at)
    return TlsProbe(flaw=_OTHER_NAME)


def _shown(connected: socket.socket) -> TlsProbe:
    with connected:
        if not isinstance(connected, ssl.SSLSocket):
            return TlsProbe(flaw=_NO_TLS)
        certificate: dict[str, Any] = connected.getpeercert() or {}
        names = tuple(str(name) for _, name in certificate.get("subjectAltName", ()))
        expires_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
        return TlsProbe(version=connected.version(), names=names, expires_at=expires_at)
