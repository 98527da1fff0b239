"""Lock records of a newer build are left alone; older ones are taken over (protocol R10, R11, R12)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lockstep.errors import FenceLostError, FirstEditionClaimError, NewerFormatError
from lockstep.ports import Lock
from sandbox.aws.server import AwsSandbox
from tests.contract.aws_fixtures import TABLE, DynamoDbHarness
from tests.contract.lock_case import FACTORIES, INTERVAL, LEASE, NOW, PLAN, SECOND, acquired, claim, claim_of
from tests.support.builds import NEWER, OLDER, build

FIRST_EDITION = {
    "credential_id": {"S": "multi-cloud/app_user"},
    "fence": {"N": "7"},
    "highest_generation": {"N": "7"},
    "current_generation": {"N": "7"},
    "previous_generation": {"N": "6"},
    "next_due_at": {"N": "1"},
    "not_before": {"N": "1"},
}
IN_FLIGHT = {
    "pending_generation": {"N": "8"},
    "claim_kind": {"S": "new"},
    "base_generation": {"N": "7"},
    "claim_previous_generation": {"NULL": True},
    "claim_rotation_id": {"S": "run-8"},
}


@pytest.fixture(params=FACTORIES)
def lock(request: pytest.FixtureRequest) -> Iterator[Lock]:
    with FACTORIES[request.param]() as harness:
        harness.order(activate=PLAN)
        yield harness.lock


@pytest.fixture
def table() -> Iterator[DynamoDbHarness]:
    with AwsSandbox() as sandbox:
        yield DynamoDbHarness(sandbox)


def test_an_older_build_gets_the_lease_of_a_newer_record_and_gives_it_back(lock: Lock) -> None:
    with build(NEWER):
        made = claim(lock, acquired(lock))
        before = lock.read()
    lease = acquired(lock, "oci-1", at=NOW + LEASE + SECOND)
    with pytest.raises(NewerFormatError):
        lock.read()
    with pytest.raises(NewerFormatError):
        lock.require(lease, made, promoting=False, now=NOW + LEASE)
    with pytest.raises(NewerFormatError):
        lock.begin_promotion(lease, made, now=NOW + LEASE)
    lock.release(lease, None)
    with build(NEWER):
        assert lock.read() == replace(before, holder=None, expires_at=None, fence=2)


def test_a_newer_build_promotes_no_claim_of_an_older_one(lock: Lock) -> None:
    lease = acquired(lock)
    made = claim(lock, lease)
    with build(NEWER):
        with pytest.raises(FenceLostError):
            lock.require(lease, made, promoting=False, now=NOW)
        with pytest.raises(FenceLostError):
            lock.begin_promotion(lease, made, now=NOW)
        assert (lock.read().format, lock.read().promoting) == (OLDER, False)


def test_a_newer_build_replaces_the_claim_of_an_older_one(lock: Lock) -> None:
    claim(lock, acquired(lock))
    with build(NEWER):
        lease = acquired(lock, "oci-1", at=NOW + LEASE + SECOND)
        made = claim(lock, lease)
        lock.begin_promotion(lease, made, now=NOW + LEASE + SECOND)
        assert (lock.read().format, lock.read().promoting) == (NEWER, True)


def test_what_the_first_edition_left_at_rest_is_taken_over(table: DynamoDbHarness) -> None:
    table.client.put_item(TableName=TABLE, Item={**FIRST_EDITION, "activate": {"S": PLAN}})
    assert table.lock.read().alive == {6}
    lease = acquired(table.lock, at=NOW + INTERVAL)
    made = claim(table.lock, lease, replace(claim_of(lease, base=7), generation=9), served=(7,))
    record = table.lock.read()
    assert (record.plan, record.claim, record.format) == (PLAN, made, OLDER)
    assert record.alive == {6, 7}


def test_a_claim_of_the_first_edition_is_refused_with_what_to_do(table: DynamoDbHarness) -> None:
    table.client.put_item(TableName=TABLE, Item={**FIRST_EDITION, **IN_FLIGHT})
    with pytest.raises(FirstEditionClaimError, match=r"generation=8.*Finish it with the build that began it"):
        table.lock.read()
