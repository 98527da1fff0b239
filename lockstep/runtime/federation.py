"""Sessions in the other cloud, for proofs that each cloud makes of its own workloads.

What a session is made with: the clouds, as the process reaches them without it.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lockstep.aws import clients as aws
from lockstep.aws.clients import environment_problem
from lockstep.oci.clients import OciIdentity, SessionSigner, signer_of
from lockstep.oci.kms import sign
from lockstep.plan.compiled import ClientKey, ClientSecret, FederationToAws, FederationToOci
from lockstep.protocol.deadlines import CloudTimeouts, DeadlineGuard, Timeouts
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    FailureKind,
    InvalidPlanError,
    SessionFailure,
)
from lockstep.protocol.federation import BACKDATED, IssuedSession, IssuerKey, Maker, Sessions, seconds_of
from lockstep.protocol.model import SecretStr
from lockstep.protocol.ports import Clock
from lockstep.protocol.strict_json import object_of
from lockstep.protocol.workers import SideBySide, run_all
from lockstep.runtime.identity import oci_client_secret
from lockstep.runtime.system import new_id

if TYPE_CHECKING:
    from lockstep.oci.clients import OciClients
    from lockstep.plan.compiled import CompiledPlan
    from lockstep.runtime.clouds import Endpoints


class SessionContext(Protocol):
    """The part of `lockstep.runtime.clouds.Clouds` that makes sessions.

    Attributes:
        kept: What lives as long as the clients: one session serves all regions.
    """

    clock: Clock
    side_by_side: SideBySide
    endpoints: "Endpoints"
    timeouts: Timeouts
    deadline_guard: DeadlineGuard
    plan: "CompiledPlan"
    kept: dict[str, Any]

    def aws(self, service: str, region: str) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
        """A client of an AWS service."""

    def oci(self, region: str) -> "OciClients":
        """The OCI clients of a region."""

    def secret(self, name: str) -> str:
        """The text of a secret in the identity's home."""


# Sessions in AWS for what runs in OCI.
#
# An issuer of our own vouches for the function: its key signs in OCI Vault and cannot be had, and its documents
# are where AWS reads them. STS gives a session of a role for such a token. Facts and sources: docs/identity.md.

SESSION_SECONDS = 900
"""The shortest that STS gives."""
SESSION_NAME = "lockstep-oci"
_REFUSED = {
    "AccessDenied",
    "InvalidIdentityToken",
    "IDPRejectedClaim",
    "ExpiredTokenException",
    "ExpiredToken",
}
_UNREADABLE = {"IDPCommunicationError"}
_NO_KEY = "retrieve verification key"
"""In the text of an `InvalidIdentityToken` where STS has not found the token's key: it could not read the documents, or
those that it has do not name the key. AWS's own SDKs ask again, too
(https://repost.aws/knowledge-center/iam-sts-invalididentitytoken)."""


def sessions_in_aws(federation: FederationToAws, reach: SessionContext) -> "Sessions[aws.AwsKeys]":
    """Who the OCI function is in AWS. Nothing is asked for before the first request is signed."""
    return Sessions(partial(_made, federation, reach), reach.clock)


def _made(federation: FederationToAws, reach: SessionContext) -> IssuedSession["aws.AwsKeys"]:
    maker = Maker(kid=federation.key.version, sign=partial(_signed, federation.key, reach), new_id=new_id)
    token = maker.token(
        issuer=federation.issuer,
        subject=federation.subject,
        audience=federation.audience,
        now=reach.clock.now(),
    )
    sts = aws.aws_client(
        "sts",
        reach.plan.lock.region,
        is_signed=False,
        endpoint=reach.endpoints.aws,
        timeouts=reach.timeouts.cloud,
        deadline_guard=reach.deadline_guard,
    )
    try:
        given = sts.assume_role_with_web_identity(
            RoleArn=federation.role_arn,
            RoleSessionName=SESSION_NAME,
            WebIdentityToken=token,
            DurationSeconds=SESSION_SECONDS,
        )["Credentials"]
        keys = aws.AwsKeys(
            access_key_id=given["AccessKeyId"],
            secret_access_key=SecretStr(given["SecretAccessKey"]),
            session_token=SecretStr(given["SessionToken"]),
        )
    except aws.RAISED as error:
        raise _of_sts(error) from None
    return IssuedSession(session=keys, seconds=SESSION_SECONDS)


def _signed(key: IssuerKey, reach: SessionContext, digest: bytes) -> bytes:
    vault = reach.plan.vault
    if vault is None:
        raise InvalidPlanError
    return sign(reach.oci(vault.region), key, digest, endpoint=reach.endpoints.oci)


def _of_sts(error: Exception) -> SessionFailure:
    trouble, code = aws.diagnose(error)
    if code in _UNREADABLE or (code == "InvalidIdentityToken" and _NO_KEY in str(error)):
        return _failure(FailureKind.UNREACHABLE, code, Environment.ISSUER_UNREADABLE)
    problem = (
        EnvironmentalError(Environment.ISSUER_TOKEN_REFUSED, code=code)
        if code in _REFUSED
        else environment_problem(error)
    )
    return SessionFailure(FailureKind.of(trouble), code, problem)


