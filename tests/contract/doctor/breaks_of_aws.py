"""What can be wrong in AWS: the account, the lock table, the secrets, the audit log, and the rights to look."""

from datetime import timedelta
from typing import Any

from lockstep.protocol.findings import Outcome
from sandbox import plans
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE, OCI_KEY_SECRET
from tests.contract.doctor.breaking import Act, Break, call
from tests.contract.doctor.world import CREDENTIAL, World

ADMIN = plans.admin_secret("orders")
BLOB = f"{CREDENTIAL}-connection_blob"


def _other_account(world: World) -> None:
    audit = dict(world.document["audit"])
    arn = audit["aws"]["mac_key"].replace(world.aws.sandbox.account_id, "999988887777")
    world.replan(audit={**audit, "aws": {**audit["aws"], "mac_key": arn}})


def _wrong_clock(by: timedelta) -> Act:
    def act(world: World) -> None:
        world.clock.by = by

    return act


def _store_in(region: str) -> Act:
    def act(world: World) -> None:
        first, *others = world.document["stores"]
        world.replan(stores=[{**first, "region": region}, *others])

    return act


def _small_account(world: World) -> None:
    world.aws.sandbox.quotas["lambda", "L-B99A9384"] = 2


def _other_key(world: World) -> None:
    dynamodb = world.aws.client("dynamodb")
    dynamodb.update_table(TableName=LOCK_TABLE, DeletionProtectionEnabled=False)
    dynamodb.delete_table(TableName=LOCK_TABLE)
    dynamodb.create_table(
        TableName=LOCK_TABLE,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )


def _no_table(world: World) -> None:
    dynamodb = world.aws.client("dynamodb")
    dynamodb.update_table(TableName=LOCK_TABLE, DeletionProtectionEnabled=False)
    dynamodb.delete_table(TableName=LOCK_TABLE)


def _record(**attributes: Any) -> Act:  # noqa: ANN401 - of DynamoDB
    return lambda world: world.aws.record(CREDENTIAL, **attributes)


def _no_plan(world: World) -> None:
    world.aws.client("dynamodb").delete_item(TableName=LOCK_TABLE, Key={"credential_id": {"S": CREDENTIAL}})


def _no_label(world: World) -> None:
    secrets = world.aws.client("secretsmanager")
    secrets.delete_secret(SecretId=ADMIN, ForceDeleteWithoutRecovery=True)
    secrets.create_secret(Name=ADMIN)


def _key_of(world: World) -> str:
    secrets, kms = world.aws.client("secretsmanager"), world.aws.client("kms")
    key: str = kms.create_key()["KeyMetadata"]["KeyId"]
    secrets.update_secret(SecretId=CREDENTIAL, KmsKeyId=key)
    return key


def _key_off(world: World) -> None:
    world.aws.client("kms").disable_key(KeyId=_key_of(world))


def _key_to_be_deleted(world: World) -> None:
    world.aws.client("kms").schedule_key_deletion(KeyId=_key_of(world))


def _mac_key_off(world: World) -> None:
    world.aws.client("kms").disable_key(KeyId=world.plan.audit.aws.mac_key.rpartition("/")[2])


def _other_spec(world: World) -> None:
    arn = world.aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    audit = world.document["audit"]
    world.replan(audit={**audit, "aws": {**audit["aws"], "mac_key": arn}})


def _many_versions(count: int) -> Act:
    def act(world: World) -> None:
        secrets = world.aws.client("secretsmanager")
        for number in range(count):
            secrets.put_secret_value(SecretId=BLOB, SecretString=str(number))

    return act


def _other_region(world: World) -> None:
    audit = world.document["audit"]
    aws = {**audit["aws"], "region": "eu-west-1", "mac_key": "alias/lockstep"}
    world.replan(audit={**audit, "aws": aws})


def _denied(action: str) -> Act:
    """An organisation denies this to the operator."""
    return lambda world: world.aws.sandbox.guard.denied.add(action)


