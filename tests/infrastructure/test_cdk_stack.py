"""The synthesised stack: what the plan and the settings ask for, and the protections that must stay."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cfnlint import api as cfnlint  # type: ignore[import-untyped]  # it ships no types
from cfnlint.core import get_rules  # type: ignore[import-untyped]  # likewise
from moto.events.models import EventPattern

from cdk.bundle import ROOT
from cdk.deployment import DEFINITION, FLEET_DEFINITION, read_deployment
from cdk.fleetmachine import FleetInput
from cdk.settings import Settings
from lockstep.plan.file import load_plan
from lockstep.plan.published import PlanInBucket, place_of
from lockstep.plan.runners import Runners
from lockstep.protocol.deadlines import STEP, TRIGGER_LATENESS
from lockstep.protocol.strict_json import read
from sandbox.emulators.aws.resources import substitute
from sandbox.emulators.aws.status_changes import DETAIL_TYPE
from tests.infrastructure.cdk_case import (
    ADOPTED_KEY,
    AUDIT,
    FEDERATED,
    LOGS,
    PLAN,
    PLANS,
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
MACHINE, ROLE = "AWS::StepFunctions::StateMachine", "AWS::IAM::Role"
DATA = {TABLE, KEY, BUCKET, LOG, "AWS::KMS::Alias", "AWS::S3::BucketPolicy"}
UNTAGGABLE = {
    *("AWS::CDK::Metadata", "AWS::EC2::SecurityGroupEgress", "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy"),
    *("AWS::KMS::Alias", "AWS::Lambda::Alias", "AWS::Lambda::Permission", "AWS::Lambda::Version"),
    *("AWS::Logs::MetricFilter", "AWS::S3::BucketPolicy", "AWS::SQS::QueuePolicy"),
    *("AWS::StepFunctions::StateMachineAlias", "AWS::StepFunctions::StateMachineVersion"),
}
"""CloudFormation knows no tags of these."""
ISSUER = "objectstorage.eu-frankfurt-1.oraclecloud.com/n/example/b/lockstep-issuer/o"
NAMES = {f"lockstep-{name}" for name in (*STEPS, "watch", "digest")}
ABSENT = object()
DENIED = ("Deny", str({"AWS": "*"}))


def agrees(found: Any, wanted: Any) -> bool:  # noqa: ANN401 - parts of a template
    """Whether a part of a template has all that is wanted of it."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(agrees(found.get(key, ABSENT), value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(agrees, found, wanted))
    return bool(found == wanted)


