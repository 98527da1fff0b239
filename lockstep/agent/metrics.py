"""What Prometheus reads of the agent: ages and counts, never a value."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from lockstep.agent.values import Values

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_FAMILIES = (
    (GaugeMetricFamily, "generation", "The generation that is served.", ("secret", "source")),
    (GaugeMetricFamily, "age_seconds", "Since a store was last seen to serve it.", ("secret",)),
    (GaugeMetricFamily, "overlap_left_seconds", "Until it may be revoked.", ("secret",)),
    (CounterMetricFamily, "reads", "Reads of a store.", ("secret", "source", "outcome")),
    (
        GaugeMetricFamily,
        "given_generation",
        "What was given last, by `http` or as a file.",
        ("credential", "way"),
    ),
    (GaugeMetricFamily, "given_timestamp_seconds", "When that was.", ("credential", "way")),
    (CounterMetricFamily, "requests", "Requests, by status.", ("status",)),
)


class _Collector(Collector):
    def __init__(self, values: Values, answered: Mapping[int, int]) -> None:
        kept = [(v.secret.name, v, v.kept) for v in values if v.kept]
        last = sorted(
            ((v.secret.credential_id, way), given) for v in values for way, given in v.given.items()
        )
        self._samples: list[list[tuple[tuple[str, ...], float]]] = [
            [((name, k.source), k.value.generation) for name, _, k in kept],
            [((name,), v.age_seconds) for name, v, _ in kept],
            [((name,), v.seconds_left) for name, v, _ in kept],
            [
                ((v.secret.name, source, outcome), count)
                for v in values
                for outcome, counts in (("answered", v.answered), ("failed", v.failed))
                for source, count in sorted(counts.items())
            ],
            [(way, generation) for way, (generation, _) in last],
            [(way, at.timestamp()) for way, (_, at) in last],
            [((str(status),), count) for status, count in sorted(answered.items())],
        ]

    def collect(self) -> Iterator[Metric]:
        for (kind, name, text, labels), samples in zip(_FAMILIES, self._samples, strict=True):
            family = kind(f"lockstep_agent_{name}", text, labels=labels)
            for of, value in samples:
                family.add_metric(of, value)
            yield family


def text_of(values: Values, answered: Mapping[int, int]) -> str:
    """The metrics in Prometheus's text format.

    Args:
        values: What is kept.
        answered: How many requests were answered, by status.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(values, answered))
    return generate_latest(registry).decode()
