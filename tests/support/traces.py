"""What a test asks of the spans that a collector has received."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sandbox.estate import environment
from sandbox.otlp import Collector, Received

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@contextmanager
def traced() -> Iterator[Collector]:
    """This process traces into a collector."""
    with Collector() as collector, environment({ENDPOINT: collector.endpoint}):
        yield collector


def of_run(spans: Sequence[Received], run: str) -> Received:
    """The span of a run."""
    [found] = [s for s in spans if s.name == "rotation" and s.attributes["lockstep.run"] == run]
    return found


def below(spans: Sequence[Received], parent: Received) -> list[Received]:
    """The spans that are part of one."""
    return [s for s in spans if s.parent == parent.id]


def names(spans: Sequence[Received]) -> list[str]:
    return [s.name for s in spans]


def orphans(spans: Sequence[Received]) -> list[Received]:
    """The spans whose parent did not come; the first one of a trace has none."""
    ids = {s.id for s in spans}
    assert len(ids) == len(spans), "no id twice"
    return [s for s in spans if s.parent and s.parent not in ids]
