"""How `lockstep secrets create` works through what is to be made: its pace, and what it does about failures."""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

import pytest

from lockstep.operate.secrets import AT_FIRST, Action, Decision, Outcome, Pace, Work
from lockstep.protocol.errors import (
    LockstepError,
    StoreAccessDeniedError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.protocol.workers import Workers, one_after_the_other


@dataclass
class FakeTime:
    """Time that passes by waiting only."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class FakePlace:
    """Secrets in memory, of a service that takes so many writes in any second.

    Attributes:
        takes: Writes in a second; more are throttled.
        lost: Names whose reply is lost, once each.
        hidden: Names that are taken by what cannot be seen.
    """

    time: FakeTime
    takes: float = float("inf")
    there: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    fails: Callable[[str], LockstepError | None] = lambda _: None
    began: list[float] = field(default_factory=list)
    throttled: int = 0

    def decide(self, name: str) -> Decision:
        if error := self.fails(name):
            raise error
        return Decision(name=name, action=Action.NOTHING if name in self.there else Action.MAKE)

    def make(self, decision: Decision) -> bool:
        now = self.time.now
        self.began.append(now)
        if sum(now - 1 < at <= now for at in self.began) > self.takes:
            self.throttled += 1
            raise StoreThrottledError
        if decision.name in self.there | self.hidden:
            return False
        self.there.add(decision.name)
        if decision.name in self.lost:
            self.lost.remove(decision.name)
            raise StoreUnreachableError
        return True

    def tag(self, decision: Decision) -> None:
        raise NotImplementedError

    def taken(self, name: str) -> Decision:
        return Decision(name=name, action=Action.REFUSE, problems=("taken",))


@dataclass
class Done:
    """A work, and what was seen of it."""

    work: Work
    pace: Pace
    seen: list[Outcome]

    @property
    def made(self) -> list[str]:
        return [o.decision.name for o in self.seen if o.is_done]


def work_on(place: FakePlace, *, rate: float = 50, is_dry: bool = False, threads: int = 0) -> Done:
    seen: list[Outcome] = []
    pace = Pace(rate, monotonic=place.time.monotonic, sleep=place.time.sleep)
    work = Work(
        place=place,
        pace=pace,
        side_by_side=Workers(threads) if threads else one_after_the_other,
        sleep=place.time.sleep,
        see=seen.append,
        stop=Event(),
        is_dry=is_dry,
    )
    return Done(work, pace, seen)


NAMES = [f"s{i}" for i in range(400)]


def most_in_a_second(began: list[float]) -> int:
    return max(sum(at <= other < at + 1 - 1e-6 for other in began) for at in began)


@pytest.mark.parametrize("rate", [50, 25, 0.5])
def test_no_second_has_more_writes_than_the_rate(rate: float) -> None:
    place = FakePlace(FakeTime())
    done, names = work_on(place, rate=rate), NAMES[: round(8 * rate)]
    done.work.do(names)
    assert done.made == names
    assert most_in_a_second(place.began) == max(rate, 1)
    assert place.began[-1] - place.began[0] == pytest.approx((len(names) - 1) / rate)


def test_a_service_that_throttles_gets_fewer_calls_and_the_work_ends() -> None:
    place = FakePlace(FakeTime(), takes=10)
    done = work_on(place)
    done.work.do(NAMES)
    assert done.made == NAMES
    # Far fewer refusals than calls, and more than half of what the service takes.
    assert 0 < place.throttled < 40
    assert place.time.now - 1000 < 400 / 5


def test_a_lost_reply_is_no_failure_and_makes_nothing_twice() -> None:
    place = FakePlace(FakeTime(), lost={"s1"})
    done = work_on(place)
    done.work.do(NAMES[:3])
    assert {o.decision.name: o.decision.action for o in done.seen if not o.is_done} == {"s1": Action.NOTHING}
    assert place.there == set(NAMES[:3])


def test_a_name_that_is_taken_unseen_is_in_the_way_and_the_others_are_made() -> None:
    place = FakePlace(FakeTime(), hidden={"s1"})
    done = work_on(place)
    done.work.do(NAMES[:3])
    assert done.made == ["s0", "s2"]
    [other] = [o.decision for o in done.seen if not o.is_done]
    assert (other.name, other.action) == ("s1", Action.REFUSE)


def test_what_does_not_pass_ends_the_work_at_once() -> None:
    place = FakePlace(FakeTime(), fails=lambda name: StoreAccessDeniedError() if name == "s5" else None)
    done = work_on(place)
    with pytest.raises(StoreAccessDeniedError):
        done.work.do(NAMES)
    assert done.made == NAMES[:5]


def test_an_outage_of_a_minute_passes() -> None:
    time = FakeTime()

    def fails(_: str) -> LockstepError | None:
        return StoreUnreachableError() if 1005 < time.now < 1065 else None

    done = work_on(FakePlace(time, fails=fails), rate=2)
    done.work.do(NAMES[:30])
    assert done.made == NAMES[:30]


def test_a_place_that_never_answers_is_given_up_soon() -> None:
    time, asked = FakeTime(), list[str]()

    def fails(name: str) -> LockstepError | None:
        asked.append(name)
        return StoreUnreachableError()

    with pytest.raises(StoreUnreachableError):
        work_on(FakePlace(time, fails=fails)).work.do(NAMES)
    assert asked == ["s0"] * (AT_FIRST + 1)


def test_an_interruption_ends_every_worker_and_the_next_run_goes_on() -> None:
    place = FakePlace(FakeTime())
    done = work_on(place, threads=15)

    def interrupt(outcome: Outcome) -> None:
        done.seen.append(outcome)
        if len(done.seen) == 100:
            raise KeyboardInterrupt

    done.work.see = interrupt
    with pytest.raises(KeyboardInterrupt):
        done.work.do(NAMES)
    # At most what was under way besides.
    assert 100 <= len(place.there) < 100 + 2 * 16
    again = work_on(place, threads=15)
    again.work.do(NAMES)
    assert not set(again.made) & set(done.made)
    assert place.there == set(NAMES)
