"""Sessions in the other cloud, for proofs that each cloud makes of its own workloads.

What a session is made with: the clouds, as the process reaches them without it.
"""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lockstep.aws import clients as aws
from lockstep.aws.clients import environment_problem
from lockstep.oci.clients import OciIdentity, SessionSigner, signer_of
from lockstep.oci.kms import sign
from lockstep.plan.compiled import ClientKey, ClientSecret, FederationToAws, FederationToOci, required
from lockstep.protocol.errors import (
    Environment,
    EnvironmentalError,
    ErrorKind,
    SessionFailure,
)
from lockstep.protocol.federation import BACKDATED, IssuedSession, IssuerKey, Maker, Sessions, seconds_of
from lockstep.protocol.model import SecretStr
from lockstep.protocol.strict_json import object_of
from lockstep.protocol.workers import run_all
from lockstep.runtime.identity import oci_client_secret
from lockstep.runtime.system import new_id

if TYPE_CHECKING:
    from lockstep.runtime.clouds import Clouds


# Sessions in AWS for what runs in OCI.
#
# An issuer of our own vouches for the function: its key signs in OCI Vault and cannot be had, and its documents
# are where AWS reads them. STS gives a session of a role for such a token. Facts and sources: docs/identity.md.

SESSION_SECONDS = 900
"""The shortest that STS gives."""
SESSION_NAME = "lockstep-oci"
_OF_ISSUER = {
    "IDPCommunicationError": Environment.ISSUER_UNREADABLE,
    "AccessDenied": Environment.ISSUER_TOKEN_REFUSED,
    "InvalidIdentityToken": Environment.ISSUER_TOKEN_REFUSED,
    "IDPRejectedClaim": Environment.ISSUER_TOKEN_REFUSED,
    "ExpiredTokenException": Environment.ISSUER_TOKEN_REFUSED,
    "ExpiredToken": Environment.ISSUER_TOKEN_REFUSED,
}
"""What codes of STS mean where it is shown a token of the issuer."""
_NO_KEY = "retrieve verification key"
"""In the text of an `InvalidIdentityToken` where STS has not found the token's key: it could not read the documents, or
those that it has do not name the key. AWS's own SDKs ask again, too
(https://repost.aws/knowledge-center/iam-sts-invalididentitytoken)."""


def sessions_in_aws(federation: FederationToAws, reach: "Clouds") -> "Sessions[aws.AwsKeys]":
    """Who the OCI function is in AWS. Nothing is asked for before the first request is signed."""
    return Sessions(partial(_made, federation, reach), reach.clock)


def _made(federation: FederationToAws, reach: "Clouds") -> IssuedSession["aws.AwsKeys"]:
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
        timeouts=reach.timeouts.cloud,
        deadline_guard=reach.deadline_guard,
    )
    with _translated(_OF_ISSUER):
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
    return IssuedSession(session=keys, seconds=SESSION_SECONDS)


def _signed(key: IssuerKey, reach: "Clouds", digest: bytes) -> bytes:
    region = required(reach.plan.vault).region
    return sign(reach.oci(region), key, digest, endpoint=reach.oci_endpoint)


@contextmanager
def _translated(meanings: Mapping[str, Environment]) -> Iterator[None]:
    """What AWS means inside; some codes have a meaning of their own here."""
    try:
        yield
    except aws.RAISED as error:
        kind, code = aws.diagnose(error)
        problem = meanings.get(code)
        if code == "InvalidIdentityToken" and _NO_KEY in str(error):
            problem = Environment.ISSUER_UNREADABLE
        if problem is Environment.ISSUER_UNREADABLE:
            kind = ErrorKind.UNREACHABLE
        told = EnvironmentalError(problem, code=code) if problem else environment_problem(error)
        raise SessionFailure(kind, code, told) from None


def _failure(kind: ErrorKind, code: str, problem: Environment) -> SessionFailure:
    return SessionFailure(kind, code, EnvironmentalError(problem, code=code))


