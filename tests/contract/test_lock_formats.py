"""Lock records of a newer build are left alone (protocol R10, R11)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lockstep.protocol.errors import NewerFormatError
from lockstep.protocol.ports import Lock
from tests.contract.lock_case import FACTORIES, LEASE, NOW, PLAN, SECOND, acquired, claim
from tests.support.builds import NEWER, build


@pytest.fixture(params=FACTORIES)
def lock(request: pytest.FixtureRequest) -> Iterator[Lock]:
    with FACTORIES[request.param]() as harness:
        harness.order(activate=PLAN)
        yield harness.lock


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
