"""An AWS account in which nothing is wrong: what the stack, an operator and people make, with the names of the plan."""

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

from lockstep import __version__
from lockstep.operate.secrets import Wanted, wanted
from lockstep.plan.model import Plan
from lockstep.plan.published import INDEX, PlanInS3, folder_of, place_in_aws
from lockstep.protocol.model import FORMAT
from lockstep.protocol.names import (
    DEFAULT_STACK,
    FORMAT_OUTPUT,
    LIVE,
    VERSION_OUTPUT,
    SecretKind,
    announce_rule_name,
    canary_alarm_name,
    fleet_machine_name,
    rule_name,
    state_machine_name,
)
from lockstep.protocol.schedule import cron_expression
from lockstep.runtime.wiring import PLAN_VARIABLE
from sandbox.aws import AwsSandbox, create_state_machine
from sandbox.plans import AUDIT_BUCKET, EVENT_BUS, LOCK_TABLE
from sandbox.steps import FUNCTIONS, ROOT


class AwsWorld:
    """The account.

    Attributes:
        topics: The ARNs of the topics of alarms.
    """

    def __init__(self, sandbox: AwsSandbox, plan: Plan, oci_key: str) -> None:
        self.sandbox, self.plan = sandbox, plan
        self.topics: list[str] = []
        self._oci_key = oci_key
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:  # noqa: ANN401 - of boto3
        """A client that may do everything."""
        if service not in self._clients:
            self._clients[service] = self.sandbox.client(service)
        return self._clients[service]

    def fill(self) -> None:
        """Make everything."""
        self._table()
        self._bucket()
        self._plan_bucket()
        for one in wanted(self.plan):
            self.secret(one)
        self._machine()
        self._fleet()
        self._stack()
        self._rules()
        self._alarms()
        self._events()

    def _table(self) -> None:
        dynamodb = self.client("dynamodb")
        dynamodb.create_table(
            TableName=LOCK_TABLE,
            AttributeDefinitions=[{"AttributeName": "credential_id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "credential_id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            DeletionProtectionEnabled=True,
        )
        dynamodb.update_continuous_backups(
            TableName=LOCK_TABLE, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
        for credential in self.plan.credentials:
            self.record(credential.id, plan={"S": credential.plan_digest}, format={"N": str(FORMAT)})

    def record(self, credential_id: str, **attributes: Any) -> None:  # noqa: ANN401 - of DynamoDB
        """Set attributes of a lock record."""
        self.client("dynamodb").update_item(
            TableName=LOCK_TABLE,
            Key={"credential_id": {"S": credential_id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
        )

    def _bucket(self) -> None:
        s3 = self.client("s3")
        s3.create_bucket(
            Bucket=AUDIT_BUCKET,
            ObjectLockEnabledForBucket=True,
            CreateBucketConfiguration={"LocationConstraint": self.sandbox.region},
        )
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": self.plan.audit.aws.retention.days}}
        self.lock_bucket({"ObjectLockEnabled": "Enabled", "Rule": rule})

    def lock_bucket(self, configuration: dict[str, object]) -> None:
        """Set the default retention of the audit bucket."""
        self.client("s3").put_object_lock_configuration(
            Bucket=AUDIT_BUCKET, ObjectLockConfiguration=configuration
        )

    def _plan_bucket(self) -> None:
        self.client("s3").create_bucket(
            Bucket=self.place.bucket, CreateBucketConfiguration={"LocationConstraint": self.sandbox.region}
        )
        self.client("s3").put_object(Bucket=self.place.bucket, Key=self.index, Body=b"{}")

    @property
    def place(self) -> PlanInS3:
        """Where the functions have their plan."""
        return place_in_aws(self.plan.compiled, "d1" * 32)

    @property
    def index(self) -> str:
        """The index of it."""
        return f"{folder_of(self.place.digest)}/{INDEX}"

    def secret(self, one: Wanted) -> None:
        """Make a secret, tagged as `lockstep secrets` tags it."""
        texts = {SecretKind.RUNNER_KEY: self._oci_key, SecretKind.ADMIN: '{"username": "a", "password": "b"}'}
        self.client("secretsmanager").create_secret(
            Name=one.name,
            SecretString=texts.get(one.kind, '{"placeholder": true}'),
            Tags=[{"Key": key, "Value": value} for key, value in one.tags(DEFAULT_STACK).items()],
        )

    def _make_role(self) -> None:
        trust = {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Service": "lambda.amazonaws.com"},
        }
        self.client("iam").create_role(
            RoleName="lockstep", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]})
        )

    def _machine(self) -> None:
        self._make_role()
        arns = {placeholder: self._function(step) for placeholder, step in FUNCTIONS.items()}
        states = self.client("stepfunctions")
        arn = create_state_machine(
            states,
            state_machine_name(DEFAULT_STACK),
            (ROOT / "statemachine.asl.json").read_text(),
            {**arns, "LockTable": LOCK_TABLE},
            role_arn=self._role,
        )
        states.update_state_machine(
            stateMachineArn=arn,
            loggingConfiguration={
                "level": "ALL",
                "includeExecutionData": False,
                "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": f"{self._logs}:*"}}],
            },
        )
        version = states.publish_state_machine_version(stateMachineArn=arn)["stateMachineVersionArn"]
        routing = [{"stateMachineVersionArn": version, "weight": 100}]
        self.machine = arn
        self.live = states.create_state_machine_alias(name=LIVE, routingConfiguration=routing)[
            "stateMachineAliasArn"
        ]

    def _fleet(self) -> None:
        self.fleet = create_state_machine(
            self.client("stepfunctions"),
            fleet_machine_name(DEFAULT_STACK),
            (ROOT / "cdk" / "fleet.asl.json").read_text(),
            {
                "PlanBucket": self.place.bucket,
                "ReportBucket": self.place.bucket,
                "LiveAlias": self.live,
                "CanaryAlias": self.live,
                "Canary": "",
            },
            role_arn=self._role,
        )

    @property
    def _role(self) -> str:
        return f"arn:aws:iam::{self.sandbox.account_id}:role/lockstep"

    @property
    def _logs(self) -> str:
        return (
            f"arn:aws:logs:{self.sandbox.region}:{self.sandbox.account_id}:log-group:/aws/vendedlogs/states/x"
        )

    def _function(self, step: str) -> str:
        """A function whose code nobody calls here; the ARN of its version."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("handler.py", "def handler(event, context): return event\n")
        made = self.client("lambda").create_function(
            FunctionName=f"{DEFAULT_STACK}-{step.replace('_', '-')}",
            Role=self._role,
            Code={"ZipFile": packed.getvalue()},
            Runtime="python3.13",
            Handler="handler.handler",
            Environment={"Variables": {PLAN_VARIABLE: str(self.place)}},
        )
        version = self.client("lambda").publish_version(FunctionName=made["FunctionName"])
        arn: str = version["FunctionArn"]
        return arn

    def _stack(self) -> None:
        template = {
            "Resources": {
                name.title(): {
                    "Type": "AWS::SNS::Topic",
                    "Properties": {"TopicName": f"{DEFAULT_STACK}-{name}"},
                }
                for name in ("page", "ticket")
            },
            "Outputs": {
                VERSION_OUTPUT: {"Value": __version__},
                FORMAT_OUTPUT: {"Value": str(FORMAT)},
            },
        }
        self.template = template
        self.client("cloudformation").create_stack(StackName=DEFAULT_STACK, TemplateBody=json.dumps(template))

    def rotate_by_aws(self, secret: str) -> None:
        """Switch AWS's own rotation on, as a console does."""
        self.client("secretsmanager").rotate_secret(
            SecretId=secret,
            RotationLambdaARN=self.client("lambda").list_functions()["Functions"][0]["FunctionArn"],
            RotationRules={"AutomaticallyAfterDays": 30},
            RotateImmediately=False,
        )

    def _rules(self) -> None:
        for shard in self.plan.shards:
            self.rule(shard.name, cron_expression(shard.interval, shard.phase))
            self.target(shard.name, self.fleet, {"shard": shard.name, "plan": self.place.digest})

    def rule(self, shard: str, expression: str) -> None:
        """Make the rule of a shard."""
        self.client("events").put_rule(
            Name=rule_name(DEFAULT_STACK, shard), ScheduleExpression=expression, State="ENABLED"
        )

    def target(self, shard: str, arn: str, started: Mapping[str, str]) -> None:
        """Make or change the target of a shard's rule."""
        # As CDK writes it: the time is put in without quotation marks.
        template = json.dumps({**started, "time": "TIME"}).replace('"TIME"', "<time>")
        transformer = {"InputPathsMap": {"time": "$.time"}, "InputTemplate": template}
        self.client("events").put_targets(
            Rule=rule_name(DEFAULT_STACK, shard),
            Targets=[{"Id": "start", "Arn": arn, "RoleArn": self._role, "InputTransformer": transformer}],
        )

    def _events(self) -> None:
        events, rule = self.client("events"), announce_rule_name(DEFAULT_STACK)
        events.create_event_bus(Name=EVENT_BUS)
        events.put_rule(Name=rule, EventPattern=json.dumps({"source": ["aws.states"]}), State="ENABLED")
        arn = self._function("announce").rpartition(":")[0]
        events.put_targets(Rule=rule, Targets=[{"Id": "announce", "Arn": arn}])

    def _alarms(self) -> None:
        sns = self.client("sns")
        self.topics = sorted(t["TopicArn"] for t in sns.list_topics()["Topics"])
        for topic in self.topics:
            # A queue's subscription is confirmed at once, a mail's by its reader.
            name = f"{topic.rpartition(':')[2]}-queue"
            self.client("sqs").create_queue(QueueName=name)
            endpoint = f"{topic.replace(':sns:', ':sqs:').rpartition(':')[0]}:{name}"
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint)
            self.alarm(f"{DEFAULT_STACK}-{topic.rpartition('-')[2].title()}", topic)

        self.alarm(canary_alarm_name(DEFAULT_STACK))

    def alarm(self, name: str, *topics: str) -> None:
        """Make or change an alarm."""
        self.client("cloudwatch").put_metric_alarm(
            AlarmName=name,
            Namespace="Lockstep",
            MetricName="Stale",
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=1,
            ComparisonOperator="GreaterThanOrEqualToThreshold",
            AlarmActions=list(topics),
        )
