"""A stack has one size whatever the number of credentials, below every limit."""

import json
from functools import cache
from pathlib import Path

import pytest

from cdk.settings import ROOT
from lockstep.plan.file import load_plan
from lockstep.plan.limits import uses
from lockstep.plan.model import Plan
from lockstep.protocol.schedule import SLOTS
from tests.infrastructure.cdk_case import BOTH_CLOUDS, FEDERATED, VPC, Synthesised, synthesise
from tests.support.scaled import scaled, with_sections

NO_SHARDS, MEGABYTE = 3, 1024 * 1024
"""Rules that are of no shard: of the watch, of the digest, of promotions."""
MANAGED_POLICY, INLINE_POLICIES, TRUST_POLICY, QUEUE_STATEMENTS = 6144, 10240, 2048, 20
"""IAM's and SQS's limits (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html)."""


def check(plan: Plan, stack: Synthesised) -> tuple[int, ...]:
    """Everything is below its limit, and `lockstep check` says never too little; the sizes.

    They are of the largest managed policy, of a role's inline policies, of a trust policy, and of a queue's policy.
    """
    managed, inline = 0, dict[str, int]()
    for name, statements in stack.documents():
        if stack.all[name]["Type"] == "AWS::IAM::ManagedPolicy":
            managed = max(managed, characters(statements))
            continue
        roles = [role["Ref"] for role in stack.all[name]["Properties"].get("Roles", [])] or [name]
        for role in roles:
            inline[role] = inline.get(role, 0) + (characters(statements) if statements else 0)
    trusts = [role["AssumeRolePolicyDocument"]["Statement"] for role in stack.each("AWS::IAM::Role")]
    trust = max(characters(stack.resolved(statements)) for statements in trusts)
    queues = max(len(q["PolicyDocument"]["Statement"]) for q in stack.each("AWS::SQS::QueuePolicy"))
    assert (trust <= TRUST_POLICY, queues <= QUEUE_STATEMENTS) == (True, True)
    need = {use.name: use.need for use in uses(plan)}
    (of_runner,) = (n for name, n in need.items() if "IAM, managed policy" in name)
    (of_function,) = (n for name, n in need.items() if "IAM, inline" in name)
    assert managed <= of_runner <= MANAGED_POLICY
    assert max(inline.values()) <= of_function <= INLINE_POLICIES
    return managed, max(inline.values()), trust, queues


def characters(statements: object) -> int:
    """The size of a policy as IAM counts it: without white space."""
    document = {"Version": "2012-10-17", "Statement": statements}
    return len("".join(json.dumps(document, ensure_ascii=False, separators=(",", ":")).split()))


@cache
def stack_of(count: int, file: Path = BOTH_CLOUDS) -> Synthesised:
    plan = scaled(load_plan(ROOT / file), count)
    return synthesise(plan, plan=file, vpc=VPC, schedules=True, canary=plan.credentials[0].id)


def test_ten_thousand_credentials_are_a_hundred_and_some_more_rules_and_nothing_else() -> None:
    plans = {count: scaled(load_plan(ROOT / BOTH_CLOUDS), count) for count in (2, 100, 10_000)}
    assert len({check(plan, stack_of(count)) for count, plan in plans.items()}) == 1
    hundred, many = stack_of(100), stack_of(10_000)
    rules, more = (len(s.each("AWS::Events::Rule")) for s in (hundred, many))
    intervals = {shard.interval for shard in plans[10_000].shards}
    assert len(many.all) - len(hundred.all) == more - rules
    assert rules == len(intervals) + NO_SHARDS
    assert more <= SLOTS * len(intervals) + NO_SHARDS
    assert (many.folder / "lockstep.template.json").stat().st_size < MEGABYTE / 4


@pytest.mark.parametrize("file", [BOTH_CLOUDS, FEDERATED])
def test_policies_fit_with_the_longest_names_with_keys_and_with_admins_by_arn(file: Path) -> None:
    plan = load_plan(ROOT / file)
    arn = f"arn:aws:secretsmanager:ap-southeast-2:444455556666:secret:{'a' * 200}-AbCdEf"
    databases = tuple(
        section.model_copy(update={"admin_secret": secret})
        for section, secret in zip(plan.database_sections, (arn, "rds!cluster-1f2e3d"), strict=True)
    )
    audit = plan.audit.aws.model_copy(update={"bucket": "b" * 57})
    longest = with_sections(
        plan,
        lock=plan.lock.model_copy(update={"table": "t" * 255, "region": "ap-southeast-2"}),
        audit=plan.audit.model_copy(update={"aws": audit}),
        database_sections=databases,
    )
    keys = [f"arn:aws:kms:ap-southeast-2:111122223333:key/mrk-{i:032}" for i in range(3)]
    check(longest, synthesise(longest, plan=file, vpc=VPC, stack="S" * 41, adopt={"keys": keys}))
