"""Sessions in OCI for what runs in AWS.

AWS signs who the process is (GetWebIdentityToken), the domain's application proves itself, and the domain gives a
session for both, bound to a key that is made here and never leaves the process. Facts and sources: docs/identity.md.
"""

import base64
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lockstep.aws import clients as aws
from lockstep.aws.environment import environment_problem
from lockstep.aws.post import Answer, post
from lockstep.compiled import ClientKey, ClientSecret, FederationToOci
from lockstep.environment import (
    ClockSkewError,
    DomainClientRefusedError,
    DomainTokenRefusedError,
    DomainUnreachableError,
    WebIdentityDisabledError,
)
from lockstep.federation.failure import FailureKind, SessionFailure
from lockstep.federation.jwt import BACKDATED, Maker, seconds_of
from lockstep.federation.reach import Reach
from lockstep.federation.sessions import Made, Sessions
from lockstep.identity import oci_client_secret
from lockstep.oci.clients import OciIdentity
from lockstep.oci.sessions import SessionSigner, signer_of
from lockstep.system import new_id
from lockstep.workers import together

TOKEN_SECONDS = 300
"""For which AWS makes a token. It is exchanged at once."""
SESSION_SECONDS = 3600
"""For which a resource principal's session is asked; the domain would give one of up to 12 hours. What it has given,
its token says."""
KEY_BITS = 2048
_TOKEN_PATH = "/oauth2/v1/token"  # noqa: S105 - a path
_CLIENT_AUDIENCE = "https://identity.oraclecloud.com/"
_OAUTH = "urn:ietf:params:oauth"
_DISABLED = {"OutboundWebIdentityFederationDisabled", "OutboundWebIdentityFederationDisabledException"}
_OF_CLIENT = {"invalid_client", "unauthorized_client"}
_OF_TOKEN = {"invalid_grant", "invalid_request", "invalid_scope", "invalid_target", "access_denied"}


def identity_in_oci(federation: FederationToOci, reach: Reach) -> OciIdentity:
    """Who the process is in OCI: whoever it is in AWS. Nothing is asked for before the first request is signed."""
    sessions = Sessions(partial(_made, federation, reach), reach.clock)
    return OciIdentity(config={}, signer=SessionSigner(sessions), drop=sessions.drop)


def _made(federation: FederationToOci, reach: Reach) -> Made[Any]:
    token, (headers, client), key = together(
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
        before_send=reach.before_send,
    )
    return _session(answer, key, reach)


def domain_answers(federation: FederationToOci, reach: Reach) -> bool:
    """Whether an identity domain is at the address: it refuses an empty form in OAuth's words (RFC 6749 5.2).

    Raises:
        SessionFailure: Nothing answers there.
    """
    answer = post(
        _token_endpoint(federation, reach),
        {},
        {},
        clock=reach.clock,
        timeouts=reach.timeouts.cloud,
        before_send=reach.before_send,
    )
    refused = HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return refused and isinstance(answer.document.get("error"), str)


def _token_endpoint(federation: FederationToOci, reach: Reach) -> str:
    return (reach.endpoints.oci or federation.domain_url) + _TOKEN_PATH


def _of_resource(resource_type: str) -> Mapping[str, str]:
    return {"res_type": resource_type, "rpst_exp": str(SESSION_SECONDS)}


def _token_of_aws(federation: FederationToOci, reach: Reach) -> str:
    try:
        made = reach.aws("sts", reach.plan.lock.region).get_web_identity_token(
            Audience=[federation.audience], SigningAlgorithm="RS256", DurationSeconds=TOKEN_SECONDS
        )
        return str(made["WebIdentityToken"])
    except aws.RAISED as error:
        raise _of_aws(error) from None


def _proof(federation: FederationToOci, reach: Reach) -> tuple[Mapping[str, str], Mapping[str, str]]:
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


def _signed_by_kms(key: ClientKey, reach: Reach, digest: bytes) -> bytes:
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
    problem = WebIdentityDisabledError(code=code) if code in _DISABLED else environment_problem(error)
    return SessionFailure(FailureKind.of(trouble), code, problem)


def _session(answer: Answer, key: rsa.RSAPrivateKey, reach: Reach) -> Made[Any]:
    token = answer.document.get("token")
    if answer.status != HTTPStatus.OK or not isinstance(token, str):
        raise _refusal(answer, reach)
    seconds = seconds_of(token)
    if seconds is None or seconds <= 0:
        raise _unusable("not-a-token")
    return Made(session=signer_of(token, key), seconds=seconds)


def _refusal(answer: Answer, reach: Reach) -> SessionFailure:
    """What the domain means. Of its words only the codes that are known are shown."""
    said = answer.document.get("error")
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return SessionFailure(FailureKind.THROTTLED, "throttled", DomainUnreachableError(code="throttled"))
    if not (
        HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(said, str)
    ):
        return _unusable(f"status-{answer.status}")
    if _is_skewed(answer.date, reach):
        return SessionFailure(FailureKind.DENIED, "clock", ClockSkewError(code="identity-domain"))
    if said in _OF_CLIENT:
        return SessionFailure(FailureKind.DENIED, said, DomainClientRefusedError(code=said))
    code = said if said in _OF_TOKEN else f"status-{answer.status}"
    return SessionFailure(FailureKind.DENIED, code, DomainTokenRefusedError(code=code))


def _is_skewed(date: str, reach: Reach) -> bool:
    """Whether this machine's clock is further from the domain's than what its tokens allow."""
    try:
        theirs = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return False
    return theirs.tzinfo is not None and abs(theirs - reach.clock.now()) > BACKDATED


def _unusable(code: str) -> SessionFailure:
    return SessionFailure(FailureKind.UNREACHABLE, code, DomainUnreachableError(code=code))
