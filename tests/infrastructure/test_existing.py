"""What an account says of the names of a deployment: made, adopted, taken back, or refused with what to change."""

import json
from collections.abc import Iterator, Mapping

import pytest

from cdk.estate import Adopt
from cdk.existing import Estate
from sandbox.aws import AwsSandbox
from tests.infrastructure.existing_case import (
    BUCKET,
    OWN,
    PLAN_BUCKET,
    looked_at,
    make_bucket,
    make_everything,
    make_key,
    make_secret,
    make_table,
    policy_for_services,
    template,
)

LOG = "/aws/lambda/lockstep-generate"


@pytest.fixture(name="aws")
def _aws() -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        yield aws


ALL = dict.fromkeys(
    ("lock_table", "audit_bucket", "plan_bucket", "mac_key", "order_key", "digest_key", "log_groups"), True
)


def test_in_an_empty_account_everything_is_made(aws: AwsSandbox) -> None:
    assert looked_at(aws) == Estate(adopt=Adopt(), taken=(), notes=(), problems=())


def test_what_a_stack_left_behind_is_taken_back_without_asking(aws: AwsSandbox) -> None:
    keys = make_everything(aws, OWN)
    estate = looked_at(aws)
    assert estate.problems == ()
    assert estate.adopt == Adopt.model_validate({**ALL, "encryption_key": keys["encryption"]})
    assert "table lockstep: this stack made it" in estate.taken


def test_what_is_of_others_is_refused_with_the_line_that_adopts_it(aws: AwsSandbox) -> None:
    keys = make_everything(aws, [])
    problems = looked_at(aws).problems
    assert len(problems) == len(template().of_type("AWS::Logs::LogGroup")) + len(
        [
            "table",
            "audit bucket",
            "plan bucket",
            "encryption key",
            "MAC key",
            "key of orders",
            "key of digests",
        ]
    )
    text = "\n".join(problems)
    for line in (
        '"lock_table": true',
        '"audit_bucket": true',
        '"plan_bucket": true',
        '"mac_key": true',
        '"order_key": true',
        '"digest_key": true',
        f'"encryption_key": "{keys["encryption"]}"',
        f'"log_groups": ["{LOG}"]',
    ):
        assert f"to adopt it, add {line} to adopt" in text


def test_each_line_adopts_what_it_names(aws: AwsSandbox) -> None:
    keys = make_everything(aws, [])
    # Its policy must let the services in, as Lockstep's own does.
    aws.client("kms").put_key_policy(
        KeyId=keys["encryption"], PolicyName="default", Policy=json.dumps(policy_for_services(aws))
    )
    estate = looked_at(aws, adopt={**ALL, "encryption_key": keys["encryption"]})
    assert estate.problems == ()
    assert estate.adopt == Adopt.model_validate({**ALL, "encryption_key": keys["encryption"]})


def test_an_encryption_key_must_let_the_services_in(aws: AwsSandbox) -> None:
    arn = make_key(aws, None)
    problems = looked_at(aws, adopt={"encryption_key": arn}).problems
    assert [p.partition(" use it; ")[0].rpartition(" ")[2] for p in problems] == [
        f"logs.{aws.region}.amazonaws.com",
        "cloudwatch.amazonaws.com",
    ]


def test_the_policy_of_an_encryption_key_must_let_the_roles_in(aws: AwsSandbox) -> None:
    arn = make_key(aws, None)
    policy = policy_for_services(aws)
    only_one_person = {
        **policy["Statement"][0],
        "Principal": {"AWS": f"arn:aws:iam::{aws.account_id}:user/a"},
    }
    statements = [only_one_person, policy["Statement"][1]]
    aws.client("kms").put_key_policy(
        KeyId=arn, PolicyName="default", Policy=json.dumps({**policy, "Statement": statements})
    )
    (problem,) = looked_at(aws, adopt={"encryption_key": arn}).problems
    assert "lets no IAM policy of the account grant its use" in problem


@pytest.mark.parametrize(
    "line",
    [
        {"lock_table": True},
        {"audit_bucket": True},
        {"plan_bucket": True},
        {"mac_key": True},
        {"digest_key": True},
        {"log_groups": [LOG]},
        {"encryption_key": "arn:aws:kms:eu-central-1:123456789012:key/12345678-1234-1234-1234-123456789012"},
    ],
)
def test_what_is_to_be_adopted_must_exist(aws: AwsSandbox, line: Mapping[str, object]) -> None:
    (problem,) = looked_at(aws, adopt=line).problems
    assert "does not" in problem


def test_the_keys_of_admins_secrets_are_told_to_the_policies(aws: AwsSandbox) -> None:
    key = make_key(aws, None)
    make_secret(aws, "lockstep/admin/orders", KmsKeyId=key)
    make_secret(aws, "lockstep/admin/ledger")  # With the key of AWS, which needs no permission.
    assert looked_at(aws).adopt.keys == (key,)


