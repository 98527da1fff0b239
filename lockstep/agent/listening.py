"""Where the agent listens: a port, or a Unix socket."""

import os
import socket
from pathlib import Path

from lockstep.errors import TerminalError

_WAITING = 1024


class ListenError(TerminalError):
    """The agent cannot listen there."""


def listener_of(host: str, port: int, path: Path | None = None) -> socket.socket:
    """A socket that listens: from now on requests wait instead of being refused. One that was left over is replaced.

    Args:
        host: An address of this machine.
        port: 0: a free one.
        path: Of a Unix socket, instead of both.

    Raises:
        ListenError: Another program listens there, or this one may not.
    """
    try:
        listener = _port(host, port) if path is None else _unix_socket(path)
        listener.listen(_WAITING)
    except OSError as error:
        where = str(path or f"{host}:{port}")
        raise ListenError(path=where, code=error.strerror or type(error).__name__) from None
    return listener


def _port(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio would not send small answers at once, and each would wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _unix_socket(path: Path) -> socket.socket:
    with socket.socket(socket.AF_UNIX) as other:
        if other.connect_ex(str(path)) == 0:
            raise FileExistsError(None, "another program listens there")
    if path.is_symlink() or (path.exists() and not path.is_socket()):
        raise FileExistsError(None, "something else is there")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o117)  # Owner and group may connect.
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    return listener