BREAKS_OF_AWS: tuple[Break, ...] = (
    Break(check="aws.identity", act=_other_account, says="999988887777", command="AWS_PROFILE"),
    Break(
        check="aws.clock",
        act=_wrong_clock(timedelta(minutes=-6)),
        says="from that of AWS, which refuses",
        command="timedatectl set-ntp true",
    ),
    Break(
        check="aws.clock",
        act=_wrong_clock(timedelta(minutes=2)),
        says="s from that of AWS",
        command="timedatectl set-ntp true",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.regions",
        act=_store_in("eu-nowhere-9"),
        says="no region of this name",
        command="plan check",
    ),
    Break(
        check="aws.regions", act=_store_in("me-central-1"), says="has not enabled", command="enable-region"
    ),
    Break(
        check="aws.quotas", act=_small_account, says="2 of 2", command="L-B99A9384", outcome=Outcome.WARNING
    ),
    Break(check="aws.lock-table", act=_no_table, says="no such table", command="make deploy-aws"),
    Break(check="aws.lock-table", act=_other_key, says="another program's", command="lock.table"),
    Break(
        check="aws.lock-table",
        act=call(
            "dynamodb",
            "update_time_to_live",
            TableName=LOCK_TABLE,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"},
        ),
        says="time to live is on",
        command="Enabled=false,AttributeName=expires_at",
    ),
    Break(
        check="aws.lock-protection",
        act=call("dynamodb", "update_table", TableName=LOCK_TABLE, DeletionProtectionEnabled=False),
        says="one call can delete it",
        command="--deletion-protection-enabled",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.lock-protection",
        act=call(
            "dynamodb",
            "update_continuous_backups",
            TableName=LOCK_TABLE,
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False},
        ),
        says="no earlier state",
        command="PointInTimeRecoveryEnabled=true",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.active-plan",
        act=_no_plan,
        says="no plan is active",
        command=f"lockstep plan activate {CREDENTIAL}",
    ),
    Break(
        check="aws.active-plan",
        act=_record(plan={"S": "0" * 64}),
        says=f"the active plan is {'0' * 64}",
        command=f"lockstep plan activate {CREDENTIAL} --from {'0' * 64}",
    ),
    Break(
        check="aws.active-plan",
        act=_record(activate={"S": "1" * 64}),
        says="is to become active",
        command=f"lockstep rotate --force {CREDENTIAL}",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.orders",
        act=_record(paused={"BOOL": True}),
        says="paused",
        command=f"lockstep resume {CREDENTIAL}",
        outcome=Outcome.WARNING,
    ),
    *(
        Break(
            check="aws.orders",
            act=_record(**order),
            says=says,
            # Without it the run is skipped where the credential is not due, or is paused.
            command=f"lockstep rotate --force {CREDENTIAL}",
            outcome=Outcome.WARNING,
        )
        for order, says in (
            ({"enrol": {"SS": ["orders"]}}, "to be taken over"),
            ({"revoke_through": {"N": "3"}}, "up to 3 is to die"),
        )
    ),
    Break(
        check="aws.orders",
        act=_record(muted={"SS": ["orders"]}),
        says="orders has refused a login",
        command=f"lockstep retry {CREDENTIAL} orders",
    ),
    Break(
        check="aws.secrets",
        act=call("secretsmanager", "delete_secret", SecretId=BLOB),
        says="scheduled for deletion",
        command=f"aws secretsmanager restore-secret --secret-id {BLOB}",
    ),
    Break(
        check="aws.secrets",
        act=call("secretsmanager", "delete_secret", SecretId=ADMIN, ForceDeleteWithoutRecovery=True),
        says="no such secret",
        command="Key=lockstep:secret,Value=admin",
    ),
    Break(
        check="aws.secrets",
        act=call("secretsmanager", "delete_secret", SecretId=BLOB, ForceDeleteWithoutRecovery=True),
        says="no such secret",
        command="lockstep secrets create --cloud aws --stack lockstep",
    ),
    Break(check="aws.secret-labels", act=_no_label, says="AWSCURRENT", command="put-secret-value"),
    Break(
        check="aws.secret-tags",
        act=call("secretsmanager", "untag_resource", SecretId=ADMIN, TagKeys=["lockstep:secret"]),
        says="lacks lockstep:secret=admin",
        command="lockstep secrets tag --stack lockstep --yes",
    ),
    Break(check="aws.secret-keys", act=_key_off, says="Disabled", command="kms enable-key"),
    Break(
        check="aws.secret-keys",
        act=_key_to_be_deleted,
        says="to be deleted",
        command="kms cancel-key-deletion",
    ),
    Break(
        check="aws.secret-rotation",
        act=lambda world: world.aws.rotate_by_aws(CREDENTIAL),
        says="own rotation is on",
        command=f"cancel-rotate-secret --secret-id {CREDENTIAL}",
    ),
    Break(
        check="aws.secret-versions",
        act=_many_versions(85),
        says="86 versions",
        command="longer interval",
        outcome=Outcome.WARNING,
    ),
    Break(
        check="aws.oci-key",
        act=call("secretsmanager", "put_secret_value", SecretId=OCI_KEY_SECRET, SecretString="{}"),
        says="no API key",
        command=f"put-secret-value --secret-id {OCI_KEY_SECRET}",
    ),
    Break(
        check="aws.audit-bucket",
        act=call("s3", "delete_bucket", Bucket=AUDIT_BUCKET),
        says="no such bucket",
        command="make deploy-aws",
    ),
    Break(
        check="aws.audit-bucket",
        act=_other_region,
        says="it is in eu-central-1, and the plan says eu-west-1",
        command="audit.aws.region",
    ),
    Break(
        check="aws.audit-retention",
        act=lambda world: world.aws.lock_bucket({"ObjectLockEnabled": "Enabled"}),
        says="for no time",
        command="put-object-lock-configuration",
    ),
    Break(
        check="aws.audit-retention",
        act=lambda world: world.aws.lock_bucket(
            {
                "ObjectLockEnabled": "Enabled",
                "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 1}},
            }
        ),
        says="for 365 days, and the plan says 400 days",
        command='"Days": 400',
    ),
    Break(check="aws.audit-key", act=_mac_key_off, says="Disabled", command="kms enable-key"),
    Break(check="aws.audit-key", act=_other_spec, says="SYMMETRIC_DEFAULT", command="audit.aws.mac_key"),
    Break(
        check="aws.rights",
        act=_denied("dynamodb:GetItem"),
        says="this identity may not",
        command='"Action": "dynamodb:GetItem"',
    ),
    Break(
        check="aws.rights",
        act=_denied("kms:VerifyMac"),
        says="this identity may not",
        command="kms:VerifyMac",
    ),
    Break(
        check="aws.oci-key",
        act=_denied("secretsmanager:GetSecretValue"),
        says="AwsActionDeniedError",
        command="docs/iam.md",
        outcome=Outcome.NOT_ASKED,
    ),
)
