"""Checks of AWS: identity, clock, active plan, secrets, rights to read, schedules.

What CDK declares is not compared here: `cdk diff` and `cdk drift` do that.
"""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from lockstep.databases.findings import Answer, failed, passed, warning
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Check, Context, skew_answer
from lockstep.operate.secrets import ROTATED, Wanted, wanted
from lockstep.plan.admins import is_plain_name
from lockstep.plan.model import Plan
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    StoreAccessDeniedError,
)
from lockstep.protocol.model import AdminSecret, Credential, LockRecord
from lockstep.protocol.names import SecretKind, rule_name
from lockstep.runtime.identity import oci_api_key, oci_client_secret

_ACCOUNT = 4
"""The place of the account in an ARN."""


def identity(context: Context) -> Iterator[Answer]:
    """Who asks, and whether it is in the account that the plan's ARNs name."""
    caller = context.aws("sts", "get_caller_identity")
    account, arn = str(caller.get("Account", "?")), caller.get("Arn", "?")
    key = context.plan.audit.aws.mac_key
    named = key.split(":")[_ACCOUNT] if key.startswith("arn:") else account
    if named != account:
        yield failed(
            f"account {account}",
            f"the plan's signing key is in account {named}, but these credentials belong to {account}",
            "export AWS_PROFILE=…  # one of that account: aws configure list-profiles",
        )
        return
    yield passed(f"account {account}", f"AWS knows this identity as {arn}")


def clock(context: Context) -> Iterator[Answer]:
    """This clock against that of AWS, whose signatures are valid for five minutes."""
    try:
        yield skew_answer("AWS", context.clock, context.aws.time)
    except EnvironmentalError as error:
        if error.problem is not Environment.CLOCK_SKEW:
            raise
        yield failed("clock", "it is so wrong that AWS refuses the signatures", error.advice.rstrip("."))


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
        return warning(name, f"a plan, {which}, {tell}", formatting.lockstep("rotate", "--force", name))
    if record.plan is None:
        return failed(name, "no plan is active, so no run does anything", formatting.lockstep("apply", name))
    if record.plan != ours:
        return failed(
            name,
            f"the active plan is {record.plan}, and that of this file is {ours}: after `lockstep plan diff OLD NEW`",
            formatting.lockstep("apply", name, "--from", record.plan),
        )
    return passed(name, "the plan of this file is the active one")


# ---- Secrets

_DIFF = f"{formatting.DEPLOY_AWS}  # what differs: cdk drift"


def secrets_of(plan: Plan) -> list[Wanted]:
    """Every secret in AWS that a plan names; also those that need no tag."""
    admins = {d.admin.aws for d in plan.databases if isinstance(d.admin, AdminSecret)}
    others = sorted(secret for secret in admins if not is_plain_name(secret))
    region_of = plan.compiled.region_of
    return [
        *wanted(plan),
        *(Wanted(name=name, kind=SecretKind.ADMIN, region=region_of(name)) for name in others),
    ]


def secrets(context: Context) -> Iterator[Answer]:
    """Each secret exists and stays, can be read, may be used by the functions, and is rotated by nobody else."""
    asks = [partial(_secret, context, one) for one in secrets_of(context.plan)]
    for answers in context.clouds.side_by_side(asks):
        yield from answers


def _secret(context: Context, one: Wanted) -> list[Answer]:
    found = context.aws.found("secretsmanager", "describe_secret", region=one.region, SecretId=one.name)
    if found is None:
        return [failed(one.name, f"there is no such secret in {one.region}", _make(context, one))]
    act = partial(formatting.aws, one.region)
    if found.get("DeletedDate"):
        fix = act("secretsmanager restore-secret", "--secret-id", one.name)
        return [failed(one.name, "it is scheduled for deletion", fix)]
    return list(_described(context, one, found)) or [passed(one.name, "it exists, and can be used")]


