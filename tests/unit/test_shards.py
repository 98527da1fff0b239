"""Which rule starts a credential, and when."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil
from pathlib import Path

import pytest

from lockstep.plan.file import parse_plan
from lockstep.plan.limits import (
    FULLEST,
    LEAST,
    ROTATION_SECONDS,
    WINDOW,
    WRITES_A_SECOND,
    WRITES_OF_A_ROTATION,
    busiest,
    concurrency,
    every_ms,
)
from lockstep.plan.limits import (
    minutes as minutes_of,
)
from lockstep.plan.model import Plan
from lockstep.protocol.model import Engine
from lockstep.protocol.schedule import (
    Shard,
    cron_expression,
    last_trigger,
    phase,
    shards,
)
from sandbox import plans
from tests.support.scaled import scaled

MINUTE = timedelta(minutes=1)


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


# The pace of a shard


def _plan(count: int, *minutes: int) -> Plan:
    """A plan of so many credentials, whose intervals take turns."""
    made = plans.plan_document(
        [plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")],
        [plans.credential("team/app", "orders")],
    )
    plan = scaled(parse_plan(json.dumps(made), base=Path()), count)
    sections = tuple(
        section.model_copy(update={"interval": minutes[number % len(minutes)] * MINUTE})
        for number, section in enumerate(plan.credential_sections)
    )
    return plan.model_copy(update={"credential_sections": sections})


def _shard(interval: timedelta, number: int, count: int, size: int) -> Shard:
    ids = tuple(f"{interval}-{number}-{i}" for i in range(size))
    return Shard(interval=interval, number=number, count=count, credential_ids=ids)


def _one_shard(size: int) -> Plan:
    """A plan whose one shard has so many credentials, though a class of them would have more shards."""
    plan = _plan(1, 20)
    vars(plan)["shards"] = (_shard(20 * MINUTE, 0, 1, size),)
    return plan


def test_the_busiest_minute_adds_up_what_starts_in_it() -> None:
    found = busiest(
        [
            _shard(20 * MINUTE, 0, 5, 30),
            _shard(20 * MINUTE, 3, 5, 30),
            _shard(60 * MINUTE, 4, 20, 50),
            _shard(1440 * MINUTE, 0, 1, 20),
        ]
    )
    # 00:12, where 20m-03 and 1h-04 start, not midnight, where 20m-00 and the daily ones do.
    assert found == (12 * MINUTE, 80)
    assert str(found) == "00:12 UTC"


@pytest.mark.parametrize("count", [1, 10, 100, 200, 1000, 4000, 10_000])
@pytest.mark.parametrize("minutes", [(20,), (20, 20, 20, 60, 60, 1440)])
def test_no_minute_writes_more_than_its_share_and_every_shard_begins_within_it(
    count: int, minutes: tuple[int, ...]
) -> None:
    plan = _plan(count, *minutes)
    every, at_once = every_ms(plan), concurrency(plan)
    assert every.keys() == at_once.keys() == {shard.name for shard in plan.shards}
    at = busiest(plan.shards).at
    begun_a_second = sum(1000 / every[shard.name] for shard in plan.shards if at in minutes_of(shard))
    assert begun_a_second * WRITES_OF_A_ROTATION <= FULLEST * WRITES_A_SECOND
    for shard in plan.shards:
        size = len(shard.credential_ids)
        assert (size - 1) * every[shard.name] <= 1000 * WINDOW.total_seconds()
        assert 1 <= at_once[shard.name] <= size
        # Enough for rotations that take as long as assumed, and half as long again.
        assert at_once[shard.name] >= min(size, 1500 * ROTATION_SECONDS / every[shard.name])


@pytest.mark.parametrize(("size", "every"), [(3, 250), (144, 250), (200, 180), (450, 100), (500, 100)])
def test_a_shard_alone_is_spread_over_most_of_its_minute_and_is_never_slow(size: int, every: int) -> None:
    plan = _one_shard(size)
    assert every_ms(plan) == {"20m-00": every}
    assert concurrency(plan) == {"20m-00": min(size, max(LEAST, ceil(12_000 / every)))}


def test_shards_of_one_minute_share_what_may_be_written() -> None:
    plan = _plan(540, 20, 60, 1440)
    assert every_ms(plan) == {"20m-00": 300, "1h-00": 300, "1d-00": 300}
    assert concurrency(plan) == {"20m-00": 40, "1h-00": 40, "1d-00": 40}
