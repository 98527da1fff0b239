"""The permissions of each function and of the state machine: exactly the calls that the code makes, on what it uses.

`docs/iam.md` gives the purpose of every statement. One test compares that table with the synthesised template, another
compares the template with the calls that a rotation makes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from lockstep.plan import Plan
from lockstep.store_kinds import AwsSecretsManager

Statements = list[iam.PolicyStatement]


@dataclass(frozen=True, kw_only=True)
class Grants:
    """The statements for a plan, on the resources of its stack.

    Attributes:
        secret_arns: The ARNs of the credentials' secrets, by name.
        key_arn: The key that encrypts secrets, lock table and logs.
        mac_key_arn: The key that signs audit entries.
    """

    plan: Plan
    table_arn: str
    bucket_arn: str
    key_arn: str
    mac_key_arn: str
    secret_arns: Mapping[str, str]

    def generate(self) -> Statements:
        """Read the current values, claim, stage."""
        own = self._credential_secrets()
        return [
            *_secrets("Read", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], own),
            *_secrets("Stage", ["secretsmanager:PutSecretValue"], own),
            *self._oci_key(),
            *self._secret_keys(["kms:Decrypt", "kms:GenerateDataKey"], own),
            *self._lock(["dynamodb:GetItem", "dynamodb:UpdateItem"]),
        ]

    def apply_db(self) -> Statements:
        """Read pending, base and the logins of the rotator admins; mute a database that refuses."""
        read = [*self._logins(), *self._admin_secrets()]
        return [
            *_secrets("Read", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], read),
            *self._oci_key(),
            *self._secret_keys(["kms:Decrypt"], read),
            *self._lock(["dynamodb:GetItem", "dynamodb:UpdateItem"]),
        ]

    def update_secrets(self) -> Statements:
        """Mark the claim as promoting, promote, and read back what is served."""
        own = self._credential_secrets()
        return [
            *_secrets("Read", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], own),
            *_secrets("Promote", ["secretsmanager:UpdateSecretVersionStage"], own),
            *self._oci_key(),
            *self._secret_keys(["kms:Decrypt"], own),
            *self._lock(["dynamodb:GetItem", "dynamodb:UpdateItem"]),
        ]

    def audit(self) -> Statements:
        """Append one entry: read the first store for the fingerprint, sign, write the object, move the head."""
        first_is_aws = isinstance(self.plan.stores[0], AwsSecretsManager)
        read = self._logins() if first_is_aws else []
        account = {"aws:ResourceAccount": Aws.ACCOUNT_ID}
        prefixes = audit_prefixes(self.plan)
        objects = [f"{self.bucket_arn}/{prefix}*" for prefix in prefixes]
        return [
            *_secrets("Read", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], read),
            *([] if first_is_aws else self._oci_key()),
            *self._secret_keys(["kms:Decrypt"], read),
            *self._lock(["dynamodb:GetItem", "dynamodb:UpdateItem"]),
            _allow(
                "Append",
                ["s3:PutObject"],
                objects,
                {
                    "Null": {"s3:if-none-match": "false"},
                    "StringEquals": {
                        **account,
                        "s3:x-amz-storage-class": self.plan.audit.aws.storage_class,
                    },
                },
            ),
            _allow("ReadEntries", ["s3:GetObject"], objects, {"StringEquals": account}),
            _allow(
                "ListEntries",
                ["s3:ListBucket"],
                [self.bucket_arn],
                {"StringEquals": {**account, "s3:prefix": prefixes}},
            ),
            _allow(
                "Sign",
                ["kms:GenerateMac"],
                [self.mac_key_arn],
                {"StringEquals": {"kms:MacAlgorithm": "HMAC_SHA_256"}},
            ),
        ]

    def state_machine(self, function_arns: Iterable[str]) -> Statements:
        """Invoke the functions, acquire and release the lock, write the log."""
        return [
            _allow("Call", ["lambda:InvokeFunction"], function_arns),
            *self._lock(["dynamodb:UpdateItem"]),
            # These calls have no resource to name
            # (https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html#cloudwatch-iam-policy).
            _allow(
                "DeliverLogs",
                [
                    "logs:CreateLogDelivery",
                    "logs:DeleteLogDelivery",
                    "logs:DescribeLogGroups",
                    "logs:DescribeResourcePolicies",
                    "logs:GetLogDelivery",
                    "logs:ListLogDeliveries",
                    "logs:PutResourcePolicy",
                    "logs:UpdateLogDelivery",
                ],
                ["*"],
            ),
            trace(["xray:GetSamplingRules", "xray:GetSamplingTargets"]),
        ]

    def oci_runner(self) -> Statements:
        """What the standby does in AWS: a rotation without the rotator admins' logins and without the audit entry."""
        own = self._credential_secrets()
        return [
            *_secrets("Read", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], own),
            *_secrets("Stage", ["secretsmanager:PutSecretValue"], own),
            *_secrets("Promote", ["secretsmanager:UpdateSecretVersionStage"], own),
            *self._secret_keys(["kms:Decrypt", "kms:GenerateDataKey"], own),
            *self._lock(["dynamodb:GetItem", "dynamodb:UpdateItem"]),
        ]

    def _lock(self, actions: list[str]) -> Statements:
        return [
            _allow(
                "Lock",
                actions,
                [self.table_arn],
                {
                    "ForAllValues:StringEquals": {
                        "dynamodb:LeadingKeys": [c.id for c in self.plan.credentials]
                    }
                },
            ),
            _allow(
                "LockKey",
                ["kms:Decrypt"],
                [self.key_arn],
                {
                    "StringEquals": {
                        "kms:ViaService": f"dynamodb.{Aws.REGION}.amazonaws.com",
                        "kms:EncryptionContext:aws:dynamodb:tableName": self.plan.lock.table,
                    }
                },
            ),
        ]

    def _secret_keys(self, actions: list[str], secrets: list[str], *, sid: str = "SecretKeys") -> Statements:
        """Secrets Manager uses the key on behalf of the caller, once for each secret."""
        if not secrets:
            return []
        return [
            _allow(
                sid,
                actions,
                [self.key_arn],
                {
                    "StringEquals": {"kms:ViaService": f"secretsmanager.{Aws.REGION}.amazonaws.com"},
                    "StringLike": {"kms:EncryptionContext:SecretARN": secrets},
                },
            )
        ]

    def _credential_secrets(self) -> list[str]:
        return list(self.secret_arns.values())

    def _logins(self) -> list[str]:
        names = [c.secret_names.app_user for c in self.plan.credentials]
        return [self.secret_arns[name] for name in names if name in self.secret_arns]

    def _admin_secrets(self) -> list[str]:
        used = {server.admin.aws for c in self.plan.credentials for server in c.servers}
        return [_arn_of_secret(name) for name in sorted(used)]

    def _oci_key(self) -> Statements:
        """The API key for the OCI store."""
        name = self.plan.runners.aws.oci_key_secret
        arns = [_arn_of_secret(name)] if name else []
        return [
            *_secrets("OciKey", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], arns),
            *self._secret_keys(["kms:Decrypt"], arns, sid="OciKeyKey"),
        ]


