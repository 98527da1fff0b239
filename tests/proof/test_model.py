"""The model, within the bounds that a minute allows; `make proof` goes further."""

import pytest

from tests.proof import model
from tests.proof.model_bugs import BOUNDS, BUGS, MARIADB, MYSQL, POSTGRESQL, Bound, Bug
from tests.proof.model_checker import Budget, Checker
from tests.proof.model_programs import Protocol
from tests.proof.model_replay import shipped


def _name(bound: Bound) -> str:
    return "+".join(bound.engines) + ": " + model.spoken(bound.budget)


@pytest.mark.parametrize("bound", BOUNDS["quick"], ids=_name)
def test_no_order_of_events_breaks_the_protocol(bound: Bound) -> None:
    result = model.check(bound)
    assert result.violation is None, "\n".join(result.story)


@pytest.mark.parametrize("bug", [b for b in BUGS if not b.is_slow], ids=lambda bug: bug.name)
def test_each_rule_is_needed(bug: Bug) -> None:
    result = model.check_bug(bug)
    assert model.is_caught(bug, result), result.violation


@pytest.mark.parametrize(
    ("engines", "budget"),
    [
        (MYSQL, Budget(terms=1, refusals=1, revokes=1)),
        (MARIADB, Budget(terms=1, refusals=1, revokes=1)),
        (POSTGRESQL, Budget(terms=1, losses=1, edits=1)),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else model.spoken(value),
)
def test_the_programs_of_the_model_are_the_shipped_steps(engines: tuple[str, str], budget: Budget) -> None:
    checker = Checker(Protocol(engines), budget)
    checker.explore()
    programs = checker.interpreter
    replayed = 0
    for process in programs.processes():
        step = programs.step_of(process)
        if step and step[0] != "give_up":
            assert shipped(checker.protocol, process, step) == programs.call(process), (step, process.replies)
            replayed += 1
    assert replayed > 300
