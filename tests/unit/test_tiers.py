"""Which tests are of the second tier."""

import re
from pathlib import Path

from tests.tiers import PROOF_TIER, is_proof_tier

ROOT = Path(__file__).parents[2]


def test_what_the_list_names_is_there_and_is_of_the_second_tier() -> None:
    for place in (place for places in PROOF_TIER.values() for place in places):
        file, _, name = place.partition("[")[0].partition("::")
        assert (ROOT / file).exists()
        assert not name or re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), place
        assert is_proof_tier(f"{place}/test_any.py::test_any[a/b]" if "." not in file else place)
    for other in ("agent/test_http.py::test_languages", "statemachine/test_rotation.py::test_no_other[mysql]"):
        assert not is_proof_tier(f"tests/{other}")
