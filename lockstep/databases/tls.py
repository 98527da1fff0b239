"""TLS for every driver: without a verified certificate and host name there is no connection (protocol D14)."""

import ssl
from functools import cache
from pathlib import Path

from lockstep.errors import TlsVerificationError
from lockstep.model import DatabaseServer

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
