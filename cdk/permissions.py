"""The permissions of each function and of the state machine: exactly the calls that the code makes, on what it uses.

Which attributes of the lock record each role writes is read from the expressions that it sends (protocol E14), so it
cannot fall behind them: DynamoDB compares `dynamodb:Attributes` with the top-level attributes that a request names, in
the update and in the condition, and a list must have the table's key too
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html).

`docs/iam.md` gives the purpose of every statement. One test compares that table with the synthesised template, another
compares the template with the calls that a rotation makes.

No statement names a credential, so that no policy grows with the plan (IAM allows a managed policy 6,144 characters,
and the inline policies of a role 10,240). Secrets are known by their tags, audit entries by their prefix, and in the
lock table everything but the registry of accounts belongs to a credential.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from cdk.resource_policies import AUDIT_PREFIX, DIGEST_PREFIX, PLAN_PREFIX, REPORT_PREFIX
from cdk.settings import rule_name
from lockstep.aws import dynamodb_lock as writes
from lockstep.aws.dynamodb_lock import HEAD
from lockstep.plan.compiled import EventBus
from lockstep.plan.credentials import is_plain_name
from lockstep.plan.model import Plan
from lockstep.plan.stores import AwsSecretsManager
from lockstep.protocol.model import Admin, AdminIam, AdminSecret
from lockstep.protocol.names import (
    SECRET_TAG,
    STACK_TAG,
    SecretKind,
    fleet_machine_name,
    state_machine_name,
)
from lockstep.protocol.orders import ACCOUNT_PREFIX
from lockstep.protocol.schedule import AWS, STANDBY

Attributes = frozenset[str]

_KEY = "credential_id"
_NAMES = {"#plan": "plan", "#format": "format"}
"""The placeholders of attributes whose names are reserved words."""
_WORDS = frozenset({"ADD", "AND", "DELETE", "OR", "REMOVE", "SET"})
_NAME = re.compile(r"(?<![:\w#])#?[A-Za-z_]\w*(?!\w|\s*\()")
"""A name or its placeholder; not a value, and not a function."""
_SIGNING = ("kms:GenerateMac", "kms:GetPublicKey", "kms:Sign", "kms:VerifyMac")
"""What the code itself asks of KMS."""


def named(*expressions: str) -> Attributes:
    """The attributes that expressions name."""
    found = {name for expression in expressions for name in _NAME.findall(expression)}
    return frozenset(_NAMES.get(name, name) for name in found - _WORDS) | {_KEY}


CLAIM = named(
    writes.CLAIM_UPDATE,
    writes.SET_VALID_FROM,
    writes.RAISE_ORDER,
    writes.REMOVE_PHASE,
    writes.REMOVE_ACTIVATION,
    writes.ADD_VALID,
    writes.HELD,
    writes.NEWEST,
    writes.UNDER_ACTIVE_PLAN,
    writes.UNDER_ORDERED_PLAN,
    writes.NOTHING_IN_FLIGHT,
    writes.OPEN,
    writes.PROMOTING,
)
PROMOTE = named(writes.PROMOTE_UPDATE, writes.PROMOTE_CONDITION)
RELEASE = named(writes.RELEASE_UPDATE, writes.RELEASE_CONDITION)
_RUN = RELEASE | named(writes.ACQUIRE_UPDATE, writes.ACQUIRE_CONDITION, writes.RELEASE_DONE_UPDATE)
STATE_MACHINE, _OCI_RUN = (_RUN - {"#head"} | {f"{HEAD}{stream}"} for stream in (AWS, STANDBY))
"""A run moves the head of its own cloud's stream when it gives the lock back."""

GENERATE, UPDATE_SECRETS = CLAIM, PROMOTE
OCI_RUNNER = CLAIM | PROMOTE | _OCI_RUN


Statements = list[iam.PolicyStatement]


def allow(
    sid: str,
    actions: Iterable[str],
    resources: Iterable[str],
    conditions: Mapping[str, Mapping[str, object]] | None = None,
) -> iam.PolicyStatement:
    """A statement that allows some actions."""
    return iam.PolicyStatement(
        sid=sid, actions=sorted(actions), resources=list(resources), conditions=conditions
    )