LOGGED = {
    "LoggingConfiguration": {"IncludeExecutionData": False, "Level": "ALL"},
    "TracingConfiguration": {"Enabled": True},
}
LOCKED = {
    "ObjectLockConfiguration": {"Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 400}}},
    "VersioningConfiguration": {"Status": "Enabled"},
    "LifecycleConfiguration": ABSENT,
}
RESTORABLE = {
    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
    "DeletionProtectionEnabled": True,
    "KeySchema": [{"AttributeName": "credential_id", "KeyType": "HASH"}],
}
REPORTS = {"Prefix": "reports/", "ExpirationInDays": 400}
HOURLY = {"State": "ENABLED", "ScheduleExpression": "cron(15 * * * ? *)"}
OFTEN = {"State": "ENABLED", "ScheduleExpression": "rate(5 minutes)"}
GOVERNED = {"ObjectLockConfiguration": {"Rule": {"DefaultRetention": {"Mode": "GOVERNANCE"}}}}
TRUST = {
    "Effect": "Allow",
    "Action": "sts:AssumeRoleWithWebIdentity",
    "Principal": {"Federated": f"arn:aws:iam::111122223333:oidc-provider/{ISSUER}"},
    "Condition": {
        "StringEquals": {f"{ISSUER}:aud": "sts.amazonaws.com", f"{ISSUER}:sub": "lockstep-oci-runner"}
    },
}
RUNNER = {"MaxSessionDuration": 3600, "Policies": ABSENT, "AssumeRolePolicyDocument": {"Statement": [TRUST]}}


@pytest.mark.parametrize(
    ("name", "kind", "having", "wanted"),
    [
        ("plain", TABLE, {"TableName": "lockstep"}, RESTORABLE),
        ("trial", TABLE, {"TableName": "lockstep"}, {"DeletionProtectionEnabled": False}),
        ("plain", BUCKET, {"BucketName": AUDIT}, LOCKED),
        ("trial", BUCKET, {"BucketName": AUDIT}, GOVERNED),
        ("plain", BUCKET, {"BucketName": PLANS}, {"LifecycleConfiguration": {"Rules": [REPORTS]}}),
        ("plain", BUCKET, {"BucketName": PLANS}, {"VersioningConfiguration": {"Status": "Enabled"}}),
        ("plain", MACHINE, {"StateMachineName": "lockstep"}, LOGGED),
        ("plain", MACHINE, {"StateMachineName": "lockstep-fleet"}, LOGGED),
        ("plain", "AWS::SQS::Queue", {}, {"MessageRetentionPeriod": 14 * 24 * 3600}),
        ("plain", RULE, {"Name": "lockstep.digest"}, HOURLY),
        ("plain", RULE, {"Name": "lockstep.watch"}, OFTEN),
        ("plain", FUNCTION, {"FunctionName": "lockstep-digest"}, {"Timeout": 900, "VpcConfig": ABSENT}),
        ("federated", KEY, {"KeySpec": "RSA_2048"}, {"KeyUsage": "SIGN_VERIFY"}),
        ("federated", ROLE, {"RoleName": "lockstep-oci-runner"}, RUNNER),
    ],
)
def test_a_resource_is_as_it_must(
    name: str, kind: str, having: dict[str, Any], wanted: dict[str, Any]
) -> None:
    found = shape(name)
    some = [p for p in found.each(kind) if agrees(p, having)]
    assert some
    for properties in some:
        assert agrees(found.resolved(properties), wanted)


@pytest.mark.parametrize("name", ["federated", "canary"])
def test_cfn_lint_finds_nothing_and_nothing_is_looked_up_in_an_account(name: str) -> None:
    # W3005: CDK writes a DependsOn that a reference already implies.
    rules, folder = get_rules([], ["W3005"], []), shape(name).folder
    found = [
        str(m) for m in cfnlint.lint((folder / "lockstep.template.json").read_text(), rules, ["eu-central-1"])
    ]
    assert [m for m in found if not _JSONATA_NUMBER.search(m)] == []
    assert "missing" not in json.loads((folder / "manifest.json").read_text())


def test_the_definitions_are_the_unchanged_files_and_call_versions() -> None:
    found = shape("plain")
    given: dict[str, str] = {}
    for name, file in (("lockstep", DEFINITION), ("lockstep-fleet", FLEET_DEFINITION)):
        machine = found.properties(MACHINE, StateMachineName=name)
        assert machine["DefinitionString"] == file.read_text()
        given |= {key: found.words(value) for key, value in machine["DefinitionSubstitutions"].items()}
        assert json.loads(substitute(file.read_text(), given))  # None is left over.
    assert given == {
        "LockTable": "lockstep",
        "PlanBucket": PLANS,
        "ReportBucket": PLANS,
        "LiveAlias": "state machine lockstep:live",
        "CanaryAlias": "state machine lockstep:canary",
        "Canary": "(none)",
        **{f"{step.title().replace('-', '')}Function": f"function lockstep-{step}:VERSION" for step in STEPS},
    }


def test_resources_with_data_outlive_the_stack_but_not_the_failed_deployment_that_made_them() -> None:
    found = shape("federated")
    kept = DATA | {"AWS::Lambda::Version", "AWS::StepFunctions::StateMachineVersion"}
    assert kept <= {r["Type"] for r in found.all.values()}
    for name, resource in found.all.items():
        policies = resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")
        is_kept = policies == ("RetainExceptOnCreate", "Retain")
        assert is_kept is (resource["Type"] in kept), name


def test_one_key_encrypts_and_is_rotated_and_the_others_sign() -> None:
    found = shape("plain")
    keys = found.each(KEY)
    assert [k.get("EnableKeyRotation") for k in keys if "KeySpec" not in k] == [True]
    assert sorted((k["KeySpec"], k["KeyUsage"]) for k in keys if "KeySpec" in k) == [
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
        ("HMAC_256", "GENERATE_VERIFY_MAC"),
        ("RSA_2048", "SIGN_VERIFY"),
    ]
    encrypted = [log["KmsKeyId"] for log in found.each(LOG)]
    encrypted += [t["SSESpecification"]["KMSMasterKeyId"] for t in found.each(TABLE)]
    assert {found.words(key) for key in encrypted} == {"key alias/lockstep"}


def test_no_bucket_is_public_or_answers_plain_http_and_a_published_plan_is_not_written_over() -> None:
    found = shape("plain")
    policies = {
        found.resolved(p["Bucket"]): found.resolved(p["PolicyDocument"]["Statement"])
        for p in found.each("AWS::S3::BucketPolicy")
    }
    assert len(found.each(BUCKET)) == len(policies) == 3
    for bucket in found.each(BUCKET):
        assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
        assert "BucketName" not in bucket or bucket["LoggingConfiguration"]["DestinationBucketName"]
    for statements in policies.values():
        denied = [s.get("Condition") for s in statements if (s["Effect"], str(s["Principal"])) == DENIED]
        assert {"Bool": {"aws:SecureTransport": "false"}} in denied
    (new,) = (s for s in policies[PLANS] if s.get("Sid") == "NewPlansOnly")
    assert new["Resource"] == f"arn:aws:s3:::{PLANS}/plans/*"
    assert (new["Effect"], new["Condition"]) == ("Deny", {"Null": {"s3:if-none-match": "true"}})


def test_one_image_serves_six_functions_that_end_with_their_states_and_know_the_plan() -> None:
    found, digest = shape("plain"), read_deployment(Settings(plan=PLAN)).published.digest
    functions = found.each(FUNCTION)
    assert {f["FunctionName"] for f in functions} == NAMES
    assert len({json.dumps(f["Code"]["ImageUri"]) for f in functions}) == 1
    for function in functions:
        step = function["FunctionName"].removeprefix("lockstep-").replace("-", "_")
        assert function["ImageConfig"]["Command"] == [f"functions.{step}.handler.handler"]
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert function["Timeout"] == (900 if step == "digest" else STEP.total_seconds())
        environment = dict(function["Environment"]["Variables"])
        place = PlanInBucket(bucket=PLANS, digest=digest, region="eu-central-1")
        assert place_of(environment.pop("LOCKSTEP_PLAN")) == place
        own = {"LOCKSTEP_DIGEST_KEY": "key alias/lockstep-digests"} if step == "digest" else {}
        assert {key: found.words(value) for key, value in environment.items()} == own


def test_each_shard_has_its_rule_which_is_off_until_the_last_step_of_the_first_day() -> None:
    # By wall clock, so that the standby knows when AWS is called (protocol R2).
    found, digest = shape("plain"), read_deployment(Settings(plan=PLAN)).published.digest
    for shard, schedule in (("20m-00", "cron(0/20 * * * ? *)"), ("1h-00", "cron(0 * * * ? *)")):
        rule = found.properties(RULE, Name=f"lockstep-{shard}")
        (target,) = rule["Targets"]
        assert (rule["ScheduleExpression"], rule["State"]) == (schedule, "DISABLED")  # Protocol I11.
        assert found.words(target["Arn"]) == "state machine lockstep-fleet"
        transformer = target["InputTransformer"]
        assert transformer["InputPathsMap"] == {"time": "$.time"}
        # EventBridge puts the text in quotation marks.
        given = transformer["InputTemplate"].replace("<time>", '"2026-11-27T17:40:00Z"')
        started = read(FleetInput, json.loads(given))
        assert (started.shard, started.plan, started.trigger) == (shard, digest, "schedule")
        assert target["DeadLetterConfig"]["Arn"]
        assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == TRIGGER_LATENESS.total_seconds()
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


def _ports(found: Synthesised) -> dict[str, set[int]]:
    """What each function in the network reaches."""
    return {
        f["FunctionName"]: {
            rule["FromPort"]
            for rule in found.all[group["Fn::GetAtt"][0]]["Properties"]["SecurityGroupEgress"]
        }
        for f in found.each(FUNCTION)
        if "VpcConfig" in f and f["VpcConfig"]["SubnetIds"] == VPC["subnet_ids"]
        for group in f["VpcConfig"]["SecurityGroupIds"]
    }


def test_only_the_function_that_logs_in_to_databases_reaches_them() -> None:
    databases = {443, 3306, 5432}
    assert _ports(shape("both")) == {"lockstep-apply-db": databases}
    (group,) = shape("both").each("AWS::EC2::SecurityGroup")
    assert "SecurityGroupIngress" not in group
    assert {(r["CidrIp"], r["FromPort"] == 443) for r in group["SecurityGroupEgress"]} == {
        ("10.0.0.0/16", False),
        ("0.0.0.0/0", True),
    }
    trial = shape("trial")
    assert _ports(trial) == {name: {443} for name in NAMES} | {"lockstep-apply-db": databases}


def test_everything_carries_the_tags_and_every_role_the_boundary() -> None:
    found = shape("trial")
    for name, resource in found.all.items():
        tags = resource.get("Properties", {}).get("Tags", {})
        tags = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        is_tagged = tags.items() >= {"lockstep:stack": "lockstep", **TAGS}.items()
        assert is_tagged or resource["Type"] in UNTAGGABLE, name
    roles = {found.resolved(role["PermissionsBoundary"]) for role in found.each(ROLE)}
    assert roles == {"arn:aws:iam::111122223333:policy/estate/boundary"}
    assert {f["MemorySize"] for f in found.each(FUNCTION)} == {1024}


def test_a_stack_that_adopts_everything_makes_none_of_it_and_uses_it() -> None:
    found, plain = shape("all adopted"), shape("plain")
    types = {r["Type"] for r in found.all.values()}
    assert {r["Type"] for r in plain.all.values()} - types == DATA
    assert not [kind for kind in types if kind.startswith("AWS::EC2::")]
    assert {str(f["VpcConfig"]["SecurityGroupIds"]) for f in found.each(FUNCTION)} == {"['sg-01234567']"}
    digest = found.properties(FUNCTION, FunctionName="lockstep-digest")
    key = found.resolved(digest["Environment"]["Variables"]["LOCKSTEP_DIGEST_KEY"])
    assert key == "arn:aws:kms:eu-central-1:111122223333:alias/lockstep-digests"
    assert {t["KmsMasterKeyId"] for t in found.each("AWS::SNS::Topic")} == {ADOPTED_KEY}
    for sid, resource in (("WriteLock", "table lockstep"), ("Append", f"bucket {AUDIT}/aws/*")):
        assert {found.words(s["Resource"]) for s in found.statements(sid).values()} == {resource}
    # One by one, all else is as it was: CloudFormation refuses to publish a function that has not changed.
    some = synthesise(load_plan(ROOT / PLAN), adopt={"existing": ["lockstep", *LOGS]})
    assert some.all.keys() <= plain.all.keys()
    assert {plain.all[name]["Type"] for name in plain.all.keys() - some.all.keys()} == {TABLE, LOG}


def test_the_stack_is_of_the_partition_of_its_region(tmp_path: Path) -> None:
    """China and GovCloud have ARNs, and some endpoints, of their own."""
    file = tmp_path / "lockstep.yaml"
    text = (ROOT / PLAN).read_text().replace("eu-central-1", "cn-north-1")
    file.write_text(text.replace("ca_file: ca/example.pem, ", ""))
    for adopted in ([], ["lockstep", AUDIT, PLANS, *LOGS]):
        made = json.dumps(synthesise(load_plan(file), vpc=VPC, adopt={"existing": adopted}).template)
        assert "arn:aws:" not in made
        assert "arn:aws-cn:states:::lambda:invoke" in made


# ---- events


def test_events_add_a_function_that_hears_of_every_end_of_this_machine_and_change_nothing() -> None:
    plain, found = shape("plain"), shape("events")
    assert "announce" not in json.dumps(plain.template).lower()
    added = {name: found.all[name]["Type"] for name in found.all.keys() - plain.all.keys()}
    kinds = sorted(kind for kind in added.values() if kind != "AWS::Lambda::Version")
    assert kinds == [RULE, ROLE, FUNCTION, "AWS::Lambda::Permission", LOG]
    rule = found.properties(RULE, Name="lockstep.announce")
    pattern = EventPattern.load(json.dumps(found.resolved(rule["EventPattern"])))
    own = "arn:aws:states:eu-central-1:111122223333:stateMachine:lockstep"

    ends = ("SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED")
    for status, machine in (*((end, own) for end in ends), ("RUNNING", own), ("FAILED", f"{own}-two")):
        detail = {"status": status, "stateMachineArn": machine}
        event: Any = {"source": "aws.states", "detail-type": DETAIL_TYPE, "detail": detail}
        assert pattern.matches_event(event) is (status in ends and machine == own), status
    [target] = rule["Targets"]
    assert target.keys() == {"Arn", "Id"}  # The event is passed on as it is.


# ---- sessions in the other cloud


IN_OCI = ["generate", "apply_db", "update_secrets", "digest"]
OWN = "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("client", "sid", "resource", "known_by"),
    [
        ({"certificate": "lockstep", "kms_key": OWN.rpartition("/")[2]}, "OciClient", OWN, ""),
        (
            {"certificate": "lockstep", "kms_key": "alias/a"},
            "OciClient",
            OWN.rpartition("/")[0] + "/*",
            "alias/a",
        ),
        # A client secret is read by its tag, and nothing signs.
        (
            {"client_secret": "lockstep/client"},
            "OciKey",
            "arn:aws:secretsmanager:eu-central-1:111122223333:secret:*",
            "runner-key",
        ),
    ],
    ids=["by id", "adopted", "a secret"],
)
def test_what_proves_the_client_and_exists_is_used_and_not_made(
    client: Mapping[str, str], sid: str, resource: str, known_by: str
) -> None:
    plan = load_plan(ROOT / FEDERATED)
    runners = plan.runners.model_dump(mode="json", exclude_none=True)
    runners["aws"]["federation"].update({"kms_key": None, "certificate": None, **client})
    steps = IN_OCI
    if known_by == "alias/a":
        # Without a standby there is no digest in OCI to read.
        del runners["oci"]
        steps = IN_OCI[:3]
    changed = with_sections(plan, runners=Runners.model_validate(runners))
    adopt = {"existing": ["alias/a", f"https://{ISSUER}", "lockstep-oci-runner"]}
    found = synthesise(changed, plan=FEDERATED, adopt=adopt)
    assert not any(n.startswith(("FoundationOciClientKey", "OciRunnerRole")) for n in found.all)
    assert not found.each("AWS::IAM::OIDCProvider")
    proofs = {name: found.statements(name) for name in ("OciClient", "OciKey")}
    given = proofs.pop(sid)
    assert [*given] == [*found.statements("OciToken")] == steps
    assert {s["Resource"] for s in given.values()} == {resource}
    assert all(known_by in str(s["Condition"]) for s in given.values())
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
    changed = {
        key: value for key, value in sessions.resources(managed)[name]["Properties"].items() if key != "Roles"
    }
    assert changed == policy["Properties"]
    (runner,) = after.keys() - before.keys()
    assert sessions.resources(managed)[name]["Properties"]["Roles"] == [{"Ref": runner}]
    (provider,) = sessions.resources("AWS::IAM::OIDCProvider")
    assert provider in sessions.all[runner]["DependsOn"]
