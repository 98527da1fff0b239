"""Every fault at every call of a rotation, of each runner, on each kind of credential, and the recovery from it."""

import io
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sandbox.wire import Call, Fault, FaultKind, Order
from tests.proof.estate import IMPATIENT, PATIENT, WiredEstate, estate
from tests.proof.invariants import ViolationError
from tests.proof.observer import Observer
from tests.proof.planting import Bug
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
OVER_HTTP = frozenset({FaultKind.TWICE, FaultKind.LATE})
"""A database's connection is cut with the call; nothing arrives on it twice or late."""
TOGETHER = frozenset({FaultKind.FAIL, FaultKind.LOSE_REPLY, FaultKind.DIE_BEFORE, FaultKind.DIE_AFTER})
"""A process that sleeps does so with all its calls, and one whose call hangs makes no other: neither is meant for
calls that are really under way at the same time."""
STATE_MACHINE = "state machine"
TAKER_DIES_PART = 0.5
LATEST_DEATH = 75
"""The number of calls of the shortest rotation."""
SEED = 7
LOGGERS = ("lockstep", "urllib3", "pg8000", "pymysql", "botocore")


class Case(NamedTuple):
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


class Ran(NamedTuple):
    """What became of a case.

    Attributes:
        struck: Whether the fault came to its call.
        outcome: How the disturbed run ended.
        violation: What did not hold, if anything, and the calls around the fault.
    """

    case: Case
    struck: bool
    outcome: str
    violation: str
    story: str


