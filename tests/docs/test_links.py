"""Every link between files of the repository leads somewhere, with its anchor; also what code says of the pages."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import ROOT, anchors, links, name_of, pages, repository_files, spans

GENERATED = [line for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("docs/")]
"""What `make docs` makes: the build of the site checks links to it."""
CITED = re.compile(r"docs/[\w./-]+\.md(?:#[\w-]+)?")
"""A page as code and messages name it."""


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    assert [f"line {link.line}: {link.target}" for link in links(page) if is_broken(page, link.target)] == []


def test_pages_that_code_names_exist() -> None:
    own = Path(__file__)
    code = repository_files("*.py", "*.tf", "*.yaml", "*.yml", "*.json", "Makefile", ".ci/*")
    found = [
        f"{name_of(file)}: {cited}"
        for file in code
        if file != own  # whose table has broken ones
        for cited in CITED.findall(file.read_text(encoding="utf-8"))
        if is_broken(ROOT / "docs" / "index.md", f"../{cited}")
    ]
    assert found == []


def test_contributing_names_files_that_exist_and_eight_at_most_for_an_engine_or_a_store() -> None:
    page = ROOT / "CONTRIBUTING.md"
    paths = [span for span in spans(page) if re.fullmatch(r"[\w.]+(/[\w.]+)+", span)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    text = page.read_text(encoding="utf-8")
    for title in ("Add an engine", "Add a store"):
        steps = text.partition(f"## {title}\n")[2].partition("\n## ")[0]
        assert 0 < len(re.findall(r"^\d\. `", steps, re.MULTILINE)) <= 8


def test_a_broken_link_is_found() -> None:
    whole = ["docs/recover.md#release-a-lock", "#install", "docs/how-to", "https://example.com/not-asked"]
    broken = ["docs/recover.md#no-such-heading", "docs/no-such-page.md", "../outside.md", "docs/commands.md"]
    assert [target for target in (*whole, *broken) if is_broken(ROOT / "README.md", target)] == broken


def is_broken(page: Path, target: str) -> bool:
    """Whether a link of a page leads to no file, or to no heading in it. No other site is asked.

    What `make docs` makes is there for the pages of the site alone.
    """
    parts = urlsplit(target)
    if parts.scheme:
        return False
    file = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
    if not file.is_relative_to(ROOT):
        return True
    if any(file.relative_to(ROOT).match(made) for made in GENERATED):
        return not page.is_relative_to(ROOT / "docs")
    if not file.exists():
        return True
    return bool(parts.fragment) and (file.suffix != ".md" or parts.fragment not in anchors(file))
