"""What each function and the state machine may do: no call more than the code makes, on no resource more than it uses.

`docs/iam.md` says of every statement what for; a test holds that table to what is synthesised, another holds what is
synthesised to the calls that a rotation is seen to make.
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
    """Statements for a plan, on the resources of its stack.

    Attributes:
        secret_arns: The credentials' secrets, by name.
        key_arn: Encrypts secrets, lock table and logs.
        mac_key_arn: Signs audit entries.
    """

    plan: Plan
    table_arn: str
    bucket_arn: str
    key_arn: str
    mac_key_arn: str
    secret_arns: Mapping[str, str]

    def generate(self) -> Statements:
        """Read what is current, claim, stage."""
        own = self._credential_secrets()
        return [
            *_secrets("Read", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], own),
            *_secrets("Stage", ["secretsmanager:PutSecretValue"], own),
            *self._oci_key(),
            *self._secret_keys(["kms:Decrypt", "kms:GenerateDataKey"], own),
            *self._lock(["dynamodb:GetItem", "dynamodb:UpdateItem"]),
        ]

    def apply_db(self) -> Statements:
        """Read the logins, pending and current, and the administrators'."""
        read = [*self._logins(), *self._admin_secrets()]
        return [
            *_secrets("Read", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], read),
            *self._oci_key(),
            *self._secret_keys(["kms:Decrypt"], read),
            *self._lock(["dynamodb:GetItem"]),
        ]

    def update_secrets(self) -> Statements:
        """Promote, and see that it is served."""
        own = self._credential_secrets()
        return [
            *_secrets("Read", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], own),
            *_secrets("Promote", ["secretsmanager:UpdateSecretVersionStage"], own),
            *self._oci_key(),
            *self._secret_keys(["kms:Decrypt"], own),
            *self._lock(["dynamodb:GetItem"]),
        ]

    def audit(self) -> Statements:
        """Append one entry: fingerprint from the first store, signature, object, chain head."""
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
        """Call the functions, take and release the lock, log."""
        return [
            _allow("Call", ["lambda:InvokeFunction"], function_arns),
            *self._lock(["dynamodb:UpdateItem"]),
            # Neither has resources to name
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
        """What the standby does in AWS: all of a rotation but the administrators' logins and the audit entry."""
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
        """Secrets Manager uses the key in the caller's name, once for each secret."""
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
        used = {server.admin_secret for c in self.plan.credentials for server in c.servers}
        return [_arn_of_secret(name) for name in sorted(used)]

    def _oci_key(self) -> Statements:
        """The API key with which the OCI store is reached."""
        name = self.plan.runners.aws.oci_key_secret
        arns = [_arn_of_secret(name)] if name else []
        return [
            *_secrets("OciKey", ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"], arns),
            *self._secret_keys(["kms:Decrypt"], arns, sid="OciKeyKey"),
        ]


def audit_prefixes(plan: Plan) -> list[str]:
    """Where the audit log has its entries, credential by credential."""
    return [f"aws/{c.id.replace('/', '.')}/" for c in plan.credentials]


def logs(log_group_arn: str) -> iam.PolicyStatement:
    """A function's own log."""
    return _allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [log_group_arn])


def trace(more: Iterable[str] = ()) -> iam.PolicyStatement:
    """Send traces; X-Ray has no resources to name."""
    return _allow("Trace", ["xray:PutTelemetryRecords", "xray:PutTraceSegments", *more], ["*"])


def network(function_arn: str) -> Statements:
    """Let Lambda attach a function to a VPC, but not the function's own code.

    The calls name no resource, and none can be named in advance
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
    """A secret that somebody else made: Secrets Manager has put six characters behind its name."""
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
