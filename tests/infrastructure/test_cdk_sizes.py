"""A stack has one size whatever the number of credentials."""

from functools import cache
from pathlib import Path

import pytest

from cdk.settings import ROOT, Settings
from lockstep.plan.file import load_plan
from lockstep.plan.limits import uses
from lockstep.plan.model import Plan
from lockstep.protocol.schedule import SLOTS
from tests.infrastructure.cdk_case import BOTH_CLOUDS, FEDERATED, VPC
from tests.infrastructure.template import Sizes, measure
from tests.support.scaled import scaled

COUNTS = (1, 100, 1_000, 10_000)
OTHERS, MEGABYTE, RULE_BYTES = 2, 1024 * 1024, 1700
MANAGED_POLICY, INLINE_POLICIES, TRUST_POLICY, QUEUE_STATEMENTS = 6144, 10240, 2048, 20
"""IAM's and SQS's limits (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html)."""


@cache
def _sizes(count: int, plan_file: Path = BOTH_CLOUDS) -> Sizes:
    plan = scaled(load_plan(ROOT / plan_file), count)
    settings = Settings.model_validate(
        {
            "plan": plan_file,
            "vpc": VPC,
            "schedules": True,
            "canary": plan.credentials[0].id,
        }
    )
    return measure(plan, settings)


@pytest.mark.parametrize(
    ("count", "plan_file"), [*((count, BOTH_CLOUDS) for count in COUNTS), (100, FEDERATED)]
)
def test_every_policy_is_below_its_limit(count: int, plan_file: Path) -> None:
    sizes = _sizes(count, plan_file=plan_file)
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


def test_ten_thousand_credentials_are_a_hundred_and_some_more_rules() -> None:
    hundred, many = _sizes(100), _sizes(10_000)
    plan = scaled(load_plan(ROOT / BOTH_CLOUDS), 10_000)
    intervals = {shard.interval for shard in plan.shards}
    assert many.resources - hundred.resources == many.rules - hundred.rules
    assert many.rules <= SLOTS * len(intervals) + OTHERS
    assert hundred.rules == len(intervals) + OTHERS
    assert many.template_bytes - hundred.template_bytes <= RULE_BYTES * (many.rules - hundred.rules)
    assert many.template_bytes < MEGABYTE / 4


@pytest.mark.parametrize(
    ("count", "plan_file"), [*((count, BOTH_CLOUDS) for count in COUNTS), (1, FEDERATED), (100, FEDERATED)]
)
def test_what_plan_check_says_of_sizes_is_never_too_little(count: int, plan_file: Path) -> None:
    plan, sizes = scaled(load_plan(ROOT / plan_file), count), _sizes(count, plan_file=plan_file)
    assert _need(plan, "IAM, managed policy") >= max(sizes.managed_policy_characters.values())
    assert _need(plan, "IAM, inline") >= max(sizes.inline_policy_characters.values())


@pytest.mark.parametrize("plan_file", [BOTH_CLOUDS, FEDERATED])
def test_nor_with_the_longest_names_with_keys_and_with_admins_that_are_known_by_arn(
    plan_file: Path,
) -> None:
    plan = load_plan(ROOT / plan_file)
    admins = (
        f"arn:aws:secretsmanager:ap-southeast-2:444455556666:secret:{'a' * 200}-AbCdEf",
        "rds!cluster-1f2e3d",
    )
    plan = plan.model_copy(
        update={
            "lock": plan.lock.model_copy(update={"table": "t" * 255, "region": "ap-southeast-2"}),
            "audit": plan.audit.model_copy(
                update={"aws": plan.audit.aws.model_copy(update={"bucket": "b" * 57})}
            ),
            "credential_sections": tuple(
                section.model_copy(
                    update={
                        "id": f"app-{i}",
                        "secret": section.secret_names.app_user,
                        "connection_secret": section.secret_names.connection_blob,
                    }
                )
                for i, section in enumerate(plan.credential_sections)
            ),
            "database_sections": tuple(
                section.model_copy(update={"admin_secret": secret})
                for section, secret in zip(plan.database_sections, admins, strict=True)
            ),
        }
    )
    keys = [f"arn:aws:kms:ap-southeast-2:111122223333:key/mrk-{i:032}" for i in range(3)]
    settings = Settings.model_validate(
        {"plan": plan_file, "vpc": VPC, "stack": "S" * 41, "adopt": {"keys": keys}}
    )
    sizes = measure(plan, settings)
    assert _need(plan, "IAM, managed policy") >= max(sizes.managed_policy_characters.values())
    assert _need(plan, "IAM, inline") >= max(sizes.inline_policy_characters.values())


def _need(plan: Plan, name: str) -> float:
    (found,) = (use for use in uses(plan) if name in use.name)
    return found.need
