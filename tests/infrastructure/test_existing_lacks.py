"""What exists and cannot be used as it is: each with what to do, at once, and before anything is deployed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from moto.cloudformation.models import cloudformation_backends

from cdk.account import Account, UnansweredError
from cdk.deployment import check_deployable
from cdk.settings import NotDeployableError, Settings
from lockstep.plan.file import load_plan
from sandbox.aws import AwsSandbox
from tests.infrastructure.cdk_case import PLAN
from tests.infrastructure.existing_case import (
    BUCKET,
    PLAN_BUCKET,
    looked_at,
    make_bucket,
    make_key,
    make_secret,
    make_table,
    refusing,
)

ADMIN = "lockstep/admin/orders"
ELSEWHERE = "arn:aws:kms:eu-central-1:999988887777:key/0a1b2c3d-0000-0000-0000-000000000000"


@pytest.fixture(name="aws")
def _aws() -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        yield aws


def test_a_table_whose_records_expire_is_refused(aws: AwsSandbox) -> None:
    """A lock record has a time that time to live can read, and lives longer than its lease."""
    make_table(aws)
    expiry = {"Enabled": True, "AttributeName": "expires_at"}
    aws.client("dynamodb").update_time_to_live(TableName="lockstep", TimeToLiveSpecification=expiry)
    (problem,) = looked_at(aws).problems
    assert "--time-to-live-specification Enabled=false,AttributeName=expires_at" in problem


RULES: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "all": ({"Expiration": {"Days": 90}, "Filter": {"Prefix": ""}}, True),
    "by date": ({"Expiration": {"Date": "2027-01-01"}, "Filter": {"Prefix": ""}}, True),
    "entries": ({"Expiration": {"Days": 90}, "Filter": {"Prefix": "aws/multi"}}, True),
    "late enough": ({"Expiration": {"Days": 400}, "Filter": {"Prefix": ""}}, False),
    "others": ({"Expiration": {"Days": 90}, "Filter": {"Prefix": "tmp/"}}, False),
    "tagged": ({"Expiration": {"Days": 90}, "Filter": {"Tag": {"Key": "a", "Value": "b"}}}, False),
    "markers": ({"Expiration": {"ExpiredObjectDeleteMarker": True}, "Filter": {"Prefix": ""}}, False),
    "off": ({"Status": "Disabled", "Expiration": {"Days": 90}, "Filter": {"Prefix": ""}}, False),
}


@pytest.mark.parametrize("what", RULES)
def test_a_bucket_must_not_hide_entries_before_their_retention_is_over(aws: AwsSandbox, what: str) -> None:
    rule, hides = RULES[what]
    make_bucket(aws)
    aws.client("s3").put_bucket_lifecycle_configuration(
        Bucket=BUCKET, LifecycleConfiguration={"Rules": [{"ID": "estate", "Status": "Enabled", **rule}]}
    )
    problems = looked_at(aws).problems
    assert [("its lifecycle rule estate hides entries" in p) for p in problems] == [True] * hides


def test_what_it_lacks_is_said_together_with_the_line_that_adopts_it(aws: AwsSandbox) -> None:
    make_key(aws, "alias/lockstep-audit", tags=[], KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    key_id = aws.client("kms").describe_key(KeyId="alias/lockstep-audit")["KeyMetadata"]["KeyId"]
    aws.client("kms").schedule_key_deletion(KeyId=key_id, PendingWindowInDays=7)
    line, lack = looked_at(aws).problems
    assert '"mac_key": true' in line
    assert "cancel-key-deletion" in lack


def test_what_can_never_be_used_is_not_offered_for_adoption(aws: AwsSandbox) -> None:
    make_table(aws, tags=[], key="id")
    with refusing("HeadBucket", code="403"):
        plans, bucket, table = sorted(looked_at(aws).problems)
    assert bucket.startswith(f"bucket {BUCKET}: it belongs to another account")
    assert plans.startswith(f"bucket {PLAN_BUCKET}: it belongs to another account")
    assert "name another table in the plan (lock.table)" in table


def test_the_name_of_an_alarm_must_be_free(aws: AwsSandbox) -> None:
    aws.client("cloudwatch").put_metric_alarm(
        AlarmName="lockstep-Stale",
        Namespace="N",
        MetricName="M",
        Statistic="Sum",
        Period=300,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    (problem,) = looked_at(aws).problems
    assert problem.startswith("AWS::CloudWatch::Alarm lockstep-Stale exists")


def set_key_policy(aws: AwsSandbox, arn: str, principal: str, *actions: str) -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": list(actions), "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    aws.client("kms").put_key_policy(KeyId=arn, PolicyName="default", Policy=json.dumps(policy))


def usable(aws: AwsSandbox, arn: str) -> bool:
    """Whether the key of a secret that people made lets the roles in."""
    problems = looked_at(aws, adopt={"keys": [arn]}).problems
    assert len(problems) <= 1
    assert not problems or "lets no IAM policy of the account grant its use; add to it {" in problems[0]
    return not problems


def test_the_key_of_a_secret_that_people_made_must_let_the_roles_in(aws: AwsSandbox) -> None:
    arn, account = make_key(aws, None), f"arn:aws:iam::{aws.account_id}"
    assert usable(aws, arn)
    for principal, actions, may in (
        (f"{account}:user/dba", ["kms:*"], False),
        (f"{account}:root", ["kms:Describe*"], False),
        (f"{account}:root", ["kms:Decrypt", "kms:GenerateDataKey"], True),
        (f"{account}:role/lockstep-FunctionsGenerateRole-0123456789ab", ["kms:*"], True),
    ):
        set_key_policy(aws, arn, principal, *actions)
        assert usable(aws, arn) is may, principal


def test_the_key_that_is_found_is_looked_at_too(aws: AwsSandbox) -> None:
    arn = make_key(aws, None)
    make_secret(aws, ADMIN, KmsKeyId=arn)
    aws.client("kms").disable_key(KeyId=arn.rpartition("/")[2])
    (problem,) = looked_at(aws).problems
    assert "it is Disabled; `aws kms enable-key" in problem


@pytest.mark.parametrize("alias", ["alias/lockstep-audit", None])
def test_so_must_the_key_of_the_entries(aws: AwsSandbox, alias: str | None, tmp_path: Path) -> None:
    arn = make_key(aws, alias, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    set_key_policy(aws, arn, f"arn:aws:iam::{aws.account_id}:user/auditor", "kms:*")
    settings: Mapping[str, object] = {}
    if alias is None:
        plan = tmp_path / "lockstep.yaml"
        plan.write_text(PLAN.read_text().replace("alias/lockstep-audit", arn))
        settings = {"plan": plan}
    (problem,) = looked_at(aws, **settings).problems
    assert problem.startswith(f"audit.aws.mac_key: the policy of {arn} lets no IAM policy")


def test_a_key_of_another_account_is_used_though_it_may_not_be_looked_at(aws: AwsSandbox) -> None:
    make_secret(aws, ADMIN, KmsKeyId=ELSEWHERE)
    with refusing("DescribeKey"):
        assert Account(aws.client, aws.region).key_of_secret(ADMIN) == ELSEWHERE


@pytest.mark.parametrize(
    ("alias", "does"), [("alias/lockstep", "encrypts"), ("alias/lockstep-digests", "signs digests")]
)
def test_two_keys_cannot_have_one_alias(tmp_path: Path, alias: str, does: str) -> None:
    plan = tmp_path / "lockstep.yaml"
    plan.write_text(PLAN.read_text().replace("alias/lockstep-audit", alias))
    with pytest.raises(NotDeployableError, match=f"is the alias of the key that {does}"):
        check_deployable(load_plan(plan), stack=Settings().stack)


@pytest.mark.parametrize(
    ("code", "command"),
    [("ExpiredToken", "`aws sso login`"), ("AccessDenied", "the policy ReadOnlyAccess of AWS allows it")],
)
def test_a_refusal_says_what_to_do(aws: AwsSandbox, code: str, command: str) -> None:
    with (
        refusing("GetCallerIdentity", code=code),
        pytest.raises(UnansweredError, match=command.replace("`", ".")),
    ):
        Account(aws.client, aws.region)


def stack_in(aws: AwsSandbox, status: str) -> None:
    """A stack with a topic, as a deployment or a deletion that failed leaves it."""
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "lockstep-page"}}
    template = json.dumps({"Resources": {"Topic": topic}})
    aws.client("cloudformation").create_stack(StackName="lockstep", TemplateBody=template)
    (stack,) = cloudformation_backends[aws.account_id][aws.region].stacks.values()
    stack.status = status


def test_a_stack_that_could_not_be_deleted_is_deleted_first(aws: AwsSandbox) -> None:
    """As where the policy of the OCI runner is still attached to the user of its access key."""
    stack_in(aws, "DELETE_FAILED")
    (problem,) = looked_at(aws).problems
    assert "stack lockstep: it is DELETE_FAILED; first delete it again" in problem
    assert "detach the policy of the OCI runner" in problem


def test_what_a_failed_deployment_could_not_remove_is_not_in_its_own_way(aws: AwsSandbox) -> None:
    """The CDK CLI deletes such a stack, with what is left of it, before it deploys again."""
    stack_in(aws, "ROLLBACK_FAILED")
    assert looked_at(aws).problems == ()
