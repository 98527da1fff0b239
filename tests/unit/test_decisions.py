"""The decisions in docs/adr: each page has the same parts, and the index lists every page."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "adr"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_status_date_and_the_options_turned_down(page: Path) -> None:
    text = page.read_text()
    head = re.match(r"# (\d+)\. .+\n\n- Status: (.+)\n- Date: (\d{4}-\d\d-\d\d)\n", text)
    assert head
    assert int(head[1]) == int(page.name[:4])
    assert re.fullmatch(r"(accepted|closed|superseded|proposed)\b.*", head[2])
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections == ["Context", "Decision", "Options turned down", "Consequences"]


def test_pages_are_numbered_without_a_gap() -> None:
    assert [int(page.name[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))


def test_the_index_lists_every_page_with_its_title_and_says_which_are_closed() -> None:
    rows = []
    for page in PAGES:
        head = re.match(r"# (\d+)\. (.+)\n\n- Status: (.+)\n", page.read_text())
        assert head
        closed = ", closed" * bool(re.search(r"^closed|superseded by", head[3]))
        rows.append(f"{head[1]}. [{head[2]}]({page.name}){closed}")
    listed = [line for line in (FOLDER / "README.md").read_text().splitlines() if re.match(r"\d", line)]
    assert listed == rows


def test_a_status_refers_to_later_pages_that_exist() -> None:
    for page in PAGES:
        status = page.read_text().split("- Status: ")[1].splitlines()[0]
        for number in re.findall(r"ADR (\d+)", status):
            assert int(page.name[:4]) < int(number) <= len(PAGES)
