"""The model, within the bounds that a minute allows; `make proof` goes further."""

import pytest

from tests.proof import model
from tests.proof.catalogue import Bug, Model, StandIn
from tests.proof.model_bounds import BOUNDS, Bound


def _name(bound: Bound) -> str:
    return "+".join(bound.engines) + ": " + model.spoken(bound.budget)


@pytest.mark.parametrize("bound", BOUNDS["quick"], ids=_name)
def test_no_order_breaks_it(bound: Bound) -> None:
    result = model.check(bound)
    assert result.violation is None, "\n".join(result.story)


@pytest.mark.parametrize(
    ("bug", "within"), [pytest.param(*found, id=found[0].name) for found in model.left_out(quick=False)]
)
def test_a_rule_is_left_out_only_within_bounds_that_hold_with_it(bug: Bug, within: Model | StandIn) -> None:
    """What breaks all the same shows nothing about the rule. The slow ones are explored by `--bound deep`."""
    if isinstance(within, Model):
        hunt = Bound(within.budget, within.engines, within.waives)
        explored = BOUNDS["deep" if within.is_slow else "quick"]
        assert any(bound.covers(hunt) for bound in explored), bug.name


@pytest.mark.parametrize(
    ("bug", "within"), [pytest.param(*found, id=found[0].name) for found in model.left_out(quick=True)]
)
def test_each_rule_is_needed(bug: Bug, within: Model | StandIn) -> None:
    violation = model.check_bug(bug, within).violation
    assert (violation.invariant if violation else None) == model.expected(within), violation
