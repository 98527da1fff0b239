"""A short month in `make test`; `make proof` lives through thirty days."""

from tests.proof.thirty_days import live


def test_two_days_with_outages_hit_no_quota_and_lock_nobody_out() -> None:
    month = live(2, seed=7)
    assert month.holds, month
    assert month.outcomes["rotated"] > 100
    assert month.rotated_by.keys() == {"aws", "oci"}
    assert sum(month.outages.values()) >= 3
