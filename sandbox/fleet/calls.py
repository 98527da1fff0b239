"""How many calls a second the services saw."""

import time
from collections import Counter
from dataclasses import dataclass, field

from sandbox.emulators.oci import OciSandbox

SECRET_WRITES = frozenset({"PutSecretValue", "UpdateSecret", "UpdateSecretVersionStage"})
"""What Secrets Manager counts together: 50 a second
(https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html)."""
WRITES = "Secrets Manager writes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Calls of a service in a span of time.

    Attributes:
        a_second: On the average.
        peak: In the busiest second; None where nobody looked.
    """

    calls: int
    a_second: float
    peak: int | None


@dataclass
class Calls:
    """Counts the calls of AWS, as `AwsSandbox.on_request`, and those of OCI."""

    oci: OciSandbox
    _seen: list[tuple[int, str]] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    def __call__(self, service: str, operation: str) -> None:
        """A request of AWS."""
        second = int(time.monotonic() - self._began)
        self._seen.append((second, service))
        if operation in SECRET_WRITES:
            self._seen.append((second, WRITES))

    def begin(self) -> None:
        """Forget what was seen."""
        self._began = time.monotonic()
        self._seen.clear()
        self.oci.calls.clear()

    def rates(self) -> dict[str, Rates]:
        """Since it began, by service: the writes of secrets first, then the busiest."""
        seconds = max(time.monotonic() - self._began, 1.0)
        seen = list(self._seen)
        totals = Counter(service for _, service in seen)
        in_oci = Counter(f"oci {record.service}" for record in self.oci.calls.records)
        peaks: Counter[str] = Counter()
        for (_, service), number in Counter(seen).items():
            peaks[service] = max(peaks[service], number)
        ordered = sorted((totals + in_oci).items(), key=lambda found: (found[0] != WRITES, -found[1]))
        return {
            service: Rates(calls=number, a_second=round(number / seconds, 1), peak=peaks.get(service))
            for service, number in ordered
        }
