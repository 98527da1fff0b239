"""What a request asks of IAM: the actions, their resources, and the keys that conditions ask for.

It knows the services and operations that Lockstep's functions and state machine call.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from moto.dynamodb.models import dynamodb_backends
from moto.kms.models import kms_backends
from moto.s3.models import FakeKey, s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from werkzeug.wrappers import Request

from sandbox.emulators.aws import query
from sandbox.emulators.aws.item_access import item_context
from sandbox.emulators.aws.policies import Call
from sandbox.emulators.aws.s3_actions import s3_calls
from sandbox.emulators.aws.sts_actions import sts_calls

if TYPE_CHECKING:
    from sandbox.emulators.aws.patching import Foreign

INVOKE = re.compile(r"/2015-03-31/functions/(?P<function>.+)/invocations")
_PREFIXES = {"AWSStepFunctions": "states"}
"""Of actions, where that is not the service in the header of the request."""
_WITHOUT_KEY = {"DescribeTable", "Scan"}


@dataclass(frozen=True)
class Actions:
    """Knows the actions of requests in one region of one account, with whatever of its resources decides them."""

    region: str
    account_id: str

    def calls(self, request: Request, body: bytes) -> Iterator[Call]:
        """What a caller must be allowed to do; one request may be several actions."""
        target = request.headers.get("X-Amz-Target", "")
        service, _, operation = target.rpartition(".")
        if invoked := INVOKE.fullmatch(request.path):
            yield self._invocation(unquote(invoked["function"]), request.args.get("Qualifier"))
        elif service == "secretsmanager":
            yield from self._secret_calls(operation, json.loads(body))
        elif service.startswith("DynamoDB"):
            yield from self._table_calls(operation, json.loads(body))
        elif service == "TrentService":
            yield from self._key_calls(operation, json.loads(body))
        elif service == "AWSEvents":
            yield from self._event_calls(operation, json.loads(body))
        elif service == "AWSStepFunctions":
            yield _states_call(operation, json.loads(body))
        elif (form := query.read(request.environ)) and form.service == "sts":
            yield from sts_calls(form)
        elif form:
            yield Call(action=f"{form.service}:{form.action}", resource="*")
        elif target:
            yield Call(action=f"{_PREFIXES.get(service, service)}:{operation}", resource="*")
        else:
            always = {
                "aws:ResourceAccount": (self.account_id,),
                "aws:SecureTransport": ("true",),
                "s3:TlsVersion": ("1.3",),
            }
            yield from s3_calls(request, body, always)

    def absence(self, request: Request) -> Iterator[Call]:
        """What a caller needs to be told that an object is missing, which is else denied.

        It must be allowed to list the bucket, and a read of an object names no prefix
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html).
        """
        bucket, _, key = request.path.lstrip("/").partition("/")
        found: Foreign = s3_backends[self.account_id]["aws"].buckets.get(bucket)
        is_read = request.method in {"GET", "HEAD"} and "X-Amz-Target" not in request.headers
        if is_read and found and key and not isinstance(found.keys.get(unquote(key)), FakeKey):
            always = {"aws:ResourceAccount": (self.account_id,), "aws:SecureTransport": ("true",)}
            yield Call(action="s3:ListBucket", resource=f"arn:aws:s3:::{bucket}", context=always)

    def _invocation(self, function: str, qualifier: str | None) -> Call:
        arn = function if function.startswith("arn:") else f"{self._arn('lambda')}:function:{function}"
        # IAM compares the ARN with its version or alias
        # (https://docs.aws.amazon.com/lambda/latest/dg/lambda-api-permissions-ref.html).
        return Call(action="lambda:InvokeFunction", resource=f"{arn}:{qualifier}" if qualifier else arn)

    def _secret_calls(self, operation: str, asked: Mapping[str, Any]) -> Iterator[Call]:
        if "SecretId" not in asked:
            yield from self._calls_without_secret(operation, asked)
            return
        secrets = secretsmanager_backends[self.account_id][self.region].secrets
        name = asked["SecretId"]
        secret: Foreign = secrets.get(name)
        # A secret that is missing has no tags, so a policy by tag denies even to say that it is missing.
        arn = secret.arn if secret else f"{self._arn('secretsmanager')}:secret:{name}-zzzzzz"
        tags = (secret.tags or []) if secret else []
        yield Call(
            action=f"secretsmanager:{operation}",
            resource=arn,
            context={f"aws:ResourceTag/{tag['Key']}": (tag["Value"],) for tag in tags},
        )
        uses = {"GetSecretValue": ["Decrypt"], "PutSecretValue": ["Decrypt", "GenerateDataKey"]}
        if secret is None or not secret.kms_key_id:
            return
        for use in uses.get(operation, []):
            yield self._use_of_key(use, secret.kms_key_id, "secretsmanager", {"SecretARN": arn})

    def _calls_without_secret(self, operation: str, asked: Mapping[str, Any]) -> Iterator[Call]:
        """A list, or a secret that is to be made: tags and key have rights of their own.

        https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
        """
        if operation != "CreateSecret":
            yield Call(action=f"secretsmanager:{operation}", resource="*")
            return
        arn = f"{self._arn('secretsmanager')}:secret:{asked['Name']}-zzzzzz"
        yield Call(action="secretsmanager:CreateSecret", resource=arn)
        if asked.get("Tags"):
            yield Call(action="secretsmanager:TagResource", resource=arn)
        if key := asked.get("KmsKeyId"):
            for use in ("Decrypt", "GenerateDataKey"):
                yield self._use_of_key(use, key, "secretsmanager", {"SecretARN": arn})

    def _table_calls(self, operation: str, asked: Mapping[str, Any]) -> Iterator[Call]:
        name = asked["TableName"].rpartition("/")[2]
        table = dynamodb_backends[self.account_id][self.region].get_table(name)
        item = asked.get("Key") or {
            k: v for k, v in asked.get("Item", {}).items() if k == table.hash_key_attr
        }
        keys = tuple(str(value) for typed in item.values() for value in typed.values())
        if not keys and operation not in _WITHOUT_KEY:
            raise NotImplementedError(f"dynamodb:{operation}: its keys are not read here")
        yield Call(
            action=f"dynamodb:{operation}",
            resource=f"{self._arn('dynamodb')}:table/{name}",
            context={**({"dynamodb:LeadingKeys": keys} if keys else {}), **item_context(operation, asked)},
        )
        if key := (table.sse_specification or {}).get("KMSMasterKeyId"):
            yield self._use_of_key("Decrypt", key, "dynamodb", {"aws:dynamodb:tableName": name})

    def _event_calls(self, operation: str, asked: Mapping[str, Any]) -> Iterator[Call]:
        """PutEvents is compared for each bus that its entries name; other operations are not known here."""
        for bus in sorted({entry.get("EventBusName", "default") for entry in asked.get("Entries", [{}])}):
            arn = bus if bus.startswith("arn:") else f"{self._arn('events')}:event-bus/{bus}"
            yield Call(action=f"events:{operation}", resource=arn)

    def _use_of_key(self, use: str, key: str, service: str, encryption_context: Mapping[str, str]) -> Call:
        context = {f"kms:EncryptionContext:{name}": (value,) for name, value in encryption_context.items()}
        context["kms:ViaService"] = (f"{service}.{self.region}.amazonaws.com",)
        return self._on_key(f"kms:{use}", key, context)

    def _key_calls(self, operation: str, asked: Mapping[str, Any]) -> Iterator[Call]:
        """A call of KMS. That a key is missing, KMS itself says."""
        if "KeyId" not in asked:
            yield Call(action=f"kms:{operation}", resource="*")
            return
        backend = kms_backends[self.account_id][self.region]
        name = backend.get_alias_name(asked["KeyId"])
        key = backend.get_key_id_from_alias(name) if name.startswith("alias/") else name
        if key is None or backend.get_key_id(key) not in backend.keys:
            return
        names = {name for name in ("MacAlgorithm", "MessageType", "SigningAlgorithm") if name in asked}
        context = {f"kms:{name}": (str(asked[name]),) for name in names}
        if ":alias/" in (alias := f":{asked['KeyId']}"):
            context["kms:RequestAlias"] = (f"alias/{alias.partition(':alias/')[2]}",)
        yield self._on_key(f"kms:{operation}", asked["KeyId"], context)

    def _on_key(self, action: str, key_id: str, context: Mapping[str, tuple[str, ...]]) -> Call:
        backend = kms_backends[self.account_id][self.region]
        key = backend.keys[backend.any_id_to_key_id(key_id)]
        aliases = {"kms:ResourceAliases": tuple(key.aliases)} if key.aliases else {}
        return Call(action=action, resource=key.arn, context={**context, **aliases})

    def _arn(self, service: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account_id}"


def _states_call(operation: str, asked: Mapping[str, Any]) -> Call:
    """A call of Step Functions. One by a version or an alias is compared with the machine's ARN and a condition.

    (https://docs.aws.amazon.com/step-functions/latest/dg/auth-version-alias.html)
    """
    arn = next(
        (asked[name] for name in ("stateMachineArn", "executionArn", "mapRunArn") if name in asked), "*"
    )
    if "stateMachineArn" not in asked:
        return Call(action=f"states:{operation}", resource=arn)
    parts = arn.split(":")
    context = {"states:StateMachineQualifier": tuple(parts[7:])} if parts[7:] else {}
    return Call(action=f"states:{operation}", resource=":".join(parts[:7]), context=context)
