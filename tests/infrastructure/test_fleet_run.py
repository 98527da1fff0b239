"""A small fleet, deployed by the real CDK CLI and rotated by its shards' rules, while everything goes wrong once."""

import logging

import pytest

from sandbox.fleet.run import run
from sandbox.fleet.world import Size

pytestmark = pytest.mark.timeout(1800)
CREDENTIALS, SAMPLED = 12, 4


def test_every_credential_is_rotated_within_an_interval_and_each_claim_of_the_acts_holds() -> None:
    found = run(Size(CREDENTIALS, SAMPLED), logging.getLogger(__name__).info)
    assert len(found.first.rotated) == CREDENTIALS
    assert found.is_within_an_interval
    assert found.shards == len({ended.event.shard for ended in found.first.ended}) > 1
    assert min(found.calls["secretsmanager"], found.calls["dynamodb"]) >= CREDENTIALS
    # No application is refused, and no permission or log is wrong.
    assert found.logins > 0
    assert (found.refused, found.troubles, found.problems) == ((), (), ())
    assert {claim.act for claim in found.claims} >= {"isolation", "twice", "throttling", "starved"}
    assert [claim.text for claim in found.claims if not claim.holds] == []
