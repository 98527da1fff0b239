"""A short life in `make test`; `make proof` lives through thirty days."""

from tests.proof.life_acts import LONGEST_INTERVAL_MINUTES, Operator
from tests.proof.thirty_days import OTHER_ACTS, PLAN_CHANGES, live


def test_two_days_with_outages_and_every_act_of_an_operator_lock_nobody_out() -> None:
    month = live(2, seed=7)
    assert month.holds, month
    assert month.outcomes["rotated"] > 90
    assert month.rotated_by.keys() == {"aws", "oci"}
    assert sum(month.outages.values()) >= 3
    assert month.acts["plan changes"] == PLAN_CHANGES
    assert sum(month.acts.values()) == PLAN_CHANGES + len(OTHER_ACTS) + len(("bootstrap", "retire"))
    assert month.longest_refusals == 1
    # From the trigger of one cloud to that of the other (protocol R8).
    assert month.longest_calm_gap_minutes <= 1.5 * LONGEST_INTERVAL_MINUTES


def test_every_act_is_an_act_of_the_operator() -> None:
    assert all(hasattr(Operator, name) for name in OTHER_ACTS)
