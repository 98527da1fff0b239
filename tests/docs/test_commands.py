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
from tests.docs.test_installation import PAGE
from tests.docs.test_tutorial import GUIDES, TUTORIAL

SHELLS = {"", "sh", "bash", "shell", "console"}
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
    try:
        # What follows `<` is a file, or a word of the reader.
        words = shlex.split(command.partition("<")[0], comments=True)
    except ValueError:
        words = command.split()
    if words[:1] == ["lockstep"]:
        yield from _wrong_lockstep(words[1:])
    elif words[:1] == ["make"]:
        targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        asked = (word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word))
        yield from (f"no target {word}" for word in asked if word not in targets)


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
    options |= {"-h", "--help", *getattr(command, "takes", ())}
    if "--plan" in options:
        options.add("-p")
    given = {word.partition("=")[0] for word in rest if word.startswith("-")}
    yield from (f"no option {o}" for o in given - options - {"-", "--"} if not o.strip("-").startswith("…"))


@pytest.mark.parametrize("page", [p for p in pages() if name_of(p) not in OF_OTHERS], ids=name_of)
def test_commands_of_a_page_exist(page: Path) -> None:
    assert [f"{command}: {problem}" for command in shown(page) for problem in wrong(command)] == []


def test_commands_of_the_workflows_exist() -> None:
    texts = [file.read_text().replace("\\\n", " ") for file in (ROOT / ".github/workflows").glob("*.yml")]
    assert [problem for text in texts for line in text.splitlines() for problem in wrong(line.strip())] == []


def test_what_a_page_shows_as_run_is_run() -> None:
    """A block of `console` has an output that a test compares. One of `sh` is for a person's own machine or account."""
    shown = {page for page in pages() if any(block.language == "console" for block in blocks(page))}
    assert shown == {TUTORIAL, PAGE, *(ROOT / f"docs/how-to/{guide}.md" for guide in GUIDES)}


def test_a_command_that_does_not_exist_is_found() -> None:
    for command, said in (
        ("lockstep apply CREDENTIAL --from DIGEST --drop oci", []),
        ("lockstep plan chekc", ["no command chekc"]),
        ("lockstep rotate --revoke", ["no option --revoke"]),
        ("make bench PEER=<a checkout>", []),
        ("make dmeo", ["no target dmeo"]),
        ("aws s3 ls --revoke", []),
    ):
        assert list(wrong(command)) == said
    assert sum(len([c for c in shown(page) if c.startswith("lockstep ")]) for page in pages()) > 100
