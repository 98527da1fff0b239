"""The Markdown pages of the repository."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support.programs import ran

ROOT = Path(__file__).resolve().parents[2]
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
    inner = (child for token in _parsed(page) for child in token.children or ())
    targets = (child.attrGet("href") or child.attrGet("src") for child in inner)
    return [target for target in targets if isinstance(target, str)]


def blocks(page: Path) -> list[Block]:
    """The blocks of code of a page."""
    return [Block(token.info.strip(), token.content) for token in _parsed(page) if token.type == "fence"]


def spans(page: Path) -> list[str]:
    """The code within sentences and tables."""
    inner = (child for token in _parsed(page) for child in token.children or ())
    return [child.content for child in inner if child.type == "code_inline"]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    tokens, seen, found = _parsed(page), Counter[str](), set()
    for heading, text in pairwise(tokens):
        if heading.type == "heading_open":
            slug = _ANCHOR.sub("", _plain(text).lower()).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def _parsed(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def _plain(inline: Token) -> str:
    return "".join(t.content for t in inline.children or () if t.type in {"text", "code_inline"})
