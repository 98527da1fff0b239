"""The sizes of policies do not depend on the number of credentials; resources and template grow by a known amount."""

from functools import cache

import pytest

from cdk.settings import ROOT, Settings
from cdk.sizes import Sizes, measure, scaled
from lockstep.plan_file import load_plan
from tests.infrastructure.cdk_case import BOTH_CLOUDS, VPC

COUNTS = (1, 7, 10)
MANAGED_POLICY, INLINE_POLICIES, TRUST_POLICY, QUEUE_STATEMENTS = 6144, 10240, 2048, 20
"""IAM's and SQS's limits (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html)."""


@cache
def _sizes(count: int) -> Sizes:
    settings = Settings.model_validate({"plan": BOTH_CLOUDS, "vpc": VPC})
    return measure(scaled(load_plan(ROOT / BOTH_CLOUDS), count), settings)


@pytest.mark.parametrize("count", COUNTS)
def test_every_policy_is_below_its_limit(count: int) -> None:
    sizes = _sizes(count)
    assert max(sizes.managed_policy_characters.values()) <= MANAGED_POLICY
    assert max(sizes.inline_policy_characters.values()) <= INLINE_POLICIES
    assert sizes.trust_policy_characters <= TRUST_POLICY
    assert sizes.queue_policy_statements <= QUEUE_STATEMENTS


def test_the_policies_are_the_same_whatever_the_number_of_credentials() -> None:
    policies = [
        (s.managed_policy_characters, s.inline_policy_characters, s.queue_policy_statements)
        for s in map(_sizes, COUNTS)
    ]
    assert policies == [policies[0]] * len(COUNTS)
