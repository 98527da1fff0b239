"""What exists is adopted as it is, one by one and all at once, with the real CDK CLI.

It lives through the deployment, a rotation and the end of the stack.
"""

import json
import shlex
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cdk import plan_policy
from cdk.account import Account as CdkAccount
from cdk.account_buckets import audit_policy
from cdk.bundle import Bundle
from cdk.settings import Settings
from lockstep.cli import app
from lockstep.contents import encode_app_user, encode_connection_blob
from lockstep.model import CredentialValue, Login, SecretStr
from lockstep.stack_names import plan_bucket_name
from sandbox.estate import environment
from sandbox.servers import set_password
from tests.infrastructure.existing_case import policy_for_services
from tests.infrastructure.life_cycle import Account, Estate, bootstrapped

TAGS = [{"Key": "team", "Value": "payments"}]


@pytest.fixture(scope="module", name="account")
def _account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with bootstrapped(tmp_path_factory.mktemp("adoption")) as account:
        yield account


@pytest.fixture(scope="module", name="empty")
def _empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package without code, for stacks whose functions are not run."""
    folder = tmp_path_factory.mktemp("bundle")
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        archive.writestr("empty", "")
    bundle = Bundle(runner="aws", python="3.13", architecture="x86_64", unpacked_bytes=0, zip_bytes=0)
    (folder / "bundle.json").write_text(json.dumps(asdict(bundle)))
    return folder


def lock_table(estate: Estate) -> Mapping[str, Any]:
    dynamodb = estate.account.aws.client("dynamodb")
    dynamodb.create_table(
        TableName=estate.table,
        AttributeDefinitions=[{"AttributeName": "credential_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "credential_id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=TAGS,
    )
    item = {"credential_id": {"S": "of-another"}, "kept": {"S": "yes"}}
    dynamodb.put_item(TableName=estate.table, Item=item)
    return {"lock_table": True}


def audit_bucket(estate: Estate) -> Mapping[str, Any]:
    s3 = estate.account.aws.client("s3")
    place = {"LocationConstraint": estate.account.aws.region}
    s3.create_bucket(Bucket=estate.bucket, ObjectLockEnabledForBucket=True, CreateBucketConfiguration=place)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 400}}
    s3.put_object_lock_configuration(
        Bucket=estate.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    s3.put_object(Bucket=estate.bucket, Key="of-another", Body=b"kept", ChecksumAlgorithm="SHA256")
    aws = estate.account.aws
    settings = Settings(plan=estate.plan_file, stack=estate.stack)
    wanted = audit_policy(CdkAccount(aws.client, aws.region), estate.plan.audit.aws, settings)
    policy = {"Version": "2012-10-17", "Statement": wanted.statements()}
    s3.put_bucket_policy(Bucket=estate.bucket, Policy=json.dumps(policy))
    return {"audit_bucket": True}


def plan_bucket(estate: Estate) -> Mapping[str, Any]:
    s3, name = estate.account.aws.client("s3"), plan_bucket_name(estate.bucket)
    place = {"LocationConstraint": estate.account.aws.region}
    s3.create_bucket(Bucket=name, CreateBucketConfiguration=place)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    policy = {"Version": "2012-10-17", "Statement": [plan_policy.statement(f"arn:aws:s3:::{name}")]}
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    return {"plan_bucket": True}


def key(estate: Estate, alias: str, **more: str) -> str:
    kms = estate.account.aws.client("kms")
    made = kms.create_key(**more)["KeyMetadata"]
    kms.create_alias(AliasName=alias, TargetKeyId=made["KeyId"])
    arn: str = made["Arn"]
    return arn


def mac_key(estate: Estate) -> Mapping[str, Any]:
    key(estate, estate.mac_key, KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    return {"mac_key": True}


def encryption_key(estate: Estate) -> Mapping[str, Any]:
    aws = estate.account.aws
    arn = key(estate, f"alias/{estate.stack}")
    aws.client("kms").put_key_policy(
        KeyId=arn, PolicyName="default", Policy=json.dumps(policy_for_services(aws))
    )
    return {"encryption_key": arn}


def secrets(estate: Estate) -> None:
    """Each has the login that works, and keys of others."""
    client = estate.account.aws.client("secretsmanager")
    for credential in estate.plan.credentials:
        value = CredentialValue(0, login(estate))
        names = credential.secret_names
        for name, text in (
            (names.app_user, encode_app_user(value, credential)),
            (names.connection_blob, encode_connection_blob(0, credential)),
        ):
            mixed = json.dumps({**json.loads(text), "jdbc": "of another"})
            client.create_secret(Name=name, SecretString=mixed, Tags=TAGS)


def login(estate: Estate) -> Login:
    (credential,) = estate.plan.credentials
    return Login(credential.usernames[0], SecretStr("The-login-that-works-1"))


def log_groups(estate: Estate) -> Mapping[str, Any]:
    logs = estate.account.aws.client("logs")
    steps = ("generate", "apply-db", "update-secrets", "audit", "watch")
    for name in (
        *(f"/aws/lambda/{estate.stack}-{step}" for step in steps),
        f"/aws/vendedlogs/states/{estate.stack}",
        f"/aws/vendedlogs/states/{estate.stack}-fleet",
    ):
        logs.create_log_group(logGroupName=name, tags={"team": "payments"})
        logs.put_retention_policy(logGroupName=name, retentionInDays=7)
    return {"log_groups": True}


def topics(estate: Estate) -> Mapping[str, Any]:
    sns = estate.account.aws.client("sns")
    return {
        "topics": {
            severity: sns.create_topic(Name=f"{estate.stack}-of-others-{severity}")["TopicArn"]
            for severity in ("page", "ticket")
        }
    }


MADE: Mapping[str, Callable[[Estate], Mapping[str, Any]]] = {
    "lock-table": lock_table,
    "audit-bucket": audit_bucket,
    "plan-bucket": plan_bucket,
    "mac-key": mac_key,
    "encryption-key": encryption_key,
    "log-groups": log_groups,
    "topics": topics,
}


def state_of(estate: Estate) -> Mapping[str, Any]:
    """What there is of everything that can be adopted: contents, and what was set on it."""
    aws = estate.account.aws
    tables = [t for t in aws.client("dynamodb").list_tables()["TableNames"] if t == estate.table]
    every = [b["Name"] for b in aws.client("s3").list_buckets()["Buckets"]]
    buckets, plan_buckets = (
        [name for name in every if name == wanted]
        for wanted in (estate.bucket, plan_bucket_name(estate.bucket))
    )
    aliases = {a["AliasName"]: a.get("TargetKeyId") for a in aws.client("kms").list_aliases()["Aliases"]}
    found = aws.client("secretsmanager").list_secrets()["SecretList"]
    groups = aws.client("logs").describe_log_groups()["logGroups"]
    arns = [t["TopicArn"] for t in aws.client("sns").list_topics()["Topics"]]
    return {
        "lock-table": [estate.items() for _ in tables],
        "audit-bucket": [estate.entries() for _ in buckets],
        # What is in it, each deployment publishes.
        "plan-bucket": [aws.client("s3").get_bucket_policy(Bucket=name)["Policy"] for name in plan_buckets],
        "mac-key": aliases.get(estate.mac_key),
        "encryption-key": aliases.get(f"alias/{estate.stack}"),
        "secrets": estate.values() if any(s["Name"] in estate.secrets for s in found) else None,
        "log-groups": {
            g["logGroupName"]: g.get("retentionInDays")
            for g in groups
            if g["logGroupName"].rpartition("/")[2].startswith(estate.stack)
        },
        "topics": sorted(arn for arn in arns if f":{estate.stack}-of-others" in arn),
    }


@pytest.mark.parametrize("what", MADE)
def test_each_is_adopted_alone_and_outlives_the_stack(account: Account, empty: Path, what: str) -> None:
    estate = account.estate(what)
    adopt = MADE[what](estate)
    before = state_of(estate)[what]
    assert before
    estate.deploy(adopt=adopt, bundle=empty)
    assert estate.status() == "CREATE_COMPLETE"
    assert state_of(estate)[what] == before
    account.aws.client("cloudformation").delete_stack(StackName=estate.stack)
    assert estate.status() is None
    assert state_of(estate)[what] == before


def test_all_at_once_they_rotate_and_outlive_the_stack(account: Account) -> None:
    estate = account.estate("everything")
    adopt: dict[str, Any] = {}
    for make in MADE.values():
        adopt |= make(estate)
    secrets(estate)
    before = state_of(estate)
    # Without its tags, no function may use a secret.
    lockstep(account, f"lockstep secrets tag --plan {estate.plan_file} --stack {estate.stack} --yes")
    estate.deploy_asking(adopt=adopt)
    assert state_of(estate) == before
    # Nobody consents to taking the account over: the login that works is in the secret.
    estate.provision(enrolled=False)
    set_password(account.server, login(estate))
    for _ in range(2):
        estate.rotate()
        for text in estate.values().values():
            assert json.loads(text)["jdbc"] == "of another"
    assert "of-another" in estate.entries()
    assert any(item["credential_id"]["S"] == "of-another" for item in estate.items())
    rotated = state_of(estate)
    estate.destroy(adopt=adopt)
    assert estate.status() is None
    assert state_of(estate) == rotated


def lockstep(account: Account, command: str) -> None:
    """Run a command as a person of the account."""
    with environment(account.aws.environment()):
        CliRunner().invoke(app, shlex.split(command)[1:])
