"""AWS clients with time-outs and without retries, and the meaning of their failures.

`lockstep.timing` has the retry policies, so a client here tries once and gives up within seconds. Each failure becomes
one of our errors, without the text of the foreign error, which may quote the request.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache, partial
from typing import Any

from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials, ReadOnlyCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError
from botocore.session import Session
from urllib3.exceptions import HTTPError as UrllibError

from lockstep.aws.environment import SETUP_ERRORS, environment_problem, setup_problem
from lockstep.errors import (
    LockstepError,
    StoreAccessDeniedError,
    StoreRejectedError,
    StoreThrottledError,
    StoreUnreachableError,
)
from lockstep.federation.failure import FailureKind, SessionFailure
from lockstep.federation.sessions import Sessions
from lockstep.model import SecretStr
from lockstep.scope import BeforeSend, always
from lockstep.timeouts import CloudTimeouts
from lockstep.timing import CONNECTIONS

_DEFAULT_TIMEOUTS = CloudTimeouts()


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """An identity for a runner outside AWS."""

    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None


Keys = AwsKeys | Sessions[AwsKeys]
"""An identity for a runner outside AWS: keys, or what gives those of the moment."""


def aws_client(
    service: str,
    region: str,
    *,
    keys: Keys | None = None,
    is_signed: bool = True,
    endpoint: str | None = None,
    timeouts: CloudTimeouts = _DEFAULT_TIMEOUTS,
    before_send: BeforeSend = always,
) -> Any:  # noqa: ANN401 - botocore makes its clients' types at run time
    """A client that tries once and answers within seconds.

    Threads may share it: it keeps a connection for each call that can be under way at once, also from one invocation
    of a function to the next.

    Args:
        service: Its name in botocore.
        region: As in the plan.
        keys: The identity; by default the environment's, in a Lambda its role.
        is_signed: Otherwise there is no identity, and none is looked for: outside AWS the search ends at an address
            where another cloud's metadata may be.
        endpoint: By default the environment's, else AWS.
        timeouts: Limits of every wait.
        before_send: Called before each request (protocol F11).

    Raises:
        EnvironmentalError: The configuration of this machine allows none.
    """
    config = Config(
        connect_timeout=timeouts.connect_seconds,
        read_timeout=timeouts.read_seconds,
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        **({} if is_signed else {"signature_version": UNSIGNED}),
    )
    sessions, fixed = _told_apart(keys)
    try:
        client = botocore_session(sessions).create_client(
            service,
            region_name=region,
            endpoint_url=endpoint,
            aws_access_key_id=fixed.access_key if fixed else None,
            aws_secret_access_key=fixed.secret_key if fixed else None,
            aws_session_token=fixed.token if fixed else None,
            config=config,
        )
    except SETUP_ERRORS as error:
        raise setup_problem(error) from None
    if sessions:
        client.meta.events.register("after-call", partial(_end_session, sessions))
    client.meta.events.register_first("before-send", lambda **_: before_send())
    return client


def aws_credentials(keys: Keys | None) -> ReadOnlyCredentials:
    """What requests of an identity are signed with; may call the identity's own service.

    Args:
        keys: As of `aws_client`.

    Raises:
        BotoCoreError: There is no identity, or it cannot be had now.
    """
    sessions, fixed = _told_apart(keys)
    if fixed:
        return fixed
    found = botocore_session(sessions).get_credentials()
    if found is None:
        raise NoCredentialsError
    return found.get_frozen_credentials()


def _told_apart(keys: Keys | None) -> tuple[Sessions[AwsKeys] | None, ReadOnlyCredentials | None]:
    if isinstance(keys, Sessions):
        return keys, None
    return None, _frozen(keys) if keys else None


def _frozen(keys: AwsKeys) -> ReadOnlyCredentials:
    token = keys.session_token
    return ReadOnlyCredentials(
        keys.access_key_id, keys.secret_access_key.reveal(), token.reveal() if token else None
    )


class _OfSessions(CredentialProvider, Credentials):
    """Credentials that are those of the moment, for each request; as their provider, themselves."""

    def __init__(self, sessions: Sessions[AwsKeys]) -> None:
        Credentials.__init__(self, "", "", method="lockstep")
        self._sessions = sessions

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        return _frozen(self._sessions())

    def load(self) -> Credentials:
        return self


def _end_session(sessions: Sessions[AwsKeys], parsed: Mapping[str, Any], **_: object) -> None:
    """A session that AWS does not know, or has ended, is used no more. In the second case the call may be made again.

    Raises:
        SessionFailure: AWS has ended it.
    """
    code = str(parsed.get("Error", {}).get("Code"))
    if code in _ENDED | _UNKNOWN:
        sessions.drop()
    if code in _ENDED:
        raise SessionFailure(FailureKind.UNREACHABLE, code, None)


_ENDED = {"ExpiredToken", "ExpiredTokenException"}
_UNKNOWN = {"InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken", "UnrecognizedClientException"}
"""What is said of a session whose role was deleted, and of a key that was: another one may be in its place by now."""


@lru_cache(maxsize=4)  # A replaced identity is not kept for good.
def botocore_session(sessions: Sessions[AwsKeys] | None = None) -> Session:
    """Whose identity clients have: that of these sessions, or of the environment as it was at the first call."""
    # At DEBUG botocore logs every request and reply, including secrets.
    logging.getLogger("botocore").setLevel(logging.INFO)
    made = Session()
    if sessions:
        made.register_component("credential_provider", CredentialResolver([_OfSessions(sessions)]))
    return made


class Trouble(Enum):
    """The meaning of a failed call, the same for every service."""

    UNREACHABLE = auto()
    THROTTLED = auto()
    DENIED = auto()
    REJECTED = auto()


# The codes of https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html and of the same page
# of DynamoDB, KMS and S3; for throttling and transient errors, the codes that botocore's own retries know.
_CODES = {
    Trouble.UNREACHABLE: frozenset(
        {
            "InternalError",
            "InternalFailure",
            "InternalServerError",
            "InternalServiceError",
            "RequestTimeout",
            "RequestTimeoutException",
            "ServiceUnavailable",
        }
    ),
    Trouble.THROTTLED: frozenset(
        {
            "BandwidthLimitExceeded",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequestsException",
        }
    ),
    Trouble.DENIED: frozenset(
        {
            "403",
            "AccessDenied",
            "AccessDeniedException",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "NotAuthorized",
            "OptInRequired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        }
    ),
}
STORE_ERRORS = {
    Trouble.UNREACHABLE: StoreUnreachableError,
    Trouble.THROTTLED: StoreThrottledError,
    Trouble.DENIED: StoreAccessDeniedError,
    Trouble.REJECTED: StoreRejectedError,
}
"""What each trouble is called where the secrets manager is asked, or an identity is had."""
_SERVER_ERRORS = range(500, 600)
_UNREACHABLE = (
    BotoConnectionError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    OSError,
    UrllibError,  # Botocore does not translate it if the body of an error is cut.
)
_DENIED = (NoCredentialsError, PartialCredentialsError)
_MALFORMED = (ResponseParserError, ValueError, TypeError, LookupError, AttributeError, RecursionError)
"""What botocore or a reader of its reply raises for a reply that is not from AWS: a proxy's page, half a document."""
RAISED = (ClientError, BotoCoreError, OSError, UrllibError, *_MALFORMED)
"""All that a call raises."""