def _described(context: Context, one: Wanted, found: Mapping[str, Any]) -> Iterator[Answer]:
    """What is wrong with a secret, by what Secrets Manager says of it, which is not its value."""
    act = partial(formatting.aws, one.region)
    if not any("AWSCURRENT" in labels for labels in found.get("VersionIdsToStages", {}).values()):
        first = '{"placeholder": true}' if one.kind in ROTATED else "file://secret.json"
        put = act("secretsmanager put-secret-value", "--secret-id", one.name, "--secret-string", first)
        yield failed(one.name, "no version of it has the label AWSCURRENT, so nobody can read it", put)
    has = {tag["Key"]: tag["Value"] for tag in found.get("Tags", [])}
    lacking = [f"{k}={v}" for k, v in one.tags(context.stack).items() if has.get(k) != v]
    if lacking and is_plain_name(one.name):
        tag = formatting.lockstep("secrets", "tag", "--stack", context.stack, "--yes")
        yield failed(one.name, f"it lacks {', '.join(lacking)}, so no function may use it", tag)
    if one.kind in ROTATED and found.get("RotationEnabled"):
        off = act("secretsmanager cancel-rotate-secret", "--secret-id", one.name)
        text = "AWS's own rotation is on, which changes the password behind Lockstep's back"
        yield failed(one.name, text, off)
    if regions := [replica["Region"] for replica in found.get("ReplicationStatus", ())]:
        what = ("--secret-id", one.name, "--remove-replica-regions", *regions)
        end = act("secretsmanager remove-regions-from-replication", *what)
        text = (
            f"it is replicated to {', '.join(regions)}, where no run sees whether readers get a value in time"
        )
        yield warning(one.name, text, end)


def _make(context: Context, one: Wanted) -> str:
    stack = context.stack
    if one.kind in ROTATED:
        return formatting.lockstep("secrets", "create", "--cloud", "aws", "--stack", stack)
    if not is_plain_name(one.name):
        return "lockstep check  # then correct admin_secret"
    tags = [f"Key={key},Value={value}" for key, value in one.tags(stack).items()]
    return formatting.aws(
        one.region,
        "secretsmanager create-secret",
        *("--name", one.name, "--secret-string", "file://secret.json", "--kms-key-id", f"alias/{stack}"),
        *("--tags", *tags),
    )


def oci_key(context: Context) -> Iterator[Answer]:
    """Each secret with which the AWS runner proves itself in OCI holds what it should."""
    for key, name in context.plan.runners.aws.secrets.items():
        region = context.plan.compiled.region_of(name)
        text = context.aws.value(name, region)
        try:
            if key == "federation.client.secret":
                what, file = (
                    "client secret: the text itself, or a JSON object with client_secret",
                    "client-secret.txt",
                )
                oci_client_secret(text, secret=name)
            else:
                what = "API key of OCI: a JSON object with tenancy, user, fingerprint, private_key and region"
                file = "oci-api-key.json"
                oci_api_key(text, store="aws", secret=name)
        except StoreAccessDeniedError:
            put = (
                "secretsmanager put-secret-value",
                "--secret-id",
                name,
                "--secret-string",
                f"file://{file}",
            )
            yield failed(name, f"it is no {what}", formatting.aws(region, *put))
        else:
            yield passed(name, "it is a key")


# ---- Rights to read what `status` and `audit` need

_PAGE = "docs/iam.md#a-person-at-the-command-line"
_ROLE = ":assumed-role/"


def rights(context: Context) -> Iterator[Answer]:
    """Tries each read that `status`, `history` and `audit` make."""
    audit, arn = context.plan.audit.aws, str(context.aws("sts", "get_caller_identity").get("Arn", "?"))
    where = {"region": audit.region, "Bucket": audit.bucket}
    table, bucket = context.plan.lock.table, audit.bucket
    first = {"credential_id": {"S": context.plan.credentials[0].id}}
    reads: list[tuple[str, str, Callable[[], object]]] = [
        ("dynamodb:GetItem", table, partial(context.aws, "dynamodb", "get_item", TableName=table, Key=first)),
        ("s3:ListBucket", bucket, partial(context.aws, "s3", "list_objects_v2", **where, MaxKeys=1)),
        (
            "s3:ListBucketVersions",
            bucket,
            partial(context.aws, "s3", "list_object_versions", **where, MaxKeys=1),
        ),
        # Without the right it is denied; of what is not there it says so.
        ("s3:GetObject", bucket, partial(context.aws.found, "s3", "head_object", **where, Key="aws/doctor")),
        *(
            ("kms:VerifyMac", key, partial(context.aws.try_to_verify, key, audit.region))
            for key in (audit.mac_key, audit.order_key)
        ),
    ]
    for action, resource, read in reads:
        yield _allowed(action, resource, read, arn)


