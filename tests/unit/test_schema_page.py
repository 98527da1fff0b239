"""The pages of the plan's fields, and of those that commands print, are what the schemas say."""

from pathlib import Path

import pytest

from lockstep.cli.schema_page import NAMES, PLAN, page
from lockstep.plan_schema import plan_schema

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_matches_the_schema(name: str) -> None:
    file = f"{name}.md" if name == PLAN else f"json/{name}.md"
    again = f"run: python -m lockstep.cli.schema_page {name} > docs/{file}"
    assert (DOCS / file).read_text() == page(name), again


def test_every_field_of_the_plan_has_a_row_and_a_meaning() -> None:
    rows = [line.split(" | ") for line in page(PLAN).splitlines() if line.startswith("| `")]
    fields = [
        f
        for section in [plan_schema(), *plan_schema()["$defs"].values()]
        for f in section.get("properties", ())
    ]
    assert {row[0].strip("| `") for row in rows} >= set(fields)
    assert [row[0] for row in rows if len(row[-1].strip("| ")) < 3] == []
    assert "| `interval` | duration | `20m` |" in page(PLAN)
    assert "| `engine` | `mysql` or `mariadb` or `postgresql` |" in page(PLAN)


def test_a_document_says_what_may_be_null() -> None:
    assert "| `holder` | text or null |" in page("status")
