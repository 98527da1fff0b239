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
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends
from werkzeug.wrappers import Request, Response

from sandbox.emulators.aws import resource_policies
from sandbox.emulators.aws.actions import Actions
from sandbox.emulators.aws.policies import Call, Statement, UnknownConditionError, Verdict, as_list, decide
from sandbox.emulators.aws.sessions import Session, Standing, deny, refuse

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
        if not own.allowed:
            return own
        if boundary := self._role(role).permissions_boundary_arn:
            policy = iam_backends[self.account_id]["aws"].get_policy(boundary)
            bounded = decide(call, self._known(_statements(_document(policy))))
            if not bounded.allowed:
                return bounded
        return resource_policies.judge(call, region=self.region, account_id=self.account_id) or own

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
    document = json.loads(policy) if isinstance(policy, str) else policy
    return as_list(document["Statement"])


def _refusal(request: Request, role: str, call: Call) -> Response:
    text = f"{role} is not authorized to perform: {call.action} on resource: {call.resource}"
    return deny(request.environ, text)
