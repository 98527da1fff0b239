"""The client and the agent keep the same value of the same stores: each story is told to both."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from lockstep.agent.values import Secret, Values
from lockstep.client import REFUSAL_SECONDS, CredentialClient
from lockstep.client.sources import StoredText
from lockstep.protocol.errors import StoreUnreachableError
from lockstep.protocol.model import SecretStr
from tests.agent.harness import NAME, OVERLAP, World
from tests.support.memory import FakeClock
from tests.unit.client_world import SECONDS, value

OVERLAP_SECONDS = OVERLAP.total_seconds()


@dataclass
class Stores:
    """What the stores serve, the nearest first; None: it does not answer."""

    served: list[int | Exception | None]
    clock: FakeClock = field(default_factory=FakeClock)
    asked: list[int] = field(default_factory=list)

    def read(self, number: int) -> int:
        self.asked.append(number)
        served = self.served[number]
        if isinstance(served, Exception):
            raise served
        if served is None:
            raise StoreUnreachableError
        return served


class ClientReader:
    """An application that logs in with what it has."""

    def __init__(self, stores: Stores) -> None:
        sources = [lambda n=n: value(stores.read(n)) for n in range(len(stores.served))]
        self._client = CredentialClient(
            sources,
            max_age_seconds=OVERLAP_SECONDS / 4,
            refuse_after_seconds=OVERLAP_SECONDS,
            clock=stores.clock.monotonic,
        )

    def refresh(self) -> int:
        return self._client.get(wait_seconds=SECONDS).generation

    def after_refusal(self) -> int:
        return self._client.refresh(self._client.get()).generation

    @property
    def age_seconds(self) -> float | None:
        return self._client.status.age_seconds


class AgentReader:
    """An application that asks the agent."""

    def __init__(self, stores: Stores) -> None:
        def of(number: int) -> Callable[[], StoredText]:
            def read() -> StoredText:
                found = value(stores.read(number))
                return StoredText(
                    text=SecretStr(found.password.reveal()),
                    version=str(found.generation),
                    generation=found.generation,
                )

            return read

        sources = {f"store-{n}": of(n) for n in range(len(stores.served))}
        secret = Secret(name=NAME, credential_id=NAME, overlap=OVERLAP, sources=sources)
        [self._value] = Values([secret], stores.clock.monotonic)

    def refresh(self) -> int:
        self._value.refresh()
        return self._served()

    def after_refusal(self) -> int:
        self._value.refresh_now()
        return self._served()

    def _served(self) -> int:
        if self._value.served is None:
            raise StoreUnreachableError
        return self._value.served.value.generation

    @property
    def age_seconds(self) -> float | None:
        return self._value.age_seconds


Reader = ClientReader | AgentReader


@pytest.fixture(params=[ClientReader, AgentReader], ids=["client", "agent"])
def reader_of(request: pytest.FixtureRequest) -> Callable[[Stores], Reader]:
    of: Callable[[Stores], Reader] = request.param
    return of


ReaderOf = Callable[[Stores], Reader]


def _later(stores: Stores, *served: int | Exception | None, seconds: float = OVERLAP_SECONDS / 4) -> None:
    stores.served = [*served]
    stores.clock.sleep(seconds)


def test_a_store_that_lags_is_passed_over(reader_of: ReaderOf) -> None:
    stores = Stores([7, 7])
    reader = reader_of(stores)
    assert reader.refresh() == 7
    _later(stores, 6, 7)
    assert reader.refresh() == 7
    assert reader.age_seconds == 0  # The other store was seen to serve it.
    assert stores.asked == [0, 0, 1]


def test_where_every_store_lags_what_is_kept_grows_old(reader_of: ReaderOf) -> None:
    stores = Stores([7, 7])
    reader = reader_of(stores)
    reader.refresh()
    _later(stores, 6, 5)
    assert reader.refresh() == 7
    assert reader.age_seconds == OVERLAP_SECONDS / 4


def test_a_value_that_a_person_put_there_replaces_any_and_any_replaces_it(reader_of: ReaderOf) -> None:
    stores = Stores([7])
    reader = reader_of(stores)
    assert reader.refresh() == 7
    _later(stores, 0)
    assert reader.refresh() == 0
    _later(stores, 6)
    assert reader.refresh() == 6


def test_after_a_refusal_the_next_store_is_asked_where_the_nearest_has_nothing_newer(
    reader_of: ReaderOf,
) -> None:
    stores = Stores([7, 7])
    reader = reader_of(stores)
    reader.refresh()
    _later(stores, 7, 8, seconds=REFUSAL_SECONDS)
    assert reader.after_refusal() == 8
    assert stores.asked == [0, 0, 1]


def test_after_a_refusal_what_is_kept_stays_where_no_store_has_another(reader_of: ReaderOf) -> None:
    stores = Stores([7, 7])
    reader = reader_of(stores)
    reader.refresh()
    _later(stores, 7, None, seconds=REFUSAL_SECONDS)
    assert reader.after_refusal() == 7
    assert reader.age_seconds == 0


def test_a_long_outage_ends_with_the_newest_value_not_with_the_nearest(reader_of: ReaderOf) -> None:
    stores = Stores([7, 7])
    reader = reader_of(stores)
    reader.refresh()
    _later(stores, None, None, seconds=OVERLAP_SECONDS)
    with pytest.raises(StoreUnreachableError):
        reader.refresh()
    _later(stores, 6, 9)
    assert reader.refresh() == 9


def test_a_defect_in_one_store_s_reader_does_not_hide_the_other_store(reader_of: ReaderOf) -> None:
    stores = Stores([KeyError("a defect"), 7])
    assert reader_of(stores).refresh() == 7


def test_the_age_counts_from_before_the_read_of_the_store_that_answered(reader_of: ReaderOf) -> None:
    class Slow(Stores):
        def read(self, number: int) -> int:
            try:
                return super().read(number)
            finally:
                self.clock.sleep(10 if number == 0 else 1)

    stores = Slow([None, 7])
    reader = reader_of(stores)
    assert reader.refresh() == 7
    assert reader.age_seconds == 1


@pytest.mark.parametrize("near", [0, 7])
def test_a_value_that_was_refused_does_not_come_back_while_another_store_has_one(near: int) -> None:
    """Else each refresh would take the nearest store's value again, and cost a refused login."""
    stores = Stores([near, 6])
    reader = ClientReader(stores)
    assert reader.refresh() == near
    assert reader.after_refusal() == 6
    for _ in range(5):
        _later(stores, near, 6)
        assert reader.refresh() == 6
        assert reader.age_seconds == 0
    _later(stores, near, None)
    assert reader.refresh() == 6
    _later(stores, 8, None)
    assert reader.refresh() == 8


def test_a_value_that_was_refused_once_and_kept_stays_for_its_age() -> None:
    stores = Stores([7, 7])
    reader = ClientReader(stores)
    reader.refresh()
    assert reader.after_refusal() == 7
    stores.asked.clear()
    _later(stores, 7, 0)
    assert reader.refresh() == 7
    assert stores.asked == [0]


def test_two_values_that_are_refused_in_turn_are_no_storm_of_reads() -> None:
    """The stores disagree, and a database refuses both: there is one read for each value every five seconds."""
    stores = Stores([7, 0])
    reader = ClientReader(stores)
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


@pytest.mark.parametrize("lower", [0, 1, 6])
def test_what_is_kept_and_may_be_revoked_gives_way_to_a_lower_generation(lower: int) -> None:
    """A store that was made anew counts from 1. The client learns from a refusal that its value is revoked."""
    stores = Stores([7, 7])
    client, agent = ClientReader(stores), AgentReader(stores)
    client.refresh()
    agent.refresh()
    _later(stores, lower, lower)
    assert client.after_refusal() == lower
    if lower:
        assert agent.refresh() == 7
    _later(stores, lower, lower, seconds=OVERLAP_SECONDS)
    assert agent.refresh() == lower