def _failure(kind: FailureKind, code: str, problem: Environment) -> SessionFailure:
    return SessionFailure(kind, code, EnvironmentalError(problem, code=code))


# One POST to an identity domain, of which nothing is believed: bounded in time and size, no redirect, nothing
# logged.
#
# It goes through botocore's HTTP session, so with the proxies and the CA file that the process uses for AWS.

MOST_BYTES = 65536
"""Of an answer. A token has some thousand."""
_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a domain has answered.

    Attributes:
        document: Its JSON; empty where it has none.
        date: Its clock, as its header says it.
    """

    status: int
    document: Mapping[str, Any] = field(repr=False)
    date: str


def post(
    url: str,
    form: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    clock: Clock,
    timeouts: CloudTimeouts,
    deadline_guard: DeadlineGuard,
) -> Answer:
    """Send a form, and read a JSON object.

    Args:
        url: Where to.
        form: The body.
        headers: Besides the content type.
        clock: Measures the whole answer, which must not take longer than one wait for a part of it.
        timeouts: Bounds of each wait.
        deadline_guard: Called before the request (protocol F11).

    Raises:
        SessionFailure: There is no answer, or it is not one of an identity domain.
    """
    http = URLLib3Session(
        verify=_ca_file() or True,  # type: ignore[arg-type]  # a file, as for its own clients
        proxies=get_environ_proxies(url),
        timeout=(timeouts.connect_seconds, timeouts.read_seconds),  # type: ignore[arg-type]  # likewise
    )
    plain = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    request = AWSRequest("POST", url, headers={**plain, **headers}, data=urlencode(form), stream_output=True)
    deadline_guard()
    try:
        answer = http.send(request.prepare())
        body = _read(answer.raw, clock, clock.monotonic() + timeouts.read_seconds)
    except SessionFailure:
        raise
    except aws.RAISED as error:
        trouble, code = aws.diagnose(error)
        problem = environment_problem(error) or EnvironmentalError(Environment.DOMAIN_UNREACHABLE, code=code)
        raise SessionFailure(FailureKind.of(trouble), code, problem) from None
    finally:
        http.close()
    return Answer(
        status=answer.status_code, document=object_of(body), date=str(answer.headers.get("Date") or "")
    )


def _ca_file() -> str | None:
    return os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")


def _read(raw: Any, clock: Clock, until: float) -> bytes:  # noqa: ANN401 - urllib3's answer
    body = bytearray()
    while chunk := raw.read1(_CHUNK):
        body += chunk
        if len(body) > MOST_BYTES:
            raise _strange("too-large")
        if clock.monotonic() > until:
            raise _strange("too-slow")
    return bytes(body)


def _strange(code: str) -> SessionFailure:
    return _failure(FailureKind.UNREACHABLE, code, Environment.DOMAIN_UNREACHABLE)


# Sessions in OCI for what runs in AWS.
#
# AWS signs who the process is (GetWebIdentityToken), the domain's application proves itself, and the domain gives
# a session for both, bound to a key that is made here and never leaves the process. Facts and sources:
# docs/identity.md.

TOKEN_SECONDS = 300
"""For which AWS makes a token. It is exchanged at once."""
RESOURCE_SESSION_SECONDS = 3600
"""For which a resource principal's session is asked; the domain would give one of up to 12 hours."""
_SLACK_SECONDS = 60
"""By which the session may be longer or shorter: sources disagree whether the domain counts seconds or minutes."""
KEY_BITS = 2048
_TOKEN_PATH = "/oauth2/v1/token"  # noqa: S105 - a path
_CLIENT_AUDIENCE = "https://identity.oraclecloud.com/"
_OAUTH = "urn:ietf:params:oauth"
_DISABLED = {"OutboundWebIdentityFederationDisabled", "OutboundWebIdentityFederationDisabledException"}
_OF_CLIENT = {"invalid_client", "unauthorized_client"}
_OF_TOKEN = {"invalid_grant", "invalid_request", "invalid_scope", "invalid_target", "access_denied"}


def identity_in_oci(federation: FederationToOci, reach: SessionContext) -> OciIdentity:
    """Who the process is in OCI: whoever it is in AWS. Nothing is asked for before the first request is signed."""
    sessions = Sessions(partial(_to_oci_made, federation, reach), reach.clock)
    return OciIdentity(config={}, signer=SessionSigner(sessions), drop=sessions.drop)