def _executions(machine: str) -> str:
    """Every execution of a state machine; each has a name of its own."""
    return f"arn:{Aws.PARTITION}:states:{Aws.REGION}:{Aws.ACCOUNT_ID}:execution:{machine}:*"


def start(state_machine_arn: str, aliases: Iterable[str]) -> iam.PolicyStatement:
    """Start rotations by an alias.

    Step Functions compares the ARN of the machine, and the alias as a condition
    (https://docs.aws.amazon.com/step-functions/latest/dg/auth-version-alias.html).
    """
    return allow(
        "Start",
        ["states:StartExecution"],
        [state_machine_arn],
        {"ForAnyValue:StringEquals": {"states:StateMachineQualifier": list(aliases)}},
    )


def dead_letters(queue_arn: str, stack: str) -> iam.PolicyStatement:
    """Let every rule of the stack write to the queue: a queue's policy has at most 20 statements.

    See https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-policies.html.
    """
    rules = f"arn:{Aws.PARTITION}:events:{Aws.REGION}:{Aws.ACCOUNT_ID}:rule/{rule_name(stack, '*')}"
    return iam.PolicyStatement(
        sid="Rules",
        principals=[iam.ServicePrincipal("events.amazonaws.com")],
        actions=["sqs:SendMessage"],
        resources=[queue_arn],
        conditions={"ArnLike": {"aws:SourceArn": rules}},
    )


