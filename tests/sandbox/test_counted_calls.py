"""The calls that `lockstep cost` charges for are the calls that rotations make."""

from collections import Counter
from collections.abc import Mapping

import pytest

from lockstep.cost.calls import FLOWS, Shape, read_counted
from sandbox import count_calls
from sandbox.databases import MariaDbServer, PostgresServer
from tests.support.servers import require


@pytest.mark.parametrize("shape", [count_calls.ONE, count_calls.TWO_IN_BOTH], ids=["1x1", "2x2"])
def test_the_file_has_what_is_counted(shape: Shape) -> None:
    require(MariaDbServer)
    require(PostgresServer)
    with count_calls.world(shape) as running:
        found = count_calls.flows_of(running, shape)
        machine, sizes = count_calls.of_machine(running), count_calls.sizes_of(running)
    kept = read_counted()
    why = "run: python -m sandbox.count_calls --write; then: python -m lockstep.cli.cost_page > docs/cost.md"
    assert found.keys() <= set(FLOWS)
    for flow, calls in found.items():
        assert _numbers(kept.calls(flow, shape)) == {c: n for c, n in calls.items() if n}, (flow, why)
    if shape == count_calls.TWO_IN_BOTH:
        assert machine == {"transitions": kept.transitions, "events": kept.events}, why
        assert sizes == {name: pytest.approx(size, rel=0.2) for name, size in kept.bytes.items()}, why


def _numbers(calls: object) -> Mapping[str, int]:
    assert hasattr(calls, "__iter__")
    return Counter({" ".join(call): number for call, number in calls if number})
