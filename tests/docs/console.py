"""Runs the console blocks of a page in a shell, and compares what its commands print with what the page shows.

A line that begins with `$ ` is a command, `> ` continues it. What follows is its output: `…` in a line stands for any
text, a line of `…` alone for any lines. A command must succeed, unless it says its exit code itself.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import blocks

ANY = "…"
LIMIT_SECONDS = 1500.0
_MARK = "--end-of-command--"


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Attributes:
        text: As it is typed, without the prompts.
        shown: The lines that the page shows as its output.
    """

    text: str
    shown: list[str]


def commands(page: Path, instead: Mapping[str, str]) -> Iterator[Command]:
    """The commands of a page's console blocks, in their order, with some words for others."""
    for block in blocks(page):
        text = block.text if block.language == "console" else ""
        for word, own in instead.items():
            text = text.replace(word, own)
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            first, *lines = part.splitlines()
            goes_on = next((n for n, line in enumerate(lines) if not line.startswith(">")), len(lines))
            yield Command("\n".join([first, *(line[2:] for line in lines[:goes_on])]), lines[goes_on:])


def is_as_shown(shown: list[str], output: str) -> bool:
    """Whether an output is what a page shows."""
    parts = (
        "(?:.*\n)*?" if line.strip() == ANY else ".*".join(map(re.escape, line.split(ANY))) + "\n"
        for line in shown
    )
    text = f"{output.rstrip()}\n" if output.strip() else ""
    return re.fullmatch("".join(parts), text) is not None


def typed(asked: Iterable[Command], folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Type commands in one shell; what is not as their page shows it."""
    asked = list(asked)
    # A command that reads its input must not read the commands that follow.
    lines = (f"{{ {c.text}\n}} < /dev/null\ncode=$?; echo; echo {_MARK} $code\n" for c in asked)
    printed = subprocess.run(
        ["bash", "--noprofile", "--norc"],  # noqa: S607 - as a person starts it
        input="".join(lines),
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    ).stdout
    ends = re.split(rf"\n{_MARK} (\d+)\n", printed)
    found = list(zip(asked, ends[::2], ends[1::2], strict=False))
    assert len(found) == len(asked), f"the shell has ended:\n{ends[-1]}"
    return [
        f"`{command.text}` ended with {code} and printed:\n{output}"
        for command, output, code in found
        if code != "0" or not is_as_shown(command.shown, output)
    ]
