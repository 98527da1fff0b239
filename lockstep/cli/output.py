"""What all commands share: where they print, how they load the plan, how they fail."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from lockstep.cli import documents
from lockstep.model import Credential
from lockstep.plan import Plan
from lockstep.plan_file import PlanProblemsError, PlanSource, load_source
from lockstep.plan_messages import Problem

out, err = Console(), Console(stderr=True)
for _console in (out, err):
    if _console.width < 1:  # COLUMNS=0, at which rich prints nothing.
        _console.width = 80

DEFAULT_PLAN = Path("lockstep.yaml")
FEW = 20
"""So many credentials are done one after the other, and more of them side by side."""
SHOWN_IDS = 20
"""So many ids or names of a kind are listed for people; of the others their number."""


class Exit(IntEnum):
    """Exit codes."""

    NO = 1
    USAGE = 2
    UNREACHABLE = 3


PlanFile = Annotated[Path, typer.Option("--plan", "-p", envvar="LOCKSTEP_PLAN", help="The plan file.")]
CredentialId = Annotated[
    str | None,
    typer.Option(
        "--credential",
        "-c",
        help="Only this credential, by its id or a pattern such as 'team/*'.  [default: all of the plan]",
    ),
]
OneCredentialId = Annotated[str, typer.Option("--credential", "-c", help="The credential, by its id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, without doing it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def say(text: str, *, style: str = "") -> None:
    """One line on standard output."""
    out.print(plain(text, style), soft_wrap=True)


def complain(text: str) -> None:
    """One line on standard error."""
    err.print(plain(text, "red"), soft_wrap=True)


def say_aside(text: str) -> None:
    """One line on standard error, where standard output is a report's alone."""
    err.print(plain(text), soft_wrap=True)


@dataclass(slots=True)
class _Answer:
    """Whether this run of the command is to print one JSON document, whether it has, and in which zone times are."""

    is_json: bool = False
    is_given: bool = False
    is_utc: bool = False


_answer = _Answer()


@contextmanager
def answer(args: Sequence[str] | None) -> Iterator[list[str]]:
    """The time of one run of the command; gives its arguments without `--utc`, which may stand anywhere."""
    words = list(sys.argv[1:] if args is None else args)
    before = words[: words.index("--")] if "--" in words else words
    _answer.is_json, _answer.is_given, _answer.is_utc = "--json" in before, False, "--utc" in before
    try:
        yield [w for i, w in enumerate(words) if w != "--utc" or i >= len(before)]
    finally:
        _answer.is_json = _answer.is_utc = False


def print_json(document: msgspec.Struct) -> None:
    """One JSON document, for other programs."""
    _answer.is_given = True
    # What an encoding lacks is shown as an escape, and not every one of Python's is one of JSON.
    text = msgspec.json.encode(document).decode()
    out.print_json(text, ensure_ascii=not out.encoding.startswith("utf"))


def wants_utc() -> bool:
    """Whether people are shown times in UTC."""
    return _answer.is_utc


def is_document() -> bool:
    """Whether a document is printed, whose times are in UTC."""
    return _answer.is_json


def refuse(code: int, error: documents.Error) -> None:
    """With `--json`, give an error in the place of the answer: there is always one document on standard output."""
    if _answer.is_json and not _answer.is_given:
        print_json(documents.Refused(error=msgspec.structs.replace(error, exit_code=int(code))))


def wrong_use(text: str, *, name: str = "WrongUse", problems: Sequence[Problem] = ()) -> typer.Exit:
    """Say what is wrong with the arguments or the plan; what is returned ends the command, with exit code 2."""
    complain(text)
    for problem in problems:
        complain(f"  {problem}")
    listed = [_listed(problem) for problem in problems]
    refuse(Exit.USAGE, documents.Error(name=name, meaning=text, problems=listed))
    return typer.Exit(Exit.USAGE)


def _listed(problem: Problem) -> documents.Problem:
    mark = problem.mark
    return documents.Problem(
        file=mark.file if mark else None,
        line=mark.line if mark else None,
        column=mark.column if mark else None,
        place=problem.place,
        message=problem.message,
    )


def no(text: str, *, name: str, code: Exit = Exit.NO) -> typer.Exit:
    """Say why not; what is returned ends the command, with exit code 1 unless another one is given.

    Args:
        text: Why.
        name: Of the error in a document.
        code: The exit code.
    """
    complain(text)
    refuse(code, documents.Error(name=name, meaning=text))
    return typer.Exit(code)


def plain(text: str, style: str = "") -> Text:
    """A text that cannot control the terminal."""
    # Names come from clouds; a forged one must not control the terminal.
    return Text("".join(c if c.isprintable() else "?" for c in text), style=style)


def json_in(file: Path) -> object:
    """The JSON document in a file.

    Raises:
        OSError: It cannot be read.
        ValueError: It holds none.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def plan_or_exit(file: Path) -> Plan:
    """The plan, or every mistake in it and exit code 2."""
    return source_or_exit(file).plan


def source_or_exit(file: Path) -> PlanSource:
    """The plan with the places in its file, or every mistake in it and exit code 2."""
    try:
        return load_source(file)
    except PlanProblemsError as e:
        if e.__cause__:  # It was not read.
            raise
        later = "" if e.all_told else "; what concerns several sections is checked once these are valid"
        text = f"{file} is not a valid plan{later}:"
        raise wrong_use(text, name="InvalidPlanError", problems=e.problems) from None


def chosen(plan: Plan, credential_id: str | None) -> list[Credential]:
    """The credentials that the command is about, or exit code 2."""
    return list(plan.credentials) if credential_id is None else matching(plan, credential_id)


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
