"""The seconds around the busiest minute of a plan: what they ask of each service, and how long a shard takes.

Every rotation goes through its four steps, each of which takes about a quarter of the time and makes the calls that
were counted (`lockstep.cost.calls`). Secrets Manager's writes come from a bucket of what it takes in a second; a step
that finds it empty is tried again, as the state machine does it. Nothing is random: how long a step takes, and how long
a retry waits, depend on the credential's id alone, so the same plan gives the same figures.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from math import inf

from lockstep.cost.assumptions import ROTATION_SECONDS
from lockstep.cost.aws import DECRYPTS, FUNCTIONS, READS, shape_of
from lockstep.cost.aws import WRITES as LOCK_WRITES
from lockstep.cost.calls import Call, Shape, read_counted
from lockstep.cost.fleet import STATES_OF_AN_ITEM
from lockstep.plan import Plan
from lockstep.quotas import pace
from lockstep.quotas.rates import MAP_STARTS
from lockstep.timing import STEP_POLICY
from lockstep.wall_clock import DAY

WRITES = "Secrets Manager, writes"
STARTS = "Step Functions, starts"
TRANSITIONS = "Step Functions, transitions"
INVOCATIONS = "Lambda, calls"
SERVICES = (
    WRITES,
    "Secrets Manager, reads",
    STARTS,
    TRANSITIONS,
    INVOCATIONS,
    "DynamoDB, writes",
    "DynamoDB, reads",
    "KMS",
    "S3",
    "OCI Vault, management",
    "OCI Vault, retrieval",
    "STS",
    "OCI identity domain",
    "OCI Object Storage",
)
_MINUTE = timedelta(minutes=1)
_BEFORE, _AFTER = 3, 2
"""Minutes around the busiest one in which shards start."""
_SPREAD = (Fraction(1, 2), Fraction(3, 2))
"""The shortest and the longest time of a step, of its mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What happened.

    Attributes:
        peaks: The calls of each service in its busiest second.
        last_begins: Seconds after the start of its shard at which the last rotation of any shard began.
        wall: Seconds from the start of a shard to the end of its last rotation, of the slowest shard.
        at_once: The most rotations that ran at the same time.
        throttled: Steps that were tried again since Secrets Manager took no more writes.
        failed: Rotations of which a step was tried as often as it may be.
        rotations: All.
    """

    peaks: Mapping[str, int]
    last_begins: float
    wall: float
    at_once: int
    throttled: int
    failed: int
    rotations: int


def mean_calls(plan: Plan) -> dict[str, float]:
    """The calls of each service in a second, on average over a day."""
    each: Counter[str] = Counter()
    for section in plan.credential_sections:
        for service, count in _calls(shape_of(plan, section)).items():
            each[service] += count / section.interval.total_seconds()  # type: ignore[assignment] # a sum of fractions
    return {service: float(each[service]) for service in SERVICES}


def simulate(plan: Plan, *, seconds: float = ROTATION_SECONDS, paced: bool = True) -> Simulated:
    """Run the shards around the busiest minute.

    Args:
        plan: What is rotated.
        seconds: What a rotation takes, on average.
        paced: Whether rotations begin at their pace; else as soon as fewer run than may.
    """
    return _Run(plan, seconds, paced).go()


@dataclass(slots=True)
class _Shard:
    start: float
    ids: list[str]
    at_once: int
    every: float
    """Seconds from one rotation's begin to the next one's, at least."""
    begun: int = 0
    running: int = 0
    last_begin: float = -inf
    end: float = 0

    def may_begin(self, now: float) -> bool:
        """Whether the next rotation may."""
        in_pace = now >= self.last_begin + self.every
        return in_pace and self.begun < len(self.ids) and self.running < self.at_once


@dataclass(slots=True)
class _Run:
    plan: Plan
    seconds: float
    paced: bool
    events: list[tuple[float, int, int, str, int, int]] = field(default_factory=list)
    calls: dict[str, Counter[int]] = field(default_factory=dict)
    order: int = 0
    tokens: float = pace.WRITES_A_SECOND
    filled: float = -_BEFORE * 60.0
    throttled: int = 0
    failed: int = 0

    def go(self) -> Simulated:
        self.calls = {service: Counter() for service in SERVICES}
        shapes = {c.id: shape_of(self.plan, c) for c in self.plan.credential_sections}
        by_step = {shape: _by_step(shape) for shape in set(shapes.values())}
        shards = list(self._shards())
        running = most = 0
        for number in range(len(shards)):
            self._put(shards[number].start, number, "", -1, 0)
        while self.events:
            now, _, number, key, step, tries = heapq.heappop(self.events)
            shard = shards[number]
            if step < 0:  # The next rotation may begin.
                if not shard.may_begin(now):
                    continue
                key = shard.ids[shard.begun]
                shard.begun, shard.running, shard.last_begin = shard.begun + 1, shard.running + 1, now
                running += 1
                most = max(most, running)
                self._count(now, {STARTS: 1})
                self._put(now + self._takes(key, 0), number, key, 0, 0)
                self._put(now + shard.every, number, "", -1, 0)
                continue
            calls = by_step[shapes[key]][step]
            self._count(now, calls)
            if not self._took(now, calls.get(WRITES, 0)):
                if tries < STEP_POLICY.attempts:
                    self.throttled += 1
                    delay = STEP_POLICY.delay_seconds(tries) * _share(f"{key} {step} {tries}")
                    self._put(now + delay + self._takes(key, step) / 2, number, key, step, tries + 1)
                    continue
                self.failed += 1
                step = len(FUNCTIONS)
            if step + 1 < len(FUNCTIONS):
                self._put(now + self._takes(key, step + 1), number, key, step + 1, 0)
                continue
            running -= 1
            shard.running, shard.end = shard.running - 1, now
            self._put(max(now, shard.last_begin + shard.every), number, "", -1, 0)
        return Simulated(
            peaks={name: max(counts.values(), default=0) for name, counts in self.calls.items()},
            last_begins=max(shard.last_begin - shard.start for shard in shards),
            wall=max(shard.end - shard.start for shard in shards),
            at_once=most,
            throttled=self.throttled,
            failed=self.failed,
            rotations=sum(len(shard.ids) for shard in shards),
        )

    def _shards(self) -> Iterator[_Shard]:
        busiest, allowed = pace.busiest(self.plan.shards), pace.concurrency(self.plan)
        every = pace.every_ms(self.plan)
        for later in range(-_BEFORE, _AFTER + 1):
            minute = (busiest.at + later * _MINUTE) % DAY
            for shard in self.plan.shards:
                if minute in pace.minutes(shard):
                    yield _Shard(
                        start=later * _MINUTE.total_seconds(),
                        ids=list(shard.credential_ids),
                        at_once=allowed[shard.name],
                        every=every[shard.name] / 1000 if self.paced else 1 / MAP_STARTS,
                    )

    def _put(self, at: float, shard: int, key: str, step: int, tries: int) -> None:
        self.order += 1
        heapq.heappush(self.events, (at, self.order, shard, key, step, tries))

    def _takes(self, key: str, step: int) -> float:
        shortest, longest = _SPREAD
        share = float(shortest) + float(longest - shortest) * _share(f"{key} {step}")
        return self.seconds / len(FUNCTIONS) * share

    def _count(self, now: float, calls: Mapping[str, int]) -> None:
        for service, count in calls.items():
            self.calls[service][int(now // 1)] += count

    def _took(self, now: float, writes: int) -> bool:
        rate = pace.WRITES_A_SECOND
        self.tokens, self.filled = min(rate, self.tokens + (now - self.filled) * rate), now
        if writes > self.tokens:
            return False
        self.tokens -= writes
        return True


def _share(text: str) -> float:
    """From 0 to 1, by a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) / 2**32


