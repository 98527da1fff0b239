"""Checks of AWS: account and clock, lock table, stack, fleet, events.

Checks of AWS: the identity, the regions, the clock, the quotas.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lockstep import __version__
from lockstep.operate import formatting
from lockstep.operate.doctor.checks import Check, Context, skew_answer
from lockstep.plan.admins import secrets_region
from lockstep.plan.limits import Use, Verdict, of_aws
from lockstep.plan.model import Plan
from lockstep.plan.published import INDEX, PlanInS3, folder_of, place_of
from lockstep.protocol.errors import ClockSkewError, InvalidPlanError
from lockstep.protocol.findings import Answer, failed, passed, warning
from lockstep.protocol.model import FORMAT, Credential, LockRecord
from lockstep.protocol.names import (
    FORMAT_OUTPUT,
    LIVE,
    VERSION_OUTPUT,
    alarm_prefix,
    announce_rule_name,
    canary_alarm_name,
    fleet_machine_name,
    rule_name,
    state_machine_name,
)
from lockstep.protocol.schedule import Shard, cron_expression
from lockstep.runtime.wiring import PLAN_VARIABLE

_ACCOUNT = 4
"""The place of the account in an ARN."""
_CODES: Mapping[str, tuple[str, str]] = {
    "EventBridge, rules on the default bus": ("events", "L-244521F2"),
    "Lambda, concurrent executions in the region": ("lambda", "L-B99A9384"),
}
"""Of quotas that an account may have raised: service and code
(https://docs.aws.amazon.com/general/latest/gr/ev.html, https://docs.aws.amazon.com/general/latest/gr/lambda-service.html)."""


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
    except ClockSkewError as error:
        yield failed("clock", "it is so wrong that AWS refuses the signatures", error.advice.rstrip("."))


def regions(context: Context) -> Iterator[Answer]:
    """Whether the account may use each region of the plan."""
    known = context.aws("ec2", "describe_regions", AllRegions=True)["Regions"]
    states = {region["RegionName"]: region.get("OptInStatus", "") for region in known}
    for region in regions_of(context.plan):
        state = states.get(region)
        if state is None:
            yield failed(
                region, "AWS has no region of this name", "lockstep plan check  # then correct region"
            )
        elif state == "not-opted-in":
            command = f"aws account enable-region --region-name {region}"
            yield failed(region, "the account has not enabled this region", command)
        else:
            yield passed(region, "the account may use it")


def regions_of(plan: Plan) -> list[str]:
    """The regions of AWS that a plan names."""
    found = (plan.lock.region, secrets_region(plan), plan.audit.aws.region)
    return list(dict.fromkeys(found))


def quotas(context: Context) -> Iterator[Answer]:
    """What the plan needs of each quota, by the account's own limit where AWS tells it."""
    for use in of_aws(context.plan):
        yield quota_answer(_by_account(context, use), context.plan.lock.region)


def _by_account(context: Context, use: Use) -> Use:
    if use.name not in _CODES:
        return use
    service, code = _CODES[use.name]
    asked = {"ServiceCode": service, "QuotaCode": code}
    found = context.aws.found("service-quotas", "get_service_quota", **asked)
    return use.limited(int(found["Quota"]["Value"])) if found else use


def quota_answer(use: Use, region: str) -> Answer:
    """What a need of a quota means."""
    if use.verdict is Verdict.FITS:
        return passed(use.name, str(use))
    tell = warning if use.verdict is Verdict.NEAR else failed
    service, code = _CODES.get(use.name, ("", ""))
    ask = formatting.aws(
        region,
        "service-quotas request-service-quota-increase",
        *("--service-code", service, "--quota-code", code, "--desired-value", "…"),
    )
    return tell(use.name, str(use), ask if code else f"lockstep plan check  # {use.change}")


ACCOUNT_CHECKS = (
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
        id="aws.regions",
        title="regions",
        looks_at="whether each AWS region of the plan exists, and the account has enabled it",
        means="no call in that region succeeds",
        command="aws account enable-region --region-name REGION",
        ask=regions,
        needs="aws.identity",
    ),
    Check(
        id="aws.quotas",
        title="quotas",
        looks_at="what the plan needs of each quota; of rules and of Lambda by the account's own limits",
        means="a deployment or a rotation is refused, or will be with a few more credentials",
        command="aws service-quotas request-service-quota-increase --service-code SERVICE --quota-code CODE",
        ask=quotas,
        needs="aws.identity",
    ),
)


