"""What all commands share: where they print, how they load the plan, how they fail."""

import os
import sys
import traceback
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import UNSET, UnsetType
from rich.console import Console
from rich.status import Status
from rich.text import Text

from lockstep.operate.documents import Error, Exit
from lockstep.operate.formatting import asked
from lockstep.plan.file import PlanProblemsError, PlanSource, Problem, load_source
from lockstep.plan.model import Plan
from lockstep.plan.published import PLAN_NAME
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    FenceLostError,
    InvalidPlanError,
    LockstepError,
    OrderRefusedError,
    UnexpectedError,
    UnknownUsernameError,
    described,
    line_of,
)
from lockstep.protocol.model import Credential
from lockstep.runtime.wiring import PLAN_VARIABLE

# What all commands share: where they print, how they load the plan, how they fail.

out, err = Console(), Console(stderr=True)
for _console in (out, err):
    if _console.width < 1:  # COLUMNS=0, at which rich prints nothing.
        _console.width = 80

SHOWN_IDS = 20
"""So many ids or names of a kind are listed for people; of the others their number."""


CredentialArgument = Annotated[str, typer.Argument(metavar="CREDENTIAL", help="The credential, by its id.")]
NamedCredentials = Annotated[
    list[str],
    typer.Argument(
        metavar="CREDENTIAL", help="Credentials, by their ids or by patterns such as 'team/*'; '*' for all."
    ),
]
CredentialArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CREDENTIAL",
        help="Only these credentials, by their ids or by patterns such as 'team/*'.  [default: all of the plan]",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")]


def say(text: str, *, style: str = "") -> None:
    """One line on standard output."""
    out.print(plain(text, style), soft_wrap=True)


def say_fields(title: str, fields: Mapping[str, object]) -> None:
    """What is known of one thing: its name, and below it a line for each field."""
    say(title, style="bold")
    for name, value in fields.items():
        say(f"  {name.replace('_', ' ')}: {value}")


def say_next(steps: Iterable[str]) -> None:
    """What a person does next, numbered; nothing where there is nothing."""
    for number, step in enumerate(steps, start=1):
        if number == 1:
            say("Next:")
        say(f"  {number}. {step}")


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show at a terminal, on standard error, what is being done; what this gives shows how far it is."""
    with Status(what, console=err) as status:
        yield lambda text: status.update(plain(text))


def complain(text: str) -> None:
    """One line on standard error."""
    err.print(plain(text, "red"), soft_wrap=True)


def say_aside(text: str) -> None:
    """One line on standard error, where standard output is a report's alone."""
    err.print(plain(text), soft_wrap=True)


_SHARED = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
_SHARED.add_argument("--plan", "-p", dest="plan_file", type=Path)
_SHARED.add_argument("--json", dest="is_json", action="store_true")


@contextmanager
def answer() -> Iterator[None]:
    """The time of one run of the command."""
    nothing = {"is_json": False, "plan_file": None, "is_given": False}
    vars(asked).update(nothing)
    try:
        yield
    finally:
        vars(asked).update(nothing)


def words_left(args: Sequence[str]) -> list[str]:
    """Take the options of the whole command, which may stand anywhere before `--`; what is left.

    Raises:
        typer.BadParameter: One lacks its argument.
    """
    try:
        return _SHARED.parse_known_args(args, asked)[1]
    except ArgumentError as error:
        asked.is_json = "--json" in args
        raise typer.BadParameter(str(error)) from None


def plan_file() -> Path:
    """The plan file, as `--plan` or LOCKSTEP_PLAN names it."""
    return asked.plan_file or Path(os.environ.get(PLAN_VARIABLE) or PLAN_NAME)


def print_text(text: str) -> None:
    """A text that is this command's whole answer, as it is."""
    asked.is_given = True
    sys.stdout.write(text)


def gave_json(document: msgspec.Struct | Mapping[str, object]) -> bool:
    """With `--json` print this document, for other programs; whether that was asked for, and so no text is."""
    if not asked.is_json:
        return False
    asked.is_given = True
    # What an encoding lacks is shown as an escape, and not every one of Python's is one of JSON.
    text = msgspec.json.encode(document).decode()
    out.print_json(text, ensure_ascii=not out.encoding.startswith("utf"))
    return True


def refuse(code: int, error: Error) -> None:
    """With `--json`, give an error in the place of the answer: there is always one document on standard output."""
    if not asked.is_given:
        gave_json({"error": msgspec.structs.replace(error, exit_code=int(code))})


def wrong_use(text: str, *, name: str = "WrongUse", problems: Sequence[Problem] = ()) -> typer.Exit:
    """Say what is wrong with the arguments or the plan; what is returned ends the command, with exit code 2."""
    return no(text, name=name, code=Exit.USAGE, problems=problems)


