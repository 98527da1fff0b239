"""Spans of one run, recorded in memory; ids that every runner derives alike.

A trace belongs to the run that made the claim (`Claim.rotation_id`): what another run, of either cloud, does to finish
that claim is in the same trace. Nothing is handed from step to step for that, since every step knows its claim when it
ends.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from lockstep.ports import Clock

if TYPE_CHECKING:
    from lockstep.model import Claim

Attributes = Mapping[str, str | int | bool]
CLIENT, INTERNAL = "client", "internal"
_TRACE_BYTES, _SPAN_BYTES = 16, 8


@dataclass(slots=True, kw_only=True)
class Span:
    """What took some time.

    Attributes:
        id: 16 hexadecimal digits.
        parent: The id of the span that it is part of; None for the first one of a trace.
        kind: CLIENT for a call of something else, or INTERNAL.
        began: Nanoseconds since 1970, as `ended`.
        error: The class of the error that ended it.
    """

    id: str
    parent: str | None
    name: str
    kind: str
    began: int
    ended: int = 0
    attributes: dict[str, str | int | bool] = field(default_factory=dict)
    error: str | None = None


class Trace:
    """Records what one invocation does for one run.

    Args:
        credential_id: The credential.
        rotation_id: The run.
        clock: The time of the spans.
    """

    def __init__(self, credential_id: str, rotation_id: str, clock: Clock) -> None:
        self._credential, self._run = credential_id, rotation_id
        self._clock = clock
        self._since = (_nanoseconds(clock.now()), clock.monotonic())
        self._numbers = count()
        self._spans: list[Span] = []
        self._claim: Claim | None = None

    @property
    def run_id(self) -> str:
        """The id of the span of the run."""
        return _digest(_SPAN_BYTES, "run", self._credential, self._run)

    def learn(self, message: object) -> None:
        """Note the claim of a request or a result, if it has one."""
        self._claim = getattr(message, "claim", None) or self._claim

    @contextmanager
    def span(self, name: str, attributes: Attributes, *, kind: str = INTERNAL) -> Iterator[Span]:
        """Record the block, as part of the span around it, else of the run's."""
        around = _current.get()
        began = self._now()
        span = Span(
            id=_digest(_SPAN_BYTES, self._credential, self._run, name, began, next(self._numbers)),
            parent=around[1].id if around else self.run_id,
            name=name,
            kind=kind,
            began=began,
            attributes={**attributes},
        )
        token = _current.set((self, span))
        try:
            yield span
        except BaseException as error:
            span.error = type(error).__name__
            raise
        finally:
            _current.reset(token)
            span.ended = self._now()
            self._spans.append(span)

    def add_run(self, began: datetime, attributes: Attributes, *, error: str | None) -> None:
        """Add the span of the whole run, which ends now."""
        self._spans.append(
            Span(
                id=self.run_id,
                parent=None,
                name="rotation",
                kind=INTERNAL,
                began=_nanoseconds(began),
                ended=self._now(),
                attributes={**attributes},
                error=error,
            )
        )

    def ended(self) -> list[dict[str, Any]]:
        """The spans in the form that `lockstep.tracing.send` reads, with what is known by the end."""
        maker = self._claim.rotation_id if self._claim else self._run
        known: dict[str, str | int] = {"lockstep.credential": self._credential, "lockstep.run": self._run}
        if self._claim:
            known |= {"lockstep.generation": self._claim.generation, "lockstep.claim": self._claim.kind.value}
        first = None if maker == self._run else _digest(_SPAN_BYTES, "run", self._credential, maker)
        return [
            {
                "trace": trace_id(self._credential, maker),
                "id": span.id,
                "parent": span.parent or first,
                "name": span.name,
                "kind": span.kind,
                "began": span.began,
                "ended": span.ended,
                "attributes": span.attributes if span.kind == CLIENT else {**known, **span.attributes},
                "error": span.error,
            }
            for span in self._spans
        ]

    def _now(self) -> int:
        wall, monotonic = self._since
        return wall + round((self._clock.monotonic() - monotonic) * 1e9)


@contextmanager
def client_span(name: str, attributes: Attributes) -> Iterator[dict[str, str | int | bool]]:
    """Record a call of something else, where this is part of a trace; the attributes, to be added to."""
    around = _current.get()
    if around is None:
        yield {}
        return
    with around[0].span(name, attributes, kind=CLIENT) as span:
        yield span.attributes


def trace_id(credential_id: str, rotation_id: str) -> str:
    """The trace of what a run has begun: 32 hexadecimal digits."""
    return _digest(_TRACE_BYTES, "trace", credential_id, rotation_id)


def _digest(size: int, *parts: object) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[: 2 * size]


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp() * 1e6) * 1000


_current: ContextVar[tuple[Trace, Span] | None] = ContextVar("span", default=None)