def logs(log_group_arn: str) -> iam.PolicyStatement:
    """Write to the log of the function."""
    return allow("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [log_group_arn])


def log_of_a_machine() -> Statements:
    """Write the log and the traces of a state machine.

    These calls have no resource to name
    (https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html#cloudwatch-iam-policy).
    """
    on_deliveries = [f"{verb}LogDelivery" for verb in ("Create", "Delete", "Get", "Update")]
    calls = ["DescribeLogGroups", "DescribeResourcePolicies", "ListLogDeliveries", "PutResourcePolicy"]
    return [
        allow("DeliverLogs", [f"logs:{call}" for call in (*on_deliveries, *calls)], ["*"]),
        trace(["xray:GetSamplingRules", "xray:GetSamplingTargets"]),
    ]


def trace(more: Iterable[str] = ()) -> iam.PolicyStatement:
    """Send traces; the calls of X-Ray have no resource to name."""
    return allow("Trace", ["xray:PutTelemetryRecords", "xray:PutTraceSegments", *more], ["*"])


def _of_code(function_arn: str) -> Mapping[str, object]:
    """The condition that a request is of a function's code, in whatever version."""
    return {"lambda:SourceFunctionArn": [function_arn, f"{function_arn}:*"]}


def from_code_only(function_arn: str) -> iam.PolicyStatement:
    """Deny to whoever has the credentials of a function's role elsewhere what the code of the function may do.

    Lambda adds the key to the requests of the function's environment
    (https://docs.aws.amazon.com/lambda/latest/dg/permissions-source-function-arn.html). What a service asks of KMS for
    the code, and what Lambda does for a VPC, has none. Whether a login to a database by IAM has it is not documented.
    """
    return iam.PolicyStatement(
        sid="FromCodeOnly",
        effect=iam.Effect.DENY,
        actions=["dynamodb:*", "events:*", *_SIGNING, "s3:*", "secretsmanager:*", "states:*", "sts:*"],
        resources=["*"],
        conditions={"ArnNotEquals": _of_code(function_arn)},
    )


def network(function_arn: str) -> Statements:
    """Let Lambda attach a function to a VPC, and deny the same calls to the code of the function.

    The calls have no resource that could be named in advance
    (https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html#configuration-vpc-permissions).
    """
    on_addresses = ("ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses", "ec2:DescribeSubnets")
    calls = ("CreateNetworkInterface", "DeleteNetworkInterface", "DescribeNetworkInterfaces")
    actions = sorted([*on_addresses, *(f"ec2:{call}" for call in calls)])
    return [
        allow("Network", actions, ["*"]),
        iam.PolicyStatement(
            sid="NotFromCode",
            effect=iam.Effect.DENY,
            actions=actions,
            resources=["*"],
            conditions={"ArnEquals": _of_code(function_arn)},
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class NamedKey:
    """A key, as a policy can name it.

    Attributes:
        arn: Its ARN; of any key of the account and region, if only its alias is known.
        alias: The alias that it must have, where `arn` does not name one key.
    """

    arn: str
    alias: str | None = None

    @property
    def named(self) -> str:
        """What a call names: the key, or its alias where that is all that is known."""
        return self.arn.replace("key/*", self.alias) if self.alias else self.arn

    @property
    def condition(self) -> Mapping[str, Mapping[str, object]]:
        """The condition under which a key is this one, where it is known by its alias only."""
        # https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-resource-aliases
        return {"ForAnyValue:StringEquals": {"kms:ResourceAliases": self.alias}} if self.alias else {}


OWN = (SecretKind.APP_USER, SecretKind.CONNECTION_BLOB)
ANY_SECRET = f"arn:{Aws.PARTITION}:secretsmanager:{Aws.REGION}:{Aws.ACCOUNT_ID}:secret:*"
SYNC_RULE = "StepFunctionsGetEventsForStepFunctionsExecutionRule"
"""The managed rule of every state machine that awaits executions."""
_OURS = {"StringEquals": {"aws:ResourceAccount": Aws.ACCOUNT_ID}}
"""The condition that a bucket is of this account: names of buckets are global."""
READ = ("secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue")
"""To read a secret."""


@dataclass(frozen=True, kw_only=True)
class Grants:
    """The statements for a plan, on the resources of its stack.

    Attributes:
        stack: The value of the tag by which the stack's secrets are known.
        plan_bucket_arn: The bucket of the published plan.
        key_arns: The keys that encrypt secrets and lock table.
        mac_key: The key that signs audit entries, but for orders.
        order_key: The key that signs orders.
        digest_key: The key that signs digests.
        client_key: The key that signs for the application in OCI's identity domain, where the plan names one.
    """

    plan: Plan
    stack: str
    table_arn: str
    bucket_arn: str
    plan_bucket_arn: str
    key_arns: Sequence[str]
    mac_key: NamedKey
    order_key: NamedKey
    digest_key: NamedKey
    client_key: NamedKey | None = None

    def generate(self) -> Statements:
        """Read the current values, claim, stage."""
        own = self._own()
        return [
            *self.secrets("Read", READ, own),
            *self.secrets("Stage", ["secretsmanager:PutSecretValue"], own),
            *self.secret_keys(["kms:Decrypt", "kms:GenerateDataKey"], own),
            *self._lock(GENERATE),
        ]

    def apply_db(self) -> Statements:
        """Read pending, base, the logins of the rotation users and the lock record."""
        listed, by_tag = self._admin_secrets()
        read = [*([SecretKind.APP_USER] if self._own() else []), *([SecretKind.ADMIN] if by_tag else [])]
        return [
            *self.secrets("Read", READ, read),
            *([allow("ReadAdmins", READ, listed)] if listed else []),
            *self.secret_keys(["kms:Decrypt"], read, listed=listed),
            *self._iam_logins(),
            *self._lock(),
        ]

    def update_secrets(self) -> Statements:
        """Mark the claim as promoting, promote, and read back what is served."""
        own = self._own()
        return [
            *self.secrets("Read", READ, own),
            *self.secrets("Promote", ["secretsmanager:UpdateSecretVersionStage"], own),
            *self.secret_keys(["kms:Decrypt"], own),
            *self._lock(UPDATE_SECRETS),
        ]

    def audit(self) -> Statements:
        """Append one entry: read the lock record, sign, write the object."""
        return [
            *self._lock(),
            # Classes of every plan: a run under way goes on with the one that it began with (protocol R14).
            self._write("Append", AUDIT_PREFIX, ["STANDARD"]),
            *self._objects(AUDIT_PREFIX),
            allow(
                "Sign",
                ["kms:GenerateMac", "kms:VerifyMac"],
                [self.mac_key.arn],
                {"StringEquals": {"kms:MacAlgorithm": "HMAC_SHA_256"}, **self.mac_key.condition},
            ),
            _recognise("RecogniseOrders", self.order_key),
            *self._retired_keys(),
        ]

    def digest(self) -> Statements:
        """Read both folders of the bucket, recognise what was signed, write one digest and sign it."""
        signed = {"kms:MessageType": "DIGEST", "kms:SigningAlgorithm": "RSASSA_PKCS1_V1_5_SHA_256"}
        key = self.digest_key
        return [
            *self._objects(AUDIT_PREFIX, DIGEST_PREFIX),
            self._write("WriteDigest", DIGEST_PREFIX, ["STANDARD"]),
            _recognise("RecogniseRuns", self.mac_key),
            _recognise("RecogniseOrders", self.order_key),
            *self._retired_keys(),
            allow("SignDigest", ["kms:Sign"], [key.arn], {"StringEquals": signed, **key.condition}),
            allow("TellKey", ["kms:GetPublicKey"], [key.arn], key.condition or None),
        ]

    def state_machine(self, function_arns: Iterable[str]) -> Statements:
        """Invoke any version of the functions, acquire and release the lock, write the log.

        A run under way calls the versions that it began with, so older ones are allowed too.
        """
        return [
            allow("Call", ["lambda:InvokeFunction"], [f"{arn}:*" for arn in function_arns]),
            *self._lock(STATE_MACHINE, returned="UPDATED_NEW"),
            *log_of_a_machine(),
        ]

    def fleet_machine(self, bucket_arn: str, rotation_arn: str, aliases: Iterable[str]) -> Statements:
        """Read the list of a shard, start and await rotations, count and report their outcomes.

        It cannot stop a rotation: where its own execution is stopped, those that have begun end by themselves.

        Args:
            bucket_arn: The bucket of plans and reports.
            rotation_arn: The state machine of rotations.
            aliases: Those by which it starts them.
        """
        own = fleet_machine_name(self.stack)
        states = f"arn:{Aws.PARTITION}:states:{Aws.REGION}:{Aws.ACCOUNT_ID}"
        return [
            allow("ReadShard", ["s3:GetObject"], [f"{bucket_arn}/{PLAN_PREFIX}*/shards/*"], _OURS),
            start(rotation_arn, aliases),
            # Whatever the names of the map's items, each is an execution of this machine
            # (https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html).
            allow("StartItems", ["states:StartExecution"], [f"{states}:stateMachine:{own}"]),
            allow(
                "Await",
                ["states:DescribeExecution"],
                [_executions(state_machine_name(self.stack)), _executions(own)],
            ),
            # A managed rule, by which Step Functions learns that an execution has ended
            # (https://docs.aws.amazon.com/step-functions/latest/dg/connect-stepfunctions.html).
            allow(
                "AwaitByRule",
                ["events:DescribeRule", "events:PutRule", "events:PutTargets"],
                [f"arn:{Aws.PARTITION}:events:{Aws.REGION}:{Aws.ACCOUNT_ID}:rule/{SYNC_RULE}"],
            ),
            allow("Count", ["states:DescribeMapRun"], [f"{states}:mapRun:{own}/*"]),
            # (https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html)
            allow(
                "WriteReport",
                ["s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"],
                [f"{bucket_arn}/{REPORT_PREFIX}*"],
                _OURS,
            ),
            *log_of_a_machine(),
        ]

    def oci_runner(self) -> Statements:
        """What the standby does in AWS: a rotation without the rotation users' logins and without the audit entry."""
        own = self._own()
        return [
            *self.secrets("Read", READ, own),
            *self.secrets("Stage", ["secretsmanager:PutSecretValue"], own),
            *self.secrets("Promote", ["secretsmanager:UpdateSecretVersionStage"], own),
            *self.secret_keys(["kms:Decrypt", "kms:GenerateDataKey"], own),
            *self._iam_logins(),
            # A call looks at all records at once, for what is due (protocol R5).
            allow("Scan", ["dynamodb:Scan"], [self.table_arn]),
            *self._lock(OCI_RUNNER),
            *self._objects(DIGEST_PREFIX),
        ]

    def watch(self) -> Statements:
        """Read the whole lock table."""
        return [allow("Scan", ["dynamodb:Scan"], [self.table_arn]), self._lock_key()]

    def announce(self, bus: EventBus) -> Statements:
        """Send events to the bus; ask Step Functions for the name of the error with which an execution failed."""
        account = Aws.ACCOUNT_ID
        return [
            allow(
                "Send",
                ["events:PutEvents"],
                [f"arn:{Aws.PARTITION}:events:{bus.region}:{account}:event-bus/{bus.name}"],
            ),
            allow("AskWhy", ["states:DescribeExecution"], [_executions(state_machine_name(self.stack))]),
        ]

    def read_plan(self) -> Statements:
        """Read what is published of a plan, under whatever digest: each function is told its own by its environment.

        Who may not list a bucket is told that an object is denied where it is missing
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html).
        """
        return [
            allow("ReadPlan", ["s3:GetObject"], [f"{self.plan_bucket_arn}/{PLAN_PREFIX}*"], _OURS),
            allow("MissPlan", ["s3:ListBucket"], [self.plan_bucket_arn], _OURS),
        ]

    def _write(self, sid: str, folder: str, classes: Sequence[str]) -> iam.PolicyStatement:
        """Write a new object of the audit bucket, of some storage classes; without a class it is STANDARD."""
        return allow(
            sid,
            ["s3:PutObject"],
            [f"{self.bucket_arn}/{folder}*"],
            {
                "Null": {"s3:if-none-match": "false"},
                **_OURS,
                "StringEqualsIfExists": {"s3:x-amz-storage-class": classes},
            },
        )

    def _objects(self, *folders: str) -> Statements:
        """Read folders of the audit bucket."""
        objects = [f"{self.bucket_arn}/{folder}*" for folder in folders]
        return [
            allow("ReadEntries", ["s3:GetObject"], objects, _OURS),
            allow(
                "ListEntries",
                ["s3:ListBucket"],
                [self.bucket_arn],
                {**_OURS, "StringLike": {"s3:prefix": [f"{folder}*" for folder in folders]}},
            ),
        ]

    def _retired_keys(self) -> Statements:
        """Recognise entries that an earlier key signed."""
        audit = self.plan.audit.aws
        arns = [
            key
            if key.startswith("arn:")
            else f"arn:{Aws.PARTITION}:kms:{self.plan.lock.region}:{Aws.ACCOUNT_ID}:key/{key}"
            for key in audit.retired_mac_keys
        ]
        return [allow("Recognise", ["kms:VerifyMac"], arns)] if arns else []

    def _lock(self, attributes: Attributes = frozenset(), *, returned: str | None = None) -> Statements:
        """Read the record, and write some attributes of it (protocol E14).

        Args:
            attributes: Those that the role's updates and their conditions name; none: it only reads.
            returned: What its writes may return of the record, where it does not read it; None: it reads it.
        """
        # The registry of accounts is for operators (protocol O8). A request without a key, or without an attribute,
        # would meet ForAllValues alone
        # (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html).
        items = {"ForAllValues:StringNotLike": {"dynamodb:LeadingKeys": f"{ACCOUNT_PREFIX}*"}}
        write = allow(
            "WriteLock",
            ["dynamodb:UpdateItem"],
            [self.table_arn],
            {
                **items,
                "ForAllValues:StringEquals": {"dynamodb:Attributes": sorted(attributes)},
                "Null": {"dynamodb:LeadingKeys": "false", "dynamodb:Attributes": "false"},
                **(
                    {"StringEqualsIfExists": {"dynamodb:ReturnValues": [returned, "NONE"]}}
                    if returned
                    else {}
                ),
            },
        )
        read = allow(
            "ReadLock",
            ["dynamodb:GetItem"],
            [self.table_arn],
            {**items, "Null": {"dynamodb:LeadingKeys": "false"}},
        )
        return [*([] if returned else [read]), *([write] if attributes else []), self._lock_key()]

    def _lock_key(self) -> iam.PolicyStatement:
        """DynamoDB uses the key on behalf of the caller."""
        return allow(
            "LockKey",
            ["kms:Decrypt"],
            self.key_arns,
            {
                "StringEquals": {
                    "kms:ViaService": f"dynamodb.{Aws.REGION}.amazonaws.com",
                    "kms:EncryptionContext:aws:dynamodb:tableName": self.plan.lock.table,
                }
            },
        )

    def secrets(self, sid: str, actions: Iterable[str], kinds: Sequence[SecretKind]) -> Statements:
        """Secrets of this stack, of some kinds.

        Secrets Manager compares the tags that the secret has at the call
        (https://docs.aws.amazon.com/service-authorization/latest/reference/list_awssecretsmanager.html).
        """
        if not kinds:
            return []
        tags = {f"aws:ResourceTag/{STACK_TAG}": self.stack, f"aws:ResourceTag/{SECRET_TAG}": list(kinds)}
        return [allow(sid, actions, [ANY_SECRET], {"StringEquals": tags})]

    def secret_keys(
        self,
        actions: list[str],
        kinds: Sequence[SecretKind],
        *,
        sid: str = "SecretKeys",
        listed: Sequence[str] = (),
    ) -> Statements:
        """Secrets Manager uses the key on behalf of the caller, only for a secret that the caller may use."""
        if not kinds and not listed:
            return []
        regions = sorted({arn.split(":")[3] for arn in listed} - {Aws.REGION})
        # The secrets themselves are listed where they are read.
        contexts = sorted({":".join([*arn.split(":")[:6], "*"]) for arn in listed} - {ANY_SECRET})
        return [
            allow(
                sid,
                actions,
                self.key_arns,
                {
                    "StringEquals": {
                        "kms:ViaService": [
                            f"secretsmanager.{region}.amazonaws.com" for region in (Aws.REGION, *regions)
                        ]
                    },
                    "StringLike": {"kms:EncryptionContext:SecretARN": [ANY_SECRET, *contexts]},
                },
            )
        ]

    def _own(self) -> list[SecretKind]:
        """The kinds of the credentials' secrets, if a store is in AWS."""
        return list(OWN) if self.plan.store(AwsSecretsManager) else []

    def _admin_secrets(self) -> tuple[list[str], bool]:
        """Those by ARN, of another account or region, or RDS's, whose tags are not ours; and whether others exist."""
        secrets = {a.aws for a in _admins(self.plan) if isinstance(a, AdminSecret)}
        listed = sorted(secret for secret in secrets if not is_plain_name(secret))
        return [_arn_of_secret(secret) for secret in listed], len(listed) < len(secrets)

    def _iam_logins(self) -> Statements:
        """Log in as a rotation user without a password: one resource for each account and region, not for each server.

        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.IAMPolicy.html
        """
        place = f"{Aws.ACCOUNT_ID}:dbuser:*"
        arns = [f"arn:{Aws.PARTITION}:rds-db:{r}:{place}/{name}" for r, name in iam_logins(self.plan)]
        return [allow("DatabaseLogin", ["rds-db:connect"], arns)] if arns else []


def _recognise(sid: str, key: NamedKey) -> iam.PolicyStatement:
    """Verify what a key of HMAC has signed."""
    algorithm = {"StringEquals": {"kms:MacAlgorithm": "HMAC_SHA_256"}}
    return allow(sid, ["kms:VerifyMac"], [key.arn], {**algorithm, **key.condition})


def iam_logins(plan: Plan) -> list[tuple[str, str]]:
    """Region and username of the rotation users that log in by RDS IAM authentication, each pair once."""
    return sorted({(admin.region, admin.username) for admin in _admins(plan) if isinstance(admin, AdminIam)})


def _admins(plan: Plan) -> set[Admin]:
    return {server.admin for c in plan.credentials for server in c.servers}


def _arn_of_secret(secret: str) -> str:
    """The ARN; of a name the pattern of it, since Secrets Manager appends six characters."""
    if secret.startswith("arn:"):
        return secret
    return f"{ANY_SECRET.removesuffix('*')}{secret}-??????"
