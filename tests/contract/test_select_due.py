"""What a call of the standby comes to, compared with the conditional write of the lock over records at random."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lockstep.aws.dynamodb_lock import DynamoDbLock, read_table
from lockstep.plan.published import IndexedCredential
from lockstep.protocol.deadlines import LEASE
from lockstep.protocol.lock_rule import select_due
from lockstep.protocol.model import Schedule
from lockstep.protocol.schedule import bounds
from sandbox.aws.resources import create_lock_table
from sandbox.aws.server import AwsSandbox
from tests.contract.aws_fixtures import TABLE, sandbox_client

NOW = datetime(2026, 1, 1, 12, 31, tzinfo=UTC)
RECORDS = 600
PHASES = [timedelta(minutes=m) for m in (0, 1, 7, 19)]


@pytest.fixture(name="client", scope="module")
def _client() -> Iterator[Any]:
    with AwsSandbox() as sandbox:
        create_lock_table(sandbox.client("dynamodb"), TABLE)
        yield sandbox_client(sandbox, "dynamodb")


def plan(phase: timedelta) -> Schedule:
    return Schedule(
        interval=timedelta(minutes=20),
        overlap=timedelta(minutes=16),
        tolerance=timedelta(minutes=2),
        phase=phase,
    )


def anything(chance: random.Random) -> dict[str, Any]:
    """The attributes of a record that Lockstep's own writes can leave."""

    def near(*seconds: int) -> dict[str, str]:
        moment = chance.choice([*seconds, chance.randrange(-5400, 5400)])
        return {"N": str(int(NOW.timestamp()) + moment)}

    item: dict[str, Any] = {"fence": {"N": "7"}, "format": {"N": "1"}}
    if chance.random() < 0.4:
        item |= {"holder": {"S": "somebody"}, "expires_at": near(-1, 0, 1)}
    for name, share in (
        ("next_due_at", 0.9),
        ("not_before", 0.6),
        ("aws_seen_at", 0.7),
        ("aws_began_at", 0.4),
    ):
        if chance.random() < share:
            item[name] = near(-3600, -1200, -1199, -660, -480, -60, -1, 0, 1, 59)
    if chance.random() < 0.2:
        item |= {
            "pending_generation": {"N": "7"},
            "claim_kind": {"S": "new"},
            "base_generation": {"N": "6"},
            "claim_rotation_id": {"S": "somebody"},
        }
    if chance.random() < 0.1:
        item["paused"] = {"BOOL": True}
    if chance.random() < 0.7:
        lowest = chance.randrange(4, 8)
        item |= {"valid": {"NS": [str(lowest), "7"]} if lowest < 7 else {"NS": ["7"]}}
        item["valid_from"] = {"N": str(lowest)}
    if chance.random() < 0.2:
        item["revoke_through"] = {"N": str(chance.randrange(4, 8))}
    return item


def test_what_is_picked_is_what_the_lock_gives(client: Any) -> None:  # noqa: ANN401 - as `aws_client`
    # (protocol L4, R5)
    chance = random.Random(5)  # noqa: S311 - chance that can be repeated
    phases = {f"c{n:04}": chance.choice(PHASES) for n in range(RECORDS)}
    for key in phases:
        client.put_item(TableName=TABLE, Item={"credential_id": {"S": key}, **anything(chance)})
    table = read_table(client, TABLE)
    assert not table.unreadable
    credentials = [
        IndexedCredential(id=key, databases=("db-1",), schedule=plan(phase), plan_digest="d")
        for key, phase in phases.items()
    ]
    picked = set(select_due(credentials, table, now=NOW))
    given = set()
    for key, phase in phases.items():
        limits = bounds(plan(phase), NOW)
        acquired = DynamoDbLock(client, TABLE, key).acquire(
            holder="oci", now=NOW, expires_at=NOW + LEASE, force=False, limits=limits
        )
        if acquired:
            given.add(key)
    assert picked == given  # None of these is to be witnessed.
    assert 100 < len(given) < RECORDS - 100
