"""What the catalogue says is true, and docs/proof.md says the same."""

import re
import warnings

import pytest

from tests.proof.catalogue import CATALOGUE, Bug
from tests.proof.planted import hunt, hunt_on_the_wire
from tests.proof.report import BEGIN, DOCUMENT, END, in_the_model
from tests.proof.test_faults import needs_servers

SCHEDULES = 4000
_ROW = re.compile(
    r"^\| \*\*(?P<name>[a-z-]+)\*\*: (?P<what>[^|]+) \| (?P<clause>[^|]*) \| (?P<model>[^|]*) \|"
    r" (?P<invariant>[^|]*) ?\|(?P<tries>[^|]*)\|(?P<story>[^|]*)\|$",
    re.MULTILINE,
)
_SEED = re.compile(r"\(seed (\d+)\) $")
_PROTOCOL = (DOCUMENT.parent / "protocol.md").read_text()


def _rows() -> dict[str, re.Match[str]]:
    text = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    return {row["name"]: row for row in _ROW.finditer(text)}


def test_the_document_has_the_catalogue_and_what_was_caught() -> None:
    rows = _rows()
    assert list(rows) == list(CATALOGUE)
    for name, bug in CATALOGUE.items():
        row = rows[name]
        assert (row["what"], row["clause"], row["model"]) == (bug.what, bug.clause, in_the_model(bug))
        hunted = bug.races or bug.faults
        assert row["invariant"].strip() in (hunted.caught_as if hunted else ("",))


@pytest.mark.parametrize("bug", CATALOGUE.values(), ids=CATALOGUE)
def test_a_bug_leaves_out_a_clause_of_the_protocol_and_some_checker_must_find_it(bug: Bug) -> None:
    assert bug.checks
    for clause in bug.clause.split(", "):
        assert re.search(rf"^\*\*{clause}[.,](?!\*\* \*Retired)", _PROTOCOL, re.MULTILINE), clause


@pytest.mark.parametrize("name", [name for name, bug in CATALOGUE.items() if bug.races])
def test_races_find_it(name: str) -> None:
    bug, known = CATALOGUE[name], _SEED.search(_rows()[name]["story"])
    assert bug.races
    found = None
    if known:
        found, _ = hunt(bug, bug.races, schedules=1, first_seed=int(known[1]), shrink=False)
    if found is None:  # The code has changed, and with it what happens at that seed.
        found, _ = hunt(bug, bug.races, schedules=SCHEDULES, shrink=False)
        assert found, bug.what
        new = f"seed {found.schedule.seed} instead of {known[1] if known else 'none'}"
        warnings.warn(
            f"{name}: {new}. `python -m tests.proof.run --table` writes it, which saves a hunt", stacklevel=1
        )


@needs_servers
@pytest.mark.parametrize("name", [name for name, bug in CATALOGUE.items() if bug.faults])
def test_the_wire_finds_it(name: str) -> None:
    bug = CATALOGUE[name]
    assert bug.faults
    invariant, _, _ = hunt_on_the_wire(bug, bug.faults)
    assert invariant in bug.faults.caught_as
