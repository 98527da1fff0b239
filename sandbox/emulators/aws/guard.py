"""IAM in the sandbox: a caller with a role's credentials may do only what the deployed policies allow.

moto allows every call. The guard checks each request first: it takes the caller from the request's signature, the
action from the request, and the policies from the deployment. Callers that it does not know (the test, the CDK CLI)
are administrators. Like AWS, it also checks the use of keys: a reader of a secret must be allowed to use the secret's
key through Secrets Manager, and a user of the lock table its key through DynamoDB.

Credentials of a session count with their session token, and until they expire.

A known role is refused a call that `sandbox.emulators.aws.actions` does not know. A condition on a key that the guard
does not know is an error. The sandbox's plain HTTP on loopback counts as TLS.
"""

import io
import json
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from threading import Lock
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from moto.iam.models import iam_backends
from moto.kms.models import kms_backends
from moto.s3.models import s3_backends
from moto.secretsmanager.models import secretsmanager_backends
from moto.sts.models import sts_backends
from werkzeug.wrappers import Request, Response

from sandbox.emulators.aws import query
from sandbox.emulators.aws.actions import UNKNOWN, Actions
from sandbox.emulators.aws.policies import (
    Call,
    Statement,
    UnknownConditionError,
    Verdict,
    as_list,
    decide,
    matches,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sandbox.emulators.aws.patching import Foreign

_CREDENTIAL = re.compile(r"Credential=([^/]+)/[^/]+/[^/]+/([^/]+)/")
_KEYS = (
    "aws:PrincipalArn",
    "aws:ResourceAccount",
    "aws:ResourceTag/",
    "aws:SecureTransport",
    "dynamodb:Attributes",
    "dynamodb:LeadingKeys",
    "dynamodb:ReturnValues",
    "kms:EncryptionContext:",
    "kms:MacAlgorithm",
    "kms:MessageType",
    "kms:RequestAlias",
    "kms:ResourceAliases",
    "kms:SigningAlgorithm",
    "kms:ViaService",
    "lambda:SourceFunctionArn",
    "s3:TlsVersion",
    "s3:if-none-match",
    "s3:prefix",
    "s3:x-amz-storage-class",
    "states:StateMachineQualifier",
    "sts:DurationSeconds",
    "sts:IdentityTokenAudience",
    "sts:SigningAlgorithm",
)
_IN_POLICIES = {"DynamoDB_20120810": "dynamodb", "TrentService": "kms"}
"""How policies name a service, by how requests name it."""


class Standing(Enum):
    """Why credentials do not count."""

    EXPIRED = auto()
    INVALID_TOKEN = auto()
    UNKNOWN_KEY = auto()


@dataclass
class Session:
    """Temporary credentials of a role.

    Attributes:
        token: The session token, which every request must carry.
        expires_at: Seconds since the epoch, by the sandbox's clock.
    """

    token: str = field(repr=False)
    expires_at: float

    def standing(self, token: str | None, now: float) -> Standing | None:
        """What is wrong with a request of the session; None where nothing is.

        Args:
            token: The session token of the request.
            now: Seconds since the epoch.
        """
        if token != self.token:
            return Standing.INVALID_TOKEN
        return Standing.EXPIRED if now >= self.expires_at else None


@dataclass(frozen=True)
class Record:
    """A call that a role made, and the decision of its policies."""

    role: str
    call: Call
    verdict: Verdict


@dataclass(frozen=True)
class Caller:
    """Whose requests a key signs.

    Attributes:
        role: The name of its role.
        function_arn: The function whose code it is, without a version; None elsewhere.
        session: The temporary credentials; None where the key does not expire.
    """

    role: str
    function_arn: str | None = None
    session: Session | None = None


@dataclass
class Guard:
    """Knows callers by their access key, and records their calls.

    Attributes:
        region: The region of everything in it.
        account_id: The account of everything in it.
        records: Every call of a known role, in order.
        denied: Actions that the organisation denies to all other callers, of services that speak JSON.
        wall_clock: Seconds since the epoch, by which sessions expire.
        deleted_keys: Access keys of users that were deleted.
    """

    region: str
    account_id: str
    records: list[Record] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    wall_clock: Callable[[], float] = time.time
    deleted_keys: set[str] = field(default_factory=set)
    _callers: dict[str, Caller] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def know(
        self, access_key: str, role: str, *, function_arn: str | None = None, session: Session | None = None
    ) -> None:
        """From now on, requests that this key signs have the permissions of the role.

        Args:
            access_key: As in the request's signature.
            role: The role's name.
            function_arn: The function whose code signs with it, without a version.
            session: What the key belongs to, where it is temporary.
        """
        self._callers[access_key] = Caller(role, function_arn, session)

    def caller(self, access_key: str | None) -> Caller | None:
        """Whose key it is; None where it is not known, which is an administrator's."""
        return self._callers.get(access_key or "")

    def end_sessions(self, role: str) -> None:
        """Let the sessions that a role has now be over."""
        for caller in list(self._callers.values()):
            if caller.role == role and caller.session:
                caller.session.expires_at = 0.0

    def allows(self, access_key: str, call: Call) -> bool:
        """Whether who signs with this key may make a call that no request stands for. Who is not known may."""
        caller = self.caller(access_key)
        return caller is None or self._record(caller, call).allowed

    def __call__(self, environ: "WSGIEnvironment") -> Response | None:
        """The refusal of a request; None where it is allowed."""
        signature = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
        caller = self.caller(signature[1]) if signature else None
        if caller is None:
            if signature and not self._may_be(signature[1]):
                return refuse(environ, Standing.UNKNOWN_KEY)
            return self._organisation(environ)
        if wrong := self._standing(caller, environ):
            return refuse(environ, wrong)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        request = Request(environ)
        context = principal = {"aws:PrincipalArn": (str(self._role(caller.role).arn),)}
        if caller.function_arn:
            context = {**principal, "lambda:SourceFunctionArn": (caller.function_arn,)}
        actions = Actions(self.region, self.account_id)
        for bare in actions.calls(request, body):
            # What a service asks of KMS for a function has no such key.
            own = principal if "kms:ViaService" in bare.context else context
            if not self._record(caller, call := replace(bare, context={**bare.context, **own})).allowed:
                return _refusal(request, caller.role, call)
        to_be_told = [replace(call, context={**call.context, **context}) for call in actions.absence(request)]
        return next(
            (
                _refusal(request, caller.role, c)
                for c in to_be_told
                if not self._judge(caller.role, c).allowed
            ),
            None,
        )

    def _record(self, caller: Caller, call: Call) -> Verdict:
        verdict = self._judge(caller.role, call)
        with self._lock:
            self.records.append(Record(caller.role, call, verdict))
        return verdict

    def _standing(self, caller: Caller, environ: "WSGIEnvironment") -> Standing | None:
        """What is wrong with the temporary credentials of a request; None where nothing is."""
        if caller.session is None:
            return None
        if all(role.name != caller.role for role in iam_backends[self.account_id]["aws"].roles.values()):
            return Standing.UNKNOWN_KEY
        return caller.session.standing(environ.get("HTTP_X_AMZ_SECURITY_TOKEN"), self.wall_clock())

    def _may_be(self, access_key: str) -> bool:
        """Whether a key that is of no known role is one at all.

        Of temporary keys those count that STS has given out, and of users' keys not those that were deactivated or
        deleted.
        """
        if access_key.startswith("ASIA"):
            given: Foreign = sts_backends[self.account_id]["aws"]
            return given.get_assumed_role_from_access_key(access_key) is not None
        key: Foreign = iam_backends[self.account_id]["aws"].access_keys.get(access_key)
        return access_key not in self.deleted_keys and (key is None or key.status == "Active")

    def _organisation(self, environ: "WSGIEnvironment") -> Response | None:
        """The refusal by a policy of the organisation, which administrators are subject to, too."""
        service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")
        action = f"{_IN_POLICIES.get(service, service)}:{operation}"
        if action not in self.denied:
            return None
        return _refusal(Request(environ), "administrator", Call(action=action, resource="*"))

    def statements(self, role: str) -> list[Statement]:
        """The statements of a role's inline and managed policies, as deployed."""
        found = self._role(role)
        managed = map(_document, found.managed_policies.values())
        return [s for policy in (*found.policies.values(), *managed) for s in _statements(policy)]

    def _role(self, name: str) -> "Foreign":
        return next(r for r in iam_backends[self.account_id]["aws"].roles.values() if r.name == name)

    def _judge(self, role: str, call: Call) -> Verdict:
        own = decide(call, self._known(self.statements(role)))
        if call.action.startswith(UNKNOWN):
            return Verdict(allowed=False, statement=None)
        if not own.allowed:
            return own
        if boundary := self._role(role).permissions_boundary_arn:
            policy = iam_backends[self.account_id]["aws"].get_policy(boundary)
            bounded = decide(call, self._known(_statements(_document(policy))))
            if not bounded.allowed:
                return bounded
        return judged_by_resource(call, region=self.region, account_id=self.account_id) or own

    def _known(self, statements: list[Statement]) -> list[Statement]:
        """The statements, if the requests' contexts have every key that they ask for.

        Raises:
            UnknownConditionError: A key is not known, and an absent key would be decisive.
        """
        asked = {key for s in statements for keys in s.get("Condition", {}).values() for key in keys}
        if unknown := {key for key in asked if not key.startswith(_KEYS)}:
            raise UnknownConditionError(", ".join(sorted(unknown)))
        return statements


def _document(policy: "Foreign") -> str:
    """The default version of a managed policy."""
    text: str = next(v.document for v in policy.versions if v.version_id == policy.default_version_id)
    return text


def _statements(policy: Any) -> list[Statement]:  # noqa: ANN401 - moto keeps text or what it has parsed
    document = json.loads(policy) if isinstance(policy, str | bytes) else policy
    return as_list(document["Statement"]) if document else []


def _refusal(request: Request, role: str, call: Call) -> Response:
    text = f"{role} is not authorized to perform: {call.action} on resource: {call.resource}"
    return deny(request.environ, text)


_CODES = {
    Standing.EXPIRED: ("ExpiredTokenException", "ExpiredToken", "ExpiredToken", 400),
    Standing.INVALID_TOKEN: ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidToken", 400),
    Standing.UNKNOWN_KEY: ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", 403),
}
_DENIED = ("AccessDeniedException", "AccessDenied", "AccessDenied", 403)


def refuse(environ: "WSGIEnvironment", standing: Standing) -> Response:
    """The refusal of a request whose credentials do not count.

    https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html (query),
    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (S3),
    https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html (JSON).
    """
    wrong = "expired" if standing is Standing.EXPIRED else "invalid."
    return _answer(environ, f"The security token included in the request is {wrong}", *_CODES[standing])


def deny(environ: "WSGIEnvironment", text: str) -> Response:
    """The refusal of a request that is not permitted."""
    return _answer(environ, text, *_DENIED)


def _answer(
    environ: "WSGIEnvironment", text: str, as_json: str, as_query: str, as_s3: str, status: int
) -> Response:
    """An error in the protocol of the service, by the name that the service uses; the status is S3's."""
    if "HTTP_X_AMZ_TARGET" in environ or environ["PATH_INFO"].startswith("/2015-03-31/functions/"):
        return Response(
            json.dumps({"__type": as_json, "message": text, "Message": text}),
            status=400 if "HTTP_X_AMZ_TARGET" in environ else 403,
            headers={"x-amzn-ErrorType": as_json, "x-amzn-RequestId": str(uuid.uuid4())},
            content_type="application/x-amz-json-1.1",
        )
    if query.read(environ):
        return query.refusal(as_query, text, 403)
    return Response(
        f"<Error><Code>{as_s3}</Code><Message>{escape(text)}</Message></Error>",
        status=status,
        content_type="application/xml",
    )


# The policies of resources, beside those of a role: a bucket's, a secret's, a key's.
#
# In one account a call is allowed by the role's policies or by the resource's. The sandbox ignores what a bucket's or a
# secret's policy allows, so it is stricter; what they deny is denied. A key is different: without its own policy's
# consent no policy of a role counts (https://docs.aws.amazon.com/kms/latest/developerguide/key-policies.html).


def judged_by_resource(call: Call, *, region: str, account_id: str) -> Verdict | None:
    """What the resource's policy adds to a call that the role's policies allow; None where it adds nothing."""
    match call.action.partition(":")[0]:
        case "s3":
            return _denied(call, _of_bucket(call, account_id), account_id)
        case "secretsmanager":
            return _denied(call, _of_secret(call, region, account_id), account_id)
        case "kms" if call.resource != "*":
            return _consent(call, _of_key(call, region, account_id), account_id)
    return None


def _denied(call: Call, statements: list[Statement], account_id: str) -> Verdict | None:
    denials = [s for s in statements if s["Effect"] == "Deny" and _concerns(s, account_id)]
    refused = decide(call, denials)
    return refused if refused.statement else None


def _consent(call: Call, statements: list[Statement], account_id: str) -> Verdict | None:
    if denied := _denied(call, statements, account_id):
        return denied
    root = {"AWS": f"arn:aws:iam::{account_id}:root"}
    if any(s["Effect"] == "Allow" and s["Principal"] == root and matches(s, call) for s in statements):
        return None
    return Verdict(allowed=False, statement=None)


def _concerns(statement: Statement, account_id: str) -> bool:
    """Whether a denial concerns every role of the account.

    Raises:
        UnknownConditionError: It concerns some of them only.
    """
    principal = statement.get("Principal")
    if principal in ("*", {"AWS": "*"}, {"AWS": f"arn:aws:iam::{account_id}:root"}):
        return True
    if isinstance(principal, dict) and principal.keys() == {"Service"}:
        return False
    raise UnknownConditionError(f"Principal {principal}")


def _of_bucket(call: Call, account_id: str) -> list[Statement]:
    name = call.resource.split(":")[-1].split("/")[0]
    return _statements(s3_backends[account_id]["aws"].get_bucket(name).policy)


def _of_secret(call: Call, region: str, account_id: str) -> list[Statement]:
    secret: Any = secretsmanager_backends[account_id][region].secrets.get(call.resource)
    return _statements(getattr(secret, "policy", None))


def _of_key(call: Call, region: str, account_id: str) -> list[Statement]:
    backend = kms_backends[account_id][region]
    return _statements(backend.keys[backend.any_id_to_key_id(call.resource)].policy)
