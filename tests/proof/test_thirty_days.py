"""A short life, of the second tier; `make proof` lives through up to thirty days."""

from tests.proof.life_acts import LONGEST_INTERVAL_MINUTES
from tests.proof.thirty_days import ACTS, live


def test_two_days_with_outages_and_every_act_of_an_operator_lock_nobody_out() -> None:
    month = live(2, seed=7)
    assert month.holds, month
    assert month.outcomes["rotated"] > 90
    assert month.rotated_by.keys() == {"aws", "oci"}
    assert sum(month.outages.values()) >= 3
    assert month.acts == ACTS | {"bootstrap": 1, "retire": 1}
    assert month.longest_refusals == 1
    # From the trigger of one cloud to that of the other (protocol R8).
    assert month.longest_calm_gap_minutes <= 1.5 * LONGEST_INTERVAL_MINUTES
