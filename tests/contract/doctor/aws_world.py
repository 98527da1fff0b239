"""An AWS account in which nothing is wrong: what the stack, an operator and people make, with the names of the plan."""

import io
import json
import time
import zipfile
from typing import Any

from lockstep.operate.secrets import Wanted, wanted
from lockstep.plan.model import Plan
from lockstep.protocol.model import FORMAT
from lockstep.protocol.names import DEFAULT_STACK, SecretKind
from sandbox.emulators.aws import AwsSandbox
from sandbox.plans import AUDIT_BUCKET, LOCK_TABLE


class AwsWorld:
    """The account."""

    def __init__(self, sandbox: AwsSandbox, plan: Plan, oci_key: str) -> None:
        self.sandbox, self.plan = sandbox, plan
        self._oci_key = oci_key
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:  # noqa: ANN401 - of boto3
        """A client that may do everything."""
        if service not in self._clients:
            self._clients[service] = self.sandbox.client(service)
        return self._clients[service]

    def fill(self) -> None:
        """Make everything."""
        self.client("dynamodb").create_table(
            TableName=LOCK_TABLE,
            AttributeDefinitions=[{"AttributeName": "credential_id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "credential_id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        for credential in self.plan.credentials:
            self.record(
                credential.id,
                plan={"S": credential.plan_digest},
                format={"N": str(FORMAT)},
                next_due_at={"N": str(int(time.time()) + 600)},
            )
        place = {"LocationConstraint": self.sandbox.region}
        self.client("s3").create_bucket(Bucket=AUDIT_BUCKET, CreateBucketConfiguration=place)
        for one in wanted(self.plan):
            self.secret(one)

    def record(self, credential_id: str, **attributes: Any) -> None:  # noqa: ANN401 - of DynamoDB
        """Set attributes of a lock record."""
        self.client("dynamodb").update_item(
            TableName=LOCK_TABLE,
            Key={"credential_id": {"S": credential_id}},
            UpdateExpression="SET " + ", ".join(f"#{name} = :{name}" for name in attributes),
            ExpressionAttributeNames={f"#{name}": name for name in attributes},
            ExpressionAttributeValues={f":{name}": value for name, value in attributes.items()},
        )

    def secret(self, one: Wanted) -> None:
        """Make a secret, tagged as `lockstep secrets` tags it."""
        texts = {SecretKind.RUNNER_KEY: self._oci_key, SecretKind.ADMIN: '{"username": "a", "password": "b"}'}
        self.client("secretsmanager").create_secret(
            Name=one.name,
            SecretString=texts.get(one.kind, '{"placeholder": true}'),
            Tags=[{"Key": key, "Value": value} for key, value in one.tags(DEFAULT_STACK).items()],
        )

    def rotate_by_aws(self, secret: str) -> None:
        """Switch AWS's own rotation on, as a console does, by a function whose code nobody calls here."""
        trust = {
            "Effect": "Allow",
            "Action": "sts:AssumeRole",
            "Principal": {"Service": "lambda.amazonaws.com"},
        }
        role = self.client("iam").create_role(
            RoleName="rotates", AssumeRolePolicyDocument=json.dumps({"Statement": [trust]})
        )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("handler.py", "def handler(event, context): return event\n")
        made = self.client("lambda").create_function(
            FunctionName="rotates",
            Role=role["Role"]["Arn"],
            Code={"ZipFile": packed.getvalue()},
            Runtime="python3.13",
            Handler="handler.handler",
        )
        self.client("secretsmanager").rotate_secret(
            SecretId=secret,
            RotationLambdaARN=made["FunctionArn"],
            RotationRules={"AutomaticallyAfterDays": 30},
            RotateImmediately=False,
        )
