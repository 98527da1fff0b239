"""Which rule starts a credential, and when."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from lockstep.protocol.schedule import (
    COUNTS,
    PER_SHARD,
    SLOTS,
    cron_expression,
    fits,
    last_trigger,
    period,
    phase,
    run_key,
    shards,
    slot,
)

MINUTE = timedelta(minutes=1)
INTERVALS = [timedelta(minutes=m) for m in (10, 12, 15, 20, 30, 60, 120, 480, 1440, 4320)]


def _fleet(count: int, interval: timedelta = 20 * MINUTE) -> Mapping[str, timedelta]:
    return {f"team-{number % 7}/app-{number}": interval for number in range(count)}


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (200, 1), (201, 5), (1000, 5), (1001, 10), (4000, 20), (10_000, 20)]
)
def test_a_class_has_as_many_shards_as_it_needs(count: int, expected: int) -> None:
    found = shards(_fleet(count))
    assert len(found) == expected
    assert sorted(i for shard in found for i in shard.credential_ids) == sorted(_fleet(count))
    assert max(len(shard.credential_ids) for shard in found) <= 1.3 * max(count / expected, 1)


def test_each_interval_is_a_class_of_its_own() -> None:
    found = shards({**_fleet(3), "b": 60 * MINUTE, "a": 60 * MINUTE})
    assert [(shard.name, len(shard.credential_ids)) for shard in found] == [("20m-00", 3), ("1h-00", 2)]
    assert found[1].credential_ids == ("a", "b")


def test_growth_moves_a_credential_to_a_later_minute_of_its_old_shard_only() -> None:
    for small, large in pairwise((100, 300, 700, 1200, 1900, 4000, 10_000)):
        before, after = shards(_fleet(small)), shards(_fleet(large))
        now = {i: shard.phase for shard in after for i in shard.credential_ids}
        for shard in before:
            width = 20 * MINUTE / shard.count
            assert all(timedelta() <= now[i] - shard.phase < width for i in shard.credential_ids)


def test_a_slot_does_not_depend_on_the_plan() -> None:
    assert Counter(map(slot, _fleet(10_000))).keys() == set(range(SLOTS))
    assert run_key("orders/shop") == run_key("orders/shop") != run_key("orders.shop")
    assert all(b % a == 0 for a, b in pairwise(COUNTS))
    assert PER_SHARD * SLOTS == 4000


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_phases_of_an_interval_are_whole_minutes_within_it(interval: timedelta) -> None:
    assert fits(interval)
    found = [phase(interval, first) for first in range(SLOTS)]
    assert found[0] == timedelta()
    assert found == sorted(found)
    assert all(p % MINUTE == timedelta() and p < period(interval) for p in found)


@pytest.mark.parametrize(
    ("interval", "first", "expected"),
    [
        (20, 0, "cron(0/20 * * * ? *)"),
        (20, 7, "cron(7/20 * * * ? *)"),
        (60, 7, "cron(21 * * * ? *)"),
        (120, 15, "cron(30 1/2 * * ? *)"),
        (1440, 1, "cron(12 1 * * ? *)"),
    ],
)
def test_a_phase_is_a_cron_expression_and_a_time(interval: int, first: int, expected: str) -> None:
    every = interval * MINUTE
    late = phase(every, first)
    assert cron_expression(every, late) == expected
    midnight = datetime(2026, 11, 27, tzinfo=UTC)
    assert last_trigger(every, midnight + late, late) == midnight + late
    assert last_trigger(every, midnight + late - MINUTE, late) == midnight + late - every
