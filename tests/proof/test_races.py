"""A quick selection of races, and the bugs of the catalogue that races must find."""

import re
import warnings
from pathlib import Path

import pytest

from tests.proof.catalogue import CATALOGUE
from tests.proof.planting import Bug
from tests.proof.races import hunt, play, schedule_of

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
SEEDS, SCHEDULES = 100, 4000


def test_no_order_of_two_or_three_runners_breaks_an_invariant() -> None:
    for seed in range(SEEDS):
        found = play(schedule_of(seed))
        assert found is None, str(found)


@pytest.mark.parametrize("bug", CATALOGUE.values(), ids=CATALOGUE)
def test_a_bug_leaves_out_a_clause_of_the_protocol_and_some_checker_must_find_it(bug: Bug) -> None:
    assert bug.races or bug.faults or bug.model
    for clause in bug.clause.split(", "):
        assert re.search(rf"^\*\*{clause}[.,](?!\*\* \*Retired)", PROTOCOL, re.MULTILINE), clause


@pytest.mark.parametrize("name", [name for name, bug in CATALOGUE.items() if bug.races])
def test_races_find_it(name: str) -> None:
    found, tries = hunt(CATALOGUE[name], schedules=SCHEDULES)
    assert found, CATALOGUE[name].what
    if tries > 1:  # The code has changed, and with it what happens at the seed of the catalogue.
        warnings.warn(f"{name}: seed {found.schedule.seed} in the catalogue saves a hunt", stacklevel=1)