def test_a_table_with_another_key_is_refused(aws: AwsSandbox) -> None:
    make_table(aws, key="id")
    (problem,) = looked_at(aws).problems
    assert "the partition key credential_id (S) alone" in problem


SPECS = {
    "alias/lockstep": ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"),
    "alias/lockstep-audit": ("HMAC_256", "GENERATE_VERIFY_MAC"),
}


@pytest.mark.parametrize("alias", SPECS)
def test_a_key_that_is_being_deleted_is_kept_first(aws: AwsSandbox, alias: str) -> None:
    spec, usage = SPECS[alias]
    key_id = make_key(aws, alias, KeySpec=spec, KeyUsage=usage).rpartition("/")[2]
    aws.client("kms").schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    (problem,) = looked_at(aws).problems
    assert f"aws kms cancel-key-deletion --key-id {key_id}" in problem


def test_a_mac_key_must_compute_macs(aws: AwsSandbox) -> None:
    make_key(aws, "alias/lockstep-audit")
    (problem,) = looked_at(aws).problems
    assert "must be HMAC_256 for GENERATE_VERIFY_MAC" in problem


def test_a_bucket_is_told_everything_that_it_lacks_with_the_command(aws: AwsSandbox) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": aws.region})
    s3.put_bucket_encryption(
        Bucket=BUCKET,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
        },
    )
    problems = looked_at(aws, adopt={"audit_bucket": True}).problems
    commands = (
        "put-bucket-versioning",
        "put-object-lock-configuration",
        "NewObjectsOnly",
        "EntriesOfWritersOnly",
        "DigestsOfOneOnly",
        "EntriesStay",
        "BucketStays",
        "put-bucket-encryption",
    )
    assert len(problems) == len(commands)
    for problem, command in zip(problems, commands, strict=True):
        assert command in problem


def test_a_plan_bucket_is_told_everything_that_it_lacks_with_the_command(aws: AwsSandbox) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=PLAN_BUCKET, CreateBucketConfiguration={"LocationConstraint": aws.region})
    s3.put_bucket_encryption(
        Bucket=PLAN_BUCKET,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
        },
    )
    expire = {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(Bucket=PLAN_BUCKET, LifecycleConfiguration={"Rules": [expire]})
    problems = looked_at(aws, adopt={"plan_bucket": True}).problems
    commands = (
        "put-bucket-versioning",
        "lifecycle rule all deletes published plans",
        "NewPlansOnly",
        "put-bucket-encryption",
    )
    assert len(problems) == len(commands)
    for problem, command in zip(problems, commands, strict=True):
        assert command in problem


@pytest.mark.parametrize(
    ("days", "mode", "message"),
    [(30, "compliance", "locks entries for 30 days"), (400, "governance", "Object Lock in mode COMPLIANCE")],
)
def test_a_bucket_must_lock_entries_as_long_and_as_hard_as_the_plan_says(
    aws: AwsSandbox, days: int, mode: str, message: str
) -> None:
    make_bucket(aws, days=days)
    (problem,) = looked_at(aws, object_lock=mode).problems
    assert message in problem


def test_names_that_cannot_be_adopted_must_be_free(aws: AwsSandbox) -> None:
    aws.client("sns").create_topic(Name="lockstep-page")
    aws.client("events").put_rule(Name="lockstep-20m-00", ScheduleExpression="rate(1 day)")
    problems = looked_at(aws).problems
    assert sorted(p.split(" exists")[0] for p in problems) == [
        "AWS::Events::Rule lockstep-20m-00",
        "AWS::SNS::Topic lockstep-page",
    ]


def test_a_network_must_exist_and_belong_together(aws: AwsSandbox) -> None:
    ec2 = aws.client("ec2")
    vpc, other = (ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"] for _ in range(2))
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="eu-central-1a")["Subnet"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=other)["GroupId"]

    def problems(zone: str, subnet_id: str) -> tuple[str, ...]:
        chosen = {
            "id": vpc,
            "availability_zones": [zone],
            "subnet_ids": [subnet_id],
            "security_group_ids": [group],
        }
        return looked_at(aws, vpc=chosen).problems

    assert problems("eu-central-1b", subnet["SubnetId"]) == (
        f"vpc.availability_zones: {subnet['SubnetId']} is in eu-central-1a",
        f"vpc.security_group_ids: {group} is in {other}",
    )
    assert any("not all of subnet-" in p for p in problems("eu-central-1a", "subnet-0123456789abcdef0"))


def test_a_boundary_must_exist(aws: AwsSandbox) -> None:
    (problem,) = looked_at(aws, permissions_boundary="estate").problems
    assert problem == f"permissions_boundary: arn:aws:iam::{aws.account_id}:policy/estate does not exist"


def test_a_topic_must_exist(aws: AwsSandbox) -> None:
    topic = f"arn:aws:sns:eu-central-1:{aws.account_id}:pages"
    (problem,) = looked_at(aws, adopt={"topics": {"page": topic}}).problems
    assert problem == f"adopt.topics.page: {topic} does not exist"
