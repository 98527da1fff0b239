"""Every fault at every call of a rotation, of each runner, on each kind of credential, and the recovery from it."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sandbox.wire import Call, Fault, FaultKind, Order
from tests.proof.estate import WiredEstate
from tests.proof.invariants import ViolationError
from tests.proof.observer import Observer
from tests.proof.runners import RUNNERS, Outcome, RunnerName, Runners

ON_CHANGES = (
    FaultKind.FAIL,
    FaultKind.LOSE_REPLY,
    FaultKind.DIE_BEFORE,
    FaultKind.DIE_AFTER,
    FaultKind.OVERTAKEN,
    FaultKind.TWICE,
)
ON_READS = (FaultKind.FAIL, FaultKind.DIE_BEFORE, FaultKind.OVERTAKEN)
"""A call that changes nothing has no effect to come before or after."""
HANGS = (FaultKind.HANG, FaultKind.LATE)
"""Each costs a time-out, so they are enumerated in an estate with short ones."""
HTTP = frozenset(
    {
        *("secretsmanager", "dynamodb", "s3", "kms", "sts", "lambda"),
        *("vault", "secrets", "objectstorage", "identitydomain"),
    }
)
OVER_HTTP = frozenset({FaultKind.TWICE, FaultKind.LATE})
"""A database's connection is cut with the call; nothing arrives on it twice or late."""
TOGETHER = frozenset({FaultKind.FAIL, FaultKind.LOSE_REPLY, FaultKind.DIE_BEFORE, FaultKind.DIE_AFTER})
"""A process that sleeps does so with all its calls, and one whose call hangs makes no other: neither is meant for
calls that are really under way at the same time."""
STATE_MACHINE = "state machine"
TAKER_DIES_PART = 0.5
LATEST_DEATH = 75
"""The number of calls of the shortest rotation."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One fault, and who recovers from it."""

    kind: str
    runner: RunnerName
    fault: FaultKind
    at: int
    recoverer: RunnerName
    order: Order = Order.FORWARD
    taker_dies_after: int = 0

    def __str__(self) -> str:
        taker = f", which dies {self.taker_dies_after} calls later" if self.taker_dies_after else ""
        calls = f"{self.kind}, {self.runner}, {self.order}"
        return f"{calls}: {self.fault} at call {self.at}; then {self.recoverer}{taker}"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A case in which an invariant did not hold."""

    case: Case
    violation: str
    story: str


@dataclass
class Tally:
    """What was run."""

    cases: int = 0
    struck: int = 0
    boundaries: dict[str, int] = field(default_factory=dict)
    by_fault: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    logins: int = 0
    looks: int = 0
    seconds: float = 0.0


class Enumeration:
    """Cases on one credential, one after the other: each begins in the steady state that the one before ended in."""

    def __init__(self, estate: WiredEstate, runners: Runners, kind: str) -> None:
        self.kind = kind
        self._estate = estate
        self._runners = runners
        self._credential = estate.credential(kind)
        self.observer = Observer(estate, self._credential)
        self._violations: list[ViolationError] = []
        self.texts: list[str] = []
        for runner in (*RUNNERS, *RUNNERS):
            self.undisturbed(runner)

    @property
    def databases(self) -> tuple[str, ...]:
        """The credential's."""
        return self._credential.databases

    def undisturbed(self, runner: RunnerName, order: Order = Order.FORWARD) -> list[Call]:
        """A rotation in which nothing goes wrong; its calls."""
        self._estate.wire.order = order
        self._runners.wait_for(runner, self._credential.id)
        outcome = self._watched(runner, None)
        self._raise()
        self.observer.recovered(outcome)
        return list(self._estate.wire.calls)

    def cases(
        self,
        runner: RunnerName,
        *,
        rng: random.Random,
        hangs: bool,
        at: Callable[[Call], bool] = lambda _call: True,
    ) -> list[Case]:
        """All cases for the calls of an undisturbed rotation, in each order of what a step makes side by side.

        An order adds a case only where it matters: where other calls were made before, or another one is made.
        Those at changes come first, with one runner to recover from each fault; then all once more, with the other.
        """
        found: list[tuple[bool, bool, float, Case]] = []
        forward = [_named(call) for call in self.undisturbed(runner)]
        for order in Order:
            calls = self.undisturbed(runner, order)
            names = [_named(call) for call in calls]
            new = [
                call
                for i, call in enumerate(calls)
                if at(call)
                and (
                    order is Order.FORWARD
                    or names[i : i + 1] != forward[i : i + 1]
                    or Counter(names[:i]) != Counter(forward[:i])
                )
            ]
            found += self._cases_in(order, runner, calls=new, rng=rng, hangs=hangs)
        return [case for *_, case in sorted(found, key=lambda item: item[:3])]

    def _cases_in(
        self, order: Order, runner: RunnerName, *, calls: Sequence[Call], rng: random.Random, hangs: bool
    ) -> Iterator[tuple[bool, bool, float, Case]]:
        for call in calls:
            changes = call.changes or call.target == "lambda"
            for fault in HANGS if hangs else ON_CHANGES if changes else ON_READS:
                if fault in OVER_HTTP and call.target not in HTTP:
                    continue
                if order is Order.TOGETHER and fault not in TOGETHER:
                    continue
                if hangs and (call.process.name == STATE_MACHINE or not changes):
                    continue  # It is moto that waits there, not the shipped code.
                for again, recoverer in enumerate(rng.sample(RUNNERS, k=len(RUNNERS))):
                    dies = fault is FaultKind.OVERTAKEN and rng.random() < TAKER_DIES_PART
                    case = Case(
                        kind=self.kind,
                        runner=runner,
                        fault=fault,
                        at=call.number,
                        recoverer=recoverer,
                        order=order,
                        taker_dies_after=rng.randrange(1, LATEST_DEATH) if dies else 0,
                    )
                    yield bool(again), not changes, rng.random(), case

    def run(self, case: Case, tally: Tally) -> None:
        """Run a case; what does not hold is noted in the tally."""
        began, fault = time.monotonic(), Fault(case.fault, case.at)
        tally.cases += 1
        self._estate.wire.order = case.order
        self._runners.wait_for(case.runner, self._credential.id)
        calls: list[Call] = []
        outcome = recovery = None
        try:
            outcome = self._disturbed(case, fault)
            calls = list(self._estate.wire.calls)
            self._raise()
            self._runners.wait_for(case.recoverer, self._credential.id)
            recovery = self._watched(case.recoverer, None)
            self._estate.wire.deliver_late()
            self._raise()
            self.observer.recovered(recovery)
        except ViolationError as violation:
            tally.failures.append(
                Failure(case=case, violation=str(violation), story=_story(fault, calls, outcome, recovery))
            )
        if fault.struck:
            tally.struck += 1
            tally.by_fault[case.fault.name] = tally.by_fault.get(case.fault.name, 0) + 1
        if outcome:
            shown = f"{outcome.outcome} {outcome.error}".strip()
            tally.outcomes[shown] = tally.outcomes.get(shown, 0) + 1
        tally.seconds += time.monotonic() - began

    def _disturbed(self, case: Case, fault: Fault) -> Outcome:
        if case.fault is not FaultKind.OVERTAKEN:
            return self._watched(case.runner, fault)
        before_waking: list[tuple[Outcome, object]] = []

        def asleep() -> None:
            # The databases end silent sessions long before a lease is over.
            self._estate.wire.process.fall_asleep()
            self._runners.wait_for(case.recoverer, self._credential.id)
            if case.taker_dies_after:
                at = len(self._estate.wire.calls) + case.taker_dies_after
                self._estate.wire.arm(Fault(FaultKind.DIE_AFTER, at))
            taker = self._runners.rotate(case.recoverer, self._credential.id)
            self.texts.append(taker.text)
            before_waking.append((taker, self.observer.snapshot()))

        self._estate.wire.asleep = asleep
        outcome = self._watched(case.runner, fault)
        self._estate.wire.asleep = lambda: None
        for taker, seen in before_waking:
            late = fault.struck is None or _is_acquire(fault.struck)
            if taker.outcome == "rotated" and not late and self.observer.snapshot() != seen:
                self._violations.append(
                    ViolationError("I5", f"woke up at {fault.struck} and changed something")
                )
        return outcome

    def _watched(self, runner: RunnerName, fault: Fault | None) -> Outcome:
        wire = self._estate.wire
        wire.look = self._look
        try:
            with wire.run(fault):
                outcome = self._runners.rotate(runner, self._credential.id)
        finally:
            wire.look = lambda _call: None
        self.texts.append(outcome.text)
        try:
            self.observer.ended(outcome)
        except ViolationError as violation:
            self._violations.append(violation)
        return outcome

    def _look(self, call: Call) -> None:
        try:
            self.observer.look(call)
        except ViolationError as violation:
            # Raised here, it would be lost in the sandbox's server. So it is kept, and raised when the run has ended.
            self._violations.append(violation)

    def _raise(self) -> None:
        found, self._violations = self._violations, []
        if found:
            raise found[0]


def _named(call: Call) -> tuple[str, str, str]:
    return call.process.name, call.target, call.operation


def _is_acquire(call: Call) -> bool:
    return call.number == 1


def _story(fault: Fault, calls: Sequence[Call], outcome: Outcome | None, recovery: Outcome | None) -> str:
    struck = fault.struck
    around = [str(c) for c in calls if struck and abs(c.number - struck.number) <= 3]
    return "; ".join(
        [
            f"{fault.kind} at {struck}",
            f"then {outcome.outcome} {outcome.error}" if outcome else "",
            f"recovery {recovery.outcome} {recovery.error}" if recovery else "",
            "calls: " + ", ".join(around),
        ]
    )
