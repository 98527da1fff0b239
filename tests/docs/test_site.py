"""The site is built without a warning, from all pages, and asks no other host when it is read."""

import re
import sys
from pathlib import Path

import pytest

from lockstep import __version__
from tests.docs.pages import ROOT, repository_files
from tests.support.programs import Ran, ran

LOADED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b[^>]*\bhref=\"(?:https?:)?//"
)
"""What a browser would fetch from another host."""


def build(docs: Path, out: Path) -> Ran:
    """Build a site, as `make docs` does."""
    recipe = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line)
    words = recipe.split()[1:]
    places = {"docs": str(docs), "build/site": str(out), "build/doctrees": str(out / ".doctrees")}
    return ran([sys.executable, *(places.get(word, word) for word in words)], cwd=ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    built = build(ROOT / "docs", out)
    assert (built.returncode, built.stderr) == (0, "")
    return out


def test_every_page_but_decisions_is_in_the_site_and_in_its_navigation_and_says_its_version(
    site: Path,
) -> None:
    home = (site / "index.html").read_text()
    made = [ROOT / "docs" / f"{name}.md" for name in ("commands", "doctor", "errors", "plan", "unknowns")]
    for page in [*repository_files("docs/*.md"), *made]:
        html = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (site / html).is_file() is (html.parts[0] != "adr" and html.stem != "README")
        if (site / html).is_file() and html.name != "index.html":
            assert f'class="reference internal" href="{html}"' in home
    path = ("Evaluate", "Deploy", "Read a credential", "Operate", "Incident", "Reference")
    places = [home.index(f"{part}</span>") for part in path]
    assert places == sorted(places)
    assert f"Lockstep {__version__}" in home


def test_reading_the_site_asks_no_other_host(site: Path) -> None:
    assert [page.name for page in site.rglob("*.html") if LOADED.search(page.read_text())] == []
    styles = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert re.findall(r"@import[^;]*//|url\([\"']?(?:https?:)?//[^)]*", styles) == []
    assert (site / "searchindex.js").is_file()