def _calls(shape: Shape) -> Counter[str]:
    return sum(_by_step(shape), Counter({STARTS: 1}))


def _by_step(shape: Shape) -> list[Counter[str]]:
    """The calls of each step, by service; those of the state machine are with the first one."""
    counted = read_counted()
    steps = [Counter({INVOCATIONS: 1, TRANSITIONS: counted.transitions // len(FUNCTIONS)}) for _ in FUNCTIONS]
    steps[0][TRANSITIONS] += counted.transitions % len(FUNCTIONS) + STATES_OF_AN_ITEM
    for flow in ("aws rotation", "aws cold start"):
        for call, count in counted.calls(flow, shape):
            step = steps[FUNCTIONS.index(call.step) if call.step in FUNCTIONS else 0]
            for service in _services(call):
                step[service] += count
    return steps


def _services(call: Call) -> Iterator[str]:
    """Whom a call asks: Secrets Manager asks KMS."""
    match call.service:
        case "secretsmanager":
            yield WRITES if call.operation in pace.WRITES else "Secrets Manager, reads"
            if call.operation in DECRYPTS:
                yield "KMS"
        case "dynamodb":
            if call.operation in LOCK_WRITES:
                yield "DynamoDB, writes"
            elif call.operation in READS:
                yield "DynamoDB, reads"
        case other:
            yield {
                "kms": "KMS",
                "s3": "S3",
                "sts": "STS",
                "identitydomain": "OCI identity domain",
                "vault": "OCI Vault, management",
                "secrets": "OCI Vault, retrieval",
                "objectstorage": "OCI Object Storage",
            }[other]
