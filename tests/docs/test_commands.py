"""Every `lockstep …` and `make …` that a page shows is a command that exists, with options that it has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from lockstep.cli import app
from tests.docs.pages import ROOT, blocks, name_of, pages, spans

SHELLS = {"", "sh", "bash", "shell", "console"}
_TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
_SEPARATOR = re.compile(r"\|\||&&|[|;\n]|\$\(|[)]")
OF_OTHERS = {"CHANGELOG.md"}
"""Pages that also tell of commands as they were."""


def shown(page: Path) -> list[str]:
    """The commands that a page shows, in blocks and in sentences."""
    texts = [block.text.replace("\\\n", " ") for block in blocks(page) if block.language in SHELLS]
    prompts = re.compile(r"^(?:\$|>) ", re.MULTILINE)
    texts = [*(prompts.sub("", text) for text in texts), *spans(page)]
    return [part.strip() for text in texts for part in _SEPARATOR.split(text)]


def wrong(command: str) -> Iterator[str]:
    """What is wrong with a command of ours; nothing about others."""
    words = _words(command)
    if words[:1] == ["lockstep"]:
        yield from _wrong_lockstep(words[1:])
    elif words[:1] == ["make"]:
        yield from (f"no target {word}" for word in words[1:] if _is_target(word) and word not in targets())


def _words(command: str) -> list[str]:
    try:
        # What follows `<` is a file, or a word of the reader.
        return shlex.split(command.partition("<")[0], comments=True)
    except ValueError:
        return command.split()


def _is_target(word: str) -> bool:
    return re.fullmatch(r"[a-z][a-z-]*", word) is not None


def targets() -> set[str]:
    """The targets of the Makefile."""
    return set(_TARGET.findall((ROOT / "Makefile").read_text()))


def _wrong_lockstep(words: list[str]) -> Iterator[str]:
    command: Any = get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        # `…` stands for the command of the reader.
        if name == "…":
            return
        found = command.commands.get(name)
        if found is None:
            yield f"no command {name}"
            return
        command = found
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    options |= {"-h", "--help", "--utc", *getattr(command, "takes", ())}
    if "--plan" in options:
        options.add("-p")
    for word in rest:
        option = word.partition("=")[0]
        if (
            option.startswith("-")
            and option not in {"-", "--", *options}
            and not option.strip("-").startswith("…")
        ):
            yield f"no option {option}"


@pytest.mark.parametrize("page", [p for p in pages() if name_of(p) not in OF_OTHERS], ids=name_of)
def test_commands_of_a_page_exist(page: Path) -> None:
    assert [f"{command}: {problem}" for command in shown(page) for problem in wrong(command)] == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("lockstep apply CREDENTIAL --from DIGEST --drop oci", []),
        ("lockstep audit", []),
        ("lockstep rotat", ["no command rotat"]),
        ("lockstep plan chekc", ["no command chekc"]),
        ("lockstep rotate --revoke", ["no option --revoke"]),
        ("make demo", []),
        ("make bench BENCH_ARGS=--quick", []),
        ("make dmeo", ["no target dmeo"]),
        ('make deploy-aws CDK_ARGS="--dry-run"', []),
        ("aws s3 ls --revoke", []),
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str, said: list[str]) -> None:
    assert list(wrong(command)) == said


def test_pages_show_commands() -> None:
    assert sum(len([c for c in shown(page) if c.startswith("lockstep ")]) for page in pages()) > 100
