"""The synthesised stack: protections that must stay, what a deployment moves in which order, alarms, and its size."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cfnlint import api as cfnlint  # type: ignore[import-untyped]  # it ships no types
from cfnlint.core import get_rules  # type: ignore[import-untyped]  # likewise
from moto.events.models import EventPattern
from typer.testing import CliRunner

from cdk.bundle import ROOT
from cdk.deployment import FLEET_DEFINITION, Canary, read_deployment
from cdk.settings import Settings
from lockstep.cli.app import app
from lockstep.operate.watch import COUNTED, EVERY, Expected, watch
from lockstep.plan.file import load_plan
from lockstep.plan.limits import uses
from lockstep.plan.model import Plan
from lockstep.plan.published import PlanInBucket, place_of
from lockstep.plan.runners import Runners
from lockstep.protocol.deadlines import RUN, START_LATENESS, STEP, TRIGGER_LATENESS
from lockstep.protocol.model import LockRecord
from lockstep.protocol.ports import Table
from lockstep.protocol.schedule import SLOTS
from sandbox.emulators.aws.alarms import ALARM, EXTRA_PERIODS, NO_DATA, OK, judge
from sandbox.emulators.aws.events import DETAIL_TYPE
from tests.infrastructure import cdk_case as case
from tests.infrastructure.cdk_case import shape
from tests.support.scaled import scaled, with_sections

_JSONATA_NUMBER = re.compile(
    r"E3601: .*'\{% .* %\}' is not of type 'number' at 'States/Rotate/MaxConcurrency'"
)
"""It may be a JSONata expression (https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html)."""
TABLE, KEY, BUCKET = "AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::S3::Bucket"
FUNCTION, RULE, LOG = "AWS::Lambda::Function", "AWS::Events::Rule", "AWS::Logs::LogGroup"
MACHINE, ALIAS = "AWS::StepFunctions::StateMachine", "AWS::StepFunctions::StateMachineAlias"
ROLE, VERSION = "AWS::IAM::Role", "AWS::Lambda::Version"
DATA = {TABLE, KEY, BUCKET, LOG, "AWS::KMS::Alias", "AWS::S3::BucketPolicy"}
OF_CDK = ("CDK::Metadata", "EC2::SecurityGroupEgress", "IAM::ManagedPolicy", "IAM::Policy", "KMS::Alias")
OF_CODE = ("Lambda::Alias", "Lambda::Permission", "Lambda::Version", "StepFunctions::StateMachineAlias")
OTHERS = ("StepFunctions::StateMachineVersion", "Logs::MetricFilter", "S3::BucketPolicy", "SQS::QueuePolicy")
UNTAGGABLE = {f"AWS::{kind}" for kind in (*OF_CDK, *OF_CODE, *OTHERS)}
"""CloudFormation knows no tags of these."""
ISSUER = "objectstorage.eu-frankfurt-1.oraclecloud.com/n/example/b/lockstep-issuer/o"
NAMES = {f"lockstep-{name}" for name in (*case.STEPS, "watch", "digest")}


def agrees(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - parts of a template
    """Whether a part of a template has all that is wanted of it; None: it is absent."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(agrees(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(agrees, found, wanted))
    return bool(found == wanted)