def _to_oci_made(federation: FederationToOci, reach: SessionContext) -> IssuedSession[Any]:
    token, (headers, client), key = run_all(
        reach.side_by_side,
        partial(_token_of_aws, federation, reach),
        partial(_proof, federation, reach),
        partial(rsa.generate_private_key, public_exponent=65537, key_size=KEY_BITS),
    )
    public_key = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    form = {
        "grant_type": f"{_OAUTH}:grant-type:token-exchange",
        "requested_token_type": f"urn:oci:token-type:oci-{federation.token}",
        **(_of_resource(federation.resource_type) if federation.token == "rpst" else {}),  # noqa: S105 - a kind
        "subject_token": token,
        "subject_token_type": "jwt",
        "public_key": base64.b64encode(public_key).decode(),
        **client,
    }
    answer = post(
        _token_endpoint(federation, reach),
        form,
        headers,
        clock=reach.clock,
        timeouts=reach.timeouts.cloud,
        deadline_guard=reach.deadline_guard,
    )
    asked = RESOURCE_SESSION_SECONDS if federation.token == "rpst" else None  # noqa: S105 - a kind
    return _session(answer, key, reach, asked)


def _token_endpoint(federation: FederationToOci, reach: SessionContext) -> str:
    return (reach.endpoints.oci or federation.domain_url) + _TOKEN_PATH


def _of_resource(resource_type: str) -> Mapping[str, str]:
    return {"res_type": resource_type, "rpst_exp": str(RESOURCE_SESSION_SECONDS)}


def _token_of_aws(federation: FederationToOci, reach: SessionContext) -> str:
    try:
        made = reach.aws("sts", reach.plan.lock.region).get_web_identity_token(
            Audience=[federation.audience], SigningAlgorithm="RS256", DurationSeconds=TOKEN_SECONDS
        )
        return str(made["WebIdentityToken"])
    except aws.RAISED as error:
        raise _of_aws(error) from None


def _proof(federation: FederationToOci, reach: SessionContext) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What proves the application: headers, and fields of the form."""
    match federation.client:
        case ClientSecret(secret=secret):
            basic = f"{federation.client_id}:{oci_client_secret(reach.secret(secret), secret=secret)}"
            return {"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"}, {}
        case ClientKey() as key:
            maker = Maker(kid=key.certificate, sign=partial(_signed_by_kms, key, reach), new_id=new_id)
            assertion = maker.token(
                issuer=federation.client_id,
                subject=federation.client_id,
                audience=_CLIENT_AUDIENCE,
                now=reach.clock.now(),
            )
            kind = f"{_OAUTH}:client-assertion-type:jwt-bearer"
            return {}, {"client_assertion_type": kind, "client_assertion": assertion}


def _signed_by_kms(key: ClientKey, reach: SessionContext, digest: bytes) -> bytes:
    try:
        made = reach.aws("kms", reach.plan.lock.region).sign(
            KeyId=key.kms_key,
            Message=digest,
            MessageType="DIGEST",
            SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256",
        )
        return bytes(made["Signature"])
    except aws.RAISED as error:
        raise _of_aws(error) from None


def _of_aws(error: Exception) -> SessionFailure:
    trouble, code = aws.diagnose(error)
    problem = (
        EnvironmentalError(Environment.WEB_IDENTITY_DISABLED, code=code)
        if code in _DISABLED
        else environment_problem(error)
    )
    return SessionFailure(FailureKind.of(trouble), code, problem)


def _session(
    answer: Answer, key: rsa.RSAPrivateKey, reach: SessionContext, asked: int | None
) -> IssuedSession[Any]:
    token = answer.document.get("token")
    if answer.status != HTTPStatus.OK or not isinstance(token, str):
        raise _refusal(answer, reach)
    seconds = seconds_of(token)
    if seconds is None or seconds <= 0:
        raise _strange("not-a-token")
    if asked and abs(seconds - asked) > _SLACK_SECONDS:
        raise _strange(f"lasts-{seconds:.0f}-s")
    return IssuedSession(session=signer_of(token, key), seconds=seconds)


def _refusal(answer: Answer, reach: SessionContext) -> SessionFailure:
    """What the domain means. Of its words only the codes that are known are shown."""
    said = answer.document.get("error")
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return _failure(FailureKind.THROTTLED, "throttled", Environment.DOMAIN_UNREACHABLE)
    if not (
        HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(said, str)
    ):
        return _strange(f"status-{answer.status}")
    if _is_skewed(answer.date, reach):
        return SessionFailure(
            FailureKind.DENIED, "clock", EnvironmentalError(Environment.CLOCK_SKEW, code="identity-domain")
        )
    if said in _OF_CLIENT:
        return _failure(FailureKind.DENIED, said, Environment.DOMAIN_CLIENT_REFUSED)
    code = said if said in _OF_TOKEN else f"status-{answer.status}"
    return _failure(FailureKind.DENIED, code, Environment.DOMAIN_TOKEN_REFUSED)


def _is_skewed(date: str, reach: SessionContext) -> bool:
    """Whether this machine's clock is further from the domain's than what its tokens allow."""
    try:
        theirs = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return False
    return theirs.tzinfo is not None and abs(theirs - reach.clock.now()) > BACKDATED
