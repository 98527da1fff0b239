"""Every error says what it means in text that is safe to print."""

import inspect
import re
import string
from pathlib import Path

import pytest

from lockstep.protocol import errors
from lockstep.protocol.errors import EnvironmentalError, FenceLostError, LockstepError, told_errors

ROOT = Path(__file__).parents[2]
CLASSES = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, LockstepError)]
CLASSES = [c for c in CLASSES if not c.__subclasses__() and c is not EnvironmentalError]
TOLD = {name: advice for name, (_, advice) in told_errors().items()}


def test_each_error_has_one_family_a_name_in_error_and_one_line_of_meaning() -> None:
    for error in CLASSES:
        assert (
            sum(issubclass(error, family) for family in (errors.RetryableError, errors.TerminalError)) == 1
        ), error
        assert error.__name__.endswith("Error")
        assert error.meaning.endswith(".")
        assert str(error()) == f"{error.meaning} {error.advice}"
        told = error(store="aws", generation=7)
        assert str(told) == f"{error.meaning} [store=aws, generation=7] {error.advice}"


WITHOUT_COMMAND = {"EditedMeanwhileError", "NoRoomError", "SecretTooLargeError"}
"""There is nothing to type: the server or the plan is changed by hand, or nothing is to be done."""


def test_no_error_is_without_its_next_step_which_is_that_of_its_code() -> None:
    """A sentence of its own; where there is a command for it, with the command.

    That the commands exist: tests/docs/test_pages.py.
    """
    assert [name for name, advice in TOLD.items() if not advice.endswith((".", "?"))] == []
    assert {name for name, advice in TOLD.items() if "`" not in advice} == WITHOUT_COMMAND
    for kind in CLASSES:
        for code, advice in kind.advices.items():
            assert str(kind(code=code)) == f"{kind.meaning} [code={code}] {advice}"
            assert "`" in advice
        assert str(kind(code="another")).endswith(kind.advice)


def test_only_names_and_numbers_are_shown_in_fields() -> None:
    safe = {*string.ascii_letters, *string.digits, *"_.:/@+ -"}
    values = {f"a{letter}b": letter in safe for letter in map(chr, range(0x250))}
    values |= {"": False, "a\n": False, "x" * 120: True, "x" * 121: False}
    for value, is_shown in values.items():
        assert FenceLostError(credential=value).where["credential"] == (value if is_shown else "?"), value


def test_no_constructor_takes_free_text() -> None:
    with pytest.raises(TypeError):
        FenceLostError("free text")  # type: ignore[call-arg]  # that is the point
    with pytest.raises(TypeError):
        FenceLostError(message="free text")


def test_the_pages_name_only_errors_that_there_are() -> None:
    """Of the pages that people write; `docs/errors.md` is made from the classes."""
    known = {*TOLD, *(name for name in vars(errors) if name.endswith("Error")), *FOREIGN}
    for page in ((ROOT / "README.md"), *(ROOT / "docs").rglob("*.md")):
        if "adr" not in page.parts and page.name != "errors.md":
            named = set(re.findall(r"(?<![\w.])[A-Z][A-Za-z]+Error\b", page.read_text(encoding="utf-8")))
            assert named <= known, page


FOREIGN = {"FunctionError", "ModuleNotFoundError", "FileNotFoundError", "OperationalError"}
"""Those of Python, of drivers and of Lambda."""
