"""The synthesised stack: what the plan asks for, and the protections that must stay."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cfnlint import api as cfnlint  # type: ignore[import-untyped]  # it ships no types
from cfnlint.core import get_rules  # type: ignore[import-untyped]  # likewise

from cdk.bundle import ROOT
from cdk.deployment import FLEET_DEFINITION, check_deployable, read_deployment
from cdk.settings import NotDeployableError, Settings
from lockstep.plan.file import load_plan
from lockstep.plan.published import PlanInS3, place_of
from lockstep.protocol.deadlines import STEP, TRIGGER_LATENESS
from lockstep.protocol.names import DOCTOR
from lockstep.protocol.schedule import FleetInput
from lockstep.protocol.strict_json import read
from sandbox.emulators.aws.resources import substitute
from tests.infrastructure.cdk_case import BOTH_CLOUDS, FEDERATED, PLAN, VPC, Synthesised, synthesised

_JSONATA_NUMBER = re.compile(
    r"E3601: .*'\{% .* %\}' is not of type 'number' at 'States/Rotate/MaxConcurrency'"
)
"""It may be a JSONata expression (https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html)."""
DEFINITION = (ROOT / "statemachine.asl.json").read_text()


@pytest.fixture(scope="module", name="aws")
def _aws() -> Synthesised:
    return synthesised()


@pytest.fixture(scope="module", name="both")
def _both() -> Synthesised:
    return synthesised(plan=BOTH_CLOUDS, vpc=VPC, alarm_email="operator@example.com")


def test_cfn_lint_finds_nothing(aws: Synthesised, both: Synthesised) -> None:
    # W3005: CDK writes a DependsOn that a reference already implies.
    rules = get_rules([], ["W3005"], [])
    for stack in (aws, both, synthesised(plan=FEDERATED)):
        text = (stack.folder / "lockstep.template.json").read_text()
        found = [str(m) for m in cfnlint.lint(text, rules, ["eu-central-1"])]
        assert [m for m in found if not _JSONATA_NUMBER.search(m)] == []


def test_nothing_is_looked_up_in_an_account(aws: Synthesised, both: Synthesised) -> None:
    for stack in (aws, both):
        assert "missing" not in json.loads((stack.folder / "manifest.json").read_text())


def test_the_definition_is_the_unchanged_file(aws: Synthesised) -> None:
    machine = aws.properties("AWS::StepFunctions::StateMachine", StateMachineName="lockstep")
    assert machine["DefinitionString"] == DEFINITION
    named = dict.fromkeys(machine["DefinitionSubstitutions"], "x")
    assert json.loads(substitute(DEFINITION, named))  # None is left over.
    assert machine["DefinitionSubstitutions"]["LockTable"] == "lockstep"
    aliases = [a["Properties"] for a in aws.resources("AWS::Lambda::Alias").values()]
    looks_at = {aws.words(a["FunctionName"]): a["FunctionVersion"] for a in aliases if a["Name"] == DOCTOR}
    assert looks_at.pop("function lockstep-watch") == "$LATEST"
    for placeholder, step in {
        "GenerateFunction": "generate",
        "ApplyDbFunction": "apply-db",
        "UpdateSecretsFunction": "update-secrets",
        "AuditFunction": "audit",
    }.items():
        function = aws.words(machine["DefinitionSubstitutions"][placeholder])
        assert function == f"version of function lockstep-{step}"
        version = machine["DefinitionSubstitutions"][placeholder]["Ref"]
        assert looks_at[f"function lockstep-{step}"] == {"Fn::GetAtt": [version, "Version"]}


def test_the_history_is_logged_without_data_and_traced(aws: Synthesised) -> None:
    for name in ("lockstep", "lockstep-fleet"):
        machine = aws.properties("AWS::StepFunctions::StateMachine", StateMachineName=name)
        assert machine["LoggingConfiguration"]["IncludeExecutionData"] is False
        assert machine["LoggingConfiguration"]["Level"] == "ALL"
        assert machine["TracingConfiguration"] == {"Enabled": True}


def test_the_definition_of_the_fleet_is_the_unchanged_file_too(aws: Synthesised) -> None:
    machine = aws.properties("AWS::StepFunctions::StateMachine", StateMachineName="lockstep-fleet")
    assert machine["DefinitionString"] == FLEET_DEFINITION.read_text()
    given = {name: aws.words(value) for name, value in machine["DefinitionSubstitutions"].items()}
    assert json.loads(substitute(FLEET_DEFINITION.read_text(), given))  # None is left over.
    assert given == {
        "PlanBucket": "bucket example-lockstep-audit-plans",
        "ReportBucket": "bucket example-lockstep-audit-plans",
        "LiveAlias": "state machine lockstep:live",
        "CanaryAlias": "state machine lockstep:canary",
        "Canary": "(none)",
    }


@pytest.mark.parametrize(
    "resource_type",
    [
        "AWS::DynamoDB::Table",
        "AWS::KMS::Alias",
        "AWS::KMS::Key",
        "AWS::Logs::LogGroup",
        "AWS::S3::Bucket",
        "AWS::S3::BucketPolicy",
    ],
)
def test_resources_with_data_outlive_the_stack_but_not_the_failed_deployment_that_made_them(
    aws: Synthesised, resource_type: str
) -> None:
    found = aws.resources(resource_type)
    assert found
    for resource in found.values():
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == (
            "RetainExceptOnCreate",
            "Retain",
        )


def test_the_lock_table_can_be_restored_and_cannot_be_deleted(aws: Synthesised) -> None:
    table = aws.properties("AWS::DynamoDB::Table", TableName="lockstep")
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["DeletionProtectionEnabled"] is True
    assert aws.words(table["SSESpecification"]["KMSMasterKeyId"]) == "key alias/lockstep"
    assert table["KeySchema"] == [{"AttributeName": "credential_id", "KeyType": "HASH"}]


def test_one_key_encrypts_and_is_rotated_and_the_others_sign_runs_and_orders(aws: Synthesised) -> None:
    keys = [k["Properties"] for k in aws.resources("AWS::KMS::Key").values()]
    assert [k.get("EnableKeyRotation") for k in keys if "KeySpec" not in k] == [True]
    assert [k["KeyUsage"] for k in keys if k.get("KeySpec") == "HMAC_256"] == ["GENERATE_VERIFY_MAC"] * 2
    for group in aws.resources("AWS::Logs::LogGroup").values():
        assert aws.words(group["Properties"]["KmsKeyId"]) == "key alias/lockstep"


def test_audit_entries_are_locked_for_the_plans_retention(aws: Synthesised) -> None:
    bucket = aws.properties("AWS::S3::Bucket", BucketName="example-lockstep-audit")
    assert bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"] == {
        "Mode": "COMPLIANCE",
        "Days": 400,
    }
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert bucket["LoggingConfiguration"]["DestinationBucketName"]
    assert "LifecycleConfiguration" not in bucket


def test_no_bucket_is_public_or_answers_plain_http(aws: Synthesised) -> None:
    buckets, policies = aws.resources("AWS::S3::Bucket"), aws.resources("AWS::S3::BucketPolicy")
    assert len(buckets) == len(policies) == 3
    for bucket in buckets.values():
        assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    for policy in policies.values():
        assert {"Bool": {"aws:SecureTransport": "false"}} in _denied(policy)


def test_a_published_plan_cannot_be_written_over_and_reports_expire(aws: Synthesised) -> None:
    name = "example-lockstep-audit-plans"
    bucket = aws.properties("AWS::S3::Bucket", BucketName=name)
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert (rule["Prefix"], rule["ExpirationInDays"]) == ("reports/", 400)
    policies = aws.resources("AWS::S3::BucketPolicy").values()
    (policy,) = (p for p in policies if aws.words(p["Properties"]["Bucket"]) == f"bucket {name}")
    (statement,) = (
        s for s in policy["Properties"]["PolicyDocument"]["Statement"] if s.get("Sid") == "NewPlansOnly"
    )
    assert aws.words(statement["Resource"]) == f"bucket {name}/plans/*"
    assert statement["Condition"] == {"Null": {"s3:if-none-match": "true"}}


def _denied(policy: Mapping[str, Any]) -> list[Any]:
    statements = policy["Properties"]["PolicyDocument"]["Statement"]
    return [
        s.get("Condition")
        for s in statements
        if s["Effect"] == "Deny" and s["Principal"] in ("*", {"AWS": "*"})
    ]


def test_one_image_serves_six_functions(aws: Synthesised) -> None:
    functions = [f["Properties"] for f in aws.resources("AWS::Lambda::Function").values()]
    assert sorted(f["ImageConfig"]["Command"][0] for f in functions) == [
        f"functions.{step}.handler.handler"
        for step in ("apply_db", "audit", "digest", "generate", "update_secrets", "watch")
    ]
    assert len({json.dumps(f["Code"]["ImageUri"]) for f in functions}) == 1
    for function in functions:
        assert function["PackageType"] == "Image"
        more = {"LOCKSTEP_DIGEST_KEY"} if function["FunctionName"] == "lockstep-digest" else set()
        assert function["Environment"]["Variables"].keys() == {"LOCKSTEP_PLAN", *more}
        assert function["LoggingConfig"]["LogFormat"] == "JSON"
        assert function["MemorySize"] == 512
        assert "VpcConfig" not in function


def test_only_the_function_that_logs_in_to_databases_is_in_the_vpc(both: Synthesised) -> None:
    functions = [f["Properties"] for f in both.resources("AWS::Lambda::Function").values()]
    assert [f["FunctionName"] for f in functions if "VpcConfig" in f] == ["lockstep-apply-db"]
    group = both.properties("AWS::EC2::SecurityGroup")
    assert "SecurityGroupIngress" not in group
    assert {(r["CidrIp"], r["FromPort"]) for r in group["SecurityGroupEgress"]} == {
        ("10.0.0.0/16", 3306),
        ("10.0.0.0/16", 5432),
        ("0.0.0.0/0", 443),
    }


def test_a_function_times_out_when_its_state_does(aws: Synthesised) -> None:
    functions = (f["Properties"] for f in aws.resources("AWS::Lambda::Function").values())
    deployed = {f["FunctionName"]: f["Timeout"] for f in functions}
    assert deployed.pop("lockstep-digest") == 900
    assert {*deployed.values()} == {STEP.total_seconds()}


def test_the_last_step_of_the_first_day_enables_the_rules() -> None:
    rules = synthesised(schedules=True).resources("AWS::Events::Rule")
    assert {rule["Properties"]["State"] for rule in rules.values()} == {"ENABLED"}


def test_each_shard_has_its_rule(aws: Synthesised) -> None:
    # By wall clock, so that the standby knows when AWS is called (protocol R2).
    digest = read_deployment(Settings(plan=PLAN)).published.digest
    for shard, schedule in (("20m-00", "cron(0/20 * * * ? *)"), ("1h-00", "cron(0 * * * ? *)")):
        rule = aws.properties("AWS::Events::Rule", Name=f"lockstep-{shard}")
        (target,) = rule["Targets"]
        assert rule["ScheduleExpression"] == schedule
        assert rule["State"] == "DISABLED"  # Until the operator's last step (protocol I11).
        assert aws.words(target["Arn"]) == "state machine lockstep-fleet"
        transformer = target["InputTransformer"]
        assert transformer["InputPathsMap"] == {"time": "$.time"}
        # EventBridge puts the text in quotation marks.
        given = transformer["InputTemplate"].replace("<time>", '"2026-11-27T17:40:00Z"')
        started = read(FleetInput, json.loads(given))
        assert (started.shard, started.plan, started.trigger) == (shard, digest, "schedule")
        assert target["DeadLetterConfig"]["Arn"]
        assert target["RetryPolicy"]["MaximumRetryAttempts"] > 0
        assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] == TRIGGER_LATENESS.total_seconds()


def test_the_functions_are_told_the_plan_of_the_rules(aws: Synthesised) -> None:
    digest = read_deployment(Settings(plan=PLAN)).published.digest
    for function in aws.resources("AWS::Lambda::Function").values():
        place = place_of(function["Properties"]["Environment"]["Variables"]["LOCKSTEP_PLAN"])
        assert place == PlanInS3(bucket="example-lockstep-audit-plans", digest=digest, region="eu-central-1")


def test_cdk_json_holds_every_setting_with_its_default() -> None:
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    own = {name: value for name, value in context.items() if not name.startswith("@")}
    defaults = Settings().model_dump(mode="json")
    assert own == defaults
    assert all(field.description for name, field in Settings.model_fields.items() if name != "vpc")


def test_settings_can_come_from_the_command_line() -> None:
    given = {"packaging": "zip", "memory_mb": "1024", "vpc": VPC, "alarm_email": ""}
    settings = Settings.from_context(given.get)
    assert (settings.packaging, settings.memory_mb, settings.alarm_email) == ("zip", 1024, None)
    assert settings.vpc
    assert settings.vpc.database_cidrs == ("10.0.0.0/16",)


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("interval: 1h", "interval: 4d", "half a week"),
        ("retention: 400d", "retention: 36h", "whole days"),
        ("table: lockstep, region: eu-central-1", "table: lockstep, region: eu-west-1", "one region"),
    ],
)
def test_a_plan_that_aws_cannot_run_is_refused(tmp_path: Path, was: str, becomes: str, message: str) -> None:
    text = (ROOT / PLAN).read_text()
    assert was in text
    (tmp_path / "lockstep.yaml").write_text(text.replace(was, becomes))
    with pytest.raises(NotDeployableError, match=message):
        check_deployable(load_plan(tmp_path / "lockstep.yaml"))


def test_the_lock_table_is_made_last(both: Synthesised) -> None:
    """Its deletion protection stops a rollback, so nothing may fail after it."""
    ((name, table),) = both.resources("AWS::DynamoDB::Table").items()
    assert set(table["DependsOn"]) == set(both.template["Resources"]) - {name}
