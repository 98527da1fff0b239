"""What Prometheus reads of the agent: ages and counts, never a value."""

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from lockstep.agent.http import ServedLog
from lockstep.agent.values import Values

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class _Collector(Collector):
    def __init__(self, values: Values, given: ServedLog, answered: Mapping[int, int]) -> None:
        self._values = values
        self._given = given
        self._answered = answered

    def collect(self) -> Iterator[Metric]:
        generation = GaugeMetricFamily(
            "lockstep_agent_generation", "The generation that is served.", labels=["secret", "source"]
        )
        age = GaugeMetricFamily(
            "lockstep_agent_age_seconds", "Since a store was last seen to serve it.", labels=["secret"]
        )
        left = GaugeMetricFamily(
            "lockstep_agent_overlap_left_seconds", "Until it may be revoked.", labels=["secret"]
        )
        reads = CounterMetricFamily(
            "lockstep_agent_reads", "Reads of a store.", labels=["secret", "source", "outcome"]
        )
        for value in self._values:
            name = value.secret.name
            if value.kept:
                generation.add_metric([name, value.kept.source], value.kept.value.generation)
                age.add_metric([name], value.age_seconds)
                left.add_metric([name], value.seconds_left)
            for outcome, counts in (("answered", value.answered), ("failed", value.failed)):
                for source, count in sorted(counts.items()):
                    reads.add_metric([name, source, outcome], count)
        given = GaugeMetricFamily(
            "lockstep_agent_given_generation",
            "The generation that was given last, by `http` or as a file.",
            labels=["credential", "way"],
        )
        given_at = GaugeMetricFamily(
            "lockstep_agent_given_timestamp_seconds", "When that was.", labels=["credential", "way"]
        )
        for gift in self._given:
            given.add_metric([gift.credential, gift.way], gift.generation)
            given_at.add_metric([gift.credential, gift.way], gift.at.timestamp())
        requests = CounterMetricFamily("lockstep_agent_requests", "Requests, by status.", labels=["status"])
        for status, count in sorted(self._answered.items()):
            requests.add_metric([str(status)], count)
        yield from (generation, age, left, reads, given, given_at, requests)


def text_of(values: Values, given: ServedLog, answered: Mapping[int, int]) -> str:
    """The metrics in Prometheus's text format.

    Args:
        values: What is kept.
        given: What was given.
        answered: How many requests were answered, by status.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(values, given, answered))
    return generate_latest(registry).decode()
