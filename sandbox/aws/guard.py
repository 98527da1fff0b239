"""IAM in the sandbox: a caller with a role's credentials may do only what the deployed policies allow.

moto allows every call. The guard checks each request first: it takes the caller from the request's signature, the
action from the request, and the policies from the deployment. Callers that it does not know (the test, the CDK CLI)
are administrators. Like AWS, it also checks the use of keys: a reader of a secret must be allowed to use the secret's
key through Secrets Manager, and a user of the lock table its key through DynamoDB.

It knows the services that Lockstep's functions and state machine call. It refuses a known role that calls another
service. The sandbox's plain HTTP on loopback counts as TLS.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from moto.dynamodb.models import dynamodb_backends
from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.s3.models import s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from werkzeug.wrappers import Request, Response

from sandbox.aws.policies import Call, Statement, Verdict, decide

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sandbox.aws.patching import Foreign

_CREDENTIAL = re.compile(r"Credential=([^/]+)/")
_INVOKE = re.compile(r"/2015-03-31/functions/(?P<function>.+)/invocations")
_S3_OBJECT_ACTIONS = {"PUT": "s3:PutObject", "GET": "s3:GetObject", "HEAD": "s3:GetObject"}


@dataclass(frozen=True)
class Record:
    """A call that a role made, and the decision of its policies."""

    role: str
    call: Call
    verdict: Verdict


@dataclass
class Guard:
    """Knows callers by their access key, and records their calls.

    Attributes:
        region: The region of everything in it.
        account_id: The account of everything in it.
        records: Every call of a known role, in order.
    """

    region: str
    account_id: str
    records: list[Record] = field(default_factory=list)
    _roles: dict[str, str] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def know(self, access_key: str, role: str) -> None:
        """From now on, requests that this key signs have the permissions of the role.

        Args:
            access_key: As in the request's signature.
            role: The role's name.
        """
        self._roles[access_key] = role

    def __call__(self, environ: "WSGIEnvironment") -> Response | None:
        """The refusal of a request; None where it is allowed."""
        signature = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        role = self._roles.get(signature[1]) if signature else None
        if role is None:
            return None
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        request = Request(environ)
        for call in self._calls(request, body):
            verdict = self._judge(role, call)
            with self._lock:
                self.records.append(Record(role, call, verdict))
            if not verdict.allowed:
                return _refusal(request, role, call)
        return None

    def statements(self, role: str) -> list[Statement]:
        """A role's own policies, as deployed."""
        roles = iam_backends[self.account_id]["aws"].roles.values()
        policies = next(r.policies for r in roles if r.name == role)
        documents = (json.loads(p) if isinstance(p, str) else p for p in policies.values())
        return [statement for document in documents for statement in document["Statement"]]

    def _judge(self, role: str, call: Call) -> Verdict:
        own = decide(call, self.statements(role))
        if not own.allowed or not call.action.startswith("s3:"):
            return own
        bucket = s3_backends[self.account_id]["aws"].get_bucket(call.resource.split(":")[-1].split("/")[0])
        denials = [
            s for s in json.loads(bucket.policy or '{"Statement": []}')["Statement"] if s["Effect"] == "Deny"
        ]
        refused = decide(call, denials)
        return refused if refused.statement else own

    def _calls(self, request: Request, body: bytes) -> Iterator[Call]:
        target = request.headers.get("X-Amz-Target", "")
        service, _, operation = target.rpartition(".")
        if invoked := _INVOKE.fullmatch(request.path):
            yield Call(action="lambda:InvokeFunction", resource=unquote(invoked["function"]))
        elif service == "secretsmanager":
            yield from self._secret_calls(operation, json.loads(body))
        elif service.startswith("DynamoDB"):
            yield from self._table_calls(operation, json.loads(body))
        elif service == "TrentService":
            yield self._key_call(operation, json.loads(body))
        elif not target:
            yield self._s3_call(request)
        else:
            yield Call(action=f"{service}:{operation}", resource="*")

    def _secret_calls(self, operation: str, asked: Mapping[str, Any]) -> Iterator[Call]:
        secrets = secretsmanager_backends[self.account_id][self.region].secrets
        name = asked["SecretId"]
        secret: Foreign = secrets.get(name)
        arn = secret.arn if secret else f"{self._arn('secretsmanager')}:secret:{name}-zzzzzz"
        yield Call(action=f"secretsmanager:{operation}", resource=arn)
        uses = {"GetSecretValue": ["Decrypt"], "PutSecretValue": ["Decrypt", "GenerateDataKey"]}
        if secret is None or not secret.kms_key_id:
            return
        for use in uses.get(operation, []):
            yield self._use_of_key(use, secret.kms_key_id, "secretsmanager", {"SecretARN": arn})

    def _table_calls(self, operation: str, asked: Mapping[str, Any]) -> Iterator[Call]:
        name = asked["TableName"]
        keys = tuple(str(value) for typed in asked.get("Key", {}).values() for value in typed.values())
        yield Call(
            action=f"dynamodb:{operation}",
            resource=f"{self._arn('dynamodb')}:table/{name}",
            context={"dynamodb:LeadingKeys": keys},
        )
        encryption = dynamodb_backends[self.account_id][self.region].get_table(name).sse_specification or {}
        if key := encryption.get("KMSMasterKeyId"):
            yield self._use_of_key("Decrypt", key, "dynamodb", {"aws:dynamodb:tableName": name})

    def _use_of_key(self, use: str, key: str, service: str, encryption_context: Mapping[str, str]) -> Call:
        context = {f"kms:EncryptionContext:{name}": (value,) for name, value in encryption_context.items()}
        context["kms:ViaService"] = (f"{service}.{self.region}.amazonaws.com",)
        return Call(action=f"kms:{use}", resource=key, context=context)

    def _key_call(self, operation: str, asked: Mapping[str, Any]) -> Call:
        backend = kms_backends[self.account_id][self.region]
        key = backend.keys[backend.any_id_to_key_id(asked["KeyId"])]
        return Call(
            action=f"kms:{operation}",
            resource=key.arn,
            context={"kms:MacAlgorithm": (asked.get("MacAlgorithm", ""),)},
        )

    def _s3_call(self, request: Request) -> Call:
        bucket, _, key = request.path.lstrip("/").partition("/")
        context = {"aws:ResourceAccount": (self.account_id,), "aws:SecureTransport": ("true",)}
        context["s3:TlsVersion"] = ("1.3",)
        if not key:
            context["s3:prefix"] = (request.args.get("prefix", ""),)
            return Call(action="s3:ListBucket", resource=f"arn:aws:s3:::{bucket}", context=context)
        for name in ("if-none-match", "x-amz-storage-class"):
            if value := request.headers.get(name):
                context[f"s3:{name}"] = (value,)
        action = _S3_OBJECT_ACTIONS.get(request.method, f"s3:{request.method}")
        return Call(action=action, resource=f"arn:aws:s3:::{bucket}/{key}", context=context)

    def _arn(self, service: str) -> str:
        return f"arn:aws:{service}:{self.region}:{self.account_id}"


def _refusal(request: Request, role: str, call: Call) -> Response:
    text = f"{role} is not authorized to perform: {call.action} on resource: {call.resource}"
    if "X-Amz-Target" in request.headers or _INVOKE.fullmatch(request.path):
        return Response(
            json.dumps({"__type": "AccessDeniedException", "message": text, "Message": text}),
            status=400,
            headers={"x-amzn-ErrorType": "AccessDeniedException"},
            content_type="application/x-amz-json-1.1",
        )
    return Response(
        f"<Error><Code>AccessDenied</Code><Message>{text}</Message></Error>",
        status=403,
        content_type="application/xml",
    )