def _allowed(action: str, resource: str, read: Callable[[], object], arn: str) -> Answer:
    try:
        read()
    except EnvironmentalError as error:
        match error.problem:
            case Environment.AWS_ACTION_DENIED:
                denied = str(error.where.get("action") or "")
                lacking = denied if ":" in denied else action
                text = "this identity may not, so `status` and `audit verify` cannot tell it all"
                return failed(lacking, text, _allow(lacking, arn))
            case Environment.AWS_RESOURCE_MISSING:
                return failed(action, f"there is no {resource}", _DIFF)
            case Environment.AWS_CALL_REFUSED:
                return failed(action, f"{resource} cannot be used: {error.where.get('code')}", _DIFF)
        raise
    return passed(action, "this identity may")


def _allow(action: str, arn: str) -> str:
    """What gives the identity of an ARN a right."""
    statement = {"Effect": "Allow", "Action": action, "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    who = ("--role-name", arn.split("/")[1]) if _ROLE in arn else ("--user-name", arn.rpartition("/")[2])
    put = "put-role-policy" if _ROLE in arn else "put-user-policy"
    words = [*who, "--policy-name", "lockstep-reads", "--policy-document", document]
    return f"aws iam {put} {shlex.join(words)}  # {_PAGE}"


def schedules(context: Context) -> Iterator[Answer]:
    """Each shard has a rule that is on."""
    for shard in context.plan.shards:
        name, count = rule_name(context.stack, shard.name), f"{len(shard.credential_ids):,}"
        found = context.aws.found("events", "describe_rule", Name=name)
        if found is None:
            text = f"there is no rule {name}, so AWS never rotates its {count} credentials"
            yield failed(shard.name, text, formatting.DEPLOY_AWS)
        elif found.get("State") != "ENABLED":
            switch = f'{formatting.DEPLOY_AWS}  # with "schedules": true in cdk.json'
            text = f"its rule {name} is off, so AWS never rotates its {count} credentials"
            yield failed(shard.name, text, switch)
        else:
            yield passed(shard.name, f"AWS starts its {count} credentials")


_NEEDS = "aws.identity"
CHECKS = (
    Check(
        id="aws.identity",
        title="identity in AWS",
        looks_at="who the credentials here belong to, and whether that is the account of the plan's signing key",
        means="nothing in AWS can be looked at, or it would be that of another account",
        command="aws sso login",
        ask=identity,
    ),
    Check(
        id="aws.clock",
        title="clock",
        looks_at="this clock against the Date of an answer of AWS; a minute away is a warning",
        means="AWS refuses signatures that are five minutes off",
        command="timedatectl set-ntp true",
        ask=clock,
    ),
    Check(
        id="aws.active-plan",
        title="active plan",
        looks_at="for each credential the plan under which runs act, against this file's",
        means="runs of a cloud whose plan is another one change nothing",
        command="lockstep apply CREDENTIAL --from DIGEST",
        ask=active_plan,
        needs=_NEEDS,
    ),
    Check(
        id="aws.secrets",
        title="secrets",
        looks_at="of every secret in AWS that the plan names: whether it exists, is not to be deleted, has a version "
        "with the label AWSCURRENT and, where it is given by name, the tags `lockstep:stack` and `lockstep:secret`, "
        "and whether Secrets Manager's own rotation is off, and replicates it to no other region",
        means="runs or applications cannot read it, or AWS changes the password behind Lockstep's back",
        command="lockstep secrets create --cloud aws; lockstep secrets tag --yes",
        ask=secrets,
        needs=_NEEDS,
    ),
    Check(
        id="aws.oci-key",
        title="the AWS runner's keys for OCI",
        looks_at="where the plan names them: whether each secret holds an API key, or the client secret",
        means="the AWS runner cannot reach OCI, so no rotation succeeds",
        command="aws secretsmanager put-secret-value --secret-id SECRET --secret-string file://oci-api-key.json",
        ask=oci_key,
        needs=_NEEDS,
        applies=lambda plan: bool(plan.runners.aws.secrets),
    ),
    Check(
        id="aws.rights",
        title="rights to read",
        looks_at="each read that `status`, `history` and `audit` make of the lock table, the audit bucket and the "
        "signing key, by trying it",
        means="this identity cannot see the state, or what it reads is not there",
        command="aws iam put-role-policy --role-name ROLE --policy-name lockstep-reads --policy-document JSON",
        ask=rights,
        needs=_NEEDS,
    ),
    Check(
        id="aws.schedules",
        title="schedules",
        looks_at="for each shard whether its rule is there, and on",
        means="AWS does not rotate its credentials",
        command='make deploy-aws  # with "schedules": true in cdk.json',
        ask=schedules,
        needs=_NEEDS,
    ),
)