# Checks of the lock table: the table itself, and what its records say of plan and orders.

_KEY = [{"AttributeName": "credential_id", "KeyType": "HASH"}]


def table(context: Context) -> Iterator[Answer]:
    """The table exists, takes writes and has the right key, and nothing deletes its records."""
    name, region = context.plan.lock.table, context.plan.lock.region
    found = context.aws.found("dynamodb", "describe_table", TableName=name)
    if found is None:
        yield failed(name, f"there is no such table in {region}", formatting.DEPLOY_AWS)
        return
    described = found["Table"]
    yield _state(name, described)
    ttl = context.aws("dynamodb", "describe_time_to_live", TableName=name)["TimeToLiveDescription"]
    if ttl["TimeToLiveStatus"] != "DISABLED":
        attribute = ttl.get("AttributeName", "…")
        off = formatting.aws(
            region,
            "dynamodb update-time-to-live",
            *("--table-name", name),
            *("--time-to-live-specification", f"Enabled=false,AttributeName={attribute}"),
        )
        yield failed(name, "its time to live is on, which deletes records, and with them the fence", off)


def _state(name: str, described: Mapping[str, Any]) -> Answer:
    if described["TableStatus"] not in {"ACTIVE", "UPDATING"}:
        return failed(name, f"the table is {described['TableStatus']}", formatting.DEPLOY_AWS)
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
        fix = formatting.aws(
            region, "dynamodb update-table", "--table-name", name, "--deletion-protection-enabled"
        )
        yield warning(name, "one call can delete it", fix)
    if not on:
        fix = formatting.aws(
            region,
            "dynamodb update-continuous-backups",
            *("--table-name", name),
            *("--point-in-time-recovery-specification", "PointInTimeRecoveryEnabled=true"),
        )
        yield warning(name, "no earlier state of it can be looked at", fix)
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
        return warning(name, f"a plan, {which}, {tell}", formatting.lockstep("rotate", "--force", name))
    if record.plan is None:
        return failed(
            name, "no plan is active, so no run does anything", formatting.lockstep("plan", "activate", name)
        )
    if record.plan != ours:
        return failed(
            name,
            f"the active plan is {record.plan}, and that of this file is {ours}: after `lockstep plan diff OLD NEW`",
            formatting.lockstep("plan", "activate", name, "--from", record.plan),
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
        yield warning(name, "it is paused, so no scheduled run begins", formatting.lockstep("resume", name))
    for database in sorted(record.blocked):
        yield failed(
            name,
            f"{database} has refused a login that should work, and is shown no other one",
            formatting.lockstep("unblock", name, database),
        )
    for database in sorted(record.take_over):
        yield warning(
            name,
            f"the account on {database} is to be taken over by the next run",
            formatting.lockstep("rotate", "--force", name),
        )
    if record.is_revoking:
        yield warning(
            name,
            f"every generation up to {record.revoke_through} is to die with the next run",
            formatting.lockstep("rotate", "--force", name),
        )


_NEEDS = "aws.lock-table"
LOCK_CHECKS = (
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
        means="a mistake can delete the table; a reconcile makes a new one, but the orders in it are lost",
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
        looks_at="for each credential a pause, blocked databases, and orders that no run has fulfilled yet",
        means="a database is not rotated until somebody retries it",
        command="lockstep unblock CREDENTIAL DATABASE",
        ask=orders,
        needs=_NEEDS,
    ),
)


# Checks of what the stack has made in AWS: functions, the state machine of rotations, and alarms.

_FUNCTION = re.compile(r"arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:[A-Za-z0-9_:$-]+")
_GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"})
_SUBSCRIBED = "arn:"
"""How the ARN of a subscription begins that was confirmed; else it is a word."""


def stack(context: Context) -> Iterator[Answer]:
    """The stack is there, and no deployment of it is under way or stuck."""
    name = context.stack
    found = context.aws.found("cloudformation", "describe_stacks", StackName=name)
    if found is None:
        yield failed(name, f"it is not deployed in {context.plan.lock.region}", formatting.DEPLOY_AWS)
        return
    status = found["Stacks"][0]["StackStatus"]
    if status in _GOOD:
        yield passed(name, f"it is deployed ({status})")
        return
    events = formatting.aws(
        context.plan.lock.region, "cloudformation describe-stack-events", "--stack-name", name
    )
    yield failed(name, f"it is {status}", events)