# One request to an identity domain, or to an issuer, of which nothing is believed: bounded in time and size, no
# redirect, nothing logged.
#
# It goes through botocore's HTTP session, so with the proxies and the CA file that the process uses for AWS.

MOST_BYTES = 65536
"""Of an answer. A token has some thousand."""
_CHUNK = 4096


def _fetch(request: AWSRequest, reach: "Clouds", problem: Environment) -> tuple[AWSResponse, bytes]:
    """Send a request, and read its answer, which must not take longer than one wait for a part of it.

    Raises:
        SessionFailure: There is no answer, or it has no end; with `problem` where nothing else is known.
    """
    timeouts = reach.timeouts.cloud
    ca_file = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    http = URLLib3Session(
        verify=ca_file or True,  # type: ignore[arg-type]  # a file, as for its own clients
        proxies=get_environ_proxies(str(request.url)),
        timeout=(timeouts.connect_seconds, timeouts.read_seconds),  # type: ignore[arg-type]  # likewise
    )
    reach.deadline_guard()
    try:
        until, body = reach.clock.monotonic() + timeouts.read_seconds, bytearray()
        answer = http.send(request.prepare())
        while chunk := answer.raw.read1(_CHUNK):
            body += chunk
            if len(body) > MOST_BYTES:
                raise _failure(ErrorKind.UNREACHABLE, "too-large", problem)
            if reach.clock.monotonic() > until:
                raise _failure(ErrorKind.UNREACHABLE, "too-slow", problem)
        if answer.raw.length_remaining:
            raise _failure(ErrorKind.UNREACHABLE, "cut", problem)
    except aws.RAISED as error:
        kind, code = aws.diagnose(error)
        told = environment_problem(error) or EnvironmentalError(problem, code=code)
        raise SessionFailure(kind, code, told) from None
    finally:
        http.close()
    return answer, bytes(body)


def read_document(url: str, reach: "Clouds") -> bytes:
    """A document of an issuer, as a verifier reads it: nothing proves who reads it.

    It is at its own address, or where everything of OCI is.

    Raises:
        EnvironmentalError: It cannot be had.
    """
    parts = urlsplit(url)
    address = reach.oci_endpoint + parts.path if reach.oci_endpoint else url
    request = AWSRequest("GET", address, stream_output=True)
    try:
        answer, content = _fetch(request, reach, Environment.ISSUER_NOT_PUBLIC)
    except SessionFailure as failure:
        raise failure.problem or failure from None
    if answer.status_code != HTTPStatus.OK:
        where = {"host": parts.hostname or "", "path": parts.path}
        raise EnvironmentalError(Environment.ISSUER_NOT_PUBLIC, code=answer.status_code, **where)
    return content


def _unusable(code: str) -> SessionFailure:
    return _failure(ErrorKind.UNREACHABLE, code, Environment.DOMAIN_UNREACHABLE)


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
_OF_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
_CLIENT_AUDIENCE = "https://identity.oraclecloud.com/"
_OAUTH = "urn:ietf:params:oauth"
_OF_ACCOUNT = {
    "OutboundWebIdentityFederationDisabled": Environment.WEB_IDENTITY_DISABLED,
    "OutboundWebIdentityFederationDisabledException": Environment.WEB_IDENTITY_DISABLED,
}
_OF_CLIENT = {"invalid_client", "unauthorized_client"}
_OF_TOKEN = {"invalid_grant", "invalid_request", "invalid_scope", "invalid_target", "access_denied"}


def identity_in_oci(federation: FederationToOci, reach: "Clouds") -> OciIdentity:
    """Who the process is in OCI: whoever it is in AWS. Nothing is asked for before the first request is signed."""
    sessions = Sessions(partial(_to_oci_made, federation, reach), reach.clock)
    return OciIdentity(config={}, signer=SessionSigner(sessions), drop=sessions.drop)


