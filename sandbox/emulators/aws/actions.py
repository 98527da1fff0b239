"""What a request asks of IAM: the actions, their resources, and the keys that conditions ask for.

It knows the services and operations that Lockstep's functions and state machine call
(https://docs.aws.amazon.com/service-authorization/latest/reference/).
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
from sandbox.emulators.aws.policies import Call, Context
from sandbox.emulators.aws.query import QueryRequest

if TYPE_CHECKING:
    from sandbox.emulators.aws.patching import Foreign

UNKNOWN = "unknown:"
"""How an action begins that is not known here: it is refused, whatever a policy says."""
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
            yield from s3_calls(request, always)

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


_LISTING = {
    "continuation-token",
    "delimiter",
    "encoding-type",
    "list-type",
    "max-keys",
    "prefix",
    "start-after",
}
_LISTING_VERSIONS = {"encoding-type", "key-marker", "max-keys", "prefix", "version-id-marker", "versions"}
_NO_ARGUMENT = {"x-id"}
_OF_OBJECT = {
    ("DELETE", ""): "DeleteObject",
    ("DELETE", "versionId"): "DeleteObjectVersion",
    ("GET", ""): "GetObject",
    ("GET", "versionId"): "GetObjectVersion",
    ("HEAD", ""): "GetObject",
    ("HEAD", "versionId"): "GetObjectVersion",
    ("PUT", ""): "PutObject",
}
_LOCKING = ("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date")


# See https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html.
def s3_calls(request: Request, context: Mapping[str, tuple[str, ...]]) -> Iterator[Call]:
    """The calls to judge; what is not known here is `UNKNOWN`.

    Args:
        request: To a bucket or an object, by path.
        context: The keys that every request has.
    """
    bucket, _, key = request.path.lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    arguments = set(request.args) - _NO_ARGUMENT
    if not key:
        asked = {**context, **({"s3:prefix": (p,)} if (p := request.args.get("prefix")) else {})}
        yield Call(action=_bucket_action(request, arguments), resource=arn, context=asked)
        return
    asked = dict(context)
    for name in ("if-none-match", "x-amz-storage-class"):
        if value := request.headers.get(name):
            asked[f"s3:{name}"] = (value,)
    known = _OF_OBJECT.get((request.method, "".join(sorted(arguments))))
    is_copy = "x-amz-copy-source" in request.headers
    is_bypass = "x-amz-bypass-governance-retention" in request.headers
    action = f"s3:{known}" if known and not (is_copy or is_bypass) else _unknown(request)
    yield from _with_headers(Call(action=action, resource=f"{arn}/{key}", context=asked), request)


def _bucket_action(request: Request, arguments: set[str]) -> str:
    if request.method in {"GET", "HEAD"} and arguments <= _LISTING:
        return "s3:ListBucket"
    if request.method == "GET" and "versions" in arguments and arguments <= _LISTING_VERSIONS:
        return "s3:ListBucketVersions"
    return _unknown(request)


def _with_headers(call: Call, request: Request) -> Iterator[Call]:
    """A call, and what its headers need besides."""
    yield call
    if call.action == "s3:PutObject" and any(name in request.headers for name in _LOCKING):
        yield Call(action="s3:PutObjectRetention", resource=call.resource, context=call.context)


def _unknown(request: Request) -> str:
    return f"{UNKNOWN}{request.method}?{request.query_string.decode()}"


# `AssumeRoleWithWebIdentity` the token and the role's trust decide.
_WITHOUT_PERMISSION = {"AssumeRoleWithWebIdentity", "GetCallerIdentity"}


def sts_calls(asked: QueryRequest) -> Iterator[Call]:
    """The calls that a request stands for."""
    if asked.action in _WITHOUT_PERMISSION:
        return
    action = f"sts:{asked.action}"
    match asked.action:
        case "AssumeRole":
            yield Call(action=action, resource=asked.fields.get("RoleArn", "*"))
        case "GetWebIdentityToken":
            context = {"sts:IdentityTokenAudience": tuple(asked.members("Audience"))}
            for key in ("SigningAlgorithm", "DurationSeconds"):
                if key in asked.fields:
                    context[f"sts:{key}"] = (asked.fields[key],)
            yield Call(action=action, resource="*", context=context)
        case _:
            yield Call(action=action, resource="*")


# See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html.
_WRITES = ("UpdateItem", "PutItem", "DeleteItem")
_EXPRESSIONS = ("UpdateExpression", "ConditionExpression", "ProjectionExpression")
_LEGACY = ("AttributeUpdates", "Expected", "Item", "Key")
_WORDS = {"add", "and", "between", "delete", "in", "not", "or", "remove", "set"}
_TOKEN = re.compile(
    r"""
    (?P<value> :\w+ )
    | (?P<function> [A-Za-z_]\w* \s* \( )
    | (?P<path> [#A-Za-z_]\w* (?: \s* (?: \. \s* [#A-Za-z_]\w* | \[ \s* \d+ \s* \] ) )* )
    """,
    re.VERBOSE,
)


class UnknownNameError(Exception):
    """An expression has a placeholder that the request does not define; DynamoDB refuses it."""


def item_context(operation: str, asked: Mapping[str, Any]) -> Context:
    """`dynamodb:Attributes`, with the attributes of the key, and for a write `dynamodb:ReturnValues`.

    Only top-level attributes count, of `a.b[1]` the attribute `a`. A request that names none (a GetItem of the whole
    item) has only those of its key. What a write returns is not among them: `dynamodb:ReturnValues` is for that.
    """
    attributes = {name for part in _LEGACY for name in asked.get(part, {})}
    names: Mapping[str, str] = asked.get("ExpressionAttributeNames", {})
    for part in _EXPRESSIONS:
        attributes |= set(_named(asked.get(part, ""), names))
    attributes |= set(asked.get("AttributesToGet", ()))
    found = {"dynamodb:Attributes": tuple(sorted(attributes))} if attributes else {}
    if operation in _WRITES:
        found["dynamodb:ReturnValues"] = (asked.get("ReturnValues", "NONE"),)
    return found


def _named(expression: str, names: Mapping[str, str]) -> list[str]:
    found = []
    for token in _TOKEN.finditer(expression):
        path = token["path"]
        if path is None or path.lower() in _WORDS:
            continue
        first = re.split(r"[\s.\[]", path, maxsplit=1)[0]
        if first.startswith("#") and first not in names:
            raise UnknownNameError(first)
        found.append(names.get(first, first))
    return found
