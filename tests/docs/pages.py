"""The Markdown pages of the repository, and their console blocks, which are run in a shell.

A line that begins with `$ ` is a command, `> ` continues it. What follows is its output: `…` in a line stands for any
text, a line of `…` alone for any lines. A command must succeed, unless it says its exit code itself.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support.programs import ran

ROOT = Path(__file__).resolve().parents[2]
ANY = "…"
LIMIT_SECONDS = 1500.0
_MARK = "--end-of-command--"
_ANCHOR = re.compile(r"[^\w\- ]")


class Block(NamedTuple):
    """A block of code: its language, and its text."""

    language: str
    text: str


def repository_files(*patterns: str) -> list[Path]:
    """What git knows, or would take, of the repository."""
    shown = ran(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT,
        check=True,
    ).stdout
    return [file for name in sorted(set(shown.split("\0"))) if name and (file := ROOT / name).is_file()]


def name_of(page: Path) -> str:
    """A page by its path in the repository."""
    return str(page.relative_to(ROOT))


def links(page: Path) -> list[str]:
    """The links and pictures of a page, as they are written."""
    targets = (child.attrGet("href") or child.attrGet("src") for child in _inner(page))
    return [target for target in targets if isinstance(target, str)]


def blocks(page: Path) -> list[Block]:
    """The blocks of code of a page."""
    return [Block(token.info.strip(), token.content) for token in _parsed(page) if token.type == "fence"]


def spans(page: Path) -> list[str]:
    """The code within sentences and tables."""
    return [child.content for child in _inner(page) if child.type == "code_inline"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    tokens, seen, found = _parsed(page), Counter[str](), set()
    for heading, text in pairwise(tokens):
        if heading.type == "heading_open":
            plain = "".join(t.content for t in text.children or () if t.type in {"text", "code_inline"})
            slug = _ANCHOR.sub("", plain.lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def _parsed(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def _inner(page: Path) -> list[Token]:
    return [child for token in _parsed(page) for child in token.children or ()]


# Console blocks


class Command(NamedTuple):
    """A command of a page, as it is typed, without the prompts; and the lines that the page shows as its output."""

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
