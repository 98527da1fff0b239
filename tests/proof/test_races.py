"""A quick selection of races, stories that once went wrong, and the bugs of the catalogue that races must find."""

import re
import warnings
from pathlib import Path

import pytest

from lockstep.protocol.model import Strategy
from tests.proof.catalogue import CATALOGUE, own_entry_not_looked_for
from tests.proof.planting import Bug
from tests.proof.races import Event, Schedule, hunt, play, schedule_of

PROTOCOL = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
SEEDS, SCHEDULES = 100, 4000
LOG_PUT = 78
"""The step of a rotation by OCI after which its entry is in the log."""


def test_no_order_of_two_or_three_runners_breaks_an_invariant() -> None:
    for seed in range(SEEDS):
        found = play(schedule_of(seed))
        assert found is None, str(found)


def test_a_seed_gives_the_same_schedule() -> None:
    assert schedule_of(7) == schedule_of(7)
    assert len({schedule_of(seed) for seed in range(100)}) == 100


LOST = Event(step=LOG_PUT, what="lose")
ONCE = {
    "an entry whose reply got lost is taken in by the next run, and its writer wakes up": Schedule(
        seed=0,
        scenario="steady",
        strategy=Strategy.ALTERNATING_USERS,
        runners=("oci", "oci"),
        turns=1,
        due=(True, True),
        recoverer="aws",
        events=(LOST, Event(step=LOG_PUT, what="sleep", to=1, jump=True)),
    ),
    "an entry whose reply got lost, and whose writer sleeps after REQUIRE, is two below the head": Schedule(
        seed=0,
        scenario="steady",
        strategy=Strategy.DUAL_PASSWORD,
        runners=("oci", "oci"),
        turns=2,
        due=(True, True, True, True),
        recoverer="oci",
        events=(LOST, Event(step=LOG_PUT + 2, what="sleep", to=1, jump=True, kill=True)),
    ),
}


@pytest.mark.parametrize("story", ONCE)
def test_what_once_went_wrong_does_so_no_more(story: str) -> None:
    assert play(ONCE[story]) is None
    assert play(ONCE[story], own_entry_not_looked_for)


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
