"""Checks of AWS: the identity, the region, the clock."""

from collections.abc import Iterator

from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, passed


def identity(context: Context) -> Iterator[Answer]:
    """Who asks."""
    caller = context.aws("sts", "get_caller_identity")
    yield passed(
        f"account {caller.get('Account', '?')}", f"AWS knows this identity as {caller.get('Arn', '?')}"
    )


CHECKS = (
    Check(
        id="aws.identity",
        title="identity in AWS",
        looks_at="who the environment's credentials belong to, and the account (GetCallerIdentity)",
        means="nothing in AWS can be looked at",
        command="aws sso login, or export AWS_PROFILE=…",
        ask=identity,
    ),
)
