"""Checks of the lock table: the table itself, and what its records say of plan and orders."""

from collections.abc import Iterator, Mapping
from typing import Any

from lockstep.doctor import commands
from lockstep.doctor.checks import Check
from lockstep.doctor.context import Context
from lockstep.doctor.findings import Answer, failed, passed, warning
from lockstep.model import Credential, LockRecord

_KEY = [{"AttributeName": "credential_id", "KeyType": "HASH"}]


def table(context: Context) -> Iterator[Answer]:
    """The table exists, takes writes and has the right key, and nothing deletes its records."""
    name, region = context.plan.lock.table, context.plan.lock.region
    found = context.aws.found("dynamodb", "describe_table", TableName=name)
    if found is None:
        yield failed(name, f"there is no such table in {region}", commands.DEPLOY_AWS)
        return
    described = found["Table"]
    yield _state(name, described)
    ttl = context.aws("dynamodb", "describe_time_to_live", TableName=name)["TimeToLiveDescription"]
    if ttl["TimeToLiveStatus"] != "DISABLED":
        attribute = ttl.get("AttributeName", "…")
        off = commands.aws(
            region,
            "dynamodb update-time-to-live",
            *("--table-name", name),
            *("--time-to-live-specification", f"Enabled=false,AttributeName={attribute}"),
        )
        yield failed(name, "its time to live is on, which deletes records, and with them the fence", off)


def _state(name: str, described: Mapping[str, Any]) -> Answer:
    if described["TableStatus"] not in {"ACTIVE", "UPDATING"}:
        return failed(name, f"the table is {described['TableStatus']}", commands.DEPLOY_AWS)
    types = {a["AttributeName"]: a["AttributeType"] for a in described["AttributeDefinitions"]}
    if described["KeySchema"] != _KEY or types.get("credential_id") != "S":
        return failed(
            name,
            "its key is not the text credential_id alone, so it is another program's table",
            "lockstep plan check  # then correct lock.table",
        )
    return passed(name, "the table takes writes, and has the right key")


def protection(context: Context) -> Iterator[Answer]:
    """The table cannot be deleted by mistake, and can be restored."""
    name, region = context.plan.lock.table, context.plan.lock.region
    described = context.aws("dynamodb", "describe_table", TableName=name)["Table"]
    backups = context.aws("dynamodb", "describe_continuous_backups", TableName=name)
    recovery = backups["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    on = recovery.get("PointInTimeRecoveryStatus") == "ENABLED"
    if not described.get("DeletionProtectionEnabled"):
        mend = commands.aws(
            region, "dynamodb update-table", "--table-name", name, "--deletion-protection-enabled"
        )
        yield warning(name, "one call can delete it", mend)
    if not on:
        mend = commands.aws(
            region,
            "dynamodb update-continuous-backups",
            *("--table-name", name),
            *("--point-in-time-recovery-specification", "PointInTimeRecoveryEnabled=true"),
        )
        yield warning(name, "no earlier state of it can be looked at", mend)
    if on and described.get("DeletionProtectionEnabled"):
        yield passed(name, "it is protected against deletion, and its earlier states are kept")


def active_plan(context: Context) -> Iterator[Answer]:
    """Of each credential: whether runs act under the plan of this file."""
    for credential in context.plan.credentials:
        yield _plan(credential, context.clouds.lock(credential).read())


def _plan(credential: Credential, record: LockRecord) -> Answer:
    name, ours = credential.id, credential.plan_digest
    if record.activate is not None and record.activate != record.plan:
        which = (
            "that of this file" if record.activate == ours else f"{record.activate}, not that of this file"
        )
        tell = "is to become active with the next run of a cloud that has it"
        return warning(name, f"a plan, {which}, {tell}", commands.lockstep("rotate", "--force", name))
    if record.plan is None:
        return failed(
            name, "no plan is active, so no run does anything", commands.lockstep("plan", "activate", name)
        )
    if record.plan != ours:
        return failed(
            name,
            f"the active plan is {record.plan}, and that of this file is {ours}: after `lockstep plan diff OLD NEW`",
            commands.lockstep("plan", "activate", name, "--from", record.plan),
        )
    return passed(name, "the plan of this file is the active one")


def orders(context: Context) -> Iterator[Answer]:
    """Of each credential: what an operator, or a refused login, keeps from rotating."""
    for credential in context.plan.credentials:
        record = context.clouds.lock(credential).read()
        found = list(_orders(credential.id, record))
        yield from found or [passed(credential.id, "no order and no refused login stands in the way")]


def _orders(name: str, record: LockRecord) -> Iterator[Answer]:
    if record.paused:
        yield warning(name, "it is paused, so no scheduled run begins", commands.lockstep("resume", name))
    for database in sorted(record.muted):
        yield failed(
            name,
            f"{database} has refused a login that should work, and is shown no other one",
            commands.lockstep("retry", name, database),
        )
    for database in sorted(record.enrol):
        yield warning(
            name,
            f"the account on {database} is to be taken over by the next run",
            commands.lockstep("rotate", "--force", name),
        )
    if record.is_revoking:
        yield warning(
            name,
            f"every generation up to {record.revoke_through} is to die with the next run",
            commands.lockstep("rotate", "--force", name),
        )


_NEEDS = "aws.lock-table"
CHECKS = (
    Check(
        id="aws.lock-table",
        title="lock table",
        looks_at="whether the table exists and is active, its key is `credential_id`, and its time to live is off",
        means="no run of either cloud begins, or records vanish",
        command="make deploy-aws",
        ask=table,
        needs="aws.identity",
    ),
    Check(
        id="aws.lock-protection",
        title="lock table's protection",
        looks_at="deletion protection and point-in-time recovery of the table (warnings)",
        means="a mistake can delete the table; a heal makes a new one, but the orders in it are lost",
        command="aws dynamodb update-table --table-name TABLE --deletion-protection-enabled",
        ask=protection,
        needs=_NEEDS,
    ),
    Check(
        id="aws.active-plan",
        title="active plan",
        looks_at="for each credential the plan under which runs act, against this file's",
        means="runs of a cloud whose plan is another one change nothing",
        command="lockstep plan activate CREDENTIAL --from DIGEST",
        ask=active_plan,
        needs=_NEEDS,
    ),
    Check(
        id="aws.orders",
        title="orders",
        looks_at="for each credential a pause, muted databases, and orders that no run has fulfilled yet",
        means="a database is not rotated until somebody retries it",
        command="lockstep retry CREDENTIAL DATABASE",
        ask=orders,
        needs=_NEEDS,
    ),
)
