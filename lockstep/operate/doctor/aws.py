"""Checks of AWS. What CDK declares is not compared here: `cdk diff` and `cdk drift` do that."""

from collections.abc import Iterator
from functools import partial

from lockstep.databases.findings import Finding, failed, passed, warning
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Context
from lockstep.operate.secrets import ROTATED, Action, StackTerms, Wanted, in_aws, wanted
from lockstep.operate.verdict import lockstep

IDENTITY, SECRETS = "aws.identity", "aws.secrets"
_ACCOUNT = 4
"""The place of the account in an ARN."""


def identity(context: Context) -> Iterator[Finding]:
    """Who asks, and whether it is in the account that the plan's ARNs name."""
    caller = context.aws("sts", "get_caller_identity")
    account, arn = str(caller.get("Account", "?")), caller.get("Arn", "?")
    key = context.plan.audit.aws.mac_key
    named = key.split(":")[_ACCOUNT] if key.startswith("arn:") else account
    if named == account:
        yield passed(IDENTITY, f"account {account}", f"AWS knows this identity as {arn}")
        return
    says = f"the plan's signing key is in account {named}, but these credentials belong to {account}"
    fix = "export AWS_PROFILE=…  # one of that account: aws configure list-profiles"
    yield failed(IDENTITY, f"account {account}", says, fix)


def secrets(context: Context) -> Iterator[Finding]:
    """Each secret exists and stays, can be read, may be used by the functions, and is rotated by nobody else."""
    for found in context.clouds.side_by_side(
        [partial(_secret, context, one) for one in wanted(context.plan)]
    ):
        yield from found


def _secret(context: Context, one: Wanted) -> list[Finding]:
    return list(_wrong(context, one)) or [passed(SECRETS, one.name, "it exists, and can be used")]


def _wrong(context: Context, one: Wanted) -> Iterator[Finding]:
    """What `lockstep secrets tag` says of a secret, and whether it can be read."""
    found = context.aws.found("secretsmanager", "describe_secret", region=one.region, SecretId=one.name)
    decision = in_aws(one, found, StackTerms(stack=context.stack), consent=True)
    act, secret = partial(formatting.aws, one.region), ("--secret-id", one.name)
    if decision.action is Action.TAG:
        lacking = ", ".join(f"{key}={value}" for key, value in decision.tags.items())
        tag = lockstep("secrets", "tag", "--stack", context.stack, "--yes")
        yield failed(SECRETS, one.name, f"it lacks {lacking}, so no function may use it", tag)
    elif decision.action is not Action.NOTHING:
        see = act("secretsmanager describe-secret", *secret)
        yield failed(SECRETS, one.name, "; ".join(decision.problems), decision.command or see)
    if found is None:
        return
    if not any("AWSCURRENT" in labels for labels in found.get("VersionIdsToStages", {}).values()):
        first = '{"placeholder": true}' if one.kind in ROTATED else "file://secret.json"
        put = act("secretsmanager put-secret-value", *secret, "--secret-string", first)
        yield failed(
            SECRETS, one.name, "no version of it has the label AWSCURRENT, so nobody can read it", put
        )
    if regions := [replica["Region"] for replica in found.get("ReplicationStatus", ())]:
        words = *secret, "--remove-replica-regions", *regions
        end = act("secretsmanager remove-regions-from-replication", *words)
        says = (
            f"it is replicated to {', '.join(regions)}, where no run sees whether readers get a value in time"
        )
        yield warning(SECRETS, one.name, says, end)