def no(
    text: str, *, name: str, code: Exit = Exit.NO, problems: Sequence[Problem] | UnsetType = UNSET
) -> typer.Exit:
    """Say why not; what is returned ends the command, with exit code 1 unless another one is given.

    Args:
        text: Why.
        name: Of the error in a document.
        code: The exit code.
        problems: What is wrong with the arguments or the plan.
    """
    complain(text)
    for problem in problems or ():
        complain(f"  {problem}")
    refuse(code, Error(name=name, meaning=text, problems=problems))
    return typer.Exit(code)


def plain(text: str, style: str = "") -> Text:
    """A text that cannot control the terminal."""
    # Names come from clouds; a forged one must not control the terminal.
    return Text("".join(c if c.isprintable() else "?" for c in text), style=style)


def write_whole(text: str, file: Path, *, option: str) -> None:
    """Write the whole file or nothing: half a page of evidence looks like a page. The option has named it."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="")
        unfinished.replace(file)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise wrong_use(f"{option}: {file} cannot be written: {error.strerror}") from None


def plan_or_exit(file: Path | None = None) -> Plan:
    """The plan, that of the whole command unless a file is named; or every mistake in it and exit code 2."""
    return source_or_exit(file).plan


def source_or_exit(file: Path | None = None) -> PlanSource:
    """The plan with the places in its file, as `plan_or_exit`."""
    file = file or plan_file()
    try:
        return load_source(file)
    except PlanProblemsError as e:
        if e.__cause__:  # It was not read.
            raise
        later = "" if e.all_told else "; cross-section checks run once these are fixed"
        text = f"{file} is not a valid plan{later}:"
        raise wrong_use(text, name="InvalidPlanError", problems=e.problems) from None


def chosen(plan: Plan, written: Sequence[str] | None) -> list[Credential]:
    """The credentials that the command is about, each once: those written, or all of the plan; or exit code 2."""
    if not written:
        return list(plan.credentials)
    return list({c.id: c for id_or_pattern in written for c in matching(plan, id_or_pattern)}.values())


def matching(plan: Plan, written: str) -> list[Credential]:
    """The credentials whose ids match what was written, an id or a pattern with `*` and `?`, or exit code 2."""
    if not {"*", "?"} & set(written):
        return [one(plan, written)]
    found = [c for c in plan.credentials if fnmatchcase(c.id, written.replace("[", "[[]"))]
    if not found:
        raise wrong_use(f"the plan has no credential that matches {written!r}; {_known(plan)}")
    return found


def one(plan: Plan, credential_id: str) -> Credential:
    """The credential of that id, or exit code 2."""
    credential = plan.credential(credential_id)
    if credential is None:
        raise wrong_use(f"the plan has no credential {credential_id!r}; {_known(plan)}")
    return credential


def _known(plan: Plan) -> str:
    return f"it has: {shown_ids([c.id for c in plan.credentials])}"


def shown_ids(ids: Sequence[str]) -> str:
    """The first `SHOWN_IDS` of the ids, and how many more there are."""
    more = f" and {len(ids) - SHOWN_IDS:,} more" if len(ids) > SHOWN_IDS else ""
    return f"{', '.join(ids[:SHOWN_IDS])}{more}"


_PACKAGE = Path(__file__).parents[1]
_ANSWERS = (FenceLostError, OrderRefusedError, UnknownUsernameError)
"""Errors that are a negative answer to a write."""


def exit_code_of(kind: type[LockstepError]) -> Exit:
    """The exit code of an error."""
    if issubclass(kind, InvalidPlanError):
        return Exit.USAGE
    return Exit.NO if issubclass(kind, _ANSWERS) else Exit.UNREACHABLE


def tell(error: Exception) -> Exit:
    """Tell the person, or the program, about an error; the exit code."""
    ours = in_our_words(error)
    code = exit_code_of(type(described(ours)))
    complain(line_of(ours))
    refuse(code, document(ours))
    return code


def document(error: LockstepError) -> Error:
    """An error for other programs."""
    shown = described(error)
    return Error(
        name=shown.name,
        meaning=shown.meaning,
        where=shown.where,
        next=shown.advice or None,
        during=None if shown is error else type(error).__name__,
    )


def in_our_words(error: Exception) -> LockstepError:
    """The error of ours that stands for any error."""
    if isinstance(error, LockstepError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name == "oci":
        return EnvironmentalError(Environment.OCI_EXTRA_MISSING)
    if isinstance(error, OSError) and (error.filename is not None or error.errno is not None):
        return EnvironmentalError(
            Environment.FILE_REFUSED, path=str(error.filename or "standard output"), code=str(error.strerror)
        )
    # Where, but never what: its text may hold a secret.
    ours = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(_PACKAGE)]
    place = f"{Path(ours[-1].filename).relative_to(_PACKAGE)}:{ours[-1].lineno}" if ours else "?"
    return UnexpectedError(code=type(error).__name__, path=place)
