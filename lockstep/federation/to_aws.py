"""Sessions in AWS for what runs in OCI.

An issuer of our own vouches for the function: its key signs in OCI Vault and cannot be had, and its documents are where
AWS reads them. STS gives a session of a role for such a token. Facts and sources: docs/identity.md.
"""

from functools import partial

from lockstep.aws import clients as aws
from lockstep.aws.environment import environment_problem
from lockstep.compiled import FederationToAws, IssuerKey
from lockstep.environment import IssuerTokenRefusedError, IssuerUnreadableError
from lockstep.errors import InvalidPlanError
from lockstep.federation.failure import FailureKind, SessionFailure
from lockstep.federation.jwt import Maker
from lockstep.federation.reach import Reach
from lockstep.federation.sessions import Made, Sessions
from lockstep.model import SecretStr
from lockstep.oci.key_signing import sign
from lockstep.system import new_id

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


def sessions_in_aws(federation: FederationToAws, reach: Reach) -> "Sessions[aws.AwsKeys]":
    """Who the OCI function is in AWS. Nothing is asked for before the first request is signed."""
    return Sessions(partial(_made, federation, reach), reach.clock)


def _made(federation: FederationToAws, reach: Reach) -> Made["aws.AwsKeys"]:
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
        before_send=reach.before_send,
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
    return Made(session=keys, seconds=SESSION_SECONDS)


def _signed(key: IssuerKey, reach: Reach, digest: bytes) -> bytes:
    vault = reach.plan.vault
    if vault is None:
        raise InvalidPlanError
    return sign(reach.oci(vault.region), key, digest, endpoint=reach.endpoints.oci)


def _of_sts(error: Exception) -> SessionFailure:
    trouble, code = aws.diagnose(error)
    if code in _UNREADABLE or (code == "InvalidIdentityToken" and _NO_KEY in str(error)):
        return SessionFailure(FailureKind.UNREACHABLE, code, IssuerUnreadableError(code=code))
    problem = IssuerTokenRefusedError(code=code) if code in _REFUSED else environment_problem(error)
    return SessionFailure(FailureKind.of(trouble), code, problem)
