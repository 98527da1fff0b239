"""What the policy of the plan bucket denies: writing over what is published.

Whoever reads a plan knows its digest, and compares what it reads with that. So nobody who may write there can change
what runs; the policy keeps what a run under way still reads. Deleting is not denied: old plans go (docs/runbook.md).
"""

from collections.abc import Iterator, Sequence

from cdk.audit_policy import Statement, covers, new_objects_only, same_condition

PLAN_PREFIX, REPORT_PREFIX = "plans/", "reports/"
"""The folders of published plans, and of what the fleet machine writes of its runs."""


def statement(bucket_arn: str) -> Statement:
    """The denial, for a policy."""
    return new_objects_only("NewPlansOnly", f"{bucket_arn}/{PLAN_PREFIX}*")


def lacks(bucket_arn: str, found: Sequence[Statement]) -> Iterator[tuple[str, Statement]]:
    """What a policy that exists does not deny, and the statement to add."""
    wanted = statement(bucket_arn)
    if not any(covers(s, wanted) and same_condition(s, wanted) for s in found):
        yield "lets a published plan be written over", wanted
