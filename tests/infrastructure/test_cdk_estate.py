"""The settings that fit the stack into an estate: names, tags, boundary, protection, and their errors."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cdk.estate import Adopt
from cdk.settings import NotDeployableError, Settings
from tests.infrastructure.cdk_case import BOTH_CLOUDS, VPC, Synthesised, synthesised

UNTAGGABLE = {
    "AWS::CDK::Metadata",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::Policy",
    "AWS::KMS::Alias",
    "AWS::Logs::MetricFilter",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
}
"""CloudFormation knows no tags of these."""
TAGS = {"team": "payments", "cost centre": "42"}
ADOPTED_KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


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


def test_secrets_say_what_they_hold(trial: Synthesised) -> None:
    secrets = trial.resources("AWS::SecretsManager::Secret").values()
    kinds = {s["Properties"]["Name"]: _tags(s)["lockstep:secret"] for s in secrets}
    assert set(kinds.values()) == {"app_user", "connection_blob"}
    assert kinds["multi-cloud/app_user"] == "app_user"


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
        ("tags", {"x" * 129: ""}, "a key has 1 to 128"),
        ("tags", {"": "x"}, "a key has 1 to 128"),
        ("tags", {"team": "x" * 257}, "a value has at most 256"),
        ("tags", {"team": "a<b"}, "a value has at most 256"),
        ("tags", {str(n): "" for n in range(49)}, "49 tags, and a resource takes 50"),
        ("tags", {"team": "a", "Team": "b"}, "'team' and 'Team' differ in case only"),
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


@pytest.mark.parametrize("adopted", [True, ["a/b"]])
def test_secrets_and_log_groups_are_adopted_all_or_by_name(adopted: object) -> None:
    adopt = Adopt.model_validate({"secrets": adopted, "log_groups": adopted})
    assert adopt.adopts_secret("a/b")
    assert adopt.adopts_log_group("a/b")


@pytest.mark.parametrize("adopted", [False, ["other"], []])
def test_what_is_not_named_is_made(adopted: object) -> None:
    adopt = Adopt.model_validate({"secrets": adopted, "log_groups": adopted})
    assert not adopt.adopts_secret("a/b")
    assert not adopt.adopts_log_group("a/b")
