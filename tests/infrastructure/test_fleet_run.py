"""A small fleet, deployed by the real CDK CLI and rotated by its shards' rules, while everything goes wrong once."""

import logging

import pytest

from sandbox.fleet.run import Findings, run
from sandbox.fleet.world import Size

pytestmark = pytest.mark.timeout(1800)
CREDENTIALS, SAMPLED = 12, 4


@pytest.fixture(scope="module", name="found")
def _found() -> Findings:
    return run(Size.of(CREDENTIALS, sampled=SAMPLED), logging.getLogger(__name__).info)


def test_every_credential_is_rotated_within_an_interval(found: Findings) -> None:
    assert len(found.first.rotated) == CREDENTIALS
    assert found.is_within_an_interval
    assert found.shards == len({ended.event.shard for ended in found.first.ended}) > 1
    assert min(found.calls["secretsmanager"], found.calls["dynamodb"]) >= CREDENTIALS


def test_no_application_is_refused(found: Findings) -> None:
    assert found.logins > 0
    assert (found.refused, found.troubles) == ((), ())


def test_what_the_acts_claim_holds_and_no_permission_or_log_is_wrong(found: Findings) -> None:
    assert {claim.act for claim in found.claims} >= {"isolation", "twice", "throttling", "starved"}
    assert [claim.text for claim in found.claims if not claim.holds] == []
    assert found.problems == ()
