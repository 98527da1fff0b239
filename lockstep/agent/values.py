"""What the agent keeps: the newest value of each secret that a store has shown, and when that was.

Generations only grow, so of two answers the higher one is newer, whichever store it came from. A value may be served
until its overlap has passed since a store was last seen to serve it: until then it logs in, even if a newer one was
promoted right after that look (protocol M1). A store that lags behind does not replace what is kept, until the overlap
is over and what is kept may be dead.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lockstep.errors import LockstepError
from lockstep.model import SecretStr

SHORTEST_PAUSE_SECONDS = 1.0
"""Between two reads that callers ask for: a loop of refused logins does not become a loop of reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The value of a secret, as a store serves it.

    Attributes:
        text: The secret's text; JSON, if Lockstep wrote it.
        version: The id of the version; the same in every cloud for a value of Lockstep's.
        generation: 0 if Lockstep did not write it.
        created_at: When the version was made, by the store's clock.
    """

    text: SecretStr
    version: str
    generation: int
    created_at: datetime | None = None


Read = Callable[[], Reading]
"""Reads a secret from one store. Raises the Store* errors of `lockstep.errors`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A value that is kept.

    Attributes:
        source: The store that showed it last.
        seen_at: When, in seconds of the clock.
    """

    reading: Reading
    source: str
    seen_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A secret that the agent serves.

    Attributes:
        name: As in the plan; what applications ask for.
        credential_id: The credential that it belongs to.
        overlap: How long a value logs in after a newer one was promoted.
        sources: By the store's name, the nearest first.
    """

    name: str
    credential_id: str
    overlap: timedelta
    sources: Mapping[str, Read]


@dataclass
class Counts:
    """Of one secret's reads, by source."""

    answered: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)


class Value:
    """The value of one secret. Threads may share it; one of them reads at a time.

    Args:
        secret: The secret.
        clock: Seconds that only grow, and that count while the machine is suspended.
    """

    def __init__(self, secret: Secret, clock: Callable[[], float]) -> None:
        self.secret = secret
        self.counts = Counts()
        self.problem: LockstepError | None = None
        self._clock = clock
        self._kept: Kept | None = None
        self._asked_at = float("-inf")
        self._one_reads = threading.Lock()

    @property
    def kept(self) -> Kept | None:
        """What was read last; None if nothing ever was."""
        return self._kept

    @property
    def age_seconds(self) -> float:
        """How long ago a store was last seen to serve what is kept."""
        return self._clock() - self._kept.seen_at if self._kept else float("inf")

    @property
    def seconds_left(self) -> float:
        """How long what is kept logs in at least; not above zero if it may be dead."""
        return self.secret.overlap.total_seconds() - self.age_seconds

    @property
    def served(self) -> Kept | None:
        """What is kept, if it may be served."""
        return self._kept if self.seconds_left > 0 else None

    def refresh(self) -> Kept | None:
        """Read the stores, the nearest first; what is kept afterwards."""
        with self._one_reads:
            return self._refresh()

    def refresh_now(self) -> Kept | None:
        """As `refresh`, for a caller: a read that has ended since the call will do."""
        wanted = self._clock()
        with self._one_reads:
            if self._asked_at >= wanted - SHORTEST_PAUSE_SECONDS:
                return self._kept
            return self._refresh()

    def _refresh(self) -> Kept | None:
        self.problem = None
        for source, read in self.secret.sources.items():
            at = self._clock()
            try:
                reading = read()
            except LockstepError as error:
                self.counts.failed[source] = self.counts.failed.get(source, 0) + 1
                self.problem = self.problem or error
                continue
            self.counts.answered[source] = self.counts.answered.get(source, 0) + 1
            if self._is_as_new(reading):
                # The store served it at some moment of the read: the earliest one counts.
                self._kept = Kept(reading=reading, source=source, seen_at=at)
                break
        self._asked_at = self._clock()
        return self._kept

    def _is_as_new(self, reading: Reading) -> bool:
        held = self.served
        return held is None or reading.generation >= held.reading.generation


class Values:
    """The values of all secrets."""

    def __init__(self, secrets: Sequence[Secret], clock: Callable[[], float]) -> None:
        self._values = {secret.name: Value(secret, clock) for secret in secrets}

    def __iter__(self) -> Iterator[Value]:
        return iter(self._values.values())

    def find(self, secret_id: str) -> Value | None:
        """The value of a secret by its name or its ARN; None if it is not one of these."""
        return self._values.get(secret_id) or self._values.get(_name_in_arn(secret_id))

    def beside(self, value: Value) -> Kept | None:
        """What is served of the credential's other secret, which has the addresses of its databases."""
        others = (v for v in self if v.secret.credential_id == value.secret.credential_id and v is not value)
        return next((v.served for v in others), None)

    @property
    def are_served(self) -> bool:
        """Whether every value may be served."""
        return all(value.served for value in self)


def _name_in_arn(arn: str) -> str:
    """The name in a secret's ARN: without the six random characters that AWS appends.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html
    """
    parts = arn.split(":", 6)
    is_secret = len(parts) == 7 and parts[0] == "arn" and parts[2] == "secretsmanager"  # noqa: PLR2004 - of an ARN
    return parts[6].rpartition("-")[0] if is_secret and parts[5] == "secret" else ""
