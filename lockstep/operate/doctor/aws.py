"""Checks of AWS. What CDK declares is not compared here: `cdk diff` and `cdk drift` do that."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from lockstep.databases.findings import Finding, failed, passed, warning
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Context
from lockstep.operate.secrets import ROTATED, Action, StackTerms, Wanted, in_aws, wanted
from lockstep.operate.verdict import Kind, lockstep, of_record, ranked
from lockstep.plan.admins import is_plain_name
from lockstep.plan.model import Plan
from lockstep.protocol.model import AdminSecret
from lockstep.protocol.names import SecretKind

IDENTITY, RECORDS, SECRETS = "aws.identity", "aws.records", "aws.secrets"
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


_WAITING = frozenset({Kind.NEW, Kind.PAUSED, Kind.UNFINISHED})
"""What a run or a person ends in its time."""


def records(context: Context) -> Iterator[Finding]:
    """What the record of each credential says, as every surface tells it."""
    now = context.clock.now()
    for credential in context.plan.credentials:
        reasons = ranked(of_record(context.clouds.lock(credential).read(), credential, now))
        for reason in reasons:
            tell = warning if reason.kind in _WAITING else failed
            yield tell(RECORDS, credential.id, reason.text.removesuffix("."), reason.next)
        if not reasons:
            yield passed(
                RECORDS, credential.id, "the plan of this file is the active one, and runs may rotate"
            )


# ---- Secrets


def secrets_of(plan: Plan) -> list[Wanted]:
    """Every secret in AWS that a plan names; also those that need no tag."""
    admins = {d.admin.aws for d in plan.databases if isinstance(d.admin, AdminSecret)}
    others = sorted(secret for secret in admins if not is_plain_name(secret))
    region_of = plan.compiled.region_of
    return [
        *wanted(plan),
        *(Wanted(name=name, kind=SecretKind.ADMIN, region=region_of(name)) for name in others),
    ]


def secrets(context: Context) -> Iterator[Finding]:
    """Each secret exists and stays, can be read, may be used by the functions, and is rotated by nobody else."""
    asks = [partial(_secret, context, one) for one in secrets_of(context.plan)]
    for found in context.clouds.side_by_side(asks):
        yield from found


def _secret(context: Context, one: Wanted) -> list[Finding]:
    found = context.aws.found("secretsmanager", "describe_secret", region=one.region, SecretId=one.name)
    if found is None:
        return [failed(SECRETS, one.name, f"there is no such secret in {one.region}", _make(context, one))]
    if found.get("DeletedDate"):
        fix = _of(one, "restore-secret")
        return [failed(SECRETS, one.name, "it is scheduled for deletion", fix)]
    return list(_described(context, one, found)) or [passed(SECRETS, one.name, "it exists, and can be used")]


def _of(one: Wanted, command: str, *words: str) -> str:
    """A command about a secret."""
    return formatting.aws(one.region, f"secretsmanager {command}", "--secret-id", one.name, *words)


def _described(context: Context, one: Wanted, found: Mapping[str, Any]) -> Iterator[Finding]:
    """What is wrong with a secret, by what Secrets Manager says of it, which is not its value."""
    if not any("AWSCURRENT" in labels for labels in found.get("VersionIdsToStages", {}).values()):
        first = '{"placeholder": true}' if one.kind in ROTATED else "file://secret.json"
        says = "no version of it has the label AWSCURRENT, so nobody can read it"
        yield failed(SECRETS, one.name, says, _of(one, "put-secret-value", "--secret-string", first))
    if is_plain_name(one.name):
        yield from _judged(context, one, found)
    if regions := [replica["Region"] for replica in found.get("ReplicationStatus", ())]:
        end = _of(one, "remove-regions-from-replication", "--remove-replica-regions", *regions)
        says = (
            f"it is replicated to {', '.join(regions)}, where no run sees whether readers get a value in time"
        )
        yield warning(SECRETS, one.name, says, end)


def _judged(context: Context, one: Wanted, found: Mapping[str, Any]) -> Iterator[Finding]:
    """What `lockstep secrets tag` would say of it."""
    decision = in_aws(one, found, StackTerms(stack=context.stack), consent=True)
    if decision.action is Action.REFUSE:
        for problem in decision.problems:
            says, _, fix = problem.partition("; ")
            yield failed(SECRETS, one.name, says, fix)
    elif decision.action is Action.TAG:
        lacking = ", ".join(f"{key}={value}" for key, value in decision.tags.items())
        tag = lockstep("secrets", "tag", "--stack", context.stack, "--yes")
        yield failed(SECRETS, one.name, f"it lacks {lacking}, so no function may use it", tag)


def _make(context: Context, one: Wanted) -> str:
    stack = context.stack
    if one.kind in ROTATED:
        return lockstep("secrets", "create", "--cloud", "aws", "--stack", stack)
    if not is_plain_name(one.name):
        return "correct `admin_secret` in the plan: lockstep check"
    tags = [f"Key={key},Value={value}" for key, value in one.tags(stack).items()]
    return formatting.aws(
        one.region,
        "secretsmanager create-secret",
        *("--name", one.name, "--secret-string", "file://secret.json", "--kms-key-id", f"alias/{stack}"),
        *("--tags", *tags),
    )
