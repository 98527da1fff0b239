"""How the command fails: the one place that turns errors into a line, an exit code and, with `--json`, a document.

Commands raise and do not catch. A negative answer is an exit code of the command and no error, except where a write was
refused; so any other error means that something was unreachable.
"""

import signal
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from lockstep.cli.documents import Error
from lockstep.cli.output import Exit, answer, complain, no, refuse
from lockstep.environment import (
    EnvironmentalError,
    FileRefusedError,
    OciExtraMissingError,
    line_of,
    told,
)
from lockstep.errors import (
    AccountOwnedError,
    FenceLostError,
    HandOverRefusedError,
    InvalidPlanError,
    LockstepError,
    OrderRefusedError,
    UnexpectedError,
    UnknownUsernameError,
    family,
)

_PACKAGE = Path(__file__).parents[1]
_ANSWERS = (
    FenceLostError,
    OrderRefusedError,
    AccountOwnedError,
    HandOverRefusedError,
    UnknownUsernameError,
)
"""Errors that are a negative answer to a write."""

INTERRUPTED_STATUS = 128 + signal.SIGINT
"""The status of a program that Ctrl-C has ended."""
_INTERRUPTED = Error(name="Interrupted", meaning="ended by Ctrl-C")
_UNTOLD = Error(name="NoAnswer", meaning="it ended without an answer; standard error says why")
"""For a command that has given no document, whatever it was that ended it."""


def exit_code_of(kind: type[LockstepError]) -> Exit:
    """The exit code of an error."""
    if issubclass(kind, EnvironmentalError):
        return Exit.UNREACHABLE
    if issubclass(kind, InvalidPlanError):
        return Exit.USAGE
    return Exit.NO if issubclass(kind, _ANSWERS) else Exit.UNREACHABLE


def code_of(error: LockstepError) -> Exit:
    """The exit code of what a person is told of an error."""
    return exit_code_of(type(told(error)))


def tell(error: Exception) -> Exit:
    """Tell the person, or the program, about an error; the exit code."""
    ours = in_our_words(error)
    code = code_of(ours)
    complain(line_of(ours))
    refuse(code, document(ours))
    return code


def document(error: LockstepError) -> Error:
    """An error for other programs."""
    shown = told(error)
    return Error(
        name=type(shown).__name__,
        meaning=(type(shown).__doc__ or "").strip(),
        where=shown.where,
        next=shown.advice or None,
        during=None if shown is error else type(error).__name__,
    )


def advice_of(name: str | None) -> str | None:
    """What mends an error that a run ended with, by the error's name."""
    return {kind.__name__: kind.advice for kind in family(LockstepError)}.get(name or "") or None


def in_our_words(error: Exception) -> LockstepError:
    """The error of ours that stands for any error."""
    if isinstance(error, LockstepError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name == "oci":
        return OciExtraMissingError()
    if isinstance(error, OSError) and (error.filename is not None or error.errno is not None):
        return FileRefusedError(path=str(error.filename or "standard output"), code=str(error.strerror))
    # Where, but never what: its text may hold a secret.
    ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_PACKAGE)]
    place = f"{Path(ours[-1].filename).relative_to(_PACKAGE)}:{ours[-1].lineno}" if ours else "?"
    return UnexpectedError(code=type(error).__name__, path=place)


class Root(TyperGroup):
    """The command, which never ends with a traceback."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002, FBT001, FBT002 - likewise
        windows_expand_args: bool = True,  # noqa: ARG002, FBT001, FBT002 - likewise
        **extra: Any,  # noqa: ANN401 - likewise
    ) -> NoReturn:
        """Run it and exit."""
        with answer(args) as words:
            code = int(self._ended(words, prog_name or "lockstep", complete_var, extra))
            if code:
                refuse(code, _INTERRUPTED if code == INTERRUPTED_STATUS else _UNTOLD)
            raise SystemExit(code)

    def _ended(
        self,
        args: Sequence[str],
        prog_name: str,
        complete_var: str | None,
        extra: Mapping[str, Any],
    ) -> int:
        try:
            ended = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            return int(ended or 0)
        except typer.Abort:
            return no("aborted", name="Aborted").exit_code
        except Exception as error:  # noqa: BLE001 - the end of the program
            if hasattr(error, "show") and hasattr(
                error, "format_message"
            ):  # wrong use, which the parser tells
                error.show()
                refuse(Exit.USAGE, Error(name="WrongUse", meaning=error.format_message()))
                return Exit.USAGE
            return tell(error)