def build(context: Context) -> Iterator[Answer]:
    """What is deployed is of this build's format and version."""
    outputs = context.aws.stack_outputs(context.stack)
    version, written = outputs.get(VERSION_OUTPUT), outputs.get(FORMAT_OUTPUT, "")
    if version is None or not written.isdecimal():
        text = "the stack does not say which build it is of, so it is older than this command"
        yield warning(context.stack, text, formatting.DEPLOY_AWS)
    elif int(written) > FORMAT:
        text = f"the stack writes format {written}, and this command reads up to {FORMAT}"
        yield failed(context.stack, text, f"pip install -U 'lockstep-rotation[cli]=={version}'")
    elif int(written) < FORMAT or version != __version__:
        text = f"the stack is of version {version}, format {written}; this command of {__version__}, {FORMAT}"
        yield warning(context.stack, text, formatting.DEPLOY_AWS)
    else:
        yield passed(context.stack, f"version {version}, format {written}, as this command")


def machine(context: Context) -> Iterator[Answer]:
    """The state machine can be started, and writes a log."""
    arn = _machine_arn(context)
    found = context.aws.found("stepfunctions", "describe_state_machine", stateMachineArn=arn)
    if found is None:
        yield failed(context.stack, "there is no state machine of this name", formatting.DEPLOY_AWS)
        return
    if _live(context) is None:
        text = f"it has no alias {LIVE}, by which runs start"
        yield failed(context.stack, text, formatting.DEPLOY_AWS)
        return
    if found.get("status", "ACTIVE") != "ACTIVE":
        yield failed(context.stack, f"it is {found['status']}", formatting.DEPLOY_AWS)
        return
    yield passed(context.stack, f"runs start by its alias {LIVE}")


def machine_log(context: Context) -> Iterator[Answer]:
    """The state machine writes a log."""
    arn = _machine_arn(context)
    found = context.aws("stepfunctions", "describe_state_machine", stateMachineArn=arn)
    level = found.get("loggingConfiguration", {}).get("level", "OFF")
    if level == "OFF":
        yield warning(context.stack, "it writes no log of its runs", formatting.DEPLOY_AWS)
    else:
        yield passed(context.stack, f"it logs at level {level}")


def functions(context: Context) -> Iterator[Answer]:
    """The versions of the functions that runs call are there, and can be called."""
    for arn in functions_of_live(context):
        yield function_answer(context, arn, caller="the state machine")


def functions_of_live(context: Context) -> list[str]:
    """The ARNs of the versions that runs call, each once."""
    live = _live(context) or {}
    version = live["routingConfiguration"][0]["stateMachineVersionArn"]
    shown = context.aws("stepfunctions", "describe_state_machine", stateMachineArn=version)
    return list(dict.fromkeys(_FUNCTION.findall(shown["definition"])))


def function_answer(context: Context, arn: str, *, caller: str) -> Answer:
    """Whether a function can be called.

    Args:
        context: What may be asked.
        arn: The function's, or that of a version.
        caller: What calls it.
    """
    name = arn.split(":function:")[1]
    found = context.aws.found("lambda", "get_function_configuration", FunctionName=arn)
    if found is None:
        return failed(name, f"{caller} calls it, and it is not there", formatting.DEPLOY_AWS)
    if found.get("State", "Active") not in {"Active", "Inactive"}:
        reason = found.get("StateReasonCode", "")
        return failed(name, f"it is {found['State']} {reason}".rstrip(), formatting.DEPLOY_AWS)
    return passed(name, "it can be called")


