"""Creates in the sandbox the resources that the infrastructure stack creates in an account."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.plan.stores import AwsAudit
from sandbox.emulators.aws.executions import Client
from sandbox.emulators.aws.server import AwsSandbox

ORDER_KEY = AwsAudit.model_fields["order_key"].default
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z0-9_.]+)\}")


@dataclass(frozen=True, kw_only=True)
class AwsResources:
    """The ARNs of the keys that sign entries and digests."""

    mac_key_arn: str
    digest_key_arn: str


def create_resources(
    sandbox: AwsSandbox, *, lock_table: str, audit_bucket: str, secrets: Mapping[str, str]
) -> AwsResources:
    """Create the lock table, the keys that sign, the audit bucket and the secrets.

    Args:
        sandbox: A running sandbox.
        lock_table: The table's name.
        audit_bucket: The bucket's name.
        secrets: The first value of each secret, by its name.
    """
    create_lock_table(sandbox.client("dynamodb"), lock_table)
    create_audit_bucket(sandbox.client("s3"), audit_bucket, region=sandbox.region)
    secretsmanager, kms = sandbox.client("secretsmanager"), sandbox.client("kms")
    for name, value in secrets.items():
        secretsmanager.create_secret(Name=name, SecretString=value)
    # As a plan names it by default.
    create_mac_key(kms, ORDER_KEY)
    return AwsResources(mac_key_arn=create_mac_key(kms), digest_key_arn=create_digest_key(kms))


def create_lock_table(dynamodb: Client, name: str) -> str:
    """Create an on-demand table with the partition key `credential_id`. Returns its ARN."""
    table = dynamodb.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": "credential_id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "credential_id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    arn: str = table["TableDescription"]["TableArn"]
    return arn


def create_mac_key(kms: Client, alias: str | None = None) -> str:
    """Create a KMS key for HMAC-SHA-256. Returns its ARN."""
    key = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    arn: str = key["KeyMetadata"]["Arn"]
    if alias:
        kms.create_alias(AliasName=alias, TargetKeyId=arn)
    return arn


def create_digest_key(kms: Client) -> str:
    """Create a KMS key that signs digests. Returns its ARN."""
    arn: str = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
    return arn


def create_audit_bucket(s3: Client, name: str, *, region: str) -> None:
    """Create a bucket whose objects can be locked; it keeps every version."""
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    # Object Lock turns versioning on.
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True, **place)


def create_state_machine(
    stepfunctions: Client, name: str, definition: str, substitutions: Mapping[str, str], *, role_arn: str
) -> str:
    """Create a standard state machine. Returns its ARN.

    Args:
        stepfunctions: A boto3 client.
        name: The machine's name.
        definition: Amazon States Language with `${Name}` for the names of the account.
        substitutions: The value of each placeholder, by its name.
        role_arn: The role; the sandbox does not enforce it.

    Raises:
        KeyError: The definition has a placeholder that `substitutions` lacks.
    """
    text = _PLACEHOLDER.sub(lambda found: json.dumps(substitutions[found[1]])[1:-1], definition)
    machine = stepfunctions.create_state_machine(
        name=name, definition=text, roleArn=role_arn, type="STANDARD"
    )
    arn: str = machine["stateMachineArn"]
    return arn