def error_code(error: ClientError) -> str:
    """The service's code, such as `ResourceNotFoundException`; for a reply without a body the HTTP status."""
    return str(error.response.get("Error", {}).get("Code") or "")


def diagnose(error: Exception) -> tuple[Trouble, str]:
    """The meaning of a failure, and a code to show."""
    if not isinstance(error, ClientError):
        return _local_trouble(error), type(error).__name__
    code = error_code(error)
    for trouble, codes in _CODES.items():
        if code in codes:
            return trouble, code
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Trouble.UNREACHABLE if status in _SERVER_ERRORS else Trouble.REJECTED, code


def _local_trouble(error: Exception) -> Trouble:
    if isinstance(error, SSLError):
        # For botocore it is a connection error, but a retry does not help.
        return Trouble.REJECTED
    if isinstance(error, _UNREACHABLE + _MALFORMED):
        return Trouble.UNREACHABLE
    return Trouble.DENIED if isinstance(error, _DENIED) else Trouble.REJECTED


@contextmanager
def translated(errors: Mapping[Trouble, type[LockstepError]], **where: str | int) -> Iterator[None]:
    """Turn every exception of botocore inside into one of `errors`, with `where` and the code.

    This includes exceptions from reading a malformed reply inside the block.
    """
    try:
        yield
    except SessionFailure as failure:
        raise errors[Trouble[failure.kind.name]](**where, code=failure.code) from failure.problem
    except RAISED as error:
        trouble, code = diagnose(error)
        raise errors[trouble](**where, code=code) from environment_problem(error)
