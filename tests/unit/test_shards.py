"""Which rule starts a credential, and when; and what a plan needs of the clouds' limits.

Also the names of versions (protocol V3), the rules of a ring, and how many versions it may have (protocol V13).
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest
from typer.testing import CliRunner

from cdk.fleetmachine import cron
from lockstep.cli import app
from lockstep.plan import limits
from lockstep.plan.model import Plan
from lockstep.protocol import ring
from lockstep.protocol.model import Engine
from lockstep.protocol.names import VersionNames
from lockstep.protocol.ring import SLOTS, Slot, Version, fits_quota
from lockstep.protocol.schedule import COUNTS, Shard, last_trigger, shards
from sandbox import plans
from tests.support.scaled import scaled, with_sections
from tests.unit.test_plan_mistakes import GONE, edited, parse, problems_of

MINUTE = timedelta(minutes=1)
ORDERS = plans.database("orders", Engine.MYSQL, host="orders.internal", tls="")
ONE = plans.plan_document([ORDERS], [plans.credential("multi-cloud/app_user", "orders")])
IN_BOTH = plans.plan_document(ONE["databases"], ONE["credentials"], oci=plans.OciNames())


def _fleet(count: int) -> Mapping[str, timedelta]:
    return {f"team-{number % 7}/app-{number}": 20 * MINUTE for number in range(count)}


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (200, 1), (201, 5), (1001, 10), (10_000, 20)])
def test_a_class_has_as_many_shards_as_it_needs(count: int, expected: int) -> None:
    found = shards(_fleet(count))
    assert len(found) == expected
    assert sorted(i for shard in found for i in shard.credential_ids) == sorted(_fleet(count))
    assert max(len(shard.credential_ids) for shard in found) <= 1.3 * max(count / expected, 1)


def test_each_interval_is_a_class_and_growth_moves_a_credential_to_a_later_minute_of_its_old_shard() -> None:
    found = shards({**_fleet(3), "b": 60 * MINUTE, "a": 60 * MINUTE})
    assert [(shard.name, len(shard.credential_ids)) for shard in found] == [("20m-00", 3), ("1h-00", 2)]
    assert found[1].credential_ids == ("a", "b")
    for small, large in pairwise((100, 300, 1200, 4000, 10_000)):
        before, after = shards(_fleet(small)), shards(_fleet(large))
        now = {i: shard.phase for shard in after for i in shard.credential_ids}
        for shard in before:
            width = 20 * MINUTE / shard.count
            assert all(timedelta() <= now[i] - shard.phase < width for i in shard.credential_ids)


@pytest.mark.parametrize(
    ("interval", "first", "expected"),
    [
        (20, 0, ("0/20", "*")),
        (20, 7, ("7/20", "*")),
        (60, 7, ("21", "*")),
        (120, 15, ("30", "1/2")),
        (1440, 1, ("12", "1")),
    ],
)
def test_a_phase_is_a_cron_expression_and_a_time(
    interval: int, first: int, expected: tuple[str, str]
) -> None:
    every = interval * MINUTE
    late = Shard(interval=every, number=first, count=COUNTS[-1], credential_ids=()).phase
    assert cron(every, late) == expected
    midnight = datetime(2026, 11, 27, tzinfo=UTC)
    assert last_trigger(every, midnight + late, late) == midnight + late
    assert last_trigger(every, midnight + late - MINUTE, late) == midnight + late - every


# The pace of a shard


@cache
def _plan(count: int, *minutes: int) -> Plan:
    """A plan of so many credentials, whose intervals take turns."""
    plan = scaled(parse(ONE), count)
    sections = tuple(
        section.model_copy(update={"interval": minutes[number % len(minutes)] * MINUTE})
        for number, section in enumerate(plan.credential_sections)
    )
    return with_sections(plan, credential_sections=sections)


def test_the_busiest_minute_adds_up_what_starts_in_it() -> None:
    of = ((20, 0, 5, 30), (20, 3, 5, 30), (60, 4, 20, 50), (1440, 0, 1, 20))
    found = limits.busiest(
        [
            Shard(interval=minutes * MINUTE, number=number, count=shards_, credential_ids=("x",) * size)
            for minutes, number, shards_, size in of
        ]
    )
    # 00:12, where 20m-03 and 1h-04 start, not midnight, where 20m-00 and the daily ones do.
    assert found == (12 * MINUTE, 80)


@pytest.mark.parametrize("count", [1, 200, 1000, 10_000])
@pytest.mark.parametrize("minutes", [(20,), (20, 20, 20, 60, 60, 1440)])
def test_no_minute_writes_more_than_its_share(count: int, minutes: tuple[int, ...]) -> None:
    plan = _plan(count, *minutes)
    every, at_once = limits.every_ms(plan), limits.concurrency(plan)
    assert every.keys() == at_once.keys() == {shard.name for shard in plan.shards}
    at, _ = limits.busiest(plan.shards)
    begun_a_second = sum(1000 / every[shard.name] for shard in plan.shards if at in limits.minutes(shard))
    assert begun_a_second * limits.WRITES_OF_A_ROTATION <= limits.FULLEST * limits.WRITES_A_SECOND
    for shard in plan.shards:
        size = len(shard.credential_ids)
        assert (size - 1) * every[shard.name] <= 1000 * limits.WINDOW.total_seconds()
        # Enough for rotations that take as long as assumed, and half as long again.
        assert min(size, 1500 * limits.ROTATION_SECONDS / every[shard.name]) <= at_once[shard.name] <= size
        assert at_once[shard.name] >= 1


# The clouds' limits


def named(plan: Plan, name: str) -> limits.Use:
    (found,) = (use for use in limits.uses(plan) if name in use.name)
    return found


def test_a_ring_needs_two_secrets_for_each_slot() -> None:
    assert not any(use.exceeded for use in limits.uses(parse(IN_BOTH)))
    plan = parse(edited(IN_BOTH, {"runners.oci": GONE}))
    assert named(plan, "OCI Vault, secrets").need == 2 * SLOTS
    assert not named(scaled(plan, 625), "OCI Vault, secrets").exceeded
    assert named(scaled(plan, 626), "OCI Vault, secrets").exceeded
    assert limits.broken(scaled(plan, 626)) == []
    assert not named(scaled(parse(IN_BOTH), 10_000), "Lockstep, time").exceeded


def test_check_refuses_a_plan_beyond_a_limit_that_nobody_raises(tmp_path: Path) -> None:
    file = tmp_path / "lockstep.yaml"
    # Each of six classes begins at midnight.
    for count, code in ((660, 0), (900, 2)):
        made = [plans.credential(f"app-{i}", "orders", username=f"app_{i}") for i in range(count)]
        for number, credential in enumerate(made):
            credential["interval"] = f"{(1, 2, 4, 6, 8, 12)[number % 6]}h"
        file.write_text(json.dumps(edited(IN_BOTH, {"credentials": made})))
        shown = CliRunner().invoke(app, ["check", "-p", str(file)])
        text = shown.stdout + shown.stderr
        told = ("Secrets Manager, writes in the busiest minute", "begin at 00:00 UTC: use longer intervals")
        assert (shown.exit_code, [one in text for one in told]) == (code, [code == 2] * 2)


# The names of versions

OURS = VersionNames(credential_id="multi-cloud/app_user", secret="multi-cloud/app_user")


def test_a_name_is_a_uuid_that_contains_its_generation_and_never_changes() -> None:
    for generation in (1, 42, 999_999_999_999):
        name = OURS.name_of(generation)
        assert (len(name), UUID(name).version, UUID(name).variant) == (36, 8, RFC_4122)
        assert name.endswith(f"-{generation:012d}")
        assert OURS.generation_of(name) == generation
    dotted = VersionNames(credential_id=OURS.credential_id, secret="multi-cloud.app_user")
    assert OURS.name_of(42) == dotted.name_of(42) == "13cf509b-b00d-89f1-89bb-000000000042"


@pytest.mark.parametrize(
    "name",
    [
        None,
        "42",
        VersionNames(credential_id="another/credential", secret=OURS.secret).name_of(7),
        VersionNames(credential_id=OURS.credential_id, secret="another/secret").name_of(7),
        OURS.name_of(7)[:-12] + "00000000000a",
        OURS.name_of(7) + "0",
        OURS.name_of(7)[:-1] + "\N{ARABIC-INDIC DIGIT SEVEN}",
        "7f1d9a52-3f63-4d7a-8f0c-000000000007",
    ],
)
def test_any_other_name_is_generation_0(name: str | None) -> None:
    assert OURS.generation_of(name) == 0


# The rules of `lockstep.protocol.ring`


def slot(index: int, *versions: Version) -> Slot:
    return Slot(index=index, secret_id=f"slot-{index}", versions=versions)


def version(number: int, generation: int, *stages: str, deleted: bool = False) -> Version:
    return Version(
        number=number, generation=generation, stages=frozenset(stages), is_pending_deletion=deleted
    )


def test_a_full_slot_is_passed_over() -> None:
    full = slot(0, version(1, 1, "CURRENT"), *(version(n, 100 + n, "PENDING") for n in range(2, 31)))
    next_lowest = slot(1, version(1, 2, "CURRENT"))
    serving = slot(2, version(1, 3, "CURRENT"))
    assert ring.staging_slot([full, next_lowest, serving], 200) is next_lowest
    assert ring.staging_slot([full, serving], 200) is None
    assert ring.staging_slot([serving], 200) is serving, "the only slot left, although it serves"


def test_a_version_that_may_be_in_flight_is_not_disposable() -> None:
    revoked = [version(n, n, "DEPRECATED") for n in (1, 2, 3)]
    others = [
        version(4, 0, "DEPRECATED"),
        version(5, 5, "DEPRECATED", deleted=True),
        version(6, 6, "PREVIOUS"),
        version(7, 10, "CURRENT"),
        version(8, 11, "DEPRECATED"),
        version(9, 12, "PENDING"),
    ]
    one = slot(0, *revoked, *others)
    assert ring.disposable(one, below=10) == revoked[:2]
    # Once generation 13 is claimed, 11 is abandoned. It stays because it is the newest superseded version.
    assert ring.disposable(one, below=13) == revoked


def test_no_more_deletions_are_scheduled_than_vault_allows() -> None:
    revoked = [version(n, n, "DEPRECATED") for n in range(1, 6)]
    leaving = [version(n, n, "DEPRECATED", deleted=True) for n in range(6, 34)]
    one = slot(0, *revoked, *leaving, version(99, 99, "CURRENT"))
    assert ring.disposable(one, below=99) == revoked[:2]


def test_a_version_scheduled_for_deletion_does_not_hold_its_generation() -> None:
    one = slot(0, version(1, 4, "DEPRECATED", deleted=True), version(2, 5, "CURRENT"))
    assert ring.holder([one], 4) is None


@pytest.mark.parametrize(
    ("minutes", "slots", "fits"), [(18, 4, False), (19, 4, True), (72, 1, False), (73, 1, True)]
)
def test_the_shortest_interval_that_a_ring_can_be_rotated_at_for_ever(
    minutes: int, slots: int, *, fits: bool
) -> None:
    assert fits_quota(timedelta(minutes=minutes), slots) is fits


def test_an_interval_too_short_for_a_ring_is_refused_with_one_that_is_accepted() -> None:
    """A ring in the first store has one slot (protocol V13): which value is a generation's would depend on the slot."""
    aws, vault = IN_BOTH["stores"]
    for stores, recommended, slots in (([vault, aws], "2h", 1), ([aws, vault], "20m", SLOTS)):
        plan = edited(IN_BOTH, {"stores": stores, "credentials.0.interval": "10m"})
        text = " ".join(problems_of(plan))
        assert "credentials[0].interval: 10m exhausts Vault's quota" in text
        assert f"use an interval of {recommended} or more" in text
        assert parse(edited(plan, {"credentials.0.interval": recommended})).slots == slots