PRIVATE = dict.fromkeys(
    ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
)
VERSIONED = {"VersioningConfiguration": {"Status": "Enabled"}, "PublicAccessBlockConfiguration": PRIVATE}
LOCKED = {"Mode": "COMPLIANCE", "Days": 400}
RECOVERS = {"PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
REPORTS = {"Rules": [{"Prefix": "reports/", "ExpirationInDays": 400}]}
TRUST = {
    "Effect": "Allow",
    "Action": "sts:AssumeRoleWithWebIdentity",
    "Principal": {"Federated": f"arn:aws:iam::{case.ACCOUNT}:oidc-provider/{ISSUER}"},
    "Condition": {
        "StringEquals": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": "lockstep-oci-runner"}
    },
}


def test_a_resource_is_as_it_must() -> None:
    """Also the machines, whose inputs and outputs are not for a log."""
    trusting = {
        "MaxSessionDuration": 3600,
        "Policies": None,
        "AssumeRolePolicyDocument": {"Statement": [TRUST]},
    }
    for name, kind, having, wanted in (
        ("plain", TABLE, {}, {**RECOVERS, "DeletionProtectionEnabled": True}),
        ("trial", TABLE, {}, {"DeletionProtectionEnabled": False}),
        ("plain", BUCKET, {"BucketName": case.AUDIT}, {**VERSIONED, "LifecycleConfiguration": None}),
        ("plain", BUCKET, {"BucketName": case.PLANS}, {**VERSIONED, "LifecycleConfiguration": REPORTS}),
        ("plain", MACHINE, {}, {"LoggingConfiguration": {"IncludeExecutionData": False, "Level": "ALL"}}),
        ("federated", ROLE, {"RoleName": "lockstep-oci-runner"}, trusting),
    ):
        some = [p for p in shape(name).each(kind) if agrees(p, having)]
        assert some
        assert all(agrees(shape(name).resolved(properties), wanted) for properties in some), (name, kind)
    for name, retention in (("plain", LOCKED), ("trial", {**LOCKED, "Mode": "GOVERNANCE"})):
        bucket = shape(name).properties(BUCKET, BucketName=case.AUDIT)
        assert bucket["ObjectLockConfiguration"]["Rule"] == {"DefaultRetention": retention}


@pytest.mark.parametrize("name", ["federated", "canary"])
def test_cfn_lint_finds_nothing_and_nothing_is_looked_up_in_an_account(name: str) -> None:
    # W3005: CDK writes a DependsOn that a reference already implies.
    rules, folder = get_rules([], ["W3005"], []), shape(name).folder
    found = [
        str(m) for m in cfnlint.lint((folder / "lockstep.template.json").read_text(), rules, [case.REGION])
    ]
    assert [m for m in found if not _JSONATA_NUMBER.search(m)] == []
    assert "missing" not in json.loads((folder / "manifest.json").read_text())


def test_data_outlives_the_stack_but_not_the_failed_deployment_that_made_it_and_is_encrypted() -> None:
    found = shape("federated")
    kept = DATA | {VERSION, f"{MACHINE}Version"}
    assert kept <= {r["Type"] for r in found.all.values()}
    for name, resource in found.all.items():
        policies = resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")
        is_kept = policies == ("RetainExceptOnCreate", "Retain")
        assert is_kept is (resource["Type"] in kept), name
    # By the key that rotates.
    assert [k.get("EnableKeyRotation") for k in found.each(KEY) if "KeySpec" not in k] == [True]
    encrypted = [log["KmsKeyId"] for log in found.each(LOG)]
    encrypted += [table["SSESpecification"]["KMSMasterKeyId"] for table in found.each(TABLE)]
    assert {found.words(key) for key in encrypted} == {"key alias/lockstep"}


def test_one_image_serves_functions_that_end_with_their_states_and_know_the_plan() -> None:
    found, digest = shape("plain"), read_deployment(Settings(plan=case.PLAN)).published.digest
    functions = found.each(FUNCTION)
    assert {f["FunctionName"] for f in functions} == NAMES
    assert len({json.dumps(f["Code"]["ImageUri"]) for f in functions}) == 1
    for function in functions:
        step = function["FunctionName"].removeprefix("lockstep-").replace("-", "_")
        assert function["ImageConfig"]["Command"] == [f"functions.{step}.handler.handler"]
        assert function["Timeout"] == (900 if step == "digest" else STEP.total_seconds())
        place = place_of(function["Environment"]["Variables"]["LOCKSTEP_PLAN"])
        assert place == PlanInBucket(bucket=case.PLANS, digest=digest, region=case.REGION)
        # By its name, so it must exist before the function. The filters of logs read JSON.
        log = function["LoggingConfig"]
        assert log["LogFormat"] == "JSON"
        (name,) = (n for n, r in found.resources(FUNCTION).items() if r["Properties"] is function)
        assert follows(found, name, found.id_of(LOG, LogGroupName=log["LogGroup"]))


def test_each_shard_has_its_rule_which_is_off_until_the_last_step_of_the_first_day() -> None:
    """By wall clock, so that the standby knows when AWS is called (protocol R2, I11)."""
    found = shape("plain")
    shards = {"lockstep-20m-00": "cron(0/20 * * * ? *)", "lockstep-1h-00": "cron(0 * * * ? *)"}
    # The watch and the digest are called in any case.
    off = {r["Name"]: r["ScheduleExpression"] for r in found.each(RULE) if r["State"] == "DISABLED"}
    assert off == shards
    for name in shards:
        (target,) = found.properties(RULE, Name=name)["Targets"]
        assert found.words(target["Arn"]) == "state machine lockstep-fleet"
        assert target["DeadLetterConfig"]["Arn"]
        assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == TRIGGER_LATENESS.total_seconds()
    assert {rule["State"] for rule in shape("canary").each(RULE)} == {"ENABLED"}
    for name, schedules in (("plain", False), ("trial", True)):
        (watch_,) = shape(name).properties(RULE, Name="lockstep.watch")["Targets"]
        assert json.loads(watch_["Input"]) == {"stack": "lockstep", "schedules": schedules}


def test_the_lock_table_is_made_last() -> None:
    """Its deletion protection stops a rollback, so nothing may fail after it."""
    found = shape("both")
    ((name, table),) = found.resources(TABLE).items()
    own = {n for n, r in found.all.items() if r["Type"] != "AWS::CDK::Metadata"}
    assert set(table["DependsOn"]) == own - {name}


# ---- in a network, in an estate


def test_only_the_function_that_logs_in_to_databases_reaches_them() -> None:
    databases = {("10.0.0.0/16", 3306), ("10.0.0.0/16", 5432)}
    https = {("0.0.0.0/0", 443)}
    for name, others in (("both", {}), ("trial", dict.fromkeys(NAMES, https))):
        found = shape(name)
        reached = {
            f["FunctionName"]: {
                (rule["CidrIp"], rule["FromPort"])
                for rule in found.all[group["Fn::GetAtt"][0]]["Properties"]["SecurityGroupEgress"]
            }
            for f in found.each(FUNCTION)
            if f.get("VpcConfig", {}).get("SubnetIds") == case.VPC["subnet_ids"]
            for group in f["VpcConfig"]["SecurityGroupIds"]
        }
        assert reached == {**others, "lockstep-apply-db": https | databases}
        assert all("SecurityGroupIngress" not in g for g in found.each("AWS::EC2::SecurityGroup"))


def test_everything_carries_the_tags_and_every_role_the_boundary() -> None:
    found = shape("trial")
    for name, resource in found.all.items():
        tags = resource.get("Properties", {}).get("Tags", {})
        tags = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        is_tagged = tags.items() >= {"lockstep:stack": "lockstep", **case.TAGS}.items()
        assert is_tagged or resource["Type"] in UNTAGGABLE, name
    roles = {found.resolved(role["PermissionsBoundary"]) for role in found.each(ROLE)}
    assert roles == {f"arn:aws:iam::{case.ACCOUNT}:policy/estate/boundary"}


def test_a_stack_that_adopts_everything_makes_none_of_it_and_uses_it() -> None:
    found, plain = shape("all adopted"), shape("plain")
    # All else is as it was: CloudFormation refuses to publish a function that has not changed.
    assert found.all.keys() <= plain.all.keys()
    assert {r["Type"] for r in plain.all.values()} - {r["Type"] for r in found.all.values()} == DATA
    digest = found.properties(FUNCTION, FunctionName="lockstep-digest")
    key = found.resolved(digest["Environment"]["Variables"]["LOCKSTEP_DIGEST_KEY"])
    assert key == f"arn:aws:kms:{case.REGION}:{case.ACCOUNT}:alias/lockstep-digests"
    assert {t["KmsMasterKeyId"] for t in found.each("AWS::SNS::Topic")} == {case.ADOPTED_KEY}
    for sid, resource in (("WriteLock", "table lockstep"), ("Append", f"bucket {case.AUDIT}/aws/*")):
        assert {found.words(s["Resource"]) for s in found.statements(sid).values()} == {resource}


def test_the_stack_is_of_the_partition_of_its_region_and_adopts_one_by_one() -> None:
    """China and GovCloud have ARNs, and some endpoints, of their own."""
    found = shape("another partition")
    made = json.dumps(found.template)
    assert "arn:aws:" not in made
    assert "arn:aws-cn:states:::lambda:invoke" in made
    # Of each kind some, and what is not named is made.
    assert [b["BucketName"] for b in found.each(BUCKET) if "BucketName" in b] == [
        "example-lockstep-audit-two-plans"
    ]
    assert [t["TopicName"] for t in found.each("AWS::SNS::Topic")] == ["lockstep-two-page"]
    # Groups that exist, and a key that signs by its id.
    assert not [kind for r in found.all.values() if (kind := r["Type"]).startswith("AWS::EC2::")]
    assert [f["VpcConfig"]["SecurityGroupIds"] for f in found.each(FUNCTION) if "VpcConfig" in f] == [
        ["sg-01234567"]
    ]
    assert "alias/lockstep-audit-two" not in made
    (signs,) = found.statements("Sign").values()
    assert signs["Resource"].endswith(":key/0a1b2c3d-0000-0000-0000-000000000000")
    # While the schedules are off no credential can go first.
    assert [a["Name"] for a in found.each(ALIAS)] == ["live"]


def hears(stack: case.Synthesised, rule: str, source: str, detail: object, kind: str = "") -> bool:
    """Whether a rule is for an event."""
    pattern = EventPattern.load(json.dumps(stack.resolved(stack.properties(RULE, Name=rule)["EventPattern"])))
    event: Any = {"source": source, "detail-type": kind, "detail": detail}
    return pattern.matches_event(event)


def test_events_add_a_function_that_hears_of_every_end_of_this_machine_alone() -> None:
    assert "announce" not in json.dumps(shape("both").template).lower()
    own = f"arn:aws:states:{case.REGION}:{case.ACCOUNT}:stateMachine:lockstep"
    ends = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
    for status, machine in (*((end, own) for end in ends), ("RUNNING", own), ("FAILED", f"{own}-two")):
        told = {"status": status, "stateMachineArn": machine}
        heard = hears(shape("readers"), "lockstep.announce", "aws.states", told, DETAIL_TYPE)
        assert heard is (status in ends and machine == own), status


def test_that_generate_promotes_is_kept_and_told() -> None:
    """By what CloudTrail tells EventBridge. Where a call names no stage, Secrets Manager promotes."""
    stack, rule = shape("both"), "lockstep-promotions"
    for role, asked, is_told in (
        ("Generate", {"versionStages": ["PENDING", "AWSCURRENT"]}, True),
        ("Generate", {}, True),
        ("Generate", {"versionStages": ["PENDING"]}, False),
        ("Audit", {}, False),
    ):
        (name,) = [n for n in stack.resources(ROLE) if n.startswith(f"Functions{role}Role")]
        who = {"sessionContext": {"sessionIssuer": {"arn": stack.arn(name)}}}
        call = {"eventName": "PutSecretValue", "requestParameters": asked, "userIdentity": who}
        assert hears(stack, rule, "aws.secretsmanager", call) is is_told, (role, asked)
    assert alarms(stack)["PromotedByGenerate"]["Dimensions"] == [{"Name": "RuleName", "Value": rule}]


# ---- versions and aliases


def target_of(stack: case.Synthesised, credential: str) -> str:
    """The alias by which the fleet starts the rotations of a credential."""
    given = stack.properties(MACHINE, StateMachineName="lockstep-fleet")["DefinitionSubstitutions"]
    return stack.words(given["CanaryAlias" if given["Canary"] == credential else "LiveAlias"])


def follows(stack: case.Synthesised, later: str, earlier: str) -> bool:
    """Whether CloudFormation makes or changes a resource after another one."""
    resource = stack.all[later]
    text = json.dumps(resource.get("Properties", {}))
    before = {n for n in stack.all if f'"{n}"' in text} | set(resource.get("DependsOn", []))
    return earlier in before or any(follows(stack, name, earlier) for name in before - {later})


def test_without_a_canary_every_rule_starts_the_alias_live_of_the_newest_version() -> None:
    plain = shape("plain")
    ((live, found),) = plain.resources(ALIAS).items()
    (route,) = found["Properties"]["RoutingConfiguration"]
    assert (found["Properties"]["Name"], route["Weight"]) == ("live", 100)
    assert route["StateMachineVersionArn"]["Fn::GetAtt"][0] in plain.resources(f"{MACHINE}Version")
    assert {target_of(plain, c) for c in (case.CANARY, case.NO_CANARY)} == {"state machine lockstep:live"}
    # By its name, and yet no rule starts anything before the alias is there, and of the new plan.
    assert all(follows(plain, plain.id_of(RULE, Name=f"lockstep-{s}"), live) for s in ("20m-00", "1h-00"))
    # A version is of what runs: tags make none.
    assert shape("canary").resources(VERSION).keys() == plain.resources(VERSION).keys()


def test_the_canary_goes_first_and_the_others_wait_at_the_gate_by_which_nothing_starts() -> None:
    guarded = shape("canary")
    assert target_of(guarded, case.CANARY) == "state machine lockstep:canary"
    assert target_of(guarded, case.NO_CANARY) == "state machine lockstep:live"
    canary, gate, live = (guarded.id_of(ALIAS, Name=name) for name in ("canary", "gate", "live"))
    first, last, watch = (guarded.id_of(RULE, Name=f"lockstep{n}") for n in ("-20m-00", "-1h-00", ".watch"))
    for earlier in (canary, first, guarded.id_of(MACHINE, StateMachineName="lockstep-fleet"), watch):
        assert follows(guarded, gate, earlier)
    assert follows(guarded, live, gate)
    assert follows(guarded, last, live)
    start = guarded.statements("Start")["fleet"]
    assert start["Condition"]["ForAnyValue:StringEquals"] == {
        "states:StateMachineQualifier": ["live", "canary"]
    }
    assert f'"{gate}"' not in json.dumps(guarded.each(RULE))


def test_the_alarm_stops_the_deployment_unless_the_canary_was_rotated_under_the_new_version() -> None:
    guarded = shape("canary")
    preference = guarded.properties(ALIAS, Name="gate")["DeploymentPreference"]
    (alarm,) = (guarded.all[a["Ref"]]["Properties"] for a in preference["Alarms"])
    assert (alarm["AlarmName"], alarm["MetricName"]) == ("lockstep-Canary", "CanarySeconds")
    assert alarm["TreatMissingData"] == "breaching"
    assert not {"AlarmActions", "OKActions", "InsufficientDataActions"} & alarm.keys()
    wait, threshold = timedelta(minutes=preference["Interval"]), timedelta(seconds=alarm["Threshold"])
    # Whatever the alarm counts at the end began under the new version.
    assert wait - threshold - 3 * timedelta(seconds=alarm["Period"]) >= RUN
    # And it is not red as long as every run succeeds.
    assert threshold >= timedelta(minutes=20) + START_LATENESS + RUN
    (watch,) = guarded.properties(RULE, Name="lockstep.watch")["Targets"]
    assert json.loads(watch["Input"])["canary"] == case.CANARY
    assert Canary(load_plan(ROOT / case.PLAN).credentials[0]).wait_minutes == preference["Interval"]


# ---- sessions in the other cloud

IN_OCI = ["generate", "apply_db", "update_secrets", "digest"]


@pytest.mark.parametrize(("is_secret", "steps"), [(False, IN_OCI[:3]), (True, IN_OCI)])
def test_what_proves_the_client_and_exists_is_used_and_not_made(is_secret: bool, steps: list[str]) -> None:  # noqa: FBT001 - of a table
    plan = load_plan(ROOT / case.FEDERATED)
    runners = plan.runners.model_dump(mode="json", exclude_none=True)
    client = {"client_secret": "a"} if is_secret else {"certificate": "lockstep", "kms_key": "alias/a"}
    runners["aws"]["federation"].update({"kms_key": None, "certificate": None, **client})
    if not is_secret:
        # Without a standby there is no digest in OCI to read.
        del runners["oci"]
    changed = with_sections(plan, runners=Runners.model_validate(runners))
    adopt = {"existing": ["alias/a", f"https://{ISSUER}", "lockstep-oci-runner"]}
    found = case.synthesise(changed, plan=case.FEDERATED, adopt=adopt)
    assert not any(n.startswith(("FoundationOciClientKey", "OciRunnerRole")) for n in found.all)
    assert not found.each("AWS::IAM::OIDCProvider")
    # A client secret is read by its tag, and nothing signs; an adopted key is known by its alias.
    proofs = {name: found.statements(name) for name in ("OciClient", "OciKey")}
    given = proofs.pop("OciKey" if is_secret else "OciClient")
    assert [*given] == [*found.statements("OciToken")] == steps
    assert all(("runner-key" if is_secret else "alias/a") in str(s["Condition"]) for s in given.values())
    assert not any(proofs.values())


def test_a_plan_that_changes_over_from_keys_keeps_roles_and_policy_and_tells_the_principals_before() -> None:
    """New roles would break the versions with which runs under way go on (protocol R14)."""
    keys, sessions = shape("both"), shape("federated")
    told = json.loads(sessions.resolved(sessions.template["Outputs"]["OciPrincipals"]["Value"]))
    assert [*told] == IN_OCI
    for step, role in told.items():
        begins = f"Functions{step.title().replace('_', '')}Role"
        assert role in {sessions.arn(n) for n in sessions.resources(ROLE) if n.startswith(begins)}
    assert keys.template["Outputs"]["OciPrincipals"] == sessions.template["Outputs"]["OciPrincipals"]
    before, after = (
        {n: r["Properties"].get("RoleName") for n, r in s.resources(ROLE).items()} for s in (keys, sessions)
    )
    assert before.items() <= after.items()
    # The policy is the same resource, so the user of the key has it until a person takes it away.
    managed = "AWS::IAM::ManagedPolicy"
    ((name, policy),) = keys.resources(managed).items()
    (runner,) = after.keys() - before.keys()
    assert sessions.all[name]["Properties"] == {**policy["Properties"], "Roles": [{"Ref": runner}]}
    (provider,) = sessions.resources("AWS::IAM::OIDCProvider")
    assert provider in sessions.all[runner]["DependsOn"]


# ---- alarms: whom they tell, when, and of metrics that are there

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
OF_THE_LOG = ("AuditLogTouched", "DigestMissing", "WatchSilent")
PAGES = {*OF_THE_LOG, "PromotedByGenerate", "Revoking", "Stale", "TakeOver"}


def alarms(stack: case.Synthesised) -> dict[str, Mapping[str, Any]]:
    """The properties of each alarm, by its name without the stack's."""
    return {a["AlarmName"].removeprefix("lockstep-"): a for a in stack.each("AWS::CloudWatch::Alarm")}


def test_every_alarm_tells_one_topic_when_it_begins_and_when_it_is_over() -> None:
    """Also adopted topics, of another account, which are not touched."""
    both, trial = shape("both"), shape("trial")
    found, adopting = alarms(both), alarms(trial)
    assert PAGES < found.keys() == adopting.keys()
    for name, alarm in found.items():
        kind = "page" if name in PAGES else "ticket"
        (action,) = alarm["AlarmActions"]
        assert both.resolved(action).rpartition(":")[2] == f"lockstep-{kind}"
        assert adopting[name]["AlarmActions"] == adopting[name]["OKActions"] == [case.TOPICS[kind]]
        assert alarm["OKActions"] == alarm["AlarmActions"]
        assert 1 <= alarm["DatapointsToAlarm"] <= alarm["EvaluationPeriods"]
        # These tell also that there is no data.
        is_silent = name in {"WatchSilent", "DigestMissing"}
        assert (alarm.get("InsufficientDataActions") == alarm["AlarmActions"]) is is_silent
        assert not is_silent or alarm["TreatMissingData"] == "missing"
    for kind in ("Topic", "TopicPolicy", "Subscription"):
        assert not trial.each(f"AWS::SNS::{kind}")
    assert len(both.each("AWS::SNS::Subscription")) == 2


def states(alarm: Mapping[str, Any], values: list[float | None]) -> list[str]:
    """The states of a new alarm after each of its first values."""
    seen, before = [], NO_DATA
    window = alarm["EvaluationPeriods"] + EXTRA_PERIODS
    below = alarm["ComparisonOperator"] == "LessThanThreshold"
    for count in range(1, len(values) + 1):
        before = judge(
            [*[None] * window, *values[:count]][-window:],
            breaches=lambda value: (value < alarm["Threshold"]) is below,
            evaluation_periods=alarm["EvaluationPeriods"],
            datapoints_to_alarm=alarm["DatapointsToAlarm"],
            treat_missing_data=alarm["TreatMissingData"],
            before=before,
        )
        seen.append(before)
    return seen


def first_look(*, schedules: bool, **record: Any) -> Mapping[str, float]:  # noqa: ANN401 - fields of a lock record
    """What the watch counts of credentials that all have such a record, or none."""
    some = load_plan(ROOT / case.BOTH_CLOUDS).credentials
    records = {c.id: LockRecord(credential_id=c.id, plan=c.plan_digest, **record) for c in some if record}
    expected = Expected(credentials=some, schedules=schedules)
    return watch(Table(records=records, unreadable={}), expected, now=NOW).metrics


def test_no_alarm_is_red_after_a_deployment_nor_when_the_schedules_are_switched_on() -> None:
    """What was rotated by hand, days ago, is stale until its first trigger, an interval later at most."""
    # At first the lock table is empty, and the schedules are off.
    first = {**first_look(schedules=False), **dict.fromkeys(("DigestsMade", "DigestsConfirming"), 1)}
    by_hand = {"current_generation": 1, "next_due_at": NOW - timedelta(days=2)}
    at_first, then = first_look(schedules=True, **by_hand), first_look(schedules=False)
    looks = max(c.schedule.interval for c in load_plan(ROOT / case.BOTH_CLOUDS).credentials) // EVERY + 1
    found = alarms(shape("both"))
    for name, alarm in found.items():
        metric, many = alarm["MetricName"], alarm["EvaluationPeriods"] + EXTRA_PERIODS
        assert ALARM not in states(alarm, [None] * many), name
        assert states(alarm, [first.get(metric, 0)] * many) == [OK] * many, name
        values = [at_first.get(metric, 0)] * looks + [then.get(metric, 0)] * alarm["EvaluationPeriods"]
        if alarm["Period"] == EVERY.total_seconds():
            assert ALARM not in states(alarm, [*values]), name
    assert ALARM in states(found["Stale"], [at_first["StaleCredentials"]] * (looks + 2))
    # One unsuccessful execution is enough, until the next interval is over.
    for end in ("Failed", "TimedOut", "Aborted"):
        assert states(found[f"Executions{end}"], [1, 0, 0, 0, 0, 0]) == [*[ALARM] * 5, OK]
    # Digests may be missing for three hours.
    for name in ("DigestMissing", "DigestUnconfirmed"):
        assert states(found[name], [1, 0, 0, 1, 0, 0, 0]) == [*[OK] * 6, ALARM]


def test_every_alarm_links_to_its_section_which_begins_with_the_alarms_command() -> None:
    page = (ROOT / "docs" / "alarms.md").read_text()
    sections = dict(re.findall(r"^## (.+)\n\n(.+)$", page, flags=re.MULTILINE))
    for title, alarm in (alarms(shape("canary")) | alarms(shape("both"))).items():
        said = re.search(r"First: `lockstep ([a-z -]+)`\. Then: (.+)$", alarm["AlarmDescription"])
        assert said, title
        assert said[2] == f"{'docs/alarms.md' if title == 'Canary' else case.RUNBOOK}#{title.lower()}"
        assert sections[title].startswith(f"`lockstep {said[1]}`"), title
        assert CliRunner().invoke(app, [*said[1].split(), "--help"]).exit_code == 0


def test_every_count_has_an_alarm_and_late_runs_digests_and_problems_are_counted_from_logs() -> None:
    """Where a digest's function makes none, its other lines are zeros; where it is not called, there is no data."""
    both = shape("both")
    made = {
        (t["MetricName"], both.resolved(f["LogGroupName"]), f["FilterPattern"], t.get("DefaultValue"))
        for f in both.each("AWS::Logs::MetricFilter")
        for t in f["MetricTransformations"]
    }
    at = "/aws/lambda/lockstep-digest"
    late = '{ ($.type = "FailStateEntered") && ($.details.name = "TooLate") }'
    confirming = '{ ($.message = "digest made") && ($.confirms IS TRUE) }'
    touched = '{ $.examine = "audit-log" }'
    assert made == {
        *(("AuditLogTouched", log, touched, None) for log in ("/aws/lambda/lockstep-audit", at)),
        ("DigestsMade", at, '{ $.message = "digest made" }', 0),
        ("DigestsConfirming", at, confirming, 0),
        ("StartedLate", "/aws/vendedlogs/states/lockstep-fleet", late, None),
    }
    ours = {a["MetricName"] for a in alarms(both).values() if a["Namespace"] == "Lockstep/lockstep"}
    assert ours == {*COUNTED, "Credentials", *(name for name, *_ in made)}
    items = json.loads(FLEET_DEFINITION.read_text())["States"]["Rotate"]["ItemProcessor"]["States"]
    assert items["TooLate"]["Type"] == "Fail"


# ---- one size whatever the number of credentials, below every limit

NO_SHARDS, MEGABYTE = 3, 1024 * 1024
"""Rules that are of no shard: of the watch, of the digest, of promotions."""
TRUST_POLICY, QUEUE_STATEMENTS = 2048, 20
"""IAM's and SQS's limits (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html)."""


def check(plan: Plan, stack: case.Synthesised) -> tuple[int, ...]:
    """Everything is below its limit, and `lockstep check` says never too little; the sizes.

    They are of the largest managed policy, of a role's inline policies, of a trust policy, and of a queue's policy.
    """
    managed, inline = 0, dict[str, int]()
    for name, statements in stack.documents():
        if stack.all[name]["Type"] == "AWS::IAM::ManagedPolicy":
            managed = max(managed, characters(statements))
            continue
        for role in stack.all[name]["Properties"].get("Roles", [{"Ref": name}]):
            inline[role["Ref"]] = inline.get(role["Ref"], 0) + (characters(statements) if statements else 0)
    trusts = [role["AssumeRolePolicyDocument"]["Statement"] for role in stack.each(ROLE)]
    trust = max(characters(stack.resolved(statements)) for statements in trusts)
    queues = max(len(q["PolicyDocument"]["Statement"]) for q in stack.each("AWS::SQS::QueuePolicy"))
    assert (trust <= TRUST_POLICY, queues <= QUEUE_STATEMENTS) == (True, True)
    for kind, size in (("IAM, managed policy", managed), ("IAM, inline", max(inline.values()))):
        (use,) = (use for use in uses(plan) if kind in use.name)
        assert size <= use.need <= use.limit, kind
    return managed, max(inline.values()), trust, queues


def characters(statements: object) -> int:
    """The size of a policy as IAM counts it: without white space."""
    document = {"Version": "2012-10-17", "Statement": statements}
    return len("".join(json.dumps(document, ensure_ascii=False, separators=(",", ":")).split()))


@cache
def stack_of(count: int, file: Path = case.BOTH_CLOUDS) -> case.Synthesised:
    plan = scaled(load_plan(ROOT / file), count)
    return case.synthesise(plan, plan=file, vpc=case.VPC, schedules=True, canary=plan.credentials[0].id)


def test_ten_thousand_credentials_are_a_hundred_and_some_more_rules_and_nothing_else() -> None:
    plans = {count: scaled(load_plan(ROOT / case.BOTH_CLOUDS), count) for count in (2, 100, 10_000)}
    assert len({check(plan, stack_of(count)) for count, plan in plans.items()}) == 1
    hundred, many = stack_of(100), stack_of(10_000)
    rules, more = (len(s.each(RULE)) for s in (hundred, many))
    intervals = {shard.interval for shard in plans[10_000].shards}
    assert len(many.all) - len(hundred.all) == more - rules
    assert rules == len(intervals) + NO_SHARDS
    assert more <= SLOTS * len(intervals) + NO_SHARDS
    assert (many.folder / "lockstep.template.json").stat().st_size < MEGABYTE * 0.26


@pytest.mark.parametrize("file", [case.BOTH_CLOUDS, case.FEDERATED])
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
    check(longest, case.synthesise(longest, plan=file, vpc=case.VPC, stack="S" * 41, adopt={"keys": keys}))
