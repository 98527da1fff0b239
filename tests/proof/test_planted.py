"""The planted bugs are found, and docs/proof.md tells of those that there are."""

import re

import pytest

from tests.proof.planted import BUGS, hunt, hunt_on_the_wire
from tests.proof.report import BEGIN, DOCUMENT, END
from tests.proof.test_faults import needs_servers

SCHEDULES = 4000
_ROW = re.compile(r"^\| \*\*(?P<name>[a-z-]+)\*\*: .* \| (?P<invariant>[^|]+) \| [^|]+ \| .*$", re.MULTILINE)
_SEED = re.compile(r"\(seed (\d+)\) \|$")


def _rows() -> dict[str, re.Match[str]]:
    text = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    return {row["name"]: row for row in _ROW.finditer(text)}


def test_the_document_names_the_bugs_of_the_code_and_no_others() -> None:
    assert list(_rows()) == list(BUGS)


def test_there_are_a_dozen_and_every_one_was_caught_as_it_should_be() -> None:
    rows = _rows()
    assert len(BUGS) >= 12
    assert all(rows[name]["invariant"].strip() in bug.caught_as for name, bug in BUGS.items())


@pytest.mark.parametrize("name", [b.name for b in BUGS.values() if not b.wire])
def test_races_find_it(name: str) -> None:
    known = _SEED.search(_rows()[name][0])
    found, _ = hunt(BUGS[name], schedules=1, first_seed=int(known[1]), shrink=False) if known else (None, 0)
    if found is None:  # The code has changed, and with it what happens at that seed.
        found, _ = hunt(BUGS[name], schedules=SCHEDULES, shrink=False)
    assert found, BUGS[name].what


@needs_servers
def test_the_wire_finds_it() -> None:
    invariant, _, _ = hunt_on_the_wire(BUGS["retain-without-probe"])
    assert invariant in BUGS["retain-without-probe"].caught_as
