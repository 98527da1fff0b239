"""How many rotations of a shard run at once."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from lockstep.cost.assumptions import ROTATION_SECONDS
from lockstep.model import Engine
from lockstep.plan import Plan
from lockstep.plan_file import parse_plan
from lockstep.quotas.base import NEAR
from lockstep.quotas.pace import (
    LEAST,
    WINDOW,
    WRITES_A_SECOND,
    busiest,
    concurrency,
    writes_of_a_rotation,
)
from lockstep.quotas.scaling import scaled
from lockstep.shards import Shard
from sandbox import plans

MINUTE = timedelta(minutes=1)


def _plan(count: int, *minutes: int) -> Plan:
    """A plan of so many credentials, whose intervals take turns."""
    made = plans.plan_document(
        [plans.database("orders", Engine.MYSQL, host="orders.internal", tls={})],
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
    assert found == (12 * MINUTE, 80, ("20m-03", "1h-04"))
    assert str(found) == "00:12 UTC"


@pytest.mark.parametrize("count", [1, 10, 100, 200, 1000, 4000, 10_000])
@pytest.mark.parametrize("minutes", [(20,), (20, 20, 20, 60, 60, 1440)])
def test_no_minute_writes_more_than_its_share_and_every_shard_begins_within_it(
    count: int, minutes: tuple[int, ...]
) -> None:
    plan = _plan(count, *minutes)
    found, shards = concurrency(plan), {shard.name: shard for shard in plan.shards}
    assert found.keys() == shards.keys()
    at_once = sum(found[name] for name in busiest(plan.shards).shards)
    assert at_once * writes_of_a_rotation() <= NEAR * WRITES_A_SECOND * ROTATION_SECONDS
    for name, shard in shards.items():
        size = len(shard.credential_ids)
        assert 1 <= found[name] <= size
        assert (size - found[name]) * ROTATION_SECONDS / found[name] <= WINDOW.total_seconds()


def test_a_small_shard_has_the_least_and_no_more_than_its_credentials() -> None:
    assert concurrency(_plan(3, 20)) == {"20m-00": 3}
    assert concurrency(_plan(50, 20)) == {"20m-00": LEAST}


def test_shards_of_one_minute_share_what_may_be_written() -> None:
    alone = concurrency(_plan(180, 20))
    beside = concurrency(_plan(540, 20, 60, 1440))
    assert alone == {"20m-00": 27}
    assert beside == {"20m-00": 20, "1h-00": 20, "1d-00": 20}