class Enumeration:
    """Cases on one credential, one after the other: each begins in the steady state that the one before ended in."""

    def __init__(self, estate: WiredEstate, runners: Runners, kind: str) -> None:
        self.kind = kind
        self._estate = estate
        self._runners = runners
        self._credential = estate.credential(kind)
        self.databases = self._credential.databases
        self.observer = Observer(estate, self._credential)
        self._violations: list[ViolationError] = []
        self.texts: list[str] = []
        for runner in (*RUNNERS, *RUNNERS):
            self.undisturbed(runner)

    def undisturbed(self, runner: RunnerName, order: Order = Order.FORWARD) -> list[Call]:
        """A rotation in which nothing goes wrong; its calls."""
        self._estate.wire.order = order
        outcome = self._watched(runner, None)
        self._raise()
        self.observer.recovered(outcome)
        return list(self._estate.wire.calls)

    def cases(self, runner: RunnerName, *, seed: int = SEED, hangs: bool = False, at: str = "") -> list[Case]:
        """All cases for the calls of an undisturbed rotation, in each order of what a step makes side by side.

        An order adds a case only where it matters: where other calls were made before, or another one is made.
        Those at changes come first, with one runner to recover from each fault; then all once more, with the other.

        Args:
            runner: Whose calls.
            seed: Of the order, and of who recovers first.
            hangs: Calls that hang; otherwise all other faults.
            at: How the operation begins.
        """
        rng = random.Random(seed)  # noqa: S311 - it must be the same every time
        found: list[tuple[tuple[bool, bool, float], Case]] = []
        forward = [_named(call) for call in self.undisturbed(runner)]
        for order in Order:
            calls = self.undisturbed(runner, order)
            names = [_named(call) for call in calls]
            for i, call in enumerate(calls):
                is_other = names[i : i + 1] != forward[i : i + 1] or Counter(names[:i]) != Counter(
                    forward[:i]
                )
                if call.operation.startswith(at) and (order is Order.FORWARD or is_other):
                    found += self._cases_at(call, order, runner, rng, hangs=hangs)
        return [case for _, case in sorted(found, key=lambda item: item[0])]

    def _cases_at(
        self, call: Call, order: Order, runner: RunnerName, rng: random.Random, *, hangs: bool
    ) -> Iterator[tuple[tuple[bool, bool, float], Case]]:
        changes = call.changes or call.target == "lambda"
        for fault in HANGS if hangs else ON_CHANGES if changes else ON_READS:
            if fault in OVER_HTTP and call.target in self.databases:
                continue
            if order is Order.TOGETHER and fault not in TOGETHER:
                continue
            if hangs and (call.process.name == STATE_MACHINE or not changes):
                continue  # It is moto that waits there, not the shipped code.
            for again, recoverer in enumerate(rng.sample(RUNNERS, k=len(RUNNERS))):
                dies = fault is FaultKind.OVERTAKEN and rng.random() < TAKER_DIES_PART
                after = rng.randrange(1, LATEST_DEATH) if dies else 0
                case = Case(self.kind, runner, fault, call.number, recoverer, order, after)
                yield (bool(again), not changes, rng.random()), case

    def run(self, case: Case) -> Ran:
        """Run a case."""
        wire, fault = self._estate.wire, Fault(case.fault, case.at)
        wire.order = case.order
        calls: list[Call] = []
        outcome, recovery, violation = None, None, ""
        try:
            outcome = self._disturbed(case, fault)
            calls = list(wire.calls)
            self._raise()
            recovery = self._watched(case.recoverer, None)
            wire.deliver_late()
            self._raise()
            self.observer.recovered(recovery)
        except ViolationError as found:
            violation = str(found)
        struck = fault.struck
        around = ", ".join(str(c) for c in calls if struck and abs(c.number - struck.number) <= 3)
        story = f"{fault.kind} at {struck}; then {outcome}; recovery {recovery}; calls: {around}"
        return Ran(case, struck is not None, str(outcome), violation, story)

    def _disturbed(self, case: Case, fault: Fault) -> Outcome:
        if case.fault is not FaultKind.OVERTAKEN:
            return self._watched(case.runner, fault)
        wire, before_waking = self._estate.wire, list[tuple[Outcome, object]]()

        def asleep() -> None:
            # The databases end silent sessions long before a lease is over.
            wire.process.fall_asleep()
            self._runners.wait_for(case.recoverer, self._credential.id)
            if case.taker_dies_after:
                wire.arm(Fault(FaultKind.DIE_AFTER, len(wire.calls) + case.taker_dies_after))
            taker = self._runners.rotate(case.recoverer, self._credential.id)
            self.texts.append(taker.text)
            before_waking.append((taker, self.observer.snapshot()))

        wire.asleep = asleep
        outcome = self._watched(case.runner, fault)
        wire.asleep = lambda: None
        for taker, seen in before_waking:
            # A run that has slept before it had the lock is no zombie.
            late = fault.struck is None or fault.struck.number == 1
            if taker.outcome == "rotated" and not late and self.observer.snapshot() != seen:
                what = f"woke up at {fault.struck} and changed something"
                self._violations.append(ViolationError("I5", what))
        return outcome

    def _watched(self, runner: RunnerName, fault: Fault | None) -> Outcome:
        """A run of the next trigger."""
        self._runners.wait_for(runner, self._credential.id)
        wire = self._estate.wire
        wire.look = lambda call: self._noting(lambda: self.observer.look(call))
        try:
            with wire.run(fault):
                outcome = self._runners.rotate(runner, self._credential.id)
        finally:
            wire.look = lambda _call: None
        self.texts.append(outcome.text)
        self._noting(lambda: self.observer.ended(outcome))
        return outcome

    def _noting(self, check: Callable[[], None]) -> None:
        """Keep what does not hold: raised at a call it would be lost in the sandbox's server."""
        try:
            check()
        except ViolationError as violation:
            self._violations.append(violation)

    def _raise(self) -> None:
        found, self._violations = self._violations, []
        if found:
            raise found[0]


def _named(call: Call) -> tuple[str, str, str]:
    return call.process.name, call.target, call.operation


@contextmanager
def enumerated(kind: str, *, hangs: bool = False) -> Iterator[Enumeration]:
    """Start what a kind of credential needs; at the end no password is in what the runs have left."""
    stream = io.StringIO()
    # Everything that Lockstep and the drivers log, at the level at which a careless operator would run them.
    for name in LOGGERS:
        logging.getLogger(name).addHandler(logging.StreamHandler(stream))
    with estate([kind], IMPATIENT if hangs else PATIENT) as world, Runners(world).ready() as runners:
        enumeration = Enumeration(world, runners, kind)
        yield enumeration
        texts = {"histories and answers": "".join(enumeration.texts), "logs": stream.getvalue()}
        enumeration.observer.leaks(texts)


def hunt(bug: Bug) -> tuple[str, int]:
    """Look for a planted bug by faults at calls of a database; what does not hold, and how many cases it took."""
    with enumerated(bug.faults) as enumeration:
        cases = enumeration.cases("oci", seed=0, at="ALTER")
        for tries, case in enumerate(cases, 1):
            with bug.plant():
                ran = enumeration.run(case)
            if ran.violation:
                return f"{ran.violation}; {case}", tries
    return "", len(cases)
