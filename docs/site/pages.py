"""What Sphinx needs beyond the pages as people read them in the repository.

The navigation is what `index.md` lists: a heading is a part, a link below it is a page of that part. A page that it
does not list is in its last part, so that no page is lost. Links to what is no page of the site, such as a source file
or a decision, lead to `repository_files`, or are text without it.
"""

import os
import re
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.application import Sphinx

INDEX = "index"
DECISIONS = "adr"
"""The folder of decisions, which are no part of the site."""
_HEADING = re.compile(r"^## (.+)$")
_LISTED = re.compile(r"^- \[[^]]+\]\(([^)#:]+)\.md\)")
_LINK = re.compile(r"\[([^]]+)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


class Part(NamedTuple):
    """A part of the navigation, with the names of its pages."""

    title: str
    pages: list[str]


def parts(index: str, found: set[str]) -> list[Part]:
    """The navigation, from the text of the index and the names of all pages."""
    listed: list[Part] = []
    for line in index.splitlines():
        if heading := _HEADING.match(line):
            listed.append(Part(heading[1], []))
        elif entry := _LISTED.match(line):
            listed[-1].pages.append(entry[1])
    listed[-1].pages.extend(sorted(found - {INDEX, *(page for part in listed for page in part.pages)}))
    return listed


def _toctree(title: str, pages: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])


def outside_fences(text: str) -> Iterator[tuple[str, bool]]:
    """The lines of a page, and whether each is text, not code."""
    fenced = False
    for line in text.splitlines(keepends=True):
        fence = line.lstrip().startswith("```")
        yield line, not (fenced or fence)
        fenced ^= fence


def without_links_outside(text: str, page: Path, docs: Path, files: str) -> str:
    """The text of a page in which only what is in the folder of pages is linked as it is.

    Args:
        text: Markdown.
        page: Its file.
        docs: The folder of all pages.
        files: Where the files of the repository can be read; empty: nowhere.
    """

    def replaced(link: re.Match[str]) -> str:
        shown, target = link[1], Path(os.path.normpath(page.parent / link[2]))
        if target.is_relative_to(docs) and not (target.is_dir() or target.parent.name == DECISIONS):
            return link[0]
        return f"[{shown}]({files}/{target.relative_to(docs.parent)})" if files else shown

    # A link may be on two lines.
    parts = groupby(outside_fences(text), key=itemgetter(1))
    texts = ((prose, "".join(line for line, _ in lines)) for prose, lines in parts)
    return "".join(_LINK.sub(replaced, part) if prose else part for prose, part in texts)


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    docs = Path(app.srcdir)
    page = docs / f"{name}.md"
    source[0] = without_links_outside(source[0], page, docs, app.config.repository_files)
    found = set(app.env.found_docs)
    if name == INDEX:
        source[0] += "".join(_toctree(*part) for part in parts(source[0], found))


def setup(app: Sphinx) -> dict[str, Any]:
    """For Sphinx."""
    app.add_config_value("repository_files", "", "env", types=[str])
    app.connect("source-read", _read)
    return {"parallel_read_safe": True}
