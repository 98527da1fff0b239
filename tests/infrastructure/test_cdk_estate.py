"""The settings that fit the stack into an estate: names, tags, boundary, protection, and their errors."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest

from cdk.bundle import build
from cdk.settings import ROOT, NotDeployableError, Settings
from sandbox.emulators.aws.policies import Statement, as_list
from tests.infrastructure.cdk_case import BOTH_CLOUDS, PLAN, VPC, Synthesised, synthesised

UNTAGGABLE = {
    "AWS::CDK::Metadata",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::KMS::Alias",
    "AWS::Lambda::Alias",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Version",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::StepFunctions::StateMachineAlias",
    "AWS::StepFunctions::StateMachineVersion",
}
"""CloudFormation knows no tags of these."""
TAGS = {"team": "payments", "cost centre": "42"}
ADOPTED_KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
OTHER_KEY = "arn:aws:kms:eu-central-1:444455556666:key/0987dcba-09fe-87dc-65ba-ab0987654321"


@pytest.fixture(scope="module", name="aws")
def _aws() -> Synthesised:
    return synthesised()


@pytest.fixture(scope="module", name="trial")
def _trial() -> Synthesised:
    return synthesised(
        plan=BOTH_CLOUDS,
        vpc=VPC,
        tags=json.dumps(TAGS),
        permissions_boundary="estate/boundary",
        deletion_protection=False,
        object_lock="governance",
    )


def _tags(resource: Mapping[str, Any]) -> dict[str, str]:
    tags = resource["Properties"].get("Tags", {})
    return tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}


def _taggable(stack: Synthesised) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, resource in stack.template["Resources"].items():
        if resource["Type"] not in UNTAGGABLE:
            yield name, resource


def test_every_resource_carries_the_tag_of_its_stack_and_those_of_the_settings(trial: Synthesised) -> None:
    for name, resource in _taggable(trial):
        assert _tags(resource).items() >= {"lockstep:stack": "lockstep", **TAGS}.items(), name


def test_every_role_has_the_boundary(trial: Synthesised) -> None:
    roles = trial.resources("AWS::IAM::Role").values()
    assert roles
    for role in roles:
        assert trial.words(role["Properties"]["PermissionsBoundary"]) == (
            "arn:aws:iam::111122223333:policy/estate/boundary"
        )


def test_a_trial_can_be_removed(trial: Synthesised) -> None:
    assert trial.properties("AWS::DynamoDB::Table")["DeletionProtectionEnabled"] is False
    bucket = trial.properties("AWS::S3::Bucket", ObjectLockEnabled=True)
    assert bucket["ObjectLockConfiguration"]["Rule"]["DefaultRetention"]["Mode"] == "GOVERNANCE"


@pytest.mark.parametrize("stack", ["Payments-Lockstep", "X" * 41])
def test_a_stack_may_be_named_as_the_estate_names_things(stack: str) -> None:
    assert Settings(stack=stack).stack == stack


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("adopt", {"lock_tabel": True}, "adopt.lock_tabel: Extra inputs are not permitted"),
        ("adopt", {"encryption_key": "alias/estate"}, "adopt.encryption_key: String should match"),
        ("adopt", {"topics": {"page": ADOPTED_KEY}}, "adopt.topics.page: String should match"),
        ("adopt", "{", "adopt: Expecting property name"),
        ("tags", {"aws:team": "x"}, "keys that begin with aws: belong to AWS"),
        ("tags", {"Lockstep:stack": "x"}, "keys that begin with lockstep: belong to Lockstep"),
        ("tags", {str(n): "" for n in range(49)}, "49 tags, and a resource takes 50"),
        ("permissions_boundary", "arn:aws:iam::111122223333:role/x", "permissions_boundary: String should"),
        ("object_lock", "none", "object_lock: Input should be 'compliance' or 'governance'"),
        ("stack", "1st", "stack: String should match"),
        ("vpc", {**json.loads(VPC), "database_cidrs": []}, "vpc: give database_cidrs"),
        ("vpc", {**json.loads(VPC), "security_group_ids": ["sg-01234567"]}, "one of the two"),
        ("vpc", {**json.loads(VPC), "functions": "some"}, "vpc.functions: Input should be"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: object, message: str) -> None:
    with pytest.raises(NotDeployableError) as refused:
        Settings.from_context({name: value}.get)
    assert f"cdk.json: {name}" in str(refused.value)
    assert message in str(refused.value)


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(NotDeployableError) as refused:
        Settings.from_context({"memory_mb": 1, "packaging": "rpm"}.get)
    assert len(str(refused.value).splitlines()) == 2


AUDIT, PLANS = "example-lockstep-audit", "example-lockstep-audit-plans"
SIGNING = tuple(f"alias/lockstep-{name}" for name in ("audit", "orders", "digests"))
LOGS = (
    *(f"/aws/lambda/lockstep-{step}" for step in ("generate", "apply-db", "update-secrets", "audit")),
    *(f"/aws/lambda/lockstep-{step}" for step in ("watch", "digest")),
    *(f"/aws/vendedlogs/states/lockstep{end}" for end in ("", "-fleet")),
)
DATA = ("lockstep", AUDIT, PLANS, *LOGS)


FOUNDATION = {
    "AWS::DynamoDB::Table",
    "AWS::KMS::Alias",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
}


def _adopting(*existing: str, **lines: object) -> Synthesised:
    return synthesised(adopt=json.dumps({"existing": existing, **lines}))


def _statements(stack: Synthesised, title: str, sid: str) -> list[Statement]:
    return [s for role, s in stack.policies() if role == title and s.get("Sid") == sid]


def test_a_stack_that_adopts_everything_makes_none_of_it() -> None:
    adopting = _adopting(*DATA, *SIGNING, encryption_key=ADOPTED_KEY, keys=[OTHER_KEY])
    assert not FOUNDATION & {r["Type"] for r in adopting.template["Resources"].values()}
    assert "<" not in json.dumps([s for _, s in adopting.policies()])


@pytest.mark.parametrize(
    ("names", "gone"),
    [
        (["lockstep"], {"AWS::DynamoDB::Table"}),
        (LOGS, {"AWS::Logs::LogGroup"}),
        ([AUDIT, PLANS], {"AWS::S3::Bucket", "AWS::S3::BucketPolicy"}),
    ],
)
def test_what_is_named_is_not_made(aws: Synthesised, names: list[str], gone: set[str]) -> None:
    adopting = _adopting(*names)
    types = {r["Type"] for r in adopting.template["Resources"].values()}
    assert {r["Type"] for r in aws.template["Resources"].values()} - types == gone
    # All that is left is as it was.
    for name, resource in adopting.template["Resources"].items():
        assert aws.template["Resources"][name]["Type"] == resource["Type"]


@pytest.mark.parametrize(("adopted", "made"), [(AUDIT, PLANS), (PLANS, AUDIT)])
def test_one_bucket_is_adopted_and_the_other_is_made_with_its_access_log(adopted: str, made: str) -> None:
    adopting = _adopting(adopted)
    names = [b["Properties"].get("BucketName") for b in adopting.resources("AWS::S3::Bucket").values()]
    assert set(names) == {made, None}
    bucket = adopting.properties("AWS::S3::Bucket", BucketName=made)
    assert bucket["LoggingConfiguration"]["DestinationBucketName"]


def test_adopted_table_and_bucket_are_what_is_used() -> None:
    adopting = _adopting("lockstep", AUDIT)
    machine = adopting.properties("AWS::StepFunctions::StateMachine", StateMachineName="lockstep")
    assert machine["DefinitionSubstitutions"]["LockTable"] == "lockstep"
    (lock,), (append,) = (
        _statements(adopting, *of) for of in (("generate", "WriteLock"), ("audit", "Append"))
    )
    assert adopting.words(lock["Resource"]) == "table lockstep"
    for resource in as_list(append["Resource"]):
        assert adopting.words(resource).startswith(f"arn:aws:s3:::{AUDIT}/aws/")


def test_an_adopted_key_that_signs_is_known_by_its_alias() -> None:
    adopting = _adopting(*SIGNING)
    runs, orders, digests = (f"alias/lockstep-{name}" for name in ("audit", "orders", "digests"))
    for title, sid, alias in (
        ("audit", "Sign", runs),
        ("audit", "RecogniseOrders", orders),
        ("digest", "RecogniseRuns", runs),
        ("digest", "RecogniseOrders", orders),
        ("digest", "SignDigest", digests),
        ("digest", "TellKey", digests),
    ):
        (sign,) = _statements(adopting, title, sid)
        assert adopting.words(sign["Resource"]) == "arn:aws:kms:eu-central-1:111122223333:key/*"
        assert sign["Condition"]["ForAnyValue:StringEquals"] == {"kms:ResourceAliases": alias}
    assert not [k for k in adopting.resources("AWS::KMS::Key").values() if "KeySpec" in k["Properties"]]
    function = adopting.properties("AWS::Lambda::Function", FunctionName="lockstep-digest")
    named = adopting.words(function["Environment"]["Variables"]["LOCKSTEP_DIGEST_KEY"])
    assert named == "arn:aws:kms:eu-central-1:111122223333:alias/lockstep-digests"


def test_an_adopted_key_encrypts_what_is_made() -> None:
    adopting = _adopting(encryption_key=ADOPTED_KEY)
    logs = adopting.resources("AWS::Logs::LogGroup").values()
    assert {log["Properties"]["KmsKeyId"] for log in logs} == {ADOPTED_KEY}
    assert adopting.properties("AWS::DynamoDB::Table")["SSESpecification"]["KMSMasterKeyId"] == ADOPTED_KEY
    for topic in adopting.resources("AWS::SNS::Topic").values():
        assert topic["Properties"]["KmsMasterKeyId"] == ADOPTED_KEY
    (lock,) = _statements(adopting, "generate", "LockKey")
    assert lock["Resource"] == ADOPTED_KEY


def test_every_function_can_be_in_the_vpc_and_only_one_reaches_databases() -> None:
    stack = synthesised(vpc=json.dumps({**json.loads(VPC), "functions": "all"}))
    functions = [f["Properties"] for f in stack.resources("AWS::Lambda::Function").values()]
    ports = {
        name: {rule["FromPort"] for rule in group["Properties"]["SecurityGroupEgress"]}
        for name, group in stack.resources("AWS::EC2::SecurityGroup").items()
    }
    for function in functions:
        (group,) = function["VpcConfig"]["SecurityGroupIds"]
        assert function["VpcConfig"]["SubnetIds"] == ["subnet-0123456789abcdef0"]
        reached = ports[group["Fn::GetAtt"][0]]
        assert reached == ({443, 3306, 5432} if "apply-db" in function["FunctionName"] else {443})
    for step in ("generate", "apply_db", "update_secrets", "audit"):
        (refused,) = _statements(stack, step, "NotFromCode")
        arns = [stack.words(arn) for arn in refused["Condition"]["ArnEquals"]["lambda:SourceFunctionArn"]]
        name = f":function:lockstep-{step.replace('_', '-')}"
        assert [arn[arn.index(":function:") :] for arn in arns] == [name, f"{name}:*"]


def test_adopted_security_groups_are_used_as_they_are() -> None:
    groups = ["sg-0123456789abcdef0", "sg-01234567"]
    vpc = {**json.loads(VPC), "database_cidrs": [], "security_group_ids": groups, "functions": "all"}
    stack = synthesised(vpc=json.dumps(vpc))
    assert not [r for r in stack.template["Resources"].values() if r["Type"].startswith("AWS::EC2::")]
    for function in stack.resources("AWS::Lambda::Function").values():
        assert function["Properties"]["VpcConfig"]["SecurityGroupIds"] == groups


def test_the_package_type_can_be_switched(aws: Synthesised, tmp_path: Path) -> None:
    """CloudFormation makes the new function before it deletes the old one, so their names must differ."""
    build("aws", plan_file=ROOT / PLAN, out=tmp_path)
    zipped = synthesised(packaging="zip", bundle=tmp_path)
    assert len(zipped.resources("AWS::Lambda::Version")) == len(aws.resources("AWS::Lambda::Version")) == 4
    image_names, zip_names = (
        {f["Properties"]["FunctionName"] for f in stack.resources("AWS::Lambda::Function").values()}
        for stack in (aws, zipped)
    )
    assert not image_names & zip_names
    assert zip_names == {f"{name}-zip" for name in image_names}
    logs = [
        {g["Properties"]["LogGroupName"] for g in s.resources("AWS::Logs::LogGroup").values()}
        for s in (aws, zipped)
    ]
    assert logs[0] == logs[1]
    for function in zipped.resources("AWS::Lambda::Function").values():
        assert function["Properties"]["LoggingConfig"]["LogGroup"] in logs[1]


def test_the_stack_is_of_the_partition_of_its_region() -> None:
    """China and GovCloud have ARNs, and some endpoints, of their own."""
    text = (ROOT / PLAN).read_text().replace("eu-central-1", "cn-north-1")
    with NamedTemporaryFile("w", suffix=".yaml", dir=ROOT / PLAN.parent) as plan:
        plan.write(text)
        plan.flush()
        chosen = {"plan": Path(plan.name), "vpc": VPC}
        for stack in (synthesised(**chosen), synthesised(**chosen, adopt=json.dumps({"existing": DATA}))):
            assert "arn:aws:" not in json.dumps(stack.template)
            assert "arn:aws-cn:states:::lambda:invoke" in json.dumps(stack.template)
