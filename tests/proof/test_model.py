"""The model, within the bounds that a minute allows; `make proof` goes further."""

import pytest

from tests.proof.model import explore, left_out
from tests.proof.model_bounds import BOUNDS, Bound
from tests.proof.planting import Bug, Model


@pytest.mark.parametrize("bound", BOUNDS["quick"], ids=str)
def test_no_order_breaks_it(bound: Bound) -> None:
    result = explore(bound)
    assert result.violation is None, "\n".join(result.story)


@pytest.mark.parametrize(
    ("bug", "within"), [pytest.param(*found, id=found[0].name) for found in left_out(quick=False)]
)
def test_a_rule_is_left_out_only_within_bounds_that_hold_with_it(bug: Bug, within: Model) -> None:
    """What breaks all the same shows nothing about the rule. The slow ones are explored by `--bound deep`."""
    explored = BOUNDS["deep" if within.is_slow else "quick"]
    assert any(bound.covers(within.bound) for bound in explored), bug.name


@pytest.mark.parametrize(
    ("bug", "within"), [pytest.param(*found, id=found[0].name) for found in left_out(quick=True)]
)
def test_each_rule_is_needed(bug: Bug, within: Model) -> None:
    violation = explore(within.bound, bug.plant).violation
    assert violation
    assert violation.invariant == within.invariant, violation
