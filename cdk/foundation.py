"""Resources that outlive the stack: keys, lock table, the buckets of audit log and plan. All of them stay.

Each is made or adopted. What is adopted is not in the template, so CloudFormation neither changes nor deletes it: not
the policy of a bucket or of a key. The secrets of credentials are made after the deployment (`cdk.deploy`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from aws_cdk import Aws, CfnResource, DefaultStackSynthesizer, Duration, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from cdk.deployment import Deployment, client_key_name, digest_alias
from cdk.permissions import NamedKey
from cdk.resource_policies import REPORT_PREFIX, AuditPolicy, new_plans_only, signers_only
from cdk.settings import Adopt, Settings
from lockstep.plan.model import Plan
from lockstep.plan.stores import AwsAudit
from lockstep.protocol.names import plan_bucket_name

KEPT = RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
"""What outlives the stack. A deployment that makes it and fails removes it again, so that the next one can make it."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a key is made.

    Attributes:
        construct_id: The name of its construct.
    """

    construct_id: str
    description: str
    spec: kms.KeySpec
    usage: kms.KeyUsage


def named_key(
    scope: Construct, named: str, made: Made, *, adopt: Adopt, signers: Sequence[str] | None = None
) -> NamedKey:
    """The key that the plan names. For an alias it is made here, unless it is adopted.

    Args:
        scope: Where it is made.
        named: Its name in the plan.
        made: How it is made.
        adopt: What exists.
        signers: The principals that may sign with one that is made here; None: those whom IAM lets.
    """
    if named.startswith("arn:"):
        return NamedKey(arn=named)
    keys = f"arn:{Aws.PARTITION}:kms:{Aws.REGION}:{Aws.ACCOUNT_ID}:key"
    if not named.startswith("alias/"):
        return NamedKey(arn=f"{keys}/{named}")
    if named in adopt.existing:
        return NamedKey(arn=f"{keys}/*", alias=named)
    key = kms.Key(
        scope,
        made.construct_id,
        alias=named,
        description=made.description,
        key_spec=made.spec,
        key_usage=made.usage,
        removal_policy=KEPT,
    )
    keep_alias(key)
    if signers is not None:
        action = "kms:Sign" if made.usage == kms.KeyUsage.SIGN_VERIFY else "kms:GenerateMac"
        key.add_to_resource_policy(iam.PolicyStatement.from_json(signers_only(action, signers)))
    return NamedKey(arn=key.key_arn)


def keep_alias(key: kms.Key) -> None:
    """Without its alias nothing would find the key again, and the next deployment would make another one."""
    alias = key.node.find_child("Alias").node.default_child
    if isinstance(alias, CfnResource):
        alias.apply_removal_policy(KEPT)


_RETENTION = {
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
}


def log_group(
    scope: Construct, construct_id: str, *, name: str, settings: Settings, key: kms.IKey
) -> logs.ILogGroup:
    """The log group with this name.

    Args:
        scope: Its parent.
        construct_id: Its id in the parent.
        name: Its name, which it has whatever the packaging.
        settings: Whether it exists, and the retention if it is made.
        key: Encrypts it if it is made.
    """
    if name in settings.adopt.existing:
        return logs.LogGroup.from_log_group_name(scope, construct_id, name)
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        encryption_key=key,
        retention=_RETENTION[settings.log_retention_days],
        removal_policy=KEPT,
    )


_PRIVATE: Mapping[str, Any] = {
    # Entries and plans hold no secret, and an auditor in any cloud can read them without one of our keys.
    "encryption": s3.BucketEncryption.S3_MANAGED,
    "block_public_access": s3.BlockPublicAccess.BLOCK_ALL,
    "enforce_ssl": True,
    "minimum_tls_version": 1.2,
    "object_ownership": s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
    "removal_policy": KEPT,
}
"""What each bucket has."""
_LOCKS = {
    "compliance": s3.ObjectLockRetention.compliance,
    "governance": s3.ObjectLockRetention.governance,
}
_MAC_KEY = Made(
    construct_id="MacKey",
    description="Lockstep: signs audit entries",
    spec=kms.KeySpec.HMAC_256,
    usage=kms.KeyUsage.GENERATE_VERIFY_MAC,
)
_ORDER_KEY = replace(_MAC_KEY, construct_id="OrderKey", description="Lockstep: signs orders")
_CLIENT_KEY = Made(
    construct_id="OciClientKey",
    description="Lockstep: signs for the application in the identity domain of OCI",
    spec=kms.KeySpec.RSA_2048,
    usage=kms.KeyUsage.SIGN_VERIFY,
)
_DIGEST_KEY = replace(_CLIENT_KEY, construct_id="DigestKey", description="Lockstep: signs digests")


class Foundation(Construct):
    """Keys, lock table, audit bucket and plan bucket.

    Attributes:
        key: The key that encrypts what is made: lock table, logs, topics, and the secrets of credentials.
        key_arns: Every key that encrypts secrets or the lock table.
        mac_key: The key that signs audit entries, but for orders.
        order_key: The key that signs orders.
        digest_key: The key that signs digests.
        client_key: The key that signs for the application in OCI's identity domain, where the plan names one.
        table: The lock table.
        bucket: The bucket of the audit log.
        plans: The bucket of the published plan.
    """

    def __init__(self, scope: Construct, construct_id: str, deployment: Deployment) -> None:
        super().__init__(scope, construct_id)
        plan, settings = deployment.plan, deployment.settings
        self.key = self._encryption_key(settings)
        self.key_arns = [self.key.key_arn, *settings.adopt.keys]
        audit, adopt = plan.audit.aws, settings.adopt
        roles = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:role"
        self._roles = settings.evidence_roles(roles, plan.lock.region)
        self.mac_key = named_key(self, audit.mac_key, _MAC_KEY, adopt=adopt, signers=[self._roles["audit"]])
        self.order_key = named_key(self, audit.order_key, _ORDER_KEY, adopt=adopt, signers=settings.operators)
        digests, client = digest_alias(settings.stack), client_key_name(plan)
        self.digest_key = named_key(self, digests, _DIGEST_KEY, adopt=adopt, signers=[self._roles["digest"]])
        self.client_key = named_key(self, client, _CLIENT_KEY, adopt=adopt) if client else None
        self._made_table = None if plan.lock.table in adopt.existing else self._lock_table(plan, settings)
        # By name, so that nothing waits for it: see `make_table_last`.
        self.table = dynamodb.Table.from_table_name(self, "LockTableByName", plan.lock.table)
        self._access_log: s3.Bucket | None = None
        self.bucket = self._audit_bucket(plan.audit.aws, settings)
        self.plans = self._plan_bucket(plan_bucket_name(plan.audit.aws.bucket), settings)

    def _encryption_key(self, settings: Settings) -> kms.IKey:
        if settings.adopt.encryption_key:
            return kms.Key.from_key_arn(self, "Key", settings.adopt.encryption_key)
        key = kms.Key(
            self,
            "Key",
            alias=f"alias/{settings.stack}",
            description="Lockstep: encrypts secrets, lock table and logs",
            enable_key_rotation=True,
            removal_policy=KEPT,
        )
        keep_alias(key)
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="Logs",
                principals=[iam.ServicePrincipal(f"logs.{Aws.REGION}.{Aws.URL_SUFFIX}")],
                actions=[
                    "kms:Decrypt",
                    "kms:DescribeKey",
                    "kms:Encrypt",
                    "kms:GenerateDataKey*",
                    "kms:ReEncrypt*",
                ],
                resources=["*"],
                conditions={
                    "ArnLike": {
                        "kms:EncryptionContext:aws:logs:arn": (
                            f"arn:{Aws.PARTITION}:logs:{Aws.REGION}:{Aws.ACCOUNT_ID}:log-group:/aws/*"
                        )
                    }
                },
            )
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsToTopic",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["kms:Decrypt", "kms:GenerateDataKey*"],
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        return key

    def make_table_last(self) -> None:
        """Let the lock table wait for every other resource of the stack; call it when all of them are there.

        A table with deletion protection cannot be deleted. If a first deployment failed after the table, its rollback
        would leave the table behind, with a key that the rollback deletes.
        """
        table = self._made_table.node.default_child if self._made_table else None
        if not isinstance(table, CfnResource):
            return
        for other in Stack.of(self).node.find_all():
            if isinstance(other, CfnResource) and other.node.path != table.node.path:
                table.add_resource_dependency(other)

    def _lock_table(self, plan: Plan, settings: Settings) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            "LockTable",
            table_name=plan.lock.table,
            partition_key=dynamodb.Attribute(name="credential_id", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=self.key,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=settings.deletion_protection,
            removal_policy=KEPT,
        )

    def _audit_bucket(self, audit: AwsAudit, settings: Settings) -> s3.IBucket:
        if audit.bucket in settings.adopt.existing:
            return s3.Bucket.from_bucket_name(self, "Audit", audit.bucket)
        bucket = s3.Bucket(
            self,
            "Audit",
            bucket_name=audit.bucket,
            **_PRIVATE,
            versioned=True,
            object_lock_enabled=True,
            object_lock_default_retention=_LOCKS[settings.object_lock](Duration.days(audit.retention.days)),
            server_access_logs_bucket=self._log_of_access(settings),
        )
        # Versioning and lock keep what was written, and not what a read meets.
        for statement in self._audit_policy(bucket, settings).statements():
            bucket.add_to_resource_policy(iam.PolicyStatement.from_json(statement))
        _keep_policy(bucket)
        return bucket

    def _plan_bucket(self, name: str, settings: Settings) -> s3.IBucket:
        """The bucket that functions read the plan from, and that the fleet machine writes reports to."""
        if name in settings.adopt.existing:
            return s3.Bucket.from_bucket_name(self, "Plans", name)
        bucket = s3.Bucket(
            self,
            "Plans",
            bucket_name=name,
            **_PRIVATE,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="reports",
                    prefix=REPORT_PREFIX,
                    expiration=Duration.days(settings.log_retention_days),
                    noncurrent_version_expiration=Duration.days(1),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            server_access_logs_bucket=self._log_of_access(settings),
            server_access_logs_prefix="plans/",
        )
        bucket.add_to_resource_policy(iam.PolicyStatement.from_json(new_plans_only(bucket.bucket_arn)))
        _keep_policy(bucket)
        return bucket

    def _log_of_access(self, settings: Settings) -> s3.Bucket:
        """The access log of the buckets that are made."""
        if self._access_log:
            return self._access_log
        access_log = self._access_log = s3.Bucket(
            self,
            "AccessLog",
            **_PRIVATE,
            lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(settings.log_retention_days))],
        )
        _keep_policy(access_log)
        return access_log

    def _audit_policy(self, bucket: s3.Bucket, settings: Settings) -> AuditPolicy:
        deployer = cast(
            "DefaultStackSynthesizer", Stack.of(self).synthesizer
        ).cloud_formation_execution_role_arn
        for placeholder, token in (("AccountId", Aws.ACCOUNT_ID), ("Partition", Aws.PARTITION)):
            # A policy would take the placeholder for a variable of its own.
            deployer = deployer.replace(f"${{AWS::{placeholder}}}", token)
        return AuditPolicy(
            bucket_arn=bucket.bucket_arn, settings=settings, functions=self._roles, deployer=deployer
        )


def _keep_policy(bucket: s3.Bucket) -> None:
    """A bucket that outlives the stack keeps what its policy denies."""
    if bucket.policy:
        bucket.policy.apply_removal_policy(KEPT)
