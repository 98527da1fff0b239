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

T = TypeVar("T")


class _Piped(io.TextIOWrapper):
    """A stream that ends the program, silently, when its reader has gone."""

    def write(self, text: str, /) -> int:
        return self._or_end(lambda: super(_Piped, self).write(text))

    def flush(self) -> None:
        self._or_end(super().flush)

    def _or_end(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except BrokenPipeError:
            _discard(self.fileno())  # What is left in the buffer is written once more at exit.
            raise SystemExit(BROKEN_PIPE_STATUS) from None


class _Told(_Piped):
    """Standard error. What it does not take is lost: there is nowhere to tell that, and the exit code stays."""

    def _or_end(self, act: Callable[[], T]) -> T:
        try:
            return super()._or_end(act)
        except OSError:
            _discard(self.fileno())
            return super()._or_end(act)


def run() -> None:
    """Run the command line with the process's own arguments and streams, and exit."""
    _open_what_is_closed()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # Who reads it judges what is no text.
    sys.stdout, sys.stderr = _piped(sys.stdout, _Piped), _piped(sys.stderr, _Told)
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


def _piped(stream: TextIO, kind: type[_Piped]) -> TextIO:
    """The same stream; a character that its encoding lacks is shown as an escape."""
    is_terminal = stream.isatty()
    return kind(
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
