"""A quick selection of races, and stories that once went wrong."""

import pytest

from lockstep.protocol.model import Strategy
from tests.proof.plants import own_entry_not_looked_for
from tests.proof.races import Failure, play
from tests.proof.schedules import Event, Schedule, schedule_of

SEEDS = 150
LOG_PUT = 78
"""The step of a rotation by OCI after which its entry is in the log."""


def _describe(failure: Failure | None) -> str:
    return f"{failure.invariant}: {failure.what}; {failure.schedule.story()}" if failure else ""


def test_no_order_of_two_or_three_runners_breaks_an_invariant() -> None:
    for seed in range(SEEDS):
        assert not _describe(play(schedule_of(seed))), f"python -m tests.proof.run --seed {seed}"


def test_a_seed_gives_the_same_schedule_and_the_same_race() -> None:
    assert schedule_of(7) == schedule_of(7)
    assert len({schedule_of(seed) for seed in range(100)}) == 100


ONCE = {
    "an entry whose reply got lost is taken in by the next run, and its writer wakes up": Schedule(
        seed=0,
        scenario="steady",
        strategy=Strategy.ALTERNATING_USERS,
        runners=("oci", "oci"),
        turns=1,
        due=(True, True),
        recoverer="aws",
        events=(Event(step=LOG_PUT, what="lose"), Event(step=LOG_PUT, what="sleep", to=1, jump=True)),
    ),
    "an entry whose reply got lost, and whose writer sleeps after REQUIRE, is two below the head": Schedule(
        seed=0,
        scenario="steady",
        strategy=Strategy.DUAL_PASSWORD,
        runners=("oci", "oci"),
        turns=2,
        due=(True, True, True, True),
        recoverer="oci",
        events=(
            Event(step=LOG_PUT, what="lose"),
            Event(step=LOG_PUT + 2, what="sleep", to=1, jump=True, kill=True),
        ),
    ),
}


@pytest.mark.parametrize("story", ONCE)
def test_what_once_went_wrong_does_so_no_more(story: str) -> None:
    assert not _describe(play(ONCE[story]))
    assert play(ONCE[story], own_entry_not_looked_for)
