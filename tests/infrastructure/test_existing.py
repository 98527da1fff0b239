"""What an account says of the names of a deployment: made, adopted, taken back, or refused with what to change."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from moto.cloudformation.models import cloudformation_backends

from cdk.account import Account, UnansweredError
from cdk.deployment import read_deployment
from cdk.existing import Estate, look
from cdk.settings import Adopt, Settings
from lockstep.plan.runners import Runners
from sandbox.emulators.aws import AwsSandbox
from tests.infrastructure.cdk_case import AUDIT, FEDERATED, LOGS, PLAN, PLANS, refusing, shape
from tests.support.scaled import with_sections

ISSUER = "https://objectstorage.eu-frankfurt-1.oraclecloud.com/n/example/b/lockstep-issuer/o"
SIGNING = {
    "alias/lockstep-audit": ("HMAC_256", "GENERATE_VERIFY_MAC"),
    "alias/lockstep-orders": ("HMAC_256", "GENERATE_VERIFY_MAC"),
    "alias/lockstep-digests": ("RSA_2048", "SIGN_VERIFY"),
}
OWN, OTHERS = {"lockstep:stack": "lockstep"}, {"lockstep:stack": "lockstep-two"}
ELSEWHERE = "arn:aws:kms:eu-central-1:999988887777:key/0a1b2c3d-0000-0000-0000-000000000000"
EVERYTHING = tuple(sorted(["lockstep", AUDIT, PLANS, *SIGNING, *LOGS]))
TABLE: Mapping[str, Any] = {
    "TableName": "lockstep",
    "AttributeDefinitions": [{"AttributeName": "credential_id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "credential_id", "KeyType": "HASH"}],
    "BillingMode": "PAY_PER_REQUEST",
}


@pytest.fixture(name="aws")
def _aws() -> Iterator[AwsSandbox]:
    with AwsSandbox() as aws:
        yield aws


def looked_at(aws: AwsSandbox, role_arn: str = "", **settings: object) -> Estate:
    """What is said of a plan; with the ARN of a role, of the one with sessions, which names it."""
    plan = FEDERATED if role_arn else PLAN
    deployment = read_deployment(Settings.model_validate({"plan": plan, **settings}))
    if role_arn:
        runners = deployment.plan.runners.model_dump(mode="json", exclude_none=True)
        runners["oci"]["federation"]["role_arn"] = role_arn
        changed = with_sections(deployment.plan, runners=Runners.model_validate(runners))
        deployment = replace(deployment, plan=changed)
    account = Account(aws.client, aws.region)
    made = shape("federated" if role_arn else "plain").all
    return look(deployment, made, account, account.stack("lockstep"))


def listed(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    return [{key: name, value: text} for name, text in tags.items()]


def make_key(aws: AwsSandbox, alias: str = "", tags: Mapping[str, str] = OWN) -> str:
    kms, (spec, usage) = aws.client("kms"), SIGNING.get(alias, ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"))
    key = kms.create_key(Tags=listed(tags, "TagKey", "TagValue"), KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
    if alias:
        kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    return str(key["Arn"])


def make_bucket(aws: AwsSandbox, name: str, tags: Mapping[str, str] = OWN, **retention: object) -> None:
    s3, where = aws.client("s3"), {"LocationConstraint": aws.region}
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=bool(retention), CreateBucketConfiguration=where)
    if retention:
        lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}
        s3.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=lock)
    if tags:
        s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": listed(tags)})


def make_everything(aws: AwsSandbox, tags: Mapping[str, str]) -> str:
    """Everything that outlives a stack; the ARN of the encryption key."""
    for alias in SIGNING:
        make_key(aws, alias, tags)
    aws.client("dynamodb").create_table(**TABLE, Tags=listed(tags))
    make_bucket(aws, AUDIT, tags, Mode="COMPLIANCE", Days=400)
    make_bucket(aws, PLANS, tags)
    for name in LOGS:
        aws.client("logs").create_log_group(logGroupName=name, tags=dict(tags))
    return make_key(aws, "alias/lockstep", tags)


def test_what_is_missing_is_made_and_what_a_stack_left_is_taken_back(aws: AwsSandbox) -> None:
    assert looked_at(aws) == Estate(adopt=Adopt())
    key = make_everything(aws, OWN)
    estate = looked_at(aws)
    assert (estate.problems, estate.adopt) == ([], Adopt(existing=EVERYTHING, encryption_key=key))
    assert "table lockstep: this stack made it" in estate.taken


@pytest.mark.parametrize("tags", [{}, OTHERS], ids=["of nobody", "of another stack"])
def test_what_is_of_others_is_refused_with_its_adoption(aws: AwsSandbox, tags: Mapping[str, str]) -> None:
    key = make_everything(aws, tags)
    problems = looked_at(aws).problems
    assert len(problems) == len(EVERYTHING) + 1
    for name in EVERYTHING:
        assert any(f'to adopt it, add "{name}" to adopt.existing in cdk.json' in p for p in problems), name
    (line,) = (p for p in problems if f'add "encryption_key": "{key}" to adopt in cdk.json' in p)
    assert ("of the stack lockstep-two" in line) == bool(tags)
    topic = f"arn:aws:sns:eu-central-1:{aws.account_id}:pages"
    adopt = {"existing": EVERYTHING, "encryption_key": key, "topics": {"page": topic}}
    estate = looked_at(aws, adopt=adopt)
    assert (estate.problems, estate.adopt) == ([], Adopt.model_validate(adopt))
    # What no failure would tell of adopted things is a note.
    notes = {note.partition(":")[0]: note for note in estate.notes}
    assert '"EntriesStay"' in notes[f"bucket {AUDIT}"]
    assert '"NewPlansOnly"' in notes[f"bucket {PLANS}"]
    role = f"arn:aws:iam::{aws.account_id}:role/lockstep-audit-eu-central-1"
    assert role in notes[f"bucket {AUDIT}"]
    assert any(note.startswith(f"{topic}: try whether alarms arrive") for note in estate.notes)


def test_what_does_not_fit_is_refused_with_what_to_do(aws: AwsSandbox) -> None:
    refused = looked_at(aws, adopt={"existing": [AUDIT, "lockstpe"]}).problems
    assert f"{AUDIT} does not exist; leave it out there, and it is made" in refused[0]
    assert refused[1] == "adopt.existing: lockstpe is no name of this deployment that can be adopted"
    # A lock record has a time that time to live can read, and lives longer than its lease.
    dynamodb, expiry = aws.client("dynamodb"), {"Enabled": True, "AttributeName": "expires_at"}
    dynamodb.create_table(**TABLE, Tags=listed(OWN))
    dynamodb.update_time_to_live(TableName="lockstep", TimeToLiveSpecification=expiry)
    dying = make_key(aws, "alias/lockstep-audit").rpartition("/")[2]
    aws.client("kms").schedule_key_deletion(KeyId=dying, PendingWindowInDays=7)
    # A bucket must lock entries as long and as hard as the plan says.
    make_bucket(aws, AUDIT)
    for mode, days, told in (
        ("", 0, "is off for 0 days, and plan and cdk.json say"),
        ("COMPLIANCE", 30, "is COMPLIANCE for 30 days"),
        ("GOVERNANCE", 400, "is GOVERNANCE for 400 days"),
    ):
        if days:
            aws.client("s3").delete_bucket(Bucket=AUDIT)
            make_bucket(aws, AUDIT, Mode=mode, Days=days)
        problems = " ".join(looked_at(aws).problems)
        wanted = (
            "DynamoDB deletes its items by time to live",
            "`aws kms cancel-key-deletion --key-id ",
            told,
        )
        assert [words for words in wanted if words not in problems] == []


def test_the_keys_of_admins_secrets_are_told_to_the_policies(aws: AwsSandbox) -> None:
    key, secrets = make_key(aws), aws.client("secretsmanager")
    secrets.create_secret(Name="lockstep/admin/orders", SecretString="{}", KmsKeyId=key)
    # With the key of AWS, which needs no permission.
    secrets.create_secret(Name="lockstep/admin/ledger", SecretString="{}")
    assert looked_at(aws).adopt.keys == (key,)
    # That of another account is used though it may not be looked at.
    secrets.create_secret(Name="x", SecretString="{}", KmsKeyId=ELSEWHERE)
    with refusing("DescribeKey"):
        assert Account(aws.client, aws.region).key_of_secret("x") == ELSEWHERE


def test_a_refusal_says_what_to_do(aws: AwsSandbox) -> None:
    for code, command in (
        ("ExpiredToken", "`aws sso login`"),
        ("AccessDenied", "ReadOnlyAccess of AWS allows it"),
    ):
        with refusing("GetCallerIdentity", code=code), pytest.raises(UnansweredError, match=command):
            Account(aws.client, aws.region)


@pytest.mark.parametrize("status", ["UPDATE_COMPLETE", "ROLLBACK_FAILED"])
def test_what_the_stack_manages_is_its_own_unless_it_failed_at_first(aws: AwsSandbox, status: str) -> None:
    """The CDK CLI deletes a failed stack, with what is left of it, before it deploys again."""
    table = {"Type": "AWS::DynamoDB::Table", "Properties": {**TABLE, "Tags": listed(OWN)}}
    body = json.dumps({"Resources": {"Table": table}})
    aws.client("cloudformation").create_stack(StackName="lockstep", TemplateBody=body)
    (stack,) = cloudformation_backends[aws.account_id][aws.region].stacks.values()
    stack.status = status
    is_left = status == "UPDATE_COMPLETE"
    estate = looked_at(aws)
    assert (estate.problems, estate.adopt.existing) == ([], () if is_left else ("lockstep",))
    estate = looked_at(aws, adopt={"existing": ["lockstep"]})
    assert estate.adopt.existing == ("lockstep",)
    assert (estate.notes == ["table lockstep: the stack lets go of it, and it stays as it is"]) is is_left


def test_the_provider_of_an_issuer_is_adopted_by_its_url_and_a_role_of_the_account_by_its_name(
    aws: AwsSandbox,
) -> None:
    role = f"arn:aws:iam::{aws.account_id}:role/lockstep-oci-runner"
    assert looked_at(aws, role) == Estate(adopt=Adopt())
    provider = {"Url": ISSUER, "ClientIDList": ["sts.amazonaws.com"], "ThumbprintList": ["0" * 40]}
    iam = aws.client("iam")
    arn = iam.create_open_id_connect_provider(**provider, Tags=listed(OTHERS))["OpenIDConnectProviderArn"]
    (problem,) = looked_at(aws, role).problems
    assert f'is of the stack lockstep-two: to adopt it, add "{ISSUER}" to adopt.existing' in problem
    assert looked_at(aws, role, adopt={"existing": [ISSUER]}).adopt.existing == (ISSUER,)
    iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=arn, Tags=listed(OWN))
    assert looked_at(aws, role).adopt.existing == (ISSUER,)
    (problem,) = looked_at(aws, role.replace(aws.account_id, "999988887777")).problems
    assert f"roles are arn:aws:iam::{aws.account_id}:role/" in problem
    of_people = role.replace("lockstep-oci-runner", "path/estate-runner")
    found = looked_at(aws, of_people, adopt={"existing": ["estate-runner"]})
    assert (found.problems, found.adopt.existing) == ([], ("estate-runner", ISSUER))
    # It gets its policy from people.
    (note,) = found.notes
    assert "aws iam attach-role-policy --role-name estate-runner --policy-arn arn:aws:iam::" in note
