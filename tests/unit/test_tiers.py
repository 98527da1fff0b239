"""Which tests are of the second tier."""

import re
from pathlib import Path

import pytest

from tests.tiers import PROOF_TIER, is_proof_tier

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("place", [place for places in PROOF_TIER.values() for place in places])
def test_what_the_list_names_is_there(place: str) -> None:
    file, _, name = place.partition("[")[0].partition("::")
    assert (ROOT / file).exists()
    assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("test", "is_second"),
    [
        ("tests/agent/languages/test_node.py::test_a_pool[mysql]", True),
        ("tests/agent/test_http.py::test_languages", False),
        ("tests/infrastructure/test_fleet_run.py::test_any", True),
        ("tests/docs/test_tutorial.py::test_the_guides_run_in_the_same_sandbox[a/b::c]", True),
        ("tests/statemachine/test_canary.py::test_no_password_appears_anywhere[mariadb]", True),
        ("tests/statemachine/test_canary.py::test_no_password_appears_anywhere[mysql]", False),
        ("tests/docs/test_tutorial.py::test_no_page_depends_on_a_machine_that_is_slow", False),
    ],
)
def test_a_folder_a_file_or_a_test_is_named(test: str, *, is_second: bool) -> None:
    assert is_proof_tier(test) is is_second
