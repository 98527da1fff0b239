"""What Prometheus reads of the agent: ages and counts, never a value."""

from collections.abc import Iterator, Mapping

from lockstep.agent.values import Values

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FAMILIES = (
    ("gauge", "generation", "The generation that is served.", ("secret", "source")),
    ("gauge", "age_seconds", "Since a store was last seen to serve it.", ("secret",)),
    ("gauge", "overlap_left_seconds", "Until it may be revoked.", ("secret",)),
    ("counter", "reads_total", "Reads of a store.", ("secret", "source", "outcome")),
    ("gauge", "given_generation", "What was given last, by `http` or as a file.", ("credential", "way")),
    ("gauge", "given_timestamp_seconds", "When that was.", ("credential", "way")),
    ("counter", "requests_total", "Requests, by status.", ("status",)),
)


def text_of(values: Values, answered: Mapping[int, int]) -> str:
    """The metrics in Prometheus's text format (https://prometheus.io/docs/instrumenting/exposition_formats/).

    Args:
        values: What is kept.
        answered: How many requests were answered, by status.
    """
    lines = list[str]()
    for (kind, name, text, labels), samples in zip(_FAMILIES, _samples(values, answered), strict=True):
        lines += [f"# HELP lockstep_agent_{name} {text}", f"# TYPE lockstep_agent_{name} {kind}"]
        for of, value in samples:
            told = ",".join(f'{label}="{_escaped(str(x))}"' for label, x in zip(labels, of, strict=True))
            lines.append(f"lockstep_agent_{name}{{{told}}} {float(value)}")
    return "\n".join(lines) + "\n"


def _samples(
    values: Values, answered: Mapping[int, int]
) -> Iterator[list[tuple[tuple[str | int, ...], float]]]:
    kept = [(v.secret.name, v, v.kept) for v in values if v.kept]
    last = sorted(((v.secret.credential_id, way), given) for v in values for way, given in v.given.items())
    yield [((name, k.source), k.value.generation) for name, _, k in kept]
    yield [((name,), v.age_seconds) for name, v, _ in kept]
    yield [((name,), v.seconds_left) for name, v, _ in kept]
    yield [
        ((v.secret.name, source, outcome), count)
        for v in values
        for outcome, counts in (("answered", v.answered), ("failed", v.failed))
        for source, count in sorted(counts.items())
    ]
    yield [(way, generation) for way, (generation, _) in last]
    yield [(way, at.timestamp()) for way, (_, at) in last]
    yield [((status,), count) for status, count in sorted(answered.items())]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
