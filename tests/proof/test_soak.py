"""Seconds of load; `make proof` has minutes."""

from tests.proof.soak import soak
from tests.proof.test_faults import needs_servers


@needs_servers
def test_nobody_is_refused_while_rotations_go_wrong() -> None:
    result = soak(["mysql"], minutes=0.15, seed=2)
    assert (result.refused, result.troubles, result.unfinished) == (0, 0, [])
    assert result.rotations >= 1
    assert result.logins > 10