def alarms(context: Context) -> Iterator[Answer]:
    """The stack's alarms are there, tell somebody, and none is on."""
    region = context.plan.lock.region
    found = _alarms(context)
    if not found:
        yield failed(context.stack, "it has no alarm, so nobody learns of a failure", formatting.DEPLOY_AWS)
    for alarm in found:
        name = alarm["AlarmName"]
        if not alarm.get("ActionsEnabled", True):
            fix = formatting.aws(region, "cloudwatch enable-alarm-actions", "--alarm-names", name)
            yield failed(name, "its actions are switched off, so it tells nobody", fix)
        elif not alarm.get("AlarmActions") and name != canary_alarm_name(context.stack):
            yield failed(name, "it has no action, so it tells nobody", formatting.DEPLOY_AWS)
        elif alarm.get("StateValue") == "ALARM":
            text = str(alarm.get("AlarmDescription") or "it is on").rstrip(".")
            see = formatting.aws(region, "cloudwatch describe-alarms", "--alarm-names", name)
            yield warning(name, text, see)
        else:
            yield passed(name, "it is off, and tells those who must know")


def _alarms(context: Context) -> list[Mapping[str, Any]]:
    prefix = alarm_prefix(context.stack)
    return context.aws.all("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNamePrefix=prefix)


def subscribers(context: Context) -> Iterator[Answer]:
    """Somebody has confirmed to be told of alarms, on each topic."""
    told = {action for alarm in _alarms(context) for action in alarm.get("AlarmActions", [])}
    for topic in sorted(arn for arn in told if ":sns:" in arn):
        yield _subscribed(context, topic)


def _subscribed(context: Context, topic: str) -> Answer:
    name, region = topic.rsplit(":", maxsplit=1)[-1], topic.split(":")[3]
    found = context.aws.all(
        "sns", "list_subscriptions_by_topic", "Subscriptions", region=region, TopicArn=topic
    )
    confirmed = [s for s in found if str(s["SubscriptionArn"]).startswith(_SUBSCRIBED)]
    subscribe = formatting.aws(
        region,
        "sns subscribe",
        *("--topic-arn", topic, "--protocol", "email", "--notification-endpoint", "YOU@EXAMPLE.COM"),
    )
    if not found:
        return failed(name, "nobody has subscribed to it, so no alarm reaches anybody", subscribe)
    if not confirmed:
        text = f"none of {len(found)} subscriptions was confirmed by the link in the mail; to send it again"
        return failed(name, text, subscribe)
    return passed(name, f"{len(confirmed)} confirmed subscriptions")


def _machine_arn(context: Context) -> str:
    return machine_arn(context, state_machine_name(context.stack))


def machine_arn(context: Context, name: str) -> str:
    """The ARN of a state machine of this account."""
    caller = context.aws("sts", "get_caller_identity")
    partition, account = str(caller["Arn"]).split(":")[1], caller["Account"]
    return f"arn:{partition}:states:{context.plan.lock.region}:{account}:stateMachine:{name}"


def _live(context: Context) -> Mapping[str, Any] | None:
    alias = f"{_machine_arn(context)}:{LIVE}"
    return context.aws.found("stepfunctions", "describe_state_machine_alias", stateMachineAliasArn=alias)


NEEDS_STACK, NEEDS_MACHINE = "aws.stack", "aws.state-machine"
"""What other checks need."""
STACK_CHECKS = (
    Check(
        id="aws.stack",
        title="stack",
        looks_at="whether the CloudFormation stack exists, and its last deployment has ended well",
        means="nothing runs in AWS, or half of a deployment does",
        command="make deploy-aws",
        ask=stack,
        needs="aws.identity",
    ),
    Check(
        id="aws.build",
        title="build of the stack",
        looks_at="version and format of what is deployed, against this command's",
        means="this command does not read what the stack writes",
        command="make deploy-aws",
        ask=build,
        needs=NEEDS_STACK,
    ),
    Check(
        id="aws.state-machine",
        title="state machine",
        looks_at="whether it exists, and has the alias `live`",
        means="AWS rotates nothing",
        command="make deploy-aws",
        ask=machine,
        needs=NEEDS_STACK,
    ),
    Check(
        id="aws.state-machine-log",
        title="log of the state machine",
        looks_at="whether it logs (a warning)",
        means="why a run failed can be found in its history only",
        command="make deploy-aws",
        ask=machine_log,
        needs=NEEDS_MACHINE,
    ),
    Check(
        id="aws.functions",
        title="functions",
        looks_at="whether the versions of the functions that the live version calls exist, and are active",
        means="each run fails at that step",
        command="make deploy-aws",
        ask=functions,
        needs=NEEDS_MACHINE,
    ),
    Check(
        id="aws.alarms",
        title="alarms",
        looks_at="whether the stack has alarms, and each tells a topic; one that is on is a warning",
        means="nobody learns that rotations fail",
        command="aws cloudwatch enable-alarm-actions --alarm-names ALARM",
        ask=alarms,
        needs=NEEDS_STACK,
    ),
    Check(
        id="aws.alarm-subscribers",
        title="subscribers of the alarms",
        looks_at="whether each topic of the alarms has a subscription that was confirmed",
        means="alarms reach nobody",
        command="aws sns subscribe --topic-arn TOPIC --protocol email --notification-endpoint YOU@EXAMPLE.COM",
        ask=subscribers,
        needs=NEEDS_STACK,
    ),
)


# Checks of what starts rotations in AWS: the fleet, the rules of the shards, and the published plan.

_PUBLISH = "lockstep plan publish --cloud aws"


def fleet(context: Context) -> Iterator[Answer]:
    """The state machine of the fleet is there."""
    name = fleet_machine_name(context.stack)
    found = context.aws.found("stepfunctions", "describe_state_machine", stateMachineArn=_fleet_arn(context))
    if found is None:
        yield failed(name, "it is not there, so no rotation starts by schedule", formatting.DEPLOY_AWS)
    elif found.get("status", "ACTIVE") != "ACTIVE":
        yield failed(name, f"it is {found['status']}", formatting.DEPLOY_AWS)
    else:
        yield passed(name, "it starts the rotations of each shard")


def plan(context: Context) -> Iterator[Answer]:
    """The functions of the live version read one published plan, and it is there."""
    places = {arn: _place(context, arn) for arn in functions_of_live(context)}
    for arn, place in places.items():
        if place is None:
            name = arn.split(":function:")[1]
            yield failed(name, f"its {PLAN_VARIABLE} names no published plan", formatting.DEPLOY_AWS)
    for place in dict.fromkeys(place for place in places.values() if place):
        index = context.aws.found(
            "s3",
            "head_object",
            region=place.region,
            Bucket=place.bucket,
            Key=f"{folder_of(place.digest)}/{INDEX}",
        )
        if index is None:
            yield failed(
                str(place), "it is not there, or not whole, so no function reads what it rotates", _PUBLISH
            )
        else:
            yield passed(str(place), "it is there, and the functions read it")


def schedules(context: Context) -> Iterator[Answer]:
    """Each shard has a rule that starts the fleet, at the plan's interval, with the plan of the functions."""
    deployed = {place.digest for arn in functions_of_live(context) if (place := _place(context, arn))}
    for shard in context.plan.shards:
        name = rule_name(context.stack, shard.name)
        found = context.aws.found("events", "describe_rule", Name=name)
        if found is None:
            text = (
                f"there is no rule {name}, so AWS never rotates its {len(shard.credential_ids):,} credentials"
            )
            yield failed(shard.name, text, formatting.DEPLOY_AWS)
            continue
        targets = context.aws("events", "list_targets_by_rule", Rule=name)["Targets"]
        starts = [target for target in targets if target["Arn"] == _fleet_arn(context)]
        yield _schedule(shard, found, starts, deployed)


def _schedule(
    shard: Shard, found: Mapping[str, Any], starts: list[Mapping[str, Any]], deployed: set[str]
) -> Answer:
    name, expected = shard.name, cron_expression(shard.interval, shard.phase)
    if found.get("State") != "ENABLED":
        switch = f'{formatting.DEPLOY_AWS}  # with "schedules": true in cdk.json'
        return failed(name, f"its rule {found['Name']} is off, so AWS never rotates what is in it", switch)
    if (actual := found.get("ScheduleExpression")) != expected:
        text = f"its rule has {actual}, and the plan's interval is {expected}"
        return failed(name, text, formatting.DEPLOY_AWS)
    if not starts:
        text = "its rule does not start the fleet of this stack"
        return failed(name, text, formatting.DEPLOY_AWS)
    for target in starts:
        started = _input(target)
        if started.get("shard") != name:
            return failed(name, "its rule starts another shard", formatting.DEPLOY_AWS)
        if deployed and started.get("plan") not in deployed:
            text = "its rule names another published plan than the functions read"
            return failed(name, text, formatting.DEPLOY_AWS)
    return passed(name, f"AWS starts its {len(shard.credential_ids):,} credentials by {expected}")


def _input(target: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a rule starts the fleet with; the time of the event, which it adds, is left out."""
    transformer = target.get("InputTransformer", {})
    text = transformer.get("InputTemplate", target.get("Input", "{}"))
    for name in transformer.get("InputPathsMap", {}):
        text = text.replace(f"<{name}>", "null")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _place(context: Context, arn: str) -> PlanInS3 | None:
    """Where a function has its plan; None where it has none in S3, or is not there."""
    found = context.aws.found("lambda", "get_function_configuration", FunctionName=arn) or {}
    said = found.get("Environment", {}).get("Variables", {}).get(PLAN_VARIABLE, "")
    try:
        place = place_of(said)
    except InvalidPlanError:
        return None
    return place if isinstance(place, PlanInS3) else None


def _fleet_arn(context: Context) -> str:
    return machine_arn(context, fleet_machine_name(context.stack))


FLEET_CHECKS = (
    Check(
        id="aws.fleet",
        title="fleet",
        looks_at="whether the state machine of the fleet, which the rules start, exists",
        means="AWS rotates nothing by schedule",
        command="make deploy-aws",
        ask=fleet,
        needs=NEEDS_STACK,
    ),
    Check(
        id="aws.published-plan",
        title="published plan",
        looks_at="whether the plan that the functions of the live version were deployed with is in its bucket",
        means="each run fails at its first step, with PlanDocumentMissingError",
        command=_PUBLISH,
        ask=plan,
        needs=NEEDS_MACHINE,
    ),
    Check(
        id="aws.schedules",
        title="schedules",
        looks_at="for each shard its rule: whether it is on, at the plan's interval, and starts this fleet with the "
        "plan of the functions",
        means="AWS does not rotate its credentials, or at other times than the standby counts with",
        command='make deploy-aws  # with "schedules": true in cdk.json',
        ask=schedules,
        needs=NEEDS_MACHINE,
    ),
)


# The check of what sends events in AWS: the bus, the rule of the stack, and the function that it calls.

_AWS_EVENTS_FUNCTION = ":function:"


def events(context: Context) -> Iterator[Answer]:
    """The bus takes events, and what sends them is there and on."""
    bus = context.plan.events.aws if context.plan.events else None
    if bus is None:
        return
    if context.aws.found("events", "describe_event_bus", region=bus.region, Name=bus.name) is None:
        create = formatting.aws(bus.region, "events create-event-bus", "--name", bus.name)
        yield failed(bus.name, f"there is no such bus in {bus.region}, so no event reaches anybody", create)
    else:
        yield passed(bus.name, f"the bus is in {bus.region}")
    yield from _rule(context)


def _rule(context: Context) -> Iterator[Answer]:
    name, region = announce_rule_name(context.stack), context.plan.lock.region
    found = context.aws.found("events", "describe_rule", Name=name)
    if found is None:
        yield failed(name, "there is no such rule, so AWS sends no event of a run", formatting.DEPLOY_AWS)
        return
    if found.get("State") != "ENABLED":
        enable = formatting.aws(region, "events enable-rule", "--name", name)
        yield failed(name, "the rule is off, so AWS sends no event of a run", enable)
    else:
        yield passed(name, "the rule is on")
    targets = context.aws("events", "list_targets_by_rule", Rule=name)["Targets"]
    functions = [str(target["Arn"]) for target in targets if _AWS_EVENTS_FUNCTION in str(target["Arn"])]
    if not functions:
        yield failed(name, "the rule calls no function", formatting.DEPLOY_AWS)
    for arn in functions:
        yield function_answer(context, arn, caller="the rule of events")


def _with_bus(plan: Plan) -> bool:
    return plan.events is not None and plan.events.aws is not None


EVENT_CHECKS = (
    Check(
        id="aws.events",
        title="events",
        looks_at="where the plan names a bus: whether it exists, the rule of the stack is on, and the function that it "
        "calls exists and is active",
        means="no event of a run in AWS reaches anybody; rotations do not depend on it",
        command="aws events enable-rule --name RULE",
        ask=events,
        needs="aws.stack",
        applies=_with_bus,
    ),
)
