"""The synthesised stack: the protections that must stay, what a deployment moves and in which order, what it keeps."""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from cfnlint import api as cfnlint  # type: ignore[import-untyped]  # it ships no types
from cfnlint.core import get_rules  # type: ignore[import-untyped]  # likewise
from moto.events.models import EventPattern

from cdk.bundle import ROOT
from cdk.deployment import Canary, read_deployment
from cdk.settings import Settings
from lockstep.plan.file import load_plan
from lockstep.plan.published import PlanInBucket, place_of
from lockstep.plan.runners import Runners
from lockstep.protocol.deadlines import RUN, START_LATENESS, STEP, TRIGGER_LATENESS
from sandbox.emulators.aws.events import DETAIL_TYPE
from tests.infrastructure.cdk_case import (
    ACCOUNT,
    ADOPTED_KEY,
    AUDIT,
    CANARY,
    FEDERATED,
    NO_CANARY,
    PLAN,
    PLANS,
    REGION,
    STEPS,
    TAGS,
    VPC,
    Synthesised,
    shape,
    synthesise,
)
from tests.support.scaled import with_sections

_JSONATA_NUMBER = re.compile(
    r"E3601: .*'\{% .* %\}' is not of type 'number' at 'States/Rotate/MaxConcurrency'"
)
"""It may be a JSONata expression (https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html)."""
TABLE, KEY, BUCKET = "AWS::DynamoDB::Table", "AWS::KMS::Key", "AWS::S3::Bucket"
FUNCTION, RULE, LOG = "AWS::Lambda::Function", "AWS::Events::Rule", "AWS::Logs::LogGroup"
MACHINE, ALIAS = "AWS::StepFunctions::StateMachine", "AWS::StepFunctions::StateMachineAlias"
ROLE, VERSION = "AWS::IAM::Role", "AWS::Lambda::Version"
DATA = {TABLE, KEY, BUCKET, LOG, "AWS::KMS::Alias", "AWS::S3::BucketPolicy"}
UNTAGGABLE = {
    *("AWS::CDK::Metadata", "AWS::EC2::SecurityGroupEgress", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy"),
    *(
        "AWS::KMS::Alias",
        "AWS::Lambda::Alias",
        "AWS::Lambda::Permission",
        VERSION,
        ALIAS,
        f"{MACHINE}Version",
    ),
    *("AWS::Logs::MetricFilter", "AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"),
}
"""CloudFormation knows no tags of these."""
ISSUER = "objectstorage.eu-frankfurt-1.oraclecloud.com/n/example/b/lockstep-issuer/o"
NAMES = {f"lockstep-{name}" for name in (*STEPS, "watch", "digest")}


def agrees(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - parts of a template
    """Whether a part of a template has all that is wanted of it; None: it is absent."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(agrees(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(agrees, found, wanted))
    return bool(found == wanted)


def locked(**retention: object) -> Mapping[str, Any]:
    return {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": retention}}}


VERSIONED = {"VersioningConfiguration": {"Status": "Enabled"}}
RECOVERS = {"PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True}}
PRIVATE = dict.fromkeys(
    ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
)
REPORTS = {"Rules": [{"Prefix": "reports/", "ExpirationInDays": 400}]}
TRUST = {
    "Effect": "Allow",
    "Action": "sts:AssumeRoleWithWebIdentity",
    "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"},
    "Condition": {
        "StringEquals": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": "lockstep-oci-runner"}
    },
}


def test_a_resource_is_as_it_must() -> None:
    """Also the machines, whose inputs and outputs are not for a log."""
    archive = {**VERSIONED, **locked(Mode="COMPLIANCE", Days=400), "LifecycleConfiguration": None}
    trusting = {
        "MaxSessionDuration": 3600,
        "Policies": None,
        "AssumeRolePolicyDocument": {"Statement": [TRUST]},
    }
    for name, kind, having, wanted in (
        ("plain", TABLE, {}, {**RECOVERS, "DeletionProtectionEnabled": True}),
        ("trial", TABLE, {}, {"DeletionProtectionEnabled": False}),
        ("plain", BUCKET, {"BucketName": AUDIT}, archive),
        ("trial", BUCKET, {"BucketName": AUDIT}, locked(Mode="GOVERNANCE")),
        ("plain", BUCKET, {"BucketName": PLANS}, {**VERSIONED, "LifecycleConfiguration": REPORTS}),
        ("plain", BUCKET, {}, {"PublicAccessBlockConfiguration": PRIVATE}),
        ("plain", MACHINE, {}, {"LoggingConfiguration": {"IncludeExecutionData": False, "Level": "ALL"}}),
        ("federated", ROLE, {"RoleName": "lockstep-oci-runner"}, trusting),
    ):
        some = [p for p in shape(name).each(kind) if agrees(p, having)]
        assert some
        assert all(agrees(shape(name).resolved(properties), wanted) for properties in some), (name, kind)


@pytest.mark.parametrize("name", ["federated", "canary"])
def test_cfn_lint_finds_nothing_and_nothing_is_looked_up_in_an_account(name: str) -> None:
    # W3005: CDK writes a DependsOn that a reference already implies.
    rules, folder = get_rules([], ["W3005"], []), shape(name).folder
    found = [str(m) for m in cfnlint.lint((folder / "lockstep.template.json").read_text(), rules, [REGION])]
    assert [m for m in found if not _JSONATA_NUMBER.search(m)] == []
    assert "missing" not in json.loads((folder / "manifest.json").read_text())


def test_resources_with_data_outlive_the_stack_but_not_the_failed_deployment_that_made_them() -> None:
    found = shape("federated")
    kept = DATA | {VERSION, f"{MACHINE}Version"}
    assert kept <= {r["Type"] for r in found.all.values()}
    for name, resource in found.all.items():
        policies = resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")
        is_kept = policies == ("RetainExceptOnCreate", "Retain")
        assert is_kept is (resource["Type"] in kept), name


def test_what_is_stored_is_encrypted_by_the_key_that_rotates() -> None:
    found = shape("plain")
    assert [k.get("EnableKeyRotation") for k in found.each(KEY) if "KeySpec" not in k] == [True]
    encrypted = [log["KmsKeyId"] for log in found.each(LOG)]
    encrypted += [t["SSESpecification"]["KMSMasterKeyId"] for t in found.each(TABLE)]
    assert {found.words(key) for key in encrypted} == {"key alias/lockstep"}


def test_one_image_serves_functions_that_end_with_their_states_and_know_the_plan() -> None:
    found, digest = shape("plain"), read_deployment(Settings(plan=PLAN)).published.digest
    functions = found.each(FUNCTION)
    assert {f["FunctionName"] for f in functions} == NAMES
    assert len({json.dumps(f["Code"]["ImageUri"]) for f in functions}) == 1
    for function in functions:
        step = function["FunctionName"].removeprefix("lockstep-").replace("-", "_")
        assert function["ImageConfig"]["Command"] == [f"functions.{step}.handler.handler"]
        assert function["Timeout"] == (900 if step == "digest" else STEP.total_seconds())
        place = place_of(function["Environment"]["Variables"]["LOCKSTEP_PLAN"])
        assert place == PlanInBucket(bucket=PLANS, digest=digest, region=REGION)
        # By its name, so it must exist before the function. The filters of logs read JSON.
        log = function["LoggingConfig"]
        assert log["LogFormat"] == "JSON"
        (name,) = (n for n, r in found.resources(FUNCTION).items() if r["Properties"] is function)
        assert follows(found, name, found.id_of(LOG, LogGroupName=log["LogGroup"]))


def test_each_shard_has_its_rule_which_is_off_until_the_last_step_of_the_first_day() -> None:
    """By wall clock, so that the standby knows when AWS is called (protocol R2, I11)."""
    found = shape("plain")
    for shard, schedule in (("20m-00", "cron(0/20 * * * ? *)"), ("1h-00", "cron(0 * * * ? *)")):
        rule = found.properties(RULE, Name=f"lockstep-{shard}")
        (target,) = rule["Targets"]
        assert (rule["ScheduleExpression"], rule["State"]) == (schedule, "DISABLED")
        assert found.words(target["Arn"]) == "state machine lockstep-fleet"
        assert target["DeadLetterConfig"]["Arn"]
        assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == TRIGGER_LATENESS.total_seconds()
    # The watch and the digest are called in any case.
    assert {r["Name"] for r in found.each(RULE) if r["State"] == "DISABLED"} == {
        "lockstep-20m-00",
        "lockstep-1h-00",
    }
    assert {rule["State"] for rule in shape("canary").each(RULE)} == {"ENABLED"}
    for name, schedules in (("plain", False), ("trial", True)):
        (watch,) = shape(name).properties(RULE, Name="lockstep.watch")["Targets"]
        assert json.loads(watch["Input"]) == {"stack": "lockstep", "schedules": schedules}


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
            if f.get("VpcConfig", {}).get("SubnetIds") == VPC["subnet_ids"]
            for group in f["VpcConfig"]["SecurityGroupIds"]
        }
        assert reached == {**others, "lockstep-apply-db": https | databases}
        assert all("SecurityGroupIngress" not in g for g in found.each("AWS::EC2::SecurityGroup"))


def test_everything_carries_the_tags_and_every_role_the_boundary() -> None:
    found = shape("trial")
    for name, resource in found.all.items():
        tags = resource.get("Properties", {}).get("Tags", {})
        tags = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        is_tagged = tags.items() >= {"lockstep:stack": "lockstep", **TAGS}.items()
        assert is_tagged or resource["Type"] in UNTAGGABLE, name
    roles = {found.resolved(role["PermissionsBoundary"]) for role in found.each(ROLE)}
    assert roles == {f"arn:aws:iam::{ACCOUNT}:policy/estate/boundary"}


def test_a_stack_that_adopts_everything_makes_none_of_it_and_uses_it() -> None:
    found, plain = shape("all adopted"), shape("plain")
    # All else is as it was: CloudFormation refuses to publish a function that has not changed.
    assert found.all.keys() <= plain.all.keys()
    assert {r["Type"] for r in plain.all.values()} - {r["Type"] for r in found.all.values()} == DATA
    digest = found.properties(FUNCTION, FunctionName="lockstep-digest")
    key = found.resolved(digest["Environment"]["Variables"]["LOCKSTEP_DIGEST_KEY"])
    assert key == f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/lockstep-digests"
    assert {t["KmsMasterKeyId"] for t in found.each("AWS::SNS::Topic")} == {ADOPTED_KEY}
    for sid, resource in (("WriteLock", "table lockstep"), ("Append", f"bucket {AUDIT}/aws/*")):
        assert {found.words(s["Resource"]) for s in found.statements(sid).values()} == {resource}


def test_the_stack_is_of_the_partition_of_its_region_and_adopts_one_by_one() -> None:
    """China and GovCloud have ARNs, and some endpoints, of their own."""
    found = shape("another partition")
    made = json.dumps(found.template)
    assert "arn:aws:" not in made
    assert "arn:aws-cn:states:::lambda:invoke" in made
    assert not found.each(TABLE)
    assert {b["BucketName"] for b in found.each(BUCKET) if "BucketName" in b} == {
        "example-lockstep-audit-two-plans"
    }
    assert "/aws/lambda/lockstep-two-watch" not in {log["LogGroupName"] for log in found.each(LOG)}
    assert [t["TopicName"] for t in found.each("AWS::SNS::Topic")] == ["lockstep-two-page"]
    assert len(found.each("AWS::SNS::Subscription")) == 1
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


def test_events_add_a_function_that_hears_of_every_end_of_this_machine_alone() -> None:
    assert "announce" not in json.dumps(shape("both").template).lower()
    found = shape("readers")
    rule = found.properties(RULE, Name="lockstep.announce")
    pattern = EventPattern.load(json.dumps(found.resolved(rule["EventPattern"])))
    own = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:lockstep"
    ends = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
    for status, machine in (*((end, own) for end in ends), ("RUNNING", own), ("FAILED", f"{own}-two")):
        detail = {"status": status, "stateMachineArn": machine}
        event: Any = {"source": "aws.states", "detail-type": DETAIL_TYPE, "detail": detail}
        assert pattern.matches_event(event) is (status in ends and machine == own), status


# ---- versions and aliases


def target_of(stack: Synthesised, credential: str) -> str:
    """The alias by which the fleet starts the rotations of a credential."""
    given = stack.properties(MACHINE, StateMachineName="lockstep-fleet")["DefinitionSubstitutions"]
    return stack.words(given["CanaryAlias" if given["Canary"] == credential else "LiveAlias"])


def follows(stack: Synthesised, later: str, earlier: str) -> bool:
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
    assert {target_of(plain, c) for c in (CANARY, NO_CANARY)} == {"state machine lockstep:live"}
    # By its name, and yet no rule starts anything before the alias is there, and of the new plan.
    assert all(follows(plain, plain.id_of(RULE, Name=f"lockstep-{s}"), live) for s in ("20m-00", "1h-00"))
    # A version is of what runs: tags make none.
    assert shape("canary").resources(VERSION).keys() == plain.resources(VERSION).keys()


def test_the_canary_goes_first_and_the_others_wait_at_the_gate_by_which_nothing_starts() -> None:
    guarded = shape("canary")
    assert target_of(guarded, CANARY) == "state machine lockstep:canary"
    assert target_of(guarded, NO_CANARY) == "state machine lockstep:live"
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
    assert json.loads(watch["Input"])["canary"] == CANARY
    assert Canary(load_plan(ROOT / PLAN).credentials[0]).wait_minutes == preference["Interval"]


# ---- sessions in the other cloud

IN_OCI = ["generate", "apply_db", "update_secrets", "digest"]


@pytest.mark.parametrize(("is_secret", "steps"), [(False, IN_OCI[:3]), (True, IN_OCI)])
def test_what_proves_the_client_and_exists_is_used_and_not_made(is_secret: bool, steps: list[str]) -> None:  # noqa: FBT001 - of a table
    plan = load_plan(ROOT / FEDERATED)
    runners = plan.runners.model_dump(mode="json", exclude_none=True)
    client = {"client_secret": "a"} if is_secret else {"certificate": "lockstep", "kms_key": "alias/a"}
    runners["aws"]["federation"].update({"kms_key": None, "certificate": None, **client})
    if not is_secret:
        # Without a standby there is no digest in OCI to read.
        del runners["oci"]
    changed = with_sections(plan, runners=Runners.model_validate(runners))
    adopt = {"existing": ["alias/a", f"https://{ISSUER}", "lockstep-oci-runner"]}
    found = synthesise(changed, plan=FEDERATED, adopt=adopt)
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
