"""Some days of lives without a violation, and planted bugs that a life finds; `make proof` lives for longer."""

import pytest

from tests.proof.catalogue import CATALOGUE
from tests.proof.lives import ACTS, INTERVALS_MINUTES, Figures, live

SEEDS, HUNTED = range(2, 5), 6


@pytest.fixture(scope="module")
def lives() -> list[Figures]:
    return [live(seed) for seed in SEEDS]


def test_nothing_that_follows_on_anything_locks_out_or_stops_rotation(lives: list[Figures]) -> None:
    assert [life.violations for life in lives] == [[]] * len(SEEDS)
    done, outcomes = set[str]().union(*(life.acts for life in lives)), [life.outcomes for life in lives]
    assert done == {"bootstrap", *ACTS}
    assert all(found["rotated"] > 40 for found in outcomes)
    assert any(found["died"] for found in outcomes)


def test_undisturbed_one_cloud_rotates_half_an_interval_after_the_other(lives: list[Figures]) -> None:
    assert max(life.longest_quiet_gap_minutes for life in lives) <= 1.5 * max(INTERVALS_MINUTES)


@pytest.mark.parametrize(
    "name",
    ["generation-reused", "activation-begins-a-new-value", "plan-not-compared", "keys-lost-on-reissue"],
)
def test_a_life_finds_it(name: str) -> None:
    assert any(live(seed, plant=CATALOGUE[name].plant).violations for seed in range(HUNTED))
