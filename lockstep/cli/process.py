"""What the command is to the system that runs it: its streams, and how it ends."""

import io
import os
import signal
import sys
from collections.abc import Callable
from typing import TextIO, TypeVar

from lockstep.cli.app import app
from lockstep.cli.output import tell

BROKEN_PIPE_STATUS = 128 + signal.SIGPIPE
"""The status of a program that SIGPIPE has ended. The signal itself stays ignored: it would also end a program whose
peer has closed a connection."""

STANDARD_ERROR = 2

T = TypeVar("T")


class _Stream(io.TextIOWrapper):
    """A stream that ends the program, silently, when its reader has gone.

    What standard error does not take is lost: there is nowhere to tell that, and the exit code stays.
    """

    def write(self, text: str, /) -> int:
        return self._done(super().write, text)

    def flush(self) -> None:
        self._done(super().flush)

    def _done(self, act: Callable[..., T], *text: str) -> T:
        try:
            return act(*text)
        except BrokenPipeError:
            _discard(self.fileno())  # What is left in the buffer is written once more at exit.
            raise SystemExit(BROKEN_PIPE_STATUS) from None
        except OSError:
            if self.fileno() != STANDARD_ERROR:
                raise
            _discard(STANDARD_ERROR)
            return act(*text)


def run() -> None:
    """Run the command line with the process's own arguments and streams, and exit."""
    _open_what_is_closed()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # Who reads it judges what is no text.
    sys.stdout, sys.stderr = _wrapped(sys.stdout), _wrapped(sys.stderr)
    try:
        app()
    except SystemExit as ended:
        raise SystemExit(_flushed(ended)) from None


def _open_what_is_closed() -> None:
    """A file that is opened later, such as a connection, must not become standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free.
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - the process's own
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - likewise


def _wrapped(stream: TextIO) -> _Stream:
    """The same stream; a character that its encoding lacks is shown as an escape."""
    is_terminal = stream.isatty()
    return _Stream(
        stream.detach(),  # type: ignore[attr-defined]  # of every stream that the interpreter opens
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=is_terminal,
    )


def _flushed(ended: SystemExit) -> int | str | None:
    """The exit code, once everything is written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _discard(1)
        return int(tell(error))
    return ended.code


def _discard(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
