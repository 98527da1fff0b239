"""docs/fleet.md is what the code makes, and what it says holds."""

import re
from pathlib import Path

import pytest

from lockstep.cli.fleet_page import COUNTS, page

PAGE = Path(__file__).parents[2] / "docs" / "fleet.md"


@pytest.fixture(scope="module", name="made")
def _made() -> str:
    return page()


def test_the_page_is_what_the_code_makes(made: str) -> None:
    assert PAGE.read_text() == made, "run: python -m lockstep.cli.fleet_page > docs/fleet.md"


def test_every_item_of_a_bill_is_in_a_group(made: str) -> None:
    costs = made.split("## Costs")[1].split("\n## ", maxsplit=1)[0]
    rows = [line.strip("| ").split(" | ") for line in costs.splitlines() if line.startswith("| ")][1:]
    names = [row[0] for row in rows]
    last = names.index("**together**")
    for column in range(1, len(COUNTS) + 1):
        together = float(rows[last][column].strip("*"))
        assert sum(float(row[column]) for row in rows[:last]) == pytest.approx(together, abs=0.01)


def test_no_rotation_is_refused_at_the_pace_of_a_fleet(made: str) -> None:
    table = made.split("## Where rotations are faster")[1].split("\n## ", maxsplit=1)[0]
    rows = [
        line.strip("| ").split(" | ") for line in table.splitlines() if re.match(r"\| [0-9.]+ s \|", line)
    ]
    assert len(rows) == 4
    assert {row[2] for row in rows} == {"0"}
