"""The client and the agent keep the same value of the same stores: each story is told to both."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import NamedTuple

import pytest

from lockstep.client import ClientCredential, CredentialClient
from lockstep.client.cache import ANOTHER_SECONDS, REFUSAL_SECONDS
from lockstep.protocol.errors import StoreUnreachableError
from tests.agent.harness import World
from tests.support.memory import FakeClock
from tests.unit.test_client import MAX_AGE_SECONDS, SECONDS, Store, client_of

OVERLAP_SECONDS = 4 * MAX_AGE_SECONDS
Served = Sequence[int | Exception | None]
"""The generations that stores serve, the nearest first; None: it does not answer."""
Read = Callable[[CredentialClient], Future[ClientCredential]]


def serve(stores: Sequence[Store], served: Served) -> None:
    for store, what in zip(stores, served, strict=True):
        store.generation = what if isinstance(what, int) else 0
        store.trouble = None if isinstance(what, int) else what or StoreUnreachableError()


def refresh(client: CredentialClient) -> Future[ClientCredential]:
    return client.read()


def after_refusal(client: CredentialClient) -> Future[ClientCredential]:
    """As the client reads, which knows what was refused."""
    return client.after_refusal(client.current().result())


def another(client: CredentialClient) -> Future[ClientCredential]:
    """As the agent reads for a caller that it does not know."""
    return client.another()


def given(client: CredentialClient, read: Read) -> int:
    wait([read(client)], SECONDS)
    return client.current().result().generation


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
    after: float = MAX_AGE_SECONDS


BEGUN = Step((7, 7), 7, asked=[0])
REFUSED = partial(Step, refused=True, after=REFUSAL_SECONDS)
OUTAGE = Step((None, None), None, after=OVERLAP_SECONDS)
DEFECT = KeyError("a defect")
BOTH = {
    "a store that lags is passed over": [BEGUN, Step((6, 7), 7, age=0, asked=[0, 1])],
    "where every store lags, what is kept grows old": [BEGUN, Step((6, 5), 7, age=MAX_AGE_SECONDS)],
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
    *((after_refusal, name, story) for name, story in (BOTH | OF_THE_CLIENT).items()),
    *((another, name, story) for name, story in BOTH.items()),
]


@pytest.mark.parametrize(("again", "name", "story"), STORIES)
def test_what_a_reader_keeps(again: Read, name: str, story: list[Step]) -> None:
    stores, clock = [Store() for _ in story[0].served], FakeClock()
    client = client_of(*stores, clock=clock, refuse_after_seconds=OVERLAP_SECONDS)
    for step in story:
        serve(stores, step.served)
        clock.sleep(step.after)
        before, read = [store.reads for store in stores], again if step.refused else refresh
        if step.gives is None:
            with pytest.raises(StoreUnreachableError):
                given(client, read)
        else:
            assert given(client, read) == step.gives, (name, step)
        assert step.age in (None, client.age_seconds), (name, step)
        asked = [n for n, store in enumerate(stores) for _ in range(store.reads - before[n])]
        assert step.asked in (None, asked), (name, step)


def test_the_age_counts_from_before_the_read_that_answered_and_refusals_in_turn_are_no_storm() -> None:
    near, far, clock = Store(), Store(), FakeClock()
    near.begins, far.begins = partial(clock.sleep, 10), partial(clock.sleep, 1)
    client = client_of(near, far, clock=clock)
    serve([near, far], [None, 7])
    assert (given(client, refresh), client.age_seconds) == (7, 1)
    # The stores disagree, and a database refuses both: there is one read for each value every five seconds.
    stores, clock = [Store(7), Store(0)], FakeClock()
    client = client_of(*stores, clock=clock)
    client.get()
    for _ in range(50):
        given(client, after_refusal)
        clock.sleep(REFUSAL_SECONDS / 50)
    assert sum(store.reads for store in stores) - 1 <= 2 * len(stores)
    # Callers who want another value share a read, until it is more than a second old.
    client = client_of(near, clock=clock)
    near.trouble, near.begins = None, lambda: None
    client.get()
    for reads in (near.reads + 1, near.reads + 2):
        for _ in range(10):
            given(client, another)
        assert near.reads == reads
        clock.sleep(ANOTHER_SECONDS + 0.001)


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
