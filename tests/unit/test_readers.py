"""The client and the agent keep the same value of the same stores: each story is told to both."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import pytest

from lockstep.client import ClientCredential
from lockstep.client.cache import REFUSAL_SECONDS, CredentialCache
from lockstep.protocol.errors import StoreUnreachableError
from tests.agent.harness import OVERLAP, World
from tests.support.memory import FakeClock
from tests.unit.test_client import SECONDS, value

OVERLAP_SECONDS = OVERLAP.total_seconds()
QUARTER = OVERLAP_SECONDS / 4
Served = Sequence[int | Exception | None]


@dataclass
class Stores:
    """What the stores serve, the nearest first; None: it does not answer."""

    served: Served
    clock: FakeClock = field(default_factory=FakeClock)
    asked: list[int] = field(default_factory=list)
    seconds: Sequence[float] = (0.0, 0.0)
    """That a read of each takes."""

    def read(self, number: int) -> ClientCredential:
        self.asked.append(number)
        served = self.served[number]
        self.clock.sleep(self.seconds[number])
        if isinstance(served, Exception):
            raise served
        if served is None:
            raise StoreUnreachableError
        return value(served)


class Reader:
    """An application that uses the client, or asks the agent: both keep one `CredentialCache`."""

    def __init__(self, stores: Stores) -> None:
        self.cache = CredentialCache(
            [partial(stores.read, n) for n in range(len(stores.served))],
            max_age_seconds=QUARTER,
            refuse_after_seconds=OVERLAP_SECONDS,
            clock=stores.clock.monotonic,
        )

    def refresh(self) -> int:
        return self._after(self.cache.read())

    def after_refusal(self) -> int:
        """As the client reads, which knows what was refused."""
        return self._after(self.cache.after_refusal(self.cache.current().result()))

    def another(self) -> int:
        """As the agent reads for a caller that it does not know."""
        return self._after(self.cache.another())

    def _after(self, reading: Future[ClientCredential]) -> int:
        wait([reading], SECONDS)
        return self.cache.current().result().generation


class Step(NamedTuple):
    """What the stores serve then, and what a reader gives; None: nothing.

    Attributes:
        age: Of what it gives.
        asked: The stores that it asks.
        refused: A database has refused what the reader gave before.
        after: So many seconds.
    """

    served: Served
    gives: int | None
    age: float | None = None
    asked: list[int] | None = None
    refused: bool = False
    after: float = QUARTER


BEGUN = Step((7, 7), 7, asked=[0])
REFUSED = partial(Step, refused=True, after=REFUSAL_SECONDS)
OUTAGE = Step((None, None), None, after=OVERLAP_SECONDS)
DEFECT = KeyError("a defect")
BOTH = {
    "a store that lags is passed over": [BEGUN, Step((6, 7), 7, age=0, asked=[0, 1])],
    "where every store lags, what is kept grows old": [BEGUN, Step((6, 5), 7, age=QUARTER)],
    "a value that a person put there replaces any": [Step((7,), 7), Step((0,), 0), Step((6,), 6)],
    "after a refusal a newer value of the nearest is enough": [BEGUN, REFUSED((8, 9), 8, asked=[0])],
    "after a refusal the next store is asked": [BEGUN, REFUSED((7, 8), 8, asked=[0, 1])],
    "what is refused stays where no store has another": [BEGUN, REFUSED((7, None), 7, age=0)],
    "a long outage ends with the newest value, not the nearest": [BEGUN, OUTAGE, Step((6, 9), 9)],
    "what may be revoked gives way": [BEGUN, Step((6, 6), 7), Step((1, 1), 1, after=OVERLAP_SECONDS)],
    "a defect in one store's reader does not hide the other store": [Step((DEFECT, 7), 7)],
}


def replaced(near: int) -> list[Step]:
    """Else each of the five would cost a refused login."""
    five = [Step((near, 6), 6, age=0)] * 5
    return [Step((near, 6), near), REFUSED((near, 6), 6), *five, Step((near, None), 6), Step((8, None), 8)]


OF_THE_CLIENT = {
    "a value that was refused does not come back while another store has one": replaced(7),
    "nor does one that a person put there": replaced(0),
    "one that was refused and kept stays for its age": [
        BEGUN,
        REFUSED((7, 7), 7),
        Step((7, 0), 7, asked=[0]),
    ],
    **{f"it learns that 7 is revoked from {n}": [BEGUN, REFUSED((n, n), n)] for n in (0, 1, 6)},
}
STORIES = [
    *((Reader.after_refusal, name, story) for name, story in (BOTH | OF_THE_CLIENT).items()),
    *((Reader.another, name, story) for name, story in BOTH.items()),
]


@pytest.mark.parametrize(("again", "name", "story"), STORIES)
def test_what_a_reader_keeps(again: Callable[[Reader], int], name: str, story: list[Step]) -> None:
    stores = Stores(story[0].served)
    reader = Reader(stores)
    for step in story:
        stores.served, stores.asked = step.served, []
        stores.clock.sleep(step.after)
        gives = again if step.refused else Reader.refresh
        if step.gives is None:
            with pytest.raises(StoreUnreachableError):
                gives(reader)
        else:
            assert gives(reader) == step.gives, (name, step)
        assert step.age in (None, reader.cache.age_seconds), (name, step)
        assert step.asked in (None, stores.asked), (name, step)


def test_the_age_counts_from_before_the_read_that_answered_and_refusals_in_turn_are_no_storm() -> None:
    reader = Reader(Stores([None, 7], seconds=(10, 1)))
    assert (reader.refresh(), reader.cache.age_seconds) == (7, 1)
    # The stores disagree, and a database refuses both: there is one read for each value every five seconds.
    stores = Stores([7, 0])
    reader = Reader(stores)
    reader.refresh()
    stores.asked.clear()
    for _ in range(50):
        reader.after_refusal()
        stores.clock.sleep(REFUSAL_SECONDS / 50)
    assert len(stores.asked) <= 2 * len(stores.served)


def test_a_text_that_differs_by_the_keys_of_others_is_the_same_value() -> None:
    """Each store has keys of its own, and an application may need those of the nearest."""
    world = World()
    world.near.generation = world.far.generation = 7
    world.far.text = '{"masterarn": "arn:aws:rds:1"}'
    world.value.refresh()
    world.value.refresh_now()
    assert world.value.served
    assert (world.near.reads, world.far.reads, world.value.served.source) == (2, 1, "oci")
    assert not world.values.news.is_set()