def audit_prefixes(plan: Plan) -> list[str]:
    """The prefixes of the audit log, one for each credential."""
    return [f"aws/{c.id.replace('/', '.')}/" for c in plan.credentials]


def logs(log_group_arn: str) -> iam.PolicyStatement:
    """Write to the log of the function."""
    return _allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [log_group_arn])


def trace(more: Iterable[str] = ()) -> iam.PolicyStatement:
    """Send traces; the calls of X-Ray have no resource to name."""
    return _allow("Trace", ["xray:PutTelemetryRecords", "xray:PutTraceSegments", *more], ["*"])


def network(function_arn: str) -> Statements:
    """Let Lambda attach a function to a VPC, and deny the same calls to the code of the function.

    The calls have no resource that could be named in advance
    (https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions).
    """
    actions = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ]
    return [
        _allow("Network", actions, ["*"]),
        iam.PolicyStatement(
            sid="NotFromCode",
            effect=iam.Effect.DENY,
            actions=actions,
            resources=["*"],
            conditions={"ArnEquals": {"lambda:SourceFunctionArn": function_arn}},
        ),
    ]


def _secrets(sid: str, actions: list[str], arns: list[str]) -> Statements:
    return [_allow(sid, actions, arns)] if arns else []


def _arn_of_secret(name: str) -> str:
    """The ARN of a secret that was created by hand: Secrets Manager appends six characters to its name."""
    if name.startswith("arn:"):
        return name
    return f"arn:{Aws.PARTITION}:secretsmanager:{Aws.REGION}:{Aws.ACCOUNT_ID}:secret:{name}-??????"


def _allow(
    sid: str,
    actions: Iterable[str],
    resources: Iterable[str],
    conditions: Mapping[str, Mapping[str, object]] | None = None,
) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        sid=sid, actions=sorted(actions), resources=list(resources), conditions=conditions
    )