def _to_oci_made(federation: FederationToOci, reach: "Clouds") -> IssuedSession[Any]:
    token, (headers, client), key = run_all(
        reach.side_by_side,
        partial(_token_of_aws, federation, reach),
        partial(_proof, federation, reach),
        partial(rsa.generate_private_key, public_exponent=65537, key_size=KEY_BITS),
    )
    public_key = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    is_resource = federation.token == "rpst"  # noqa: S105 - a kind
    form = {
        "grant_type": f"{_OAUTH}:grant-type:token-exchange",
        "requested_token_type": f"urn:oci:token-type:oci-{federation.token}",
        "subject_token": token,
        "subject_token_type": "jwt",
        "public_key": base64.b64encode(public_key).decode(),
        **client,
    }
    if is_resource:
        form |= {"res_type": federation.resource_type, "rpst_exp": str(RESOURCE_SESSION_SECONDS)}
    request = AWSRequest(
        "POST",
        (reach.oci_endpoint or federation.domain_url) + _TOKEN_PATH,
        headers={**_OF_FORM, **headers},
        data=urlencode(form),
        stream_output=True,
    )
    answer, content = _fetch(request, reach, Environment.DOMAIN_UNREACHABLE)
    document = object_of(content)
    found = document.get("token")
    if answer.status_code != HTTPStatus.OK or not isinstance(found, str):
        raise _refusal(answer, document.get("error"), reach)
    seconds = seconds_of(found)
    if seconds is None or seconds <= 0:
        raise _unusable("not-a-token")
    if is_resource and abs(seconds - RESOURCE_SESSION_SECONDS) > _SLACK_SECONDS:
        raise _unusable(f"lasts-{seconds:.0f}-s")
    return IssuedSession(session=signer_of(found, key), seconds=seconds)


def _token_of_aws(federation: FederationToOci, reach: "Clouds") -> str:
    with _translated(_OF_ACCOUNT):
        made = reach.aws("sts", reach.plan.lock.region).get_web_identity_token(
            Audience=[federation.audience], SigningAlgorithm="RS256", DurationSeconds=TOKEN_SECONDS
        )
        return str(made["WebIdentityToken"])


def _proof(federation: FederationToOci, reach: "Clouds") -> tuple[Mapping[str, str], Mapping[str, str]]:
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


def _signed_by_kms(key: ClientKey, reach: "Clouds", digest: bytes) -> bytes:
    with _translated({}):
        made = reach.aws("kms", reach.plan.lock.region).sign(
            KeyId=key.kms_key,
            Message=digest,
            MessageType="DIGEST",
            SigningAlgorithm="RSASSA_PKCS1_V1_5_SHA_256",
        )
        return bytes(made["Signature"])


def _refusal(answer: AWSResponse, said: object, reach: "Clouds") -> SessionFailure:
    """What the domain means. Of its words only the codes that are known are shown."""
    status = answer.status_code
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _failure(ErrorKind.THROTTLED, "throttled", Environment.DOMAIN_UNREACHABLE)
    if not (HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(said, str)):
        return _unusable(f"status-{status}")
    if _is_skewed(str(answer.headers.get("Date")), reach):
        skew = EnvironmentalError(Environment.CLOCK_SKEW, code="identity-domain")
        return SessionFailure(ErrorKind.DENIED, "clock", skew)
    if said in _OF_CLIENT:
        return _failure(ErrorKind.DENIED, said, Environment.DOMAIN_CLIENT_REFUSED)
    code = said if said in _OF_TOKEN else f"status-{status}"
    return _failure(ErrorKind.DENIED, code, Environment.DOMAIN_TOKEN_REFUSED)


def _is_skewed(date: str, reach: "Clouds") -> bool:
    """Whether this machine's clock is further from the domain's than what its tokens allow."""
    try:
        theirs = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return False
    return theirs.tzinfo is not None and abs(theirs - reach.clock.now()) > BACKDATED
